r"""One nearest-neighbour rule in the raw feature space, with bounds of its own rounding.

A chain of affine steps ``x ↦ A x + b`` in front of k-NN compares squared distances
``D_j(x) = ‖A x + b − z_j‖²`` with the stored points ``z_j``. Moving x by δ moves the embedding
by A δ, so everything about raw perturbations follows from A and the ``z_j``.

What is attacked is a program, which rounds: with ẑ the embedding that it computes,

    ‖ẑ(x) − (A x + b)‖₂ ≤ E(x)         (`embedding_error`, `movement_error`),
    |D̂_j(x) − D_j(x)| ≤ c (‖ẑ(x)‖ + ‖z_j‖)² + c′ D_j(x)       (`distance_error`).

Both come from the standard model of floating point, with constants on the safe side. A ball tree
skips a ball of points by the rounded distance to its center less its rounded radius; each is
wrong by a share of itself (`pruning`). Squares of values beyond `largest` overflow.
"""

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, Self

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion

from skrobust.adapters._affine import AffineMap
from skrobust.utils._floating_point import DOUBLE, SINGLE, check_size, largest_value
from skrobust.utils._frames import Table

__all__ = ["EmbeddedQueries", "NearestNeighborRule"]

# operations a rounding bound counts beyond the length of a sum
_EXTRA_OPERATIONS = 16


@dataclass(frozen=True, eq=False)
class EmbeddedQueries:
    """Query points as the rule sees them.

    Attributes
    ----------
    points : ndarray of shape (n_samples, n_components), float64
        The embeddings that the victim itself computes.
    raw : ndarray of shape (n_samples, n_features), float64
        The queries in the raw feature space.
    magnitudes : ndarray of shape (n_samples,)
        What the rounding of distances scales with.
    unit : float
        Unit roundoff of the least precise step.
    """

    points: np.ndarray
    raw: np.ndarray
    magnitudes: np.ndarray
    unit: float

    def __getstate__(self) -> dict[str, Any]:
        return _narrowed(vars(self), "points", "raw")

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(_widened(state, "points", "raw"))

    def take(self, rows: np.ndarray) -> Self:
        """Return some of the points."""
        return replace(
            self,
            points=self.points[rows],
            raw=self.raw[rows],
            magnitudes=self.magnitudes[rows],
        )


