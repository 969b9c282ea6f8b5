"""Radii against arithmetic without rounding, and against very many attempts."""

from fractions import Fraction

import numpy as np
import pytest
from attempts import flips
from shared_data import load_digits
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius

CASES = {
    "plain": (0.0, 1.0, 1.0),
    "far off centre": (1e6, 1.0, 1.0),
    "far off centre, small spread": (1e6, 1e-2, 1.0),
    "nearly coincident": (1.0, 1e-7, 1.0),
    "tiny": (0.0, 1.0, 1e-30),
    "huge": (0.0, 1.0, 1e14),
}


def case(name, dtype, seed=0):
    offset, spread, scale = CASES[name]
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((60, 3))
    X, y = (scale * (offset + spread * plain)).astype(dtype), plain.argmax(1)
    # nearly coincident points of two classes
    X[1] = np.nextafter(X[0], np.inf)
    y[1] = (y[0] + 1) % 3
    return X[:45], y[:45], X[45:], y[45:]


def rational(X):
    return [[Fraction(float(value)) for value in row] for row in X]


def squared(u, v):
    return sum((a - b) ** 2 for a, b in zip(u, v, strict=True))


def exact_pair_bounds(X_train, y_train, x, label, norm):
    """The bound of each pair without rounding, a sorted list for each negative; squares for ℓ₂.

    A pair is a negative and a positive, the metric the Euclidean one.
    """
    D = [squared(x, z) for z in X_train]
    positives = [i for i in range(len(D)) if y_train[i] == label]
    pairs = []
    for j in range(len(D)):
        if y_train[j] == label:
            continue
        each = []
        for i in positives:
            gap = max(D[j] - D[i], Fraction(0))
            if norm == 2:
                size = 4 * squared(X_train[i], X_train[j])
                each.append(gap**2 / size if size else Fraction(0))
            else:
                moves = [abs(u - v) for u, v in zip(X_train[i], X_train[j], strict=True)]
                size = 2 * (sum(moves) if norm == np.inf else max(moves))
                each.append(gap / size if size else Fraction(0))
        pairs.append(sorted(each, reverse=True))
    return pairs


