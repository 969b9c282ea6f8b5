r"""The exact minimal adversarial perturbation of 1-NN.

    r(x) = min over negatives j of the distance from x to j's cell (see ``_cells``).

The lower bound's values order the negatives; one is solved only if its value is below the
smallest distance found so far, so that few are (one or two a point).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from skrobust.certificates._cells import Cells, Pair
from skrobust.certificates._class_batch import ClassBatch
from skrobust.certificates._lower_bound import solved_batches
from skrobust.certificates._training_set import TrainingSet
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import exact_matmul, to_numpy
from skrobust.victims import EmbeddedQueries, NearestNeighborRule

__all__ = ["ExactRadii", "exact_radius"]

# how far into a cell an adversarial example reaches, for float64 and for float32 data
_MARGINS = {False: (1e-9, 1e-6, 1e-3), True: (1e-5, 1e-4, 1e-3)}

_LARGER_CAPS = 20
_CAP_FACTOR = 8.0  # first guess: the radius is below so many times the nearest negative's value
_MORE_CELLS = 6  # rounds of a wider search where the nearest cells hold no example

Flips = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class ExactRadii:
    """Radii from both sides.

    Attributes
    ----------
    lower : ndarray of shape (n_samples,)
        Proved; inf where no perturbation changes the prediction.
    upper : ndarray of shape (n_samples,)
        Norm of `perturbation`; inf where none was found that flips the victim.
    perturbation : ndarray of shape (n_samples, n_features)
        δ in the units of X, re-checked by the victim's prediction; 0 where there is none.
    """

    lower: np.ndarray
    upper: np.ndarray
    perturbation: np.ndarray


def exact_radius(
    rule: NearestNeighborRule,
    queries: EmbeddedQueries,
    labels: np.ndarray,
    budget: FeatureBudget,
    flips: Flips,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> ExactRadii:
    """Return the exact radii of 1-NN, with the perturbations that attain them.

    Parameters
    ----------
    rule : NearestNeighborRule with ``n_neighbors=1``
    queries : EmbeddedQueries of n_samples points
    labels : ndarray of shape (n_samples,), int64
        Indices into ``rule.classes``; -1 for a label the rule has not seen.
    budget : FeatureBudget
    flips : callable ``(rows, deltas) -> (mask, moved)``
        Whether the victim changes its prediction on ``X[rows] + deltas``, and how far the
        points really moved.
    device : torch.device
    dtype : torch.dtype, default=None
        Precision of the search; None takes float64 for small problems, else float32.
    """
    n_samples, n_features = queries.raw.shape
    lower, upper = np.zeros(n_samples), np.full(n_samples, np.inf)
    perturbation = np.zeros((n_samples, n_features))
    with torch.no_grad(), exact_matmul():
        training = TrainingSet.of(rule, budget, n_samples, device, dtype)
        solved = solved_batches(rule, training, queries, labels, lower, _CAP_FACTOR)
        for rows, batch, settled in solved:
            for _ in range(_LARGER_CAPS):
                # an infinite bound needs no search
                known = settled & np.isfinite(lower[rows])
                search = _Search(batch, np.where(known, lower[rows], 0.0))
                search.run()
                lower[rows] = np.maximum(lower[rows], search.lower())
                for k, delta in search.adversarial(rows, flips).items():
                    perturbation[rows[k]] = delta
                    upper[rows[k]] = budget.size(delta[None])[0]
                again = search.cut_short
                if not again.any():
                    break
                batch = batch.subset(again, 32 * search.cap[again])
                batch.solve()
                rows, settled = rows[again], np.ones(again.sum(), dtype=bool)
    inside = np.isfinite(lower) & (lower > 0)
    lower[inside] = np.nextafter(lower[inside], 0)
    return ExactRadii(np.minimum(lower, upper), upper, perturbation)


class _Search:
    """The nearest cells of a solved batch's rows."""

    def __init__(self, batch: ClassBatch, radius: np.ndarray):
        self.batch = batch
        self.radius = radius  # the lower bound to start from; 0 for rows to be left out
        self.cap = to_numpy(batch.cap)
        self.cells = Cells(batch)
        self.pairs: dict[tuple[int, int], Pair] = {}
        self.alive = self.radius > 0
        self.distance = np.where(self.alive, np.inf, 0.0)
        self.proved = np.where(self.alive, np.inf, 0.0)

    @property
    def cut_short(self) -> np.ndarray:
        """Mask of rows whose nearest cell lies beyond the cap, so that a larger one may help."""
        tried = np.bincount([t for t, _ in self.pairs], minlength=len(self.cap))
        unreachable = np.isinf(self.distance) & (tried == self.batch.n_negatives)
        return self.alive & (self.distance > self.cap) & ~unreachable

    def run(self) -> None:
        """Solve cells until every other one is proved to be farther than the nearest."""
        # at first the candidate with the smallest value, then all that its distance leaves open
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
        queue: dict[int, list[tuple[float, int, int]]] = {}
        columns = (column.tolist() for column in self.batch.candidates(limits))
        for t, j, i, value in zip(*columns, strict=True):
            if (t, j) not in self.pairs:
                queue.setdefault(t, []).append((value, j, i))
        for waiting in queue.values():
            waiting.sort(reverse=True)
        while queue:
            pairs = []
            for t, waiting in list(queue.items()):
                value, j, i = waiting.pop()
                if value < distance[t]:
                    pairs.append(Pair(t, j, [i]))
                if not waiting or value >= distance[t]:
                    del queue[t]
            self.cells.solve(pairs)
            for pair in pairs:
                self.pairs[pair.t, pair.j] = pair
                self.proved[pair.t] = min(self.proved[pair.t], pair.lower)
                self.distance[pair.t] = min(self.distance[pair.t], self.cells.size(pair))

    def lower(self) -> np.ndarray:
        """Return the proved radii."""
        # a negative that was not solved has a value of at least the distance, or the cap
        tried = np.bincount([t for t, _ in self.pairs], minlength=len(self.cap))
        empty = np.isinf(self.proved) & (tried == self.batch.n_negatives)
        cap = np.where(empty, np.inf, self.cap)
        proved = np.minimum(np.minimum(self.proved, self.distance), cap)
        return np.maximum(self.radius, proved)

    def adversarial(self, rows: np.ndarray, flips: Flips) -> dict[int, np.ndarray]:
        """Return the smallest perturbations found that flip the victim, by row of the batch."""
        found: dict[int, np.ndarray] = {}
        self._try(found, rows, flips)
        # a cell without interior (a duplicate across classes) is no adversarial example: look on
        for _ in range(_MORE_CELLS):
            missing = self.alive & np.isfinite(self.distance)
            missing[list(found)] = False
            if not missing.any():
                break
            wider = np.where(missing, 2 * self._farthest_tried(), -np.inf)
            self._solve(wider, np.where(missing, np.inf, -np.inf))
            self._try(found, rows, flips)
        return found

    def _farthest_tried(self) -> np.ndarray:
        tried = self.distance.copy()
        for (t, _), pair in self.pairs.items():
            if pair.point is not None:
                tried[t] = max(tried[t], self.cells.size(pair))
        return tried

    def _try(
        self,
        found: dict[int, np.ndarray],
        rows: np.ndarray,
        flips: Flips,
    ) -> None:
        """Check the solved cells of rows without an example, nearest first."""
        waiting: dict[int, list[Pair]] = {}
        for (t, _), pair in self.pairs.items():
            if t not in found and pair.point is not None and not pair.tried:
                waiting.setdefault(t, []).append(pair)
        for pairs in waiting.values():
            pairs.sort(key=self.cells.size, reverse=True)
        while waiting:
            current = {t: pairs.pop() for t, pairs in waiting.items()}
            for margin in _MARGINS[self.batch.queries.unit > 2.0**-53]:
                deltas = {
                    t: delta
                    for t, pair in current.items()
                    if t not in found and (delta := self.cells.delta(pair, margin)) is not None
                }
                if not deltas:
                    continue
                keys = np.fromiter(deltas, dtype=int)
                flipped, moved = flips(rows[keys], np.array(list(deltas.values())))
                found.update(zip(keys[flipped].tolist(), moved[flipped], strict=True))
            for pair in current.values():
                pair.tried = True
            waiting = {t: pairs for t, pairs in waiting.items() if pairs and t not in found}
