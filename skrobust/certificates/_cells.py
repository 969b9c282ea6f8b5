r"""Distance from test points to the cells of negatives: the exact 1-NN perturbation.

The perturbations η (δ = s ∘ η) that bring x at least as near to the negative j as to every
positive i form a polyhedron,

    2 (v_i − v_j)·η ≤ D_i − D_j   for all i ∈ P,

and x's exact radius is the least norm over all j. Each polyhedron is solved by constraint
generation: from the most binding positive on, the violated one is added and the small program
solved again. The violated ones of many pairs are found by one matrix product.

The multipliers of a solution prove a lower bound in float64, whatever the solver's accuracy
(see ``numerics.least_norm``); right-hand sides are relaxed by the victim's rounding τ, so the
bound holds for its `predict`. Rows that were not added could only raise it.

Source: Wang, Liu, Yi, Zhou, Hsieh, *Evaluating the Robustness of Nearest Neighbor Classifiers:
A Primal-Dual Perspective*, arXiv:1906.03972.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from skrobust.certificates._class_batch import ClassBatch
from skrobust.numerics import least_norm, row_batches
from skrobust.utils._torch import as_tensor, to_numpy

__all__ = ["Cells", "Pair"]

_MAX_ROUNDS = 200
_VIOLATION = 1e-10  # relative to the size of the constraint's terms
_BLOCK = 2**27
_TINY = float(np.finfo(float).tiny)


@dataclass(eq=False)
class Pair:
    """The cell of one negative, seen from one test point.

    Attributes
    ----------
    t, j : int
        Row of the batch, row of the training set.
    rows : list of int
        Positives whose constraints are in force, as rows of the training set.
    lower : float
        Proved lower bound on the distance, sound for the victim's rounding.
    point : ndarray of shape (n_directions,) or None
        The nearest η in the coordinates of the training set's V; None where the cell is
        empty, or the solver failed.
    tried : bool
        Whether the victim was asked about it.
    """

    t: int
    j: int
    rows: list[int] = field(default_factory=list)
    lower: float = 0.0
    point: np.ndarray | None = None
    tried: bool = False


class Cells:
    """The cells of a batch's negatives.

    Parameters
    ----------
    batch : ClassBatch
        After `solve`.
    """

    def __init__(self, batch: ClassBatch):
        training = batch.training
        self.batch, self.budget = batch, training.budget
        self.V, self.Z = to_numpy(training.V64), to_numpy(training.Z64)
        self.z = to_numpy(batch.z64)
        self.n_directions = self.V.shape[1]
        self.magnitudes = to_numpy(training.magnitudes)
        self.magnitude = to_numpy(batch.magnitude)
        self.embedding_error = to_numpy(batch.embedding_error)
        self.moved = to_numpy(batch.moved)
        self.absolute, self.relative = batch.rule.distance_error(batch.queries)
        # −(D_i − ‖z‖²) of every row and positive: one product for all rounds
        Z = training.Z64[batch.first : batch.last] - training.center
        self.sides = torch.mm((batch.z64 - training.center) * 2, Z.T).sub_((Z * Z).sum(1))
        # a shift of all v does not change a constraint: centred ones search better
        same = training.V64 is training.Z64
        self.V_center = training.center if same else torch.zeros_like(training.V64[0])
        self.V_positive = Z if same else training.V64[batch.first : batch.last]
        self.lower = self.upper = None
        if self.budget.bounded:
            movable = self.budget.scale > 0
            scale, raw = self.budget.scale[movable], batch.queries.raw[:, movable]
            # rounded outward: a larger box can only lower the bound
            self.lower = np.nextafter((self.budget.lower[movable] - raw) / scale, -np.inf)
            self.upper = np.nextafter((self.budget.upper[movable] - raw) / scale, np.inf)

    def _constraints(self, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return C, h and the rounding τ of the pair's rows."""
        rows, z, z_j = pair.rows, self.z[pair.t], self.Z[pair.j]
        C = 2 * (self.V[rows] - self.V[pair.j])
        D_i = ((self.Z[rows] - z) ** 2).sum(1)
        D_j = ((z_j - z) ** 2).sum()
        m, moved = self.magnitude[pair.t], self.moved[pair.t]
        m_j, m_i = self.magnitudes[pair.j], self.magnitudes[rows]
        tau = self.absolute * ((m + m_j) ** 2 + (m + m_i) ** 2)
        tau += self.relative * ((np.sqrt(D_j) + moved) ** 2 + (np.sqrt(D_i) + moved) ** 2)
        tau += 4 * self.embedding_error[pair.t] * np.linalg.norm(self.Z[rows] - z_j, axis=1)
        tau += (self.Z.shape[1] + 16) * 2.0**-53 * (D_i + D_j)
        return C, D_i - D_j, tau

    def _box(self, pair: Pair) -> tuple[np.ndarray | None, np.ndarray | None]:
        if self.lower is None or self.upper is None:
            return None, None
        return self.lower[pair.t], self.upper[pair.t]

    def solve(self, pairs: list[Pair]) -> None:
        """Solve pairs, in place."""
        still = pairs
        for _ in range(_MAX_ROUNDS):
            for pair in still:
                self._solve_rows(pair)
            still = self._add_violated([pair for pair in still if pair.point is not None])
            if not still:
                break

    def _solve_rows(self, pair: Pair) -> None:
        """Solve the pair over its rows; raise its proved bound."""
        C, h, tau = self._constraints(pair)
        lower, upper = self._box(pair)
        found = least_norm(C, h, self.budget.norm, lower, upper)
        pair.point = found.point
        push = found.rows @ C + found.upper - found.lower
        reach = -(h + tau) @ found.rows
        if lower is not None and upper is not None:
            up, low = found.upper > 0, found.lower > 0
            ends = np.r_[-lower[low] * found.lower[low], upper[up] * found.upper[up]]
            reach -= ends.sum() + (len(ends) + 16) * 2.0**-52 * np.abs(ends).sum()
        # rounding of the product and of V
        unit = (len(h) + self.n_directions + 16) * 2.0**-52
        slack = 2 * self.batch.training.V_error * found.rows.sum()
        slack += unit * np.linalg.norm(np.abs(found.rows) @ np.abs(C), ord=self.budget.dual)
        slack += unit * np.linalg.norm(found.upper + found.lower, ord=self.budget.dual)
        terms = (np.abs(h) + tau) @ found.rows
        reach -= unit * terms
        size = np.linalg.norm(push, ord=self.budget.dual) + slack
        if reach > 0:
            # a proof that the cell is empty, up to rounding: no η reaches it
            empty = found.point is None and size <= 4 * slack and reach > 1e-6 * terms
            pair.lower = np.inf if empty else max(pair.lower, reach / max(size, _TINY))

    def _add_violated(self, pairs: list[Pair]) -> list[Pair]:
        """Give each pair the positive it violates most; return those that violate one."""
        if not pairs:
            return []
        batch = self.batch
        training, device = batch.training, batch.z64.device
        still = []
        row_bytes = 3 * 8 * (batch.last - batch.first)
        for part in row_batches(0, len(pairs), row_bytes, _BLOCK):
            chosen = pairs[part]
            eta = as_tensor(np.array([pair.point for pair in chosen]), device)
            t = torch.tensor([pair.t for pair in chosen], device=device)
            j = torch.tensor([pair.j for pair in chosen], device=device)
            # 2 v_i·η − (D_i − ‖z‖²), and the same of j
            side = torch.addmm(self.sides[t], eta, self.V_positive.T, alpha=2)
            z_j = training.Z64[j] - training.center
            own = (2 * eta * (training.V64[j] - self.V_center)).sum(1) - (z_j * z_j).sum(1)
            own += 2 * ((batch.z64[t] - training.center) * z_j).sum(1)
            worst = side.max(1)
            size = torch.maximum(worst.values.abs(), side.min(1).values.abs()) + own.abs()
            violated = to_numpy(worst.values - own > _VIOLATION * size)
            for pair, bad, row in zip(
                chosen, violated, (worst.indices + batch.first).tolist(), strict=True
            ):
                if bad and row not in pair.rows:
                    pair.rows.append(row)
                    still.append(pair)
        return still

    def size(self, pair: Pair) -> float:
        """Return the norm of a solved pair's point; inf where it has none."""
        if pair.point is None:
            return np.inf
        return float(np.linalg.norm(pair.point, ord=self.budget.norm))

    def inside(self, pair: Pair, margin: float) -> np.ndarray | None:
        """Return an η that meets the pair's constraints by more than the victim's rounding.

        Parameters
        ----------
        pair : Pair
            Solved.
        margin : float
            Added, relative to the largest right-hand side.
        """
        C, h, tau = self._constraints(pair)
        tightened = h - 4 * tau - margin * np.abs(h).max()
        return least_norm(C, tightened, self.budget.norm, *self._box(pair)).point
