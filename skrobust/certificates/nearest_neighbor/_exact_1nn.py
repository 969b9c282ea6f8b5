r"""The exact minimal adversarial perturbation of 1-NN.

The perturbations η (δ = s ∘ η) that bring x at least as near to the negative j as to every
positive i form a polyhedron, j's cell,

    2 (v_i − v_j)·η ≤ D_i − D_j   for all i ∈ P,

and x's exact radius is the least norm over all j. Each polyhedron is solved by constraint
generation: from the most binding positive on, the violated one is added and the small program
solved again. The violated ones of many pairs are found by one matrix product.

The multipliers of a solution prove a lower bound (see ``_bisectors``); rows that were not
added could only raise it.

The lower bound's values order the negatives; one is solved only if its value is below the
smallest distance so far, so that few are (one or two a point).

Source: Wang, Liu, Yi, Zhou, Hsieh, *Evaluating the Robustness of Nearest Neighbor Classifiers:
A Primal-Dual Perspective*, arXiv:1906.03972.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch

from skrobust.certificates._problem import AttackOutcome, CertificationProblem
from skrobust.certificates._result import SoundnessError
from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces, HalfSpaces
from skrobust.certificates.nearest_neighbor._geometry import round_down
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob, ClassBatch
from skrobust.numerics import row_batches
from skrobust.utils._parallel import Job
from skrobust.utils._torch import as_tensor, exact_matmul, to_numpy

__all__ = ["CellJob", "CellProjection", "ExactRadii", "VoronoiCells", "first_successes"]

Attack = Callable[[np.ndarray, np.ndarray], AttackOutcome]

_LARGER_CAPS = 20
_WIDER_CAP = 1024.0  # where no cell can be reached
_BINDING = 8  # positives that the next cell of a point starts with
_MORE_CELLS = 6  # rounds of a wider search where the nearest cells hold no example
_MAX_ROUNDS = 200  # of constraint generation
_VIOLATION = 1e-10  # relative to the size of the constraint's terms
_BLOCK = 2**27  # bytes of a block of violations


@dataclass(frozen=True, eq=False)
class ExactRadii:
    """Radii from both sides.

    Attributes
    ----------
    lower : ndarray of shape (n_samples,)
        Proved; inf where no perturbation changes the prediction.
    upper : ndarray of shape (n_samples,)
        Norm of `perturbation`; inf where no example is known.
    perturbation : ndarray of shape (n_samples, n_features)
        δ in the units of X, which the victim's prediction confirms; 0 where there is none.
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
        problem, lower = self.problem, np.zeros(len(rows))
        radii = ExactRadii.unknown(lower, len(problem.budget.scale), problem.y[rows])
        for at, batch, settled, endless in self.bound.solve_by_caps(rows, lower):
            for _ in range(_LARGER_CAPS):
                # a bound that rounding alone limits needs no search
                search = _CellSearch(batch, np.where(settled & ~endless, lower[at], 0.0))
                search.run()
                lower[at] = np.maximum(lower[at], search.lower())
                examples = search.adversarial(rows[at], problem.attack)
                for k, (delta, predicted) in examples.items():
                    radii.note(at[k], problem.budget.size(delta[None])[0], delta, predicted)
                # rows whose nearest cell lies beyond the cap come again with a larger one
                again, caps = search.larger_caps(lower[at], problem.limit)
                if not again.any():
                    break
                batch = batch.subset(again, caps[again])
                at, settled, endless = at[again], settled[again], endless[again]
        lower[:] = round_down(lower)
        radii.settle(rows)
        return radii


@dataclass(eq=False)
class CellProjection:
    """The projection of a test point onto the cell of one negative.

    Attributes
    ----------
    t, j : int
        Row of the batch, row of the training set.
    rows : list of int
        Positives whose constraints are in force, as rows of the training set.
    lower : float
        Proved lower bound on the distance, sound for the victim's rounding.
    point : ndarray of shape (n_directions,) or None
        The nearest η in the coordinates of the training set's V; None where the cell is
        empty or was left, or the solver failed.
    left : bool
        Whether it was left because it is farther than what is known.
    tried : bool
        Whether the victim has predicted points of it.
    """

    t: int
    j: int
    rows: list[int] = field(default_factory=list)
    lower: float = 0.0
    point: np.ndarray | None = None
    left: bool = False
    tried: bool = False


