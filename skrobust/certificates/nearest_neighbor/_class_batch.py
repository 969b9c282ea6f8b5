r"""The k-NN bound of one class's test points: pruned without losing exactness, sound in rounding.

For each test point, with a and b as in ``_knn``:

1. Squared distances D to all training points: one matrix product a batch.
2. With S the b nearest positives, ``L_j = min_{i∈S} ε̃(x_i, x_j, x)`` is a lower bound on the
   value ``v_j``, the b-th largest ε̃ over all positives: one more product (b = 1).
3. In ascending order of L_j, candidates are valued over **all** positives, until L_j reaches
   the a-th smallest value found: the others cannot change the result.

Test points go class by class, so that 3 is a matrix product too.

Rounding. Steps 1–3 run in float32 on large problems; every bound they use is lowered by the
worst error of its own arithmetic, so nothing is discarded wrongly. The values that survive are
computed again in float64 from differences, and the numerator loses τ, what the victim's rounding
may shift between two distances anywhere in the ball (see ``_rounding``), so that the radius holds
for the victim's own `predict`.
"""

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.certificates.nearest_neighbor._rounding import Rounding
from skrobust.certificates.nearest_neighbor._training_set import TrainingSet
from skrobust.numerics import row_batches
from skrobust.utils._torch import as_tensor, to_numpy

__all__ = ["ClassBatch"]

_BLOCK = 2**26  # bytes of a block that should stay near the caches
_EXTRA_CANDIDATES = 7  # candidates valued in the first round, beyond the a needed
_EXTRA_POSITIVES = 3  # positives valued in float64, beyond the b needed
_DIAMETERS = 256


