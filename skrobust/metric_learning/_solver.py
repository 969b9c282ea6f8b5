"""The base of all solvers, and what they return."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skrobust.metric_learning._best_iterate import BestIterate
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._torch import to_numpy

__all__ = ["Solver", "SolverResult"]


@dataclass(frozen=True, eq=False)
class SolverResult:
    """The end of a solve.

    Attributes
    ----------
    parameters : ndarray
        The iterate that was judged best, of the shape of the start; G of a metric.
    loss_curve : list of float
        The objective after each epoch, or round.
    validation_curve : list of float
        Mean radius of the held-out points after each; empty without them.
    score : float
        Mean radius of the held-out points under the iterate that is kept.
    status : str
        "converged", "finished" (a schedule's end), "max_iter", "interrupted", "callback",
        "not_finite", "start_is_best", "not_proved" (a convex solver's gap is too large), "stalled"
        (it hardly falls) or "vanished" (M = 0 is a solution, and proved to be one).
    warning : str or None
        What the user has to know of the result.
    info : dict
        What the solver has to report besides: primal and dual values, times, counts.
    """

    parameters: np.ndarray
    loss_curve: list[float]
    validation_curve: list[float]
    score: float
    status: str
    warning: str | None
    info: dict[str, Any]


class Solver(BaseEstimator):
    """Base class: minimises an objective.

    A subclass writes :meth:`solve`, and names in `required_methods` what it calls on an objective.

    Attributes
    ----------
    required_methods : tuple of str
        The methods that an objective must have.
    steps_parameter : str
        The name of the parameter that says how many epochs, or rounds, there are at most.
    changes_rank : bool
        Whether a metric may come back with another number of components than it started with.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    required_methods: ClassVar[tuple[str, ...]] = ()
    steps_parameter: ClassVar[str] = "max_iter"
    changes_rank: ClassVar[bool] = False
    _remedy: ClassVar[str] = "another solver"

    def check(self, objective: Any) -> None:
        """Check the solver's parameters, and that it can minimise an objective.

        Parameters
        ----------
        objective : object
            Such as a :class:`~skrobust.objectives.MetricObjective`.

        Raises
        ------
        ValueError
            If a parameter is not as described, or the objective lacks a method.
        """
        self._validate_params()
        missing = [name for name in self.required_methods if not hasattr(objective, name)]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs objectives with the method {missing[0]}, which "
                f"{type(objective).__name__} does not have; use another solver, or write it."
            )

    @property
    def n_steps(self) -> int:
        """The most epochs, or rounds, that there can be."""
        return getattr(self, self.steps_parameter)

    @abstractmethod
    def solve(self, problem: Any) -> SolverResult:
        """Start from the problem's parameters, and return the best iterate.

        Parameters
        ----------
        problem : FitProblem
        """

    def _result(
        self, best: BestIterate, loss_curve: list[float], status: str, info: dict[str, Any]
    ) -> SolverResult:
        """Return the best iterate as the result of a solve."""
        chosen = best.chosen
        if chosen.number == 0 and status in ("converged", "finished", "max_iter"):
            status = "start_is_best"
        return SolverResult(
            to_numpy(chosen.parameters),
            loss_curve,
            best.validation_curve,
            chosen.mean,
            status,
            self._warning(status, len(loss_curve), info),
            info,
        )

    def _warning(self, status: str, n_iter: int, info: dict[str, Any]) -> str | None:
        """Return what has to be said of a result."""
        if status == "interrupted":
            return f"Interrupted after {n_iter} epochs; the best one is kept."
        if status == "start_is_best":
            return (
                "No metric that was tried is better than the initial one on the held-out training "
                f"points; the initial one is kept. Try {self._remedy}, or more points."
            )
        return None
