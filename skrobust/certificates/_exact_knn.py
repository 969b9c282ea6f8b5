"""The exact certified radius of 1-NN: the public function."""

from typing import Any

import numpy as np

from skrobust.certificates._exact import exact_radius
from skrobust.certificates._request import Request
from skrobust.certificates._result import Certificate
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import safe_indexing
from skrobust.victims import as_nearest_neighbor_rule

__all__ = ["exact_nearest_neighbor_radius"]


def exact_nearest_neighbor_radius(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    rtol: float = 1e-3,
    device: str = "cpu",
) -> Certificate:
    """Smallest perturbation of raw features that changes a 1-NN prediction, from both sides.

    The lower side is proved in floating point, allowing for the rounding of the victim's own
    `predict`; the upper side is an adversarial example that its `predict` was asked about.

    Parameters
    ----------
    estimator : fitted 1-NN classifier, alone or behind affine steps in a Pipeline
        See :func:`skrobust.victims.as_nearest_neighbor_rule`.
    X : array-like of shape (n_samples, n_features)
        Points to certify, as the estimator's `predict` takes them.
    y : array-like of shape (n_samples,)
        True labels.
    threat_model : ThreatModel, default=None
        Norm, scales, mutable features and bounds of the adversary, all honoured; None is ℓ₂
        on all features.
    rtol : float, default=1e-3
        The status is "exact" where ``upper <= (1 + rtol) * radius``. With float64 data the two
        usually agree to 1e-8, with float32 data to 1e-4.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto", for the search; small programs run on the CPU.

    Returns
    -------
    Certificate
        With `upper`, `perturbation` and `attained`; the bound is "interval". Where the nearest
        cell of another class has no interior (a training point that lies in two classes), the
        two sides differ and the status is "certified". A radius of more than 1,024 diameters
        of the training set is cut off there: farther out, rounding decides.

    Raises
    ------
    TypeError
        If the estimator is no nearest-neighbour classifier.
    ValueError
        If it has ``n_neighbors > 1``, a step is not affine, or a parameter or the data are not
        supported.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.certificates import exact_nearest_neighbor_radius
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], ["a", "b"])
    >>> found = exact_nearest_neighbor_radius(knn, [[0.5, 0.0]], ["a"])
    >>> found.radius.round(6), found.perturbation.round(6), str(found.attained[0])
    (array([0.5]), array([[0.5, 0. ]]), 'b')
    """
    rule = as_nearest_neighbor_rule(estimator)
    if rule.n_neighbors != 1:
        raise ValueError(
            f"n_neighbors must be 1 for exact radii; got {rule.n_neighbors}. For more neighbours "
            "use certify_nearest_neighbors, a lower bound."
        )
    if not rtol >= 0:
        raise ValueError(f"rtol must be >= 0; got {rtol!r}.")
    request = Request.of(rule, estimator.predict, X, y, threat_model, device)
    # what a positive radius proves; the others are asked below
    attained = rule.classes[np.maximum(request.labels, 0)].copy()

    def flips(rows: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predicted, moved = request.perturb(rows, deltas)
        flipped = predicted != request.y[rows]
        attained[rows[flipped]] = predicted[flipped]
        return flipped, moved

    found = exact_radius(
        rule, request.queries, request.labels, request.budget, flips, request.device
    )
    status = request.status(found.lower)
    wrong = status == "misclassified"
    if wrong.any():
        attained[wrong] = estimator.predict(safe_indexing(X, np.flatnonzero(wrong)))
    upper = np.where(wrong, 0.0, found.upper)
    close = (status == "certified") & (upper <= (1 + rtol) * found.lower)
    status[close] = "exact"
    return Certificate(
        radius=found.lower,
        status=status,
        bound="interval",
        norm=request.budget.norm,
        method="exact 1-NN radius",
        upper=upper,
        perturbation=found.perturbation,
        attained=attained,
    )