class VoronoiCells:
    """The cells of a batch's negatives.

    Parameters
    ----------
    batch : ClassBatch
    """

    def __init__(self, batch: ClassBatch):
        self.distances = distances = batch.distances
        training = distances.training
        self.bisectors = BisectorHalfspaces.around(training, distances.queries, batch.rounding)
        # −(D_i − ‖z‖²), (n_rows, n_positives): one product for all rounds
        positives = slice(distances.first, distances.last)
        Z = training.Z[positives] - training.center
        self.sides = torch.mm((distances.z - training.center) * 2, Z.T).sub_((Z * Z).sum(1))
        # a shift of all v does not change a constraint: centred ones search better
        same = training.V is training.Z
        self.V_center = training.center if same else torch.zeros_like(training.V[0])
        self.V_positive = Z if same else training.V[positives]

    def _half_spaces(self, pair: CellProjection) -> HalfSpaces:
        return self.bisectors[pair.t].half_spaces([pair.j] * len(pair.rows), pair.rows)

    def solve(self, pairs: list[CellProjection], distance: np.ndarray) -> None:
        """Solve pairs, in place; leave those that are farther than their row's distance."""
        still = pairs
        for _ in range(_MAX_ROUNDS):
            for pair in still:
                # over its own rows: a lower bound already
                solution = self.bisectors[pair.t].solve(self._half_spaces(pair))
                pair.point, pair.lower = solution.point, max(pair.lower, solution.proved)
                pair.left = pair.lower >= distance[pair.t]
                if pair.left:
                    pair.point = None
            still = self._add_violated([pair for pair in still if pair.point is not None])
            if not still:
                break

    def _add_violated(self, pairs: list[CellProjection]) -> list[CellProjection]:
        """Give each pair the positive it violates most; return those that violate one."""
        distances, training = self.distances, self.distances.training
        device, still = distances.z.device, []
        row_bytes = 3 * 8 * len(self.V_positive)
        for part in row_batches(0, len(pairs), row_bytes, _BLOCK):
            chosen = pairs[part]
            eta = as_tensor(np.array([pair.point for pair in chosen]), device)
            t = torch.tensor([pair.t for pair in chosen], device=device)
            j = torch.tensor([pair.j for pair in chosen], device=device)
            # 2 v_i·η − (D_i − ‖z‖²), (n_pairs, n_positives), and the same of j, (n_pairs,)
            side = torch.addmm(self.sides[t], eta, self.V_positive.T, alpha=2)
            z_j = training.Z[j] - training.center
            own = (2 * eta * (training.V[j] - self.V_center)).sum(1) - (z_j * z_j).sum(1)
            own += 2 * ((distances.z[t] - training.center) * z_j).sum(1)
            worst = side.max(1)
            size = torch.maximum(worst.values.abs(), side.min(1).values.abs()) + own.abs()
            violated = to_numpy(worst.values - own > _VIOLATION * size)
            for pair, bad, row in zip(
                chosen, violated, (worst.indices + distances.first).tolist(), strict=True
            ):
                if bad and row not in pair.rows:
                    pair.rows.append(row)
                    still.append(pair)
        return still

    def size(self, pair: CellProjection) -> float:
        """Return the norm of a solved pair's point; inf where it has none."""
        return self.distances.training.size(pair.point)

    def delta(self, pair: CellProjection, margin: float) -> np.ndarray | None:
        """Return a δ inside a solved pair's cell by some margin, None where there is none."""
        eta = self.bisectors[pair.t].inside(self._half_spaces(pair), margin)
        return None if eta is None else self.distances.training.delta(eta)


