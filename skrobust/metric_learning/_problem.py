"""What a solver is given, how its iterates are judged, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch

from skrobust.numerics import nearest_by_class
from skrobust.objectives import MetricObjective, candidate_bounds
from skrobust.utils._torch import to_numpy

__all__ = [
    "BestIterate",
    "FitProblem",
    "Solver",
    "SolverResult",
    "ValidationSet",
    "check_positive",
    "split_anchors",
]

# held-out points may be misclassified more often than at the start by half of the half point
# of clean error that a robust metric may cost
_ERROR_ALLOWED = 0.0025
# the share of the best iterate's gain in mean radius that one with fewer errors must keep
_GAIN = 0.9
_MOST_HELD_OUT = 2048
_CHUNK = 256

Callback = Callable[[int, float, np.ndarray], bool | None]


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Training points that are no anchors, on which iterates are judged.

    Each is certified against all other training points, over its nearest candidates.

    Attributes
    ----------
    X : Tensor of shape (n_samples, n_features)
        All training points, sorted by class.
    class_slices : sequence of slice
    points : Tensor of shape (n_points,), int64
    n_candidates : int
    objective : MetricObjective
        Tells K, the norm and the target radius.
    """

    X: torch.Tensor
    class_slices: Sequence[slice]
    points: torch.Tensor
    n_candidates: int
    objective: MetricObjective

    @torch.no_grad()
    def bounds(self, components: torch.Tensor) -> torch.Tensor:
        """Return the signed bound of each held-out point; ±inf without candidates."""
        neighbors = nearest_by_class(
            self.X @ components.T, self.class_slices, self.n_candidates, self.points
        )
        scale, dual = self.objective.scale_and_dual(self.X)
        return torch.cat(
            [
                candidate_bounds(
                    components,
                    self.X,
                    points,
                    neighbors,
                    n_neighbors=self.objective.n_neighbors,
                    scale=scale,
                    dual=dual,
                )
                for points in self.points.split(_CHUNK)
            ]
        )

    def radii(self, components: torch.Tensor) -> torch.Tensor:
        """Return the radius of each held-out point, at most the target radius; 0 where wrong.

        It is inf where no candidate can be reached, and there is no target radius.
        """
        radii = self.bounds(components).clamp_min(0)
        if self.objective.target_radius is not None:
            radii = radii.clamp_max(self.objective.target_radius)
        return radii


@dataclass(frozen=True, eq=False)
class FitProblem:
    """A metric to be learned.

    Attributes
    ----------
    objective : MetricObjective
        Prepared for the data.
    components : Tensor of shape (n_components, n_features)
        G to start from.
    X : Tensor of shape (n_samples, n_features)
        Training points, sorted by class and centred.
    class_slices : sequence of slice
        The rows of each class.
    anchors : Tensor of shape (n_anchors,), int64
        Points whose margins count, each with a positive and a negative.
    held_out : ValidationSet or None
        None: iterates are judged by their loss.
    n_candidates : int
        Nearest neighbours of either kind that the objective may use.
    generator : torch.Generator
        On the CPU.
    verbose : int
    callback : callable or None
        Of the user: called with number, loss and iterate.
    told : callable or None
        Called with the number, and a function that returns what would be kept if it ended here.
    """

    objective: MetricObjective
    components: torch.Tensor
    X: torch.Tensor
    class_slices: Sequence[slice]
    anchors: torch.Tensor
    held_out: ValidationSet | None
    n_candidates: int
    generator: torch.Generator
    verbose: int = 0
    callback: Callback | None = None
    on_epoch_end: Callable[[int, Callable[[], np.ndarray]], bool] | None = None

    def ends(self, number: int, loss: float, components: torch.Tensor, best: "BestIterate") -> bool:
        """Tell of an epoch or round; return whether a callback wants it to be the last."""
        end = self.on_epoch_end is not None and self.on_epoch_end(
            number, lambda: to_numpy(best.chosen.components)
        )
        if self.callback is not None:
            end |= bool(self.callback(number, loss, to_numpy(components).copy()))
        return end

    def sample(self, size: int | None) -> torch.Tensor:
        """Return `size` anchors in random order, fewer where there are fewer; None is all."""
        shuffled = torch.randperm(len(self.anchors), generator=self.generator)
        return self.anchors[shuffled[:size]]


@dataclass(frozen=True, eq=False)
class SolverResult:
    """The end of a solve.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_features)
        The iterate that was judged best.
    loss_curve : list of float
        The objective after each epoch, or round.
    validation_curve : list of float
        Mean radius of the held-out points after each; empty without them.
    status : str
        "converged", "finished" (a schedule's end), "max_iter", "interrupted", "callback",
        "not_finite", "start_is_best", "not_proved" (a convex solver's gap is too large), "stalled"
        (it hardly falls) or "vanished" (M = 0 is a solution, and proved to be one).
    info : dict
        What the solver has to report besides: primal and dual values, times, counts.
    """

    components: np.ndarray
    loss_curve: list[float]
    validation_curve: list[float]
    status: str
    info: dict[str, Any] = field(default_factory=dict)


class Solver(Protocol):
    """Minimises an objective over metrics."""

    def solve(self, problem: FitProblem) -> SolverResult:
        """Return the best metric found."""


