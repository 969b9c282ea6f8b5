r"""Certified radii of k-NN classifiers: the public functions.

For a point x of class c, positives P = training points of class c, negatives N = the others,

    radius(x) = the a-th smallest over j ∈ N of the b-th largest over i ∈ P of ε̃(x_i, x_j, x),
    ε̃(x_i, x_j, x) = [ D_j − D_i ]₊ / ( 2 ‖s ∘ Aᵀ (z_i − z_j)‖_q ),    a = ⌈K/2⌉,  b = ⌊K/2⌋ + 1,

where D are squared distances to x in the space z = A x, s the scales of the features and q the
dual of the adversary's norm. Below this radius fewer than a
negatives can be nearer than all but b − 1 positives, so at least b > K/2 of the K nearest
points are positives.

A fitted estimator is folded once, and the points are checked once: a `CertificationProblem`, which
`prove_lower_bound` and `prove_exact_radius` take.

Source: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020, arXiv:2006.07024
(odd K); the two orders a ≠ b for even K are ours.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from skrobust.adapters import AffineMap, NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.certificates._problem import CertificationProblem
from skrobust.certificates._result import Certificate
from skrobust.certificates.nearest_neighbor._exact_1nn import CellJob, ExactRadii
from skrobust.certificates.nearest_neighbor._exact_knn import VoteJob
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob, lower_bound
from skrobust.numerics import row_batches
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import Table, names_missed_once
from skrobust.utils._parallel import check_n_jobs, run_job
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._validation import check_one_eps

__all__ = [
    "certify_nearest_neighbors",
    "certify_rule",
    "exact_nearest_neighbor_radius",
    "nearest_neighbor_lower_bound",
    "prove_exact_radius",
    "prove_lower_bound",
]

# options of every proof, and of the exact one alone
_RUN_OPTIONS, _SEARCH_OPTIONS = ("n_jobs", "verbose"), ("rtol", "max_nodes")
_TOGETHER = 64  # points whose adversarial examples are checked by one prediction


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
        `predict` is not what is known of it, on the points or on perturbed ones.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.certificates import certify_nearest_neighbors
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], ["a", "b"])
    >>> certify_nearest_neighbors(knn, [[0.5], [0.5]], ["a", "b"]).status
    array(['certified', 'misclassified'], dtype='<U13')
    """
    problem = CertificationProblem.of(estimator, X, y, threat_model, device, target)
    return prove_lower_bound(problem, n_jobs=n_jobs, verbose=verbose)


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
    `predict`; the upper side is an adversarial example that its `predict` confirms.

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
        `predict` is not what is known of it, on the points or on perturbed ones.
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
    problem = CertificationProblem.of(estimator, X, y, threat_model, device, target)
    return prove_exact_radius(
        problem, rtol=rtol, max_nodes=max_nodes, n_jobs=n_jobs, verbose=verbose
    )


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
    classifier = KNeighborsClassifier(n_neighbors, algorithm="brute")
    victim = _BehindMatrix(classifier, _checked_components(components, X_train.shape[1]))
    rule = as_nearest_neighbor_rule(classifier.fit(victim.transform(X_train), y_train))
    rule = replace(rule, n_features_in=X_train.shape[1], feature_names=names)
    if victim.components is not None:
        rule = replace(rule, steps=(victim,), maps=(AffineMap(victim.components),))
    return prove_lower_bound(CertificationProblem.of(victim, X, y, threat_model, device, rule=rule))


@dataclass(frozen=True, eq=False)
class _BehindMatrix:
    """A classifier behind ``X ↦ X Gᵀ``; None is the identity."""

    classifier: KNeighborsClassifier
    components: np.ndarray | None

    def transform(self, X: Any) -> Any:
        if self.components is None:
            return X
        X = np.asarray(X)
        return X @ self.components.T.astype(X.dtype if X.dtype.kind == "f" else np.float64)

    def predict(self, X: Any) -> np.ndarray:
        return self.classifier.predict(self.transform(X))


def _checked_components(components: Any, n_features: int) -> np.ndarray | None:
    if components is None:
        return None
    components = check_array(components, dtype=np.float64, input_name="components")
    if components.shape[1] != n_features:
        raise ValueError(
            "components must have shape (n_components, n_features) with n_features="
            f"{n_features}; got {components.shape}."
        )
    return components


def certify_rule(
    rule: NearestNeighborRule,
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "auto",
    **options: Any,
) -> Certificate:
    """Certify what an estimator predicts, whose rule is known; see :func:`skrobust.certify`.

    Parameters
    ----------
    rule : NearestNeighborRule
        What the estimator folds into.
    estimator : fitted classifier
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or None
    threat_model : ThreatModel, default=None
    method : {"auto", "fast", "exact", "bound"}, default="auto"
        "auto" is the exact radius for one neighbour, unless whole numbers or categories change,
        and the lower bound otherwise; "fast" is the lower bound.
    **options : dict
        Options of the proof, as for :func:`exact_nearest_neighbor_radius`.

    Returns
    -------
    Certificate
    """
    problem_options = {k: options.pop(k) for k in ("device", "target") if k in options}
    unknown = sorted(options.keys() - {*_RUN_OPTIONS, *_SEARCH_OPTIONS})
    _refuse_options(unknown, [*_RUN_OPTIONS, *_SEARCH_OPTIONS])
    problem = CertificationProblem.of(estimator, X, y, threat_model, rule=rule, **problem_options)
    searched = rule.n_neighbors == 1 and not problem.budget.discrete.any()
    if method == "exact" or (method == "auto" and searched):
        return prove_exact_radius(problem, **options)
    _refuse_options(sorted(options.keys() & {*_SEARCH_OPTIONS}), list(_RUN_OPTIONS))
    return prove_lower_bound(problem, **options)