class _CellSearch:
    """The nearest cells of a batch's rows.

    Parameters
    ----------
    batch : ClassBatch
    radius : ndarray of shape (n_rows,)
        The lower bound to start from; 0 for rows to be left out.
    """

    def __init__(self, batch: ClassBatch, radius: np.ndarray):
        self.batch, self.cells = batch, VoronoiCells(batch)
        self.radius, self.cap = radius, to_numpy(batch.cap)
        self.pairs: dict[tuple[int, int], CellProjection] = {}
        self.binding: dict[int, list[int]] = {}
        self.alive = self.radius > 0
        # of the nearest cell, and of all cells: what is proved
        self.distance = np.where(self.alive, np.inf, 0.0)
        self.proved = np.where(self.alive, np.inf, 0.0)

    def larger_caps(self, lower: np.ndarray, overflow: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows whose nearest cell lies beyond the cap, and larger caps.

        Where no cell can be reached, a larger cap helps as long as rounding is covered up to it,
        and no farther than the box reaches.
        """
        tried = np.bincount([t for t, _ in self.pairs], minlength=len(self.cap))
        unreachable = np.isinf(self.distance) & (tried == self.batch.distances.n_negatives)
        # a little beyond the box, so that rounding down ends outside it
        distances = self.batch.distances
        farthest = 1.01 * distances.training.budget.farthest(distances.queries.raw)
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
        limits = torch.as_tensor(threshold, device=self.batch.cap.device)
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
        """Return small perturbations that succeed, and what is predicted there.

        By row of the batch; `rows` are their positions in the problem.
        """
        examples: dict[int, tuple[np.ndarray, Any]] = {}
        self._try(examples, rows, attack)
        # a cell without interior (a duplicate across classes) is no adversarial example: look on
        for _ in range(_MORE_CELLS):
            missing = self.alive & np.isfinite(self.distance)
            missing[list(examples)] = False
            if not missing.any():
                break
            wider = np.where(missing, 2 * self._farthest_tried(), -np.inf)
            self._solve(wider, np.where(missing, np.inf, -np.inf))
            self._try(examples, rows, attack)
        return examples

    def _farthest_tried(self) -> np.ndarray:
        tried = self.distance.copy()
        for (t, _), pair in self.pairs.items():
            if pair.point is not None:
                tried[t] = max(tried[t], self.cells.size(pair))
        return tried

    def _try(
        self, examples: dict[int, tuple[np.ndarray, Any]], rows: np.ndarray, attack: Attack
    ) -> None:
        """Check the solved cells of rows without an example."""
        waiting: dict[int, list[CellProjection]] = {}
        for (t, _), pair in self.pairs.items():
            if t not in examples and pair.point is not None and not pair.tried:
                waiting.setdefault(t, []).append(pair)
        proposals = {t: self._deltas(pairs) for t, pairs in waiting.items()}
        examples |= first_successes(proposals, rows, attack)

    def _deltas(self, pairs: list[CellProjection]) -> Iterator[np.ndarray]:
        """Yield δ inside of cells, the nearest cell first, each by growing margins."""
        farthest_first = sorted(pairs, key=self.cells.size, reverse=True)
        for pair in reversed(farthest_first):
            pair.tried = True
            for margin in self.cells.bisectors[pair.t].margins:
                delta = self.cells.delta(pair, margin)
                if delta is not None:
                    yield delta


def first_successes(
    proposals: Mapping[int, Iterator[np.ndarray]], rows: np.ndarray, attack: Attack
) -> dict[int, tuple[np.ndarray, Any]]:
    """Return the first perturbation of each point that succeeds, and what is predicted there.

    Parameters
    ----------
    proposals : dict of int to iterator of ndarray of shape (n_features,)
        Perturbations of each point, by its position in `rows`.
    rows : ndarray of shape (n_rows,)
    attack : callable ``(rows, deltas) -> AttackOutcome``
    """
    examples: dict[int, tuple[np.ndarray, Any]] = {}
    while proposals:
        # one perturbation of each point, in one prediction
        candidates = ((t, next(more, None)) for t, more in proposals.items())
        deltas = {t: delta for t, delta in candidates if delta is not None}
        if not deltas:
            break
        keys = np.fromiter(deltas, dtype=int)
        outcome = attack(rows[keys], np.array(list(deltas.values())))
        for k in np.flatnonzero(outcome.success):
            examples[int(keys[k])] = outcome.moved[k], outcome.predicted[k]
        proposals = {t: proposals[t] for t in deltas if t not in examples}
    return examples
