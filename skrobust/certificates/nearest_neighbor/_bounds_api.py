r"""Certified radii of k-NN classifiers: the public functions.

For a point x of class c, positives P = training points of class c, negatives N = the others,

    radius(x) = the a-th smallest over j ∈ N of the b-th largest over i ∈ P of ε̃(x_i, x_j, x),
    ε̃(x_i, x_j, x) = [ D_j − D_i ]₊ / ( 2 ‖s ∘ Aᵀ (z_i − z_j)‖_q ),    a = ⌈K/2⌉,  b = ⌊K/2⌋ + 1,

where D are squared distances to x in the space z = A x, s the scales of the features and q the
dual of the adversary's norm. Below this radius fewer than a
negatives can be nearer than all but b − 1 positives, so at least b > K/2 of the K nearest
points are positives.

Source: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020, arXiv:2006.07024
(odd K); the two orders a ≠ b for even K are ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from skrobust.adapters import AffineMap, NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates._result import Certificate
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob, lower_bound
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import Table, names_missed_once
from skrobust.utils._parallel import check_n_jobs

__all__ = ["certify_nearest_neighbors", "nearest_neighbor_lower_bound"]


@dataclass(frozen=True)
class _Behind:
    """A classifier behind steps."""

    steps: tuple[Any, ...]
    classifier: KNeighborsClassifier

    def predict(self, X: Any) -> np.ndarray:
        return self.classifier.predict(_embed(X, self.steps))


class _Linear:
    """The step ``X ↦ X Gᵀ`` of a metric that is given as an array."""

    def __init__(self, components: np.ndarray):
        self.components = components

    def transform(self, X: Any) -> np.ndarray:
        X = np.asarray(X)
        return X @ self.components.T.astype(X.dtype if X.dtype.kind == "f" else np.float64)


def nearest_neighbor_lower_bound(
    X_train: Any,
    y_train: Any,
    X: Any,
    y: Any,
    *,
    components: Any = None,
    n_neighbors: int = 1,
    threat_model: ThreatModel | None = None,
    device: str = "cpu",
) -> Certificate:
    """Lower bound on the smallest perturbation that changes a k-NN prediction, for arrays.

    Parameters
    ----------
    X_train : array-like of shape (n_train, n_features)
        Training points.
    y_train : array-like of shape (n_train,)
        Their labels.
    X : array-like of shape (n_samples, n_features)
        Points to certify.
    y : array-like of shape (n_samples,)
        Their true labels.
    components : array-like of shape (n_components, n_features), default=None
        G of the metric ``(u − v)ᵀ GᵀG (u − v)``; None for the Euclidean one.
    n_neighbors : int, default=1
        K: neighbours that vote, uniformly.
    threat_model : ThreatModel, default=None
        Norm, scales and mutable features of the adversary; None is ℓ₂ on all features. Its
        bounds are not used here, which can only make the radius smaller.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".

    Returns
    -------
    Certificate
        With radii in the threat model's norm; the direction of the bound is "lower".

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or `n_neighbors` is not in
        [1, n_train].

    Examples
    --------
    >>> from skrobust.certificates import nearest_neighbor_lower_bound
    >>> found = nearest_neighbor_lower_bound([[0.0], [2.0]], [0, 1], [[0.5]], [0])
    >>> round(float(found.radius[0]), 6), str(found.status[0])
    (0.5, 'certified')
    """
    names = np.array(Table.of(X_train).names) if hasattr(X_train, "columns") else None
    X_train = check_array(X_train, dtype=[np.float64, np.float32], input_name="X_train")
    y_train = column_or_1d(y_train)
    check_consistent_length(X_train, y_train)
    steps: tuple[Any, ...] = ()
    maps: tuple[AffineMap, ...] = ()
    embedded = X_train
    if components is not None:
        components = check_array(components, dtype=np.float64, input_name="components")
        if components.shape[1] != X_train.shape[1]:
            raise ValueError(
                "components must have shape (n_components, n_features) with n_features="
                f"{X_train.shape[1]}; got {components.shape}."
            )
        steps, maps = (_Linear(components),), (AffineMap(components),)
        embedded = steps[0].transform(X_train)
    classifier = KNeighborsClassifier(n_neighbors, algorithm="brute").fit(embedded, y_train)
    bare = as_nearest_neighbor_rule(classifier)
    rule = NearestNeighborRule(
        points=bare.points,
        magnitudes=bare.magnitudes,
        labels=bare.labels,
        classes=bare.classes,
        n_neighbors=n_neighbors,
        n_features_in=X_train.shape[1],
        single=bare.single,
        steps=steps,
        maps=maps,
        feature_names=names,
    )
    victim = _Behind(steps, classifier)
    return _certify(CertificationProblem.of(rule, victim, X, y, threat_model, device), None, 0)


@names_missed_once()
def certify_nearest_neighbors(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    target: Any = None,
    device: str = "cpu",
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Certificate:
    """Lower bound on the smallest perturbation of raw features that changes a prediction.

    Parameters
    ----------
    estimator : fitted k-NN classifier, alone or behind affine steps in a Pipeline
        See :func:`skrobust.adapters.as_nearest_neighbor_rule`.
    X : array-like of shape (n_samples, n_features)
        Points to certify, as the estimator's `predict` takes them.
    y : array-like of shape (n_samples,) or None
        True labels; None certifies the predictions themselves.
    threat_model : ThreatModel, default=None
        Norm, scales and mutable features of the adversary; None is ℓ₂ on all features. Its
        bounds are not used here, which can only make the radius smaller.
    target : label, default=None
        Only changes into this class count (fraud into legitimate); no point in `X` may have it
        as its label. None is any change.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".
    n_jobs : int, default=None
        Jobs for joblib, with whatever backend is active; results do not depend on it. A job
        in a process of its own prepares the training points again.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Returns
    -------
    Certificate
        With radii in the threat model's norm, in the units of `X` before any scaling step;
        the bound is "lower", and it allows for the rounding of the estimator's own `predict`.
        An interrupt (Ctrl-C) ends it with a warning, and keeps what is proved.

    Raises
    ------
    TypeError
        If the estimator is no nearest-neighbour classifier.
    ValueError
        If a step is not affine, a parameter or the data are not supported, or the estimator's
        `predict` is not what is known of it: it is asked about points and perturbations.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.certificates import certify_nearest_neighbors
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], ["a", "b"])
    >>> certify_nearest_neighbors(knn, [[0.5], [0.5]], ["a", "b"]).status
    array(['certified', 'misclassified'], dtype='<U13')
    """
    rule = as_nearest_neighbor_rule(estimator)
    check_n_jobs(n_jobs)
    request = CertificationProblem.of(rule, estimator, X, y, threat_model, device, target)
    return _certify(request, n_jobs, verbose)


def _embed(X: Any, steps: tuple[Any, ...]) -> Any:
    for step in steps:
        X = step.transform(X)
    return X


def _certify(request: CertificationProblem, n_jobs: int | None, verbose: int) -> Certificate:
    if request.constant.all():
        right = request.right()
        return request.certificate(np.where(right, np.inf, 0.0), np.ones_like(right), right)
    rule, labels, a, b = request.compared()
    job = BoundJob(rule, request.queries, labels, a, b, request.budget, request.device)
    radius, done = lower_bound(job, n_jobs, verbose)
    return request.certificate(radius, done)
