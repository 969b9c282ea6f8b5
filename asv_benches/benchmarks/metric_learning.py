"""RobustMahalanobis: fit time and peak memory against n and d, an epoch against k-NN, solvers."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors

from skrobust import RobustMahalanobis
from skrobust.certificates import nearest_neighbor_lower_bound
from skrobust.metric_learning import AdamSolver, CvxpySolver, ProjectedSolver

from .common import SMOKE, blobs, seconds, target_radius_program

# the paper's objective, on all points in every epoch
PAPER = {
    "objective": "triplet",
    "solver": AdamSolver(epoch_size=None),
    "validation_fraction": 0,
    "random_state": 0,
}


class Fit:
    """Three epochs of the paper's settings; everything grows with their number."""

    params = ([200, 400], [8]) if SMOKE else ([5000, 10000, 20000, 60000], [16, 64, 784])
    param_names = ("n_samples", "n_features")
    timeout = 1800
    rounds = number = repeat = 1
    warmup_time = 0

    def setup(self, n_samples, n_features):
        if not SMOKE and n_features == 784 and n_samples == 20000:
            raise NotImplementedError("10,000 and 60,000 tell enough")
        self.X, self.y = blobs(n_samples, n_features)
        self.metric = RobustMahalanobis(max_iter=1 if n_samples == 60000 else 3, **PAPER)

    def time_fit(self, n_samples, n_features):
        self.metric.fit(self.X, self.y)

    def peakmem_fit(self, n_samples, n_features):
        self.metric.fit(self.X, self.y)


class Epoch:
    """One epoch of the paper's settings on 20,000 × 64, over a brute-force self-kneighbors."""

    params = ["float32", "float64"]
    param_names = ("dtype",)
    timeout = 600
    unit = "ratio"

    def setup(self, dtype):
        self.X, self.y = blobs(300 if SMOKE else 20000, 64, dtype)

    def track_ratio_to_kneighbors(self, dtype):
        search = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(self.X)
        search.kneighbors(self.X[:100])
        peer = min(seconds(lambda: search.kneighbors(self.X)) for _ in range(3))

        def fit(epochs, n_samples=None):
            metric = RobustMahalanobis(max_iter=epochs, **PAPER)
            return seconds(lambda: metric.fit(self.X[:n_samples], self.y[:n_samples]))

        fit(1, 200)
        return (fit(4) - fit(1)) / 3 / peer


class Quality:
    """What the fit is worth: certified accuracy and mean radius on digits (1-NN, test part)."""

    params = ["Euclidean", "RobustMahalanobis"]
    param_names = ("metric",)

    def setup(self, metric):
        X, y = load_digits(return_X_y=True)
        X_train, X, y_train, y = train_test_split(X / 16, y, test_size=0.2, random_state=0)
        G = None
        if metric != "Euclidean":
            G = RobustMahalanobis(max_iter=2 if SMOKE else 50, random_state=0)
            G = G.fit(X_train, y_train).components_
        self.found = nearest_neighbor_lower_bound(X_train, y_train, X, y, components=G)

    def track_certified_accuracy_at_half(self, metric):
        return self.found.certified(0.5).mean()

    def track_mean_certified_radius(self, metric):
        return self.found.radius.mean()


class ConvexProgram:
    """One program of 1,000 triplets in 30 dimensions: seconds, and the gap that is proved."""

    params = ["projected", "cvxpy"]
    param_names = ("solver",)
    timeout = 600
    rounds = number = repeat = 1
    warmup_time = 0

    def setup(self, solver):
        self.program = target_radius_program(*((60, 5) if SMOKE else (1000, 30)), seed=0)
        self.solver = ProjectedSolver() if solver == "projected" else CvxpySolver()

    def time_solve(self, solver):
        self.solver.solve_program(self.program)

    def track_gap(self, solver):
        return self.solver.solve_program(self.program).gap
