r"""The exact minimal adversarial perturbation of K-NN, K > 1, from both sides.

For each point: an adversarial example (``_descent``), the training points that can be among the
K nearest within its norm (``_neighborhood``), and a branch and bound over which of them are
(``_sides``). With a limit on the nodes, what is left open bounds the radius from below.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates._run import Job
from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces
from skrobust.certificates.nearest_neighbor._branch_and_bound import BranchAndBound, Incumbent
from skrobust.certificates.nearest_neighbor._exact_1nn import ExactRadii
from skrobust.certificates.nearest_neighbor._interior import interior_perturbations
from skrobust.certificates.nearest_neighbor._local_search import WorkingSet, local_search
from skrobust.certificates.nearest_neighbor._lower_bound import round_down
from skrobust.certificates.nearest_neighbor._neighborhood import (
    Candidates,
    Neighborhood,
    squared_distances,
)
from skrobust.certificates.nearest_neighbor._rounding import Rounding
from skrobust.certificates.nearest_neighbor._training_set import TrainingSet
from skrobust.certificates.nearest_neighbor._vote import Vote
from skrobust.utils._torch import to_numpy

__all__ = ["VoteJob"]

_CLASSES = 3  # nearest classes that a descent tries
_WIDER = 20  # rounds of a descent among more and more training points
_GROWTH = 8.0  # of the radius where no example is known
_MAX_GROWTH = 12


@dataclass(frozen=True, eq=False)
class VoteJob(Job):
    """Exact radii of K-NN, of points that are predicted right.

    Attributes
    ----------
    problem : CertificationProblem
    lower : ndarray of shape (n_samples,)
        Proved so far.
    rtol : float
    max_nodes : int
    """

    what: ClassVar[str] = "exact radii"

    problem: CertificationProblem
    lower: np.ndarray
    rtol: float
    max_nodes: int

    @cached_property
    def training(self) -> TrainingSet:
        """The training set, in float64."""
        problem = self.problem
        return TrainingSet.of(
            problem.rule, problem.budget, problem.queries, torch.device("cpu"), torch.float64
        )

    def solve(self, rows: np.ndarray) -> ExactRadii:
        """Return the radii of one batch."""
        queries = self.problem.queries.take(rows)
        labels = self.problem.labels[rows]
        found = ExactRadii.unknown(self.lower[rows], queries.raw.shape[1], self.problem.y[rows])
        lower, upper = found.lower, found.upper
        self._descend(queries, rows, labels, found)
        if self.max_nodes > 0:
            comparisons = self._comparisons(queries, np.where(np.isfinite(upper), upper, 0.0))
            leaves: dict[int, list[np.ndarray]] = {}
            for t in np.flatnonzero(upper > (1 + self.rtol) * lower).tolist():
                if np.isfinite(upper[t]):
                    proved, leaf = self._search(comparisons, t, labels[t], upper[t])
                else:
                    proved, leaf = self._without_example(
                        queries.take(np.array([t])), labels[t], lower[t]
                    )
                lower[t] = max(lower[t], round_down(np.minimum(proved, upper[t])))
                if leaf is not None:
                    leaves[t] = leaf.deltas
            self._try(rows, leaves, found)
        found.settle(rows)
        return found

    def _comparisons(self, queries: EmbeddedQueries, radius: np.ndarray) -> BisectorHalfspaces:
        rounding = Rounding.within(radius, self.problem.rule, self.training, queries)
        return BisectorHalfspaces(self.training, queries, rounding)

    def _search(
        self, comparisons: BisectorHalfspaces, t: int, label: int, radius: float
    ) -> tuple[float, Incumbent | None]:
        """Search below `radius`; return what is proved, and a leaf if one was found."""
        K = self.problem.rule.n_neighbors
        near = Neighborhood.within(radius, comparisons, t, K, self.training.reach)
        if near is None:
            return 0.0, None
        vote = Vote(K, self.training.labels[near.rows], int(label), self.problem.target)
        search = BranchAndBound(
            comparisons,
            t,
            near,
            vote,
            best=radius,
            rtol=self.rtol / 2,
            max_nodes=self.max_nodes,
        )
        return search.run(), search.leaf

    def _without_example(
        self, queries: EmbeddedQueries, label: int, lower: float
    ) -> tuple[float, Incumbent | None]:
        """Search in growing balls around one point where no adversarial example is known."""
        radius = lower
        if radius == 0:
            # a first guess: as far as the K-th neighbour, or the nearest that is not the point
            squared = np.sort(squared_distances(to_numpy(self.training.Z64), queries.points[0]))
            apart = squared[self.problem.rule.n_neighbors - 1 :]
            apart = apart[apart > 0]
            if not len(apart) or self.training.reach == 0:
                return lower, None
            radius = float(np.sqrt(apart[0])) / self.training.reach
        for _ in range(_MAX_GROWTH):
            radius *= _GROWTH
            comparisons = self._comparisons(queries, np.array([radius]))
            proved, leaf = self._search(comparisons, 0, label, radius)
            lower = max(lower, proved)
            if leaf is not None:
                return lower, leaf
            if proved < radius:  # too many nodes or candidates
                break
            if radius > comparisons.farthest[0]:
                return np.inf, None  # the box is searched
        return lower, None

    def _descend(
        self, queries: EmbeddedQueries, rows: np.ndarray, labels: np.ndarray, found: ExactRadii
    ) -> None:
        """Find adversarial examples of all points."""
        K, train_labels = self.problem.rule.n_neighbors, self.training.labels
        comparisons = self._comparisons(queries, np.zeros(len(rows)))
        waiting: dict[int, list[np.ndarray]] = {}
        for t in range(len(rows)):
            around = WorkingSet(comparisons, t, K)
            deltas = []
            for g in self._rivals(around.near, train_labels, int(labels[t])):
                for _ in range(_WIDER):
                    near = around.near
                    vote = Vote(K, train_labels[near.rows], int(labels[t]), self.problem.target)
                    eta, chosen = local_search(comparisons, t, near, vote, g)
                    if eta is None:
                        break
                    if not around.widen(eta):
                        deltas += interior_perturbations(comparisons, t, near, chosen, eta)
                        break
            if deltas:
                sizes = self.problem.budget.size(np.array(deltas))
                waiting[t] = [deltas[k] for k in np.argsort(sizes, kind="stable")]
        self._try(rows, waiting, found)

    def _rivals(self, near: Candidates, labels: np.ndarray, source: int) -> list[int]:
        """Return the classes that a descent tries, the nearest ones first."""
        if self.problem.target is not None:
            return [self.problem.target]
        m = self.problem.rule.n_neighbors // 2 + 1
        reach = {}
        for g in np.unique(labels[near.rows]).tolist():
            if g != source:
                reach[g] = float(np.sort(near.distance[labels[near.rows] == g])[:m][-1])
        return sorted(reach, key=lambda g: reach[g])[:_CLASSES]

    def _try(
        self, rows: np.ndarray, waiting: dict[int, list[np.ndarray]], found: ExactRadii
    ) -> None:
        """Ask the victim about perturbations, the smallest of each point first."""
        waiting = {t: list(reversed(deltas)) for t, deltas in waiting.items()}
        while waiting:
            current = {t: deltas.pop() for t, deltas in waiting.items()}
            keys = np.fromiter(current, dtype=int)
            tried = self.problem.attack(rows[keys], np.array(list(current.values())))
            sizes = self.problem.budget.size(tried.moved)
            for k in np.flatnonzero(tried.success):
                found.note(int(keys[k]), sizes[k], tried.moved[k], tried.predicted[k])
            done = set(keys[tried.success].tolist())
            waiting = {t: deltas for t, deltas in waiting.items() if deltas and t not in done}
