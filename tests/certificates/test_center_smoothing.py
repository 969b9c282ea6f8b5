"""Center smoothing: probabilities on maps whose movement is known, batches, wrong input."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from shared_data import load_digits
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skrobust import AdversarialClustering, ThreatModel, certify
from skrobust.certificates import CenterSmoothing, certify_retrieval
from skrobust.certificates.smoothing._embedding import needed_share
from skrobust.utils._frames import Table

X, y = load_iris(return_X_y=True)


@pytest.mark.parametrize("n", [2, 3, 10, 301, 3000])
@pytest.mark.parametrize("alpha", [0.2, 5e-4])
def test_the_share_gives_more_than_half_but_for_alpha(n, alpha):
    q = needed_share(n, alpha)
    assert stats.binom.sf(n // 2, n, q) == pytest.approx(1 - alpha, abs=1e-9)


def wave(points):
    """A map that jumps: whatever it does, the bound has to hold."""
    return np.c_[np.sign(np.sin(3 * points[:, 0])), np.cos(points).sum(1), points[:, 1] ** 2]


@pytest.mark.parametrize("function", [wave, None], ids=["wave", "identity"])
def test_outputs_move_farther_as_seldom_as_they_may(function):
    """With α of .1, over fresh seeds at both points, the share of failures is not above it."""
    alpha, eps = 0.1, 0.3
    rng = np.random.default_rng(0)
    failed = []
    for seed in range(20):
        points = rng.standard_normal((40, 3))
        step = rng.standard_normal((40, 3))
        moved = points + eps * step / np.linalg.norm(step, axis=1, keepdims=True)
        smooth = CenterSmoothing(
            FunctionTransformer(function),
            sigma=0.5,
            n_samples=60,
            n_certify=300,
            alpha=alpha,
            random_state=seed,
        ).fit(points)
        bound = smooth.movement_bound(points, eps)
        went = np.linalg.norm(smooth.transform(moved) - smooth.transform(points), axis=1)
        failed.append(went > bound)
        assert np.isfinite(bound).all()
        assert np.median(bound) < 12
    assert stats.binomtest(int(np.sum(failed)), 800, alpha, alternative="greater").pvalue > 0.01


def test_radius_and_movement_are_two_sides_of_one_bound():
    smooth = CenterSmoothing(PCA(2), sigma=0.5, random_state=0).fit(X)
    for eps in (0.05, 0.2, 0.4):
        bound = smooth.movement_bound(X[:20], eps)
        radius = smooth.certified_radius(X[:20], bound)
        assert (radius >= eps * (1 - 1e-6)).all()
        assert (radius <= eps + 0.02).all()
        assert (smooth.certified_radius(X[:20], bound * 0.999) <= radius).all()
    assert (smooth.certified_radius(X[:3], 0.0) == 0).all()
    assert np.isinf(smooth.certified_radius(X[:3], np.inf)).all()


def test_a_row_has_its_result_whatever_the_batch():
    smooth = CenterSmoothing(PCA(2), n_samples=50, random_state=0).fit(X)
    together = smooth.transform(X)
    np.testing.assert_array_equal(smooth.transform(X[7:8]), together[7:8])
    smooth.set_params(batch_size=7)
    np.testing.assert_allclose(smooth.transform(X[:5]), together[:5], atol=1e-12)


def test_names_images_and_frozen():
    frame = pd.DataFrame(X, columns=list("abcd"))
    smooth = CenterSmoothing(FrozenEstimator(PCA(2).fit(frame)), n_samples=20, random_state=0)
    smooth.fit(frame).set_output(transform="pandas")
    found = smooth.transform(frame[:3])
    assert list(found.columns) == ["centersmoothing0", "centersmoothing1"]
    images, _ = load_digits(return_X_y=True)
    flat = FunctionTransformer(lambda images: images.reshape(len(images), -1)[:, :5])
    smooth = CenterSmoothing(flat, n_samples=9, random_state=0).fit(images[:20].reshape(-1, 8, 8))
    assert smooth.transform(images[:4].reshape(-1, 8, 8)).shape == (4, 5)


def test_immutable_features_get_no_noise():
    model = ThreatModel(mutable=[True, True, False, True])
    smooth = CenterSmoothing(threat_model=model, n_samples=20, random_state=0).fit(X)
    np.testing.assert_array_equal(smooth.transform(X)[:, 2], X[:, 2])


@pytest.mark.parametrize(
    "head", [NearestCentroid(), KNeighborsClassifier(3), KNeighborsClassifier(1)]
)
def test_rules_behind_it_are_certified(head):
    model = make_pipeline(CenterSmoothing(PCA(2), sigma=0.1, random_state=0), head).fit(X, y)
    found = certify(model, X[::3], y[::3])
    assert set(found.status) <= {"probabilistic", "abstained", "misclassified"}
    assert (found.radius > 0).mean() > 0.4
    # no attack that knows no seed: random directions inside the radius
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = rng.standard_normal(X[::3].shape)
        step *= found.radius[:, None] / np.linalg.norm(step, axis=1, keepdims=True)
        kept = model.predict(X[::3] + step) == y[::3]
        assert kept[found.radius > 0].all()
    assert certify(model, X[:9], y[:9], method="smoothing").method == found.method


def test_clusters_and_retrieval_behind_it():
    smooth = CenterSmoothing(PCA(2), sigma=0.1, random_state=0)
    clusters = AdversarialClustering(smooth, n_clusters=3, random_state=0).fit(X)
    found = certify(clusters, X[::3])
    assert (found.radius > 0).mean() > 0.3
    assert "center smoothing" in found.method
    fitted = smooth.fit(X)
    found = certify_retrieval(fitted, X, y)
    assert 0.05 < (found.radius > 0).mean() <= found.correct.mean()
    with pytest.raises(ValueError, match="gallery_eps 0 for a smoothed metric"):
        certify_retrieval(fitted, X, y, gallery_eps=0.1)


def test_too_few_draws_prove_nothing_and_say_so():
    smooth = CenterSmoothing(PCA(2), n_certify=5, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="n_certify=5 draws do not bound"):
        assert np.isinf(smooth.movement_bound(X[:2], 0.1)).all()
    for params in ({"n_certify": 5}, {"n_samples": 2, "n_certify": 3000}):
        smooth = CenterSmoothing(PCA(2), random_state=0, **params).fit(X)
        with pytest.warns(UserWarning, match=r"draws prove nothing .* every point abstains"):
            assert (smooth.certified_radius(X[:2], 1.0) == 0).all()
        model = make_pipeline(FrozenEstimator(smooth), NearestCentroid()).fit(X, y)
        with pytest.warns(UserWarning, match=r"draws prove nothing .* every point abstains"):
            assert not certify(model, X[:2], y[:2]).correct.any()


def test_bad_input():
    for params, match in (
        ({"sigma": 0}, "'sigma' parameter"),
        ({"alpha": 1.0}, "'alpha' parameter"),
        ({"n_samples": 1}, "'n_samples' parameter"),
        ({"estimator": LogisticRegression()}, "'estimator' parameter"),
        ({"threat_model": ThreatModel(np.inf)}, "norm=2 for smoothing; got norm=inf"),
    ):
        with pytest.raises(ValueError, match=match):
            CenterSmoothing(**params).fit(X)
    with pytest.raises(NotFittedError):
        CenterSmoothing().movement_bound(X, 0.1)
    smooth = CenterSmoothing(n_samples=9, random_state=0).fit(X)
    with pytest.raises(ValueError, match="eps"):
        smooth.movement_bound(X, -1.0)
    behind = make_pipeline(StandardScaler(), CenterSmoothing(), NearestCentroid()).fit(X, y)
    with pytest.raises(ValueError, match="put it around them"):
        certify(behind, X, y)
    model = make_pipeline(CenterSmoothing(), NearestCentroid()).fit(X, y)
    with pytest.raises(ValueError, match="threat_model must be None"):
        certify(model, X, y, threat_model=ThreatModel(2))
    with pytest.raises(ValueError, match="not for smoothed embeddings"):
        certify(model, X, y, method="exact")


def test_noise_is_not_swallowed_by_large_values_in_float32():
    """Added in float64 and then rounded: what the embedding sees is a function of the noise."""

    def step(points):
        return (np.asarray(points, float)[:, :1] > 1e8 + 0.5) * 10.0

    far = np.full((1, 1), 1e8, np.float32)
    params = {
        "sigma": 4.0,
        "n_samples": 100,
        "n_certify": 500,
        "random_state": 0,
        "batch_size": 100,
    }
    smooth = CenterSmoothing(FunctionTransformer(step), **params).fit(far)
    wide = smooth.certified_radius(far.astype(float), [1.0])
    np.testing.assert_allclose(smooth.certified_radius(far, [1.0]), wide, atol=2.0)
    parts = smooth._copies(Table.of(far), np.zeros(1, int), 500, 0)
    spread = np.concatenate([part.ravel() for _, part in parts])
    assert len(np.unique(spread)) > 1


def test_frames_between_the_steps():
    smooth = CenterSmoothing(sigma=0.05, n_samples=50, n_certify=400, random_state=0)
    model = make_pipeline(smooth.set_output(transform="pandas"), NearestCentroid()).fit(X, y)
    assert certify(model, X[::9], y[::9]).correct.any()
    assert model[0].movement_bound(X[:3], 0.01).shape == (3,)
    assert len(certify_retrieval(model[0], X[::5], y[::5]).radius) == 30


def test_reach_is_checked():
    smooth = CenterSmoothing(n_samples=9, n_certify=20, random_state=0).fit(X)
    for reach, match in (("a", "reach must be a number"), ([1.0, 2.0, 3.0], "one for each of 2")):
        with pytest.raises(ValueError, match=match):
            smooth.certified_radius(X[:2], reach)
    for reach in (-1.0, np.nan):
        with pytest.raises(ValueError, match="reach must be >= 0"):
            smooth.certified_radius(X[:2], reach)
