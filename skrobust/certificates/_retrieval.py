r"""How far a query may be moved before the item on top may change its class.

With items z_p of the query's class (itself left out), z_n of the others, D squared distances to the
query z, and z moving by A δ, δ = s ∘ η,

    radius = max_p min_n [ D_n − D_p ]₊ / ( 2 ‖s ∘ Aᵀ (z_p − z_n)‖_q ) ;

behind a network with Lipschitz constant L the denominator is 2 L ‖z_p − z_n‖₂. Where every item may
move too, by up to ε_g, distances change by the sum of both movements:

    radius = [ min_n √D_n − min_p √D_p ]₊ / (2 L) − ε_g .

What is rounded is subtracted, see ``skrobust.victims.LipschitzVictim``.
"""

from functools import reduce
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.certificates._center_smoothing import CenterSmoothing
from skrobust.certificates._lower_bound import down
from skrobust.certificates._result import Certificate
from skrobust.threat_model import ThreatModel
from skrobust.utils._validation import check_one_eps
from skrobust.victims import (
    AffineMap,
    LipschitzMap,
    LipschitzVictim,
    as_lipschitz_victim,
    as_nearest_neighbor_rule,
)
from skrobust.victims._lipschitz import unwrapped

__all__ = ["certify_retrieval"]

_CANDIDATES = 8  # items of the query's class that are tried
_ROUNDING = 2.0**-53


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
        another class. ``certified(eps).mean()`` is the certified Recall@1.

    Raises
    ------
    TypeError, ValueError
        If nothing is proved of such a metric, or the gallery of a smoothed one may change.

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
    y = column_or_1d(y)
    inside = unwrapped(metric)
    if isinstance(inside, CenterSmoothing):
        return _smoothed(inside, X, y, threat_model, gallery_eps)
    victim = _victim(metric, X, y)
    model = ThreatModel() if threat_model is None else threat_model
    budget = model.resolve(victim.front.n_features_in, victim.front.feature_names)
    queries, Z = victim.embed(X)
    check_consistent_length(Z, y)
    budget.check_inside(queries.raw)
    Z = Z.astype(np.float64)
    stretch, slack = victim.movement(queries, budget)
    if gallery_eps > 0:
        reach, right = _to_other_class(Z, y)
        left = reach - slack - slack.max() - stretch * gallery_eps
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = np.where(left > 0, left / stretch, 0.0)
    elif isinstance(victim.step, _Identity):
        # the raw directions in which pairs of items are told apart
        identity = AffineMap.identity(victim.front.n_features_in)
        matrix = reduce(AffineMap.then, victim.front.maps, identity).matrix * budget.scale
        dual = {1.0: np.inf, 2.0: 2.0, np.inf: 1.0}[float(budget.norm)]
        growth = max(stretch - victim.gain(budget), 0) + 1e-9 * stretch
        radius, right = _bounds(Z, y, slack, Z @ matrix, dual, growth)
    else:
        radius, right = _bounds(Z, y, slack, Z * stretch, 2.0, 0.0)
    status = np.where(radius > 0, "certified", "uncertified").astype("<U13")
    status[np.isinf(radius)] = "unreachable"
    status[~right] = "misclassified"
    return Certificate(
        radius=np.where(right, down(radius), 0.0),
        status=status,
        norm=budget.norm,
        method="nearest item of the query's class, lower bound"
        + (f", items moved by up to {gallery_eps:g}" if gallery_eps else ""),
        scale=budget.scale,
        feature_names=victim.front.feature_names,
    )


class _Identity:
    """The step of a metric that is affine."""

    def transform(self, X: Any) -> Any:
        return X


def _victim(metric: Any, X: Any, y: np.ndarray) -> LipschitzVictim:
    steps = metric.steps if isinstance(metric, Pipeline) else [("metric", metric)]
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


def _smoothed(
    step: CenterSmoothing, X: Any, y: np.ndarray, threat_model: Any, gallery_eps: float
) -> Certificate:
    if threat_model is not None or gallery_eps:
        raise ValueError(
            "threat_model must be None and gallery_eps 0 for a smoothed metric; got "
            f"{threat_model!r} and {gallery_eps}."
        )
    Z = step.transform(X)
    check_consistent_length(Z, y)
    reach, right = _bounds(Z, y, np.zeros(len(Z)), Z, 2.0, 0.0)
    radius = np.where(right, step.certified_radius(X, reach), 0.0)
    status = np.where(radius > 0, "probabilistic", "abstained").astype("<U13")
    status[~right] = "misclassified"
    return Certificate(
        radius=radius,
        status=status,
        norm=2.0,
        method=f"center smoothing, each radius with probability {1 - step.alpha:g}",
        scale=step._scale,
        feature_names=getattr(step, "feature_names_in_", None),
    )


def _bounds(
    Z: np.ndarray, y: np.ndarray, slack: np.ndarray, images: np.ndarray, dual: float, growth: float
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
        apart = cdist(Z[some], Z[other])
        size = np.sqrt(squares[some, None]) + np.sqrt(squares[None, other])
        rounded = (Z.shape[1] + 16) * 4 * _ROUNDING * (size + np.linalg.norm(Z[i])) ** 2
        gap = squares[None, other] - squares[some, None] - rounded - 2 * slack[i] * apart
        reached = cdist(images[some], images[other], metric=kind[dual]) + growth * apart
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(gap > 0, gap / (2 * reached * (1 + 1e-9)), 0.0)
        radius[i] = found.min(axis=1).max()
    return radius, right


def _to_other_class(Z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return half of how much nearer the own class is than the others, and whether it is."""
    found, right = np.zeros(len(Z)), np.zeros(len(Z), dtype=bool)
    for i, (own, other, squares) in enumerate(_ordered(Z, y)):
        if len(own):
            size = np.sqrt(squares[own[0]])
            far = np.sqrt(squares[other].min()) if len(other) else np.inf
            right[i] = size < far
            found[i] = (far - size) / 2 - 1e-12 * (size + np.linalg.norm(Z[i]))
    return np.maximum(found, 0), right


def _ordered(Z: np.ndarray, y: np.ndarray) -> Any:
    """Yield, for each query, other items of its class by distance, those of others, and squares."""
    everything = np.arange(len(Z))
    for i in everything:
        squares = np.square(Z - Z[i]).sum(axis=1)
        own = everything[(y == y[i]) & (everything != i)]
        yield own[np.argsort(squares[own], kind="stable")], everything[y != y[i]], squares
