r"""One face of all certificates: what is guaranteed of a fitted estimator.

A rule whose prediction at z = f(x) stays within a distance r, behind a network with
‖f(x) − f(x′)‖₂ ≤ L ‖x − x′‖₂, has the prediction of x at every x + δ with ‖δ‖₂ ≤ r / L; less what
both round, see ``skrobust.adapters.LipschitzVictim``.
"""

from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import is_clusterer
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.adapters import (
    LipschitzVictim,
    as_lipschitz_victim,
    as_nearest_neighbor_rule,
    as_pipeline,
    split_pipeline,
    unwrap,
)
from skrobust.certificates._problem import Region, refuse_difference
from skrobust.certificates._result import Certificate
from skrobust.certificates.nearest_neighbor._api import certify_rule
from skrobust.certificates.nearest_neighbor._geometry import round_down
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once
from skrobust.utils._guard import protocol_method
from skrobust.utils._validation import check_choice

__all__ = ["METHODS", "certify", "certify_batches", "certify_lipschitz"]

METHODS = ("auto", "fast", "exact", "bound", "smoothing")


@names_missed_once()
def certify(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "auto",
    **options: Any,
) -> Certificate:
    """Certify points by the strongest proof that applies to an estimator.

    Parameters
    ----------
    estimator : fitted classifier or clusterer
        - A nearest-neighbour rule: k-NN with uniform weights, ``NearestCentroid``, ``KMeans``,
          the classifiers of :mod:`skrobust.neighbors`, :class:`skrobust.AdversarialClustering`;
          alone or behind affine steps in a Pipeline.
        - The same behind an ``AdversarialDeepMetric(lipschitz="orthogonal")``, or behind a
          :class:`~skrobust.certificates.CenterSmoothing` of any embedding.
        - A :class:`~skrobust.certificates.RandomizedSmoothingClassifier`.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Points, in raw feature space.
    y : array-like of shape (n_samples,), default=None
        True labels: points that are predicted wrong have radius 0. None certifies the
        predictions themselves; it has to be None for a clusterer.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features. Smoothing has its own.
    method : {"auto", "fast", "exact", "bound", "smoothing"}, default="auto"
        "auto" is the exact radius for one neighbour, the lower bound for more neighbours, for whole
        numbers and categories, and behind a network, and smoothing for what is smoothed; "fast"
        the same with the lower bound for one neighbour, too. The others ask for one proof, which
        has to apply.
    **options : dict
        Options of the proof: :func:`~skrobust.certificates.exact_nearest_neighbor_radius` or
        :func:`~skrobust.certificates.certify_nearest_neighbors`.

    Returns
    -------
    Certificate
        `method` names the proof, `bound` its direction, and `status` tells for each point
        whether it is exact, a bound, or probabilistic.

    Raises
    ------
    TypeError, ValueError
        If no proof applies, or the chosen one does not; the message says why.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import certify
    >>> X, y = load_iris(return_X_y=True)
    >>> for K in (1, 3):
    ...     found = certify(KNeighborsClassifier(K).fit(X[::2], y[::2]), X[1::2], y[1::2])
    ...     print(found.method, found.bound)
    exact 1-NN radius interval
    nearest-neighbor lower bound lower
    """
    check_choice(method, METHODS, name="method")
    _check_predicts(estimator, y)
    given: dict[str, Any] = {"threat_model": threat_model, "method": method, **options}
    whole = as_pipeline(estimator)
    own = protocol_method(whole, "_certify", "predict")
    if own is not None:
        return _checked(own(X, y, **given), estimator, X)
    smoothed = split_pipeline(whole, _bounds_movement)
    if smoothed is not None:
        labels = estimator.predict(X) if y is None else y
        return _behind_smoothing(smoothed, X, labels, **given)
    _refuse_smoothing(whole, method, estimator)
    network = as_lipschitz_victim(estimator)
    if network is not None:
        labels = estimator.predict(X) if y is None else y
        return _behind_network(network, X, labels, **given)
    try:
        rule = as_nearest_neighbor_rule(estimator)
    except TypeError as error:
        raise TypeError(
            f"no certificate applies to {type(estimator).__name__}: {error} Any classifier can be "
            "smoothed (RandomizedSmoothingClassifier), and then certified."
        ) from error
    return certify_rule(rule, estimator, X, y, **given)


def _checked(certificate: Any, estimator: Any, X: Any) -> Certificate:
    """Return what an estimator's own proof gives; raise where that is no certificate of X."""
    named = f"{type(estimator).__name__}._certify"
    if not isinstance(certificate, Certificate):
        raise TypeError(f"{named} must return a Certificate; got {type(certificate).__name__}.")
    if len(certificate.radius) != len(X):
        raise ValueError(f"{named} must give {len(X)} radii; got {len(certificate.radius)}.")
    return certificate


