"""What convex solvers share: rounds of mining triplets and solving the program on them."""

import math
import time
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import torch

from skrobust.metric_learning._best_iterate import BestIterate
from skrobust.metric_learning._problem import MetricProblem, ValidationSet
from skrobust.metric_learning._solver import Solver, SolverResult
from skrobust.numerics import nearest_by_class
from skrobust.objectives import PENALTIES, TargetRadiusProgram, Triplets
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["ConvexSolver", "ProgramSolution"]

# less than this share of the loss of M = 0 is nothing gained
_VANISHED = 1e-3
_SPREAD = 100.0  # scales of features that differ more are named as a cause


@dataclass(frozen=True, eq=False)
class ProgramSolution:
    """A solution of a :class:`~skrobust.objectives.TargetRadiusProgram`, with its proof.

    Attributes
    ----------
    N : Tensor of shape (k, k)
        Positive semidefinite, in the program's basis.
    alpha : Tensor of shape (n_triplets,)
    w : Tensor of shape (n_triplets, ...)
        The dual point.
    primal, dual : float
        P(N), and the lower bound of the minimum that the dual point proves.
    n_iter : int
    status : str
        "optimal", or what the solver says instead.
    """

    N: torch.Tensor
    alpha: torch.Tensor
    w: torch.Tensor
    primal: float
    dual: float
    n_iter: int
    status: str

    @property
    def gap(self) -> float:
        """The relative duality gap, at least 0; inf where a side is not finite."""
        if not math.isfinite(self.primal - self.dual):
            return math.inf
        return max(0.0, self.primal - self.dual) / max(abs(self.primal), 1e-300)


class ConvexSolver(Solver):
    """Base class: mine triplets under the metric of the moment, solve their program, repeat.

    A subclass solves one program, in :meth:`solve_program`. Triplets whose hinge is 0 at a
    solution leave the set, newly mined ones join it.

    Parameters
    ----------
    regularization : float
        λ without units (see :meth:`~skrobust.objectives.TargetRadiusProgram.of`).
    penalty : {"trace", "frobenius"}
    n_rounds : int
        Times that triplets are mined.
    n_triplets : int
        Anchors that are mined a round.
    """

    required_methods: ClassVar[tuple[str, ...]] = ("triplets",)
    steps_parameter: ClassVar[str] = "n_rounds"
    changes_rank: ClassVar[bool] = True
    _remedy: ClassVar[str] = "another target_radius or regularization"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "penalty": [StrOptions(set(PENALTIES))],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_triplets": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }

    regularization: float
    penalty: str
    n_rounds: int
    n_triplets: int
    tol: float

    def check(self, objective: Any) -> None:
        """Check the parameters, and that the objective has triplets and the hinge.

        Parameters
        ----------
        objective : MetricObjective

        Raises
        ------
        ValueError
            If a parameter is not as described, or the objective does not fit.
        """
        super().check(objective)
        if objective.loss not in (None, "hinge"):
            raise ValueError(
                f"loss={objective.loss!r} is not for {type(self).__name__}, which has the hinge "
                "only; use loss=None or solver='adam'."
            )

    def solve_program(self, program: TargetRadiusProgram, verbose: int = 0) -> ProgramSolution:
        """Minimise one program."""
        raise NotImplementedError

    def solve(self, problem: MetricProblem) -> SolverResult:
        """Return the best round's metric.

        Parameters
        ----------
        problem : MetricProblem
        """
        radius = self._radius(problem)
        chosen, least_radius = problem.objective.target_radius is None, radius / 8
        best = BestIterate(problem.parameters, problem.validation, 0.0)
        loss_curve: list[float] = []
        rounds: list[dict[str, Any]] = []
        components, kept, status = problem.parameters, _nothing(problem), "converged"
        try:
            for n_round in range(1, self.n_rounds + 1):
                started = time.perf_counter()
                # triplets that are still active, and new ones under the metric of the moment
                triplets = _merge(kept, self._mine(problem, components))
                program = self._program(problem, triplets, radius)
                mined = time.perf_counter()
                solution = self.solve_program(program, problem.verbose)
                # a radius that was chosen here is halved, up to three times, where M = 0 is best
                while chosen and _vanished(program, solution) and radius > least_radius:
                    radius /= 2
                    program = replace(program, radius=radius / program.unit)
                    solution = self.solve_program(program, problem.verbose)
                losses = program.losses(solution.N)
                times = {
                    "mine_seconds": mined - started,
                    "solve_seconds": time.perf_counter() - mined,
                }
                G = program.components(solution.N)
                rounds.append(_describe(program, solution, losses, G) | times)
                if _vanished(program, solution):
                    status = "vanished"
                    break
                components = G.to(problem.parameters)
                loss_curve.append(solution.primal / program.value_of_zero)
                status = "stalled" if solution.status == "stalled" else "converged"
                # without held-out points the last round stands
                best.offer(components, solution.primal if problem.validation else -n_round)
                if problem.verbose:
                    print(f"round {n_round}  {_line(rounds[-1])}")  # noqa: T201
                if problem.ends(n_round, loss_curve[-1], components, best):
                    status = "callback"
                    break
                if status == "stalled":
                    break  # another round would not get further
                # a triplet without a loss does not shape the solution: it makes room for others
                active = losses > 0
                kept = Triplets(*(index[active.to(index.device)] for index in triplets))
        except KeyboardInterrupt:
            status = "interrupted"
        # what is reported on top is the proof of the round that is kept
        number = best.chosen.number
        report: dict[str, Any] = dict.fromkeys(("primal", "dual", "gap"))
        if number:
            report = rounds[number - 1]
            if status == "converged" and report["gap"] > self.tol:
                status = "not_proved"
        info = report | {
            "best_round": number,
            "target_radius": radius,
            "radius_was_chosen": chosen,
            "rounds": rounds,
        }
        return self._result(best, loss_curve, status, info)

    def _warning(self, status: str, n_iter: int, info: dict[str, Any]) -> str | None:
        if status == "vanished":
            message = (
                f"target_radius={info['target_radius']:.6g} is too large: it is proved that no "
                "metric does better than M = 0 by a thousandth (tr(M) = "
                f"{info['rounds'][-1]['trace']:.1e}). Lower target_radius, or the solver's "
                "regularization."
            )
            if n_iter == 0 and not info["radius_was_chosen"]:
                raise ValueError(message)
            what = "best round before" if info["best_round"] else "initial metric"
            return f"{message} The {what} is kept."
        if status == "stalled":
            last = info["rounds"][-1]
            cause = ""
            if last["spread"] > _SPREAD:
                cause = (
                    f" Features differ in scale by a factor of {last['spread']:.0e}: scale X first "
                    "(StandardScaler)."
                )
            return (
                f"The convex program does not converge: after {last['n_iter']} iterations its "
                f"relative duality gap is {last['gap']:.1e} (wanted: {self.tol:.0e}), and hardly "
                f"falls.{cause} The metric of this round is judged as it is; solver='adam' may do "
                "better."
            )
        if status == "not_proved":
            return (
                f"The relative duality gap is {info['gap']:.1e} (wanted: {self.tol:.0e}; status "
                f"{info['solver_status']!r}): the metric may be far from the optimum. Give "
                "solver=ProjectedSolver(...) with a larger max_iter, tol or regularization, or "
                "CvxpySolver(...) with another backend."
            )
        return super()._warning(status, n_iter, info)

    def _radius(self, problem: MetricProblem) -> float:
        """Return the target radius; without one, the median bound under the start's metric.

        One that was chosen here is halved, up to three times, where M = 0 is best for it.
        """
        if problem.objective.target_radius is not None:
            return float(problem.objective.target_radius)
        anchors = problem.sample(self.n_triplets).sort().values
        judge = ValidationSet(
            problem.X, problem.class_slices, anchors, problem.n_candidates, problem.objective
        )
        bounds = judge.bounds(problem.parameters)
        bounds = bounds[torch.isfinite(bounds) & (bounds > 0)]
        if len(bounds) == 0:
            raise ValueError(
                "target_radius=None takes the median certified radius of the training points, but "
                "under the initial metric none has one. Give target_radius, or another init."
            )
        return float(bounds.median())

    def _mine(self, problem: MetricProblem, components: torch.Tensor) -> Triplets:
        anchors = problem.sample(self.n_triplets).to(problem.X.device)
        neighbors = nearest_by_class(
            problem.X @ components.T, problem.class_slices, problem.n_candidates, anchors
        )
        batches = [
            problem.objective.triplets(components, problem.X, batch, neighbors, problem.generator)
            for batch in anchors.split(1024)
        ]
        return Triplets(*(torch.cat(parts) for parts in zip(*batches, strict=True)))

    def _program(
        self, problem: MetricProblem, triplets: Triplets, radius: float
    ) -> TargetRadiusProgram:
        if len(triplets.x) == 0:
            raise ValueError("The objective gave no triplets: no anchor has candidates enough.")
        scale, dual = problem.objective.scale_and_dual(problem.X)
        return TargetRadiusProgram.of(
            problem.X,
            triplets,
            torch.full((len(triplets.x),), 1 / len(triplets.x), dtype=torch.float64).to(
                problem.X.device
            ),
            problem.parameters,
            radius=radius,
            regularization=self.regularization,
            penalty=self.penalty,
            scale=scale,
            dual=dual,
        )


