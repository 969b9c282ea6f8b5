r"""The exact minimal adversarial perturbation of 1-NN.

    r(x) = min over negatives j of the distance from x to j's cell (see ``_cells``).

The lower bound's values order the negatives; one is solved only if its value is below the
smallest distance found so far, so that few are (one or two a point).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from skrobust.certificates._problem import AttackOutcome, CertificationProblem
from skrobust.certificates._result import SoundnessError
from skrobust.certificates._run import Job
from skrobust.certificates.nearest_neighbor._class_batch import ClassBatch
from skrobust.certificates.nearest_neighbor._interior import MARGINS
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob, round_down
from skrobust.certificates.nearest_neighbor._voronoi_cells import CellProjection, VoronoiCells
from skrobust.utils._torch import exact_matmul, to_numpy

__all__ = ["CellJob", "ExactRadii"]

Attack = Callable[[np.ndarray, np.ndarray], AttackOutcome]

_LARGER_CAPS = 20
_WIDER_CAP = 1024.0  # where no cell can be reached
_CAP_FACTOR = 2.0  # as in the lower bound, so that no radius is smaller
_BINDING = 8  # positives that the next cell of a point starts with
_MORE_CELLS = 6  # rounds of a wider search where the nearest cells hold no example


@dataclass(frozen=True, eq=False)
class ExactRadii:
    """Radii from both sides.

    Attributes
    ----------
    lower : ndarray of shape (n_samples,)
        Proved; inf where no perturbation changes the prediction.
    upper : ndarray of shape (n_samples,)
        Norm of `perturbation`; inf where none was found that succeeds.
    perturbation : ndarray of shape (n_samples, n_features)
        δ in the units of X, re-checked by the victim's prediction; 0 where there is none.
    adversarial_label : ndarray of shape (n_samples,)
        What the victim predicts there; labels as they were given where there is none.
    """

    lower: np.ndarray
    upper: np.ndarray
    perturbation: np.ndarray
    adversarial_label: np.ndarray

    @classmethod
    def unknown(cls, lower: np.ndarray, n_features: int, labels: np.ndarray) -> Self:
        """Return radii with a lower side only."""
        return cls(
            lower, np.full(len(lower), np.inf), np.zeros((len(lower), n_features)), labels.copy()
        )

    def note(self, t: int, size: float, delta: np.ndarray, predicted: Any) -> None:
        """Keep an adversarial example if it is smaller than what is there."""
        if size < self.upper[t]:
            self.upper[t], self.perturbation[t], self.adversarial_label[t] = size, delta, predicted

    def settle(self, rows: np.ndarray) -> None:
        """Compare both sides; `rows` are the points' names.

        Raises
        ------
        SoundnessError
            If an example is smaller than what is proved, by more than the rounding of a norm.
        """
        growth = (self.perturbation.shape[1] + 16) * 2.0**-52
        crossed = self.lower > self.upper * (1 + growth)
        if crossed.any():
            t = int(np.flatnonzero(crossed)[0])
            raise SoundnessError(
                f"point {rows[t]} is proved up to {self.lower[t]:.17g}, but a perturbation of norm "
                f"{self.upper[t]:.17g} changes its prediction; {int(crossed.sum())} points cross. "
                "Please report this with the data."
            )
        self.lower[:] = np.minimum(self.lower, self.upper)

    def put(self, rows: np.ndarray, other: "ExactRadii") -> None:
        """Put the radii of some rows."""
        self.lower[rows], self.upper[rows] = other.lower, other.upper
        self.perturbation[rows], self.adversarial_label[rows] = (
            other.perturbation,
            other.adversarial_label,
        )


@dataclass(frozen=True, eq=False)
class CellJob(Job):
    """Exact radii of 1-NN.

    Attributes
    ----------
    problem : CertificationProblem
    bound : BoundJob
        The lower bound of the same points.
    """

    what: ClassVar[str] = "exact radii"

    problem: CertificationProblem
    bound: BoundJob

    @classmethod
    def of(cls, problem: CertificationProblem) -> Self:
        """Prepare the exact radii of a problem."""
        return cls(problem, BoundJob.of(problem))

    def solve(self, rows: np.ndarray) -> ExactRadii:
        """Return the radii of one batch."""
        with torch.no_grad(), exact_matmul():
            return self._solve(rows)

    def _solve(self, rows: np.ndarray) -> ExactRadii:
        lower, budget = np.zeros(len(rows)), self.problem.budget
        radii = ExactRadii.unknown(lower, len(budget.scale), self.problem.y[rows])
        for at, batch, settled, endless in self.bound.solved(rows, lower, _CAP_FACTOR):
            for _ in range(_LARGER_CAPS):
                # a bound that rounding alone limits needs no search
                search = _Search(batch, np.where(settled & ~endless, lower[at], 0.0))
                search.run()
                lower[at] = np.maximum(lower[at], search.lower())
                examples = search.adversarial(rows[at], self.problem.attack)
                for k, (delta, predicted) in examples.items():
                    radii.note(at[k], budget.size(delta[None])[0], delta, predicted)
                again, caps = search.larger_caps(lower[at], self.problem.limit)
                if not again.any():
                    break
                batch = batch.subset(again, caps[again])
                batch.solve()
                at, settled, endless = at[again], settled[again], endless[again]
        lower[:] = round_down(lower)
        radii.settle(rows)
        return radii


class _Search:
    """The nearest cells of a solved batch's rows."""

    def __init__(self, batch: ClassBatch, radius: np.ndarray):
        self.batch = batch
        self.radius = radius  # the lower bound to start from; 0 for rows to be left out
        self.cap = to_numpy(batch.cap)
        self.cells = VoronoiCells(batch)
        self.pairs: dict[tuple[int, int], CellProjection] = {}
        self.binding: dict[int, list[int]] = {}
        self.alive = self.radius > 0
        self.distance = np.where(self.alive, np.inf, 0.0)
        self.proved = np.where(self.alive, np.inf, 0.0)

    def larger_caps(self, lower: np.ndarray, overflow: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows whose nearest cell lies beyond the cap, and larger caps.

        Where no cell can be reached, a larger cap helps as long as rounding is covered up to it,
        and no farther than the box reaches.
        """
        tried = np.bincount([t for t, _ in self.pairs], minlength=len(self.cap))
        unreachable = np.isinf(self.distance) & (tried == self.batch.n_negatives)
        # a little beyond the box, so that rounding down ends outside it
        farthest = 1.01 * self.cells.comparisons.farthest
        limit = np.minimum(farthest, overflow)
        done = unreachable & ((lower < self.cap) | (self.cap >= limit))
        beyond = np.where(np.isfinite(farthest), limit, np.minimum(_WIDER_CAP * self.cap, limit))
        caps = np.where(unreachable, beyond, 4 * self.cap)
        return self.alive & (self.distance > self.cap) & ~done, caps

    def run(self) -> None:
        """Solve cells until every other one is proved to be farther than the nearest."""
        # at first the candidate with the smallest value, then all that its distance leaves open
        # (it ends: each round multiplies a threshold by 4, or raises it to a limit that only falls)
        threshold = self.radius * (1 + 1e-5) + np.finfo(float).tiny
        while True:
            self._solve(np.where(self.alive, threshold, -np.inf), self.distance)
            limit = np.minimum(self.distance, self.cap)
            if (threshold >= limit)[self.alive].all():
                break
            threshold = np.where(
                np.isfinite(self.distance), limit, np.minimum(4 * threshold, limit)
            )

    def _solve(self, threshold: np.ndarray, distance: np.ndarray) -> None:
        """Solve the candidates below `threshold`, in ascending order, while below `distance`."""
        limits = torch.as_tensor(threshold, device=self.batch.z64.device)
        queue: dict[int, list[tuple[float, int, list[int]]]] = {}
        columns = (column.tolist() for column in self.batch.candidates(limits))
        for t, j, i, value in zip(*columns, strict=True):
            known = self.pairs.get((t, j))
            if known is None or (known.left and known.lower < distance[t]):
                queue.setdefault(t, []).append((value, j, i))
        for waiting in queue.values():
            waiting.sort(reverse=True)
        while queue:
            pairs = []
            for t, waiting in list(queue.items()):
                value, j, i = waiting.pop()
                if value < distance[t]:
                    # what binds for one negative often binds for the next
                    pairs.append(
                        CellProjection(t, j, list(dict.fromkeys(i + self.binding.get(t, []))))
                    )
                if not waiting or value >= distance[t]:
                    del queue[t]
            self.cells.solve(pairs, distance)
            for pair in pairs:
                self.pairs[pair.t, pair.j] = pair
                self.proved[pair.t] = min(self.proved[pair.t], pair.lower)
                if not pair.left:
                    self.distance[pair.t] = min(self.distance[pair.t], self.cells.size(pair))
                    self.binding[pair.t] = pair.rows[:_BINDING]

    def lower(self) -> np.ndarray:
        """Return the proved radii."""
        # a negative that was not solved has a value of at least the distance, or the cap
        proved = np.minimum(np.minimum(self.proved, self.distance), self.cap)
        return np.maximum(self.radius, proved)

    def adversarial(self, rows: np.ndarray, attack: Attack) -> dict[int, tuple[np.ndarray, Any]]:
        """Return the smallest perturbations found that succeed, and what is predicted there.

        By row of the batch; `rows` are their names to the attack.
        """
        found: dict[int, tuple[np.ndarray, Any]] = {}
        self._try(found, rows, attack)
        # a cell without interior (a duplicate across classes) is no adversarial example: look on
        for _ in range(_MORE_CELLS):
            missing = self.alive & np.isfinite(self.distance)
            missing[list(found)] = False
            if not missing.any():
                break
            wider = np.where(missing, 2 * self._farthest_tried(), -np.inf)
            self._solve(wider, np.where(missing, np.inf, -np.inf))
            self._try(found, rows, attack)
        return found

    def _farthest_tried(self) -> np.ndarray:
        tried = self.distance.copy()
        for (t, _), pair in self.pairs.items():
            if pair.point is not None:
                tried[t] = max(tried[t], self.cells.size(pair))
        return tried

    def _try(
        self,
        found: dict[int, tuple[np.ndarray, Any]],
        rows: np.ndarray,
        attack: Attack,
    ) -> None:
        """Check the solved cells of rows without an example, nearest first."""
        waiting: dict[int, list[CellProjection]] = {}
        for (t, _), pair in self.pairs.items():
            if t not in found and pair.point is not None and not pair.tried:
                waiting.setdefault(t, []).append(pair)
        for pairs in waiting.values():
            pairs.sort(key=self.cells.size, reverse=True)
        while waiting:
            current = {t: pairs.pop() for t, pairs in waiting.items()}
            for margin in MARGINS[self.batch.queries.unit > 2.0**-53]:
                deltas = {
                    t: delta
                    for t, pair in current.items()
                    if t not in found and (delta := self.cells.delta(pair, margin)) is not None
                }
                if not deltas:
                    continue
                keys = np.fromiter(deltas, dtype=int)
                tried = attack(rows[keys], np.array(list(deltas.values())))
                for k in np.flatnonzero(tried.success):
                    found[int(keys[k])] = tried.moved[k], tried.predicted[k]
            for pair in current.values():
                pair.tried = True
            waiting = {t: pairs for t, pairs in waiting.items() if pairs and t not in found}
