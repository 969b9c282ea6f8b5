r"""An exact search over who the K nearest neighbours are, by branch and bound.

A perturbation η succeeds if the K training points that are nearest to x + η vote as the attack
wants. Each node of the tree fixes some candidates to be among the K nearest, others not to be:

    min ‖η‖_p   s.t.   2 (v_w − v_u)·η ≤ D_w − D_u   for every u inside and every w outside

is a lower bound on everything below the node, found by constraint generation. If the K nearest
at its solution succeed, it is exact and the node is closed; else a candidate on the wrong side
is put inside in one child and outside in the other. The node with the smallest bound is next.

Before any program is solved, bisector distances and the vote fix what they can: with a perturbation
of norm `best` at hand, a candidate w that only a larger one could leave behind an inside u is
inside as well, and so on.

The vote is scikit-learn's: plurality, ties to the smallest label. With n_g the votes of class g, a
prediction c changes exactly if some class g has

    n_g ≥ n_c + θ,   θ = 1 if c < g else 0,

and it becomes the class g exactly if n_g ≥ n_h + θ, θ = 1 if h < g else 0, for every other h.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from skrobust.certificates.nearest_neighbor._bisectors import (
    Neighborhood,
    Separation,
    interior_perturbations,
    separate,
)

__all__ = ["BranchAndBound", "Incumbent", "Vote"]

_MAX_ROUNDS = 200
_VIOLATION = 1e-10  # relative to the size of the squared distances


@dataclass(frozen=True, eq=False)
class Vote:
    """What a set of neighbours has to be for the attack to succeed.

    Sets are given by the state of each candidate: 1 in the set, −1 out of it, 0 open.

    Attributes
    ----------
    n_neighbors : int
        K.
    labels : ndarray of shape (n_candidates,)
        Class indices, ordered as the labels are.
    source : int
        The class that is predicted.
    target : int or None
        The class that the attack wants; None for any but `source`.
    """

    n_neighbors: int
    labels: np.ndarray
    source: int
    target: int | None = None

    @property
    def own(self) -> np.ndarray:
        """Mask of the candidates whose votes hold the attack up."""
        if self.target is None:
            return self.labels == self.source
        return self.labels != self.target

    @property
    def n_classes(self) -> int:
        """One more than the largest class index that occurs."""
        wanted = -1 if self.target is None else self.target
        return max(int(self.labels.max(initial=-1)), self.source, wanted) + 1

    def succeeds(self, chosen: np.ndarray | list[int]) -> bool:
        """Whether the K chosen candidates, a mask or indices, vote as the attack wants."""
        votes = np.bincount(self.labels[chosen])
        winner = int(votes.argmax())  # the first of the largest
        return winner != self.source if self.target is None else winner == self.target

    def most_own(self, state: np.ndarray) -> int:
        """Return how many open own candidates may still come in; −1 if the attack is lost.

        `state` has shape (n_candidates,).
        """
        inside, open_ = self.labels[state == 1], self.labels[state == 0]
        slots = self.n_neighbors - len(inside)
        votes = np.bincount(inside, minlength=self.n_classes)
        free = np.bincount(open_, minlength=self.n_classes)
        if slots < 0 or slots > len(open_):
            return -1
        if self.target is None:
            return self._most_source(votes, free, slots)
        return self._most_others(votes, free, slots)

    def _most_source(self, votes: np.ndarray, free: np.ndarray, slots: int) -> int:
        theta = (np.arange(len(votes)) > self.source).astype(int)
        lead = votes - votes[self.source] - theta
        # s of the source and at most min(slots − s, free) of g: lead + that ≥ s
        most = np.minimum(lead + free, (lead + slots) // 2)
        most[self.source] = -1
        most = min(int(most.max()), slots, int(free[self.source]))
        # what other classes cannot fill, the source has to
        needed = slots - (int(free.sum()) - int(free[self.source]))
        return most if most >= max(needed, 0) else -1

    def _most_others(self, votes: np.ndarray, free: np.ndarray, slots: int) -> int:
        g = int(self.target if self.target is not None else 0)
        theta = (np.arange(len(votes)) < g).astype(int)
        for s in range(slots, -1, -1):
            gained = slots - s
            if gained > free[g]:
                break
            room = votes[g] + gained - theta - votes
            room[g] = 0
            if (room >= 0).all() and np.minimum(room, free)[np.arange(len(votes)) != g].sum() >= s:
                return s
        return -1

    def complete(self, state: np.ndarray, distance: np.ndarray) -> np.ndarray | None:
        """Return K candidates that succeed and are near, as a mask; None if no such K are known.

        Parameters
        ----------
        state : ndarray of shape (n_candidates,)
        distance : ndarray of shape (n_candidates,)
            What to keep small; smaller ones come first.
        """
        # what is in the set comes first, what is out of it not at all
        order = np.argsort(np.where(state == 1, -np.inf, distance), kind="stable")
        order = order[state[order] >= 0]
        if len(order) < self.n_neighbors:
            return None
        best: np.ndarray | None = order[: self.n_neighbors]
        if not self.succeeds(order[: self.n_neighbors]):
            # the class that wins with the nearest last neighbour
            n_inside, best, best_reach = int((state == 1).sum()), None, np.inf
            rivals = np.unique(self.labels[order])
            rivals = rivals[rivals != self.source]
            for g in rivals.tolist() if self.target is None else [self.target]:
                winners = self._with_winner(order, n_inside, g)
                if winners is not None and distance[winners[-1]] < best_reach:
                    best, best_reach = winners, distance[winners[-1]]
        if best is None:
            return None
        chosen = np.zeros(len(state), dtype=bool)
        chosen[best] = True
        return chosen

    def _with_winner(self, order: np.ndarray, n_inside: int, g: int) -> np.ndarray | None:
        """Return K candidates in their order that succeed by votes for g; n_inside stay.

        The nearest ones, with the farthest others replaced by the next of g.
        """
        labels = self.labels[order]
        chosen = list(range(self.n_neighbors))
        more = iter(np.flatnonzero(labels[self.n_neighbors :] == g) + self.n_neighbors)
        while not self.succeeds(order[chosen]):
            # the own ones first: each costs the source a vote
            droppable = [k for k in chosen if k >= n_inside and labels[k] != g]
            if self.target is None:
                droppable = [k for k in droppable if labels[k] == self.source] or droppable
            position = next(more, None)
            if not droppable or position is None:
                return None
            chosen.remove(droppable[-1])
            chosen.append(int(position))
        return order[sorted(chosen)]


@dataclass(frozen=True, eq=False)
class Incumbent:
    """The best set of K nearest neighbours that succeeds, and where it does.

    Attributes
    ----------
    norm : float
        Least norm in the closure of their cell.
    deltas : list of ndarray of shape (n_features,)
        Perturbations inside the cell, by growing margins.
    """

    norm: float
    deltas: list[np.ndarray]


@dataclass(eq=False)
class _Node:
    """Candidates' states, and what is known of the perturbations that respect them.

    Attributes
    ----------
    state : ndarray of shape (n_candidates,)
        1 inside, −1 outside, 0 open.
    each : ndarray of shape (n_candidates,)
        Norm that brings a candidate nearer than all that is `seen` outside.
    seen : ndarray of shape (n_candidates,) of bool
    solved : Separation
        The node's program: its bound, its pairs and its point.
    """

    state: np.ndarray
    each: np.ndarray
    seen: np.ndarray
    solved: Separation = field(default_factory=Separation)


class _PairBounds:
    """What bisector distances and the vote alone say about a node.

    Parameters
    ----------
    near : Neighborhood
    vote : Vote
        Of the candidates.
    """

    def __init__(self, near: Neighborhood, vote: Vote):
        self.near, self.vote, self.own = near, vote, vote.own
        self.theta = (np.arange(vote.n_classes) > vote.source).astype(int)
        self.rivals = [g for g in np.unique(vote.labels).tolist() if g != vote.source]
        self._cached = np.nan, np.empty((0, 0), dtype=np.float32)

    def _beyond(self, best: float) -> np.ndarray:
        """Return where a bisector distance is no less than `best`, as numbers."""
        if self._cached[0] != best:
            self._cached = best, (self.near.bisector_distance >= best).astype(np.float32)
        return self._cached[1]

    def fix(self, state: np.ndarray, best: float) -> int:
        """Fix in `state` who has to be inside or outside for a norm below `best`.

        Returns
        -------
        int
            How many open own candidates may come in; −1 if nothing below the node is smaller than
            `best`.
        """
        beyond = self._beyond(best)
        while True:  # each round fixes a candidate, or is the last
            inside, outside, open_ = state == 1, state == -1, state == 0
            n_own = self.vote.most_own(state)
            slots = self.vote.n_neighbors - int(inside.sum())
            own = open_ & self.own
            # whom u would have to bring along, (n_candidates, 3): of those outside, open, open own
            along = beyond @ np.column_stack([outside, open_, own]).astype(np.float32)
            if n_own < 0 or along[inside, 0].any():
                return -1
            if slots == 0:
                state[open_] = -1
                return n_own
            # an inside candidate brings them in; those that bring in too many stay out
            must = open_ & beyond[inside].any(0)
            never = open_ & ((along[:, 0] > 0) | (along[:, 1] >= slots))
            never |= open_ & (along[:, 2] + self.own > n_own)
            if (must & never).any():
                return -1
            if not (must | never).any():
                return n_own
            state[must], state[never] = 1, -1

    def bound(self, node: _Node, n_own: int) -> float:
        """Bound the norm below a node: the least over how many open own candidates come in."""
        distance, state = self.near.bisector_distance, node.state
        # who is new outside makes each candidate harder to bring in
        fresh = (state == -1) & ~node.seen
        if fresh.any():
            node.each = np.maximum(node.each, distance[:, fresh].max(1))
            node.seen = node.seen | fresh
        # from here on over the n_live candidates that are not outside
        live = np.flatnonzero(state >= 0)
        own, inside = self.own[live] & (state[live] == 0), state[live] == 1
        others, each, labels = ~own & ~inside, node.each[live], self.vote.labels[live]
        # norms that leave open own ones behind, the n_own + 1 largest descending
        behind = distance[np.ix_(live, live[own])]
        n_kept = min(n_own + 1, behind.shape[1])
        if n_kept:
            behind = -np.sort(-np.partition(behind, -n_kept, axis=1)[:, -n_kept:], axis=1)
        votes = np.bincount(labels[inside], minlength=len(self.theta))
        least = np.inf
        for p in range(n_own + 1):
            # with p own ones inside, all but the p hardest are left behind by everyone else
            cost = each
            if p < n_kept:
                cost = np.where(own, each, np.maximum(each, behind[:, p]))
            bound = max(
                float(cost[inside].max(initial=0.0)),
                _smallest(cost[others], self.vote.n_neighbors - int(inside.sum()) - p),
                _smallest(each[own], p),
            )
            if self.vote.target is None and bound < least:
                # some rival needs the votes to win
                needed = votes[self.vote.source] + p + self.theta - votes
                wins = (
                    _smallest(cost[others & (labels == g)], int(needed[g])) for g in self.rivals
                )
                bound = max(bound, min(wins, default=np.inf))
            least = min(least, bound)
        return least


class BranchAndBound:
    """Branch and bound for one test point.

    Parameters
    ----------
    near : Neighborhood
        The candidates within `best`.
    vote : Vote
        Of the candidates.
    best : float
        Nothing of this norm or more is looked for: the norm of an adversarial example, or the
        radius of the neighbourhood.
    rtol : float
        Nodes whose bound is within this share of `best` are not opened.
    max_nodes : int
        How many nodes may be evaluated.

    Attributes
    ----------
    incumbent : Incumbent or None
        The best success.
    proved : float
        The smallest bound of what was not opened.
    """

    def __init__(self, near: Neighborhood, vote: Vote, *, best: float, rtol: float, max_nodes: int):
        self.near, self.vote, self.pair_bounds = near, vote, _PairBounds(near, vote)
        self.best, self.rtol, self.max_nodes = best, rtol, max_nodes
        self.proved = best
        self.incumbent: Incumbent | None = None
        self.n_nodes = 0

    @property
    def _limit(self) -> float:
        return self.best / (1 + self.rtol)

    def run(self) -> float:
        """Search, and return the proved lower bound on the norm of every success."""
        order = count()
        heap: list[tuple[float, int, _Node]] = []
        n = len(self.near.rows)
        root = _Node(np.zeros(n, dtype=np.int8), np.zeros(n), np.zeros(n, dtype=bool))
        if self._evaluate(root):
            heap.append((root.solved.lower, next(order), root))
        while heap:
            lower, _, node = heapq.heappop(heap)
            if lower >= self._limit or self.n_nodes >= self.max_nodes:
                # the smallest of the heap: nothing else is lower
                self.proved = min(self.proved, lower)
                break
            for child in self._branch(node):
                if self._evaluate(child):
                    heapq.heappush(heap, (child.solved.lower, next(order), child))
        return self.proved

    def _evaluate(self, node: _Node) -> bool:
        """Bound a node; return whether it has to be opened."""
        self.n_nodes += 1
        # cheap first: pairs and the vote
        n_own = self.pair_bounds.fix(node.state, self.best)
        if n_own < 0:
            return False
        state, start = node.state, node.solved
        start.lower = max(start.lower, self.pair_bounds.bound(node, n_own))
        # then the program, from the pairs of the parent that still stand
        if start.lower < self._limit:
            start.pairs = [(u, w) for u, w in start.pairs if state[u] == 1 and state[w] == -1]
            node.solved = separate(
                self.near,
                np.flatnonzero(state == 1),
                np.flatnonzero(state == -1),
                tol=_VIOLATION,
                max_rounds=_MAX_ROUNDS,
                start=start,
                limit=self._limit,
            )
        if node.solved.lower >= self._limit or node.solved.empty:
            self.proved = min(self.proved, node.solved.lower)
            return False
        return True

    def _branch(self, node: _Node) -> Sequence[_Node]:
        """Return the children of a node, none if it is closed."""
        # the K nearest that would succeed at the node's point, and the pair that is the wrong way
        distance = self.near.moved(node.solved.eta)
        chosen = self.vote.complete(node.state, distance)
        if chosen is None:
            chosen = node.state == 1
        rest = ~chosen
        u = np.flatnonzero(chosen)[distance[chosen].argmax()] if chosen.any() else -1
        w = np.flatnonzero(rest)[distance[rest].argmin()] if rest.any() else -1
        size = np.abs(distance).max()
        full = int(chosen.sum()) == self.vote.n_neighbors
        if full and (w < 0 or distance[u] - distance[w] <= 4 * _VIOLATION * size):
            self._close(node, chosen)
            return []
        if not (node.state == 0).any():
            # the solver found no point, and no proof that there is none
            self.proved = min(self.proved, node.solved.lower)
            return []
        at = self._pick(node, distance, int(u), int(w))
        children = []
        for side in (1, -1):
            state = node.state.copy()
            state[at] = side
            start = Separation(list(node.solved.pairs), node.solved.lower)
            children.append(_Node(state, node.each, node.seen, start))
        return children

    def _pick(self, node: _Node, distance: np.ndarray, u: int, w: int) -> int:
        """Pick the open candidate to branch on."""
        inside, open_ = node.state == 1, node.state == 0
        # an own one in the way of what is inside, the nearest first: outside, it pushes most
        if inside.any():
            way = np.flatnonzero(open_ & self.vote.own & (distance < distance[inside].max()))
            if len(way):
                return int(way[distance[way].argmin()])
            if w >= 0 and open_[w] and distance[w] < distance[inside].max():
                return w
        if u >= 0 and open_[u]:
            return u
        return w if w >= 0 and open_[w] else int(np.flatnonzero(open_)[0])

    def _close(self, node: _Node, chosen: np.ndarray) -> None:
        """Note a success; a cell without interior bounds the radius, but has no example."""
        self.proved = min(self.proved, node.solved.lower)
        eta = node.solved.eta
        if eta is None:
            eta = np.zeros(self.near.V.shape[1])
        norm = self.near.bisectors.training.size(eta)
        deltas = interior_perturbations(self.near, chosen, eta)
        if deltas and norm < self.best:
            self.incumbent, self.best = Incumbent(norm, deltas), max(norm, node.solved.lower)


def _smallest(values: np.ndarray, n: int) -> float:
    """Return the n-th smallest value; 0 for n ≤ 0, inf where there are fewer."""
    if n <= 0:
        return 0.0
    return np.inf if n > len(values) else float(np.partition(values, n - 1)[n - 1])
