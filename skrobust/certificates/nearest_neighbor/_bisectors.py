r"""Half-spaces where one training point is at least as near to x as another.

With v as in ``_geometry`` and δ = s ∘ η, u is at least as near to x + δ as w where

    2 (v_w − v_u)·η ≤ D_w − D_u.

The multipliers of a least-norm point of several of them prove a lower bound on its norm in
float64, whatever the solver's accuracy (see ``numerics.least_norm``); right-hand sides are
relaxed by the victim's rounding τ, so that the bound holds for its `predict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries
from skrobust.certificates.nearest_neighbor._geometry import Rounding, TrainingSet
from skrobust.numerics import LeastNorm, least_norm, row_batches
from skrobust.utils._torch import to_numpy

__all__ = [
    "BisectorHalfspaces",
    "Candidates",
    "HalfSpaces",
    "Neighborhood",
    "Separation",
    "Solution",
    "bisector_distances",
    "interior_perturbations",
    "separate",
    "squared_distances",
]

Rows = Sequence[int] | np.ndarray

MOST_CANDIDATES = 4000  # of an exact search around a point
# how far into a cell an adversarial example reaches, for float64 and for float32 data
_MARGINS = {False: (1e-9, 1e-6, 1e-3), True: (1e-5, 1e-4, 1e-3)}
_TINY = float(np.finfo(float).tiny)
_BLOCK = 2**22  # bytes of a block of differences
_MOST_TIES, _TIE = 256, 1e-6  # pairs that start out as tied, relative to the squared distances
_MAX_INTERIOR_ROUNDS = 60


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
    binding : ndarray of shape (m,) of bool
        The half-spaces with a positive multiplier.
    proved : float
        Lower bound on the norm of every η in the half-spaces, sound in rounding.
    empty : bool
        Whether there is none, up to our own rounding.
    """

    point: np.ndarray | None
    binding: np.ndarray
    proved: float
    empty: bool


