"""The exact certified radius of K-NN: the public function."""

from typing import Any

import numpy as np

from skrobust.adapters import as_nearest_neighbor_rule
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates._result import Certificate
from skrobust.certificates._run import run_job
from skrobust.certificates.nearest_neighbor._exact_1nn import CellJob, ExactRadii
from skrobust.certificates.nearest_neighbor._exact_knn import VoteJob
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob, lower_bound
from skrobust.numerics import row_batches
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once
from skrobust.utils._parallel import check_n_jobs
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._validation import check_one_eps

__all__ = ["exact_nearest_neighbor_radius"]

_TOGETHER = 64  # points whose adversarial examples are checked by one prediction


@names_missed_once()
def exact_nearest_neighbor_radius(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    target: Any = None,
    rtol: float = 1e-3,
    max_nodes: int = 1000,
    device: str = "cpu",
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Certificate:
    """Smallest perturbation of raw features that changes a k-NN prediction, from both sides.

    The lower side is proved in floating point, allowing for the rounding of the victim's own
    `predict`; the upper side is an adversarial example that its `predict` was asked about.

    Parameters
    ----------
    estimator : fitted k-NN classifier, alone or behind affine steps in a Pipeline
        See :func:`skrobust.adapters.as_nearest_neighbor_rule`.
    X : array-like of shape (n_samples, n_features)
        Points to certify, as the estimator's `predict` takes them.
    y : array-like of shape (n_samples,) or None
        True labels; None certifies the predictions themselves.
    threat_model : ThreatModel, default=None
        Norm, scales, mutable features and bounds of the adversary, all honoured; None is ℓ₂
        on all features.
    target : label, default=None
        Only changes into this class count (fraud into legitimate); no point in `X` may have it
        as its label. None is any change.
    rtol : float, default=1e-3
        The status is "exact" where ``upper <= (1 + rtol) * radius``. For one neighbour the two
        usually agree to 1e-8 with float64 data, to 1e-4 with float32 data; for more, the search
        ends where `rtol` is reached.
    max_nodes : int, default=1000
        For more than one neighbour: nodes of the branch and bound that are solved for a point.
        Where it ends the search, or more than 4,000 training points are candidates, the status
        is "certified", with what was proved and the smallest example found. 0 gives the lower
        bound and an example.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto", for the search; small programs run on the CPU.
    n_jobs : int, default=None
        Jobs for joblib, with whatever backend is active; results do not depend on it. A job
        in a process of its own prepares the training points again.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Returns
    -------
    Certificate
        With `upper`, `perturbation` and `adversarial_label`; the bound is "interval". An interrupt
        (Ctrl-C) ends it with a warning, and keeps what is proved. Where the nearest
        cell of another class has no interior (a training point that lies in two classes), the
        two sides differ and the status is "certified". A radius of more than 1,024 diameters
        of the training set is cut off there: farther out, rounding decides.

    Raises
    ------
    TypeError
        If the estimator is no nearest-neighbour classifier.
    ValueError
        If a step is not affine, a parameter or the data are not supported, or the estimator's
        `predict` is not what is known of it: it is asked about points and perturbations.
    skrobust.inspection.SoundnessError
        If an adversarial example is smaller than what is proved: a fault of this package.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.certificates import exact_nearest_neighbor_radius
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], ["a", "b"])
    >>> found = exact_nearest_neighbor_radius(knn, [[0.5, 0.0]], ["a"])
    >>> found.radius.round(6), found.perturbation.round(6), str(found.adversarial_label[0])
    (array([0.5]), array([[0.5, 0. ]]), 'b')
    """
    rule = as_nearest_neighbor_rule(estimator)
    check_n_jobs(n_jobs)
    rtol = check_one_eps(rtol, name="rtol")
    if type(max_nodes) is bool or not isinstance(max_nodes, (int, np.integer)) or max_nodes < 0:
        raise ValueError(f"max_nodes must be an integer >= 0; got {max_nodes!r}.")
    request = CertificationProblem.of(rule, estimator, X, y, threat_model, device, target)
    if request.budget.discrete.any():
        raise ValueError(
            "integers and one_hot of the threat model are not searched exactly; "
            "certify_nearest_neighbors gives a lower bound, which holds for them too."
        )
    right: np.ndarray | None
    if request.constant.all():
        right = request.right()
        found, done = _unknown(request, np.where(right, np.inf, 0.0)), np.ones_like(right)
    elif rule.n_neighbors == 1:
        found, done, right = _cells(request, n_jobs, verbose)
    else:
        found, done, right = _votes(request, rtol, int(max_nodes), n_jobs, verbose)
    certificate = request.certificate(
        found.lower,
        done,
        right,
        bound="interval",
        method=f"exact {rule.n_neighbors}-NN radius",
        upper=found.upper,
        perturbation=found.perturbation,
        adversarial_label=found.adversarial_label,
    )
    status = certificate.status
    wrong = status == "misclassified"
    upper = certificate.upper
    assert upper is not None
    if wrong.any():
        found.adversarial_label[wrong] = estimator.predict(safe_indexing(X, np.flatnonzero(wrong)))
        upper[wrong], found.perturbation[wrong] = 0.0, 0.0
    close = (status == "certified") & (upper <= (1 + rtol) * certificate.radius)
    status[close] = "exact"
    return certificate


def _cells(
    request: CertificationProblem, n_jobs: int | None, verbose: int
) -> tuple[ExactRadii, np.ndarray, np.ndarray | None]:
    """Return exact 1-NN radii, which points were reached, which are right (None: by radius)."""
    rule, labels, a, b = request.compared()
    bound = BoundJob(rule, request.queries, labels, a, b, request.budget, request.device)
    job = CellJob(bound, request.attack, request.y)
    found = _unknown(request, bound.known())
    done = run_job(job, bound.batches(), len(found.lower), found.put, n_jobs, verbose)
    return found, done, None


def _votes(
    request: CertificationProblem, rtol: float, max_nodes: int, n_jobs: int | None, verbose: int
) -> tuple[ExactRadii, np.ndarray, np.ndarray | None]:
    """Return exact K-NN radii, which points were reached and which are right."""
    rule, labels, a, b = request.compared()
    bound = BoundJob(rule, request.queries, labels, a, b, request.budget, request.device)
    lower, reached = lower_bound(bound, n_jobs, verbose)
    right = request.right()
    found = _unknown(request, lower)
    if not reached.all():  # interrupted
        return found, reached, right
    job = VoteJob(
        rule=request.rule,
        queries=request.queries,
        labels=request.labels,
        lower=lower,
        budget=request.budget,
        attack=request.attack,
        y=request.y,
        target=request.target,
        rtol=rtol,
        max_nodes=max_nodes,
    )
    rows = np.flatnonzero(right & reached & np.isfinite(lower))
    parts = [rows[part] for part in row_batches(0, len(rows), 1, _TOGETHER)]
    run_job(job, parts, len(lower), found.put, n_jobs, verbose)
    # what was not reached keeps its lower bound
    return found, reached, right


def _unknown(request: CertificationProblem, lower: np.ndarray) -> ExactRadii:
    # what a radius proves; the victim is asked about the others
    adversarial_label = request.rule.classes[np.maximum(request.labels, 0)]
    return ExactRadii.unknown(lower, request.queries.raw.shape[1], adversarial_label)
