r"""Attacks on nearest-neighbour classifiers that use their training points.

With x = x₀ + s ∘ η and squared distances D, "point j is at least as near as point i" is the
half-space

    2 (V_i − V_j) η ≤ D_i(x₀) − D_j(x₀),        V = Z A diag(s),

so the smallest perturbation that brings given points in front of others is a small program.
"""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from skrobust.adapters import NearestNeighborRule
from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem, Victim
from skrobust.certificates import certify_rule
from skrobust.numerics import least_norm
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval

__all__ = ["ExactNeighborAttack", "GreedyNeighborAttack", "NeighborDirectionAttack"]

# rows that are added to a program at once, and how often
_VIOLATED, _ROUNDS = 4, 60
_BEYOND = 1e-6


class ExactNeighborAttack(BaseAttack):
    """The smallest perturbation that there is, for k-NN behind affine steps.

    The adversarial examples of :func:`skrobust.certificates.exact_nearest_neighbor_radius`.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    threat_model : ThreatModel, default=None
        What may be changed; None is ``ThreatModel()``. Larger perturbations than its `eps` do not
        count; None there is no limit. Whole numbers and one-hot groups are refused.
    rtol : float, default=1e-3
        As in the exact search, for more than one neighbour.
    max_nodes : int, default=1000
        As in the exact search, for more than one neighbour.
    batch_size : int, default=128
        Rows that are attacked together.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".
    n_jobs : int, default=None
        Jobs for joblib.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ExactNeighborAttack
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> ExactNeighborAttack(threat_model=ThreatModel()).run(knn, [[0.5, 0.3]], [0]).success
    array([ True])
    """

    minimum_norm = uses_training_points = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "rtol": [Interval(Real, 0, None, closed="left")],
        "max_nodes": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        rtol: float = 1e-3,
        max_nodes: int = 1000,
        batch_size: int = 128,
        device: str = "cpu",
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.rtol = rtol
        self.max_nodes = max_nodes
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _prepare(self, victim: Victim) -> None:
        _check_columns(victim)

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        victim = problem.victim
        certificate = certify_rule(
            victim.rule,
            victim.estimator,
            victim.table.rebuild(problem.raw, problem.rows),
            problem.y,
            threat_model=victim.threat_model,
            method="exact",
            rtol=self.rtol,
            max_nodes=self.max_nodes,
            device=self.device,
        )
        if certificate.perturbation is None:
            return problem.raw
        return problem.raw + certificate.perturbation


class _CandidateAttack(BaseAttack):
    """Attacks that try a few training points of other classes."""

    minimum_norm = uses_training_points = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_candidates": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        n_candidates: int = 10,
        batch_size: int = 128,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.n_candidates = n_candidates
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _prepare(self, victim: Victim) -> None:
        _check_columns(victim)


class GreedyNeighborAttack(_CandidateAttack):
    """The smallest perturbation toward each of a few candidate neighbours, for k-NN.

    For one of the nearest points j of another class, the K // 2 + 1 points of its class nearest
    to it are to come in front of the label's points, of which those nearest to j may stay.
    Published for K > 1 as a greedy choice of the set (Wang et al., *Evaluating the robustness of
    nearest neighbor classifiers: a primal-dual perspective*, 2019); here each set's program is
    solved in the norm of the threat model.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    threat_model : ThreatModel, default=None
        What may be changed; None is ``ThreatModel()``. Larger perturbations than its `eps` do not
        count; None there is no limit.
    n_candidates : int, default=10
        Points j that are tried, in the order of their distances.
    batch_size : int, default=128
        Rows that are attacked together.
    n_jobs : int, default=None
        Jobs for joblib.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import GreedyNeighborAttack
    >>> knn = KNeighborsClassifier(3).fit([[0.0], [0.1], [0.2], [2.0], [2.1]], [0, 0, 0, 1, 1])
    >>> attack = GreedyNeighborAttack(threat_model=ThreatModel())
    >>> attack.run(knn, [[0.2]], [0]).perturbation_norm.round(3)
    array([0.9])
    """

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        view = _View(problem)
        candidates = np.repeat(problem.raw[None], self.n_candidates, axis=0)
        best = np.full(len(problem.raw), np.inf)
        for t in range(len(problem.raw)):
            for k, j in enumerate(view.others(t)[: self.n_candidates]):
                eta = view.bring_forward(t, int(j))
                if eta is None or np.linalg.norm(eta, ord=problem.budget.norm) > best[t] * 1.01:
                    continue
                candidates[k, t] += view.scale * eta * (1 + _BEYOND)
                if problem.is_adversarial(candidates[k, t : t + 1], slice(t, t + 1))[0]:
                    best[t] = min(best[t], np.linalg.norm(eta, ord=problem.budget.norm))
        return candidates