@dataclass(frozen=True, eq=False)
class BisectorHalfspaces:
    """Half-spaces between training points, seen from one test point.

    Attributes
    ----------
    training : TrainingSet
    Z : ndarray of shape (n_train, n_components)
    V : ndarray of shape (n_train, n_directions)
    magnitudes : ndarray of shape (n_train,)
    z : ndarray of shape (n_components,)
        The test point's embedding.
    rounding : Rounding
        Of the test point.
    box : tuple of two ndarray of shape (n_directions,), or of None
        The ends of η's box around the test point.
    margins : tuple of float
        How far into a cell an adversarial example reaches, relative to its right-hand sides.
    """

    training: TrainingSet
    Z: np.ndarray
    V: np.ndarray
    magnitudes: np.ndarray
    z: np.ndarray
    rounding: Rounding
    box: tuple[np.ndarray | None, np.ndarray | None]
    margins: tuple[float, ...]

    @classmethod
    def around(
        cls, training: TrainingSet, queries: EmbeddedQueries, rounding: Rounding
    ) -> list[Self]:
        """Return those of each test point.

        Parameters
        ----------
        training : TrainingSet
        queries : EmbeddedQueries of n_rows points
        rounding : Rounding of the same points
        """
        budget, rounding = training.budget, rounding.as_numpy()
        Z, V = to_numpy(training.Z), to_numpy(training.V)
        magnitudes, margins = to_numpy(training.magnitudes), _MARGINS[queries.unit > 2.0**-53]
        boxes: list[Any] = [(None, None)] * len(queries.points)
        if budget.bounded:
            movable = budget.scale > 0
            scale, raw = budget.scale[movable], queries.raw[:, movable]
            lower, upper = (end[:, movable] for end in budget.box(queries.raw))
            # rounded outward: a larger box can only lower the bound
            lower = np.nextafter((lower - raw) / scale, -np.inf)
            upper = np.nextafter((upper - raw) / scale, np.inf)
            boxes = list(zip(lower, upper, strict=True))
        return [
            cls(training, Z, V, magnitudes, z, rounding.take(t), box, margins)
            for t, (z, box) in enumerate(zip(queries.points, boxes, strict=True))
        ]

    def half_spaces(self, near: Rows, far: Rows) -> HalfSpaces:
        """Return where the rows `near` are at least as near to the point as the rows `far`."""
        u, w = np.asarray(near), np.asarray(far)
        D_u = ((self.Z[u] - self.z) ** 2).sum(1)
        D_w = ((self.Z[w] - self.z) ** 2).sum(1)
        between = np.linalg.norm(self.Z[w] - self.Z[u], axis=1)
        tau = self.rounding.tau(self.magnitudes[u], self.magnitudes[w], D_u, D_w, between)
        return HalfSpaces(2 * (self.V[w] - self.V[u]), D_w - D_u, tau)

    def solve(self, half: HalfSpaces) -> Solution:
        """Return the least-norm η, and what its multipliers prove."""
        program = least_norm(half.C, half.h, self.training.budget.norm, *self.box)
        proved, empty = self._prove(half, program)
        return Solution(program.point, program.rows > 0, proved, empty)

    def inside(self, half: HalfSpaces, margin: float) -> np.ndarray | None:
        """Return an η that meets the half-spaces by more than the victim's rounding.

        `margin` is added, relative to the largest right-hand side.
        """
        h = half.h - 4 * half.tau - margin * np.abs(half.h).max()
        return least_norm(half.C, h, self.training.budget.norm, *self.box).point

    def _prove(self, half: HalfSpaces, program: LeastNorm) -> tuple[float, bool]:
        """Return the lower bound that the multipliers prove, and whether nothing is there."""
        # multipliers y, l, u ≥ 0 of the rows and of the box's ends prove
        # ‖Cᵀ y + u − l‖_q ‖η‖_p ≥ −(h + τ)·y + lower·l − upper·u
        dual = self.training.budget.dual
        push = program.rows @ half.C + program.upper - program.lower
        reach = -(half.h + half.tau) @ program.rows
        lower, upper = self.box
        if lower is not None and upper is not None:
            up, low = program.upper > 0, program.lower > 0
            ends = np.r_[-lower[low] * program.lower[low], upper[up] * program.upper[up]]
            reach -= ends.sum() + (len(ends) + 16) * 2.0**-52 * np.abs(ends).sum()
        # rounding of the product and of V
        unit = (len(half.h) + self.V.shape[1] + 16) * 2.0**-52
        slack = 2 * self.training.V_error * program.rows.sum()
        slack += unit * np.linalg.norm(np.abs(program.rows) @ np.abs(half.C), ord=dual)
        slack += unit * np.linalg.norm(program.upper + program.lower, ord=dual)
        terms = (np.abs(half.h) + half.tau) @ program.rows
        reach -= unit * terms
        if not reach > 0:
            return 0.0, False
        size = np.linalg.norm(push, ord=dual) + slack
        # up to our own rounding: no η reaches it, but the proof ends at reach / size
        empty = program.point is None and size <= 4 * slack and reach > 1e-6 * terms
        return float(reach / max(size, _TINY)), bool(empty)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Some training points, seen from a test point.

    Attributes
    ----------
    bisectors : BisectorHalfspaces
        Of the test point.
    rows : ndarray of shape (n_candidates,)
        Rows of the training set.
    distance : ndarray of shape (n_candidates,)
        Squared distances to x.
    V : ndarray of shape (n_candidates, n_directions)
        Images, centred: moving x by η changes squared distances by ``−2 V η``, up to a
        constant.
    """

    bisectors: BisectorHalfspaces
    rows: np.ndarray
    distance: np.ndarray
    V: np.ndarray

    @classmethod
    def of(cls, bisectors: BisectorHalfspaces, rows: np.ndarray, squared: np.ndarray) -> Self:
        """Take some rows; `squared` has the distances of all training points."""
        V = bisectors.V[rows]
        return cls(bisectors, rows, squared[rows], V - V.mean(axis=0))

    def moved(self, eta: np.ndarray | None) -> np.ndarray:
        """Return squared distances to x + η up to a constant; None is η = 0."""
        return self.distance if eta is None else self.distance - 2 * (self.V @ eta)

    def half_spaces(self, pairs: Sequence[tuple[int, int]]) -> HalfSpaces:
        """Return where the first candidate of each pair is at least as near as the second."""
        rows = self.rows[np.array(pairs)]
        return self.bisectors.half_spaces(rows[:, 0], rows[:, 1])


def squared_distances(Z: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return squared distances in float64, from differences, of shape (len(Z),)."""
    squared = np.empty(len(Z))
    for rows in row_batches(0, len(Z), 8 * Z.shape[1], _BLOCK):
        difference = Z[rows] - z
        squared[rows] = np.einsum("ij,ij->i", difference, difference)
    return squared


