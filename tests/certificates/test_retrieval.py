"""Certified Recall@1: closed forms, attacks on queries and galleries, agreement with recall."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skrobust import AdversarialDeepMetric, RobustMahalanobis, ThreatModel
from skrobust.attacks import EmbeddingTargets
from skrobust.certificates import CenterSmoothing, certify_retrieval
from skrobust.metrics import recall_at_k
from skrobust.scorers import certified_retrieval_scorer, robust_recall_scorer

X, y = load_iris(return_X_y=True)


class Scale(TransformerMixin, BaseEstimator):
    def __init__(self, matrix):
        self.matrix = matrix

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(self.matrix)[1]
        return self

    def transform(self, X):
        return np.asarray(X) @ np.asarray(self.matrix).T

    def _affine_map(self):
        return np.asarray(self.matrix, float), np.zeros(len(self.matrix))


METRICS = {
    "scaler": lambda: StandardScaler(),
    "pca": lambda: make_pipeline(StandardScaler(), PCA(2)),
    "mahalanobis": lambda: RobustMahalanobis(max_iter=3, random_state=0),
    "network": lambda: AdversarialDeepMetric(
        lipschitz="orthogonal", loss="certified_margin", embedding_dim=4, max_iter=5, random_state=0
    ),
    "scaled network": lambda: make_pipeline(
        StandardScaler(),
        AdversarialDeepMetric(lipschitz="orthogonal", embedding_dim=4, max_iter=3, random_state=0),
    ),
}


@pytest.fixture(scope="module", params=METRICS, ids=str)
def metric(request):
    return METRICS[request.param]().fit(X, y)


def test_closed_form_on_a_line():
    line = np.array([[0.0], [0.5], [4.0], [6.0]])
    labels = np.array([0, 0, 1, 1])
    metric = Scale([[3.0]]).fit(line)
    found = certify_retrieval(metric, line, labels)
    # to the middle between the own item and the nearest other one
    np.testing.assert_allclose(found.radius[0], (0.5 + 4) / 2 - 0, rtol=1e-6)
    np.testing.assert_allclose(found.radius[1], (0 + 4) / 2 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(found.radius[2], 4 - (6 + 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.radius[3], 6 - (4 + 0.5) / 2, rtol=1e-6)
    moving = certify_retrieval(metric, line, labels, gallery_eps=0.25)
    np.testing.assert_allclose(moving.radius[0], (4 - 0.5) / 2 - 0.25, rtol=1e-6)


def test_at_zero_it_is_the_recall(metric):
    found = certify_retrieval(metric, X, y)
    assert found.correct.mean() == pytest.approx(recall_at_k(metric.transform(X), y), abs=0.02)
    assert certified_retrieval_scorer(0.0)(metric, X, y) == found.correct.mean()


@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("gallery_eps", [0.0, 0.02])
def test_no_movement_inside_changes_the_class_on_top(metric, norm, gallery_eps):
    scale = np.array([1.0, 0.0, 2.0, 0.5])
    model = ThreatModel(norm, mutable=scale > 0, feature_scale=np.where(scale > 0, scale, 1))
    found = certify_retrieval(metric, X, y, threat_model=model, gallery_eps=gallery_eps)
    rows = np.flatnonzero(found.radius > 0)
    assert len(rows) > 10
    rng = np.random.default_rng(0)
    Z = metric.transform(X)
    for row in rows[:25]:
        # toward items of other classes, and at random
        others = X[rng.choice(np.flatnonzero(y != y[row]), 40)] - X[row]
        draws = np.vstack([others, rng.standard_normal((40, 4))]) * (scale > 0)
        eta = draws / np.where(scale > 0, scale, 1)
        eta /= np.maximum(np.linalg.norm(eta, ord=norm, axis=1, keepdims=True), 1e-12)
        queries = metric.transform(X[row] + scale * eta * found.radius[row] * (1 - 1e-9))
        gallery = Z
        if gallery_eps:
            eta = np.sign(X[row] - X) * np.where((y == y[row])[:, None], -1, 1) * (scale > 0)
            eta = eta / np.maximum(np.linalg.norm(eta, ord=norm, axis=1, keepdims=True), 1e-12)
            gallery = metric.transform(X + scale * eta * gallery_eps)
        apart = np.linalg.norm(queries[:, None] - gallery, axis=2)
        apart[:, row] = np.inf
        assert (y[apart.argmin(1)] == y[row]).all()


def test_it_is_below_the_recall_under_attack():
    metric = StandardScaler().fit(X)
    for eps in (0.05, 0.2):
        attack = EmbeddingTargets(
            threat_model=ThreatModel(eps=eps), targets="other_class", random_state=0
        )
        proved = certified_retrieval_scorer(eps)(metric, X, y)
        assert 0 < proved <= robust_recall_scorer(attack)(metric, X, y)


def test_a_moving_gallery_proves_less():
    metric = StandardScaler().fit(X)
    shares = [certified_retrieval_scorer(0.05, gallery_eps=g)(metric, X, y) for g in (0, 0.05, 0.2)]
    assert shares[0] > shares[1] > shares[2]


def test_a_gallery_that_moves_counts_for_queries_that_stay():
    """At eps = 0 what the items alone can do is no longer right."""
    line = np.array([[0.0], [1.0], [1.1], [10.0]])
    labels = np.array([0, 0, 1, 1])
    metric = Scale([[1.0]]).fit(line)
    found = certify_retrieval(metric, line, labels, gallery_eps=0.2)
    assert list(found.status) == ["abstained", "misclassified", "misclassified", "abstained"]
    assert certified_retrieval_scorer(0.0, gallery_eps=0.2)(metric, line, labels) == 0
    assert certified_retrieval_scorer(0.0)(metric, line, labels) == 0.5
    moved = line + np.array([[0.0], [0.15], [-0.15], [0.0]])  # within the budget of items
    apart = np.abs(line - moved.T)
    np.fill_diagonal(apart, np.inf)
    assert not (labels[apart.argmin(1)] == labels).any()


def test_classes_of_one_item_and_duplicates():
    line = np.array([[0.0], [0.0], [1.0], [1.0], [5.0]])
    found = certify_retrieval(StandardScaler().fit(line), line, [0, 1, 1, 0, 2])
    assert list(found.status) == ["misclassified"] * 5
    found = certify_retrieval(StandardScaler().fit(line), line, [0, 0, 0, 0, 0])
    assert np.isinf(found.radius).all()
    assert set(found.status) == {"unreachable"}


def test_bad_input():
    with pytest.raises(ValueError, match="not known to be affine"):
        certify_retrieval(PolynomialFeatures().fit(X), X, y)
    metric = StandardScaler().fit(X)
    with pytest.raises(ValueError, match="gallery_eps"):
        certify_retrieval(metric, X, y, gallery_eps=-0.1)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        certify_retrieval(metric, X, y[:-1])
    network = METRICS["network"]()
    with pytest.raises(ValueError, match="must end with its network"):
        certify_retrieval(make_pipeline(network, PCA(2)).fit(X, y), X, y)
    ordinary = AdversarialDeepMetric(max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="lipschitz='orthogonal'"):
        certify_retrieval(ordinary, X, y)


def test_distances_that_round_away_are_not_certified():
    """A movement of 1e8 along a weak direction: the program no longer sees the difference."""
    points = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.1]])
    labels = np.array([1, 0, 0])
    metric = StandardScaler(with_mean=False, with_std=False).fit(points)
    model = ThreatModel(mutable=[True, False])
    found = certify_retrieval(metric, points, labels, threat_model=model)
    for row in (1, 2):
        for share in (0.1, 0.5, 0.999):
            moved = points.copy()
            moved[row, 0] += share * found.radius[row] if np.isfinite(found.radius[row]) else 1e3
            assert recall_at_k(points, labels, queries=moved) >= 2 / 3
            far = np.square(points - moved[row]).sum(1)
            far[row] = np.inf
            assert labels[far.argmin()] == 0


def test_smoothed_networks_that_are_not_first_and_other_types():
    behind = make_pipeline(StandardScaler(), CenterSmoothing(n_samples=9)).fit(X, y)
    with pytest.raises(ValueError, match="put it around them"):
        certify_retrieval(behind, X, y)
    with pytest.raises(TypeError, match="metric must be a fitted transformer"):
        certify_retrieval("metric", X, y)
    with pytest.raises(TypeError, match="threat_model must be a ThreatModel"):
        certify_retrieval(StandardScaler().fit(X), X, y, threat_model="l2")
