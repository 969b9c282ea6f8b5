r"""Which neighbours change side: an exact search by branch and bound.

A perturbation η succeeds if the K training points that are nearest to x + η vote as the attack
wants. Each node of the tree fixes some candidates to be among the K nearest, others not to be:

    min ‖η‖_p   s.t.   2 (v_w − v_u)·η ≤ D_w − D_u   for every u inside and every w outside

is a lower bound on everything below the node, found by constraint generation. If the K nearest
at its solution succeed, it is exact and the node is a leaf; else a candidate on the wrong side
is put inside in one child and outside in the other. The node with the smallest bound is next.

Before any program is solved, efforts of pairs (see ``_neighborhood``) and the vote fix what they
can: with a perturbation of norm `best` at hand, a candidate w that only a larger one could leave
behind an inside u is inside as well, and so on.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces
from skrobust.certificates.nearest_neighbor._interior import interior_perturbations
from skrobust.certificates.nearest_neighbor._neighborhood import Neighborhood
from skrobust.certificates.nearest_neighbor._vote import Vote

__all__ = ["BranchAndBound", "Incumbent"]

_MAX_ROUNDS = 200
_VIOLATION = 1e-10  # relative to the size of the squared distances


@dataclass(frozen=True, eq=False)
class Incumbent:
    """A set of K nearest neighbours that succeeds, and where it does.

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
    """Candidates' states (1 inside, −1 outside, 0 open) and what is known of the node."""

    state: np.ndarray
    each: np.ndarray  # efforts to bring a candidate nearer than all that is `seen` outside
    seen: np.ndarray
    lower: float = 0.0
    pairs: list[tuple[int, int]] = field(default_factory=list)
    eta: np.ndarray | None = None
    empty: bool = False