class NeighborDirectionAttack(_CandidateAttack):
    """Straight toward the nearest training points of other classes, as far as is needed.

    The simplest attack that knows the training points; in ℓ₂, for 1-NN, at most twice as far as
    the nearest of them needs.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    threat_model : ThreatModel, default=None
        What may be changed; None is ``ThreatModel()``. Larger perturbations than its `eps` do not
        count; None there is no limit.
    n_candidates : int, default=10
        Points that are tried, in the order of their distances.
    batch_size : int, default=128
        Rows that are attacked together.
    n_jobs : int, default=None
        Jobs for joblib.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import NeighborDirectionAttack
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> attack = NeighborDirectionAttack(threat_model=ThreatModel())
    >>> attack.run(knn, [[0.5, 0.0]], [0]).perturbation_norm.round(4)
    array([0.5])
    """

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        view = _View(problem)
        back = np.linalg.pinv(view.rows)
        candidates = np.repeat(problem.raw[None], self.n_candidates, axis=0)
        for t in range(len(problem.raw)):
            toward = view.others(t)[: self.n_candidates]
            steps = (view.Z[toward] - view.z[t]) @ back.T
            candidates[: len(toward), t] += view.scale * steps
        return candidates


def _check_columns(victim: Victim) -> None:
    """Raise where a victim is no nearest-neighbour rule, or a column has no numbers."""
    table = victim.table
    if (~table.numeric & ~victim.rule.ignored).any():
        raise TypeError(
            "X must hold numbers in every column that the estimator does not drop; got others in "
            f"{table.fixed_columns}."
        )


class _View:
    """A nearest-neighbour rule, seen from some rows."""

    def __init__(self, problem: AttackProblem):
        rule: NearestNeighborRule = problem.victim.rule
        self.problem, self.rule, self.scale = problem, rule, problem.budget.scale
        matrix = np.eye(rule.n_features_in) if rule.matrix is None else rule.matrix
        self.rows = matrix * self.scale  # A diag(s)
        self.Z, self.labels = rule.points, rule.labels
        self.z = rule.embed(problem.victim.table.rebuild(problem.raw, problem.rows)).points
        self.own = np.searchsorted(rule.classes, problem.y)
        self.V = self.Z @ self.rows
        self.box = None
        if problem.budget.bounded:
            self.box = problem.budget.scaled_box(problem.raw)

    def others(self, t: int) -> np.ndarray:
        """Return the training points of other classes, the nearest to row t first."""
        rows = np.flatnonzero(self.labels != self.own[t])
        D = ((self.Z[rows] - self.z[t]) ** 2).sum(1)
        return rows[np.argsort(D, kind="stable")]

    def bring_forward(self, t: int, j: int) -> np.ndarray | None:
        """Return the least η that brings point j and its like in front of the label's points."""
        K = self.rule.n_neighbors
        if not (self.scale > 0).any():
            return None
        needed = min(K // 2 + 1, K)
        same = np.flatnonzero(self.labels == self.labels[j])
        own = np.flatnonzero(self.labels != self.labels[j])
        if len(same) < needed:
            return None
        near_j = ((self.Z[same] - self.Z[j]) ** 2).sum(1)
        front = same[np.argsort(near_j, kind="stable")[:needed]]
        D = ((self.Z - self.z[t]) ** 2).sum(1)
        # the K − needed others that may stay in front: those nearest to j and to the row
        stay = K - needed
        order = np.argsort(((self.Z[own] - self.Z[j]) ** 2).sum(1) + D[own], kind="stable")
        behind = own[order[stay:]]
        if len(behind) == 0:
            return None
        active = [(int(u), int(w)) for u in front for w in behind[:_VIOLATED]]
        free = self.scale > 0
        box = (None, None) if self.box is None else (self.box[0][t][free], self.box[1][t][free])
        eta = None
        for _ in range(_ROUNDS):
            u, w = np.array(active).T
            C, h = 2 * (self.V[w] - self.V[u])[:, free], D[w] - D[u]
            # beyond the tie by a little
            nearest = least_norm(C, h - _BEYOND * np.abs(h).max(), self.problem.budget.norm, *box)
            if nearest.point is None:
                return None
            eta = np.zeros(len(free))
            eta[free] = nearest.point
            moved = D - 2 * self.V @ eta  # without what all points share
            last = front[np.argmax(moved[front])]
            excess = moved[last] - moved[behind]
            worst = np.argsort(-excess, kind="stable")[:_VIOLATED]
            fresh = [
                (int(last), int(behind[i]))
                for i in worst
                if excess[i] > 0 and (int(last), int(behind[i])) not in active
            ]
            if not fresh:
                return eta
            active += fresh
        return eta
