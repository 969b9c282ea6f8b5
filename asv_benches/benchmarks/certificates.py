"""Certificates on Fashion-MNIST, as ratios to brute-force kneighbors in the same run."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline

from skrobust import RobustMahalanobis
from skrobust.certificates import exact_nearest_neighbor_radius, nearest_neighbor_lower_bound

from .common import SMOKE, fashion_mnist, seconds


class _FashionMNIST:
    """All training points, all test points, the Euclidean metric and a learned one."""

    timeout = 1800
    rounds = number = repeat = 1
    warmup_time = 0
    unit = "ratio"

    def setup_cache(self):
        """Learn a metric of rank 784 on the first 10,000 training points."""
        X_train, y_train, _, _ = fashion_mnist()
        metric = RobustMahalanobis(max_iter=2 if SMOKE else 20, random_state=0)
        return metric.fit(X_train[:10_000], y_train[:10_000]).components_.astype(float)

    def setup(self, G, metric, n_neighbors=1):
        self.X_train, self.y_train, self.X, self.y = fashion_mnist()
        self.components = None if metric == "euclidean" else G

    def pipeline(self):
        knn = KNeighborsClassifier(1, algorithm="brute")
        if self.components is not None:
            metric = RobustMahalanobis()
            metric.components_, metric.n_features_in_ = self.components, self.X.shape[1]
            knn = make_pipeline(FrozenEstimator(metric), knn)
        return knn.fit(self.X_train, self.y_train)

    def peer(self, n_neighbors):
        """Time a brute-force search in the space of the metric."""
        Z_train, Z = self.X_train, self.X
        if self.components is not None:
            G = self.components.T.astype(np.float32)
            Z_train, Z = Z_train @ G, Z @ G
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(Z_train)
        search.kneighbors(Z[:100])
        return seconds(lambda: search.kneighbors(Z))


class LowerBound(_FashionMNIST):
    params = (["euclidean", "learned"], [1, 3])
    param_names = ("metric", "n_neighbors")

    def certify(self, n_neighbors):
        nearest_neighbor_lower_bound(
            self.X_train,
            self.y_train,
            self.X,
            self.y,
            components=self.components,
            n_neighbors=n_neighbors,
        )

    def track_ratio_to_kneighbors(self, G, metric, n_neighbors):
        peer = self.peer(n_neighbors)
        return seconds(lambda: self.certify(n_neighbors)) / peer

    def peakmem_certify(self, G, metric, n_neighbors):
        self.certify(n_neighbors)


class ExactRadius(_FashionMNIST):
    """Exact 1-NN radii, adversarial examples re-checked."""

    params = ["euclidean", "learned"]
    param_names = ("metric",)

    def track_ratio_to_kneighbors(self, G, metric):
        model, peer = self.pipeline(), self.peer(1)
        return seconds(lambda: exact_nearest_neighbor_radius(model, self.X, self.y)) / peer

    def peakmem_exact(self, G, metric):
        exact_nearest_neighbor_radius(self.pipeline(), self.X, self.y)


class ExactVotes:
    """Exact 3-NN radii of 50 test points on digits: seconds a point, and the share solved."""

    n_points = 5 if SMOKE else 50

    timeout = 600

    def setup(self):
        X, y = load_digits(return_X_y=True)
        self.knn = KNeighborsClassifier(3).fit(X[:-50] / 16, y[:-50])
        self.X, self.y = X[-self.n_points :] / 16, y[-self.n_points :]

    def track_seconds_a_point(self):
        return (
            seconds(lambda: exact_nearest_neighbor_radius(self.knn, self.X, self.y)) / self.n_points
        )

    def track_share_exact(self):
        found = exact_nearest_neighbor_radius(self.knn, self.X, self.y)
        return (found.status == "exact").sum() / found.correct.sum()


class LowerBoundQuality:
    """What the time buys: certified accuracy of the Euclidean 1-NN on the test part."""

    timeout = 600

    def setup(self):
        X_train, y_train, X, y = fashion_mnist()
        self.found = nearest_neighbor_lower_bound(X_train, y_train, X[:1000], y[:1000])

    def track_certified_accuracy_at_half(self):
        return self.found.certified(0.5).mean()

    def track_mean_certified_radius(self):
        return self.found.radius.mean()
