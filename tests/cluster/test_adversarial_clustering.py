"""Clustering on a metric: engines, robust centers, assignment radii, errors."""

import pickle
import tracemalloc

import numpy as np
import pytest
from shared_data import load_digits
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialClustering, AdversarialDeepMetric, RobustMahalanobis, ThreatModel
from skrobust.metrics import clustering_scores

X, y = load_digits(return_X_y=True)
X = X / 16


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_inertia_is_that_of_scikit_learn(backend):
    own = AdversarialClustering(n_clusters=10, backend=backend, n_init=5, random_state=0).fit(X)
    peer = KMeans(10, n_init=5, random_state=1).fit(X)
    assert own.inertia_ <= 1.01 * peer.inertia_
    assert own.inertia_ == pytest.approx(
        np.square(X - own.cluster_centers_[own.labels_]).sum(), rel=1e-6
    )
    np.testing.assert_array_equal(own.predict(X), own.labels_)
    np.testing.assert_array_equal(own.transform(X).argmin(1), own.labels_)


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_the_same_seed_gives_the_same_clusters(backend):
    given = {"n_clusters": 10, "backend": backend, "n_init": 1}
    one, two = (AdversarialClustering(**given, random_state=3).fit_predict(X) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_mini_batches_come_near():
    whole = AdversarialClustering(n_clusters=10, random_state=0).fit(X)
    few = AdversarialClustering(n_clusters=10, batch_size=256, random_state=0).fit(X)
    assert few.inertia_ < 1.1 * whole.inertia_


@pytest.mark.parametrize(
    "metric",
    [None, PCA(20), RobustMahalanobis(max_iter=5, random_state=0), make_pipeline(StandardScaler())],
)
def test_scores_against_the_labels_of_the_metric(metric):
    own = AdversarialClustering(metric, n_clusters=10, random_state=0).fit(X, y)
    assert set(own.scores_) == {"nmi", "ami", "f1"}
    assert own.scores_["nmi"] > 0.5
    assert not hasattr(AdversarialClustering(n_clusters=3).fit(X[:50]), "scores_")


def test_on_a_deep_metric():
    metric = AdversarialDeepMetric(image_shape=(8, 8), max_iter=5, random_state=0)
    metric.fit(X[::2], y[::2])
    own = AdversarialClustering(FrozenEstimator(metric), n_clusters=10, random_state=0)
    assert own.fit(X[1::2], y[1::2]).scores_["nmi"] > 0.85
    plain = AdversarialClustering(n_clusters=10, random_state=0).fit(X[1::2], y[1::2])
    assert own.scores_["nmi"] > plain.scores_["nmi"] + 0.05


def test_robust_centers_withstand_outliers():
    points, labels = make_blobs(300, centers=[[0, 0], [6, 0], [0, 6]], random_state=0)
    far = np.random.default_rng(0).uniform(20, 60, (24, 2))
    both = np.vstack([points, far])
    truth = np.array([points[labels == c].mean(0) for c in range(3)])

    def error(**params):
        own = AdversarialClustering(n_clusters=3, random_state=0, n_init=10, **params).fit(both)
        centers = own.cluster_centers_
        return max(np.linalg.norm(centers - center, axis=1).min() for center in truth)

    assert error() > 1  # a mean goes to the outliers
    assert error(center="trimmed", trim=0.08) < 0.5


def test_medians_are_medians():
    own = AdversarialClustering(n_clusters=4, center="median", random_state=0).fit(X)
    for c in range(4):
        expected = np.median(X[own.labels_ == c], axis=0)
        np.testing.assert_allclose(own.cluster_centers_[c], expected)


def test_spherical_centers_have_norm_1():
    own = AdversarialClustering(n_clusters=10, algorithm="spherical_kmeans", random_state=0)
    own.fit(X)
    np.testing.assert_allclose(np.linalg.norm(own.cluster_centers_, axis=1), 1)
    np.testing.assert_array_equal(own.predict(3 * X), own.labels_)  # directions alone


@pytest.mark.parametrize("algorithm", ["agglomerative", "hdbscan"])
def test_algorithms_without_a_rule_for_new_points(algorithm):
    own = AdversarialClustering(n_clusters=3, algorithm=algorithm).fit(load_iris().data)
    assert own.transform(load_iris().data).shape == (150, own.labels_.max() + 1)
    assert not hasattr(own, "predict")
    assert not hasattr(own, "assignment_radius")
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        own.predict(X)


class Gaps(ClusterMixin, BaseEstimator):
    """A clusterer whose numbers have gaps, and two kinds of noise."""

    def __init__(self, noise=-1):
        self.noise = noise

    def fit(self, X, y=None):
        self.labels_ = np.array([self.noise, -2, 3, 3, 8, 8] * len(X))[: len(X)]
        return self


@pytest.mark.parametrize(
    "algorithm",
    [
        HDBSCAN(min_cluster_size=12, copy=True),
        AgglomerativeClustering(4, linkage="average"),
        DBSCAN(eps=0.6),
        Gaps(),
    ],
    ids=lambda a: type(a).__name__,
)
def test_clusterers_with_parameters_of_their_own(algorithm):
    """Any clusterer of embeddings, reached by its parameters, never fitted itself."""
    X, y = load_iris(return_X_y=True)
    own = AdversarialClustering(PCA(2), algorithm=algorithm)
    name = next(iter(algorithm.get_params()))
    assert f"algorithm__{name}" in own.get_params()
    own = clone(own).fit(X, y)
    given = clone(algorithm).fit_predict(PCA(2).fit_transform(X))
    np.testing.assert_array_equal(own.labels_ == -1, given < 0)
    assert adjusted_rand_score(own.labels_[given >= 0], given[given >= 0]) == 1
    assert set(own.labels_[own.labels_ >= 0]) == set(range(len(own.cluster_centers_)))
    assert own.scores_ == clustering_scores(y, own.labels_)
    assert not hasattr(own, "predict")
    assert not hasattr(own.algorithm, "labels_")
    pickle.loads(pickle.dumps(own)).transform(X)


def test_parameters_of_a_clusterer_change_the_clusters():
    X, y = load_iris(return_X_y=True)
    own = AdversarialClustering(algorithm=HDBSCAN(copy=True))
    few = own.set_params(algorithm__min_cluster_size=5).fit(X, y).labels_
    many = own.set_params(algorithm__min_cluster_size=60).fit(X, y).labels_
    assert not np.array_equal(few, many)
    own.set_params(algorithm__min_cluster_size=5).fit(X[:6], y[:6])
    assert own.labels_.tolist() == [-1] * 6
    assert set(own.scores_.values()) == {0}


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("metric", [None, RobustMahalanobis(max_iter=5, random_state=0)])
def test_no_point_leaves_its_cluster_inside_its_radius(norm, metric):
    data = load_iris()
    own = AdversarialClustering(metric, n_clusters=3, random_state=0).fit(data.data, data.target)
    model = ThreatModel(norm, mutable=[0, 2, 3])
    radius = own.assignment_radius(data.data, model)
    clusters = own.predict(data.data)
    assert (radius > 0).mean() > 0.95
    G = np.eye(4) if metric is None else own.metric_.components_
    tight = np.full(len(radius), np.inf)
    flipped = 0
    for c in range(3):
        toward = (own.cluster_centers_[c] - own.cluster_centers_[clusters]) @ G
        toward[:, 1] = 0
        step = np.sign(toward)
        if norm == 2:
            step = toward
        elif norm == 1:
            step = toward * (np.abs(toward) == np.abs(toward).max(1, keepdims=True))
        size = np.linalg.norm(step, norm, axis=1, keepdims=True)
        step = np.divide(step, size, out=np.zeros_like(step), where=size > 0)
        inside = data.data + step * radius[:, None] * (1 - 1e-9)
        np.testing.assert_array_equal(own.predict(inside), clusters)
        moved = own.predict(data.data + step * radius[:, None] * 1.001) != clusters
        flipped = moved if c == 0 else flipped | moved
        tight = np.minimum(tight, radius)
    assert flipped[radius > 0].mean() > 0.95  # and beyond it, they do


def test_in_a_pipeline_and_a_search():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), AdversarialClustering(n_clusters=10, random_state=0)),
        {"adversarialclustering__center": ["mean", "median"]},
        scoring="normalized_mutual_info_score",
        cv=2,
        error_score="raise",
    ).fit(X[:400], y[:400])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))


