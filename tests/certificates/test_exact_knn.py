"""Exact K-NN radii, K > 1: against every set of neighbours, on degenerate and real data."""

import numpy as np
import pytest
from oracles import KINDS, oracle_exact_knn, problems
from shared_data import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.certificates.nearest_neighbor._branch_and_bound import Vote

NORMS = (2, 1, np.inf)


def random_problem(seed, n_train=11):
    rng = np.random.default_rng(seed)
    K = (2, 3, 4, 5)[seed % 4]
    X_train, y_train, X, y = problems(
        rng, KINDS[seed % 6], n_train, 4, n_features=3, n_classes=2 + seed % 3
    )
    G = (np.eye(3), rng.standard_normal((3, 3)), rng.standard_normal((2, 3)))[(seed // 5) % 3]
    metric = RobustMahalanobis()
    metric.components_, metric.n_features_in_ = G, 3
    model = make_pipeline(FrozenEstimator(metric), KNeighborsClassifier(K)).fit(X_train, y_train)
    parameters = {}
    if (seed // 3) % 2:
        parameters["feature_scale"] = rng.uniform(0.2, 3, 3)
    if (seed // 7) % 3 == 1:
        parameters["mutable"] = [0, 2]
    if (seed // 2) % 3 == 1:
        every = np.vstack([X, X_train])
        parameters["bounds"] = (every.min(0) - 0.1, every.max(0) + 0.1)
    return model, X_train, y_train, X, y, K, G, ThreatModel(NORMS[seed % 3], **parameters)


def check_problem(seed, n_train=11):
    model, X_train, y_train, X, y, K, G, threat = random_problem(seed, n_train)
    budget = threat.resolve(3)
    found = exact_nearest_neighbor_radius(model, X, y, threat_model=threat, rtol=1e-7)
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat)
    right = model.predict(X) == y
    np.testing.assert_array_equal(found.correct, right)
    assert (bound.radius <= found.radius * (1 + 1e-9)).all()
    assert (found.radius <= found.upper).all()
    for k in np.flatnonzero(right):
        expected = oracle_exact_knn(X_train, y_train, X[k], y[k], K, G, budget)
        if np.isinf(expected):
            assert found.radius[k] > 1e3
            continue
        assert found.radius[k] == pytest.approx(expected, rel=1e-6, abs=1e-8)
        assert found.radius[k] <= expected * (1 + 1e-7) + 1e-9
        if KINDS[seed % 6] not in ("duplicates", "ties"):  # cells without interior
            assert found.upper[k] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    flipped = np.isfinite(found.upper) & right
    moved = X + found.perturbation
    assert (model.predict(moved)[flipped] != y[flipped]).all()
    np.testing.assert_array_equal(model.predict(moved)[flipped], found.adversarial_label[flipped])
    np.testing.assert_allclose(budget.size(found.perturbation)[flipped], found.upper[flipped])
    assert (moved >= budget.lower).all()
    assert (moved <= budget.upper).all()
    assert (found.perturbation[:, budget.scale == 0] == 0).all()


@pytest.mark.parametrize("seed", range(24))
def test_equals_every_set_of_neighbours(seed):
    check_problem(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(24, 144, 20))
def test_equals_every_set_of_neighbours_on_hundreds_of_points(start):
    """480 points; of 9 training points there are fewer sets than of 11, and no other kinds."""
    for seed in range(start, start + 20):
        check_problem(seed, n_train=9)


@pytest.mark.parametrize("seed", range(12))
def test_one_direction_equals_every_set_of_neighbours(seed):
    model, X_train, y_train, X, y, K, G, threat = random_problem(seed)
    budget, target = threat.resolve(3), y_train[0]
    X, y = X[y != target], y[y != target]
    if not len(X):
        pytest.skip("all points are of the target's class")
    found = exact_nearest_neighbor_radius(
        model, X, y, threat_model=threat, rtol=1e-7, target=target
    )
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat, target=target)
    anywhere = exact_nearest_neighbor_radius(model, X, y, threat_model=threat, rtol=1e-7)
    right = model.predict(X) == y
    assert found.target == bound.target == target
    assert (bound.radius <= found.radius * (1 + 1e-9)).all()
    assert (anywhere.radius <= found.radius * (1 + 1e-9)).all()
    np.testing.assert_array_equal(found.status == "misclassified", ~right)
    for k in np.flatnonzero(right):
        expected = oracle_exact_knn(X_train, y_train, X[k], y[k], K, G, budget, target)
        if np.isinf(expected):
            assert found.radius[k] > 1e3
        else:
            assert found.radius[k] == pytest.approx(expected, rel=1e-6, abs=1e-8)
    flipped = right & np.isfinite(found.upper)
    assert (model.predict(X + found.perturbation)[flipped] == target).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_neighbors", [3, 11])
@pytest.mark.parametrize("norm", [2, np.inf])
def test_digits_between_bound_and_attack(n_neighbors, norm):
    X, y = load_digits(return_X_y=True)
    X_train, X, y_train, y = train_test_split(X / 16, y, test_size=12, random_state=0)
    if norm == np.inf:  # linear programs: ten times as long
        X, y = X[:6], y[:6]
    model = KNeighborsClassifier(n_neighbors).fit(X_train, y_train)
    threat = ThreatModel(norm)
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat)
    quick = exact_nearest_neighbor_radius(model, X, y, threat_model=threat, max_nodes=0)
    np.testing.assert_array_equal(quick.radius, bound.radius)
    found = exact_nearest_neighbor_radius(model, X, y, threat_model=threat, max_nodes=60)
    right = model.predict(X) == y
    assert right.mean() > 0.8
    assert (bound.radius <= found.radius).all()
    assert (found.radius <= found.upper).all()
    assert (found.upper <= quick.upper).all()
    assert np.isfinite(found.upper).all()
    assert found.radius[right].mean() > 1.02 * bound.radius[right].mean()
    if n_neighbors == 3 and norm == 2:
        assert (found.status[right] == "exact").mean() >= 0.5
    assert (model.predict(X + found.perturbation)[right] != y[right]).all()
    inside = 0.9999 * (found.radius / np.where(right, found.upper, 1))[:, None]
    assert (model.predict(X + inside * found.perturbation)[right] == y[right]).all()


def test_one_neighbour_by_both_searches():
    """K = 1 by cells is K = 1 by sides."""
    from skrobust.certificates._problem import CertificationProblem
    from skrobust.certificates.nearest_neighbor._api import _by_votes

    X_train, y_train, X, y = problems(np.random.default_rng(1), "random", 80, 20)
    knn = KNeighborsClassifier(1).fit(X_train, y_train)
    sides, _, _ = _by_votes(CertificationProblem.of(knn, X, y), 1e-7, 1000, None, 0)
    cells = exact_nearest_neighbor_radius(knn, X, y)
    right = cells.correct
    np.testing.assert_allclose(sides.lower[right], cells.radius[right], rtol=1e-6)


def test_blockers_of_other_classes_are_seen():
    """Three votes for three classes go to the smallest label, which the attack must not have."""
    X_train = np.array([[0.0], [0.1], [4.0], [4.2], [4.4]])
    knn = KNeighborsClassifier(3).fit(X_train, [0, 0, 1, 2, 2])
    found = exact_nearest_neighbor_radius(knn, [[0.0]], [0], rtol=1e-9)
    # the nearest three have to be 1, 2, 2: nearer to 4.4 than to 0.1
    assert found.radius[0] == pytest.approx(2.25)
    assert certify_nearest_neighbors(knn, [[0.0]], [0]).radius[0] < 2.2
    assert found.adversarial_label[0] == 2
    only_one = exact_nearest_neighbor_radius(knn, [[0.0]], [0], target=1)
    assert only_one.status[0] in ("certified", "unreachable")
    assert only_one.radius[0] > 100


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 4, 7])
def test_the_vote_is_that_of_scikit_learn(n_neighbors):
    rng = np.random.default_rng(n_neighbors)
    for _ in range(100):
        labels = rng.integers(0, 4, n_neighbors)
        knn = KNeighborsClassifier(n_neighbors).fit(np.zeros((n_neighbors, 1)), labels)
        predicted = knn.predict([[0.0]])[0]
        everyone = np.ones(n_neighbors, dtype=bool)
        for source in range(4):
            vote = Vote(n_neighbors, labels, source)
            assert vote.succeeds(everyone) == (predicted != source)
            assert (vote.most_own(np.zeros(n_neighbors, dtype=np.int8)) >= 0) == (
                predicted != source
            )
            assert Vote(n_neighbors, labels, -1, source).succeeds(everyone) == (predicted == source)


