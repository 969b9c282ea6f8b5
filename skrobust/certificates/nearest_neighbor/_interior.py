"""From a point of a cell's closure to perturbations inside the cell."""

import numpy as np

from skrobust.certificates.nearest_neighbor._bisectors import BisectorHalfspaces
from skrobust.certificates.nearest_neighbor._neighborhood import Candidates

__all__ = ["MARGINS", "interior_perturbations"]

# how far into a cell an adversarial example reaches, for float64 and for float32 data
MARGINS = {False: (1e-9, 1e-6, 1e-3), True: (1e-5, 1e-4, 1e-3)}

_TIES = 256  # pairs that are kept apart
_TIE = 1e-6
_MAX_ROUNDS = 60


def interior_perturbations(
    comparisons: BisectorHalfspaces, t: int, near: Candidates, chosen: np.ndarray, eta: np.ndarray
) -> list[np.ndarray]:
    """Return δ near η at which the chosen candidates are strictly nearer than the rest.

    Parameters
    ----------
    comparisons : BisectorHalfspaces
    t : int
        Row of the test point.
    near : Candidates
    chosen : ndarray of shape (n_candidates,) of bool
        The nearest at x + η, up to ties.
    eta : ndarray of shape (n_directions,)

    Returns
    -------
    list of ndarray of shape (n_features,)
        By growing margins; empty where the cell has no interior.
    """
    distance = near.moved(eta)
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    gap = distance[outside] - distance[inside][:, None]
    tied = np.argwhere(gap <= _TIE * np.abs(distance).max())
    if not len(tied):
        return [comparisons.delta(eta)]
    if len(tied) > _TIES:
        tied = tied[np.argsort(gap[tied[:, 0], tied[:, 1]], kind="stable")[:_TIES]]
    pairs = [(int(inside[u]), int(outside[w])) for u, w in tied]
    found = []
    for margin in MARGINS[comparisons.single]:
        for _ in range(_MAX_ROUNDS):
            rows = near.rows[np.array(pairs)]
            half = comparisons.half_spaces(t, rows[:, 0], rows[:, 1])
            point = comparisons.inside(t, half, margin)
            if point is None:
                break
            # a linear program may have gone to another of its solutions
            distance = near.moved(point)
            u, w = inside[distance[inside].argmax()], outside[distance[outside].argmin()]
            if distance[u] < distance[w] or (u, w) in pairs:
                found.append(comparisons.delta(point))
                break
            pairs.append((int(u), int(w)))
    return found
