"""The k-NN lower bound on Fashion-MNIST, as a ratio to brute-force kneighbors in the same run."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from skrobust.certificates import exact_nearest_neighbor_radius, nearest_neighbor_lower_bound

from .common import fashion_mnist, seconds


class LowerBound:
    """All training points, 10,000 test points, Euclidean and a full-rank metric."""

    params = (["euclidean", "rank 784"], [1, 3])
    param_names = ("metric", "n_neighbors")
    timeout = 1800
    rounds = number = repeat = 1
    warmup_time = 0
    unit = "ratio"

    def setup(self, metric, n_neighbors):
        self.data = fashion_mnist()
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((784, 784)).astype(np.float32)
        self.components = None if metric == "euclidean" else np.eye(784) + 0.02 * noise

    def _certify(self, n_neighbors):
        X_train, y_train, X, y = self.data
        return nearest_neighbor_lower_bound(
            X_train, y_train, X, y, components=self.components, n_neighbors=n_neighbors
        )

    def track_ratio_to_kneighbors(self, metric, n_neighbors):
        X_train, _, X, _ = self.data
        G = self.components
        if G is not None:  # what k-NN would search: embedded points
            X_train, X = X_train @ G.T.astype(np.float32), X @ G.T.astype(np.float32)
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(X_train)
        search.kneighbors(X[:100])
        peer = seconds(lambda: search.kneighbors(X))
        return seconds(lambda: self._certify(n_neighbors)) / peer

    def peakmem_certify(self, metric, n_neighbors):
        self._certify(n_neighbors)


class ExactRadius:
    """Exact 1-NN radii of all test points, Euclidean, adversarial examples re-checked."""

    timeout = 1800
    unit = "ratio"

    def setup(self):
        self.data = fashion_mnist()

    def track_ratio_to_kneighbors(self):
        X_train, y_train, X, y = self.data
        knn = KNeighborsClassifier(1, algorithm="brute").fit(X_train, y_train)
        knn.kneighbors(X[:100])
        peer = seconds(lambda: knn.kneighbors(X))
        return seconds(lambda: exact_nearest_neighbor_radius(knn, X, y)) / peer


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
