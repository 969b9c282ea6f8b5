"""Exact 1-NN radii: against cvxpy, on degenerate and real data, under every threat model."""

import warnings

import numpy as np
import pandas as pd
import polars
import pytest
from oracles import KINDS, problems
from shared_data import load_digits
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.metric_learning import AdamSolver

NORMS = (1, 2, np.inf)


def metric_pipeline(G, X_train, y_train):
    """Return 1-NN under the metric GᵀG, fitted."""
    metric = RobustMahalanobis()
    metric.components_, metric.n_features_in_ = G, G.shape[1]
    model = make_pipeline(FrozenEstimator(metric), KNeighborsClassifier(1))
    return model.fit(X_train, y_train)


def reference(cp, X_train, y_train, x, label, G, budget):
    """The least norm over all negatives, each program solved by Clarabel."""
    M, movable = G.T @ G, budget.scale > 0
    scale, positives = budget.scale[movable], X_train[y_train == label]
    lower = (budget.lower - x)[movable] / scale
    upper = (budget.upper - x)[movable] / scale
    best = np.inf
    for x_j in X_train[y_train != label]:
        eta = cp.Variable(len(scale))
        C = 2 * ((positives - x_j) @ M)[:, movable] * scale
        h = np.einsum("ij,jk,ik->i", x - positives, M, x - positives)
        constraints = [C @ eta <= h - (x - x_j) @ M @ (x - x_j)]
        for end, sign in ((upper, 1), (-lower, -1)):
            finite = np.isfinite(end)
            if finite.any():
                constraints.append(sign * eta[np.flatnonzero(finite)] <= end[finite])
        problem = cp.Problem(cp.Minimize(cp.norm(eta, budget.norm)), constraints)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve("CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        if problem.status.startswith("optimal"):
            best = min(best, problem.value)
    return best


def random_problem(seed):
    rng = np.random.default_rng(seed)
    X_train, y_train, X, y = problems(rng, KINDS[seed % 6], 14, 4, n_classes=2 + seed % 2)
    G = (np.eye(4), rng.standard_normal((4, 4)), rng.standard_normal((2, 4)))[(seed // 3) % 3]
    parameters = {}
    if seed % 2:
        parameters["feature_scale"] = rng.uniform(0.2, 3, 4)
    if (seed // 2) % 3 == 1:
        parameters["mutable"] = [0, 2, 3]
    if (seed // 4) % 2:
        every = np.vstack([X, X_train])
        parameters["bounds"] = (every.min(0) - 0.1, every.max(0) + 0.1)
    if (seed // 8) % 3 == 2:
        parameters["bounds"] = (X.min(0) - 0.05, X.max(0) + 0.05)
    return X_train, y_train, X, y, G, ThreatModel(NORMS[seed % 3], **parameters)


def check_problem(seed):
    cp = pytest.importorskip("cvxpy")
    X_train, y_train, X, y, G, threat = random_problem(seed)
    model = metric_pipeline(G, X_train, y_train)
    budget = threat.resolve(4)
    found = exact_nearest_neighbor_radius(model, X, y, threat_model=threat)
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat)
    assert (bound.radius <= found.radius * (1 + 1e-9)).all(), seed
    assert (found.radius <= found.upper).all()
    right = model.predict(X) == y
    np.testing.assert_array_equal(found.correct, right)
    for k in range(len(X)):
        expected = reference(cp, X_train, y_train, X[k], y[k], G, budget) if right[k] else 0.0
        if np.isinf(expected):
            # nothing changes the prediction, as far as is proved
            assert found.radius[k] > 1e3
            continue
        assert found.radius[k] == pytest.approx(expected, rel=1e-6, abs=1e-8)
        assert found.radius[k] <= expected * (1 + 1e-7) + 1e-9
        if found.status[k] == "exact":
            assert found.upper[k] == pytest.approx(expected, rel=1e-3)
        elif found.status[k] == "certified":
            # only where a training point lies in two classes
            assert KINDS[seed % 6] in ("duplicates", "ties")
    flipped = np.isfinite(found.upper) & right
    adversarial = X + found.perturbation
    assert (model.predict(adversarial)[flipped] != y[flipped]).all()
    np.testing.assert_array_equal(
        model.predict(adversarial)[flipped], found.adversarial_label[flipped]
    )
    np.testing.assert_allclose(budget.size(found.perturbation)[flipped], found.upper[flipped])
    assert (adversarial >= budget.lower).all()
    assert (adversarial <= budget.upper).all()
    assert (found.perturbation[:, budget.scale == 0] == 0).all()


@pytest.mark.parametrize("seed", range(25))
def test_equals_cvxpy(seed):
    """100 points; 600 in the slow test below."""
    check_problem(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(25, 175, 25))
def test_equals_cvxpy_on_hundreds_of_points(start):
    for seed in range(start, start + 25):
        check_problem(seed)


@pytest.fixture(scope="module", params=["plain", "learned"])
def digits_model(request):
    """1-NN on digits, with and without a learned metric, and points for it."""
    X, y = load_digits(return_X_y=True)
    X_train, X, y_train, y = train_test_split(X / 16, y, test_size=40, random_state=0)
    model = KNeighborsClassifier(1)
    if request.param == "learned":
        metric = RobustMahalanobis(solver=AdamSolver(tol=0.02, n_iter_no_change=3), random_state=0)
        model = make_pipeline(metric, model)
    return model.fit(X_train, y_train), X, y


@pytest.mark.parametrize("norm", NORMS)
def test_digits_have_exact_radii_above_the_bound(digits_model, norm):
    model, X, y = digits_model
    threat = ThreatModel(norm, bounds=(0, 1) if norm == np.inf else None)
    found = exact_nearest_neighbor_radius(model, X, y, threat_model=threat)
    bound = certify_nearest_neighbors(model, X, y, threat_model=threat)
    right = model.predict(X) == y
    assert set(found.status) <= {"exact", "misclassified"}
    assert (bound.radius[right] <= found.radius[right] * (1 + 1e-9)).all()
    assert 0.8 < bound.radius[right].mean() / found.radius[right].mean() < 0.999
    assert (model.predict(X + found.perturbation)[right] != y[right]).all()
    # just inside the radius nothing flips
    assert (model.predict(X + 0.9999 * found.perturbation)[right] == y[right]).all()


def test_closed_form():
    """One point of each class: the distance to the bisector, by the dual norm."""
    knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 2.0]], [0, 1])
    for norm, dual in ((1, 4.0), (2, np.sqrt(20)), (np.inf, 6.0)):
        found = exact_nearest_neighbor_radius(
            knn, [[0.0, 0.0]], [0], threat_model=ThreatModel(norm)
        )
        assert found.radius[0] == pytest.approx(20 / (2 * dual))
    tight = ThreatModel(1, bounds=(-1, [1.5, 9]))
    found = exact_nearest_neighbor_radius(knn, [[0.0, 0.0]], [0], threat_model=tight)
    assert found.radius[0] == pytest.approx(1.5 + 2)  # 4 δ₁ + 2 δ₂ = 10 with δ₁ ≤ 1.5


def test_immutable_features_and_data_frames():
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    names = list(frame.columns)
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1)).fit(frame[:400], target[:400])
    rest, y = frame[400:420], target[400:420]
    spread = (frame.max() - frame.min()).to_dict()
    threat = ThreatModel(np.inf, feature_scale=spread, mutable=names[:15])
    found = exact_nearest_neighbor_radius(model, rest, y, threat_model=threat)
    right = found.correct
    assert (found.perturbation[:, 15:] == 0).all()
    assert (found.status[right] == "exact").all()
    moved = rest + found.perturbation
    assert (model.predict(moved)[right] != y[right]).all()
    everything = ThreatModel(np.inf, feature_scale=spread)
    smaller = exact_nearest_neighbor_radius(model, rest, y, threat_model=everything)
    assert (smaller.radius[right] < found.radius[right]).all()
    same = exact_nearest_neighbor_radius(
        model, polars.DataFrame(rest.to_numpy(), schema=names), y, threat_model=threat
    )
    np.testing.assert_allclose(same.radius, found.radius, rtol=1e-9)


