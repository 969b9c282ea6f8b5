r"""An adversarial example for K > 1 by alternating: choose the neighbours, solve, choose again.

At x + η the m nearest points of a class g and the K − m nearest of the source are chosen, first
with m = ⌊K/2⌋ + 1; then the least-norm η that brings the former nearer than the rest of the source
is found by constraint generation. Its norm rarely grows from one round to the next, and the last
one is a local optimum. It only has to be good: the victim is asked about what comes out.
"""

import numpy as np

from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces
from skrobust.certificates.nearest_neighbor._neighborhood import Candidates, squared_distances
from skrobust.certificates.nearest_neighbor._vote import Vote

__all__ = ["WorkingSet", "local_search"]

_MAX_DESCENTS = 8
_MAX_ROUNDS = 60
_VIOLATION = 1e-9
_TIE = 1e-7
_MORE = 60  # points that a widening adds, and more for each that votes
_PER_CLASS = 16  # candidates of each class, a neighbour that votes


class WorkingSet:
    """The training points around a test point, more of them where they are found to matter.

    Parameters
    ----------
    comparisons : BisectorHalfspaces
    t : int
        Row of the test point.
    n_neighbors : int
        K.
    """

    def __init__(self, comparisons: BisectorHalfspaces, t: int, n_neighbors: int):
        self.comparisons, self.n_neighbors = comparisons, n_neighbors
        self.squared = squared_distances(comparisons.Z, comparisons.z[t])
        n_kept = _PER_CLASS * (n_neighbors + 4)
        kept = []
        for first, last in comparisons.training.bounds:
            members = np.arange(first, last)
            if len(members) > n_kept:
                members = members[np.argpartition(self.squared[first:last], n_kept)[:n_kept]]
            kept.append(members)
        self.near = self._of(np.concatenate(kept))

    def _of(self, rows: np.ndarray) -> Candidates:
        rows = np.sort(rows)
        V = self.comparisons.V[rows]
        return Candidates(rows, self.squared[rows], V - V.mean(axis=0))

    def widen(self, eta: np.ndarray) -> bool:
        """Add the points nearest to x + η; return whether one of the K nearest was missing."""
        V, n_more = self.comparisons.V, min(_MORE + 4 * self.n_neighbors, len(self.squared))
        distance = self.squared - 2 * (V @ eta)
        nearest = np.argpartition(distance, n_more - 1)[:n_more]
        nearest = nearest[np.argsort(distance[nearest], kind="stable")]
        if np.isin(nearest[: self.n_neighbors], self.near.rows).all():
            return False
        self.near = self._of(np.union1d(self.near.rows, nearest))
        return True


def local_search(
    comparisons: BisectorHalfspaces, t: int, near: Candidates, vote: Vote, g: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return an η after which the vote succeeds by class g, and the K nearest there.

    Parameters
    ----------
    comparisons : BisectorHalfspaces
    t : int
        Row of the test point.
    near : Candidates
    vote : Vote
        Of the candidates.
    g : int
        The class that is to win.

    Returns
    -------
    eta : ndarray of shape (n_directions,) or None
        None if none was found.
    chosen : ndarray of shape (n_candidates,) of bool
    """
    wanted, own = vote.labels == g, vote.own
    n_left = vote.n_neighbors - vote.n_neighbors // 2 - 1
    # where other classes are in the way, fewer own ones may be left; with none it succeeds
    for n_own in range(min(n_left, int(own.sum())), -1, -1):
        n_wanted = min(vote.n_neighbors - n_own, int(wanted.sum()))
        eta = _alternate(comparisons, t, near, wanted, own, n_wanted, n_own)
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
    comparisons: BisectorHalfspaces,
    t: int,
    near: Candidates,
    wanted: np.ndarray,
    own: np.ndarray,
    n_wanted: int,
    n_own: int,
) -> np.ndarray | None:
    """Return an η with n_wanted wanted candidates nearer than all but n_own own ones."""
    best: np.ndarray | None = None
    eta: np.ndarray | None = None
    for _ in range(_MAX_DESCENTS):
        distance = near.moved(eta)
        inside = _nearest(distance, wanted, n_wanted)
        left = _nearest(distance, own, n_own)
        outside = np.setdiff1d(np.flatnonzero(own), left)
        eta = _separate(comparisons, t, near, inside, outside)
        if eta is None or comparisons.size(eta) >= comparisons.size(best) * (1 - 1e-6):
            break
        best = eta
    return best


def _nearest(distance: np.ndarray, among: np.ndarray, n: int) -> np.ndarray:
    rows = np.flatnonzero(among)
    return rows[np.argsort(distance[rows], kind="stable")[:n]]


def _separate(
    comparisons: BisectorHalfspaces,
    t: int,
    near: Candidates,
    inside: np.ndarray,
    outside: np.ndarray,
) -> np.ndarray | None:
    """Return the least-norm η that brings `inside` nearer than `outside`."""
    if not len(outside) or not len(inside):
        return np.zeros(comparisons.n_directions)
    pairs: list[tuple[int, int]] = []
    eta: np.ndarray | None = None
    for _ in range(_MAX_ROUNDS):
        distance = near.moved(eta)
        u, w = inside[distance[inside].argmax()], outside[distance[outside].argmin()]
        if distance[u] - distance[w] <= _VIOLATION * np.abs(distance).max() or (u, w) in pairs:
            break
        pairs.append((u, w))
        rows = near.rows[np.array(pairs)]
        half = comparisons.half_spaces(t, rows[:, 0], rows[:, 1])
        found = comparisons.solve(t, half)
        eta = found.point
        if eta is None:
            return None
        if comparisons.budget.norm == 2:
            binding = found.multipliers > 0
            pairs = [pair for pair, binds in zip(pairs, binding, strict=True) if binds]
    return np.zeros(comparisons.n_directions) if eta is None else eta