def _check_predicts(estimator: Any, y: Any) -> None:
    """Raise where an object has no predictions to certify, or labels that are no clusters."""
    inside = unwrap(estimator)
    last = unwrap(inside.steps[-1][1] if isinstance(inside, Pipeline) else inside)
    clusters = hasattr(last, "__sklearn_tags__") and is_clusterer(last)
    if clusters and y is not None:
        raise ValueError("y must be None for a clusterer, whose clusters are no classes.")
    if clusters and not hasattr(inside, "predict"):
        raise TypeError(
            f"estimator must have predict; got the clusterer {last!r}, which assigns no new points "
            "to its clusters. Use k-means, or AdversarialClustering(algorithm='kmeans')."
        )
    if not hasattr(inside, "predict"):
        raise TypeError(
            "estimator must be a fitted classifier or clusterer, with predict; got "
            f"{type(estimator).__name__}. Retrieval by a metric is certified by "
            "skrobust.certificates.certify_retrieval."
        )


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
        Options of :func:`exact_nearest_neighbor_radius` or :func:`certify_nearest_neighbors`.

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
    return _behind_network(victim, X, y, threat_model=threat_model, method=method, **options)


def _behind_network(
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


def _bounds_movement(step: Any) -> bool:
    return protocol_method(step, "_certify_movement", "transform") is not None


def _behind_smoothing(
    parts: Any, X: Any, y: Any, *, threat_model: Any, method: str, **options: Any
) -> Certificate:
    """Certify a rule behind an embedding whose movement is bounded for noise in its inputs."""
    before, step, tail = parts
    named = type(step).__name__
    if before:
        raise ValueError(
            f"{named} has its noise behind the steps {[name for name, _ in before]}; put it "
            f"around them: {named}(make_pipeline(…))."
        )
    if method in ("exact", "bound"):
        raise ValueError(f"method={method!r} is not for smoothed embeddings; use 'smoothing'.")
    if threat_model is not None:
        raise ValueError(
            f"threat_model must be None here: that of {named} decided about its noise."
        )
    rule, Z = as_nearest_neighbor_rule(tail), step.transform(X)
    inner = certify_rule(
        rule, tail, Z, y, method="bound" if method == "fast" else "auto", **options
    )
    return step._certify_movement(X, np.asarray(Z), inner.radius, inner.status, inner.target)


def _refuse_smoothing(whole: Any, method: str, estimator: Any) -> None:
    """Raise where smoothing is wanted of what is not smoothed, or is behind other steps."""
    last = whole.steps[-1][1] if isinstance(whole, Pipeline) else None
    if protocol_method(last, "_certify", "predict") is not None:
        raise ValueError(
            f"the radii of {type(last).__name__} are behind the other steps of the Pipeline, not "
            "in the features of X; put it (for smoothing: the smoothing) around the Pipeline."
        )
    if method == "smoothing":
        raise ValueError(
            "method='smoothing' needs a RandomizedSmoothingClassifier around the classifier; got "
            f"{type(estimator).__name__}."
        )


def certify_batches(
    estimator: Any, X: Any, y: Any = None, *, batch_size: Any = 10_000, **options: Any
) -> Certificate:
    """Certify points that do not fit in memory.

    Parameters
    ----------
    estimator : fitted classifier or clusterer
        As for :func:`certify`.
    X : memory map, array-like of shape (n_samples, ...), or iterable of batches
        What can be sliced by rows is read `batch_size` rows at a time; other iterables (a
        generator) yield X, or pairs (X, y).
    y : array-like of shape (n_samples,), default=None
        True labels of what can be sliced; None for pairs, and to certify predictions.
    batch_size : int, default=10_000
        Rows at a time, at least 1. Each batch prepares the training points again: a few passes
        over them.
    **options : dict
        Options of :func:`certify`.

    Returns
    -------
    Certificate
        Radii and status of all points, and `upper` where the proof gives it. Perturbations are
        left out: they are as large as X.

    Raises
    ------
    ValueError
        If there is no batch, or `y` is given with an iterable of batches.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import certify_batches
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> pairs = ((np.full((2, 1), v), [0, 0]) for v in (0.0, 0.5))
    >>> certify_batches(knn, pairs).radius.round(6)
    array([1. , 1. , 0.5, 0.5])
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size must be an integer >= 1; got {batch_size!r}.")
    parts = []
    for rows, labels in _batches(X, y, int(batch_size)):
        part = certify(estimator, rows, labels, **options)
        parts.append(replace(part, perturbation=None, adversarial_label=None))
    if not parts:
        raise ValueError("X must hold at least one batch; got none.")
    uppers: list[Any] = [part.upper for part in parts]
    return replace(
        parts[0],
        radius=np.concatenate([part.radius for part in parts]),
        status=np.concatenate([part.status for part in parts]),
        upper=None if any(u is None for u in uppers) else np.concatenate(uppers),
    )


def _batches(X: Any, y: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """Yield rows and labels, which may be None."""
    if hasattr(X, "shape") or isinstance(X, (list, tuple)):
        n = len(X)
        if y is not None and len(y) != n:
            raise ValueError(f"y must have a label for each of {n} rows; got {len(y)}.")
        for start in range(0, n, size):
            rows = slice(start, start + size)
            some = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
            # a copy of this part of a memory map
            yield (
                np.array(some) if isinstance(some, np.memmap) else some,
                y if y is None else y[rows],
            )
        return
    if isinstance(X, (str, PathLike)):
        raise TypeError(
            f"X must be an array or an iterable of batches; got {X!r}. A file is opened by "
            "np.load(…, mmap_mode='r')."
        )
    if y is not None:
        raise ValueError("y must be None where X is an iterable of batches: let it yield pairs.")
    for batch in X:
        yield batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