def test_nothing_can_be_changed():
    knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 2.0]], [0, 1])
    for threat in (ThreatModel(mutable=[]), ThreatModel(np.inf, bounds=([0, 0], [1, 1]))):
        found = exact_nearest_neighbor_radius(knn, [[0.0, 0.0]], [0], threat_model=threat)
        assert found.status[0] == "unreachable"
        assert np.isinf(found.upper[0])
        np.testing.assert_array_equal(found.perturbation, 0)


@pytest.mark.parametrize("offset", [0, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_flip_just_inside_the_radius_where_the_victim_rounds(offset, dtype):
    rng = np.random.default_rng(0)
    X_train, y_train, X, y = problems(rng, "random", 80, 40)
    X_train, X = (offset + X_train).astype(dtype), (offset + X).astype(dtype)
    for model in (
        KNeighborsClassifier(1, algorithm="brute"),
        make_pipeline(StandardScaler(), KNeighborsClassifier(1)),
    ):
        model.fit(X_train, y_train)
        found = exact_nearest_neighbor_radius(model, X, y)
        inside = found.radius > 0
        direction = found.perturbation / np.where(found.upper == 0, 1, found.upper)[:, None]
        moved = X + 0.9999 * found.radius[:, None] * np.nan_to_num(direction)
        assert (model.predict(moved)[inside] == y[inside]).all()


def test_a_row_does_not_depend_on_its_batch():
    X_train, y_train, X, y = problems(np.random.default_rng(2), "random", 100, 20)
    knn = KNeighborsClassifier(1).fit(X_train, y_train)
    whole = exact_nearest_neighbor_radius(knn, X, y)
    for i in range(len(X)):
        one = exact_nearest_neighbor_radius(knn, X[[i]], y[[i]])
        assert one.radius[0] == whole.radius[i]
        np.testing.assert_array_equal(one.perturbation[0], whole.perturbation[i])


def test_unseen_labels_one_class_and_text():
    knn = KNeighborsClassifier(1).fit([[0.0], [1.0]], ["a", "a"])
    found = exact_nearest_neighbor_radius(knn, [[0.0], [0.0]], ["a", "z"])
    assert found.status.tolist() == ["unreachable", "misclassified"]
    assert found.radius.tolist() == [np.inf, 0]
    assert found.upper.tolist() == [np.inf, 0]
    both = KNeighborsClassifier(1).fit([[0.0], [0.0], [1.0]], ["a", "b", "b"])
    tie = exact_nearest_neighbor_radius(both, [[0.0]], ["a"])
    assert tie.status[0] == "numerical_tie"
    assert tie.radius[0] == 0


def test_bad_input():
    X, y = np.random.default_rng(0).random((20, 2)), np.arange(20) % 2
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(ValueError, match="rtol must be finite and >= 0; got -1"):
        exact_nearest_neighbor_radius(knn, X, y, rtol=-1)
    with pytest.raises(TypeError, match=r"rtol must be a (single )?real"):
        exact_nearest_neighbor_radius(knn, X, y, rtol="a")
    with pytest.raises(ValueError, match="norm must be 1, 2 or inf; got 3"):
        exact_nearest_neighbor_radius(knn, X, y, threat_model=ThreatModel(3))
    with pytest.raises(ValueError, match="bounds must hold for the clean points"):
        exact_nearest_neighbor_radius(knn, X + 5, y, threat_model=ThreatModel(bounds=(0, 1)))
    frame = pd.DataFrame(X, columns=["a", "b"])
    named = KNeighborsClassifier(1).fit(frame, y)
    with pytest.raises(ValueError, match="lacks the features"):
        exact_nearest_neighbor_radius(named, frame[["a"]], y)


def test_explain_names_what_moves():
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1)).fit(frame[:400], target[:400])
    rest, y = frame[400:410], target[400:410]
    spread = (frame.max() - frame.min()).to_dict()
    threat = ThreatModel(1, feature_scale=spread, mutable=list(frame.columns[:12]))
    found = exact_nearest_neighbor_radius(model, rest, y, threat_model=threat)
    for row in np.flatnonzero(found.correct):
        moves = found.explain(row)
        assert 0 < len(moves) <= 12
        costs = [abs(change) / spread[name] for name, change in moves]
        assert costs == sorted(costs, reverse=True)
        assert sum(costs) == pytest.approx(found.upper[row])
        # applied in the units of the data they change the prediction
        moved = rest.iloc[[row]].copy()
        for name, change in moves:
            moved[name] += change
        assert model.predict(moved)[0] == found.adversarial_label[row] != y.iloc[row]
    plain = KNeighborsClassifier(1).fit(frame[:400].to_numpy(), target[:400])
    unnamed = exact_nearest_neighbor_radius(plain, rest.to_numpy(), y)
    assert unnamed.explain(0)[0][0].startswith("x")
    with pytest.raises(ValueError, match="explain needs perturbations"):
        certify_nearest_neighbors(plain, rest.to_numpy(), y).explain(0)