class ClassBatch:
    """Test points of one class, bounded together."""

    def __init__(
        self,
        rule: NearestNeighborRule,
        training: TrainingSet,
        queries: EmbeddedQueries,
        rows: np.ndarray,
        label: int,
        a: int,
        b: int,
        cap: float | torch.Tensor = 2.0,
    ):
        device = training.Z.device
        self.training, self.a, self.b, self.wanted_cap = training, a, b, cap
        self.first, self.last = training.bounds[label]
        self.n_negatives = len(training.Z) - (self.last - self.first)
        self.z64 = as_tensor(queries.points[rows], device)
        centered = self.z64 - training.center
        self.rule, self.label = rule, label
        self.queries = queries.take(rows)
        self.unit = torch.finfo(training.Z.dtype).eps / 2
        self.dual = training.budget.dual
        self.size_Z = training.size_Z
        size_V = training.size_V
        growth_V = (training.V.shape[1] + 16) * self.unit
        tiny = torch.finfo(training.Z.dtype).tiny
        self.V_growth = growth_V
        # of the squared distance (ℓ₂, by a matrix product), or of the distance itself
        self.V_slack = growth_V * (2 * size_V) ** 2 + tiny
        self.V_rounding = 4 * self.unit * 2 * size_V + tiny
        # D − ‖z‖²; the common term cancels in every difference
        z = centered.to(training.Z.dtype)
        self.D = torch.mm(z * -2, training.Z.T).add_(training.squared_Z)
        self.z_norm = centered.norm(dim=1)
        self.slack = torch.zeros_like(self.z_norm)

    def subset(self, chosen: np.ndarray, cap: np.ndarray) -> "ClassBatch":
        """Return the chosen rows as a batch with caps of its own, of shape (n_chosen,)."""
        return ClassBatch(
            self.rule,
            self.training,
            self.queries,
            np.flatnonzero(chosen),
            self.label,
            self.a,
            self.b,
            as_tensor(cap, self.z64.device),
        )

    def solve(self) -> torch.Tensor:
        """Return the radii, float64 of shape (n_rows,); `value` has them without the cap."""
        cap = self._cap()
        alive = cap > 0
        pool = torch.full((len(cap), self.a), torch.inf, dtype=torch.float64, device=cap.device)
        pool[~alive] = 0
        self._account_for_victim(cap)
        self.cap, self.bounds = cap, self._candidate_bounds()
        bounds = self.bounds
        done, width = 0, min(self.a + _EXTRA_CANDIDATES, self.n_negatives)
        active = torch.nonzero(alive)[:, 0]
        while len(active):
            found = torch.topk(bounds[active], width, largest=False)
            rows = active[:, None].expand(-1, width - done)
            self._update(pool, rows, found.indices[:, done:], found.values[:, done:].double())
            # rows whose next candidates may still matter
            needed = (bounds[active] < pool[active, -1:]).sum(1)
            active = active[needed > width]
            done, width = width, min(4 * width, self.n_negatives)
            if done == width:
                break
        self.value = pool[:, -1].clamp_min(0)
        return torch.minimum(self.value, cap)

    def candidates(
        self, threshold: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the pairs whose value may be below a row's threshold; call `solve` first.

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
        j = self._negative(column)
        values, positives = self._approximate(t, j)
        values = values.double()
        near = values < threshold[t]
        return t[near], j[near], positives[near], values[near]

    def _negative(self, column: torch.Tensor) -> torch.Tensor:
        """Turn a position among the negatives into a training row."""
        return torch.where(column < self.first, column, column + self.last - self.first)

    def _cap(self) -> torch.Tensor:
        """Bound the result from above, roughly: a multiple of the a nearest negatives' value.

        The victim's rounding is bounded within this radius, and the result never exceeds it.
        """
        if isinstance(self.wanted_cap, torch.Tensor):
            return self.wanted_cap
        before, after = self.D[:, : self.first], self.D[:, self.last :]
        nearest = []
        for part, shift in ((before, 0), (after, self.last)):
            found = torch.topk(part, min(self.a, part.shape[1]), largest=False)
            nearest.append((found.values, found.indices + shift))
        values = torch.cat([value for value, _ in nearest], 1)
        columns = torch.topk(values, self.a, largest=False).indices
        j = torch.cat([index for _, index in nearest], 1).gather(1, columns)
        t = torch.arange(len(j), device=j.device)[:, None].expand_as(j)
        plain, _ = self._approximate(t.reshape(-1), j.reshape(-1))
        cap = self.wanted_cap * plain.reshape(j.shape).max(1).values.double().clamp_min(0)
        # at first not farther than some diameters of the training set: rounding grows with it
        diameters = _DIAMETERS * self.wanted_cap * 2 * self.size_Z
        farthest = diameters / max(self.training.stretch, 1e-100 * diameters, 1e-100)
        cap = torch.nan_to_num(cap, nan=0.0).clamp_max(farthest)
        # in coarse steps: the last bits of the search shall not show in the result
        return torch.where(cap > 0, torch.exp2((8 * cap.log2()).ceil() / 8), cap)

    def _account_for_victim(self, cap: torch.Tensor) -> None:
        """Set the victim's rounding within `cap`, and the slack of the search's bounds."""
        self.rounding = Rounding.within(to_numpy(cap), self.rule, self.training, self.queries)
        largest = float(self.training.magnitudes.max())
        growth = (self.training.Z.shape[1] + 16) * self.unit
        reach = self.z_norm + self.size_Z
        self.slack = (
            2 * growth * reach**2
            + 2 * self.rounding.absolute * (self.rounding.magnitude + largest) ** 2
            + 2 * self.rounding.relative * (reach + self.rounding.moved) ** 2
            + 4 * self.rounding.pruning * (reach + self.rounding.moved)
            + 8 * self.size_Z * self.rounding.embedding_error
            + 2 * self.rounding.underflow
        )

    def _denominators(self, rows: torch.Tensor, columns: slice) -> torch.Tensor:
        """Return 2 ‖v_i − v_j‖_q from above: (len(rows), columns)."""
        V = self.training.V
        if self.dual != 2:
            norm = torch.cdist(V[rows], V[columns], p=self.dual).mul_(1 + self.V_growth)
            return norm.add_(self.V_rounding + self.training.V_error).mul_(2)
        norm = torch.mm(V[rows] * -2, V[columns].T).add_(self.training.squared_V[columns])
        norm.add_(self.training.squared_V[rows][:, None]).clamp_min_(0).add_(self.V_slack).sqrt_()
        return norm.add_(self.training.V_error).mul_(2)

    def _candidate_bounds(self) -> torch.Tensor:
        """Return L_j ≤ v_j of shape (n_rows, n_negatives): the minimum over S."""
        nearest = torch.topk(self.D[:, self.first : self.last], self.b, largest=False)
        S, place = torch.unique(nearest.indices + self.first, return_inverse=True)
        slack = self.slack.to(self.D.dtype)[:, None]
        L = self.D.new_empty(len(self.D), self.n_negatives)
        row_bytes = (len(S) + 2 * len(self.D)) * self.D.element_size()
        ranges = [(0, self.first, 0), (self.last, len(self.training.Z), self.first - self.last)]
        for start, stop, shift in ranges:
            for columns in row_batches(start, stop, row_bytes, _BLOCK):
                denominators = self._denominators(S, columns)
                out = L[:, columns.start + shift : columns.stop + shift]
                for s in range(self.b):
                    numerator = self.D[:, columns] - (nearest.values[:, s : s + 1] + slack)
                    bound = numerator.div_(denominators[place[:, s]])
                    if s == 0:
                        out.copy_(bound)
                    else:
                        torch.minimum(out, bound, out=out)
        # one more rounding of the quotient
        return L.sub_(L.abs() * (8 * self.unit))

    def _update(
        self, pool: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, bounds: torch.Tensor
    ) -> None:
        """Value candidates and keep the a smallest values of each row in `pool`."""
        useful = bounds < pool[rows[:, 0], -1:]
        t, j = rows[useful], self._negative(columns[useful])
        approximate, positives = self._approximate(t, j)
        # the a most promising of each row first: they lower what the others must beat
        values = torch.full(useful.shape, torch.inf, dtype=torch.float64, device=pool.device)
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
        exact = self._exact(t, j, i)
        # t is sorted: place each row's values side by side
        distinct, place, counts = torch.unique_consecutive(
            t, return_inverse=True, return_counts=True
        )
        position = torch.arange(len(t), device=t.device) - (counts.cumsum(0) - counts)[place]
        table = exact.new_full((len(distinct), int(counts.max())), torch.inf)
        table[place, position] = exact
        merged = torch.cat([pool[distinct], table], 1)
        pool[distinct] = torch.topk(merged, self.a, largest=False).values

    def _approximate(self, t: torch.Tensor, j: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bound v_j from below over all positives, and name the best positives.

        Parameters
        ----------
        t, j : Tensor of shape (n_pairs,)
            Rows of the batch and rows of the training set.

        Returns
        -------
        values : Tensor of shape (n_pairs,)
        positives : Tensor of shape (n_pairs, n_kept)
            Training rows of the largest ε̃, at least b of them.
        """
        n_positives = self.last - self.first
        n_kept = min(self.b + _EXTRA_POSITIVES, n_positives)
        values = self.D.new_empty(len(t))
        positives = torch.empty(len(t), n_kept, dtype=torch.int64, device=t.device)
        slack = self.slack.to(self.D.dtype)
        D_positive = self.D[:, self.first : self.last]
        order = torch.argsort(j)
        distinct, counts = torch.unique_consecutive(j[order], return_counts=True)
        ends = [0, *counts.cumsum(0).tolist()]
        row_bytes = n_positives * self.D.element_size()
        for rows in row_batches(0, len(distinct), row_bytes, _BLOCK):
            denominators = self._denominators(distinct[rows], slice(self.first, self.last))
            for part in row_batches(ends[rows.start], ends[rows.stop], 2 * row_bytes, _BLOCK):
                pair = order[part]
                at = torch.searchsorted(distinct[rows], j[pair])
                numerator = (self.D[t[pair], j[pair]] - slack[t[pair]])[:, None] - D_positive[
                    t[pair]
                ]
                best = torch.topk(numerator.div_(denominators[at]), n_kept)
                values[pair] = best.values[:, self.b - 1]
                positives[pair] = best.indices + self.first
        return values - values.abs() * (8 * self.unit), positives

    def _exact(self, t: torch.Tensor, j: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        """Return v_j over the positives i (n_pairs, n_kept), sound, in float64."""
        training = self.training
        values = torch.empty(len(t), dtype=torch.float64, device=t.device)
        row_bytes = 8 * i.shape[1] * 3 * max(training.Z.shape[1], training.V.shape[1])
        for rows in row_batches(0, len(t), row_bytes, _BLOCK):
            z, z_j, z_i = self.z64[t[rows]], training.Z64[j[rows]], training.Z64[i[rows]]
            D_j = ((z_j - z) ** 2).sum(1)[:, None]
            D_i = ((z_i - z[:, None]) ** 2).sum(2)
            between = z_i.sub_(z_j[:, None]).norm(dim=2)  # ‖z_i − z_j‖
            moved = training.V64[i[rows]] - training.V64[j[rows]][:, None]
            moved = torch.linalg.vector_norm(moved, ord=self.dual, dim=2)
            tau = self.rounding.tau(
                t[rows][:, None],
                training.magnitudes[j[rows]][:, None],
                training.magnitudes[i[rows]],
                D_j,
                D_i,
                between,
            )
            growth_V = (training.V.shape[1] + 16) * 2.0**-53
            denominator = 2 * (moved * (1 + growth_V) + training.V_error)
            found = (D_j - D_i - tau) / denominator
            values[rows] = torch.topk(found, self.b).values[:, -1]
        return torch.nan_to_num(values * (1 - 2.0**-50), nan=0.0, posinf=torch.inf)
