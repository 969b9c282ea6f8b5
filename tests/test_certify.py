"""One face of all certificates."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skrobust import AdversarialClustering, RobustMahalanobis, ThreatModel, certify, certify_batches
from skrobust.certificates import (
    Certificate,
    RandomizedSmoothingClassifier,
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
)
from skrobust.neighbors import RobustPrototypeClassifier
from skrobust.scorers import (
    certified_accuracy_scorer,
    certified_assignment_scorer,
    certified_curve_scorer,
    certified_retrieval_scorer,
    mean_certified_radius_scorer,
)

X, y = load_iris(return_X_y=True)
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1::2], y[1::2]


@pytest.mark.parametrize(
    ("estimator", "method", "statuses"),
    [
        (KNeighborsClassifier(1), "exact", {"exact"}),
        (KNeighborsClassifier(5), "lower bound", {"certified", "uncertified"}),
        (make_pipeline(StandardScaler(), KNeighborsClassifier(1)), "exact", {"exact"}),
        (NearestCentroid(), "exact", {"exact"}),
        (RobustPrototypeClassifier(3, max_iter=2, random_state=0), "exact", {"exact"}),
        (RandomizedSmoothingClassifier(random_state=0), "smoothing", {"probabilistic"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_strongest_proof_is_taken_and_named(estimator, method, statuses):
    found = certify(estimator.fit(X_train, y_train), X_test, y_test)
    assert method in found.method
    assert set(found.status) <= statuses | {"misclassified", "abstained"}
    right = estimator.predict(X_test) == y_test
    assert (found.radius[~right] == 0).all()
    own = certify(estimator, X_test)
    np.testing.assert_array_equal(own.radius[right], found.radius[right])
    assert (own.status != "misclassified").all()


def test_it_says_what_the_proofs_say():
    knn = KNeighborsClassifier(1).fit(X_train, y_train)
    model = ThreatModel(np.inf, mutable=[0, 2])
    for method, prove in (
        ("auto", exact_nearest_neighbor_radius),
        ("exact", exact_nearest_neighbor_radius),
        ("fast", certify_nearest_neighbors),
        ("bound", certify_nearest_neighbors),
    ):
        found = certify(knn, X_test, y_test, threat_model=model, method=method)
        expected = prove(knn, X_test, y_test, threat_model=model)
        np.testing.assert_array_equal(found.radius, expected.radius)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(3, n_init=2, random_state=0),
        MiniBatchKMeans(3, n_init=2, random_state=0),
        make_pipeline(StandardScaler(), KMeans(3, n_init=2, random_state=0)),
        AdversarialClustering(RobustMahalanobis(max_iter=3, random_state=0), 3, random_state=0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_clusters_stay_inside_their_radius_and_change_beyond(clusterer, norm):
    clusterer.fit(X_train, y_train)
    found = certify(clusterer, X_test, threat_model=ThreatModel(norm))
    labels = clusterer.predict(X_test)
    rng = np.random.default_rng(0)
    for _ in range(30):
        step = rng.standard_normal(X_test.shape)
        step /= np.linalg.norm(step, norm, axis=1, keepdims=True)
        inside = X_test + step * found.radius[:, None] * (1 - 1e-9)
        np.testing.assert_array_equal(clusterer.predict(inside), labels)
    # the adversarial examples of the exact radius
    moved = X_test + found.perturbation * (1 + 1e-6)
    assert (clusterer.predict(moved) != labels).mean() > 0.95


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0, 10_000.0])
@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_k_means_of_single_precision_far_from_the_origin(kind, offset):
    """Its distances are ‖c‖² − 2 x·c in float32: radii are smaller, and hold."""
    points = (np.random.default_rng(2).normal(size=(60, 4)) + offset).astype(np.float32)
    clusters = kind(4, n_init=1, random_state=0).fit(points)
    labels, radius = clusters.predict(points), certify(clusters, points).radius
    for c, center in enumerate(clusters.cluster_centers_):
        direction = center.astype(float) - points
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-30)
        for share in (0.01, 0.1, 0.5, 0.9, 0.99):
            moved = (points + share * radius[:, None] * direction).astype(np.float32)
            size = np.linalg.norm(moved.astype(float) - points, axis=1)
            safe = size < radius
            np.testing.assert_array_equal(clusters.predict(moved)[safe], labels[safe], str(c))
    if offset == 0:
        assert (radius > 0).mean() > 0.95


def test_priors_that_are_nearly_equal():
    """scikit-learn compares them with 1 / n_classes, each by itself."""
    if "priors" not in NearestCentroid().get_params():
        pytest.skip("NearestCentroid has no priors")
    priors = np.full(10, 0.1)
    priors[:2] += [0.6e-6, 1.5e-6]
    priors[2:] -= 2.1e-6 / 8
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 2))
    own = NearestCentroid(priors=list(priors)).fit(points, np.repeat(np.arange(10), 20))
    with pytest.raises(ValueError, match="priors"):
        certify(own, points)


def test_wrappers_are_looked_into():
    smoothed = RandomizedSmoothingClassifier(random_state=0).fit(X_train, y_train)
    expected = certify(smoothed, X_test).radius
    np.testing.assert_array_equal(certify(FrozenEstimator(smoothed), X_test).radius, expected)
    search = GridSearchCV(RandomizedSmoothingClassifier(random_state=0), {"sigma": [0.25]}, cv=2)
    search.fit(X_train, y_train)
    np.testing.assert_array_equal(certify(search, X_test).radius, expected)
    with pytest.raises(NotFittedError, match="must be fitted, with refit"):
        certify(GridSearchCV(KNeighborsClassifier(), {}, refit=False).fit(X, y), X)


def test_nearest_centroid_with_priors_and_other_metrics():
    with pytest.raises(ValueError, match="metric='manhattan'"):
        certify(NearestCentroid(metric="manhattan").fit(X, y), X)
    if "priors" in NearestCentroid().get_params():
        weighted = NearestCentroid(priors=[0.5, 0.3, 0.2]).fit(X, y)
        with pytest.raises(ValueError, match="priors"):
            certify(weighted, X)


def test_scorers_take_what_certify_takes():
    smoothed = RandomizedSmoothingClassifier(sigma=0.3, random_state=0)
    curve = certified_curve_scorer([0.1, 0.3])(smoothed.fit(X_train, y_train), X_test, y_test)
    assert curve["certified@0.1"] >= curve["certified@0.3"] > 0.5
    prototypes = RobustPrototypeClassifier(3, max_iter=2, random_state=0)
    shares = cross_val_score(prototypes, X, y, scoring=certified_accuracy_scorer(0.2), cv=3)
    assert (shares > 0.5).all()
    exact = certified_accuracy_scorer(0.4, method="exact")
    bound = certified_accuracy_scorer(0.4, method="bound")
    knn = KNeighborsClassifier(3).fit(X_train, y_train)
    assert exact(knn, X_test, y_test) >= bound(knn, X_test, y_test)
    clusters = KMeans(3, n_init=2, random_state=0).fit(X)
    share = certified_assignment_scorer(0.3)(clusters, X)
    assert share == (certify(clusters, X).radius >= 0.3).mean()
    found = cross_val_score(
        KMeans(3, n_init=2, random_state=0), X, scoring=certified_assignment_scorer(0.3), cv=3
    )
    assert (found > 0.3).all()


def test_errors_say_what_applies():
    logistic = LogisticRegression(max_iter=500).fit(X, y)
    with pytest.raises(TypeError, match=r"no certificate applies to LogisticRegression.*smoothed"):
        certify(logistic, X)
    with pytest.raises(ValueError, match="not known to be affine"):
        certify(make_pipeline(Normalizer(), KNeighborsClassifier(1)).fit(X, y), X)
    with pytest.raises(ValueError, match="method must be one of"):
        certify(logistic, X, method="best")
    smoothed = RandomizedSmoothingClassifier(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="method='exact' is for nearest-neighbour rules"):
        certify(smoothed, X, method="exact")
    with pytest.raises(ValueError, match="threat_model must be None here"):
        certify(smoothed, X, threat_model=ThreatModel())
    with pytest.raises(TypeError, match="smoothing has no options"):
        certify(smoothed, X, n_jobs=2)
    with pytest.raises(ValueError, match=r"the smoothing. around the Pipeline"):
        certify(make_pipeline(StandardScaler(), smoothed), X)
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(ValueError, match="needs a RandomizedSmoothingClassifier"):
        certify(knn, X, method="smoothing")
    with pytest.raises(ValueError, match="y must be None for a clusterer"):
        certify(KMeans(3, n_init=1).fit(X), X, y)
    spherical = AdversarialClustering(n_clusters=3, algorithm="spherical_kmeans").fit(X)
    with pytest.raises(ValueError, match="algorithm='kmeans'"):
        certify(spherical, X)
    linked = AdversarialClustering(n_clusters=3, algorithm="agglomerative").fit(X)
    with pytest.raises(TypeError, match="assigns no new points"):
        certify(linked, X)


@pytest.mark.parametrize(
    "make",
    [
        certified_accuracy_scorer,
        certified_curve_scorer,
        certified_assignment_scorer,
        mean_certified_radius_scorer,
        certified_retrieval_scorer,
    ],
)
def test_scorers_are_checked_when_they_are_made(make):
    """Inside a search an error would be a score of NaN."""
    with pytest.raises(TypeError, match="threat_model must be a ThreatModel or None; got 'l2'"):
        make(1.0, threat_model="l2")
    if make is not certified_retrieval_scorer:
        with pytest.raises(ValueError, match="method must be one of"):
            make(1.0, method="best")


@pytest.mark.parametrize("kind", ["memmap", "frame", "pairs", "list"])
def test_batches_give_what_one_call_gives(tmp_path, kind):
    knn = KNeighborsClassifier(3).fit(X[::2], y[::2])
    points, labels = X[1::2], y[1::2]
    whole = certify(knn, points, labels)
    if kind == "memmap":
        given = np.memmap(tmp_path / "X", dtype=float, mode="w+", shape=points.shape)
        given[:] = points
        found = certify_batches(knn, given, labels, batch_size=17)
    elif kind == "frame":
        knn.fit(pd.DataFrame(X[::2], columns=list("abcd")), y[::2])
        frame = pd.DataFrame(points, columns=list("abcd"))
        found = certify_batches(knn, frame, labels, batch_size=17)
    elif kind == "pairs":
        cuts = np.arange(0, len(points), 17)
        found = certify_batches(knn, ((points[c : c + 17], labels[c : c + 17]) for c in cuts))
    else:
        found = certify_batches(knn, points.tolist(), labels.tolist(), batch_size=40)
    np.testing.assert_array_equal(found.radius, whole.radius)
    np.testing.assert_array_equal(found.status, whole.status)


def test_batches_keep_upper_bounds_and_certify_predictions():
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    whole = certify(knn, X[1::2])
    found = certify_batches(knn, X[1::2], batch_size=30)
    np.testing.assert_array_equal(found.upper, whole.upper)
    assert found.perturbation is None
    assert found.bound == "interval"


def test_batches_say_what_is_wrong():
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1; got 0"):
        certify_batches(knn, X, y, batch_size=0)
    with pytest.raises(ValueError, match="at least one batch"):
        certify_batches(knn, iter([]))
    with pytest.raises(ValueError, match="y must be None where X is an iterable"):
        certify_batches(knn, iter([X]), y)
    with pytest.raises(ValueError, match="a label for each of 150 rows; got 3"):
        certify_batches(knn, X, y[:3])


def test_what_cannot_be_certified_and_options_that_are_not_there():
    with pytest.raises(TypeError, match="certify_retrieval"):
        certify(StandardScaler().fit(X), X)
    knn = KNeighborsClassifier(3).fit(X, y)
    with pytest.raises(TypeError, match=r"certify has no option 'rtol' here; it has \['thr"):
        certify(knn, X, y, rtol=0.1)


def test_whole_numbers_take_the_lower_bound_by_themselves():
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    model = ThreatModel(2, integers=[0])
    rounded = X[1::2].copy()
    rounded[:, 0] = np.rint(rounded[:, 0])
    found = certify(knn, rounded, threat_model=model)
    assert found.method == "nearest-neighbor lower bound"
    with pytest.raises(ValueError, match="not searched exactly"):
        certify(knn, rounded, threat_model=model, method="exact")


def test_hints_for_what_is_tried_first():
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(TypeError, match=r"certified\(eps\)"):
        certify(knn, X, y, eps=0.1)
    with pytest.raises(TypeError, match=r"mmap_mode='r'"):
        certify_batches(knn, "points.npy", y)
    assert repr(certify(knn, X[:3], y[:3])).startswith("Certificate(exact 1-NN radius; bound=")


class OwnProof(ClassifierMixin, BaseEstimator):
    """A classifier whose proof returns what it is given."""

    def __init__(self, gives=None):
        self.gives = gives

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def _certify(self, X, y=None, *, threat_model=None, method="auto"):
        return self.gives(len(X))


@pytest.mark.parametrize(
    ("gives", "error", "match"),
    [
        (lambda n: None, TypeError, "OwnProof._certify must return a Certificate; got NoneType"),
        (lambda n: np.ones(n), TypeError, "must return a Certificate; got ndarray"),
        (lambda n: Certificate(np.ones(3), np.full(3, "certified")), ValueError, "give 4 radii"),
        (lambda n: Certificate(np.full(n, np.nan), np.full(n, "certified")), ValueError, "NaN"),
        (lambda n: Certificate(np.full(n, -1.0), np.full(n, "certified")), ValueError, ">= 0"),
        (lambda n: Certificate(np.ones(n), np.full(n, "proved")), ValueError, r"got \['proved'\]"),
        (
            lambda n: Certificate(np.ones(n), np.full(3, "certified")),
            ValueError,
            "both be of shape",
        ),
    ],
)
def test_what_an_own_proof_gives_is_checked(gives, error, match):
    X, y = np.zeros((4, 2)), np.array([0, 0, 1, 1])
    model = OwnProof(gives).fit(X, y)
    with pytest.raises(error, match=match):
        certify(model, X, y)
