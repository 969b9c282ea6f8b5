r"""The exact minimal adversarial perturbation of K-NN, K > 1, from both sides.

For each point: an adversarial example by a local search, the training points that can be among the
K nearest within its norm, and a branch and bound over which of them are. With a limit on the
nodes, what is left open bounds the radius from below.

The local search alternates: choose the neighbours, solve, choose again. At x + η the m nearest
points of a class g and the K − m nearest of the source are chosen, first with m = ⌊K/2⌋ + 1; then
the least-norm η that brings the former nearer than the rest of the source is found by constraint
generation. Its norm rarely grows from one round to the next, and the last one is a local optimum.
It only has to be good: the victim predicts what comes out.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates.nearest_neighbor._bisectors import (
    BisectorHalfspaces,
    Candidates,
    Neighborhood,
    interior_perturbations,
    separate,
    squared_distances,
)
from skrobust.certificates.nearest_neighbor._branch_and_bound import (
    BranchAndBound,
    Incumbent,
    Vote,
)
from skrobust.certificates.nearest_neighbor._exact_1nn import ExactRadii, first_successes
from skrobust.certificates.nearest_neighbor._geometry import Rounding, TrainingSet, round_down
from skrobust.utils._parallel import Job

__all__ = ["VoteJob", "WorkingSet", "local_search"]

_CLASSES = 3  # nearest classes that a local search tries
_WIDER = 20  # rounds of a local search among more and more training points
_MAX_ALTERNATIONS = 8
_MAX_ROUNDS = 60
_VIOLATION = 1e-9
_TIE = 1e-7
_MORE = 60  # points that a widening adds, and more for each that votes
_PER_CLASS = 16  # candidates of each class, a neighbour that votes
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
        radii = ExactRadii.unknown(self.lower[rows], queries.raw.shape[1], self.problem.y[rows])
        lower, upper = radii.lower, radii.upper
        # adversarial examples of all points, first: their norms bound the searches
        examples = {}
        for t, around in enumerate(self._bisectors(queries, np.zeros(len(rows)))):
            if deltas := self._local_examples(around, rows[t]):
                sizes = self.problem.budget.size(np.array(deltas))
                examples[t] = [deltas[k] for k in np.argsort(sizes, kind="stable")]
        self._try(rows, examples, radii)
        if self.max_nodes > 0:
            # where both sides differ, everything smaller than the example
            bisectors = self._bisectors(queries, np.where(np.isfinite(upper), upper, 0.0))
            better = {}
            for t in np.flatnonzero(upper > (1 + self.rtol) * lower).tolist():
                if np.isfinite(upper[t]):
                    proved, incumbent = self._search(bisectors[t], rows[t], upper[t])
                else:
                    proved, incumbent = self._search_outward(
                        queries.take(np.array([t])), rows[t], lower[t]
                    )
                lower[t] = max(lower[t], round_down(np.minimum(proved, upper[t])))
                if incumbent is not None:
                    better[t] = incumbent.deltas
            self._try(rows, better, radii)
        radii.settle(rows)
        return radii

    def _bisectors(self, queries: EmbeddedQueries, radius: np.ndarray) -> list[BisectorHalfspaces]:
        """Return the half-spaces around points that move by at most `radius`."""
        rounding = Rounding.within(radius, self.training, queries)
        return BisectorHalfspaces.around(self.training, queries, rounding)

    def _vote(self, near: Candidates, row: int) -> Vote:
        problem = self.problem
        labels = self.training.labels[near.rows]
        return Vote(problem.rule.n_neighbors, labels, int(problem.labels[row]), problem.target)

    def _search(
        self, bisectors: BisectorHalfspaces, row: int, radius: float
    ) -> tuple[float, Incumbent | None]:
        """Search below `radius`; return what is proved, and the best success if there is one."""
        near = Neighborhood.within(radius, bisectors, self.problem.rule.n_neighbors)
        if near is None:
            return 0.0, None
        search = BranchAndBound(
            near,
            self._vote(near, row),
            best=radius,
            rtol=self.rtol / 2,
            max_nodes=self.max_nodes,
        )
        return search.run(), search.incumbent

    def _search_outward(
        self, queries: EmbeddedQueries, row: int, lower: float
    ) -> tuple[float, Incumbent | None]:
        """Search in growing balls around one point where no adversarial example is known."""
        training, radius = self.training, lower
        if radius == 0:
            # a first guess: as far as the K-th neighbour, or the nearest that is not the point
            squared = np.sort(squared_distances(training.Z.numpy(), queries.points[0]))
            positive = squared[self.problem.rule.n_neighbors - 1 :]
            positive = positive[positive > 0]
            if not len(positive) or training.movement.reach == 0:
                return lower, None
            radius = float(np.sqrt(positive[0])) / training.movement.reach
        farthest = self.problem.budget.farthest(queries.raw)[0]
        for _ in range(_MAX_GROWTH):
            radius *= _GROWTH
            bisectors = self._bisectors(queries, np.array([radius]))[0]
            proved, incumbent = self._search(bisectors, row, radius)
            lower = max(lower, proved)
            if incumbent is not None:
                return lower, incumbent
            if proved < radius:  # too many nodes or candidates
                break
            if radius > farthest:
                return np.inf, None  # the box is searched
        return lower, None

    def _local_examples(self, bisectors: BisectorHalfspaces, row: int) -> list[np.ndarray]:
        """Return perturbations that may succeed, from local searches for the nearest classes."""
        around = WorkingSet(bisectors, self.problem.rule.n_neighbors)
        deltas = []
        for g in self._rivals(around.near, self._vote(around.near, row)):
            for _ in range(_WIDER):
                near = around.near
                eta, chosen = local_search(near, self._vote(near, row), g)
                if eta is None:
                    break
                if not around.widen(eta):
                    deltas += interior_perturbations(near, chosen, eta)
                    break
        return deltas

    def _rivals(self, near: Candidates, vote: Vote) -> list[int]:
        """Return the classes that a local search tries, the nearest ones first."""
        if vote.target is not None:
            return [vote.target]
        m = vote.n_neighbors // 2 + 1
        reach = {
            g: float(np.sort(near.distance[vote.labels == g])[:m][-1])
            for g in np.unique(vote.labels).tolist()
            if g != vote.source
        }
        return sorted(reach, key=lambda g: reach[g])[:_CLASSES]

    def _try(
        self, rows: np.ndarray, waiting: dict[int, list[np.ndarray]], radii: ExactRadii
    ) -> None:
        """Predict perturbed points by the victim, the smallest perturbation of each first."""
        proposals = {t: iter(deltas) for t, deltas in waiting.items()}
        examples = first_successes(proposals, rows, self.problem.attack)
        for t, (delta, predicted) in examples.items():
            radii.note(t, self.problem.budget.size(delta[None])[0], delta, predicted)


class WorkingSet:
    """The training points around a test point, more of them where they turn out to matter.

    Parameters
    ----------
    bisectors : BisectorHalfspaces
        Of the test point.
    n_neighbors : int
        K.
    """

    def __init__(self, bisectors: BisectorHalfspaces, n_neighbors: int):
        self.bisectors, self.n_neighbors = bisectors, n_neighbors
        self.squared = squared_distances(bisectors.Z, bisectors.z)
        # the nearest of each class
        n_kept = _PER_CLASS * (n_neighbors + 4)
        kept = []
        for first, last in bisectors.training.bounds:
            members = np.arange(first, last)
            if len(members) > n_kept:
                members = members[np.argpartition(self.squared[first:last], n_kept)[:n_kept]]
            kept.append(members)
        self.near = Candidates.of(bisectors, np.sort(np.concatenate(kept)), self.squared)

    def widen(self, eta: np.ndarray) -> bool:
        """Add the points nearest to x + η; return whether one of the K nearest was missing."""
        V, n_more = self.bisectors.V, min(_MORE + 4 * self.n_neighbors, len(self.squared))
        distance = self.squared - 2 * (V @ eta)
        nearest = np.argpartition(distance, n_more - 1)[:n_more]
        nearest = nearest[np.argsort(distance[nearest], kind="stable")]
        if np.isin(nearest[: self.n_neighbors], self.near.rows).all():
            return False
        rows = np.union1d(self.near.rows, nearest)
        self.near = Candidates.of(self.bisectors, rows, self.squared)
        return True


def local_search(near: Candidates, vote: Vote, g: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return an η after which the vote succeeds by class g, and the K nearest there.

    Parameters
    ----------
    near : Candidates
    vote : Vote
        Of the candidates.
    g : int
        The class that is to win.

    Returns
    -------
    eta : ndarray of shape (n_directions,) or None
        None if the search has none.
    chosen : ndarray of shape (n_candidates,) of bool
    """
    wanted, own = vote.labels == g, vote.own
    n_left = vote.n_neighbors - vote.n_neighbors // 2 - 1
    # where other classes are in the way, fewer own ones may be left; with none it succeeds
    for n_own in range(min(n_left, int(own.sum())), -1, -1):
        n_wanted = min(vote.n_neighbors - n_own, int(wanted.sum()))
        eta = _alternate(near, wanted, own, n_wanted, n_own)
        if eta is None:
            continue
        # ties go to the attack
        distance = near.moved(eta)
        tie = _TIE * np.abs(distance).max()
        chosen = np.zeros(len(distance), dtype=bool)
        chosen[_nearest(distance + tie * own, np.ones_like(own), vote.n_neighbors)] = True
        if vote.succeeds(chosen):
            return eta, chosen
    return None, own


def _alternate(
    near: Candidates, wanted: np.ndarray, own: np.ndarray, n_wanted: int, n_own: int
) -> np.ndarray | None:
    """Return an η with n_wanted wanted candidates nearer than all but n_own own ones."""
    size = near.bisectors.training.size
    best: np.ndarray | None = None
    eta: np.ndarray | None = None
    for _ in range(_MAX_ALTERNATIONS):
        # choose at x + η, then solve for these
        distance = near.moved(eta)
        inside = _nearest(distance, wanted, n_wanted)
        left = _nearest(distance, own, n_own)
        outside = np.setdiff1d(np.flatnonzero(own), left)
        nearest = separate(near, inside, outside, tol=_VIOLATION, max_rounds=_MAX_ROUNDS)
        if nearest.failed:
            break
        eta = np.zeros(near.V.shape[1]) if nearest.eta is None else nearest.eta
        if size(eta) >= size(best) * (1 - 1e-6):
            break
        best = eta
    return best


def _nearest(distance: np.ndarray, among: np.ndarray, n: int) -> np.ndarray:
    """Return the positions of the n smallest distances among some."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(distance[rows], kind="stable")[:n]]
