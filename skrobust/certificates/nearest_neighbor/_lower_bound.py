"""The k-NN lower bound of many points, in batches of one class."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates._run import Job, run_job
from skrobust.certificates.nearest_neighbor._class_batch import ClassBatch
from skrobust.certificates.nearest_neighbor._training_set import TrainingSet
from skrobust.numerics import row_batches
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import exact_matmul, to_numpy

__all__ = ["BoundJob", "lower_bound", "round_down"]

_TRIES = 20
_ENDLESS = 1024.0  # times its cap: a value that nothing but rounding limits


def round_down(radius: np.ndarray) -> np.ndarray:
    """Round finite positive radii down: strictly below the infimum."""
    return np.where(np.isfinite(radius) & (radius > 0), np.nextafter(radius, 0), radius)


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

    def known(self) -> np.ndarray:
        """Return the radii that need no search: inf with too few negatives, else 0."""
        sizes = np.bincount(self.rule.labels, minlength=len(self.rule.classes))
        seen = self.labels >= 0
        own = np.where(seen, sizes[self.labels], 0)
        sure = seen & (own >= self.b) & (sizes.sum() - own < self.a)
        return np.where(sure, np.inf, 0.0)

    def batches(self) -> list[np.ndarray]:
        """Return rows to solve together: of one class, within the memory."""
        sizes = np.bincount(self.rule.labels, minlength=len(self.rule.classes))
        found = []
        for label in np.unique(self.labels[self.labels >= 0]):
            if sizes[label] < self.b or sizes.sum() - sizes[label] < self.a:
                continue
            members = np.flatnonzero(self.labels == label)
            for part in row_batches(0, len(members), 12 * int(sizes.sum()), 2**30):
                found.append(members[part])
        return found

    def solve(self, rows: np.ndarray) -> np.ndarray:
        """Return the radii of one batch, of shape (n_rows,)."""
        radius = np.zeros(len(rows))
        with torch.no_grad(), exact_matmul():
            for _ in self.solved(rows, radius, 2.0):
                pass
        return round_down(radius)

    def solved(
        self, rows: np.ndarray, radius: np.ndarray, cap_factor: float
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
            Solved.
        settled : ndarray of bool
            Which of them will not come again.
        endless : ndarray of bool
            Which of them are bounded by what rounding is allowed for, and by nothing else.
        """
        label = int(self.labels[rows[0]])
        at = np.arange(len(rows))
        batch = ClassBatch(
            self.rule, self.training, self.queries, rows, label, self.a, self.b, cap_factor
        )
        endless = np.zeros(len(rows), dtype=bool)
        for tries in range(_TRIES):
            found = to_numpy(batch.solve())
            cap, value = to_numpy(batch.cap), to_numpy(batch.value)
            radius[at] = np.maximum(radius[at], found)
            endless[at] = (value >= _ENDLESS * cap) | (endless[at] & (found == 0))
            again, caps = _other_caps(found, cap, self.limit, tries)
            # between a cap that rounding covers and one that it does not
            between = endless[at] & (found == 0) & (cap > 2 * radius[at])
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
    found: np.ndarray, cap: np.ndarray, limit: float, tries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that deserve another cap, and the caps, which stay below `limit`."""
    too_small = (found >= cap) & (found > 0) & (cap < limit)
    too_large = (found > 0) & (found < cap / 64)
    hopeless = (found == 0) & (cap > 0) & (tries < 2)
    larger = np.minimum(32.0 ** (tries + 1) * cap, limit)
    caps = np.select([too_small, too_large], [larger, 4 * found], cap / 1024)
    again = too_small | too_large | hopeless
    return again & (tries < _TRIES - 1), caps