@dataclass(frozen=True, eq=False)
class Neighborhood(Candidates):
    r"""The candidates that can be among the K nearest within a radius.

    u cannot where K points are strictly nearer all over the ball: those w with

        bisector_distance(u, w) = [ D_u − D_w − τ ]₊ / ( 2 ‖v_u − v_w‖_q ) ≥ radius,

    the norm it takes to bring x at least as near to u as to w. An exact search needs nothing else,
    whatever the size of the training set.

    Attributes
    ----------
    bisector_distance : ndarray of shape (n_candidates, n_candidates)
        ``bisector_distance[u, w]``: proved lower bound on the norm that brings x at least as near
        to u as to w; 0 where it is, inf where nothing does.
    """

    bisector_distance: np.ndarray

    @classmethod
    def within(
        cls, radius: float, bisectors: BisectorHalfspaces, n_neighbors: int
    ) -> "Neighborhood | None":
        """Return the candidates within `radius`, the one that bounds the rounding.

        None if they are more than `MOST_CANDIDATES`.

        Parameters
        ----------
        radius : float
        bisectors : BisectorHalfspaces
        n_neighbors : int
            K.
        """
        squared = squared_distances(bisectors.Z, bisectors.z)
        distance = np.sqrt(squared)
        kth = np.partition(distance, n_neighbors - 1)[n_neighbors - 1]
        # coarse: beyond it u is farther than K points all over the ball, by more than rounding.
        # (√D_u − √D_w − 2 r reach)(√D_u + √D_w) > τ follows from the terms of τ one by one
        rounding, reach = bisectors.rounding, bisectors.training.movement.reach
        largest = float(bisectors.magnitudes.max())
        least_tau = 2 * float(rounding.tau(largest, largest, 0.0, 0.0, 0.0))
        limit = (kth + 2 * radius * reach) * (1 + 1e-5) + 8 * rounding.embedding_error
        limit += np.sqrt(least_tau) + 8 * rounding.pruning
        rows = np.flatnonzero(distance <= limit)
        # fine: against the K nearest alone, then against one another
        nearest = np.argsort(distance, kind="stable")[:n_neighbors]
        if len(rows) > 4 * n_neighbors:
            needed = bisector_distances(bisectors, rows, nearest, squared)
            rows = rows[(needed >= radius).sum(1) < n_neighbors]
        if len(rows) > MOST_CANDIDATES:
            return None
        needed = bisector_distances(bisectors, rows, rows, squared)
        kept = (needed >= radius).sum(1) < n_neighbors
        near = Candidates.of(bisectors, rows[kept], squared)
        return cls(bisectors, near.rows, near.distance, near.V, needed[np.ix_(kept, kept)])


def bisector_distances(
    bisectors: BisectorHalfspaces, near: np.ndarray, far: np.ndarray, squared: np.ndarray
) -> np.ndarray:
    """Return the least norms that bring x at least as near to `near` as to `far`, rounded down.

    Parameters
    ----------
    bisectors : BisectorHalfspaces
    near, far : ndarray of shape (n_near,), (n_far,)
        Rows of the training set.
    squared : ndarray of shape (n_train,)
        Squared distances to x.

    Returns
    -------
    ndarray of shape (n_near, n_far)
    """
    training = bisectors.training

    def between(values: np.ndarray, p: float) -> np.ndarray:
        u, w = torch.from_numpy(values[near]), torch.from_numpy(values[far])
        return torch.cdist(u, w, p=p, compute_mode="donot_use_mm_for_euclid_dist").numpy()

    moved = between(bisectors.V, training.budget.dual)
    lengths = moved if training.V is training.Z else between(bisectors.Z, 2.0)
    m, D_u, D_w = bisectors.magnitudes, squared[near][:, None], squared[far]
    tau = bisectors.rounding.tau(m[near][:, None], m[far], D_u, D_w, lengths)
    growth = (bisectors.V.shape[1] + 16) * 2.0**-53
    gap = D_u - D_w - tau
    with np.errstate(over="ignore"):
        distance = gap / (2 * (moved * (1 + growth) + training.V_error))
    return np.where(gap <= 0, 0.0, distance * (1 - 2.0**-50))


