r"""How far a query may be moved before the item on top may change its class.

With items z_p of the query's class (itself left out), z_n of the others, D squared distances to the
query z, and z moving by A δ, δ = s ∘ η,

    radius = max_p min_n [ D_n − D_p ]₊ / ( 2 ‖s ∘ Aᵀ (z_p − z_n)‖_q ) ;

behind a network with Lipschitz constant L the denominator is 2 L ‖z_p − z_n‖₂. Where every item may
move too, by up to ε_g, distances change by the sum of both movements:

    radius = [ min_n √D_n − min_p √D_p ]₊ / (2 L) − ε_g .

What is rounded is subtracted, see ``skrobust.adapters.LipschitzVictim``.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.adapters import (
    AffineMap,
    LipschitzMap,
    LipschitzVictim,
    as_lipschitz_victim,
    as_nearest_neighbor_rule,
    as_pipeline,
)
from skrobust.certificates._problem import Region
from skrobust.certificates._result import Certificate
from skrobust.certificates.nearest_neighbor._geometry import round_down
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once
from skrobust.utils._guard import protocol_method
from skrobust.utils._validation import check_one_eps

__all__ = ["certify_retrieval"]

_CANDIDATES = 8  # items of the query's class that are tried
_ROUNDING = 2.0**-53


@names_missed_once()
def certify_retrieval(
    metric: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    gallery_eps: float = 0.0,
) -> Certificate:
    """Certify that the item on top of each query keeps the query's class.

    Every point in turn is the query, the others are the gallery.

    Parameters
    ----------
    metric : fitted transformer
        Affine (``RobustMahalanobis``, a Pipeline of affine steps), an
        ``AdversarialDeepMetric(lipschitz="orthogonal")``, or a
        :class:`~skrobust.certificates.CenterSmoothing` of any embedding.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Queries and gallery.
    y : array-like of shape (n_samples,)
        Their labels.
    threat_model : ThreatModel, default=None
        What the adversary may change of a query; None is ℓ₂ on all features. Its bounds are not
        used. None for smoothed embeddings, whose own is used.
    gallery_eps : float, default=0.0
        Budget, ≥ 0, with which every item of the gallery may be changed as well, in the same
        threat model. Smoothed embeddings have 0.

    Returns
    -------
    Certificate
        Radii of queries, "lower" bounds. Misclassified are those whose nearest other item is of
        another class; with `gallery_eps`, abstained are those for which nothing is proved, not
        even of the query as it is. ``certified(eps).mean()`` is the certified Recall@1.

    Raises
    ------
    TypeError, ValueError
        If nothing is proved of such a metric, the gallery of a smoothed one may change, or all
        labels are different.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust.certificates import certify_retrieval
    >>> X, y = load_iris(return_X_y=True)
    >>> found = certify_retrieval(StandardScaler().fit(X), X, y)
    >>> bool(0.5 < found.certified(0.1).mean() < found.certified(0).mean())
    True
    """
    gallery_eps = check_one_eps(gallery_eps, name="gallery_eps")
    if not hasattr(metric, "transform"):
        raise TypeError(f"metric must be a fitted transformer; got {metric!r}.")
    y = column_or_1d(y)
    if len(y) > 1 and len(np.unique(y)) == len(y):
        raise ValueError(
            f"y must hold classes that items share; its {len(y)} labels are all different, so that "
            "no query has an item of its class."
        )
    inside = as_pipeline(metric)
    if _bounds_movement(inside):
        return _smoothed(inside, X, y, threat_model, gallery_eps)
    victim = _victim(metric, X, y)
    front = victim.front
    table = front.read(X)
    budget = ThreatModel.of(threat_model).resolve_for(table, whole_groups=True)
    queries, Z = victim.embed(X)
    check_consistent_length(Z, y)
    budget.check_inside(queries.raw)
    Z = np.asarray(Z, dtype=np.float64)
    stretch, slack = victim.movement(queries, budget)
    if gallery_eps > 0:
        reach, right = _to_other_class(Z, y)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = reach - slack - slack.max() - stretch * gallery_eps
            radius = np.where(left > 0, left / stretch, 0.0)
    elif isinstance(victim.step, _Identity):
        # the raw directions between pairs of items
        identity = AffineMap.identity(victim.front.n_features_in)
        matrix = reduce(AffineMap.then, victim.front.maps, identity).matrix * budget.scale
        growth = max(stretch - victim.gain(budget), 0) + 1e-9 * stretch
        images = _Images(Z @ matrix, budget.dual, growth, stretch)
        radius, right = _bounds(Z, y, slack, images)
    elif np.isfinite(stretch):
        radius, right = _bounds(Z, y, slack, _Images(Z * stretch, 2.0, 0.0, stretch))
    else:
        radius, right = np.zeros(len(Z)), _to_other_class(Z, y)[1]
    Region(front, table, budget).check_maps(np.where(right, radius, 0.0))
    # where the gallery moves, even a query that stays is proved right by a radius alone
    unproved = "abstained" if gallery_eps > 0 else "uncertified"
    status = np.where(radius > 0, "certified", unproved).astype("<U13")
    status[np.isinf(radius)] = "unreachable"
    status[~right] = "misclassified"
    return Certificate(
        radius=np.where(right, round_down(radius), 0.0),
        status=status,
        norm=budget.norm,
        method="nearest item of the query's class, lower bound"
        + (f", items moved by up to {gallery_eps:g}" if gallery_eps else ""),
        scale=budget.scale,
        feature_names=victim.front.feature_names,
    )


@dataclass(frozen=True, eq=False)
class _Images:
    """How far perturbations move pairs of items.

    Attributes
    ----------
    points : ndarray of shape (n_samples, n_values)
        The distance of two, in the dual norm, is what a unit of budget gains between them.
    dual : float
    growth : float
        What rounding adds to it, a share of the distance of the embeddings.
    stretch : float
        How far a unit of budget moves an embedding.
    """

    points: np.ndarray
    dual: float
    growth: float
    stretch: float


class _Identity:
    """The step of a metric that is affine."""

    def transform(self, X: Any) -> Any:
        return X


def _victim(metric: Any, X: Any, y: np.ndarray) -> LipschitzVictim:
    steps = metric.steps if isinstance(metric, Pipeline) else [("metric", metric)]
    for _, step in steps:
        if _bounds_movement(as_pipeline(step)):
            named = type(as_pipeline(step)).__name__
            raise ValueError(
                f"{named} has its noise behind other steps; put it around them: "
                f"{named}(make_pipeline(…))."
            )
    tail = KNeighborsClassifier(1)
    network = as_lipschitz_victim(Pipeline([*steps, ("nearest", tail)]))
    if network is not None:
        if isinstance(network.tail, Pipeline):
            raise ValueError(
                "metric must end with its network; steps behind it are not supported here."
            )
        return network
    fitted = tail.fit(metric.transform(X), y)
    rule = as_nearest_neighbor_rule(make_pipeline(metric, fitted))
    return LipschitzVictim(rule, _Identity(), LipschitzMap(1.0), tail)


def _bounds_movement(step: Any) -> bool:
    return protocol_method(step, "_certify_movement", "transform") is not None


def _smoothed(
    step: Any, X: Any, y: np.ndarray, threat_model: Any, gallery_eps: float
) -> Certificate:
    if threat_model is not None or gallery_eps:
        raise ValueError(
            "threat_model must be None and gallery_eps 0 for a smoothed metric; got "
            f"{threat_model!r} and {gallery_eps}."
        )
    Z = np.asarray(step.transform(X), dtype=np.float64)
    check_consistent_length(Z, y)
    reach, right = _bounds(Z, y, np.zeros(len(Z)), _Images(Z, 2.0, 0.0, 1.0))
    status = np.where(right, "certified", "misclassified")
    return step._certify_movement(X, Z, np.where(right, reach, 0.0), status)


def _bounds(
    Z: np.ndarray, y: np.ndarray, slack: np.ndarray, images: _Images
) -> tuple[np.ndarray, np.ndarray]:
    """Return the radii of still galleries, and whether the item on top is of the query's class."""
    radius, right = np.zeros(len(Z)), np.zeros(len(Z), dtype=bool)
    kind: dict[float, Any] = {1.0: "cityblock", 2.0: "euclidean", np.inf: "chebyshev"}
    for i, (own, other, squares) in enumerate(_ordered(Z, y)):
        if not len(own):
            continue
        right[i] = not len(other) or squares[own[0]] < squares[other].min()
        if not len(other):
            radius[i] = np.inf
            continue
        some = own[:_CANDIDATES]
        distances = cdist(Z[some], Z[other])
        size = np.sqrt(squares[some, None]) + np.sqrt(squares[None, other]) + _norm(Z[i])
        gap = squares[None, other] - squares[some, None] - 2 * slack[i] * distances
        reached = cdist(images.points[some], images.points[other], metric=kind[images.dual])
        reached = 2 * (reached + images.growth * distances) * (1 + 1e-9)
        radius[i] = _within_rounding(gap, reached, size, Z.shape[1], images.stretch)
    return radius, right


