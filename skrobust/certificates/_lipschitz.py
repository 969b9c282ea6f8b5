r"""Certified radii of nearest-neighbour rules behind a Lipschitz network.

A rule whose prediction at z = f(x) stays within a distance r, behind a network with
‖f(x) − f(x′)‖₂ ≤ L ‖x − x′‖₂, has the prediction of x at every x + δ with ‖δ‖₂ ≤ r / L; less what
both round, see ``skrobust.adapters.LipschitzVictim``.
"""

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.adapters import LipschitzVictim, as_lipschitz_victim, as_nearest_neighbor_rule
from skrobust.certificates._problem import Region, refuse_difference
from skrobust.certificates._result import Certificate
from skrobust.certificates.nearest_neighbor._api import certify_rule
from skrobust.certificates.nearest_neighbor._geometry import round_down
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once

__all__ = ["certify_lipschitz", "certify_through_network"]


@names_missed_once()
def certify_lipschitz(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    exact: bool = True,
    **options: Any,
) -> Certificate:
    """Lower bound on the smallest perturbation that changes a prediction behind a network.

    Parameters
    ----------
    estimator : fitted Pipeline or AdversarialClustering
        Affine steps, an ``AdversarialDeepMetric(lipschitz="orthogonal")``, and what
        :func:`skrobust.adapters.as_nearest_neighbor_rule` takes: k-NN, prototypes, centroids,
        clusters.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Points to certify. Images that are not flat need to reach the network first.
    y : array-like of shape (n_samples,)
        True labels.
    threat_model : ThreatModel, default=None
        Norm, scales and mutable features, over the (flattened) features; None is ℓ₂ on all. Its
        bounds are not used, which can only make the radius smaller.
    exact : bool, default=True
        Whether the radius of the rule on the embeddings is exact where that can be: one
        neighbour.
    **options : dict
        Of :func:`exact_nearest_neighbor_radius` or :func:`certify_nearest_neighbors`.

    Returns
    -------
    Certificate
        The bound is "lower"; it holds for every perturbation, rounding included.

    Raises
    ------
    TypeError
        If there is no Lipschitz step.
    """
    victim = as_lipschitz_victim(estimator)
    if victim is None:
        raise TypeError(
            f"{type(estimator).__name__} has no step with a Lipschitz bound; use "
            "AdversarialDeepMetric(lipschitz='orthogonal')."
        )
    method = "auto" if exact else "bound"
    return certify_through_network(
        victim, X, y, threat_model=threat_model, method=method, **options
    )


def certify_through_network(
    victim: LipschitzVictim,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None,
    method: str,
    **options: Any,
) -> Certificate:
    """Certify a pipeline that was split at a network; see :func:`certify_lipschitz`."""
    if method == "exact":
        raise ValueError(
            "method='exact' does not apply behind a network, whose bound may be larger than "
            "what it does near a point; use 'auto', 'fast' or 'bound'."
        )
    y, rule = column_or_1d(y), as_nearest_neighbor_rule(victim.tail)
    front = victim.front
    table = front.read(X)
    budget = ThreatModel.of(threat_model).resolve_for(table, whole_groups=True)
    queries, Z = victim.embed(X)
    check_consistent_length(Z, y)
    budget.check_inside(queries.raw)
    inner = certify_rule(rule, victim.tail, Z, y, method=method, **options)
    radius = _pulled_back(victim, inner, queries, budget)
    _confirm(victim, Region(front, table, budget), y, inner.target, radius)
    status = inner.status.copy()
    status[np.isin(status, ("exact", "numerical_tie"))] = "certified"
    status[(status == "certified") & (radius == 0)] = "uncertified"
    return Certificate(
        radius=radius,
        status=status,
        norm=budget.norm,
        method=f"{inner.method} behind a network with Lipschitz constant "
        f"{victim.map.lipschitz:.4g}",
        scale=budget.scale,
        feature_names=front.feature_names,
        target=inner.target,
    )


def _confirm(
    victim: LipschitzVictim, region: Region, y: np.ndarray, target: Any, radius: np.ndarray
) -> None:
    """Raise where the whole does not do what is proved of its parts, near the points too."""
    region.check_maps(radius)
    rows = np.flatnonzero(radius > 0)
    if not len(rows):
        return

    stays = np.zeros((len(rows), region.raw.shape[1]))
    for deltas in (stays, *region.samples(rows, np.zeros(len(rows), dtype=int), radius, 2)):
        points, moved = region.move(rows, deltas)
        predicted = np.asarray(victim.estimator.predict(points))
        changed = predicted == target if target is not None else predicted != y[rows]
        inside = region.budget.size(moved) <= radius[rows]
        refuse_difference(victim.estimator, rows, changed & inside, moved)


def _pulled_back(
    victim: LipschitzVictim, inner: Certificate, queries: Any, budget: Any
) -> np.ndarray:
    """Return radii of raw perturbations for radii of embeddings."""
    stretch, slack = victim.movement(queries, budget)
    known = np.isfinite(slack)
    left = np.where(known, np.maximum(inner.radius - np.where(known, slack, 0), 0), 0)
    if not np.isfinite(stretch):
        return np.zeros_like(left)
    if stretch == 0:  # nothing that may change reaches the network
        return np.where(left > 0, np.inf, 0.0)
    return round_down(round_down(left / stretch))
