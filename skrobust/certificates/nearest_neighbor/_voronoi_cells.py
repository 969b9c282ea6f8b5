r"""Distance from test points to the cells of negatives: the exact 1-NN perturbation.

The perturbations η (δ = s ∘ η) that bring x at least as near to the negative j as to every
positive i form a polyhedron,

    2 (v_i − v_j)·η ≤ D_i − D_j   for all i ∈ P,

and x's exact radius is the least norm over all j. Each polyhedron is solved by constraint
generation: from the most binding positive on, the violated one is added and the small program
solved again. The violated ones of many pairs are found by one matrix product.

The multipliers of a solution prove a lower bound (see ``_comparisons``); rows that were not
added could only raise it.

Source: Wang, Liu, Yi, Zhou, Hsieh, *Evaluating the Robustness of Nearest Neighbor Classifiers:
A Primal-Dual Perspective*, arXiv:1906.03972.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces, HalfSpaces
from skrobust.certificates.nearest_neighbor._class_batch import ClassBatch
from skrobust.numerics import row_batches
from skrobust.utils._torch import as_tensor, to_numpy

__all__ = ["CellProjection", "VoronoiCells"]

_MAX_ROUNDS = 200
_VIOLATION = 1e-10  # relative to the size of the constraint's terms
_BLOCK = 2**27


@dataclass(eq=False)
class CellProjection:
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
        empty or was left, or the solver failed.
    left : bool
        Whether it was left because it is farther than what is known.
    tried : bool
        Whether the victim was asked about it.
    """

    t: int
    j: int
    rows: list[int] = field(default_factory=list)
    lower: float = 0.0
    point: np.ndarray | None = None
    left: bool = False
    tried: bool = False


class VoronoiCells:
    """The cells of a batch's negatives.

    Parameters
    ----------
    batch : ClassBatch
        After `solve`.
    """

    def __init__(self, batch: ClassBatch):
        training = batch.training
        self.batch = batch
        self.comparisons = BisectorHalfspaces(training, batch.queries, batch.rounding)
        # −(D_i − ‖z‖²) of every row and positive: one product for all rounds
        Z = training.Z64[batch.first : batch.last] - training.center
        self.sides = torch.mm((batch.z64 - training.center) * 2, Z.T).sub_((Z * Z).sum(1))
        # a shift of all v does not change a constraint: centred ones search better
        same = training.V64 is training.Z64
        self.V_center = training.center if same else torch.zeros_like(training.V64[0])
        self.V_positive = Z if same else training.V64[batch.first : batch.last]

    def _half_spaces(self, pair: CellProjection) -> HalfSpaces:
        return self.comparisons.half_spaces(pair.t, [pair.j] * len(pair.rows), pair.rows)

    def solve(self, pairs: list[CellProjection], distance: np.ndarray) -> None:
        """Solve pairs, in place; leave those that are farther than their row's distance."""
        still = pairs
        for _ in range(_MAX_ROUNDS):
            for pair in still:
                self._solve_rows(pair)
                pair.left = pair.lower >= distance[pair.t]
                if pair.left:
                    pair.point = None
            still = self._add_violated([pair for pair in still if pair.point is not None])
            if not still:
                break

    def _solve_rows(self, pair: CellProjection) -> None:
        """Solve the pair over its rows; raise its proved bound."""
        found = self.comparisons.solve(pair.t, self._half_spaces(pair))
        pair.point, pair.lower = found.point, max(pair.lower, found.proved)

    def _add_violated(self, pairs: list[CellProjection]) -> list[CellProjection]:
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

    def size(self, pair: CellProjection) -> float:
        """Return the norm of a solved pair's point; inf where it has none."""
        return self.comparisons.size(pair.point)

    def delta(self, pair: CellProjection, margin: float) -> np.ndarray | None:
        """Return a δ inside a solved pair's cell by some margin, None where there is none."""
        eta = self.comparisons.inside(pair.t, self._half_spaces(pair), margin)
        return None if eta is None else self.comparisons.delta(eta)