def _within_rounding(
    gap: np.ndarray, reached: np.ndarray, size: np.ndarray, n_values: int, stretch: float
) -> float:
    """Return max_p min_n of (gap − rounding) / reached, the rounding at what the radius reaches."""

    def least(cap: float) -> float:
        rounded = (n_values + 16) * 4 * _ROUNDING * (size + stretch * cap) ** 2
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bounds = np.where(gap > rounded, (gap - rounded) / reached, 0.0)
        return float(bounds.min(axis=1).max())

    cap = least(0.0)
    if not np.isfinite(cap):  # no feature that may change differs between the items
        return cap
    best = 0.0
    # a larger cap allows for more rounding, a smaller one cuts off; halved 1,100 times it is 0
    while cap > best:
        best = max(best, min(cap, least(cap)))
        cap /= 2
    return best


def _to_other_class(Z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return half of how much nearer the own class is than the others, and whether it is."""
    reach, right = np.zeros(len(Z)), np.zeros(len(Z), dtype=bool)
    for i, (own, other, squares) in enumerate(_ordered(Z, y)):
        if not len(own):
            continue
        size = np.sqrt(squares[own[0]])
        far = np.sqrt(squares[other].min()) if len(other) else np.inf
        right[i] = size < far
        if np.isinf(far):
            reach[i] = np.inf
        elif right[i]:
            # of squares, anywhere nearer than the other class
            rounded = (Z.shape[1] + 16) * 4 * _ROUNDING * (2 * (far + _norm(Z[i]))) ** 2
            reach[i] = (far - size) / 2 - rounded / (far + size)
    return np.maximum(reach, 0), right


def _norm(z: np.ndarray) -> float:
    return float(np.linalg.norm(z))


def _ordered(Z: np.ndarray, y: np.ndarray) -> Any:
    """Yield, for each query, other items of its class by distance, those of others, and squares."""
    everything = np.arange(len(Z))
    for i in everything:
        squares = np.square(Z - Z[i]).sum(axis=1)
        own = everything[(y == y[i]) & (everything != i)]
        yield own[np.argsort(squares[own], kind="stable")], everything[y != y[i]], squares
