"""Which iterate of a fit is kept."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

__all__ = ["BestIterate", "Validation"]

# held-out points may be misclassified more often than at the start by half of the half point
# of clean error that a robust metric may cost
_ERROR_ALLOWED = 0.0025
# the share of the best iterate's gain in mean radius that one with fewer errors must keep
_GAIN = 0.9


class Validation(Protocol):
    """Points on which iterates are judged."""

    def radii(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the certified radius of each point, (n_points,): 0 where wrong, inf allowed."""


@dataclass(frozen=True, eq=False)
class _Iterate:
    """An iterate, with the radii of the held-out points under it."""

    parameters: torch.Tensor
    radii: torch.Tensor
    number: int

    @cached_property
    def mean(self) -> float:
        return float(self.radii.mean())

    @cached_property
    def error(self) -> float:
        return float((self.radii <= 0).double().mean())

    def is_worse_than(self, other: "_Iterate") -> bool:
        """Whether it is worse in radius and in clean error."""
        return self.mean < other.mean and self.error > other.error

    def within_one_standard_error(self, other: "_Iterate") -> bool:
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

    Parameters
    ----------
    start : Tensor
        The parameters before the first step.
    validation : Validation or None
        None judges by the loss.
    tol : float
        An iterate improves if it is better by ``tol * |best|``.
    """

    def __init__(self, start: torch.Tensor, validation: Validation | None, tol: float):
        self.validation_curve: list[float] = []
        self._validation, self._tol = validation, tol
        self._start = _Iterate(start.clone(), torch.zeros(1), 0)
        self._least_loss, self._n_offered, self._cap = np.inf, 0, np.inf
        if validation is not None:
            radii = validation.radii(start)
            if torch.isnan(radii).any():
                raise ValueError("X must be scaled: distances under the initial metric overflow.")
            # points that cannot be reached count as the farthest that can, at the start
            finite = radii[torch.isfinite(radii)]
            self._cap = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
            self._start = _Iterate(self._start.parameters, self._capped(radii), 0)
        self._best = self._start
        self._candidates = [self._start]
        self._milestone = self._start.mean if validation is not None else -np.inf

    def offer(self, parameters: torch.Tensor, loss: float) -> bool:
        """Consider an iterate; return whether the best has improved by more than `tol`."""
        self._n_offered += 1
        if self._validation is None:
            if loss >= self._least_loss:
                return False
            self._least_loss = loss
            self._best = _Iterate(parameters.detach().clone(), torch.zeros(1), self._n_offered)
            self._candidates = [self._best]
            return self._improved(-loss)
        new = _Iterate(
            parameters.detach().clone(),
            self._capped(self._validation.radii(parameters)),
            self._n_offered,
        )
        self.validation_curve.append(new.mean)
        if new.error > self._start.error + _ERROR_ALLOWED:
            return False
        if new.mean > self._best.mean:
            self._best = new
        # only iterates that may still be chosen are kept, so that memory stays bounded
        least = self._start.mean + _GAIN * (self._best.mean - self._start.mean)
        everyone = (*self._candidates, new)
        self._candidates = [
            one
            for one in everyone
            if one.mean >= least and not any(one.is_worse_than(other) for other in everyone)
        ]
        return self._improved(self._best.mean)

    @property
    def chosen(self) -> _Iterate:
        """The best iterate so far; its number is 0 for the start."""
        rightest = min(self._candidates, key=lambda one: one.error)
        return max(
            (one for one in self._candidates if one.within_one_standard_error(rightest)),
            key=lambda one: one.mean,
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