def exact_bound(pairs, K):
    """The K-NN bound, from the bounds of all pairs."""
    a, b = -(-K // 2), K // 2 + 1
    return sorted(bounds[b - 1] for bounds in pairs)[a - 1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("norm", [2, 1, np.inf])
@pytest.mark.parametrize("name", CASES)
def test_bounds_stay_below_the_rational_value(name, norm, dtype):
    X_train, y_train, X, y = case(name, dtype)
    train, queries = rational(X_train), rational(X)
    pairs = [exact_pair_bounds(train, y_train, queries[k], y[k], norm) for k in range(len(X))]
    n_positive = 0
    for K in (1, 2, 3):
        knn = KNeighborsClassifier(K, algorithm="brute").fit(X_train, y_train)
        found = certify_nearest_neighbors(knn, X, y, threat_model=ThreatModel(norm))
        for k in range(len(X)):
            radius = Fraction(float(found.radius[k]))
            truth = exact_bound(pairs[k], K)
            assert (radius**2 if norm == 2 else radius) <= truth
            n_positive += radius > 0
    # squares of tiny float32 numbers leave its range: nothing is proved there
    if name in ("plain", "huge") or (name == "tiny" and dtype == np.float64):
        assert n_positive >= 15


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_exact_radii_stay_below_a_flip_without_rounding(name, n_neighbors, dtype):
    """The perturbed point really has other neighbours, in rational arithmetic."""
    X_train, y_train, X, y = case(name, dtype)
    train = rational(X_train)
    knn = KNeighborsClassifier(n_neighbors, algorithm="brute").fit(X_train, y_train)
    # where all points nearly coincide, more nodes would only be more time
    found = exact_nearest_neighbor_radius(knn, X, y, max_nodes=200)
    n_checked = 0
    for k in np.flatnonzero(found.correct & np.isfinite(found.upper)):
        moved = [
            Fraction(float(value)) + Fraction(float(step))
            for value, step in zip(X[k], found.perturbation[k], strict=True)
        ]
        D = [squared(moved, z) for z in train]
        nearest = sorted(range(len(D)), key=lambda i: D[i])[:n_neighbors]
        size = sum(Fraction(float(step)) ** 2 for step in found.perturbation[k])
        assert Fraction(float(found.radius[k])) ** 2 <= size
        if np.bincount(y_train[nearest]).argmax() != y[k]:
            n_checked += 1
    if name in ("plain", "huge", "far off centre"):
        assert n_checked >= 3


def check_attempts(X_train, y_train, X, y, n_neighbors, norm, n_attempts):
    model = KNeighborsClassifier(n_neighbors).fit(X_train, y_train)
    threat = ThreatModel(norm)
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat)
    found = exact_nearest_neighbor_radius(model, X, y, threat_model=threat, max_nodes=100)
    assert (bound.radius <= found.radius).all()
    for radius in (bound.radius, found.radius):
        n_flips, n_tried = flips(
            model, X_train, y_train, X, y, radius, found.perturbation, norm, n_attempts // 2
        )
        assert n_flips == 0
        assert n_tried >= n_attempts // 2
    # the attempts are good: a little beyond the exact radius they succeed
    close = np.where(found.upper <= 1.001 * found.radius, found.upper / 0.999 * 1.002, 0.0)
    n_flips, _ = flips(model, X_train, y_train, X, y, close, found.perturbation, norm, 100)
    assert n_flips >= 0.9 * (close > 0).sum() > 0


@pytest.mark.parametrize(("n_neighbors", "norm"), [(1, 2), (3, 2), (1, np.inf)])
@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
def test_no_flip_in_thousands_of_attempts(load, n_neighbors, norm):
    X, y = load(return_X_y=True)
    X = (X - X.min(0)) / np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1)
    check_attempts(X[60:], y[60:], X[:20], y[:20], n_neighbors, norm, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pendigits", "satimage", "usps", "optdigits", "dna"])
def test_no_flip_in_attempts_on_real_data(load_shared, name):
    X_train, X, y_train, y = load_shared(name)
    low, span = X_train.min(0), np.ptp(X_train, axis=0)
    span = np.where(span > 0, span, 1)
    X_train, X = (X_train - low) / span, (X - low) / span
    check_attempts(X_train[:2000], y_train[:2000], X[:15], y[:15], 3, 2, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("scale", [1e-150, 1e-158, 1e-160, 1e-161, 1e-170])
def test_no_flip_where_squares_underflow(scale, n_neighbors):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2)) * scale
    y = rng.integers(0, 2, 30)
    knn = KNeighborsClassifier(n_neighbors, algorithm="kd_tree").fit(X, y)
    right = knn.predict(X) == y
    angle = np.linspace(0, 2 * np.pi, 180)
    around = np.column_stack([np.cos(angle), np.sin(angle)])
    for certify in (certify_nearest_neighbors, exact_nearest_neighbor_radius):
        radius = certify(knn, X, y).radius
        assert (radius > 0).any() == (scale == 1e-150)
        for k in np.flatnonzero(right & np.isfinite(radius)):
            assert (knn.predict(X[k] + 0.999 * radius[k] * around) == y[k]).all()


@pytest.mark.parametrize("radius", [1e-3, 1e-2, 0.1, 1.0])
def test_no_candidate_is_dropped_that_rounding_could_bring_in(radius):
    """The coarse choice of candidates against the fine one on all points."""
    import torch

    from skrobust.adapters import as_nearest_neighbor_rule
    from skrobust.certificates.nearest_neighbor._bisectors import (
        BisectorHalfspaces,
        Neighborhood,
        bisector_distances,
        squared_distances,
    )
    from skrobust.certificates.nearest_neighbor._geometry import Rounding, TrainingSet

    for offset in (0.0, 1e6):
        rng = np.random.default_rng(1)
        X = (offset + rng.standard_normal((300, 3))).astype(np.float32)
        X[:3] = X[0]
        scaler = StandardScaler(with_std=False)
        model = make_pipeline(scaler, KNeighborsClassifier(3)).fit(X, np.arange(300) % 2)
        rule = as_nearest_neighbor_rule(model)
        budget = ThreatModel().resolve(3)
        queries = rule.embed(X[:1])
        training = TrainingSet.of(rule, budget, queries, torch.device("cpu"), torch.float64)
        rounding = Rounding.within(np.array([radius]), training, queries)
        bisectors = BisectorHalfspaces.around(training, queries, rounding)[0]
        near = Neighborhood.within(radius, bisectors, 3)
        squared = squared_distances(bisectors.Z, bisectors.z)
        everyone = np.arange(300)
        bisector_distance = bisector_distances(bisectors, everyone, everyone, squared)
        needed = np.flatnonzero((bisector_distance >= radius).sum(1) < 3)
        assert np.isin(needed, near.rows).all()
        assert len(needed) >= (100 if offset else 3)