def test_how_many_own_candidates_may_come_in():
    """Against trying every set."""
    from itertools import combinations

    rng = np.random.default_rng(0)
    for _ in range(300):
        K, n = rng.integers(1, 5), 8
        labels, state = rng.integers(0, 3, n), rng.integers(-1, 2, n).astype(np.int8)
        for target in (None, 2):
            vote = Vote(int(K), labels, 1, target)
            most = -1
            for chosen in combinations(range(n), int(K)):
                mask = np.isin(np.arange(n), chosen)
                if mask[state == 1].all() and not mask[state == -1].any() and vote.succeeds(mask):
                    most = max(most, int((mask & vote.own & (state == 0)).sum()))
            assert vote.most_own(state) >= most
            if target is None:
                assert vote.most_own(state) == most
            completed = vote.complete(state, rng.random(n)) if most >= 0 else None
            if completed is not None:
                assert completed.sum() == K
                assert completed[state == 1].all()
                assert not completed[state == -1].any()
                assert vote.succeeds(completed)


def test_a_node_limit_gives_an_interval_that_holds_the_radius():
    rng = np.random.default_rng(3)
    X_train, y_train, X, y = problems(rng, "two classes", 150, 15)
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(5)).fit(X_train, y_train)
    exact = exact_nearest_neighbor_radius(model, X, y, rtol=1e-6, max_nodes=100_000)
    right = exact.correct
    assert (exact.status[right] == "exact").all()
    limited = [exact_nearest_neighbor_radius(model, X, y, max_nodes=n) for n in (0, 3, 10, 40)]
    for found in limited:
        assert (found.radius <= exact.upper).all()
        assert (found.upper >= exact.radius).all()
    means = [found.radius.mean() for found in limited]
    assert means == sorted(means)
    assert means[0] < means[-1]


