"""What a threat model returns satisfies it, on random models and points."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from sklearn.neighbors import KNeighborsClassifier
from threat_models import check_by_hand, models

from examples import examples
from skrobust import ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius


@examples(60)
@given(models())
def test_every_projected_point_satisfies_the_model(case):
    model, raw, wild, eps = case
    budget = model.resolve(raw.shape[1])
    budget.check_inside(raw)
    found = budget.project(raw, wild, eps)
    check_by_hand(model, raw, found, eps)
    np.testing.assert_array_equal(budget.project(raw, found, eps), found)
    np.testing.assert_array_equal(budget.project(raw, raw, eps), raw)
    np.testing.assert_array_equal(budget.project(raw, wild, 0.0), raw)


@examples(30)
@given(models())
def test_points_in_single_precision_satisfy_it_after_rounding(case):
    model, raw, wild, eps = case
    raw = raw.astype(np.float32).astype(float)
    model.set_params(outside="extend")
    budget = model.resolve(raw.shape[1])
    found = budget.project(raw, wild, eps, True)
    np.testing.assert_array_equal(found.astype(np.float32), found)
    check_by_hand(model, raw, found, eps)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("size", [1e3, 1e7, 1e9, 1e12])
def test_whole_numbers_stay_those_of_single_precision(norm, size):
    rng = np.random.default_rng(0)
    raw = np.rint(size * rng.standard_normal((40, 3))).astype(np.float32).astype(float)
    budget = ThreatModel(norm, integers=[0, 1]).resolve(3)
    n_moved = 0
    for eps in size * np.array([1e-9, 1e-6, 1e-3, 1.0]):
        wild = raw + 0.2 * eps * rng.standard_normal(raw.shape)
        found = budget.project(raw, wild, eps, True)
        np.testing.assert_array_equal(found.astype(np.float32), found)
        assert budget.satisfied(raw, found, eps).all()
        n_moved += (found[:, :2] != raw[:, :2]).any(axis=1).sum()
    assert n_moved >= 20


def test_the_budget_is_used_up():
    raw, wild = np.zeros((1, 2)), np.array([[30.0, 40.0]])
    found = ThreatModel(2).resolve(2).project(raw, wild, 5.0)
    np.testing.assert_allclose(found, [[3, 4]], rtol=1e-12)


def test_whole_numbers_and_categories_go_to_the_nearest_that_is_allowed():
    budget = ThreatModel(np.inf, integers=[0], one_hot=[[1, 2, 3]]).resolve(4)
    raw = np.array([[2.0, 1, 0, 0]])
    wild = np.array([[4.6, 0.2, 0.1, 0.9]])
    np.testing.assert_array_equal(budget.project(raw, wild, 3.0), [[5, 0, 0, 1]])
    np.testing.assert_array_equal(budget.project(raw, wild, 2.0), [[4, 0, 0, 1]])
    # too little for another category
    np.testing.assert_array_equal(budget.project(raw, wild, 0.9), raw)


def test_bounds_of_the_training_points():
    X = pd.DataFrame({"a": [1.0, 3.0], "kind": ["x", "y"], "b": [5, 2]})
    budget = ThreatModel().with_bounds_of(X).resolve(3, list(X.columns))
    np.testing.assert_array_equal(budget.lower, [1, -np.inf, 2])
    np.testing.assert_array_equal(budget.upper, [3, np.inf, 5])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"outside": "clip"}, "outside must be 'error' or 'extend'; got 'clip'"),
        ({"bounds": "data"}, "with_bounds_of"),
        ({"bounds": "train"}, "bounds='train' is not known"),
        ({"one_hot": [[0]]}, "groups of two columns or more"),
        ({"one_hot": [[0, 1], [1, 2]]}, "column 1 is in two"),
        ({"one_hot": [[0, 1]], "mutable": [0, 2]}, "all columns of a one-hot group or none"),
        ({"integers": [True]}, r"integers as a mask must have shape \(3,\)"),
        ({"increasing": [3]}, "increasing must hold positions below 3"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(**parameters).resolve(3)


def test_clean_points_that_break_the_model():
    X = np.array([[0.5, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"integers .* X\[0, 0\] is 0.5"):
        ThreatModel(integers=[0]).resolve(3).check_inside(X)
    with pytest.raises(ValueError, match=r"one_hot .* X\[0, \[0, 1\]\]"):
        ThreatModel(one_hot=[[0, 1]]).resolve(3).check_inside(X)
    with pytest.raises(ValueError, match="outside='extend'"):
        ThreatModel(bounds=(1, 2)).resolve(3).check_inside(X)
    ThreatModel(bounds=(1, 2), outside="extend").resolve(3).check_inside(X)


def test_certificates_of_features_that_may_only_grow():
    """In one dimension the answer is plain: only the point above can be reached."""
    knn = KNeighborsClassifier(1).fit([[0.0], [1.0], [4.0]], [1, 0, 1])
    point, label = [[1.0]], [0]
    assert exact_nearest_neighbor_radius(knn, point, label).radius == pytest.approx(0.5)
    growing = ThreatModel(increasing=[0])
    found = exact_nearest_neighbor_radius(knn, point, label, threat_model=growing)
    assert found.radius == pytest.approx(1.5)
    bound = certify_nearest_neighbors(knn, point, label, threat_model=growing)
    assert bound.radius[0] <= found.radius[0]


def test_the_exact_search_refuses_whole_numbers():
    knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    with pytest.raises(ValueError, match=r"integers and one_hot .* not searched exactly"):
        exact_nearest_neighbor_radius(knn, [[0]], [0], threat_model=ThreatModel(integers=[0]))


def test_a_point_outside_its_bounds_is_not_out_of_reach():
    """Bounds of one value, widened by the point itself: it may move to that value."""
    knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    threat = ThreatModel(bounds=(2.0, 2.0), outside="extend")
    for certify in (certify_nearest_neighbors, exact_nearest_neighbor_radius):
        assert certify(knn, [[0.5]], [0], threat_model=threat).radius[0] <= 0.5
    inside = ThreatModel(bounds=(0.5, 0.5))
    found = certify_nearest_neighbors(knn, [[0.5]], [0], threat_model=inside)
    assert found.radius[0] == np.inf


def test_a_category_of_whole_numbers_is_still_a_category():
    budget = ThreatModel(integers=[0, 1, 2], one_hot=[[0, 1, 2]]).resolve(3)
    raw, wild = np.array([[1.0, 0, 0]]), np.array([[0.6, 0.7, 0]])
    np.testing.assert_array_equal(budget.project(raw, wild, 3.0), [[0, 1, 0]])


def test_a_small_step_of_whole_numbers_becomes_one_unit():
    budget = ThreatModel(1, integers=[0, 1, 2]).resolve(3)
    raw, wild = np.zeros((1, 3)), np.array([[0.2, -0.4, 0.3]])
    np.testing.assert_array_equal(budget.project(raw, wild, 1.0), [[0, -1, 0]])
    np.testing.assert_array_equal(budget.project(raw, wild, 0.9), raw)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"bounds": 5}, ValueError, "bounds must be a pair"),
        ({"bounds": {"a": 3}}, ValueError, r"bounds\['a'\] must be a pair"),
        ({"bounds": ("a", "b")}, TypeError, r"bounds\[0\] must be made of numbers; got 'a'"),
        ({"feature_scale": "abc"}, TypeError, "feature_scale must be made of numbers"),
        ({"one_hot": 3}, TypeError, "one_hot must be a list of groups; got 3"),
        ({"norm": True}, ValueError, "norm must be 1, 2 or inf; got True"),
    ],
)
def test_wrong_kinds_name_the_parameter(parameters, error, message):
    with pytest.raises(error, match=message):
        ThreatModel(**parameters).resolve(3, ["a", "b", "c"])
