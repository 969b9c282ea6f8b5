"""Adam on the parameters of a problem, such as the components G, unconstrained."""

import time
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.metric_learning._best_iterate import BestIterate
from skrobust.metric_learning._problem import FitProblem
from skrobust.metric_learning._solver import Solver, SolverResult
from skrobust.utils._sklearn import Interval

__all__ = ["AdamSolver"]

_EVALUATION_BATCH = 1024
_LEAST_STEPS = 16


class AdamSolver(Solver):
    """Minimise an objective by Adam.

    An epoch draws anchors, searches their candidates under the metric of the moment, and takes a
    step a batch. So the search costs ``epoch_size × n_samples`` distances an epoch, however
    many points there are.

    G starts at size √n_components: the objective is the same for all sizes, a step is not.

    Parameters
    ----------
    batch_size : int or None, default=64
        Anchors a step; None takes all of an epoch at once (memory grows with it).
    epoch_size : int or None, default=4096
        Anchors an epoch, drawn anew; fewer points are gone through more than once, until there are
        16 steps. None is every anchor once.
    max_iter : int, default=50
        Epochs at most; the objective's temperature falls over this many, and its end is the end
        of the schedule.
    learning_rate : float, default=1e-3
        Adam's step size.
    tol : float, default=1e-4
        An epoch improves if what it is judged by is better by ``tol * |best|``.
    n_iter_no_change : int, default=20
        Stop after this many epochs without improvement.
    """

    required_methods: ClassVar[tuple[str, ...]] = ("value",)
    _remedy: ClassVar[str] = "a lower learning_rate"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "epoch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        batch_size: int | None = 64,
        epoch_size: int | None = 4096,
        max_iter: int = 50,
        learning_rate: float = 1e-3,
        tol: float = 1e-4,
        n_iter_no_change: int = 20,
    ):
        self.batch_size = batch_size
        self.epoch_size = epoch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def solve(self, problem: FitProblem) -> SolverResult:
        """Start from the problem's parameters, and return the best iterate.

        Parameters
        ----------
        problem : FitProblem
        """
        variable = problem.start().requires_grad_()
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        best = BestIterate(problem.parameters, problem.validation, self.tol)
        loss_curve: list[float] = []
        times = {"search_seconds": 0.0, "step_seconds": 0.0, "judge_seconds": 0.0}
        waited, status = 0, "max_iter"
        try:
            for epoch in range(1, self.max_iter + 1):
                progress = (epoch - 1) / max(self.max_iter - 1, 1)
                started = time.perf_counter()
                loss, judged = self._epoch(problem, variable, optimizer, progress, times)
                if not np.isfinite(loss) or not torch.isfinite(variable).all():
                    status = "not_finite"
                    break
                stepped = time.perf_counter()
                improved = best.offer(judged, loss)
                times["judge_seconds"] += time.perf_counter() - stepped
                loss_curve.append(loss)
                waited = 0 if improved else waited + 1
                if problem.verbose and epoch % problem.verbose == 0:
                    _report(epoch, loss, best.validation_curve, started)
                if problem.ends(epoch, loss, judged, best):
                    status = "callback"
                    break
                if waited >= self.n_iter_no_change:
                    status = "converged"
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        if status == "max_iter" and problem.validation is not None and problem.anneals:
            status = "finished"
        report = {"n_epochs": len(loss_curve), "best_epoch": best.chosen.number}
        return self._result(best, loss_curve, status, report | times)

    def _epoch(
        self,
        problem: FitProblem,
        variable: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        progress: float,
        times: dict[str, float],
    ) -> tuple[float, torch.Tensor]:
        """Search the candidates, take the steps, and return a loss and the iterate to be judged.

        Without held-out points the loss is that of the last iterate, which is judged by it. With
        them it is the mean on the way, which costs nothing, and the mean of the iterates is
        judged: the last batches sway it less.
        """
        started = time.perf_counter()
        anchors, value = problem.epoch(variable, self.epoch_size, progress)
        searched = time.perf_counter()
        size = self.batch_size or len(anchors)
        # few anchors are gone through several times, until an epoch has steps enough
        passes = 1
        if self.batch_size is not None and self.epoch_size is not None:
            steps = -(-len(anchors) // size)
            passes = max(1, -(-min(self.epoch_size // size, _LEAST_STEPS) // steps))
        total, n_steps = 0.0, 0
        judged = torch.zeros_like(variable, requires_grad=False)
        for _ in range(passes):
            order = torch.randperm(len(anchors), generator=problem.generator)
            shuffled = anchors[order].to(variable.device)
            for batch in shuffled.split(size):
                optimizer.zero_grad()
                loss = value(variable, batch)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch) / passes
                n_steps += 1
                # the mean of the iterates so far
                judged += (variable.detach() - judged) / n_steps
        if problem.validation is None:
            total, judged = 0.0, variable.detach()
            with torch.no_grad():
                for batch in shuffled.split(max(size, _EVALUATION_BATCH)):
                    # on draws of its own, so that the best iterate is judged by what it is
                    total += float(value(variable, batch)) * len(batch)
        times["search_seconds"] += searched - started
        times["step_seconds"] += time.perf_counter() - searched
        return total / len(anchors), judged

    def _warning(self, status: str, n_iter: int, info: dict[str, Any]) -> str | None:
        if status == "not_finite":
            remedy = f"Scale X, or lower learning_rate={self.learning_rate!r}."
            if n_iter == 0:
                raise ValueError(f"The loss is not finite in the first epoch. {remedy}")
            return f"The loss is not finite after {n_iter} epochs; the best one is kept. {remedy}"
        if status == "max_iter":
            return (
                f"Not converged after max_iter={self.max_iter} epochs; the best one is kept. "
                "Raise max_iter, or tol."
            )
        return super()._warning(status, n_iter, info)


def _report(epoch: int, loss: float, validation_curve: list[float], started: float) -> None:
    held_out = f"  held-out radius {validation_curve[-1]:.6g}" if validation_curve else ""
    seconds = time.perf_counter() - started
    print(f"epoch {epoch:5d}  loss {loss:.6g}{held_out}  {seconds:.2f} s")  # noqa: T201
