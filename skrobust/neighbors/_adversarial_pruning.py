r"""Adversarial pruning: the fewest training points go that keep the classes apart.

    min |R|   over sets R of training points such that
    ‖x_i − x_j‖₂ ≥ 2 r   for all i, j ∉ R with y_i ≠ y_j.

R is a minimum vertex cover of the graph of conflicts, the pairs of different classes nearer than
2 r (``_vertex_cover``). With two classes the graph is bipartite, so R is found exactly; with
more R is at most twice as large as it must be.

Source: Yang, Rashtchian, Wang, Chaudhuri, *Robustness for Non-Parametric Classification: A
Generic Attack and Defense*, AISTATS 2020, arXiv:1906.03310.
"""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.neighbors import NearestNeighbors

from skrobust.neighbors._sample_selection import SampleSelectingClassifier
from skrobust.neighbors._vertex_cover import small_vertex_cover
from skrobust.numerics import row_batches
from skrobust.utils._sklearn import Interval
from skrobust.utils._warnings import warn

__all__ = ["AdversarialPruning"]

_LARGEST = 1e140  # as for X: squares stay finite
_BLOCK = 2**26  # bytes of distances a search may look at together


class AdversarialPruning(SampleSelectingClassifier):
    """Fit a classifier on training points whose classes are 2 · radius apart.

    The fewest points that make it so are removed for two classes [1]_, at most twice as many for
    more. Every point that is kept then has a certified radius of at least `radius` under 1-NN: the
    middle between it and any point of another class is that far away. Distances are Euclidean in
    the space that `fit` receives; behind a step ``x ↦ A x + b`` in a ``Pipeline`` this is a radius
    of at least ``radius / ‖A‖₂`` in the units before it.

    Parameters
    ----------
    estimator : classifier, default=None
        A clone of it is fitted on the points that are kept; None is
        ``KNeighborsClassifier(n_neighbors=1)``.
    radius : float, default=0.1
        Half the distance of the classes, ≥ 0 and below 1e140, in the units of X; 0 removes nothing.
    n_jobs : int, default=None
        Jobs of the neighbour search; the result does not depend on it.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_kept,)
        Rows that were kept, ascending.
    n_removed_ : int
        How many were removed.
    n_removed_lower_bound_ : int
        Proved: fewer cannot be removed.
    exact_ : bool
        Whether these two are the same; True for two classes.
    estimator_ : classifier
        Fitted on the points that were kept.
    classes_ : ndarray of shape (n_classes,)
        Their labels, sorted.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names in `fit`.

    See Also
    --------
    WilsonEditing : Removes points amid another class.

    Notes
    -----
    With two classes no other choice removes fewer points. With more this is NP-hard: at most twice
    as many as necessary are removed, none that could be put back, and the smallest number where
    the conflicts that stay undecided form no cycle of odd length; see `exact_`. The order of the
    rows decides between choices of the same size.

    There is no `sample_weight`: the number of removed points is what is minimised, and proved.

    A class may lose all its points. A ``UserWarning`` names it, and `estimator_` does not know it:
    keeping one of its points would break the distance.

    Memory is linear in the number of samples and of conflicts, which can be all pairs of
    different classes where `radius` is large.

    References
    ----------
    .. [1] Yang, Rashtchian, Wang, Chaudhuri, "Robustness for Non-Parametric Classification: A
       Generic Attack and Defense", AISTATS 2020, arXiv:1906.03310.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust.certificates import certify_nearest_neighbors
    >>> from skrobust.neighbors import AdversarialPruning
    >>> X, y = load_iris(return_X_y=True)
    >>> pruned = AdversarialPruning(radius=0.3).fit(X, y)
    >>> pruned.n_removed_, pruned.exact_
    (10, True)
    >>> kept = pruned.sample_indices_
    >>> bool(certify_nearest_neighbors(pruned, X[kept], y[kept]).radius.min() > 0.3 - 1e-9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SampleSelectingClassifier._parameter_constraints,
        "radius": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    def __init__(self, estimator: Any = None, radius: float = 0.1, *, n_jobs: int | None = None):
        self.estimator = estimator
        self.radius = radius
        self.n_jobs = n_jobs

    def _keep(
        self, X: np.ndarray, y: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray:
        # not as a constraint: NumPy cannot compare a float32 with this bound
        if not float(self.radius) < _LARGEST:
            raise ValueError(f"radius must be below {_LARGEST}; got {self.radius!r}.")
        pairs = np.concatenate(
            [np.empty((0, 2), dtype=int), *_conflicts(X, y, 2 * float(self.radius), self.n_jobs)]
        )
        removed, lower = small_vertex_cover(pairs, len(X))
        self.n_removed_ = int(removed.sum())
        self.n_removed_lower_bound_ = lower
        self.exact_ = self.n_removed_ == lower
        lost = np.bincount(y[~removed], minlength=len(classes)) == 0
        if lost.any():
            warn(
                f"No point of the classes {classes[lost].tolist()} is left at radius="
                f"{self.radius}: the estimator is fitted without them. A smaller radius keeps "
                "them."
            )
        return ~removed


def _conflicts(
    X: np.ndarray, y: np.ndarray, distance: float, n_jobs: int | None
) -> Iterator[np.ndarray]:
    """Yield pairs (i, j) of rows of different classes nearer than `distance`, each pair once."""
    # the search may use products, whose rounding grows with the distance from the origin
    centered = X - X.mean(axis=0)
    reach = _enlarged(distance, centered)
    for label in range(y.max()):
        members, others = np.flatnonzero(y == label), np.flatnonzero(y > label)
        search = NearestNeighbors(radius=reach, n_jobs=n_jobs).fit(centered[members])
        for part in row_batches(0, len(others), 8 * len(members), _BLOCK):
            rows = others[part]
            neighbors = search.radius_neighbors(centered[rows], return_distance=False)
            near = np.column_stack(
                [
                    members[np.concatenate(neighbors).astype(int)],
                    np.repeat(rows, [len(indices) for indices in neighbors]),
                ]
            )
            yield from _nearer(X, near, distance)


def _enlarged(distance: float, X: np.ndarray) -> float:
    """Return a radius within which a search finds all pairs nearer than `distance`.

    A search by ``‖x‖² − 2 x·z + ‖z‖²`` is wrong by the rounding of these sums.
    """
    largest = (X * X).sum(axis=1).max() + distance**2
    rounding = 8 * (X.shape[1] + 32) * np.finfo(np.float64).eps * largest
    return float(np.sqrt(distance**2 + rounding))


def _nearer(X: np.ndarray, pairs: np.ndarray, distance: float) -> Iterator[np.ndarray]:
    for part in row_batches(0, len(pairs), 24 * X.shape[1], _BLOCK):
        i, j = pairs[part].T
        yield pairs[part][np.linalg.norm(X[i] - X[j], axis=1) < distance]
