"""The projected and the cvxpy solver: the same optimum, with a proof; and what they refuse."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import nearest_neighbor_lower_bound
from skrobust.metric_learning import AdamSolver, CvxpySolver, ProjectedSolver
from skrobust.metric_learning._rounds import ProgramSolution
from skrobust.numerics import nearest_by_class
from skrobust.objectives import CertificateObjective, TargetRadiusProgram
from skrobust.scorers import mean_certified_radius_scorer

X, Y = load_wine(return_X_y=True)
X = MinMaxScaler().fit_transform(X)


def mined(seed, n_triplets, n_features, dual=2.0, scale=None, penalty="trace", radius=0.2):
    """Triplets of overlapping Gaussian classes."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, 3, n_triplets))
    X = rng.standard_normal((n_triplets, n_features))
    X[:, :3] += 3 * np.eye(3)[y]
    X = torch.from_numpy(X)
    ends = np.cumsum(np.bincount(y))
    slices = [slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    anchors = torch.arange(n_triplets)
    objective = CertificateObjective().prepare(n_features)
    eye = torch.eye(n_features, dtype=torch.float64)
    neighbors = nearest_by_class(X, slices, 10)
    triplets = objective.triplets(eye, X, anchors, neighbors, None)
    return TargetRadiusProgram.of(
        X,
        triplets,
        torch.full((n_triplets,), 1 / n_triplets, dtype=torch.float64),
        eye,
        radius=radius,
        regularization=0.05,
        dual=dual,
        scale=scale,
        penalty=penalty,
    )


@pytest.mark.parametrize("penalty", ["trace", "frobenius"])
@pytest.mark.parametrize("seed", range(5))
def test_both_reach_the_optimum(seed, penalty):
    program = mined(seed, 150, 8, penalty=penalty)
    projected = ProjectedSolver(tol=1e-4).solve_program(program)
    exact = CvxpySolver(backend="CLARABEL").solve_program(program)
    assert 0 <= projected.gap <= 1e-4
    assert exact.gap <= 1e-5
    assert projected.primal == pytest.approx(exact.primal, rel=1e-3)
    # the proofs of the two are proofs about each other
    assert projected.dual <= exact.primal * (1 + 1e-9)
    assert exact.dual <= projected.primal * (1 + 1e-9)
    assert torch.linalg.eigvalsh(projected.N)[0] > -1e-12
    assert 0.05 < exact.primal < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_both_reach_the_optimum_of_1000_triplets_in_30_dimensions(seed):
    program = mined(seed, 1000, 30)
    assert program.u.shape == (1000, 30)
    projected = ProjectedSolver(tol=1e-3).solve_program(program)
    found = CvxpySolver(backend="SCS").solve_program(program)
    assert projected.gap <= 1e-3
    assert found.gap <= 1e-3
    assert projected.primal == pytest.approx(found.primal, rel=1e-3)


@pytest.mark.parametrize("backend", ["CLARABEL", "SCS"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dual", [1.0, 2.0, np.inf])
def test_other_norms(dual, scaled, backend):
    scale = torch.linspace(0, 2, 5, dtype=torch.float64) if scaled else None
    program = mined(0, 80, 5, dual, scale, radius=0.1)
    projected = ProjectedSolver(tol=1e-3).solve_program(program)
    exact = CvxpySolver(backend=backend).solve_program(program)
    assert projected.gap <= 1e-3
    assert exact.gap <= 1e-3
    assert projected.primal == pytest.approx(exact.primal, rel=1e-3)


def test_another_regularisation_does_not_compile_again():
    program = mined(0, 60, 4)
    compiled = CvxpySolver.compile(program)
    first = compiled.solve("CLARABEL", {}, False)
    assert compiled.problem.is_dpp()
    compiled.strength.value = 3 * program.strength
    compiled.weight.value = np.where(np.arange(60) < 30, program.weight.numpy(), 0)
    chain = compiled.problem._cache.param_prog
    again = compiled.solve("CLARABEL", {}, False)
    assert compiled.problem._cache.param_prog is chain is not None
    assert again.primal < first.primal
    assert again.gap <= 1e-5


def test_one_norm_for_triplets_of_the_same_pair():
    program = mined(0, 60, 4)
    twice = TargetRadiusProgram(
        u=torch.cat([program.u, program.u]),
        e=torch.cat([program.e, program.e + 0.1]),
        weight=torch.cat([program.weight, program.weight]) / 2,
        basis=program.basis,
        radius=program.radius,
        strength=program.strength,
    )
    compiled = CvxpySolver.compile(twice)
    assert compiled._moved.size == len(np.unique(program.u, axis=0)) <= 60
    exact = compiled.solve("CLARABEL", {}, False)
    assert exact.gap <= 1e-5
    assert ProjectedSolver().solve_program(twice).primal == pytest.approx(exact.primal, rel=1e-3)


@pytest.mark.parametrize("solver", ["projected", "cvxpy"])
@pytest.mark.parametrize("objective", ["certificate", "triplet"])
def test_fit_reports_its_proof(solver, objective):
    metric = RobustMahalanobis(
        solver=solver, objective=objective, target_radius=0.1, random_state=0
    ).fit(X[::2], Y[::2])
    report = metric.solver_result_
    assert report["status"] == "converged"
    assert 0 <= report["gap"] <= 1e-3
    assert report["dual"] <= report["primal"]
    assert report["target_radius"] == 0.1
    assert len(report["rounds"]) == metric.n_iter_ == len(metric.loss_curve_)
    assert metric.components_.shape == (report["rank"], 13)
    again = RobustMahalanobis(
        solver=solver, objective=objective, target_radius=0.1, random_state=0
    ).fit(X[::2], Y[::2])
    np.testing.assert_array_equal(metric.components_, again.components_)


def test_it_learns():
    """The hinge at .2 on breast cancer: more points certified there than by the Euclidean."""
    X, y = load_breast_cancer(return_X_y=True)
    X = MinMaxScaler().fit_transform(X)
    train = np.arange(len(X)) % 3 > 0
    metric = RobustMahalanobis(solver="projected", target_radius=0.2, random_state=0)
    metric.fit(X[train], y[train])

    def certified(G):
        found = nearest_neighbor_lower_bound(X[train], y[train], X[~train], y[~train], components=G)
        return found.certified(0.2).mean()

    assert certified(metric.components_) > certified(None) + 0.1


def test_max_iter_is_the_number_of_rounds():
    model = RobustMahalanobis(solver="projected", target_radius=0.1, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert model.fit(X, Y).n_iter_ == 2


def test_low_rank():
    for solver in ("projected", "cvxpy"):
        metric = RobustMahalanobis(3, init="pca", solver=solver, random_state=0).fit(X, Y)
        assert metric.components_.shape[0] <= 3
        assert metric.solver_result_["rounds"][-1]["dimension"] == 3


def test_a_target_radius_that_is_too_large():
    for solver in (
        ProjectedSolver(penalty="trace"),
        CvxpySolver(penalty="trace"),
        "projected",
        "cvxpy",
    ):
        with pytest.raises(ValueError, match=r"target_radius=50 is too large.*tr\(M\)"):
            RobustMahalanobis(solver=solver, target_radius=50, random_state=0).fit(X, Y)


def test_noise_keeps_the_start_and_says_so():
    rng = np.random.default_rng(0)
    with pytest.warns(ConvergenceWarning, match="The initial metric is kept"):
        metric = RobustMahalanobis(solver="projected", random_state=0).fit(
            rng.standard_normal((60, 5)), np.arange(60) % 3
        )
    np.testing.assert_array_equal(metric.components_, np.eye(5))


def test_what_is_not_proved_is_warned_of():
    program = mined(0, 100, 6)
    for n_iter in (3, 45):
        found = ProjectedSolver(max_iter=n_iter, tol=1e-9).solve_program(program)
        assert found.status == "max_iter"
        assert found.n_iter == n_iter
        assert found.gap > 1e-9
        assert found.primal < 1
    short = [
        ProjectedSolver(max_iter=30, n_rounds=2),
        CvxpySolver(backend="SCS", options={"max_iters": 5}, n_rounds=2),
    ]
    for solver in short:
        metric = RobustMahalanobis(
            solver=solver, target_radius=0.1, validation_fraction=0, random_state=0
        )
        with pytest.warns(ConvergenceWarning, match="relative duality gap is .* larger max_iter"):
            metric.fit(X, Y)
        assert metric.solver_result_["status"] == "not_proved"
        assert metric.solver_result_["gap"] > 1e-3


def test_the_gap_is_that_of_the_metric_that_is_kept():
    for seed in range(4):
        metric = RobustMahalanobis(solver="projected", target_radius=0.2, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            metric.fit(X, Y)
        report = metric.solver_result_
        number = report["best_round"]
        expected = report["rounds"][number - 1]["gap"] if number else None
        assert report["gap"] == expected
        if number:
            trace = float(np.trace(metric.get_mahalanobis_matrix()))
            assert trace == pytest.approx(report["rounds"][number - 1]["trace"], rel=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e3, 1e12])
def test_the_units_of_x_do_not_matter(size):
    for solver in (ProjectedSolver(n_rounds=1), CvxpySolver(n_rounds=1)):
        found = []
        for factor in (1, size):
            metric = RobustMahalanobis(
                solver=solver, target_radius=0.1 * factor, validation_fraction=0, random_state=0
            ).fit(factor * X, Y)
            found.append(metric.get_mahalanobis_matrix() * factor**2)
        assert metric.solver_result_["gap"] <= 1e-3
        np.testing.assert_allclose(*found, atol=2e-2 * np.abs(found[0]).max())


def test_one_outlier_does_not_rule():
    far = np.vstack([X, np.full(13, 100.0)])
    metric = RobustMahalanobis(solver="projected", target_radius=0.1, random_state=0)
    assert metric.fit(far, np.r_[Y, 0]).solver_result_["best_round"] > 0


def test_the_span_of_the_start_is_kept():
    start = np.eye(13)[[0, 0, 6]]
    metric = RobustMahalanobis(
        init=start, solver="projected", validation_fraction=0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        G = metric.fit(X, Y).components_
    assert G.shape[0] <= 2
    assert not np.delete(G, [0, 6], axis=1).any()


def test_a_warm_start_takes_its_own_result():
    metric = RobustMahalanobis(
        3, init="pca", solver=ProjectedSolver(n_rounds=1), warm_start=True, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        metric.fit(X, Y).fit(X, Y)


def test_a_gap_that_is_not_a_number_proves_nothing():
    zero = torch.zeros(1, 1)
    assert ProgramSolution(zero, zero, zero, 1.0, float("nan"), 1, "").gap == float("inf")


def test_a_backend_that_fails(monkeypatch):
    import cvxpy as cp

    program = mined(0, 20, 3)

    def fail(*args, **kwargs):
        raise cp.error.SolverError("out of luck.")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    with pytest.raises(RuntimeError, match=r"backend='CLARABEL' failed: out of luck.*projected"):
        CvxpySolver().solve_program(program)
    monkeypatch.setattr(cp.Problem, "solve", lambda *args, **kwargs: None)
    with pytest.raises(RuntimeError, match="returned no solution"):
        CvxpySolver().solve_program(program)


def test_missing_backend(monkeypatch):
    import cvxpy

    program = mined(0, 20, 3)
    monkeypatch.setattr(cvxpy, "installed_solvers", lambda: ["SCS"])
    with pytest.raises(ImportError, match="backend='CLARABEL' is not installed"):
        CvxpySolver().solve_program(program)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (ProjectedSolver(penalty="l1"), "'penalty' parameter of ProjectedSolver must be"),
        (ProjectedSolver(regularization=0), "'regularization' parameter of ProjectedSolver"),
        (ProjectedSolver(n_rounds=1.5), "'n_rounds' parameter of ProjectedSolver must be an int"),
        (ProjectedSolver(tol=-1), "'tol' parameter of ProjectedSolver must be a float"),
        (ProjectedSolver(max_iter=0), "'max_iter' parameter of ProjectedSolver"),
        (CvxpySolver(n_triplets=0), "'n_triplets' parameter of CvxpySolver must be an int"),
        (CvxpySolver(backend="ECOS"), "'backend' parameter of CvxpySolver must be a str among"),
        (CvxpySolver(options=[1]), "'options' parameter of CvxpySolver"),
        (CvxpySolver(options={"foo": 1}), "options={'foo': 1} are not options of"),
        (AdamSolver(batch_size=0), "'batch_size' parameter of AdamSolver"),
        (AdamSolver(epoch_size=0), "'epoch_size' parameter of AdamSolver must be an int"),
        (AdamSolver(max_iter=2.5), "'max_iter' parameter of AdamSolver must be an int"),
        (AdamSolver(tol=-1), "'tol' parameter of AdamSolver must be a float"),
        (AdamSolver(learning_rate="a"), "'learning_rate' parameter of AdamSolver"),
        (AdamSolver(n_iter_no_change=0), "'n_iter_no_change' parameter of AdamSolver"),
    ],
)
def test_bad_parameters(solver, message):
    with pytest.raises(ValueError, match=message):
        RobustMahalanobis(solver=solver, target_radius=0.1).fit(X, Y)


def test_ctrl_c_keeps_the_rounds_so_far():
    def interrupt(n_iter, loss, components):
        if n_iter == 2:
            raise KeyboardInterrupt

    metric = RobustMahalanobis(
        solver="projected", target_radius=0.1, random_state=0, callback=interrupt
    )
    with pytest.warns(ConvergenceWarning, match="Interrupted after 2"):
        metric.fit(X, Y)
    assert metric.components_.any()


def test_verbose(capsys):
    RobustMahalanobis(solver="projected", verbose=1, random_state=0).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "gap" in lines[0]


def test_grid_search():
    model = make_pipeline(
        RobustMahalanobis(objective=CertificateObjective(), max_iter=3, random_state=0),
        KNeighborsClassifier(1),
    )
    grid = [
        {
            "robustmahalanobis__objective__temperature": [0.1, (1.0, 0.05)],
            "robustmahalanobis__solver": ["adam"],
        },
        {
            "robustmahalanobis__solver": ["projected", CvxpySolver(n_rounds=1)],
            "robustmahalanobis__target_radius": [0.05, 0.1],
        },
    ]
    search = GridSearchCV(model, grid, scoring=mean_certified_radius_scorer(), cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X[::2], Y[::2])
    assert len(search.cv_results_["mean_test_score"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_threat_model():
    threat = ThreatModel(np.inf, feature_scale=[2] * 6 + [1] * 7, mutable=list(range(10)))
    for solver in ("projected", "cvxpy"):
        metric = RobustMahalanobis(solver=solver, threat_model=threat, random_state=0)
        metric.fit(X[::2], Y[::2])
        assert metric.solver_result_["gap"] <= 1e-3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda():
    program = mined(0, 100, 6)
    cpu = ProjectedSolver(tol=1e-4).solve_program(program)
    cuda = ProjectedSolver(tol=1e-4).solve_program(program.to(torch.device("cuda")))
    assert cuda.primal == pytest.approx(cpu.primal, rel=1e-3)
