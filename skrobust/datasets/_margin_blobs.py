"""A problem of two classes whose distances to the boundary are known in closed form."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skrobust.datasets._checks import check_non_negative
from skrobust.utils._validation import check_count

__all__ = ["make_margin_blobs"]


def make_margin_blobs(
    n_samples: int = 100,
    n_features: int = 2,
    *,
    margin: float = 1.0,
    random_state: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw two classes that the hyperplane x₀ = 0 separates, `margin` apart.

    A normal sample is moved along the first feature until each class lies beyond margin / 2 of
    the hyperplane; one pair of points, one of each class, is exactly `margin` apart, so that no
    other hyperplane has a wider margin.

    Parameters
    ----------
    n_samples : int, default=100
        At least 2; class 0 has half of them, rounded up.
    n_features : int, default=2
    margin : float, default=1.0
        Distance between the classes, > 0.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) of int
        0 where x₀ < 0, else 1.
    distance : ndarray of shape (n_samples,)
        The absolute value of x₀: the norm of the smallest perturbation that reaches the
        hyperplane, the same in ℓ₁,
        ℓ₂ and ℓ∞; the smallest is margin / 2.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> from skrobust.datasets import make_margin_blobs
    >>> X, y, distance = make_margin_blobs(6, margin=3.0, random_state=0)
    >>> float(distance.min()), float(X[y == 1, 0].min() - X[y == 0, 0].max())
    (1.5, 3.0)
    """
    n_samples = check_count(n_samples, 2, name="n_samples")
    n_features = check_count(n_features, 1, name="n_features")
    if check_non_negative("margin", margin) == 0:
        raise ValueError(f"margin must be > 0; got {margin!r}.")
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_samples, n_features))
    y = np.arange(len(X)) % 2
    X[:2] = 0.0  # the pair that faces each other
    distance = margin / 2 + np.abs(X[:, 0])
    X[:, 0] = np.where(y == 1, distance, -distance)
    order = rng.permutation(len(X))
    return X[order], y[order], distance[order]
