"""Radii against the victim's own arithmetic: search trees, overflow, underflow."""

import numpy as np
import pytest
from shared_data import load_digits
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import RobustMahalanobis, ThreatModel, certify
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.neighbors import RobustKNeighborsClassifier

SHARES = [1 - 10.0**-k for k in range(6, 14)]


def flips_just_inside(model, X, labels, found):
    """Count points that the nearest perturbations, shortened, still turn, inside the radius."""
    size = np.linalg.norm(found.perturbation, axis=1)
    known = (found.radius > 0) & np.isfinite(found.radius) & (size > 0)
    direction = found.perturbation[known] / size[known, None]
    flips = 0
    for share in SHARES:
        points = X[known] + direction * (found.radius[known] * share)[:, None]
        moved = np.linalg.norm((points - X[known]).astype(np.longdouble), axis=1)
        flips += ((model.predict(points) != labels[known]) & (moved <= found.radius[known])).sum()
    return int(flips), int(known.sum())


@pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
@pytest.mark.parametrize("algorithm", ["ball_tree", "kd_tree", "brute"])
def test_no_flip_where_a_tree_skips_points_by_rounded_distances(algorithm, metric):
    """A ball with a far outlier in it is skipped by distances of 1e6, rounded."""
    if (algorithm, metric) == ("kd_tree", "mahalanobis"):
        pytest.skip("scikit-learn has no such tree")
    flips, known = 0, 0
    for seed in range(30 if algorithm == "ball_tree" else 10):
        rng = np.random.default_rng(seed)
        d, n = int(rng.integers(1, 4)), int(rng.integers(3, 9))
        X, y = rng.standard_normal((n, d)), np.r_[0, 1, rng.integers(0, 2, n - 2)]
        X[-1] = 1e6 * rng.choice([-1, 1], d) * (1 + rng.random(d))
        params = None
        if metric == "mahalanobis":
            G = np.eye(d) + 0.3 * rng.standard_normal((d, d))
            params = {"VI": G.T @ G}
        knn = KNeighborsClassifier(
            1, algorithm=algorithm, leaf_size=1 + seed % 2, metric=metric, metric_params=params
        ).fit(X, y)
        Q = 2 * rng.standard_normal((20, d))
        found = exact_nearest_neighbor_radius(knn, Q, knn.predict(Q))
        more = flips_just_inside(knn, Q, knn.predict(Q), found)
        flips, known = flips + more[0], known + more[1]
    assert known > 100
    assert flips == 0


def test_trees_cost_ordinary_radii_nothing():
    X, y = load_digits(return_X_y=True)
    X, T, y, t = train_test_split(X[:600], y[:600], test_size=0.2, random_state=0)
    radii = [
        exact_nearest_neighbor_radius(
            KNeighborsClassifier(1, algorithm=algorithm).fit(X, y), T, t
        ).radius
        for algorithm in ("brute", "kd_tree", "ball_tree")
    ]
    for radius in radii[1:]:
        np.testing.assert_allclose(radius, radii[0], rtol=1e-9)


