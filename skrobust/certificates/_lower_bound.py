r"""The k-NN lower bound by pruning, without losing exactness, and sound in floating point.

For each test point, with a and b as in ``_knn``:

1. Squared distances D to all training points: one matrix product a batch.
2. With S the b nearest positives, ``L_j = min_{i∈S} ε̃(x_i, x_j, x)`` is a lower bound on the
   value ``v_j``, the b-th largest ε̃ over all positives: one more product (b = 1).
3. In ascending order of L_j, candidates are valued over **all** positives, until L_j reaches
   the a-th smallest value found: the others cannot change the result.

Test points go class by class, so that 3 is a matrix product too.

Rounding. Steps 1–3 run in float32 on large problems; every bound they use is lowered by the
worst error of its own arithmetic, so nothing is discarded wrongly. The values that survive are
computed again in float64 from differences, and the numerator loses what the victim's rounding
may shift between two distances anywhere in the ball (see ``victims._rule``),

    τ = c (m + m_j)² + c (m + m_i)² + 4 E ‖z_i − z_j‖,

so that the radius holds for the victim's own `predict`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from skrobust.numerics import row_batches
from skrobust.utils._torch import as_tensor, exact_matmul, to_numpy
from skrobust.victims import EmbeddedQueries, NearestNeighborRule

__all__ = ["lower_bound"]

_FLOAT64_LIMIT = 5e9  # products n·m·d up to which everything runs in float64
_BLOCK = 2**26  # bytes of a block that should stay near the caches
_EXTRA_CANDIDATES = 7  # candidates valued in the first round, beyond the a needed
_EXTRA_POSITIVES = 3  # positives valued in float64, beyond the b needed


def lower_bound(
    rule: NearestNeighborRule,
    queries: EmbeddedQueries,
    labels: np.ndarray,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Return the certified radius of each query.

    Parameters
    ----------
    rule : NearestNeighborRule
    queries : EmbeddedQueries of n_samples points
    labels : ndarray of shape (n_samples,), int64
        True labels as indices into ``rule.classes``; -1 for a label the rule has not seen.
    device : torch.device
    dtype : torch.dtype, default=None
        Precision of the search; None takes float64 for small problems, else float32.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        0 where nothing is proved, ``inf`` where no perturbation changes the prediction.
    """
    training = _TrainingSet.of(rule, len(labels), device, dtype)
    a, b = (rule.n_neighbors + 1) // 2, rule.n_neighbors // 2 + 1
    radius = np.zeros(len(labels))
    n_train = len(training.Z)
    with torch.no_grad(), exact_matmul():
        for label in np.unique(labels[labels >= 0]):
            first, last = training.bounds[label]
            members = np.flatnonzero(labels == label)
            if last - first < b:
                continue
            if n_train - (last - first) < a:
                radius[members] = np.inf
                continue
            row_bytes = 3 * n_train * training.Z.element_size()
            for rows in row_batches(0, len(members), row_bytes, 2**30):
                chosen = members[rows]
                batch = _ClassBatch(rule, training, queries, chosen, int(label), a, b)
                radius[chosen] = to_numpy(batch.solve())
    # strictly below the infimum
    inside = np.isfinite(radius) & (radius > 0)
    radius[inside] = np.nextafter(radius[inside], 0)
    return radius


@dataclass(frozen=True, eq=False)
class _TrainingSet:
    """Training points on the device, sorted by class and centred, with their norms."""

    Z: torch.Tensor  # (n, p), search precision
    V: torch.Tensor  # (n, q): ‖V_i − V_j‖ = ‖Aᵀ(z_i − z_j)‖
    Z64: torch.Tensor
    V64: torch.Tensor
    magnitudes: torch.Tensor  # (n,) float64
    center: np.ndarray
    bounds: list[tuple[int, int]]  # rows of each class
    V_error: float  # error of ‖V_i − V_j‖ from computing V

    @classmethod
    def of(
        cls,
        rule: NearestNeighborRule,
        n_queries: int,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> "_TrainingSet":
        order = np.argsort(rule.labels, kind="stable")
        center = rule.points.mean(axis=0)
        points = (rule.points - center)[order]
        ends = np.cumsum(np.bincount(rule.labels, minlength=len(rule.classes)))
        matrix, error, images = rule.matrix, 0.0, points
        if matrix is not None:
            if matrix.shape[0] <= matrix.shape[1]:  # Aᵀ = Q R, ‖Aᵀ y‖ = ‖R y‖
                matrix = np.asarray(np.linalg.qr(matrix.T, mode="r")).T
            images = points @ matrix
            growth = 10 * (sum(matrix.shape) + 16) * 2.0**-53
            largest = np.linalg.norm(points, axis=1).max()
            error = float(growth * np.linalg.norm(matrix) * 2 * largest)
        if dtype is None:
            work = n_queries * len(points) * (max(points.shape[1], images.shape[1]) + 32.0)
            dtype = torch.float64 if work <= _FLOAT64_LIMIT else torch.float32
        Z64 = as_tensor(points, device)
        V64 = Z64 if matrix is None else as_tensor(images, device)
        Z = Z64.to(dtype)
        return cls(
            Z=Z,
            V=Z if matrix is None else V64.to(dtype),
            Z64=Z64,
            V64=V64,
            magnitudes=as_tensor(rule.magnitudes[order], device),
            center=center,
            bounds=list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)),
            V_error=error,
        )


