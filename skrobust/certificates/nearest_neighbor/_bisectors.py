r"""Half-spaces where one training point is at least as near to x as another.

With v as in ``_training_set`` and δ = s ∘ η, u is at least as near to x + δ as w where

    2 (v_w − v_u)·η ≤ D_w − D_u.

The multipliers of a least-norm point of several of them prove a lower bound on its norm in
float64, whatever the solver's accuracy (see ``numerics.least_norm``); right-hand sides are
relaxed by the victim's rounding τ, so that the bound holds for its `predict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skrobust.adapters import EmbeddedQueries
from skrobust.certificates.nearest_neighbor._rounding import Rounding
from skrobust.certificates.nearest_neighbor._training_set import TrainingSet
from skrobust.numerics import LeastNorm, least_norm
from skrobust.utils._torch import to_numpy

__all__ = ["BisectorHalfspaces", "HalfSpaces", "Solution"]

Rows = Sequence[int] | np.ndarray

_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """Some half-spaces of one test point.

    Attributes
    ----------
    C : ndarray of shape (m, n_directions)
    h : ndarray of shape (m,)
        ``C η ≤ h`` in exact arithmetic.
    tau : ndarray of shape (m,)
        What the victim's rounding may shift.
    """

    C: np.ndarray
    h: np.ndarray
    tau: np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """The least-norm point of some half-spaces.

    Attributes
    ----------
    point : ndarray of shape (n_directions,) or None
        η; None where there is none, or the solver failed.
    multipliers : ndarray of shape (m,)
        Of the half-spaces.
    proved : float
        Lower bound on the norm of every η in the half-spaces, sound in rounding.
    empty : bool
        Whether there is none, up to our own rounding.
    """

    point: np.ndarray | None
    multipliers: np.ndarray
    proved: float
    empty: bool


class BisectorHalfspaces:
    """BisectorHalfspaces of training points, seen from some test points.

    Parameters
    ----------
    training : TrainingSet
    queries : EmbeddedQueries of n_rows points
    rounding : Rounding of the same points
    """

    def __init__(self, training: TrainingSet, queries: EmbeddedQueries, rounding: Rounding):
        self.training, self.budget = training, training.budget
        self.rounding = rounding.as_numpy()
        self.V, self.Z = to_numpy(training.V64), to_numpy(training.Z64)
        self.z = queries.points
        self.single = queries.unit > 2.0**-53
        self.magnitudes = to_numpy(training.magnitudes)
        self.n_directions = self.V.shape[1]
        self.lower = self.upper = None
        self.farthest = self.budget.farthest(queries.raw)  # ‖η‖_p in each box; inf without one
        if self.budget.bounded:
            movable = self.budget.scale > 0
            scale, raw = self.budget.scale[movable], queries.raw[:, movable]
            # rounded outward: a larger box can only lower the bound
            lower, upper = (end[:, movable] for end in self.budget.box(queries.raw))
            self.lower = np.nextafter((lower - raw) / scale, -np.inf)
            self.upper = np.nextafter((upper - raw) / scale, np.inf)

    def half_spaces(self, t: int, near: Rows, far: Rows) -> HalfSpaces:
        """Return where the rows `near` are at least as near to point t as the rows `far`."""
        u, w = np.asarray(near), np.asarray(far)
        D_u = ((self.Z[u] - self.z[t]) ** 2).sum(1)
        D_w = ((self.Z[w] - self.z[t]) ** 2).sum(1)
        between = np.linalg.norm(self.Z[w] - self.Z[u], axis=1)
        tau = self.rounding.tau(t, self.magnitudes[u], self.magnitudes[w], D_u, D_w, between)
        return HalfSpaces(2 * (self.V[w] - self.V[u]), D_w - D_u, tau)

    def box(self, t: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the ends of η's box around point t; None where there is none."""
        if self.lower is None or self.upper is None:
            return None, None
        return self.lower[t], self.upper[t]

    def solve(self, t: int, half: HalfSpaces) -> Solution:
        """Return the least-norm η, and what its multipliers prove."""
        found = least_norm(half.C, half.h, self.budget.norm, *self.box(t))
        proved, empty = self._prove(t, half, found)
        return Solution(found.point, found.rows, proved, empty)

    def inside(self, t: int, half: HalfSpaces, margin: float) -> np.ndarray | None:
        """Return an η that meets the half-spaces by more than the victim's rounding.

        `margin` is added, relative to the largest right-hand side.
        """
        h = half.h - 4 * half.tau - margin * np.abs(half.h).max()
        return least_norm(half.C, h, self.budget.norm, *self.box(t)).point

    def delta(self, eta: np.ndarray) -> np.ndarray:
        """Return δ = s ∘ η in the raw features."""
        movable = self.budget.scale > 0
        delta = np.zeros(len(movable))
        basis = self.training.basis
        delta[movable] = self.budget.scale[movable] * (eta if basis is None else basis @ eta)
        return delta

    def size(self, eta: np.ndarray | None) -> float:
        """Return ‖η‖_p; inf for None."""
        return np.inf if eta is None else float(np.linalg.norm(eta, ord=self.budget.norm))

    def _prove(self, t: int, half: HalfSpaces, found: LeastNorm) -> tuple[float, bool]:
        """Return the lower bound that the multipliers prove, and whether nothing is there."""
        push = found.rows @ half.C + found.upper - found.lower
        reach = -(half.h + half.tau) @ found.rows
        lower, upper = self.box(t)
        if lower is not None and upper is not None:
            up, low = found.upper > 0, found.lower > 0
            ends = np.r_[-lower[low] * found.lower[low], upper[up] * found.upper[up]]
            reach -= ends.sum() + (len(ends) + 16) * 2.0**-52 * np.abs(ends).sum()
        # rounding of the product and of V
        unit = (len(half.h) + self.n_directions + 16) * 2.0**-52
        slack = 2 * self.training.V_error * found.rows.sum()
        slack += unit * np.linalg.norm(np.abs(found.rows) @ np.abs(half.C), ord=self.budget.dual)
        slack += unit * np.linalg.norm(found.upper + found.lower, ord=self.budget.dual)
        terms = (np.abs(half.h) + half.tau) @ found.rows
        reach -= unit * terms
        if not reach > 0:
            return 0.0, False
        size = np.linalg.norm(push, ord=self.budget.dual) + slack
        # up to our own rounding: no η reaches it, but the proof ends at reach / size
        empty = found.point is None and size <= 4 * slack and reach > 1e-6 * terms
        return float(reach / max(size, _TINY)), bool(empty)