@pytest.mark.parametrize("norm", NORMS)
def test_one_direction(norm):
    """Only the cells of the target's points count, against all others."""
    X_train = np.array([[0.0], [1.0], [3.0]])
    knn = KNeighborsClassifier(1).fit(X_train, ["a", "b", "c"])
    threat = ThreatModel(norm)
    anywhere = exact_nearest_neighbor_radius(knn, [[0.0]], ["a"], threat_model=threat)
    to_c = exact_nearest_neighbor_radius(knn, [[0.0]], ["a"], threat_model=threat, target="c")
    assert anywhere.radius[0] == pytest.approx(0.5)
    assert to_c.radius[0] == pytest.approx(2.0)
    assert (anywhere.adversarial_label[0], to_c.adversarial_label[0]) == ("b", "c")
    bound = certify_nearest_neighbors(knn, [[0.0]], ["a"], threat_model=threat, target="c")
    assert 1.5 <= bound.radius[0] <= to_c.radius[0]
    wrong = exact_nearest_neighbor_radius(knn, [[0.9]], ["a"], target="c")
    assert wrong.status[0] == "misclassified"
    assert wrong.radius[0] == 0
    assert wrong.upper[0] == np.inf  # it is predicted "b": nothing reaches "c" at 0
    reached = exact_nearest_neighbor_radius(knn, [[2.9]], ["a"], target="c")
    assert reached.radius[0] == reached.upper[0] == 0