@dataclass(eq=False)
class Separation:
    """The least η at which some candidates are nearer than others, as far as it is known.

    Attributes
    ----------
    pairs : list of (int, int)
        Candidates (u, w) whose half-spaces are in force.
    lower : float
        Proved lower bound on the norm.
    eta : ndarray of shape (n_directions,) or None
        None is 0, or what the solver did not find.
    empty : bool
        Whether there is no such η.
    failed : bool
        Whether the last program gave no point.
    """

    pairs: list[tuple[int, int]] = field(default_factory=list)
    lower: float = 0.0
    eta: np.ndarray | None = None
    empty: bool = False
    failed: bool = False


def separate(
    near: Candidates,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    tol: float,
    max_rounds: int,
    start: Separation | None = None,
    limit: float | None = None,
) -> Separation:
    """Find the least-norm η that brings `inside` nearer than `outside`.

    By constraint generation: the farthest of `inside` against the nearest of `outside` is added
    while their half-space is violated.

    Parameters
    ----------
    near : Candidates
    inside, outside : ndarray of shape (n_inside,), (n_outside,)
        Positions of candidates.
    tol : float
        Violations up to this share of the largest squared distance are none.
    max_rounds : int
    start : Separation, default=None
        Pairs to start with and a bound that is known.
    limit : float, default=None
        The search ends once the proved bound is as large.
    """
    best = Separation() if start is None else Separation(start.pairs, start.lower)
    if not len(inside) or not len(outside):
        return best
    for _ in range(max_rounds):
        # the pair that η violates most, unless it is in force, or nothing is left to solve
        distance = near.moved(best.eta)
        u, w = inside[distance[inside].argmax()], outside[distance[outside].argmin()]
        pair = int(u), int(w)
        violated = distance[u] - distance[w] > tol * np.abs(distance).max()
        new = violated and pair not in best.pairs
        if not new and (best.eta is not None or not best.pairs):
            break
        if new:
            best.pairs.append(pair)
        # the least norm under all pairs in force, and what it proves
        solution = near.bisectors.solve(near.half_spaces(best.pairs))
        best.lower, best.empty = max(best.lower, solution.proved), solution.empty
        best.failed = solution.point is None
        if best.failed or (limit is not None and best.lower >= limit):
            break
        best.eta = solution.point
        if near.bisectors.training.budget.norm == 2:  # one solution: what does not bind can go
            binding = zip(best.pairs, solution.binding, strict=True)
            best.pairs = [pair for pair, binds in binding if binds]
    return best


def interior_perturbations(
    near: Candidates, chosen: np.ndarray, eta: np.ndarray
) -> list[np.ndarray]:
    """Return δ near η at which the chosen candidates are strictly nearer than the rest.

    Parameters
    ----------
    near : Candidates
    chosen : ndarray of shape (n_candidates,) of bool
        The nearest at x + η, up to ties.
    eta : ndarray of shape (n_directions,)

    Returns
    -------
    list of ndarray of shape (n_features,)
        By growing margins; empty where the cell has no interior.
    """
    training, distance = near.bisectors.training, near.moved(eta)
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    # the ties at η, the closest of them where they are many: gap is (n_inside, n_outside)
    gap = distance[outside] - distance[inside][:, None]
    tied = np.argwhere(gap <= _TIE * np.abs(distance).max())
    if not len(tied):
        return [training.delta(eta)]
    if len(tied) > _MOST_TIES:
        tied = tied[np.argsort(gap[tied[:, 0], tied[:, 1]], kind="stable")[:_MOST_TIES]]
    pairs = [(int(inside[u]), int(outside[w])) for u, w in tied]
    deltas = []
    for margin in near.bisectors.margins:
        for _ in range(_MAX_INTERIOR_ROUNDS):
            point = near.bisectors.inside(near.half_spaces(pairs), margin)
            if point is None:
                break
            # a linear program may have gone to another of its solutions
            distance = near.moved(point)
            u, w = inside[distance[inside].argmax()], outside[distance[outside].argmin()]
            if distance[u] < distance[w] or (u, w) in pairs:
                deltas.append(training.delta(point))
                break
            pairs.append((int(u), int(w)))
    return deltas