class _ClassBatch:
    """Test points of one class, bounded together."""

    def __init__(
        self,
        rule: NearestNeighborRule,
        training: _TrainingSet,
        queries: EmbeddedQueries,
        rows: np.ndarray,
        label: int,
        a: int,
        b: int,
    ):
        device = training.Z.device
        self.training, self.a, self.b = training, a, b
        self.first, self.last = training.bounds[label]
        self.n_negatives = len(training.Z) - (self.last - self.first)
        self.z64 = as_tensor(queries.points[rows] - training.center, device)
        self.rule = rule
        self.queries = EmbeddedQueries(
            queries.points[rows], queries.raw[rows], queries.magnitudes[rows], queries.unit
        )
        self.unit = torch.finfo(training.Z.dtype).eps / 2
        self.squared_Z = (training.Z * training.Z).sum(1)
        self.squared_V = (training.V * training.V).sum(1)
        self.size_Z = float(self.squared_Z.max().sqrt()) * (1 + 16 * self.unit)
        size_V = float(self.squared_V.max().sqrt())
        growth_V = (training.V.shape[1] + 16) * self.unit
        self.V_slack = growth_V * (2 * size_V) ** 2 + torch.finfo(training.Z.dtype).tiny
        # D − ‖z‖²; the common term cancels in every difference
        z = self.z64.to(training.Z.dtype)
        self.D = torch.mm(z * -2, training.Z.T).add_(self.squared_Z)
        self.z_norm = self.z64.norm(dim=1)
        zeros = torch.zeros(len(rows), dtype=torch.float64, device=device)
        self.embedding_error, self.magnitude, self.slack = zeros, zeros, zeros

    def solve(self) -> torch.Tensor:
        """Return the radii, float64 of shape (n_rows,)."""
        cap = self._cap()
        alive = cap > 0
        pool = torch.full((len(cap), self.a), torch.inf, dtype=torch.float64, device=cap.device)
        pool[~alive] = 0
        self._account_for_victim(cap)
        bounds = self._candidate_bounds()  # (n_rows, n_negatives)
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
        return torch.minimum(pool[:, -1], cap).clamp_min(0)

    def _negative(self, column: torch.Tensor) -> torch.Tensor:
        """Turn a position among the negatives into a training row."""
        return torch.where(column < self.first, column, column + self.last - self.first)

    def _cap(self) -> torch.Tensor:
        """Bound the result from above, roughly: twice the value of the a nearest negatives.

        The victim's rounding is bounded within this radius, and the result never exceeds it.
        """
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
        return 2 * plain.reshape(j.shape).max(1).values.double().clamp(0, 1e100)

    def _account_for_victim(self, cap: torch.Tensor) -> None:
        """Set the victim's rounding within `cap`, and the slack of the search's bounds."""
        radius, device = to_numpy(cap), cap.device
        error = self.rule.embedding_error(self.queries, radius)
        self.embedding_error = as_tensor(error, device)
        magnitude = self.rule.magnitudes_within(self.queries, radius)
        self.magnitude = as_tensor(magnitude, device)
        coefficient = self.rule.distance_error(self.queries)
        largest = float(self.training.magnitudes.max())
        growth = (self.training.Z.shape[1] + 16) * self.unit
        self.slack = (
            2 * growth * (self.z_norm + self.size_Z) ** 2
            + 2 * coefficient * (self.magnitude + largest) ** 2
            + 8 * self.size_Z * self.embedding_error
        )

    def _denominators(self, rows: torch.Tensor, columns: slice) -> torch.Tensor:
        """Return 2 ‖Aᵀ(z_i − z_j)‖ from above: (len(rows), columns)."""
        V = self.training.V
        norm = torch.mm(V[rows] * -2, V[columns].T).add_(self.squared_V[columns])
        norm.add_(self.squared_V[rows][:, None]).clamp_min_(0).add_(self.V_slack).sqrt_()
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
        growth = (training.Z.shape[1] + 16) * 2.0**-53
        coefficient = self.rule.distance_error(self.queries)
        for rows in row_batches(0, len(t), row_bytes, _BLOCK):
            z, z_j, z_i = self.z64[t[rows]], training.Z64[j[rows]], training.Z64[i[rows]]
            D_j = ((z_j - z) ** 2).sum(1)[:, None]
            D_i = ((z_i - z[:, None]) ** 2).sum(2)
            between = z_i.sub_(z_j[:, None]).norm(dim=2)  # ‖z_i − z_j‖
            moved = (training.V64[i[rows]] - training.V64[j[rows]][:, None]).norm(dim=2)
            m = self.magnitude[t[rows]][:, None]
            m_j, m_i = training.magnitudes[j[rows]][:, None], training.magnitudes[i[rows]]
            tau = coefficient * ((m + m_j) ** 2 + (m + m_i) ** 2)
            tau += 4 * self.embedding_error[t[rows]][:, None] * between + growth * (D_i + D_j)
            denominator = 2 * (moved * (1 + growth) + training.V_error) + np.finfo(float).tiny
            found = (D_j - D_i - tau) / denominator
            values[rows] = torch.topk(found, self.b).values[:, -1]
        return values * (1 - 2.0**-50)
