r"""Least-norm points of small polyhedra, with multipliers.

    min ‖η‖_p   subject to   C η ≤ h,   lower ≤ η ≤ upper,     lower ≤ 0 ≤ upper.

For p = 2 without a box: Lawson and Hanson's reduction of least-distance programming to
non-negative least squares (*Solving Least Squares Problems*, 1974, chapter 23). For p = 1 and
p = ∞ a linear program, solved by HiGHS. For p = 2 a box is made of rows of C.

Whatever the solver's accuracy, **any** multipliers λ, μ, ν ≥ 0 of the rows and of the ends of
the box prove, by weak duality and with 1/p + 1/q = 1,

    ‖η‖_p ≥ ( −hᵀλ − upperᵀμ + lowerᵀν ) / ‖Cᵀλ + μ − ν‖_q.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog, nnls

__all__ = ["LeastNorm", "least_norm"]

_INFEASIBLE = 1e-11  # residual of the scaled program


class LeastNorm(NamedTuple):
    """A solution, or the proof that there is none.

    Attributes
    ----------
    point : ndarray of shape (n,) or None
        η; None where the polyhedron is empty or the solver failed.
    rows : ndarray of shape (m,)
        λ ≥ 0, for the rows of C.
    upper, lower : ndarray of shape (n,)
        μ, ν ≥ 0, for the ends of the box.
    """

    point: np.ndarray | None
    rows: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


def least_norm(
    C: np.ndarray,
    h: np.ndarray,
    norm: float,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
) -> LeastNorm:
    """Solve a small least-norm program.

    Parameters
    ----------
    C : ndarray of shape (m, n)
    h : ndarray of shape (m,)
    norm : 1, 2 or inf
    lower, upper : ndarray of shape (n,), default=None
        The box, with ``lower <= 0 <= upper``; infinite ends allowed, None for no box.

    Returns
    -------
    LeastNorm

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.numerics import least_norm
    >>> least_norm(np.array([[-1.0, -1.0]]), np.array([-2.0]), 2).point.round(6)
    array([1., 1.])
    """
    n = C.shape[1]
    if (h >= 0).all():
        return LeastNorm(np.zeros(n), np.zeros(len(h)), np.zeros(n), np.zeros(n))
    if norm == 2:
        if lower is None or upper is None:
            point, rows = _least_distance(C, h)
            return LeastNorm(point, rows, np.zeros(n), np.zeros(n))
        # the finite ends of the box become rows of C, and their multipliers μ and ν
        up, low = np.flatnonzero(np.isfinite(upper)), np.flatnonzero(np.isfinite(lower))
        unit = np.eye(n)
        point, multipliers = _least_distance(
            np.vstack([C, unit[up], -unit[low]]), np.concatenate([h, upper[up], -lower[low]])
        )
        mu, nu = np.zeros(n), np.zeros(n)
        mu[up] = multipliers[len(h) : len(h) + len(up)]
        nu[low] = multipliers[len(h) + len(up) :]
        return LeastNorm(point, multipliers[: len(h)], mu, nu)
    lower = np.full(n, -np.inf) if lower is None else lower
    upper = np.full(n, np.inf) if upper is None else upper
    return _linear(C, h, norm, lower, upper)


def _least_distance(C: np.ndarray, h: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Least ℓ₂ norm by non-negative least squares; rows and right sides scaled to one."""
    size = np.linalg.norm(C, axis=1)
    if (size == 0).any():  # rows without a direction are true or false by themselves
        if (h[size == 0] < 0).any():
            return None, ((size == 0) & (h < 0)).astype(float)
        point, some = _least_distance(C[size > 0], h[size > 0])
        rows = np.zeros(len(h))
        rows[size > 0] = some
        return point, rows
    rate = h / size
    if not (rate < 0).any():
        return np.zeros(C.shape[1]), np.zeros(len(h))
    # minimise ‖η‖ s.t. Cη ≤ h is min ‖E u − (0, …, 0, 1)‖ over u ≥ 0, with E = [−Cᵀ; −hᵀ]: the
    # residual r gives η = −r_{1..n} / r_{n+1}, and u the multipliers (Lawson and Hanson). In the
    # basis of the rows' span E has at most m + 1 rows.
    unit = np.abs(rate[rate < 0]).max()
    basis, triangle = np.linalg.qr((-C / size[:, None]).T)
    E = np.vstack([triangle, -rate / unit])
    target = np.zeros(len(E))
    target[-1] = 1.0
    try:
        u, _ = nnls(E, target, maxiter=50 * len(h) + 100)
    except RuntimeError:
        return None, np.zeros(len(h))
    # a residual of 0 means that there is no η, and u is Farkas' certificate of it
    residual = E @ u - target
    multipliers = u / size
    if np.linalg.norm(residual) < _INFEASIBLE or residual[-1] >= 0:
        return None, multipliers
    return basis @ (residual[:-1] / -residual[-1]) * unit, multipliers


