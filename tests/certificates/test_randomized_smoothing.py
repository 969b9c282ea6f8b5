"""Randomized smoothing: closed forms, probabilities, any classifier."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from shared_data import load_digits
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.certificates.smoothing._classifier import smoothed_radius

X, y = load_iris(return_X_y=True)


class HalfSpace:
    """1 where w·x > b: its smoothed radius is the distance to the plane."""

    def __init__(self, w, b):
        self.w, self.b = np.asarray(w, float), b
        self.classes_ = np.array([0, 1])

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return (np.asarray(X) @ self.w > self.b).astype(int)

    def get_params(self, deep=True):
        return {"w": self.w, "b": self.b}


def half_space(w, b, d, **params):
    model = RandomizedSmoothingClassifier(HalfSpace(w, b), **({"random_state": 0} | params))
    return model.fit(np.repeat([[0.0], [1.0]], d, axis=1), [0, 1])


def test_radii_around_a_half_space_are_wrong_as_often_as_they_may_be():
    """Φ(distance / σ) is the probability: R = distance; α of the radii may be larger."""
    alpha, n_points = 0.05, 2000
    rng = np.random.default_rng(0)
    w = np.array([3.0, 4.0])
    points = rng.standard_normal((n_points, 2))
    model = half_space(w, 1.0, 2, sigma=0.7, n_samples=300, n_selection=50, alpha=alpha)
    found = model.certify(points)
    truth = np.abs(points @ w - 1.0) / 5
    # which class was chosen: that of the far side has no radius at all
    chosen = model.predict(points)
    truth = np.where(chosen == (points @ w > 1.0), truth, 0.0)
    n_wrong = int((found.radius > truth).sum())
    # a radius that is capped or abstained cannot be too large, so this errs on the safe side
    assert stats.binomtest(n_wrong, n_points, alpha, alternative="greater").pvalue > 0.01
    assert n_wrong > 0.2 * alpha * n_points  # and not for want of trying
    near = (truth > 0.1) & (truth < 1.0)
    assert (found.radius[near] > 0.5 * truth[near]).mean() > 0.8


def test_the_radius_is_that_of_clopper_and_pearson():
    n, alpha = 1000, 0.001
    for votes in (1000, 990, 700, 560, 500, 0):
        p = stats.binomtest(votes, n, alternative="greater").proportion_ci(1 - alpha, "exact").low
        expected = max(0.0, 0.5 * stats.norm.ppf(p)) if p > 0 else 0.0
        found = smoothed_radius(np.array([votes]), n, alpha, 0.5)[0]
        assert found == pytest.approx(expected, rel=1e-6)
    assert smoothed_radius(np.array([n]), n, alpha, 1.0)[0] == pytest.approx(
        stats.norm.ppf(alpha ** (1 / n)), rel=1e-6
    )


def test_scales_and_immutable_features():
    """In units of the scales: distance along s ∘ w; features that cannot move get no noise."""
    model = ThreatModel(feature_scale=[2.0, 1.0, 1.0], mutable=[0, 1])
    own = half_space([1.0, 1.0, 5.0], 0.0, 3, threat_model=model, n_samples=20_000, alpha=0.01)
    points = np.array([[0.3, 0.0, 0.0], [0.0, 0.0, 0.05], [0.2, 0.1, -0.02]])
    truth = np.abs(points @ [1, 1, 5]) / np.sqrt(5)
    radius = own.certify(points).radius
    assert (radius <= truth).all()
    assert (radius > 0.85 * truth).all()


@pytest.mark.parametrize(
    "base",
    [
        None,
        RandomForestClassifier(20, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
def test_any_classifier(base):
    own = RandomizedSmoothingClassifier(base, sigma=0.4, n_augment=2, random_state=0)
    own.fit(X[::2], y[::2])
    found = own.certify(X[1::2], y[1::2])
    assert set(found.status) <= {"probabilistic", "misclassified", "abstained"}
    assert found.certified(0.2).mean() > 0.7
    assert (found.radius[found.status != "probabilistic"] == 0).all()
    assert not found.certified(0.0)[found.status == "abstained"].any()
    assert found.radius.max() <= 0.4 * stats.norm.ppf(0.001 ** (1 / 1000))
    assert "0.999" in found.method
    assert own.score(X[1::2], y[1::2]) > 0.9


def test_no_attack_on_the_smoothed_classifier_succeeds_inside():
    """Its predictions are estimated again, with many draws, at points of the sphere."""
    own = RandomizedSmoothingClassifier(
        KNeighborsClassifier(3), sigma=0.5, n_samples=2000, random_state=0
    ).fit(X, y)
    some = X[50:150:5]
    found = own.certify(some)
    labels = own.predict(some)
    again = RandomizedSmoothingClassifier(
        FrozenEstimator(own.estimator_), sigma=0.5, n_selection=4000, random_state=7
    ).fit(X, y)
    rng = np.random.default_rng(0)
    proved = found.radius > 0
    centers = [X[y == c].mean(0) for c in range(3)]
    for k in range(4):
        # toward each class, and one at random
        direction = centers[k] - some if k < 3 else rng.standard_normal(some.shape)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        moved = some + 0.999 * found.radius[:, None] * direction
        np.testing.assert_array_equal(again.predict(moved)[proved], labels[proved])


def test_noise_on_training_points_pays():
    D, labels = load_digits(n_class=4, return_X_y=True)
    D = D / 16
    given = {"sigma": 0.5, "random_state": 0}
    radius = [
        RandomizedSmoothingClassifier(LogisticRegression(max_iter=500), n_augment=k, **given)
        .fit(D[::2], labels[::2])
        .certify(D[1::8], labels[1::8])
        .radius.mean()
        for k in (0, 4)
    ]
    assert radius[1] > radius[0]


@pytest.mark.slow
def test_rows_do_not_depend_on_batches_and_jobs():
    own = RandomizedSmoothingClassifier(sigma=0.5, random_state=0).fit(X, y)
    whole = own.certify(X).radius
    for change in ({"batch_size": 37}, {"n_jobs": 2}):
        np.testing.assert_array_equal(own.set_params(**change).certify(X).radius, whole)
    np.testing.assert_array_equal(own.certify(X[[70, 3]]).radius, whole[[70, 3]])
    np.testing.assert_array_equal(own.predict(X[100:]), own.predict(X)[100:])
    other = RandomizedSmoothingClassifier(sigma=0.5, random_state=1).fit(X, y)
    assert (other.certify(X).radius != whole).any()


def test_images_frames_searches_and_pickles():
    images = load_digits().images[:100] / 16
    labels = load_digits().target[:100]

    class Flat(KNeighborsClassifier):
        def fit(self, X, y):
            return super().fit(X.reshape(len(X), -1), y)

        def predict(self, X):
            return super().predict(X.reshape(len(X), -1))

    own = RandomizedSmoothingClassifier(FrozenEstimator(Flat(1).fit(images, labels)), sigma=0.1)
    assert own.fit(images, labels).certify(images[:3], labels[:3]).radius.min() > 0
    frame = pd.DataFrame(X, columns=list("abcd"))
    names = np.array(["x", "y", "z"])[y]
    framed = RandomizedSmoothingClassifier(random_state=0).fit(frame, names)
    assert set(framed.predict_or_abstain(frame, abstain_label="?")) <= {"x", "y", "z", "?"}
    assert framed.certify(frame[:5]).feature_names.tolist() == list("abcd")
    search = GridSearchCV(
        RandomizedSmoothingClassifier(KNeighborsClassifier(), random_state=0),
        {"sigma": [0.1, 0.5], "estimator__n_neighbors": [1, 5]},
        scoring=lambda e, X, y: e.certify(X, y).radius.mean(),
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_["sigma"] == 0.5
    again = pickle.loads(pickle.dumps(framed))
    np.testing.assert_array_equal(again.predict(frame), framed.predict(frame))


def test_it_abstains_where_classes_are_as_likely():
    own = half_space([1.0, 0.0], 0.0, 2, sigma=0.5)
    points = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert own.predict_or_abstain(points, abstain_label=-1).tolist() == [-1, 1]
    found = own.certify(points, [1, 1])
    assert found.status[1] == "probabilistic"
    assert found.radius[0] < 0.1


def test_too_few_draws_abstain_and_say_why():
    own = half_space([1.0, 0.0], 0.0, 2, n_samples=9)
    with pytest.warns(UserWarning, match=r"n_samples=9 draws prove nothing .* n_samples >= 10"):
        found = own.certify([[5.0, 0.0]], [1])
    assert found.status.tolist() == ["abstained"]
    assert not found.certified(0.0).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = half_space([1.0, 0.0], 0.0, 2, n_samples=10)
        assert enough.certify([[5.0, 0.0]], [1]).radius[0] > 0


def test_labels_of_another_kind_are_refused_and_unknown_ones_told():
    own = half_space([1.0, 0.0], 0.0, 2)
    with pytest.raises(ValueError, match="both must be text, or both numbers"):
        own.certify([[5.0, 0.0]], ["1"])
    with pytest.warns(UserWarning, match="y holds none of the classes"):
        assert own.certify([[5.0, 0.0]], [7]).status.tolist() == ["misclassified"]


class Says:
    """A classifier whose labels come in an order of their own, or are not those of y."""

    def __init__(self, classes=None):
        self.classes = classes

    def fit(self, X, y=None):
        if self.classes is not None:
            self.classes_ = np.array(self.classes)
        return self

    def get_params(self, deep=True):
        return {"classes": self.classes}

    def predict(self, X):
        return np.where(X[:, 0] > 0, 2, 0 if self.classes is not None else 1)


def test_labels_are_looked_up_by_value():
    own = RandomizedSmoothingClassifier(Says([2, 0, 1]), random_state=0)
    own.fit([[0.0], [1.0], [2.0]], [0, 1, 2])
    assert own.predict([[5.0], [-5.0]]).tolist() == [2, 0]
    assert own.certify([[5.0], [-5.0]], [2, 0]).status.tolist() == ["probabilistic"] * 2
    # 1 is said, but is no class of y
    other = RandomizedSmoothingClassifier(Says(), random_state=0).fit([[0.0], [1.0]], [0, 2])
    assert other.certify([[5.0], [-5.0]]).status.tolist() == ["probabilistic", "abstained"]


@pytest.mark.parametrize("base", [LinearRegression(), KMeans(3)])
def test_what_is_no_classifier_is_refused(base):
    with pytest.raises(TypeError, match="estimator must be a classifier"):
        RandomizedSmoothingClassifier(base).fit(X, y)


def test_labels_of_another_kind_and_late_parameters():
    own = RandomizedSmoothingClassifier(random_state=0).fit(X, np.array(["a", "bb", "c"])[y])
    with pytest.raises(ValueError, match="abstain_label must be of the kind"):
        own.predict_or_abstain(X, abstain_label=-1)
    for change in ({"n_selection": 0}, {"sigma": -1.0}):
        broken = RandomizedSmoothingClassifier(random_state=0).fit(X, y).set_params(**change)
        with pytest.raises(ValueError, match="parameter"):
            broken.predict(X)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"sigma": 0}, "'sigma' parameter"),
        ({"sigma": -1.0}, "'sigma' parameter"),
        ({"alpha": 1.0}, "'alpha' parameter"),
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"n_augment": -1}, "'n_augment' parameter"),
        ({"estimator": StandardScaler()}, "'estimator' parameter"),
        ({"threat_model": ThreatModel(np.inf)}, "must have norm=2"),
        ({"n_jobs": 0}, "n_jobs must not be 0"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        RandomizedSmoothingClassifier(**params).fit(X, y)


def test_bad_data_and_unfitted():
    own = RandomizedSmoothingClassifier()
    with pytest.raises(NotFittedError):
        own.predict(X)
    with pytest.raises(NotFittedError):
        RandomizedSmoothingClassifier(FrozenEstimator(KNeighborsClassifier())).fit(X, y)
    own.fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        own.certify(np.full((2, 4), np.nan))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        own.certify(X, y[:3])
    with pytest.raises(ValueError, match="abstain_label=1 must not be one of the classes"):
        own.predict_or_abstain(X, abstain_label=1)
