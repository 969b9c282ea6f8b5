r"""A nearest-neighbour rule behind a network that moves its outputs by a bounded multiple.

For an affine front x ↦ A x + b, a network f with ‖f(u) − f(u′)‖ ≤ L ‖u − u′‖ and a rule on its
outputs, a perturbation δ = s ∘ η with ‖η‖_p ≤ ε moves what the rule sees by at most

    ‖ẑ(x + δ) − ẑ(x)‖₂  ≤  stretch · ε + slack(x),

rounding included: stretch = L G + L E′ + c′ (G + E′), slack = 2 (c + c′ ‖A x + b‖ + (L + c′) E(x)),
with G = ‖A diag(s)‖ from the p-norm to ℓ₂, E the rounding of the front, E′ its growth, and
c + c′ t that of the network at inputs of norm t.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._affine import AffineMap
from skrobust.adapters._pipelines import split_pipeline
from skrobust.adapters._rule import EmbeddedQueries, NearestNeighborRule
from skrobust.adapters._steps import step_map
from skrobust.threat_model import FeatureBudget
from skrobust.utils._guard import protocol_method

__all__ = ["LipschitzMap", "LipschitzVictim", "as_lipschitz_victim"]


@dataclass(frozen=True)
class LipschitzMap:
    """What is known of a step that is not affine.

    Attributes
    ----------
    lipschitz : float
        L ≥ ‖f(u) − f(u′)‖₂ / ‖u − u′‖₂.
    rounding : tuple of two float
        (c, c′): what it computes for inputs of norm t is within c + c′ t of f.
    """

    lipschitz: float
    rounding: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class LipschitzVictim:
    """A rule behind an affine front and a Lipschitz step.

    Attributes
    ----------
    front : NearestNeighborRule
        Its steps are the front; its points are none of the rule.
    step : fitted transformer
    map : LipschitzMap
        Of the step.
    tail : fitted estimator
        A nearest-neighbour classifier or clusterer on the outputs of the step.
    estimator : fitted estimator
        The whole pipeline.
    """

    front: NearestNeighborRule
    step: Any
    map: LipschitzMap
    tail: Any
    estimator: Any = None

    def embed(self, X: Any) -> tuple[EmbeddedQueries, Any]:
        """Return what the step gets, and what the tail gets, of shape (n_samples, n_outputs).

        The latter is a data frame where the step is set to give one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Or images, where nothing stands in front of the step.
        """
        if not self.front.steps:
            Z = self.step.transform(X)
            return self.front.embed(X), Z
        queries, current = self.front.embed(X), X
        for step in self.front.steps:
            current = step.transform(current)
        return queries, self.step.transform(current)

    def gain(self, budget: FeatureBudget) -> float:
        """Return G, a bound of ‖A diag(s)‖ from the budget's norm to ℓ₂."""
        maps, s = self.front.maps, budget.scale
        if not maps:
            return float(np.linalg.norm(s) if np.isinf(budget.norm) else np.abs(s).max(initial=0))
        matrix = reduce(AffineMap.then, maps).matrix * s
        if budget.norm == 1:
            return float(np.linalg.norm(matrix, axis=0).max(initial=0))
        spectral = float(np.linalg.norm(matrix, 2)) * (1 + 1e-9)
        if budget.norm == 2:
            return spectral
        sums = float(np.linalg.norm(np.abs(matrix).sum(axis=1)))
        return min(spectral * np.sqrt(np.count_nonzero(s)), sums)

    def movement(self, queries: EmbeddedQueries, budget: FeatureBudget) -> tuple[float, np.ndarray]:
        """Return the stretch, and the slack of each query, of shape (n_samples,)."""
        L, (c, slope) = self.map.lipschitz, self.map.rounding
        if not np.isfinite(L):  # weights that are not finite: nothing is known
            return np.inf, np.full(len(queries.points), np.inf)
        G = self.gain(budget)
        growth = self.front.movement_error(budget.scale, budget.dual, queries.unit)
        error = self.front.embedding_error(queries)
        size = np.linalg.norm(queries.points, axis=1) * (1 + 1e-9)
        stretch = (L * G + L * growth + slope * (G + growth)) * (1 + 1e-9)
        return stretch, 2 * (c + slope * size + (L + slope) * error) * (1 + 1e-9)


def as_lipschitz_victim(estimator: Any) -> LipschitzVictim | None:
    """Split a fitted pipeline at its Lipschitz step; None where it has none.

    Parameters
    ----------
    estimator : fitted estimator
        A Pipeline with a step that has ``_lipschitz_map() -> LipschitzMap or None``, behind
        affine steps; or a type with ``_as_pipeline()``, which gives one.

    Raises
    ------
    NotAffineError
        If a step in front of the network is not affine.
    """
    bounds: list[LipschitzMap] = []

    def bounded(step: Any) -> bool:
        method = protocol_method(step, "_lipschitz_map", "transform")
        known = None if method is None else method()
        bounds.extend([] if known is None else [known])
        return known is not None

    parts = split_pipeline(estimator, bounded)
    if parts is None:
        return None
    steps, step, tail = parts
    check_is_fitted(step)
    maps = tuple(step_map(name, child) for name, child in steps)
    fitted = [child for _, child in steps]
    first = fitted[0] if fitted else step
    n_outputs = len(maps[-1].matrix) if maps else step.n_features_in_
    if not maps and hasattr(step, "layout_"):
        n_outputs = int(np.prod(step.layout_.row_shape))
    front = NearestNeighborRule(
        points=np.zeros((1, n_outputs)),
        magnitudes=np.zeros(1),
        labels=np.zeros(1, dtype=np.int64),
        classes=np.zeros(1, dtype=np.int64),
        n_neighbors=1,
        n_features_in=maps[0].matrix.shape[1] if maps else n_outputs,
        steps=tuple(fitted),
        maps=maps,
        feature_names=getattr(first, "feature_names_in_", None),
    )
    return LipschitzVictim(front, step, bounds[0], tail, estimator)