def _linear(
    C: np.ndarray, h: np.ndarray, norm: float, lower: np.ndarray, upper: np.ndarray
) -> LeastNorm:
    """Least ℓ₁ or ℓ∞ norm as a linear program in scaled units."""
    # rows of size 1, and the right side that is farthest out at −1: the solver's tolerances are
    # absolute
    n = C.shape[1]
    size = np.abs(C).max(axis=1)
    kept = (size > 0) | (h < 0)
    row_scale = np.where(size > 0, size, 1.0)
    A, b = C / row_scale[:, None], h / row_scale
    unit = float(np.abs(b[b < 0]).max())
    A, b = A[kept], b[kept] / unit
    low, up = lower / unit, upper / unit
    if norm == 1:  # η = η⁺ − η⁻
        result = linprog(
            np.ones(2 * n),
            A_ub=np.hstack([A, -A]),
            b_ub=b,
            bounds=np.column_stack([np.zeros(2 * n), np.concatenate([up, -low])]),
            method="highs",
        )
    else:  # |η_f| ≤ t
        eye, ones = np.eye(n), np.ones((n, 1))
        result = linprog(
            np.r_[np.zeros(n), 1.0],
            A_ub=np.vstack(
                [
                    np.hstack([A, np.zeros((len(A), 1))]),
                    np.hstack([eye, -ones]),
                    np.hstack([-eye, -ones]),
                ]
            ),
            b_ub=np.concatenate([b, np.zeros(2 * n)]),
            bounds=np.column_stack([np.r_[low, 0.0], np.r_[up, np.inf]]),
            method="highs",
        )
    rows = np.zeros(len(h))
    if result.status == 2:
        # empty: the multipliers of the least violation are Farkas' certificate
        result = linprog(
            np.r_[np.zeros(n), 1.0],
            A_ub=np.hstack([A, -np.ones((len(A), 1))]),
            b_ub=b,
            bounds=np.column_stack([np.r_[low, 0.0], np.r_[up, np.inf]]),
            method="highs",
        )
        if result.status == 0:
            rows[kept] = np.maximum(-result.ineqlin.marginals, 0) / row_scale[kept]
            mu = np.maximum(-result.upper.marginals[:n], 0)
            return LeastNorm(None, rows, mu, np.maximum(result.lower.marginals[:n], 0))
    if result.status != 0:
        return LeastNorm(None, rows, np.zeros(n), np.zeros(n))
    # marginals are derivatives of the optimum by the right sides: minus the multipliers
    rows[kept] = np.maximum(-result.ineqlin.marginals[: len(A)], 0) / row_scale[kept]
    if norm == 1:
        point = result.x[:n] - result.x[n:]
        ends = np.maximum(-result.upper.marginals, 0)
        mu, nu = ends[:n], ends[n:]
    else:
        point = result.x[:n]
        mu = np.maximum(-result.upper.marginals[:n], 0)
        nu = np.maximum(result.lower.marginals[:n], 0)
    return LeastNorm(point * unit, rows, mu, nu)