class BranchAndBound:
    """Branch and bound for one test point.

    Parameters
    ----------
    comparisons : BisectorHalfspaces
    t : int
        Row of the test point.
    neighborhood : Neighborhood
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
    """

    def __init__(
        self,
        comparisons: BisectorHalfspaces,
        t: int,
        neighborhood: Neighborhood,
        vote: Vote,
        *,
        best: float,
        rtol: float,
        max_nodes: int,
    ):
        self.comparisons, self.t = comparisons, t
        self.near, self.vote = neighborhood, vote
        self.own = vote.own
        self.n_classes = vote.n_classes
        self.theta = (np.arange(self.n_classes) > vote.source).astype(int)
        self.rivals = [g for g in np.unique(vote.labels).tolist() if g != vote.source]
        self.best, self.rtol, self.max_nodes = best, rtol, max_nodes
        self.proved = best  # the smallest bound of what was not opened
        self.leaf: Incumbent | None = None
        self.n_nodes = 0
        self._cached = np.nan, np.empty((0, 0), dtype=np.float32)

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
            heap.append((root.lower, next(order), root))
        while heap:
            lower, _, node = heapq.heappop(heap)
            if lower >= self._limit or self.n_nodes >= self.max_nodes:
                # the smallest of the heap: nothing else is lower
                self.proved = min(self.proved, lower)
                break
            for child in self._branch(node):
                if self._evaluate(child):
                    heapq.heappush(heap, (child.lower, next(order), child))
        return self.proved

    def _evaluate(self, node: _Node) -> bool:
        """Bound a node; return whether it has to be opened."""
        self.n_nodes += 1
        n_own = self._fix(node)
        if n_own < 0:
            return False
        node.lower = max(node.lower, self._pair_bound(node, n_own))
        if node.lower < self._limit:
            self._solve(node)
        if node.lower >= self._limit or node.empty:
            self.proved = min(self.proved, node.lower)
            return False
        return True

    def _beyond(self) -> np.ndarray:
        """Return where an effort is no less than `best`, as numbers."""
        if self._cached[0] != self.best:
            self._cached = self.best, (self.near.bisector_distance >= self.best).astype(np.float32)
        return self._cached[1]

    def _fix(self, node: _Node) -> int:
        """Fix what has to be inside or outside; return how many open own ones may come in.

        −1 if nothing below the node is smaller than `best`.
        """
        state, beyond = node.state, self._beyond()
        while True:  # each round fixes a candidate, or is the last
            inside, outside, open_ = state == 1, state == -1, state == 0
            n_own = self.vote.most_own(state)
            slots = self.vote.n_neighbors - int(inside.sum())
            own = open_ & self.own
            # of what u would have to bring along: what is outside, open, open and own
            along = beyond @ np.column_stack([outside, open_, own]).astype(np.float32)
            if n_own < 0 or along[inside, 0].any():
                return -1
            if slots == 0:
                state[open_] = -1
                return n_own
            must = open_ & beyond[inside].any(0)
            never = open_ & ((along[:, 0] > 0) | (along[:, 1] >= slots))
            never |= open_ & (along[:, 2] + self.own > n_own)
            if (must & never).any():
                return -1
            if not (must | never).any():
                return n_own
            state[must], state[never] = 1, -1

    def _pair_bound(self, node: _Node, n_own: int) -> float:
        """Bound a node by efforts of pairs alone: the least over how many open own come in."""
        bisector_distance, state = self.near.bisector_distance, node.state
        fresh = (state == -1) & ~node.seen
        if fresh.any():
            node.each = np.maximum(node.each, bisector_distance[:, fresh].max(1))
            node.seen = node.seen | fresh
        live = np.flatnonzero(state >= 0)
        own, inside = self.own[live] & (state[live] == 0), state[live] == 1
        others, each, labels = ~own & ~inside, node.each[live], self.vote.labels[live]
        # efforts to leave open own ones behind, the n_own + 1 largest descending
        behind = bisector_distance[np.ix_(live, live[own])]
        n_kept = min(n_own + 1, behind.shape[1])
        if n_kept:
            behind = -np.sort(-np.partition(behind, -n_kept, axis=1)[:, -n_kept:], axis=1)
        votes = np.bincount(labels[inside], minlength=self.n_classes)
        least = np.inf
        for p in range(n_own + 1):
            cost = each
            if p < n_kept:
                cost = np.where(own, each, np.maximum(each, behind[:, p]))
            bound = max(
                float(cost[inside].max(initial=0.0)),
                _smallest(cost[others], self.vote.n_neighbors - int(inside.sum()) - p),
                _smallest(each[own], p),
            )
            if self.vote.target is None and bound < least:
                needed = votes[self.vote.source] + p + self.theta - votes
                wins = (
                    _smallest(cost[others & (labels == g)], int(needed[g])) for g in self.rivals
                )
                bound = max(bound, min(wins, default=np.inf))
            least = min(least, bound)
        return least

    def _solve(self, node: _Node) -> None:
        """Solve the node's program by constraint generation; raise its bound."""
        state = node.state
        inside, outside = np.flatnonzero(state == 1), np.flatnonzero(state == -1)
        node.pairs = [(u, w) for u, w in node.pairs if state[u] == 1 and state[w] == -1]
        node.eta = None
        if not len(inside) or not len(outside):
            return
        for _ in range(_MAX_ROUNDS):
            distance = self.near.moved(node.eta)
            u, w = inside[distance[inside].argmax()], outside[distance[outside].argmin()]
            size = np.abs(distance).max()
            violated = distance[u] - distance[w] > _VIOLATION * size
            pair = (int(u), int(w))
            if node.eta is not None and (not violated or pair in node.pairs):
                break
            if not violated and not node.pairs:
                break
            if violated and pair not in node.pairs:
                node.pairs.append(pair)
            near, far = zip(*node.pairs, strict=True)
            half = self.comparisons.half_spaces(
                self.t, self.near.rows[list(near)], self.near.rows[list(far)]
            )
            found = self.comparisons.solve(self.t, half)
            node.lower, node.empty = max(node.lower, found.proved), found.empty
            if found.point is None or node.lower >= self._limit:
                break
            node.eta = found.point
            if self.comparisons.budget.norm == 2:  # one solution: what does not bind can go
                binding = found.multipliers > 0
                node.pairs = [p for p, binds in zip(node.pairs, binding, strict=True) if binds]

    def _branch(self, node: _Node) -> Sequence[_Node]:
        """Return the children of a node, none if it is a leaf."""
        distance = self.near.moved(node.eta)
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
            self.proved = min(self.proved, node.lower)
            return []
        at = self._pick(node, distance, int(u), int(w))
        children = []
        for side in (1, -1):
            state = node.state.copy()
            state[at] = side
            children.append(_Node(state, node.each, node.seen, node.lower, list(node.pairs)))
        return children

    def _pick(self, node: _Node, distance: np.ndarray, u: int, w: int) -> int:
        """Pick the open candidate to branch on."""
        inside, open_ = node.state == 1, node.state == 0
        # an own one in the way of what is inside, the nearest first: outside, it pushes most
        if inside.any():
            way = np.flatnonzero(open_ & self.own & (distance < distance[inside].max()))
            if len(way):
                return int(way[distance[way].argmin()])
            if w >= 0 and open_[w] and distance[w] < distance[inside].max():
                return w
        if u >= 0 and open_[u]:
            return u
        return w if w >= 0 and open_[w] else int(np.flatnonzero(open_)[0])

    def _close(self, node: _Node, chosen: np.ndarray) -> None:
        """Note a leaf; one without interior bounds the radius, but is no example."""
        self.proved = min(self.proved, node.lower)
        eta = np.zeros(self.comparisons.n_directions) if node.eta is None else node.eta
        norm = self.comparisons.size(eta)
        deltas = interior_perturbations(self.comparisons, self.t, self.near, chosen, eta)
        if deltas and norm < self.best:
            self.leaf, self.best = Incumbent(norm, deltas), max(norm, node.lower)


def _smallest(values: np.ndarray, n: int) -> float:
    """Return the n-th smallest value; 0 for n ≤ 0, inf where there are fewer."""
    if n <= 0:
        return 0.0
    return np.inf if n > len(values) else float(np.partition(values, n - 1)[n - 1])