class Constant:
    """A metric that says the same of every point."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.ones((len(X), 2))

    def get_params(self, deep=True):
        return {}


class Nothing(Constant):
    def transform(self, X):
        return np.full((len(X), 2), np.nan)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_clusters": 60}, "n_clusters=60 must be at most the number of points"),
        ({"n_clusters": 0}, "'n_clusters' parameter"),
        ({"algorithm": "dbscan"}, "'algorithm' parameter"),
        ({"center": "mode"}, "'center' parameter"),
        ({"center": "median", "algorithm": "hdbscan"}, "center='median' is for"),
        ({"trim": 1.0}, "'trim' parameter"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"metric": "euclidean"}, "'metric' parameter"),
        ({"metric": Constant()}, "number of different embeddings; got 1"),
        ({"metric": Nothing()}, "embedding contains NaN"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        AdversarialClustering(**params).fit(X[:50])


def test_bad_data_and_unfitted():
    with pytest.raises(ValueError, match="contains NaN"):
        AdversarialClustering().fit(np.where(X[0, 3] == X, np.nan, X))
    with pytest.raises(NotFittedError):
        AdversarialClustering().predict(X)
    with pytest.raises(NotFittedError):
        AdversarialClustering(FrozenEstimator(RobustMahalanobis())).fit(X)
    own = AdversarialClustering(n_clusters=3, algorithm="spherical_kmeans").fit(X)
    with pytest.raises(ValueError, match="algorithm='kmeans'; got 'spherical_kmeans'"):
        own.assignment_radius(X)


@pytest.mark.parametrize("params", [{"backend": "faiss"}, {"batch_size": 20}, {}])
def test_duplicates_leave_no_cluster_empty(params):
    """Three places, one of them with a single point."""
    points = np.repeat([[0.0, 0.0], [5.0, 0.0], [5.0, 5.0]], [60, 39, 1], axis=0)
    own = AdversarialClustering(n_clusters=3, n_init=5, random_state=0, **params).fit(points)
    assert sorted(np.bincount(own.labels_)) == [1, 39, 60]
    if "batch_size" not in params:  # whose centers are running means
        assert own.inertia_ == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="number of different embeddings; got 3"):
        AdversarialClustering(n_clusters=4).fit(points)


def test_an_empty_cluster_is_told():
    """All points but one of a trimmed clustering are at one place; two centers share it."""
    points = np.array([[0.0]] * 30 + [[1.0], [2.0]])
    with pytest.warns(ConvergenceWarning, match="of n_clusters=3 clusters have no points"):
        AdversarialClustering(
            n_clusters=3, center="trimmed", trim=0.5, n_init=1, random_state=0
        ).fit(points)


def test_mini_batches_of_a_memory_map_take_little_memory(tmp_path):
    n = 200_000
    data = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=(n, 32))
    for start in range(0, n, 20_000):
        data[start : start + 20_000] = np.random.default_rng(start).random((20_000, 32))
    tracemalloc.start()
    own = AdversarialClustering(n_clusters=5, batch_size=1024, n_init=1, random_state=0).fit(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes / 2
    expected = np.square(data - own.cluster_centers_[own.labels_]).sum()
    assert own.inertia_ == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n_init", [1, 4])
def test_faiss_stops_early_and_near(n_init):
    points = np.random.default_rng(0).standard_normal((3000, 16))
    own = AdversarialClustering(n_clusters=20, backend="faiss", n_init=n_init, random_state=0)
    peer = KMeans(20, n_init=n_init, random_state=0).fit(points)
    assert own.fit(points).inertia_ <= 1.01 * peer.inertia_
    assert own.n_iter_ < own.max_iter
    own.set_params(max_iter=4)
    assert own.fit(points).n_iter_ == 4


def test_a_single_cluster():
    own = AdversarialClustering(n_clusters=1, random_state=0).fit(X)
    assert set(own.labels_) == {0}
    assert np.isinf(own.assignment_radius(X[:3])).all()


@pytest.mark.parametrize("norm", [2, np.inf])
def test_assignment_radius_behind_a_lipschitz_network(norm):
    from sklearn.datasets import load_digits

    from skrobust import AdversarialDeepMetric, ThreatModel, certify

    X, y = load_digits(n_class=4, return_X_y=True)
    metric = AdversarialDeepMetric(
        lipschitz="orthogonal", loss="certified_margin", max_iter=1, random_state=0, device="cpu"
    )
    own = AdversarialClustering(metric, n_clusters=4, random_state=0).fit(X[:100], y[:100])
    model = ThreatModel(norm)
    found = own.assignment_radius(X[:20], model)
    assert (found > 0).any()
    expected = certify(own, X[:20], threat_model=model, method="fast").radius
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integers_in_batches_take_little_memory(dtype):
    rng = np.random.default_rng(0)
    centers = rng.integers(0, 255, (5, 256))
    labels = rng.integers(0, 5, 40_000)
    data = np.clip(centers[labels] + rng.integers(-9, 9, (40_000, 256)), 0, 255).astype(dtype)
    tracemalloc.start()
    own = AdversarialClustering(n_clusters=5, batch_size=512, random_state=0).fit(data, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6 + 0.5 * data.nbytes
    assert own.scores_["nmi"] > 0.99
    np.testing.assert_array_equal(own.predict(data[:999]), own.labels_[:999])
    again = AdversarialClustering(n_clusters=5, batch_size=512, random_state=0).fit(data)
    np.testing.assert_array_equal(again.labels_, own.labels_)
