r"""The training points that can be among the K nearest within a radius.

u cannot where K points are strictly nearer all over the ball: those w with

    effort(u, w) = [ D_u − D_w − τ ]₊ / ( 2 ‖v_u − v_w‖_q ) ≥ radius,

the norm it takes to bring x at least as near to u as to w. Nothing else has to be looked at in
an exact search, whatever the size of the training set.
"""

from dataclasses import dataclass

import numpy as np
import torch

from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces
from skrobust.numerics import row_batches

__all__ = ["MOST_CANDIDATES", "Candidates", "Neighborhood", "squared_distances"]

MOST_CANDIDATES = 4000
_BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class Candidates:
    """Some training points, seen from a test point.

    Attributes
    ----------
    rows : ndarray of shape (n_candidates,)
        Rows of the training set.
    distance : ndarray of shape (n_candidates,)
        Squared distances to x.
    V : ndarray of shape (n_candidates, n_directions)
        Images, centred: moving x by η changes squared distances by ``−2 V η``, up to a
        constant.
    """

    rows: np.ndarray
    distance: np.ndarray
    V: np.ndarray

    def moved(self, eta: np.ndarray | None) -> np.ndarray:
        """Return squared distances to x + η up to a constant; None is η = 0."""
        return self.distance if eta is None else self.distance - 2 * (self.V @ eta)


@dataclass(frozen=True, eq=False)
class Neighborhood(Candidates):
    """The candidates that can be among the K nearest within a radius.

    Attributes
    ----------
    effort : ndarray of shape (n_candidates, n_candidates)
        ``effort[u, w]``: proved lower bound on the norm that brings x at least as near to u
        as to w; 0 where it is, inf where nothing does.
    """

    bisector_distance: np.ndarray

    @classmethod
    def within(
        cls,
        radius: float,
        comparisons: BisectorHalfspaces,
        t: int,
        n_neighbors: int,
        reach: float,
    ) -> "Neighborhood | None":
        """Find the candidates within `radius`, the one that bounds the rounding.

        None if they are more than `MOST_CANDIDATES`.

        Parameters
        ----------
        radius : float
        comparisons : BisectorHalfspaces
        t : int
            Row of the test point.
        n_neighbors : int
            K.
        reach : float
            The embedding moves by at most this much a unit of the norm.
        """
        squared = squared_distances(comparisons.Z, comparisons.z[t])
        distance = np.sqrt(squared)
        kth = np.partition(distance, n_neighbors - 1)[n_neighbors - 1]
        # coarse: beyond it u is farther than K points all over the ball, by more than rounding.
        # (√D_u − √D_w − 2 r reach)(√D_u + √D_w) > τ follows from the terms of τ one by one
        rounding = comparisons.rounding
        limit = (kth + 2 * radius * reach) * (1 + 1e-5) + 8 * rounding.embedding_error[t]
        limit += np.sqrt(_least_tau(comparisons, t)) + 8 * rounding.pruning[t]
        rows = np.flatnonzero(distance <= limit)
        nearest = np.argsort(distance, kind="stable")[:n_neighbors]
        if len(rows) > 4 * n_neighbors:  # fine
            needed = _bisector_distances(comparisons, t, rows, nearest, squared)
            rows = rows[(needed >= radius).sum(1) < n_neighbors]
        if len(rows) > MOST_CANDIDATES:
            return None
        bisector_distance = _bisector_distances(comparisons, t, rows, rows, squared)
        kept = (bisector_distance >= radius).sum(1) < n_neighbors
        rows, bisector_distance = rows[kept], bisector_distance[np.ix_(kept, kept)]
        V = comparisons.V[rows]
        return cls(rows, squared[rows], V - V.mean(axis=0), bisector_distance)


def squared_distances(Z: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return squared distances in float64, from differences, of shape (len(Z),)."""
    squared = np.empty(len(Z))
    for rows in row_batches(0, len(Z), 8 * Z.shape[1], _BLOCK):
        difference = Z[rows] - z
        squared[rows] = np.einsum("ij,ij->i", difference, difference)
    return squared


def _least_tau(comparisons: BisectorHalfspaces, t: int) -> float:
    """Return twice the largest τ of points at distance 0: what does not grow with distances."""
    largest = float(comparisons.magnitudes.max())
    return 2 * float(comparisons.rounding.tau(t, largest, largest, 0.0, 0.0, 0.0))


def _bisector_distances(
    comparisons: BisectorHalfspaces, t: int, near: np.ndarray, far: np.ndarray, squared: np.ndarray
) -> np.ndarray:
    """Return efforts of shape (len(near), len(far)), rounded down."""
    training = comparisons.training
    dual = comparisons.budget.dual
    V_u, V_w = (torch.from_numpy(comparisons.V[rows]) for rows in (near, far))
    Z_u, Z_w = (torch.from_numpy(comparisons.Z[rows]) for rows in (near, far))
    mode = "donot_use_mm_for_euclid_dist"
    moved = torch.cdist(V_u, V_w, p=dual, compute_mode=mode).numpy()
    between = moved
    if training.V64 is not training.Z64:
        between = torch.cdist(Z_u, Z_w, compute_mode=mode).numpy()
    m, D_u, D_w = comparisons.magnitudes, squared[near][:, None], squared[far]
    tau = comparisons.rounding.tau(t, m[near][:, None], m[far], D_u, D_w, between)
    growth = (comparisons.n_directions + 16) * 2.0**-53
    gap = D_u - D_w - tau
    with np.errstate(over="ignore"):
        bisector_distance = gap / (2 * (moved * (1 + growth) + training.V_error))
    return np.where(gap <= 0, 0.0, bisector_distance * (1 - 2.0**-50))
