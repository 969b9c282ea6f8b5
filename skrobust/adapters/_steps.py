"""Affine maps of fitted transformers: what they publish, confirmed by probing `transform`."""

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._affine import AffineFunction, AffineMap, NotAffineError
from skrobust.utils._floating_point import DOUBLE, SINGLE
from skrobust.utils._frames import with_names
from skrobust.utils._guard import guarded_dispatch
from skrobust.utils._sklearn import column_transformer_blocks

__all__ = ["active_steps", "affine_map", "step_map"]


@guarded_dispatch("_affine_map", "transform", NotAffineError)
def affine_map(step: Any) -> AffineMap:
    """Return the affine map that a fitted transformer publishes.

    Parameters
    ----------
    step : fitted transformer
        Scikit-learn's affine ones, one with a method ``_affine_map() -> (A, b)``, or a type
        registered with ``affine_map.register``.

    Returns
    -------
    AffineMap

    Raises
    ------
    NotAffineError
        If the step is not affine, or not known to be: a subclass that replaces `transform` is
        not, unless it has its own ``_affine_map()`` or is registered itself.
    """
    if hasattr(step, "_affine_map"):
        return _own_map(step)
    if hasattr(step, "_differentiable_embedding"):
        raise NotAffineError(
            f"{type(step).__name__} is a network, not an affine map; only those with a "
            "Lipschitz bound are certified, AdversarialDeepMetric(lipschitz='orthogonal')."
        )
    raise NotAffineError(
        f"{type(step).__name__} is not known to be affine. If it is, register its map with "
        "skrobust.adapters.affine_map.register, or wrap its function in "
        "skrobust.adapters.AffineFunction."
    )


@affine_map.register
def _(step: StandardScaler) -> AffineMap:
    scale = np.ones(step.n_features_in_) if step.scale_ is None else step.scale_
    center = np.zeros(step.n_features_in_) if not step.with_mean else step.mean_
    return AffineMap.centered(np.diag(1 / scale.astype(np.float64)), center)


@affine_map.register
def _(step: RobustScaler) -> AffineMap:
    scale = np.ones(step.n_features_in_) if step.scale_ is None else step.scale_
    center = np.zeros(step.n_features_in_) if step.center_ is None else step.center_
    return AffineMap.centered(np.diag(1 / scale.astype(np.float64)), center)


@affine_map.register
def _(step: MinMaxScaler) -> AffineMap:
    if step.clip:
        raise NotAffineError("MinMaxScaler(clip=True) is not affine; use clip=False.")
    return AffineMap(np.diag(step.scale_), step.min_)


@affine_map.register
def _(step: MaxAbsScaler) -> AffineMap:
    if getattr(step, "clip", False):  # a parameter of newer releases
        raise NotAffineError("MaxAbsScaler(clip=True) is not affine; use clip=False.")
    return AffineMap(np.diag(1 / step.scale_.astype(np.float64)))


@affine_map.register(PCA)
@affine_map.register(IncrementalPCA)
def _(step: Any) -> AffineMap:
    matrix = step.components_
    if step.whiten:
        # as scikit-learn does, a variance of 0 is not divided by
        scale = np.sqrt(step.explained_variance_)
        scale = np.maximum(scale, np.finfo(scale.dtype).eps).astype(np.float64)
        matrix = matrix.astype(np.float64) / scale[:, None]
    return AffineMap.centered(matrix, step.mean_)


@affine_map.register
def _(step: TruncatedSVD) -> AffineMap:
    return AffineMap(step.components_)


@affine_map.register
def _(step: NeighborhoodComponentsAnalysis) -> AffineMap:
    return AffineMap(step.components_)


@affine_map.register
def _(step: FastICA) -> AffineMap:
    if not step.whiten:
        return AffineMap(step.components_)
    return AffineMap.centered(step.components_, step.mean_)


