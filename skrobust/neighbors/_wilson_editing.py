r"""Wilson's editing: training points that their neighbours outvote are left out.

    keep i   ⇔   y_i = the class with most votes among the K nearest x_j, j ≠ i.

Source: Wilson, *Asymptotic Properties of Nearest Neighbor Rules Using Edited Data*, IEEE
Transactions on Systems, Man, and Cybernetics SMC-2 (1972) 408–421.
"""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from skrobust.neighbors._sample_selection import SampleSelectingClassifier
from skrobust.numerics import row_batches
from skrobust.utils._sklearn import Interval, fit_context
from skrobust.utils._warnings import warn

__all__ = ["WilsonEditing"]

_N_NEIGHBORS = 11


class WilsonEditing(SampleSelectingClassifier):
    """Fit a classifier on the training points that leave-one-out k-NN classifies right.

    Wilson's edited nearest neighbours; imbalanced-learn calls it ``EditedNearestNeighbours``.
    Points amid another class make the regions around them small; without them, nearest
    neighbours are more robust, and often more accurate [1]_. Distances are Euclidean in the
    space that `fit` receives: behind a learned metric in a ``Pipeline``, points are edited under
    that metric.

    Parameters
    ----------
    estimator : classifier, default=None
        A clone of it is fitted on the points that are kept; None is
        ``KNeighborsClassifier(n_neighbors=1)``.
    n_neighbors : int, default=None
        Neighbours that vote on a point, less than n_samples: the point itself never does,
        duplicates of it do. Ties go to the smallest label, as in
        :class:`~sklearn.neighbors.KNeighborsClassifier`. None is 11, or n_samples − 1 where that
        is less.
    n_jobs : int, default=None
        Jobs of the neighbour search; the result does not depend on it.

    Attributes
    ----------
    n_neighbors_ : int
        Neighbours that voted.
    sample_indices_ : ndarray of shape (n_kept,)
        Rows that were kept, ascending.
    estimator_ : classifier
        Fitted on them.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names in `fit`.

    See Also
    --------
    AdversarialPruning : Keeps classes at a distance from each other.

    Notes
    -----
    A class that would lose all its points keeps them all, with a ``UserWarning`` that names it.

    Where several points are equally far from one, which of them are its `n_neighbors` nearest is
    up to :class:`~sklearn.neighbors.NearestNeighbors`.

    With `sample_weight` in `fit` a point stands for so many copies of it, as in all of
    scikit-learn: neighbours vote until they weigh `n_neighbors` together, and of the point itself
    one copy is left out, the others vote. Under weights that balance classes
    (``compute_sample_weight("balanced", y)``) a rare class keeps its points, and the points of a
    frequent one amid it go, as with the samplers of imbalanced-learn. The estimator inside gets
    the weights where its `fit` takes some; k-NN does not.

    Memory is linear in the number of samples.

    References
    ----------
    .. [1] Wilson, "Asymptotic Properties of Nearest Neighbor Rules Using Edited Data", IEEE
       Transactions on Systems, Man, and Cybernetics SMC-2 (1972) 408-421.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.neighbors import WilsonEditing
    >>> from skrobust.scorers import certified_accuracy
    >>> X, y = load_iris(return_X_y=True)
    >>> plain = KNeighborsClassifier(1).fit(X[::2], y[::2])
    >>> edited = WilsonEditing(KNeighborsClassifier(1)).fit(X[::2], y[::2])
    >>> len(edited.sample_indices_)
    71
    >>> [round(certified_accuracy(knn, X[1::2], y[1::2], eps=0.3), 2) for knn in (plain, edited)]
    [0.77, 0.87]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SampleSelectingClassifier._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        n_neighbors: int | None = None,
        *,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.n_neighbors = n_neighbors
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Edit the training points, and fit a clone of `estimator` on those that are kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training points.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How many copies each point stands for, ≥ 0; None is 1.

        Returns
        -------
        WilsonEditing
            Itself, fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are not supported; the message names it.

        Warns
        -----
        UserWarning
            If no point of a class is classified right.
        """
        return self._fit(X, y, sample_weight)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return what weights are used for: the editing, and the estimator inside."""
        base = KNeighborsClassifier() if self.estimator is None else self.estimator
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        return router.add(estimator=base, method_mapping=mapping)

    def _keep(
        self, X: np.ndarray, y: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray:
        copies = np.ones(len(X)) if weight is None else weight
        most = int(copies.sum() * (1 + 1e-9)) - 1  # votes that each point has at least
        k = self.n_neighbors or max(1, min(_N_NEIGHBORS, most))
        if k > most:
            size = f"n_samples={len(X)}" if weight is None else f"sample_weight.sum()={sum(weight)}"
            raise ValueError(
                f"n_neighbors={k} must be less than {size}: a point does not vote on itself."
            )
        self.n_neighbors_ = int(k)
        right = _left_out_predictions(X, y, copies, self.n_neighbors_, self.n_jobs) == y
        lost = np.bincount(y[right], minlength=len(classes)) == 0
        if lost.any():
            warn(
                f"Leave-one-out {k}-NN classifies no point right in the classes "
                f"{classes[lost].tolist()}; all their points are kept. A smaller n_neighbors may "
                "edit them."
            )
        return right | lost[y]


def _left_out_predictions(
    X: np.ndarray, y: np.ndarray, copies: np.ndarray, k: int, n_jobs: int | None
) -> np.ndarray:
    """Return what the k nearest others of each point vote for, copies of points counted."""
    predicted, todo, n_searched = np.empty_like(y), np.arange(len(X)), k + 1
    while len(todo):
        n_searched = min(n_searched, len(X))
        search = NearestNeighbors(n_neighbors=n_searched, n_jobs=n_jobs).fit(X)
        short = []
        for part in row_batches(0, len(todo), 8 * (6 * n_searched + int(y.max()) + 1)):
            rows = todo[part]
            neighbors = search.kneighbors(X[rows], return_distance=False)
            votes, enough = _votes(neighbors, rows, y, copies, k)
            predicted[rows] = votes.argmax(axis=1)
            short.append(rows[~enough & (n_searched < len(X))])
        todo, n_searched = np.concatenate(short), 2 * n_searched
    return predicted


def _votes(
    neighbors: np.ndarray, rows: np.ndarray, y: np.ndarray, copies: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the votes for each class, and whether these neighbours have k together."""
    own = neighbors == rows[:, None]
    # as many duplicates may hide the point itself; then one copy of the last of them stands for it
    own[~own.any(axis=1), -1] = True
    mass = np.where(own, np.maximum(copies[neighbors] - 1, 0), copies[neighbors])
    before = mass.cumsum(axis=1) - mass
    counted = np.clip(k - before, 0, mass)
    n_classes = int(y.max()) + 1
    cells = y[neighbors] + n_classes * np.arange(len(rows))[:, None]
    votes = np.bincount(cells.ravel(), counted.ravel(), minlength=len(rows) * n_classes)
    return votes.reshape(-1, n_classes), mass.sum(axis=1) >= k * (1 - 1e-9)
