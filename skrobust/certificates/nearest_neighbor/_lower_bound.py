r"""The k-NN bound of many points, in batches of one class: pruned exactly, sound in rounding.

For each test point, with a and b as in ``_api``:

1. Squared distances D to all training points: one matrix product a batch.
2. With S the b nearest positives, ``L_j = min_{i∈S} ε̃(x_i, x_j, x)`` is a lower bound on the
   value ``v_j``, the b-th largest ε̃ over all positives: one more product (b = 1).
3. In ascending order of L_j, candidates are valued over **all** positives, until L_j reaches
   the a-th smallest value so far: the others cannot change the result.

Test points go class by class, so that 3 is a matrix product too.

Rounding. Steps 1–3 run in float32 on large problems; every bound they use is lowered by the
worst error of its own arithmetic, so nothing is discarded wrongly. The values that survive are
computed again in float64 from differences, and the numerator loses τ, what the victim's rounding
may shift between two distances anywhere in the ball (see ``_geometry``), so that the radius holds
for the victim's own `predict`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates.nearest_neighbor._geometry import Rounding, TrainingSet, round_down
from skrobust.numerics import row_batches
from skrobust.threat_model import FeatureBudget
from skrobust.utils._parallel import Job, run_job
from skrobust.utils._torch import as_tensor, exact_matmul, to_numpy

__all__ = ["BoundJob", "ClassBatch", "ClassDistances", "lower_bound"]

_BLOCK = 2**26  # bytes of a block that should stay near the caches
_EXTRA_CANDIDATES = 7  # candidates valued in the first round, beyond the a needed
_EXTRA_POSITIVES = 3  # positives valued in float64, beyond the b needed
_CAP_FACTOR = 2.0  # of the a nearest negatives' value, within which rounding is bounded first
_DIAMETERS = 256
_TRIES = 20  # caps of a point
_ENDLESS = 1024.0  # times its cap: a value that nothing but rounding limits


@dataclass(frozen=True, eq=False)
class ClassDistances:
    """Test points of one class, with their distances to all training points.

    Attributes
    ----------
    training : TrainingSet
    queries : EmbeddedQueries of n_rows points
    label : int
        Their class: its training points are the positives, the others the negatives.
    z : Tensor of shape (n_rows, n_components), float64
    D : Tensor of shape (n_rows, n_train)
        D − ‖z‖² in the precision of the search; the common term cancels in every difference.
    """

    training: TrainingSet
    queries: EmbeddedQueries
    label: int
    z: torch.Tensor
    D: torch.Tensor

    @classmethod
    def of(cls, training: TrainingSet, queries: EmbeddedQueries, label: int) -> Self:
        """Compute the distances by one matrix product."""
        z, search = as_tensor(queries.points, training.Z.device), training.search
        centered = (z - training.center).to(search.Z.dtype)
        D = torch.mm(centered * -2, search.Z.T).add_(search.squared_Z)
        return cls(training, queries, label, z, D)

    @property
    def first(self) -> int:
        """The first positive."""
        return self.training.bounds[self.label][0]

    @property
    def last(self) -> int:
        """One more than the last positive."""
        return self.training.bounds[self.label][1]

    @property
    def n_negatives(self) -> int:
        """How many training points are of other classes."""
        return self.D.shape[1] - (self.last - self.first)

    def negative(self, column: torch.Tensor) -> torch.Tensor:
        """Turn a position among the negatives into a training row."""
        return torch.where(column < self.first, column, column + self.last - self.first)

    def nearest_negatives(self, n: int) -> torch.Tensor:
        """Return training rows of each row's n nearest negatives, of shape (n_rows, n)."""
        values, rows = [], []
        for part, shift in ((self.D[:, : self.first], 0), (self.D[:, self.last :], self.last)):
            nearest = torch.topk(part, min(n, part.shape[1]), largest=False)
            values.append(nearest.values)
            rows.append(nearest.indices + shift)
        columns = torch.topk(torch.cat(values, 1), n, largest=False).indices
        return torch.cat(rows, 1).gather(1, columns)

    def slack(self, rounding: Rounding) -> torch.Tensor:
        """Bound the error of a difference of D, ours and the victim's, of shape (n_rows,)."""
        size_Z = self.training.search.size_Z
        largest = float(self.training.magnitudes.max())
        growth = (self.z.shape[1] + 16) * self.training.search.unit
        reach = (self.z - self.training.center).norm(dim=1) + size_Z
        return (
            2 * growth * reach**2
            + 2 * rounding.absolute * (rounding.magnitude + largest) ** 2
            + 2 * rounding.relative * (reach + rounding.moved) ** 2
            + 4 * rounding.pruning * (reach + rounding.moved)
            + 8 * size_Z * rounding.embedding_error
            + 2 * rounding.underflow
        )

    def bound_all(self, b: int, slack: torch.Tensor) -> torch.Tensor:
        """Return L_j ≤ v_j of all negatives, of shape (n_rows, n_negatives): the minimum over S.

        Parameters
        ----------
        b : int
            How many of the nearest positives S has.
        slack : Tensor of shape (n_rows,)
        """
        D, search = self.D, self.training.search
        nearest = torch.topk(D[:, self.first : self.last], b, largest=False)
        # the positives of all rows' S, and where each row has its own among them
        S, place = torch.unique(nearest.indices + self.first, return_inverse=True)
        slack = slack.to(D.dtype)[:, None]
        L = D.new_empty(len(D), self.n_negatives)
        row_bytes = (len(S) + 2 * len(D)) * D.element_size()
        ranges = [(0, self.first, 0), (self.last, D.shape[1], self.first - self.last)]
        for start, stop, shift in ranges:
            for columns in row_batches(start, stop, row_bytes, _BLOCK):
                denominators = search.denominators(S, columns)
                out = L[:, columns.start + shift : columns.stop + shift]
                for s in range(b):
                    numerator = D[:, columns] - (nearest.values[:, s : s + 1] + slack)
                    bound = numerator.div_(denominators[place[:, s]])
                    if s == 0:
                        out.copy_(bound)
                    else:
                        torch.minimum(out, bound, out=out)
        # one more rounding of the quotient
        return L.sub_(L.abs() * (8 * search.unit))

    def bound_pairs(
        self, t: torch.Tensor, j: torch.Tensor, b: int, slack: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bound v_j from below over all positives, and name the best positives.

        Parameters
        ----------
        t, j : Tensor of shape (n_pairs,)
            Rows of the batch and rows of the training set.
        b : int
        slack : Tensor of shape (n_rows,)

        Returns
        -------
        values : Tensor of shape (n_pairs,)
        positives : Tensor of shape (n_pairs, n_kept)
            Training rows of the largest ε̃, at least b of them.
        """
        D, search, n_positives = self.D, self.training.search, self.last - self.first
        n_kept = min(b + _EXTRA_POSITIVES, n_positives)
        values = D.new_empty(len(t))
        positives = torch.empty(len(t), n_kept, dtype=torch.int64, device=t.device)
        slack, D_positive = slack.to(D.dtype), D[:, self.first : self.last]
        # pairs in the order of their negatives: each needs its denominators once
        order = torch.argsort(j)
        distinct, counts = torch.unique_consecutive(j[order], return_counts=True)
        ends = [0, *counts.cumsum(0).tolist()]
        row_bytes = n_positives * D.element_size()
        for rows in row_batches(0, len(distinct), row_bytes, _BLOCK):
            denominators = search.denominators(distinct[rows], slice(self.first, self.last))
            for part in row_batches(ends[rows.start], ends[rows.stop], 2 * row_bytes, _BLOCK):
                pair = order[part]
                at = torch.searchsorted(distinct[rows], j[pair])
                # ε̃ of these pairs with each positive, (n_part, n_positives)
                D_j = (D[t[pair], j[pair]] - slack[t[pair]])[:, None]
                best = torch.topk((D_j - D_positive[t[pair]]).div_(denominators[at]), n_kept)
                values[pair] = best.values[:, b - 1]
                positives[pair] = best.indices + self.first
        return values - values.abs() * (8 * search.unit), positives

    def value_pairs(
        self, t: torch.Tensor, j: torch.Tensor, i: torch.Tensor, b: int, rounding: Rounding
    ) -> torch.Tensor:
        """Return v_j over the positives i, sound, in float64.

        Parameters
        ----------
        t, j : Tensor of shape (n_pairs,)
            Rows of the batch and rows of the training set.
        i : Tensor of shape (n_pairs, n_kept)
            Positives, as rows of the training set.
        b : int
        rounding : Rounding
            Of the batch.

        Returns
        -------
        Tensor of shape (n_pairs,), float64
        """
        training = self.training
        values = torch.empty(len(t), dtype=torch.float64, device=t.device)
        row_bytes = 8 * i.shape[1] * 3 * max(training.Z.shape[1], training.V.shape[1])
        for rows in row_batches(0, len(t), row_bytes, _BLOCK):
            # points (n_pairs, 1 or n_kept, n_components), then numbers (n_pairs, 1 or n_kept)
            z, z_j, z_i = self.z[t[rows]], training.Z[j[rows]], training.Z[i[rows]]
            D_j = ((z_j - z) ** 2).sum(1)[:, None]
            D_i = ((z_i - z[:, None]) ** 2).sum(2)
            between = z_i.sub_(z_j[:, None]).norm(dim=2)  # ‖z_i − z_j‖
            moved = training.V[i[rows]] - training.V[j[rows]][:, None]
            moved = torch.linalg.vector_norm(moved, ord=training.budget.dual, dim=2)
            tau = rounding.take(t[rows][:, None]).tau(
                training.magnitudes[j[rows]][:, None],
                training.magnitudes[i[rows]],
                D_j,
                D_i,
                between,
            )
            growth = (training.V.shape[1] + 16) * 2.0**-53
            denominator = 2 * (moved * (1 + growth) + training.V_error)
            values[rows] = torch.topk((D_j - D_i - tau) / denominator, b).values[:, -1]
        return torch.nan_to_num(values * (1 - 2.0**-50), nan=0.0, posinf=torch.inf)


class ClassBatch:
    """Test points of one class, bounded together.

    Parameters
    ----------
    distances : ClassDistances
    a, b : int
        Orders of the bound.
    cap : Tensor of shape (n_rows,), default=None
        The victim's rounding is bounded within this norm, and no radius exceeds it. None chooses
        it from the nearest negatives.

    Attributes
    ----------
    rounding : Rounding
        Within the caps.
    bounds : Tensor of shape (n_rows, n_negatives)
        L_j.
    value : Tensor of shape (n_rows,), float64
        The bounds without the caps.
    """

    def __init__(self, distances: ClassDistances, a: int, b: int, cap: torch.Tensor | None = None):
        self.distances, self.a, self.b = distances, a, b
        self.cap = self._first_cap() if cap is None else cap
        training, queries = distances.training, distances.queries
        self.rounding = Rounding.within(to_numpy(self.cap), training, queries)
        self.slack = distances.slack(self.rounding)
        self.bounds = distances.bound_all(b, self.slack)
        self.value = self._solve()

    @property
    def radius(self) -> torch.Tensor:
        """The radii, float64 of shape (n_rows,)."""
        return torch.minimum(self.value, self.cap)

    def subset(self, chosen: np.ndarray, cap: np.ndarray) -> "ClassBatch":
        """Return the chosen rows, solved with caps of their own, of shape (n_chosen,)."""
        training, queries = self.distances.training, self.distances.queries
        some = queries.take(np.flatnonzero(chosen))
        distances = ClassDistances.of(training, some, self.distances.label)
        return ClassBatch(distances, self.a, self.b, as_tensor(cap, self.cap.device))

    def candidates(
        self, threshold: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the pairs whose value may be below a row's threshold.

        Returns
        -------
        t, j : Tensor of shape (n_pairs,)
            Rows of the batch in ascending order, and negatives.
        i : Tensor of shape (n_pairs, n_kept)
            Each negative's most binding positives.
        values : Tensor of shape (n_pairs,), float64
            Lower bounds on the pairs' values, all below the threshold.
        """
        t, column = torch.nonzero(self.bounds < threshold[:, None], as_tuple=True)
        j = self.distances.negative(column)
        values, positives = self.distances.bound_pairs(t, j, self.b, self.slack)
        values = values.double()
        near = values < threshold[t]
        return t[near], j[near], positives[near], values[near]

    def _first_cap(self) -> torch.Tensor:
        """Bound the result from above, roughly: a multiple of the a nearest negatives' value."""
        distances = self.distances
        j = distances.nearest_negatives(self.a)
        t = torch.arange(len(j), device=j.device)[:, None].expand_as(j)
        no_slack = torch.zeros(len(j), dtype=torch.float64, device=j.device)
        plain, _ = distances.bound_pairs(t.reshape(-1), j.reshape(-1), self.b, no_slack)
        cap = _CAP_FACTOR * plain.reshape(j.shape).max(1).values.double().clamp_min(0)
        # at first not farther than some diameters of the training set: rounding grows with it
        training = distances.training
        diameters = _DIAMETERS * _CAP_FACTOR * 2 * training.search.size_Z
        farthest = diameters / max(training.movement.stretch, 1e-100 * diameters, 1e-100)
        cap = torch.nan_to_num(cap, nan=0.0).clamp_max(farthest)
        # in coarse steps: the last bits of the search shall not show in the result
        return torch.where(cap > 0, torch.exp2((8 * cap.log2()).ceil() / 8), cap)

    def _solve(self) -> torch.Tensor:
        """Return the a-th smallest v_j of each row, of shape (n_rows,), float64."""
        n_negatives, alive = self.distances.n_negatives, self.cap > 0
        # the a smallest values so far, ascending
        pool = self.cap.new_full((len(self.cap), self.a), torch.inf)
        pool[~alive] = 0
        done, width = 0, min(self.a + _EXTRA_CANDIDATES, n_negatives)
        active = torch.nonzero(alive)[:, 0]
        while len(active):
            # the negatives with the smallest bounds, those of earlier rounds left out
            smallest = torch.topk(self.bounds[active], width, largest=False)
            rows = active[:, None].expand(-1, width - done)
            columns, bounds = smallest.indices[:, done:], smallest.values[:, done:].double()
            self._update(pool, rows, columns, bounds)
            # rows whose next candidates may still matter
            needed = (self.bounds[active] < pool[active, -1:]).sum(1)
            active = active[needed > width]
            done, width = width, min(4 * width, n_negatives)
            if done == width:
                break
        return pool[:, -1].clamp_min(0)

    def _update(
        self, pool: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, bounds: torch.Tensor
    ) -> None:
        """Value candidates and keep the a smallest values of each row in `pool`.

        `rows`, `columns` and `bounds` have shape (n_active, n_candidates).
        """
        useful = bounds < pool[rows[:, 0], -1:]
        t, j = rows[useful], self.distances.negative(columns[useful])
        approximate, positives = self.distances.bound_pairs(t, j, self.b, self.slack)
        # the a most promising of each row first: they lower what the others must beat
        values = pool.new_full(useful.shape, torch.inf)
        values[useful] = approximate.double()
        ranks = values.argsort(1).argsort(1)[useful]
        for chosen in (ranks < self.a, ranks >= self.a):
            chosen &= approximate < pool[t, -1]
            self._insert(pool, t[chosen], j[chosen], positives[chosen])

    def _insert(
        self, pool: torch.Tensor, t: torch.Tensor, j: torch.Tensor, i: torch.Tensor
    ) -> None:
        """Value pairs in float64 and merge them into `pool`."""
        if not len(t):
            return
        exact = self.distances.value_pairs(t, j, i, self.b, self.rounding)
        # t is sorted: place each row's values side by side
        distinct, place, counts = torch.unique_consecutive(
            t, return_inverse=True, return_counts=True
        )
        position = torch.arange(len(t), device=t.device) - (counts.cumsum(0) - counts)[place]
        table = exact.new_full((len(distinct), int(counts.max())), torch.inf)
        table[place, position] = exact
        merged = torch.cat([pool[distinct], table], 1)
        pool[distinct] = torch.topk(merged, self.a, largest=False).values


@dataclass(frozen=True, eq=False)
class BoundJob(Job):
    """Lower bounds of many points.

    Attributes
    ----------
    rule : NearestNeighborRule
    queries : EmbeddedQueries of n_samples points
    labels : ndarray of shape (n_samples,), int64
        True labels as indices into ``rule.classes``; -1 for a label the rule has not seen.
    a, b : int
        Orders of the bound.
    budget : FeatureBudget
        Norm, scales and mutable features of the adversary; its box is not used, which can
        only make the bound smaller.
    limit : float
        The norm up to which the victim's arithmetic does not overflow.
    device : torch.device
    dtype : torch.dtype or None
        Precision of the search; None takes float64 for small problems, else float32.
    """

    what: ClassVar[str] = "lower bound"

    rule: NearestNeighborRule
    queries: EmbeddedQueries
    labels: np.ndarray
    a: int
    b: int
    budget: FeatureBudget
    limit: float
    device: torch.device
    dtype: torch.dtype | None = None

    @classmethod
    def of(cls, problem: CertificationProblem) -> Self:
        """Take what the bound needs of a problem: without the victim there is less to send."""
        rule, labels, K = problem.rule, problem.labels, problem.rule.n_neighbors
        a, b = (K + 1) // 2, K // 2 + 1
        if problem.target is not None:
            # the target's class against all others: to win it needs ⌈K / classes⌉ votes at least
            a = -(-K // len(rule.classes))
            b = K - a + 1
            wanted = (rule.labels == problem.target).astype(np.int64)
            rule = replace(rule, labels=wanted, classes=np.array([0, 1]))
            labels = np.where(labels < 0, -1, 0)
        queries, budget = problem.queries, problem.budget
        return cls(rule, queries, labels, a, b, budget, problem.limit, problem.device)

    @cached_property
    def training(self) -> TrainingSet:
        """The training set on the device."""
        return TrainingSet.of(self.rule, self.budget, self.queries, self.device, self.dtype)

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Training points of each class."""
        return np.bincount(self.rule.labels, minlength=len(self.rule.classes))

    def known(self) -> np.ndarray:
        """Return the radii that need no search: inf with too few negatives, else 0."""
        seen = self.labels >= 0
        own = np.where(seen, self._sizes[self.labels], 0)
        sure = seen & (own >= self.b) & (self._sizes.sum() - own < self.a)
        return np.where(sure, np.inf, 0.0)

    def batches(self) -> list[np.ndarray]:
        """Return rows to solve together: of one class, within the memory."""
        sizes, total = self._sizes, int(self._sizes.sum())
        batches = []
        for label in np.unique(self.labels[self.labels >= 0]):
            if sizes[label] < self.b or total - sizes[label] < self.a:
                continue
            members = np.flatnonzero(self.labels == label)
            batches += [members[part] for part in row_batches(0, len(members), 12 * total, 2**30)]
        return batches

    def solve(self, rows: np.ndarray) -> np.ndarray:
        """Return the radii of one batch, of shape (n_rows,)."""
        radius = np.zeros(len(rows))
        with torch.no_grad(), exact_matmul():
            for _ in self.solve_by_caps(rows, radius):
                pass
        return round_down(radius)

    def solve_by_caps(
        self, rows: np.ndarray, radius: np.ndarray
    ) -> Iterator[tuple[np.ndarray, ClassBatch, np.ndarray, np.ndarray]]:
        """Solve one batch; fill `radius`, of shape (n_rows,).

        The victim's rounding is bounded within a cap. Rows whose cap turns out too small or
        much too large come again with another one; every cap gives a sound radius, the largest
        stands.

        Yields
        ------
        at : ndarray of int
            Positions in `rows`.
        batch : ClassBatch
        settled : ndarray of bool
            Which of them will not come again.
        endless : ndarray of bool
            Which of them are bounded by what rounding is allowed for, and by nothing else.
        """
        at, endless = np.arange(len(rows)), np.zeros(len(rows), dtype=bool)
        queries, label = self.queries.take(rows), int(self.labels[rows[0]])
        batch = ClassBatch(ClassDistances.of(self.training, queries, label), self.a, self.b)
        for tries in range(_TRIES):
            cap, value = to_numpy(batch.cap), to_numpy(batch.value)
            proved = to_numpy(batch.radius)
            radius[at] = np.maximum(radius[at], proved)
            endless[at] = (value >= _ENDLESS * cap) | (endless[at] & (proved == 0))
            again, caps = _other_caps(proved, cap, self.limit, tries)
            # between a cap that rounding covers and one that it does not
            between = endless[at] & (proved == 0) & (cap > 2 * radius[at])
            again |= between & (tries < _TRIES - 1)
            caps = np.where(between, np.sqrt(cap * radius[at]), caps)
            yield at, batch, ~again, endless[at]
            if not again.any():
                break
            at, batch = at[again], batch.subset(again, caps[again])


def lower_bound(
    job: BoundJob, n_jobs: int | None = None, verbose: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the certified radius of each point, and the mask of those that were reached.

    A radius is 0 where nothing is proved, inf where no perturbation changes the prediction.
    """
    radius = job.known()
    done = run_job(job, job.batches(), len(radius), radius.__setitem__, n_jobs, verbose)
    return radius, done


def _other_caps(
    proved: np.ndarray, cap: np.ndarray, limit: float, tries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that deserve another cap, and the caps, which stay below `limit`."""
    too_small = (proved >= cap) & (proved > 0) & (cap < limit)
    too_large = (proved > 0) & (proved < cap / 64)
    hopeless = (proved == 0) & (cap > 0) & (tries < 2)
    larger = np.minimum(32.0 ** (tries + 1) * cap, limit)
    caps = np.select([too_small, too_large], [larger, 4 * proved], cap / 1024)
    again = too_small | too_large | hopeless
    return again & (tries < _TRIES - 1), caps
