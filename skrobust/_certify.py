"""One face of all certificates: what is guaranteed of a fitted estimator."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import is_clusterer
from sklearn.pipeline import Pipeline

from skrobust.adapters import (
    NearestNeighborRule,
    as_lipschitz_victim,
    as_nearest_neighbor_rule,
    as_pipeline,
    split_pipeline,
    unwrap,
)
from skrobust.certificates import (
    CenterSmoothing,
    Certificate,
    RandomizedSmoothingClassifier,
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
)
from skrobust.certificates._lipschitz import certify_through_network
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once
from skrobust.utils._guard import refuse_overrides

__all__ = ["certify", "certify_batches"]

_USE_PARENT = "certify one that has the methods of its parent"
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
        Of the proof: :func:`~skrobust.certificates.exact_nearest_neighbor_radius` or
        :func:`~skrobust.certificates.certify_nearest_neighbors`.

    Returns
    -------
    Certificate
        `method` names the proof, `bound` its direction, and `status` tells for each point
        whether it is exact, a bound, or probabilistic.

    Raises
    ------
    TypeError, ValueError
        If no proof applies, or the one that is asked for does not; the message says why.

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
    check_method(method)
    named = type(estimator).__name__
    inside = unwrap(estimator)
    last = inside.steps[-1][1] if isinstance(inside, Pipeline) else inside
    last = unwrap(last)
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
            f"estimator must be a fitted classifier or clusterer, with predict; got {named}. "
            "Retrieval by a metric is certified by skrobust.certificates.certify_retrieval."
        )
    opened = as_pipeline(inside)
    if isinstance(opened, RandomizedSmoothingClassifier):
        refuse_overrides(opened, RandomizedSmoothingClassifier, ("predict",), _USE_PARENT)
        return _smoothing(opened, X, y, threat_model, method, options)
    parts = split_pipeline(opened, lambda step: isinstance(step, CenterSmoothing))
    if parts is not None:
        refuse_overrides(parts[1], CenterSmoothing, ("transform",), _USE_PARENT)
        labels = inside.predict(X) if y is None else y
        return _center_smoothing(parts, X, labels, threat_model, method, options)
    if isinstance(opened, Pipeline) and isinstance(
        opened.steps[-1][1], RandomizedSmoothingClassifier
    ):
        raise ValueError(
            "a Pipeline that ends with RandomizedSmoothingClassifier has its noise, and its radii, "
            "behind the other steps; put the smoothing around the Pipeline instead."
        )
    if method == "smoothing":
        raise ValueError(
            "method='smoothing' needs a RandomizedSmoothingClassifier around the classifier; got "
            f"{named}."
        )
    network = as_lipschitz_victim(estimator)
    if network is not None:
        if method == "exact":
            raise ValueError(
                "method='exact' does not apply behind a network, whose bound may be larger than "
                "what it does near a point; use 'auto', 'fast' or 'bound'."
            )
        labels = inside.predict(X) if y is None else y
        exact = method == "auto"
        one = as_nearest_neighbor_rule(network.tail).n_neighbors == 1
        _check_options(_prover(exact and one), options)
        return certify_through_network(network, X, labels, threat_model, exact, options)
    try:
        rule = as_nearest_neighbor_rule(estimator)
    except TypeError as error:
        raise TypeError(
            f"no certificate applies to {named}: {error} Any classifier can be "
            "smoothed (RandomizedSmoothingClassifier), and then certified."
        ) from error
    searched = rule.n_neighbors == 1 and not _discrete(threat_model, rule, X)
    exact = method == "exact" or (method == "auto" and searched)
    prove = _prover(exact)
    _check_options(prove, options)
    return prove(estimator, X, y, threat_model=threat_model, **options)


def check_method(method: Any) -> None:
    """Raise a ValueError where a proof is none that `certify` knows.

    Parameters
    ----------
    method : object
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}; got {method!r}.")


def _discrete(model: Any, rule: NearestNeighborRule, X: Any) -> bool:
    """Return whether whole numbers or categories are asked for, which no exact search has."""
    if not isinstance(model, ThreatModel):
        return False
    return bool(model.resolve_for(rule.read(X)).discrete.any())


def _prover(exact: bool) -> Any:
    return exact_nearest_neighbor_radius if exact else certify_nearest_neighbors


def _check_options(prove: Any, options: dict[str, Any]) -> None:
    known = list(inspect.signature(prove).parameters)[3:]
    unknown = sorted(set(options) - set(known))
    if "eps" in unknown:
        raise TypeError(
            "a certificate has no budget: ask its result, certify(estimator, X, y).certified(eps)."
        )
    if unknown:
        known = ["threat_model", "method", *(name for name in known if name != "threat_model")]
        raise TypeError(f"certify has no option {unknown[0]!r} here; it has {known}.")


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
        Of :func:`certify`.

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
        found = certify(estimator, rows, labels, **options)
        parts.append(replace(found, perturbation=None, adversarial_label=None))
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


def _smoothing(
    estimator: RandomizedSmoothingClassifier,
    X: Any,
    y: Any,
    threat_model: ThreatModel | None,
    method: str,
    options: dict[str, Any],
) -> Certificate:
    if method in ("exact", "bound"):
        raise ValueError(
            f"method={method!r} is for nearest-neighbour rules; a smoothed classifier has "
            "method='smoothing'."
        )
    if threat_model is not None:
        raise ValueError(
            "threat_model must be None here: that of RandomizedSmoothingClassifier decided about "
            "its noise."
        )
    if options:
        raise TypeError(f"smoothing has no options; got {sorted(options)}.")
    return estimator.certify(X, y)


def _center_smoothing(
    parts: Any,
    X: Any,
    y: Any,
    threat_model: ThreatModel | None,
    method: str,
    options: dict[str, Any],
) -> Certificate:
    before, step, tail = parts
    if before:
        raise ValueError(
            f"CenterSmoothing has its noise behind the steps {[name for name, _ in before]}; put "
            "it around them: CenterSmoothing(make_pipeline(…))."
        )
    if method in ("exact", "bound"):
        raise ValueError(f"method={method!r} is not for smoothed embeddings; use 'smoothing'.")
    if threat_model is not None:
        raise ValueError(
            "threat_model must be None here: that of CenterSmoothing decided about its noise."
        )
    exact = method != "fast" and as_nearest_neighbor_rule(tail).n_neighbors == 1
    prove = _prover(exact)
    _check_options(prove, options)
    Z = step.transform(X)
    inner = prove(tail, Z, y, **options)
    return step._certificate(X, np.asarray(Z), inner.radius, inner.status, inner.target)