@dataclass(frozen=True, eq=False)
class _Judged:
    """An iterate, with the radii of the held-out points under it."""

    components: torch.Tensor
    radii: torch.Tensor
    number: int

    @cached_property
    def mean(self) -> float:
        return float(self.radii.mean())

    @cached_property
    def error(self) -> float:
        return float((self.radii <= 0).double().mean())

    def is_worse_than(self, other: "_Judged") -> bool:
        """Whether it is worse in radius and in clean error."""
        return self.mean < other.mean and self.error > other.error

    def within_one_standard_error(self, other: "_Judged") -> bool:
        """Whether its clean error is within one standard error, in pairs, of the other's."""
        more = (self.radii <= 0).double() - (other.radii <= 0).double()
        return float(more.mean()) <= float(more.std(correction=0)) / len(more) ** 0.5


class BestIterate:
    """Keeps the iterate that is judged best: by held-out points, or else by its loss.

    By held-out points the start is an iterate too, and another one is taken only if its clean
    error there is at most 0.0025 above the start's. Of those that gain nine tenths of the largest
    gain in mean radius over the start, and whose clean error is the lowest, up to one standard
    error of the difference in pairs, it is the one with the largest mean radius: where a bit of
    radius buys much accuracy, it is paid.
    """

    def __init__(self, problem: FitProblem, tol: float):
        self.validation_curve: list[float] = []
        self._held_out, self._tol = problem.held_out, tol
        self._start = _Judged(problem.components.clone(), torch.zeros(1), 0)
        self._least_loss, self._n_offered, self._cap = np.inf, 0, np.inf
        if self._held_out is not None:
            radii = self._held_out.radii(problem.components)
            if torch.isnan(radii).any():
                raise ValueError("X must be scaled: distances under the initial metric overflow.")
            # points that cannot be reached count as the farthest that can, at the start
            finite = radii[torch.isfinite(radii)]
            self._cap = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
            self._start = replace(self._start, radii=self._capped(radii))
        self._best = self._start
        self._candidates = [self._start]
        self._milestone = self._start.mean if self._held_out is not None else -np.inf

    def offer(self, components: torch.Tensor, loss: float) -> bool:
        """Consider `components`; return whether the best has improved by more than `tol`."""
        self._n_offered += 1
        if self._held_out is None:
            if loss >= self._least_loss:
                return False
            self._least_loss = loss
            self._best = _Judged(components.detach().clone(), torch.zeros(1), self._n_offered)
            self._candidates = [self._best]
            return self._improved(-loss)
        found = _Judged(
            components.detach().clone(),
            self._capped(self._held_out.radii(components)),
            self._n_offered,
        )
        self.validation_curve.append(found.mean)
        if found.error > self._start.error + _ERROR_ALLOWED:
            return False
        if found.mean > self._best.mean:
            self._best = found
        least = self._start.mean + _GAIN * (self._best.mean - self._start.mean)
        self._candidates = [
            one
            for one in (*self._candidates, found)
            if one.mean >= least
            and not any(one.is_worse_than(other) for other in (*self._candidates, found))
        ]
        return self._improved(self._best.mean)

    @property
    def chosen(self) -> _Judged:
        """The best iterate so far; its number is 0 for the start."""
        rightest = min(self._candidates, key=lambda one: one.error)
        return max(
            (one for one in self._candidates if one.within_one_standard_error(rightest)),
            key=lambda one: one.mean,
        )

    def result(
        self, loss_curve: list[float], status: str, info: dict[str, Any] | None = None
    ) -> SolverResult:
        """Return the best iterate as the result of a solve."""
        chosen = self.chosen
        if chosen.number == 0 and status in ("converged", "finished", "max_iter"):
            status = "start_is_best"
        return SolverResult(
            to_numpy(chosen.components), loss_curve, self.validation_curve, status, info or {}
        )

    def _capped(self, radii: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isposinf(radii), self._cap, radii)

    def _improved(self, score: float) -> bool:
        """Count progress from the last milestone, so that many small steps make one."""
        if np.isfinite(self._milestone) and score <= self._milestone + self._tol * abs(
            self._milestone
        ):
            return False
        self._milestone = score
        return True


def check_positive(
    solver: Any,
    integers: Sequence[str] = (),
    numbers: Sequence[str] = (),
    zero: bool = False,
) -> None:
    """Raise a ValueError where a parameter of `solver` is not finite and positive (or 0)."""
    for name in (*integers, *numbers):
        value: Any = getattr(solver, name)
        kind = Integral if name in integers else Real
        known = isinstance(value, kind) and not isinstance(value, bool)
        if not known or not (0 <= float(value) < float("inf")) or (value == 0 and not zero):
            wanted = "an integer" if kind is Integral else "a number"
            wanted += " >= 0" if zero else " > 0"
            raise ValueError(f"{name} of {type(solver).__name__} must be {wanted}; got {value!r}.")


def split_anchors(
    class_slices: Sequence[slice], fraction: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return anchors for training, and held-out ones, at random.

    A point that is alone in its class has no positive, so it is no anchor. At least one anchor
    remains for training; with too few points nothing is held out.
    """
    anchors = torch.cat(
        [torch.arange(s.start, s.stop) for s in class_slices if s.stop - s.start > 1]
    )
    n_held_out = min(round(fraction * len(anchors)), len(anchors) - 1, _MOST_HELD_OUT)
    if n_held_out == 0:
        return anchors, anchors[:0]
    shuffled = anchors[torch.randperm(len(anchors), generator=generator)]
    return shuffled[n_held_out:].sort().values, shuffled[:n_held_out].sort().values