@dataclass(frozen=True, eq=False)
class NearestNeighborRule:
    """A k-NN classifier behind affine steps, folded.

    Attributes
    ----------
    points : ndarray of shape (n_train, n_components), float64
        Training points in the space where distances are Euclidean.
    magnitudes : ndarray of shape (n_train,)
        What the rounding of distances to each of them scales with: ‖z‖, or ‖L‖ ‖z‖.
    labels : ndarray of shape (n_train,), int64
        Indices into `classes`.
    classes : ndarray of shape (n_classes,)
    n_neighbors : int
        Neighbours that vote, uniformly; ties go to the smallest label.
    n_features_in : int
        Raw features.
    single : bool
        The victim was fitted on float32 data.
    metric_root : ndarray of shape (n_components, n_components) or None
        L with ``LᵀL`` the classifier's own Mahalanobis matrix; None for the Euclidean one.
    steps : tuple of fitted transformers
        What the queries pass through before the classifier.
    maps : tuple of AffineMap
        The steps' maps, in their order.
    feature_names : ndarray of shape (n_features_in,) or None
    expands : bool
        The victim expands squares, ‖z‖² − 2 z·ẑ, in the precision of its points (k-means), where
        neighbours are searched for in float64.
    pruning : float
        Relative rounding of the distances by which a ball tree skips balls; 0 where every
        distance is computed, or skipped by differences of coordinates (a k-d tree).
    """

    points: np.ndarray
    magnitudes: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    n_neighbors: int
    n_features_in: int
    single: bool = False
    metric_root: np.ndarray | None = None
    steps: tuple[Any, ...] = ()
    maps: tuple[AffineMap, ...] = ()
    feature_names: np.ndarray | None = None
    expands: bool = False
    pruning: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return _narrowed(vars(self), "points")

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(_widened(state, "points"))

    @property
    def matrix(self) -> np.ndarray | None:
        """A of shape (n_components, n_features_in), the metric root included; None for I."""
        matrices = [step.matrix for step in self.maps]
        if self.metric_root is not None:
            matrices.append(self.metric_root)
        return reduce(lambda first, second: second @ first, matrices) if matrices else None

    @property
    def _metric_size(self) -> float:
        return 1.0 if self.metric_root is None else float(np.linalg.norm(self.metric_root))

    def embed(self, X: Any) -> EmbeddedQueries:
        """Send raw queries through the victim's own steps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_in), or the Table of :meth:`read`

        Raises
        ------
        ValueError
            As :meth:`read`; also if X has float16, or a step does not map it as is known of it.
        """
        table = X if isinstance(X, Table) else self.read(X)
        raw = table.clean
        current, unit = table.given, _unit_of_bits(table.bits[~self.ignored])
        before = raw
        for step, known in zip(self.steps, self.maps, strict=True):
            current = step.transform(current)
            unit = max(unit, _unit(current))
            after = np.asarray(current, dtype=np.float64)
            known.check(before, after, unit, type(step).__name__)
            before = after
        points = np.asarray(current, dtype=np.float64) if self.steps else raw
        check_size(points, self._largest(unit))
        magnitudes = np.linalg.norm(points, axis=1) * self._metric_size
        if self.metric_root is not None:
            points = points @ self.metric_root.T
        return EmbeddedQueries(points, raw, magnitudes, unit)

    def embedding_error(self, queries: EmbeddedQueries) -> np.ndarray:
        """Bound E of the rounding of the queries' embeddings, of shape (n_samples,)."""
        magnitude = np.abs(queries.raw)  # (n_samples, n_inputs): bounds the inputs of a step
        error = np.zeros_like(magnitude)  # of the same shape: how far they are rounded
        for step in self._all_maps:
            magnitude = magnitude @ step.absolute.T + step.magnitude
            unit = max(queries.unit, step.unit)
            # errors of the inputs pass through the step, which adds its own
            error = error @ np.abs(step.matrix).T + step.operations * unit * magnitude
            error += step.operations * _smallest(unit)  # products below the normal range
        return np.linalg.norm(error, axis=1)

    def movement_error(self, scale: np.ndarray, dual: float, unit: float) -> float:
        """Bound how much E grows where x moves by ``scale ∘ η``, ‖η‖_p = 1.

        Parameters
        ----------
        scale : ndarray of shape (n_features_in,)
        dual : float
            q of the norm's dual, 1/p + 1/q = 1.
        unit : float
            Unit roundoff of the queries.
        """
        columns = np.diag(scale)  # (n_inputs, n_features_in): how the input of a step moves
        error = np.zeros(len(scale))  # (n_inputs,): how much its rounding grows
        for k, step in enumerate(self._all_maps):
            # each entry of |A| |movement|: by the entries' own bounds, or at once
            moved = step.absolute @ np.linalg.norm(columns, ord=dual, axis=1)
            if k == 0:
                moved = np.linalg.norm(step.absolute * scale, ord=dual, axis=1)
            elif dual == 2:
                rows = np.linalg.norm(step.absolute, axis=1)
                moved = np.minimum(moved, rows * np.linalg.norm(columns, 2) * (1 + 1e-9))
            growth = step.operations * max(unit, step.unit)
            error = np.abs(step.matrix) @ error + growth * moved
            columns = step.matrix @ columns
        return float(np.linalg.norm(error))

    @property
    def _all_maps(self) -> list[AffineMap]:
        if self.metric_root is None:
            return list(self.maps)
        return [*self.maps, AffineMap(self.metric_root)]

    def distance_error(self, queries: EmbeddedQueries) -> tuple[float, float]:
        """Return the coefficients c and c′ of the rounding of one squared distance."""
        single = self.single or queries.unit > DOUBLE
        unit = SINGLE if self.expands and single else DOUBLE
        absolute = (self.points.shape[1] + _EXTRA_OPERATIONS) * unit
        if self.metric_root is not None:
            # δᵀ M δ has two products, and M is not LᵀL to the last bit
            absolute *= 8
        # distances may be stored in float32
        return absolute, 2.0**-22 if single else 0.0

    def _largest(self, unit: float) -> float:
        return largest_value(self.single or unit > DOUBLE)

    def reach(self, scale: np.ndarray, unit: float) -> float:
        """Return how far x may move before the victim's arithmetic overflows.

        Parameters
        ----------
        scale : ndarray of shape (n_features_in,)
        unit : float
            Unit roundoff of the queries.

        Returns
        -------
        float
            A bound on ``‖η‖_p``, for p of 1, 2 and inf, of moves by ``scale ∘ η``.
        """
        # moved: (n_outputs, n_features_in), entries of |A| diag(s) after each step
        moved, growth = None, float(scale.max(initial=0))
        for step in self._all_maps:
            moved = step.absolute * scale if moved is None else step.absolute @ moved
            growth = max(growth, float(np.linalg.norm(moved)))
        growth *= np.sqrt(max(len(scale), 1))
        return self._largest(unit) / growth if growth > 0 else np.inf

    def stretch(self, scale: np.ndarray) -> float:
        """Bound how much `queries.magnitudes` grow where x moves by ``scale ∘ η``, ‖η‖₂ = 1."""
        if not self.maps:
            return self._metric_size * float(np.abs(scale).max(initial=0))
        matrix = reduce(AffineMap.then, self.maps).matrix * scale
        return self._metric_size * float(np.linalg.norm(matrix, 2)) * (1 + 1e-9)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels from ``A x + b``; differs from the victim in numerical ties only."""
        embedded = self.read(X).clean
        for step in self.maps:
            embedded = embedded @ step.matrix.T + step.offset
        if self.metric_root is not None:
            embedded = embedded @ self.metric_root.T
        vote = KNeighborsClassifier(self.n_neighbors, algorithm="brute")
        return self.classes[vote.fit(self.points, self.labels).predict(embedded)]

    @cached_property
    def ignored(self) -> np.ndarray:
        """Mask of the features that the first step drops."""
        if not self.maps:
            return np.zeros(self.n_features_in, dtype=bool)
        return np.asarray((self.maps[0].absolute == 0).all(axis=0))

    def read(self, X: Any) -> Table:
        """Return queries as numbers; those of a frame whose columns go by name in any order.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_in)

        Raises
        ------
        ValueError
            If X has another number of features, or its columns another order where that matters;
            or NaN, infinities or text in a feature that is not dropped.
        """
        names = None if self.feature_names is None else [str(name) for name in self.feature_names]
        table = Table.of(X, names)
        if np.ndim(table.given) < 2:
            raise ValueError(
                f"Expected 2D array, X must be one; got {np.ndim(table.given)}D array. A single "
                "point is X.reshape(1, -1), or frame.iloc[[0]]."
            )
        if len(table) == 0:
            raise ValueError("X must hold at least one point; got none, 0 sample(s).")
        if table.values.shape[1] != self.n_features_in:
            raise ValueError(
                f"X has {table.values.shape[1]} features, but the estimator expects "
                f"{self.n_features_in}."
            )
        if names is not None and table.places is not None:
            self._check_columns(table, names)
        wrong = ~table.finite & ~self.ignored
        if (wrong & ~table.numeric).any():
            others = np.array(table.names, dtype=object)[wrong & ~table.numeric]
            raise ValueError(
                "X must be numeric in every column that is not dropped; got others in "
                f"{others.tolist()}."
            )
        if wrong.any():
            raise ValueError(
                "X must be finite in every column that is not dropped; Input X contains NaN or "
                f"infinity in feature {int(np.argmax(wrong))}."
            )
        table = table.fixing(self.ignored)
        check_size(table.clean)
        return table

    def _check_columns(self, table: Table, names: list[str]) -> None:
        given = [str(name) for name in table.given.columns]
        missing = sorted({*np.array(names)[~self.ignored].tolist()} - {*given})
        if missing:
            raise ValueError(f"X lacks the features {missing} that were seen in fit.")
        if given != names and not (self.steps and _goes_by_name(self.steps[0])):
            raise ValueError(
                f"X must have the features of fit in their order, {names}; got {given}."
            )


def _goes_by_name(step: Any) -> bool:
    """Whether a step takes the columns of a frame by their names, in whatever order."""
    if isinstance(step, FrozenEstimator):
        return _goes_by_name(step.estimator)
    if isinstance(step, FeatureUnion):
        return all(_goes_by_name(child) for _, child in step.transformer_list)
    for _, child in getattr(step, "steps", []):
        if child is not None and not isinstance(child, str):
            return _goes_by_name(child)
    return isinstance(step, ColumnTransformer)


def _smallest(unit: float) -> float:
    """Return the smallest normal number of a precision."""
    return float(np.finfo(np.float32 if unit > DOUBLE else np.float64).tiny)


def _narrowed(state: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a state with values in float32 where that loses nothing: half as much to send."""
    with np.errstate(over="ignore"):
        small = {name: state[name].astype(np.float32) for name in names}
    return state | {k: v for k, v in small.items() if np.array_equal(v, state[k])}


def _widened(state: dict[str, Any], *names: str) -> dict[str, Any]:
    return state | {name: state[name].astype(np.float64, copy=False) for name in names}


def _unit(X: Any) -> float:
    """Return the unit roundoff of the data's floating type; float64's for other types."""
    dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    names = {str(dtype).lower() for dtype in dtypes}
    return _unit_of_bits(np.array([16 * ("float16" in names), 32 * ("float32" in names)]))


def _unit_of_bits(bits: np.ndarray) -> float:
    """Return the unit roundoff of the least precise of some floating types, given by length."""
    if (bits == 16).any():
        raise ValueError(
            "X must be float32 or float64 to be certified, in every step; got float16, whose "
            "rounding is larger than many radii. X.astype(np.float32) loses nothing."
        )
    return SINGLE if (bits == 32).any() else DOUBLE