@pytest.mark.parametrize("n_neighbors", [1, 2, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_nothing_can_be_changed(norm, n_neighbors):
    X_train, y_train, X, y = problems(np.random.default_rng(1), "random", 30, 10)
    knn = KNeighborsClassifier(n_neighbors).fit(X_train, y_train)
    right = knn.predict(X) == y
    for threat in (ThreatModel(norm, mutable=[]), ThreatModel(norm, bounds=(X[0], X[0]))):
        rows = slice(None) if threat.bounds is None else slice(0, 1)
        for certify in (certify_nearest_neighbors, exact_nearest_neighbor_radius):
            found = certify(knn, X[rows], y[rows], threat_model=threat)
            expected = np.where(right[rows], "unreachable", "misclassified")
            np.testing.assert_array_equal(found.status, expected)
            np.testing.assert_array_equal(np.isinf(found.radius), right[rows])
    # all points vote
    few = KNeighborsClassifier(5).fit(X_train[:5], [0, 1, 1, 0, 0])
    for certify in (certify_nearest_neighbors, exact_nearest_neighbor_radius):
        found = certify(few, X, np.zeros(10, dtype=int))
        assert (found.radius > 1e130).all()  # beyond, distances overflow and any rows are found
        assert np.isfinite(found.radius).all()
        found = certify(few, X, np.zeros(10, dtype=int), threat_model=ThreatModel(bounds=(-9, 9)))
        assert (found.status == "unreachable").all()
    one_class = KNeighborsClassifier(5).fit(X_train, np.zeros(30, dtype=int))
    assert (certify_nearest_neighbors(one_class, X, np.zeros(10)).status == "unreachable").all()


def test_a_box_that_holds_no_attack_is_searched_to_its_end():
    rng = np.random.default_rng(0)
    X_train = np.vstack([rng.standard_normal((300, 2)), 100 + rng.standard_normal((5, 2))])
    knn = KNeighborsClassifier(5).fit(X_train, np.repeat([0, 1], [300, 5]))
    threat = ThreatModel(bounds=(-5, 5))
    found = exact_nearest_neighbor_radius(knn, [[0.0, 0.0]], [0], threat_model=threat)
    assert found.status[0] == "unreachable"
    assert np.isinf(found.upper[0])
    free = exact_nearest_neighbor_radius(knn, [[0.0, 0.0]], [0])
    assert free.status[0] == "exact"
    assert 50 < free.radius[0] < 100


def test_too_many_candidates_leave_the_lower_bound(monkeypatch):
    monkeypatch.setattr("skrobust.certificates.nearest_neighbor._bisectors.MOST_CANDIDATES", 0)
    X_train, y_train, X, y = problems(np.random.default_rng(2), "random", 100, 12)
    knn = KNeighborsClassifier(3).fit(X_train, y_train)
    found = exact_nearest_neighbor_radius(knn, X, y)
    np.testing.assert_array_equal(found.radius, certify_nearest_neighbors(knn, X, y).radius)
    assert np.isfinite(found.upper).all()


def test_a_row_does_not_depend_on_its_batch():
    X_train, y_train, X, y = problems(np.random.default_rng(2), "random", 100, 12)
    knn = KNeighborsClassifier(3).fit(X_train, y_train)
    whole = exact_nearest_neighbor_radius(knn, X, y)
    for i in range(len(X)):
        one = exact_nearest_neighbor_radius(knn, X[[i]], y[[i]])
        assert one.radius[0] == whole.radius[i]
        np.testing.assert_array_equal(one.perturbation[0], whole.perturbation[i])


def test_bad_input():
    X, y = np.random.default_rng(0).random((20, 2)), np.arange(20) % 2
    knn = KNeighborsClassifier(3).fit(X, y)
    with pytest.raises(ValueError, match="max_nodes must be an integer >= 0; got -1"):
        exact_nearest_neighbor_radius(knn, X, y, max_nodes=-1)
    with pytest.raises(ValueError, match="max_nodes must be an integer >= 0; got True"):
        exact_nearest_neighbor_radius(knn, X, y, max_nodes=True)
    for target in (5, [1]):
        with pytest.raises(ValueError, match=r"target must be one of the classes \[0, 1\]; got"):
            exact_nearest_neighbor_radius(knn, X, y, target=target)
    with pytest.raises(ValueError, match=r"target=1 must not be the label .* y\[1\] is"):
        certify_nearest_neighbors(knn, X, y, target=1)
    weighted = KNeighborsClassifier(3, weights="distance").fit(X, y)
    with pytest.raises(ValueError, match=r"weights='distance'.* is not supported"):
        exact_nearest_neighbor_radius(weighted, X, y)