@affine_map.register(GaussianRandomProjection)
@affine_map.register(SparseRandomProjection)
def _(step: Any) -> AffineMap:
    matrix = step.components_
    return AffineMap(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


@affine_map.register
def _(step: LinearDiscriminantAnalysis) -> AffineMap:
    n_outputs = _transform(step, np.zeros((1, step.n_features_in_))).shape[1]
    matrix = step.scalings_.T[:n_outputs]
    return AffineMap.centered(matrix, step.xbar_) if step.solver == "svd" else AffineMap(matrix)


@affine_map.register
def _(step: SelectorMixin) -> AffineMap:
    return AffineMap(np.eye(step.n_features_in_)[step.get_support()])


@affine_map.register
def _(step: FrozenEstimator) -> AffineMap:
    return affine_map(step.estimator)


@affine_map.register
def _(step: FunctionTransformer) -> AffineMap:
    if step.func is None:
        return AffineMap.identity(step.n_features_in_)
    if not isinstance(step.func, AffineFunction):
        raise NotAffineError(
            f"FunctionTransformer(func={step.func!r}) is not declared affine; if it is, write "
            "FunctionTransformer(AffineFunction(func)) with skrobust.adapters.AffineFunction."
        )
    return _probed_map(step, step.n_features_in_)


@affine_map.register
def _(step: Pipeline) -> AffineMap:
    maps = [step_map(name, child) for name, child in active_steps(step.steps)]
    return reduce(AffineMap.then, maps) if maps else AffineMap.identity(step.n_features_in_)


@affine_map.register
def _(step: FeatureUnion) -> AffineMap:
    if step.transformer_weights:
        raise NotAffineError("FeatureUnion with transformer_weights is not supported.")
    kept = [
        (name, child)
        for name, child in step.transformer_list
        if not (isinstance(child, str) and child == "drop")
    ]
    known = [child.n_features_in_ for _, child in kept if hasattr(child, "n_features_in_")]
    if not known:
        raise NotAffineError("FeatureUnion passes everything through; leave it out.")
    n_inputs = known[0]
    blocks, start = [], 0
    for name, child in kept:
        block = AffineMap.identity(n_inputs) if _passes(child) else step_map(name, child)
        stop = start + len(block.matrix)
        blocks.append((block, np.arange(n_inputs), slice(start, stop)))
        start = stop
    return AffineMap.stacked(blocks, start, n_inputs)


@affine_map.register
def _(step: ColumnTransformer) -> AffineMap:
    if step.transformer_weights:
        raise NotAffineError("ColumnTransformer with transformer_weights is not supported.")
    blocks, n_outputs = [], 0
    for name, child, inputs, outputs in column_transformer_blocks(step):
        if len(inputs) == 0:
            continue
        block = AffineMap.identity(len(inputs)) if _passes(child) else step_map(name, child)
        blocks.append((block, inputs, outputs))
        n_outputs = max(n_outputs, outputs.stop)
    return AffineMap.stacked(blocks, n_outputs, step.n_features_in_)


def active_steps(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the steps of a pipeline that are not passed through."""
    return [(name, step) for name, step in steps if not _passes(step)]


def _passes(step: Any) -> bool:
    """Return whether a step is none, or a pipeline of none, which knows no number of features."""
    if isinstance(step, FrozenEstimator):
        step = step.estimator
    if type(step) is Pipeline:
        return not active_steps(step.steps)
    return step is None or (isinstance(step, str) and step == "passthrough")


def step_map(name: str, step: Any) -> AffineMap:
    """Return the map of a named fitted step, confirmed by probing.

    Parameters
    ----------
    name : str
        The step's name in its pipeline, for messages.
    step : fitted transformer

    Raises
    ------
    NotAffineError
        If the step is not affine; the message names it.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    if hasattr(step, "fit"):
        check_is_fitted(step)
    try:
        published = affine_map(step)
        if not isinstance(published, AffineMap):
            raise TypeError(
                f"the function registered for {type(step).__name__} with affine_map.register must "
                f"return an AffineMap, AffineMap(matrix, offset); got {type(published).__name__}."
            )
        unit = max(published.unit, _confirm(step, published), _fitted_unit(step))
    except NotAffineError as error:
        raise NotAffineError(f"Step {name!r} cannot be folded: {error}") from error
    return replace(published, unit=unit)


def _own_map(step: Any) -> AffineMap:
    """Return what a step says of itself."""
    pair = step._affine_map()
    try:
        published = AffineMap(*pair)
        n_outputs, n_inputs = published.matrix.shape
        fits = len(published.offset) == n_outputs
        fits &= n_inputs == getattr(step, "n_features_in_", n_inputs)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        got = [np.shape(part) for part in pair] if isinstance(pair, tuple) else repr(pair)
        raise TypeError(
            f"_affine_map() of {type(step).__name__} must return a pair (A, b) of shapes "
            f"(n_outputs, n_features) and (n_outputs,); got {got}."
        )
    return published


def _transform(step: Any, X: np.ndarray) -> np.ndarray:
    """Return ``step.transform(X)`` as a dense float64 array, X with the names that fit saw."""
    named = with_names(X, getattr(step, "feature_names_in_", None))
    try:
        result = step.transform(named)
    except Exception as error:
        raise NotAffineError(
            f"{type(step).__name__}.transform fails on numeric probes ({error})."
        ) from error
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result, dtype=np.float64)


def _fitted_unit(step: Any) -> float:
    """Return float32's roundoff if the step's own numbers are float32."""
    arrays = [value for value in vars(step).values() if isinstance(value, np.ndarray)]
    if any(array.dtype == np.float16 for array in arrays):
        raise NotAffineError(
            f"{type(step).__name__} was fitted on float16, whose rounding is larger than many "
            "radii; fit it on float32 or float64."
        )
    return SINGLE if any(array.dtype == np.float32 for array in arrays) else DOUBLE


def _probed_map(step: Any, n_inputs: int) -> AffineMap:
    """Read A and b off ``transform`` at 0 and at the unit vectors."""
    origin = _transform(step, np.zeros((1, n_inputs)))[0]
    images = _transform(step, np.eye(n_inputs))
    matrix = (images - origin).T
    # the differences carry the rounding of both images
    largest = np.maximum(np.abs(images).max(axis=0), np.abs(origin))
    return AffineMap(matrix, origin, np.abs(matrix) + 2 * largest[:, None], largest)


def _confirm(step: Any, known: AffineMap) -> float:
    """Compare ``transform`` with ``A x + b`` at random points of several magnitudes.

    Returns the unit roundoff that the differences show.
    """
    n_inputs = known.matrix.shape[1]
    draws = np.random.default_rng(0).standard_normal((12, n_inputs))
    probes = draws * np.repeat([1e-3, 1.0, 30.0, 1e4], 3)[:, None]
    got = _transform(step, probes)
    shape = (len(probes), len(known.matrix))
    if got.shape != shape or not known.holds(probes, got, 1e-5).all():
        raise NotAffineError(
            f"{type(step).__name__}.transform is not the affine map that its attributes give, or "
            "not an affine map."
        )
    exact = known.holds(probes, got, 2 * known.operations * DOUBLE)
    return DOUBLE if exact.all() else SINGLE