@pytest.mark.parametrize("kind", [KNeighborsClassifier, RobustKNeighborsClassifier])
def test_a_learned_metric_of_low_rank_is_a_step_and_no_matrix(kind):
    """As a matrix, its rounding makes distances negative, and NaN loses the nearest point."""
    X, y = load_digits(return_X_y=True)
    X, T, y, t = train_test_split(X[:500], y[:500], test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(X)
    X, T = scaler.transform(X), scaler.transform(T)
    metric = RobustMahalanobis(n_components=2, max_iter=2, random_state=0).fit(X, y)
    params = {"VI": metric.get_mahalanobis_matrix()}
    knn = kind(1, metric="mahalanobis", metric_params=params)
    with pytest.raises(ValueError, match="as a step"):
        certify(knn.fit(X, y), T, t)
    found = certify(make_pipeline(metric, KNeighborsClassifier(1)).fit(X, y), T, t)
    assert (found.radius > 0).any()


@pytest.mark.parametrize("size", [1e-130, 1e-70, 1.0, 1e70, 1e130])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_radii_do_not_depend_on_units(size, norm):
    """Features in any unit, and scales in any unit, far below the range of their squares."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), np.arange(30) % 2
    Q, labels = rng.standard_normal((8, 3)), np.arange(8) % 2
    for K in (1, 3):
        plain = KNeighborsClassifier(K, algorithm="brute").fit(X, y)
        sized = KNeighborsClassifier(K, algorithm="brute").fit(size * X, y)
        expected = certify(plain, Q, labels, threat_model=ThreatModel(norm), method="exact")
        for scale in (1e-95, 1.0, 1e95):
            threat = ThreatModel(norm, feature_scale=np.full(3, scale))
            found = certify(sized, size * Q, labels, threat_model=threat, method="exact")
            np.testing.assert_allclose(found.radius, expected.radius * (size / scale), rtol=1e-6)
            assert found.status.tolist() == expected.status.tolist()


def test_the_distance_of_two_nearly_equal_points_is_found_in_any_scale():
    knn = KNeighborsClassifier(1).fit([[0.0], [2e-70]], [0, 1])
    threat = ThreatModel(feature_scale=[1e-95])
    for method in ("fast", "exact"):
        found = certify(knn, [[5e-71]], [0], threat_model=threat, method=method)
        assert found.radius[0] == pytest.approx(5e24)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_a_radius_is_infinite_only_where_rounding_is_covered(algorithm, exact):
    """The class is decided by a feature that does not move; far out, rounding hides it."""
    rng = np.random.default_rng(0)
    X = np.c_[np.repeat([0.0, 1.0], 10), np.tile(rng.standard_normal(10), 2)]
    y = X[:, 0].astype(int)
    knn = KNeighborsClassifier(1, algorithm=algorithm).fit(X, y)
    certify_ = exact_nearest_neighbor_radius if exact else certify_nearest_neighbors
    found = certify_(knn, X, y, threat_model=ThreatModel(mutable=[1]))
    assert np.isfinite(found.radius).all()
    assert (found.radius > 1e3).all()
    for share in (1 - 1e-9, 0.3, -0.3, -1 + 1e-9):
        moved = X + np.c_[np.zeros(20), share * found.radius]
        assert (knn.predict(moved) == y).all()
    far = X + np.array([0.0, 1e30])
    assert (knn.predict(far) != y).any()
    bounded = certify_(knn, X, y, threat_model=ThreatModel(mutable=[1], bounds=(-9.0, 9.0)))
    assert (bounded.status == "unreachable").all()


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, NearestCentroid, KNeighborsClassifier])
def test_values_whose_squares_overflow_are_refused(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.arange(40) % 2
    for dtype, size in ((np.float32, 1e17), (np.float64, 1e150)):
        model = kind(n_clusters=2, random_state=0) if "Means" in kind.__name__ else kind()
        with np.errstate(all="ignore"):
            model.fit((1e3 * X).astype(dtype), y)
            with pytest.raises(ValueError, match="must stay below"):
                certify(model, (size * X).astype(dtype))


def test_no_radius_is_beyond_what_the_search_can_square():
    """All training points vote: only where distances overflow are other rows found."""
    X, y = np.array([[0.0], [1.0], [2.0], [5.0]]), [1, 0, 0, 0]
    for dtype in (np.float64, np.float32):
        for metric in ("euclidean", "l2", "minkowski"):
            knn = KNeighborsClassifier(4, algorithm="brute", metric=metric)
            knn.fit(X.astype(dtype), y)
            found = certify_nearest_neighbors(knn, X[1:2].astype(dtype), [0])
            edge = X[1:2] + 0.999 * found.radius[:, None]
            assert knn.predict(edge.astype(dtype)).tolist() == [0]
            assert found.radius[0] > 1e14


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("upper", [0.1, 0.9, 1 / 3])
def test_examples_stay_inside_bounds_that_float32_does_not_hold(norm, upper):
    """The nearest float32 is beyond the bound: the search for one inside has an end."""
    knn = KNeighborsClassifier(1).fit(np.float32([[0, 0], [0.3, 0.3], [1, 0.2]]), [0, 1, 1])
    X = np.float32([[0.05, 0.05], [0.0, 0.1]])
    threat = ThreatModel(norm, bounds=(0.0, np.array([upper, 0.9])))
    found = exact_nearest_neighbor_radius(knn, X, [0, 0], threat_model=threat)
    assert (found.radius > 0).all()
    reached = np.isfinite(found.upper)
    points = (X + found.perturbation)[reached]
    assert (points <= [upper, 0.9]).all()
    assert (points >= 0).all()
    assert (knn.predict(points.astype(np.float32)) == 1).all()
    assert reached.any() or upper == 0.1
