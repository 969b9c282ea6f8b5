r"""Scikit-learn's vote of K neighbours: plurality, ties to the smallest label.

With n_g the votes of class g, a prediction c changes exactly if some class g has

    n_g ≥ n_c + θ,   θ = 1 if c < g else 0,

and it becomes the class g exactly if n_g ≥ n_h + θ, θ = 1 if h < g else 0, for every other h.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Vote"]


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

    def succeeds(self, chosen: np.ndarray) -> bool:
        """Whether the K chosen candidates, a mask or indices, vote as the attack wants."""
        votes = np.bincount(self.labels[chosen])
        winner = int(votes.argmax())  # the first of the largest
        return winner != self.source if self.target is None else winner == self.target

    def most_own(self, state: np.ndarray) -> int:
        """Return how many open own candidates may still come in; −1 if the attack is lost."""
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
        """Return K candidates that succeed and are near, as a mask; None if none was found.

        Parameters
        ----------
        state : ndarray of shape (n_candidates,)
        distance : ndarray of shape (n_candidates,)
            What to keep small; smaller ones come first.
        """
        order = np.argsort(np.where(state == 1, -np.inf, distance), kind="stable")
        order = order[state[order] >= 0]
        nearest = order[: self.n_neighbors]
        if len(nearest) < self.n_neighbors:
            return None
        chosen = np.zeros(len(state), dtype=bool)
        if self.succeeds(nearest):
            chosen[nearest] = True
            return chosen
        best, best_reach = None, np.inf
        n_inside = int((state == 1).sum())
        labels = self.labels[order]
        wanted = [self.target] if self.target is not None else np.unique(labels).tolist()
        for g in wanted:
            if self.target is None and g == self.source:
                continue
            found = self._with_winner(labels, n_inside, int(g))
            if found is not None and distance[order[found[-1]]] < best_reach:
                best, best_reach = order[found], distance[order[found[-1]]]
        if best is None:
            return None
        chosen[best] = True
        return chosen

    def _with_winner(self, labels: np.ndarray, n_inside: int, g: int) -> np.ndarray | None:
        """Return K positions, ascending, that succeed by votes for g; the first n_inside stay.

        The nearest ones, with the farthest others replaced by the next of g.
        """
        chosen = list(range(self.n_neighbors))
        more = iter(np.flatnonzero(labels[self.n_neighbors :] == g) + self.n_neighbors)
        while not self.succeeds_positions(labels, chosen):
            # the own ones first: each costs the source a vote
            droppable = [k for k in chosen if k >= n_inside and labels[k] != g]
            if self.target is None:
                droppable = [k for k in droppable if labels[k] == self.source] or droppable
            if not droppable:
                return None
            position = next(more, None)
            if position is None:
                return None
            chosen.remove(droppable[-1])
            chosen.append(int(position))
        return np.array(sorted(chosen))

    def succeeds_positions(self, labels: np.ndarray, chosen: list[int]) -> bool:
        """Whether the chosen positions of `labels` vote as the attack wants."""
        winner = int(np.bincount(labels[chosen]).argmax())
        return winner != self.source if self.target is None else winner == self.target
