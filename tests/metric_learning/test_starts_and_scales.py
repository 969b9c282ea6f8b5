"""Starts that cannot be, features of very different scales, objectives of one's own."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.metric_learning import ProjectedSolver
from skrobust.objectives import CertificateObjective, MetricObjective, TripletObjective

X, Y = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("init", ["identity", "pca", "lda", np.eye(3), np.eye(1, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "data",
    [
        np.ones((30, 3)),
        np.eye(3)[np.arange(30) % 3],  # constant within classes
        np.repeat(RNG.standard_normal((10, 3)), 3, axis=0),  # all classes the same
        np.c_[np.ones((30, 2)), RNG.standard_normal(30)],
        np.tile(RNG.standard_normal((2, 3)), (15, 1)),
    ],
    ids=["constant", "within", "alike", "one feature", "two points"],
)
def test_degenerate_data_are_learned_from_or_refused(init, dtype, data):
    """No raw error from inside, no warning but of convergence, no weights that are not finite."""
    y = np.arange(30) % 3
    model, refused = RobustMahalanobis(init=init, max_iter=2, random_state=0), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(data.astype(dtype), y)
        except ValueError as error:
            refused = str(error)
    if refused is None:
        assert np.isfinite(model.components_).all()
    else:
        assert refused.startswith(("init=", "target_radius="))


def test_a_start_says_why_it_cannot_be():
    y = np.arange(30) % 3
    for init in ("lda", "pca"):
        with pytest.raises(ValueError, match=f"init='{init}' needs features that vary"):
            RobustMahalanobis(init=init).fit(np.ones((30, 3)), y)
    with pytest.raises(ValueError, match="init='lda' found no directions"):
        RobustMahalanobis(init="lda").fit(np.eye(3)[y], y)


@pytest.mark.parametrize("scale", [[1e6, 1, 1e-3, 1], [1e3, 1, 0.1, 1]])
def test_features_of_other_scales_end_a_convex_fit_early(scale):
    solver = ProjectedSolver(n_triplets=300)
    model = RobustMahalanobis(solver=solver, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"scale X first \(StandardScaler\)"):
        model.fit(X * scale, Y)
    assert model.solver_result_["status"] == "stalled"
    assert sum(r["n_iter"] for r in model.solver_result_["rounds"]) <= solver.max_iter / 2
    assert np.isfinite(model.components_).all()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(StandardScaler().fit_transform(X * scale), Y)
    assert model.solver_result_["status"] in ("converged", "start_is_best")
    assert all("scale X" not in str(w.message) for w in found)


class Own(MetricObjective):
    """An objective of a user, with an `__init__` of its own and no call of the base's."""

    def __init__(self, slope=1.0):
        self.slope = slope

    def value(self, components, X, anchors, neighbors, generator):
        near = X[neighbors.negatives[anchors][:, 0]] - X[anchors]
        size = torch.linalg.vector_norm(components)
        return -self.slope * torch.linalg.vector_norm(near @ components.T / size, dim=1).mean()


class Inherits(MetricObjective):
    """One without an `__init__`."""

    value = Own.value
    slope = 1.0


class Certificates(CertificateObjective):
    """One whose `__init__` does not call that of its parent."""

    def __init__(self, own=None):
        self.own = own


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "objective", [Own(2.0), Inherits(), Certificates(), TripletObjective()], ids=repr
)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"target_radius": 0.3},
        {"threat_model": ThreatModel(np.inf, mutable=[0, 2])},
        {"target_radius": 0.3, "threat_model": ThreatModel(1)},
    ],
    ids=repr,
)
def test_an_objective_of_ones_own_takes_what_the_fit_reads(objective, given):
    model = RobustMahalanobis(objective=objective, max_iter=2, random_state=0, **given).fit(X, Y)
    assert np.isfinite(model.components_).all()
    if "target_radius" in given:
        assert max(model.validation_curve_) <= 0.3
    assert getattr(objective, "target_radius", None) is None  # the one given is not changed


def test_what_an_objective_of_ones_own_lacks_is_named():
    with pytest.raises(ValueError, match="ProjectedSolver needs objectives with the method tripl"):
        RobustMahalanobis(objective=Own(), solver="projected").fit(X, Y)
    with pytest.raises(ValueError, match="AdamSolver needs objectives with the method value"):
        RobustMahalanobis(objective=MetricObjective(), solver="adam").fit(X, Y)
    with pytest.raises(ValueError, match="target_radius"):
        RobustMahalanobis(objective=Own(), target_radius=np.inf).fit(X, Y)