def _refuse_options(unknown: list[str], known: list[str]) -> None:
    if "eps" in unknown:
        raise TypeError(
            "a certificate has no budget: ask its result, certify(estimator, X, y).certified(eps)."
        )
    if unknown:
        known = ["threat_model", "method", "target", "device", *known]
        raise TypeError(f"certify has no option {unknown[0]!r} here; it has {known}.")


def prove_lower_bound(
    problem: CertificationProblem, *, n_jobs: int | None = None, verbose: int = 0
) -> Certificate:
    """Prove the lower bound; see :func:`certify_nearest_neighbors`."""
    check_n_jobs(n_jobs)
    if problem.constant.all():
        right = problem.right()
        return problem.certificate(np.where(right, np.inf, 0.0), np.ones_like(right), right)
    radius, done = lower_bound(BoundJob.of(problem), n_jobs, verbose)
    return problem.certificate(radius, done)


def prove_exact_radius(
    problem: CertificationProblem,
    *,
    rtol: float = 1e-3,
    max_nodes: int = 1000,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Certificate:
    """Prove the radius from both sides; see :func:`exact_nearest_neighbor_radius`."""
    check_n_jobs(n_jobs)
    rtol = check_one_eps(rtol, name="rtol")
    if type(max_nodes) is bool or not isinstance(max_nodes, (int, np.integer)) or max_nodes < 0:
        raise ValueError(f"max_nodes must be an integer >= 0; got {max_nodes!r}.")
    if problem.budget.discrete.any():
        raise ValueError(
            "integers and one_hot of the threat model are not searched exactly; "
            "certify_nearest_neighbors gives a lower bound, which holds for them too."
        )
    n_neighbors = problem.rule.n_neighbors
    right: np.ndarray | None
    if problem.constant.all():
        right = problem.right()
        radii, done = _only_lower(problem, np.where(right, np.inf, 0.0)), np.ones_like(right)
    elif n_neighbors == 1:
        radii, done, right = _by_cells(problem, n_jobs, verbose)
    else:
        radii, done, right = _by_votes(problem, rtol, int(max_nodes), n_jobs, verbose)
    certificate = problem.certificate(
        radii.lower,
        done,
        right,
        bound="interval",
        method=f"exact {n_neighbors}-NN radius",
        upper=radii.upper,
        perturbation=radii.perturbation,
        adversarial_label=radii.adversarial_label,
    )
    status, upper = certificate.status, certificate.upper
    assert upper is not None
    # a point that is predicted wrong is its own adversarial example, unless the adversary wants
    # another class: then no example is known of it
    wrong = status == "misclassified"
    if wrong.any():
        some = safe_indexing(problem.table.given, np.flatnonzero(wrong))
        radii.adversarial_label[wrong] = predicted = problem.predict(some)
        reached = certificate.target is None or predicted == certificate.target
        upper[wrong], radii.perturbation[wrong] = np.where(reached, 0.0, np.inf), 0.0
    close = (status == "certified") & (upper <= (1 + rtol) * certificate.radius)
    status[close] = "exact"
    return certificate


def _by_cells(
    problem: CertificationProblem, n_jobs: int | None, verbose: int
) -> tuple[ExactRadii, np.ndarray, np.ndarray | None]:
    """Return exact 1-NN radii, which points were reached, which are right (None: by radius)."""
    job = CellJob.of(problem)
    radii = _only_lower(problem, job.bound.known())
    done = run_job(job, job.bound.batches(), len(radii.lower), radii.put, n_jobs, verbose)
    return radii, done, None


def _by_votes(
    problem: CertificationProblem, rtol: float, max_nodes: int, n_jobs: int | None, verbose: int
) -> tuple[ExactRadii, np.ndarray, np.ndarray]:
    """Return exact K-NN radii, which points were reached and which are right."""
    lower, reached = lower_bound(BoundJob.of(problem), n_jobs, verbose)
    right = problem.right()
    radii = _only_lower(problem, lower)
    if reached.all():  # not interrupted
        rows = np.flatnonzero(right & np.isfinite(lower))
        batches = [rows[part] for part in row_batches(0, len(rows), 1, _TOGETHER)]
        job = VoteJob(problem, lower, rtol, max_nodes)
        run_job(job, batches, len(lower), radii.put, n_jobs, verbose)
    # what the search did not reach keeps its lower bound
    return radii, reached, right


def _only_lower(problem: CertificationProblem, lower: np.ndarray) -> ExactRadii:
    # labels where there is no example: what a radius proves; the victim says the others
    labels = problem.rule.classes[np.maximum(problem.labels, 0)]
    return ExactRadii.unknown(lower, problem.queries.raw.shape[1], labels)
