"""Prototypes trained for their certified radius."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import load_digits
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import PGD, ExactNeighborAttack
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.metric_learning import AdamSolver, ProjectedSolver
from skrobust.neighbors import RobustPrototypeClassifier
from skrobust.neighbors._prototype_training import (
    PrototypeProblem,
    prototype_problem,
    start_prototypes,
)
from skrobust.objectives import PrototypeObjective
from skrobust.scorers import mean_certified_radius_scorer

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1::2], y[1::2]


def make(n_prototypes=20, **params):
    return RobustPrototypeClassifier(n_prototypes, **({"random_state": 0} | params))


def slow_bounds(points, labels, W, classes, G, scale, dual):
    """t(x) by the formula, over all prototypes."""
    found = []
    M = G.T @ G
    for x, c in zip(points, labels, strict=True):
        D = np.square((x - W) @ G.T).sum(1)
        best = []
        for j in np.flatnonzero(classes != c):
            values = []
            for i in np.flatnonzero(classes == c):
                norm = np.linalg.norm(scale * (M @ (W[i] - W[j])), dual)
                values.append((D[j] - D[i]) / (2 * norm))
            best.append(max(values))
        found.append(min(best))
    return np.array(found)


@pytest.mark.parametrize("dual", [1.0, 2.0, np.inf])
def test_the_bound_is_that_of_the_formula(dual):
    rng = np.random.default_rng(0)
    W, classes = rng.standard_normal((7, 4)), np.array([0, 0, 0, 1, 1, 2, 2])
    G, scale = rng.standard_normal((3, 4)), np.array([1.0, 0.5, 2.0, 0.0])
    points, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    tensors = [torch.from_numpy(a) for a in (W, classes, G, scale)]
    W_, classes_, G_, scale_ = tensors
    objective = PrototypeObjective(
        classes_, 1.0, (1e-6, 1e-7), scale_, dual=dual, n_candidates=(9, 9)
    )
    given = W_, G_, torch.from_numpy(points), torch.from_numpy(labels)
    found = objective.bounds(*given)
    expected = slow_bounds(points, labels, W, classes, G, scale, dual)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(objective.smooth_bounds(*given), expected, atol=1e-5)
    hinge = objective.value(*given)
    np.testing.assert_allclose(hinge, np.maximum(1 - expected, 0).mean(), atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(1)
    W, classes = torch.from_numpy(rng.standard_normal((6, 3))), torch.tensor([0, 0, 0, 1, 1, 1])
    G = torch.from_numpy(rng.standard_normal((2, 3)))
    points, labels = torch.from_numpy(rng.standard_normal((5, 3))), torch.tensor([0, 1, 0, 1, 0])
    objective = PrototypeObjective(classes, 1.0, (0.5, 0.1), n_candidates=(3, 3))
    # a temperature of its own for each batch has no gradient: compare at a fixed one
    unit = float(objective.bounds(W, G, points, labels).abs().median())

    def value(W, G):
        return objective.smooth_bounds(W, G, points, labels, unit=unit)

    assert torch.autograd.gradcheck(value, (W.requires_grad_(), G.requires_grad_()))


@pytest.mark.parametrize("learn_metric", [True, False])
def test_it_certifies_more_than_its_start_and_than_the_training_points(learn_metric):
    own = make(learn_metric=learn_metric).fit(X_train, y_train)
    assert own.prototypes_.shape == (200, 64)
    assert own.score(X_test, y_test) > 0.95
    some, names = X_test[:200], y_test[:200]
    radius = own.certify(some, names).radius.mean()
    start, labels = start_prototypes(X_train, y_train, 20, np.random.RandomState(0))
    for points, classes in ((start, labels), (X_train, y_train)):
        peer = KNeighborsClassifier(1).fit(points, classes)
        assert radius > 1.05 * exact_nearest_neighbor_radius(peer, some, names).radius.mean()
    assert own.validation_curve_[-1] > 0
    assert own.n_iter_ == len(own.loss_curve_) == len(own.validation_curve_) == 20


@pytest.mark.slow
def test_the_learned_metric_adds_to_the_prototypes():
    given = {"target_radius": 0.8, "max_iter": 10}
    with_metric = make(**given).fit(X_train, y_train).certify(X_test, y_test).radius.mean()
    without = make(learn_metric=False, **given).fit(X_train, y_train)
    np.testing.assert_array_equal(without.components_, np.eye(64))
    assert with_metric > without.certify(X_test, y_test).radius.mean()


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_invariants_under_all_norms(norm):
    """bound <= exact radius <= what attacks need, and predictions are those of the rule."""
    model = ThreatModel(norm, mutable=np.arange(5, 64))
    own = make(5, threat_model=model, max_iter=4).fit(X_train, y_train)
    some, labels = X_test[:40], y_test[:40]
    exact = own.certify(some, labels)
    bound = certify_nearest_neighbors(own, some, labels, threat_model=model).radius
    assert (bound <= exact.radius * (1 + 1e-9)).all()
    D = euclidean_distances(own.prototypes_ @ own.components_.T, some @ own.components_.T)
    np.testing.assert_array_equal(own.predict(some), own.prototype_labels_[D.argmin(0)])
    right = own.predict(some) == labels
    assert (exact.radius[~right] == 0).all()
    attack = ExactNeighborAttack(threat_model=model).run(own, some, labels)
    worked = attack.success & right
    assert worked.any()
    assert (attack.perturbation_norm[worked] >= exact.radius[worked] * (1 - 1e-9)).all()
    inside = clone(model).set_params(eps=float(np.median(exact.radius[right])))
    pgd = PGD(threat_model=inside, n_restarts=3, random_state=0).run(own, some, labels)
    safe = exact.radius > inside.eps
    assert not (pgd.success & safe & right).any()


@pytest.mark.slow
def test_training_for_a_norm_certifies_more_of_it():
    l_inf = ThreatModel(np.inf)
    own = make(10, threat_model=l_inf, max_iter=10).fit(X_train, y_train)
    other = make(10, max_iter=10).fit(X_train, y_train)
    given = {"threat_model": l_inf}
    assert (
        own.certify(X_test, y_test).radius.mean()
        > other.certify(X_test, y_test, **given).radius.mean()
    )


def test_pairs_that_cannot_be_turned_round_have_no_margin():
    """Prototypes that differ in immutable features alone: no radius of 1e15 of rounding."""
    rows = [(i, m, c) for c, i in ((0, 0), (1, 1)) for m in (-1, 0, 1)] * 30
    rows += [(0.5, m, int(m > 0)) for m in (-1, 0, 1)] * 20
    base = np.array(rows, dtype=float)
    own = make(100, threat_model=ThreatModel(mutable=[1]), max_iter=10)
    own.fit(base[:, :2], base[:, 2].astype(int))
    assert own.target_radius_ < 10
    assert max(own.loss_curve_) < 10


def test_offsets_and_units_do_not_matter():
    one = make(5, max_iter=3).fit(X_train, y_train)
    two = make(5, max_iter=3).fit(100 * X_train + 7, y_train)
    np.testing.assert_array_equal(one.predict(X_test), two.predict(100 * X_test + 7))
    np.testing.assert_allclose(two.prototypes_, 100 * one.prototypes_ + 7, rtol=1e-3, atol=1e-2)
    assert two.target_radius_ == pytest.approx(100 * one.target_radius_, rel=1e-4)


def test_more_prototypes_are_tried_as_long_as_they_pay():
    own = make("auto", max_iter=5).fit(X_train, y_train)
    counts = np.unique(own.prototype_labels_, return_counts=True)[1]
    assert counts.max() in (10, 20, 40, 80)
    easy, labels = make_blobs(300, centers=[[0, 0], [20, 0]], random_state=0)
    assert make("auto", max_iter=5).fit(easy, labels).prototypes_.shape == (20, 2)


@pytest.mark.parametrize("learn_metric", [True, False])
def test_the_held_out_points_judge_what_is_returned(learn_metric):
    """The score of the result is the mean bound of the prototypes that it stands for."""
    problem = prototype_problem(
        X_train,
        y_train,
        (X_test, y_test),
        np.eye(64)[:60],
        5,
        learn_metric=learn_metric,
        target_radius=0.8,
        temperature=(1.0, 0.5),
        budget=ThreatModel().resolve(64, None),
        device=torch.device("cpu"),
        seed=0,
        verbose=0,
        on_epoch_end=lambda problem, parameters: False,
    )
    result = AdamSolver(128, 4096, max_iter=4).solve(problem)
    assert result.score in result.validation_curve
    W, G = problem.points.split(torch.from_numpy(result.parameters))
    assert W.shape == (50, 64)
    assert G.shape == (60, 64)
    W, labels = W.double().numpy(), problem.points.objective.labels.numpy()
    bounds = slow_bounds(X_test[:50], y_test[:50], W, labels, G.double().numpy(), 1.0, 2)
    radii = problem.validation.radii(torch.from_numpy(result.parameters))
    np.testing.assert_allclose(radii[:50], np.clip(bounds, 0, 0.8), atol=1e-4)


def test_a_solver_of_ones_own():
    one = make(5, max_iter=2, solver=AdamSolver(32, None, learning_rate=0.01))
    assert one.fit(X_train, y_train).n_iter_ == 2
    assert one.get_params()["solver__learning_rate"] == 0.01
    with pytest.raises(ValueError, match="ProjectedSolver needs objectives with the method trip"):
        make(5, solver=ProjectedSolver()).fit(X_train, y_train)
    with pytest.raises(ValueError, match="'batch_size' parameter of AdamSolver"):
        make(5, solver=AdamSolver(0)).fit(X_train, y_train)


def test_text_labels_frames_pipelines_and_searches():
    frame = pd.DataFrame(X_train, columns=[f"p{k}" for k in range(64)])
    names = np.array(list("abcdefghij"))[y_train]
    own = make(5, max_iter=2).fit(frame, names)
    assert set(own.predict(frame)) <= set("abcdefghij")
    assert own.certify(frame[:5], names[:5]).radius.shape == (5,)
    scaled = make_pipeline(StandardScaler(), make(5, max_iter=2)).fit(frame, names)
    certificate = exact_nearest_neighbor_radius(scaled, frame[:5], names[:5])
    assert certificate.radius.max() > 0
    search = GridSearchCV(
        make(5, max_iter=2),
        {"target_radius": [0.3, 0.6]},
        scoring=mean_certified_radius_scorer(),
        cv=2,
        error_score="raise",
    ).fit(X_train, y_train)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X_test), search.predict(X_test))


def test_small_and_odd_data():
    """Duplicates, a class with one point, constant features, one class."""
    D, labels = load_iris(return_X_y=True)
    odd = np.c_[np.repeat(D[:60], 2, axis=0), np.ones(120)]
    classes = np.repeat(labels[:60], 2)
    classes[0] = 7
    own = make(4, max_iter=3).fit(odd, classes)
    assert set(own.prototype_labels_) == {0, 1, 7}
    assert (own.prototype_labels_ == 7).sum() == 1
    assert np.isfinite(own.prototypes_).all()
    one = make(3, max_iter=2).fit(D, np.zeros(150))
    assert np.isinf(one.certify(D[:3], np.zeros(3)).radius).all()
    same = make(3, max_iter=2).fit(np.ones((10, 2)), np.arange(10) % 2)
    assert (same.certify(np.ones((2, 2)), [0, 1]).radius == 0).all()


def test_an_interrupt_keeps_the_best(monkeypatch, capsys):
    calls = []
    original = PrototypeProblem.epoch

    def epoch(*args):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(PrototypeProblem, "epoch", epoch)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 2 epochs"):
        own = make(5, verbose=1).fit(X_train, y_train)
    assert own.n_iter_ == 2
    assert own.score(X_test, y_test) > 0.8
    assert capsys.readouterr().out.count("epoch") == 2


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_prototypes": 0}, "'n_prototypes' parameter"),
        ({"n_prototypes": "many"}, "'n_prototypes' parameter"),
        ({"n_components": 65}, "n_components=65 must be at most the number of features"),
        ({"target_radius": 0}, "'target_radius' parameter"),
        ({"temperature": (1.0, 0.0)}, "temperature must be a number > 0, or two"),
        ({"temperature": (1.0,)}, "temperature must be a number > 0, or two"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"threat_model": ThreatModel(mutable=[70])}, "mutable"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        make(**params).fit(X_train, y_train)


def test_bad_data_and_unfitted():
    with pytest.raises(ValueError, match="NaN"):
        make().fit(np.where(X_train == X_train[0, 3], np.nan, X_train), y_train)
    with pytest.raises(NotFittedError):
        make().predict(X)
    with pytest.raises(NotFittedError):
        make().certify(X)
    with pytest.raises(ValueError, match="X has 3 features"):
        make(3, max_iter=1).fit(X_train, y_train).predict(X[:, :3])


def test_an_array_after_a_frame_warns_of_the_public_class_alone():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = RobustPrototypeClassifier(2, max_iter=1, random_state=0).fit(X, y)
    for method in ("predict", "decision_function", "predict_proba", "certify"):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            getattr(model, method)(X.to_numpy()[:5])
        assert found
        assert {str(w.message).split(" was fitted")[0].split(" but ")[1] for w in found} == {
            "RobustPrototypeClassifier"
        }