def _vanished(program: TargetRadiusProgram, solution: ProgramSolution) -> bool:
    """Whether it is proved that no metric is better than M = 0 by more than a thousandth."""
    return solution.dual > program.value_of_zero * (1 - _VANISHED)


def _nothing(problem: MetricProblem) -> Triplets:
    empty = problem.anchors[:0].to(problem.X.device)
    return Triplets(empty, empty, empty)


def _merge(one: Triplets, other: Triplets) -> Triplets:
    """Return both without repetitions, in the order of their indices."""
    rows = torch.stack([torch.cat(parts) for parts in zip(one, other, strict=True)], dim=1)
    return Triplets(*torch.unique(rows, dim=0).unbind(dim=1))


def _describe(
    program: TargetRadiusProgram,
    solution: ProgramSolution,
    losses: torch.Tensor,
    G: torch.Tensor,
) -> dict[str, Any]:
    return {
        "primal": solution.primal,
        "dual": solution.dual,
        "n_iter": solution.n_iter,
        "solver_status": solution.status,
        "gap": solution.gap,
        "n_triplets": len(losses),
        "n_active": int((losses > 0).sum()),
        "spread": program.spread,
        "dimension": len(program.basis),
        "rank": int(G.any(dim=1).sum()),
        "trace": float((G * G).sum()),
    }


def _line(report: dict[str, Any]) -> str:
    return (
        f"{report['n_triplets']} triplets, {report['n_active']} active  primal "
        f"{report['primal']:.6g}  gap {report['gap']:.1e}  rank {report['rank']} of "
        f"{report['dimension']}  {report['mine_seconds']:.2f} + {report['solve_seconds']:.2f} s"
    )
