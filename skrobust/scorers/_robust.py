"""Scorers of robustness under an attack; every number is an upper bound on the truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from skrobust.attacks import AttackResult, BaseAttack, BaseEmbeddingAttack
from skrobust.metrics import recall_at_k, robust_accuracy_score
from skrobust.scorers._base import (
    RobustnessScorer,
    by_class,
    check_budgets,
    point_weight,
    shares_by_eps,
)
from skrobust.utils._validation import check_one_eps
from skrobust.utils._weights import check_weight, weighted_mean

__all__ = [
    "make_robust_scorer",
    "robust_accuracy_scorer",
    "robust_curve_scorer",
    "robust_recall_scorer",
]


def _run(attack: BaseAttack, estimator: Any, X: Any, y: Any, eps: Any) -> AttackResult:
    # a clone: a scorer is called many times, and an attack may keep what it was fitted to
    return clone(attack).run(estimator, X, y, eps=eps)


def _score(result: AttackResult, eps: Any, weight: np.ndarray | None) -> Any:
    return robust_accuracy_score(result.minimal_norm, result.correct, eps, sample_weight=weight)


def _check(attack: Any) -> BaseAttack:
    if not isinstance(attack, BaseAttack):
        raise TypeError(f"attack must be an attack of skrobust.attacks; got {attack!r}.")
    return attack


@dataclass(unsafe_hash=True)
class _RobustAccuracy(RobustnessScorer):
    """Scorer of the robust accuracy at one budget."""

    attack: BaseAttack
    eps: float
    balanced: bool

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        weight = point_weight(y, sample_weight, self.balanced)
        return float(_score(_run(self.attack, estimator, X, y, self.eps), self.eps, weight))


@dataclass(unsafe_hash=True)
class _RobustCurve(RobustnessScorer):
    """Scorer of several numbers from one run of an attack."""

    attack: BaseAttack
    eps: tuple[float, ...]
    balanced: bool
    per_class: bool

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None
    ) -> dict[str, float]:
        weight = point_weight(y, sample_weight, self.balanced)
        result = _run(self.attack, estimator, X, y, self.eps)

        def shares(weight: np.ndarray | None) -> dict[str, float]:
            return shares_by_eps("robust", self.eps, lambda eps: _score(result, eps, weight))

        scores = {"accuracy": float(weighted_mean(result.correct, weight))} | shares(weight)
        return scores | (by_class(estimator, y, sample_weight, shares) if self.per_class else {})


@dataclass(unsafe_hash=True)
class _UnderAttack(RobustnessScorer):
    """Scorer of a metric of the predictions at perturbed points."""

    metric: Callable[..., float]
    attack: BaseAttack
    eps: float | None
    sign: int

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        weight = check_weight(sample_weight, len(y))
        given = {} if weight is None else {"sample_weight": weight}
        result = _run(self.attack, estimator, X, y, self.eps)
        return self.sign * float(self.metric(y, result.predicted, **given))


@dataclass(unsafe_hash=True)
class _RobustRecall(RobustnessScorer):
    """Scorer of Recall@K of perturbed queries in the clean gallery."""

    attack: BaseEmbeddingAttack
    k: int
    balanced: bool

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        weight = point_weight(y, sample_weight, self.balanced)
        result = clone(self.attack).run(estimator, X, y)
        Z, queries = result.embedding, result.embedding_adv
        return float(recall_at_k(Z, y, self.k, queries=queries, sample_weight=weight))


def robust_recall_scorer(
    attack: BaseEmbeddingAttack, k: int = 1, *, balanced: bool = False
) -> _RobustRecall:
    """Make a scorer of the Recall@K of a transformer whose queries are attacked.

    Parameters
    ----------
    attack : EmbeddingShift, EmbeddingTargets or RankingAttack
        With a budget in its threat model.
    k : int, default=1
        K.
    balanced : bool, default=False
        Whether the classes of the queries count the same, however many queries each has.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable. Every point in turn is the query, perturbed; the others are clean. An upper
        bound on the robust recall, larger is better.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import EmbeddingTargets
    >>> from skrobust.scorers import robust_recall_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = EmbeddingTargets(
    ...     threat_model=ThreatModel(eps=2.0), targets="other_class", random_state=0
    ... )
    >>> bool(robust_recall_scorer(attack)(PCA(2).fit(X), X, y) < 0.8)
    True
    """
    if not isinstance(attack, BaseEmbeddingAttack):
        raise TypeError(f"attack must be an attack on embeddings; got {attack!r}.")
    return _RobustRecall(attack, k, balanced)


def robust_accuracy_scorer(
    attack: BaseAttack, eps: float, *, balanced: bool = False
) -> _RobustAccuracy:
    """Make a scorer of the accuracy under an attack.

    Parameters
    ----------
    attack : attack
        Its threat model says what may be changed.
    eps : float
        Budget, finite, ≥ 0.
    balanced : bool, default=False
        Whether the score is the mean over classes of their own shares, as in scikit-learn's
        ``balanced_accuracy_score``: a rare class then counts as much as a frequent one.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable; for ``scoring=``. An upper bound on robust accuracy, larger is better.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from skrobust.attacks import PGD
    >>> from skrobust.scorers import robust_accuracy_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = robust_accuracy_scorer(PGD(random_state=0), eps=0.3)
    >>> len(cross_val_score(LogisticRegression(max_iter=1000), X, y, scoring=scorer))
    5
    """
    return _RobustAccuracy(_check(attack), check_one_eps(eps), balanced)


def robust_curve_scorer(
    attack: BaseAttack, eps: Iterable[float], *, balanced: bool = False, per_class: bool = False
) -> _RobustCurve:
    """Make a scorer that attacks once and returns a dict of scores.

    Parameters
    ----------
    attack : attack
        Its threat model says what may be changed.
    eps : iterable of float
        Budgets, finite, ≥ 0, no two alike.
    balanced : bool, default=False
        Whether all scores are means over classes of their own means.
    per_class : bool, default=False
        Whether there is a share for each class, too, its recall: ``"robust@<eps>[<label>]"``. NaN
        where a class has no points.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> dict``
        With the keys ``"accuracy"`` and ``"robust@<eps>"`` for each budget; for
        ``cross_validate`` and for a search with ``refit="robust@<eps>"``. The attack runs once; a
        point is attacked at the next larger budget where it withstood.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.attacks import PGD
    >>> from skrobust.scorers import robust_curve_scorer
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> scores = robust_curve_scorer(PGD(), [0.2, 0.5])(knn, [[0.0], [0.7]], [0, 0])
    >>> scores["robust@0.2"], scores["robust@0.5"]
    (1.0, 0.5)
    """
    budgets = tuple(sorted(check_budgets(eps)))
    return _RobustCurve(_check(attack), budgets, balanced, per_class)


def make_robust_scorer(
    metric: Callable[..., float],
    attack: BaseAttack,
    *,
    eps: float | None = None,
    greater_is_better: bool = True,
) -> _UnderAttack:
    """Make a scorer of any metric of labels, under an attack.

    Parameters
    ----------
    metric : callable ``(y_true, y_pred) -> float``
        Such as ``sklearn.metrics.balanced_accuracy_score``. It gets ``sample_weight=`` where the
        scorer does.
    attack : attack
        With a budget in its threat model, unless `eps` is given.
    eps : float, default=None
        Budget in place of the threat model's.
    greater_is_better : bool, default=True
        Otherwise the sign is changed, as in scikit-learn's ``make_scorer``.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable.

    Examples
    --------
    >>> from sklearn.metrics import balanced_accuracy_score
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.attacks import PGD
    >>> from skrobust.scorers import make_robust_scorer
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> scorer = make_robust_scorer(balanced_accuracy_score, PGD(), eps=0.5)
    >>> scorer(knn, [[0.0], [0.7], [2.0]], [0, 0, 1])
    0.75
    """
    if not callable(metric):
        raise TypeError(f"metric must be callable; got {metric!r}.")
    budget = None if eps is None else check_one_eps(eps)
    model = _check(attack).threat_model
    if budget is None and model is not None and model.eps is None:
        raise ValueError("eps must be given, here or in the attack's threat model; got None.")
    return _UnderAttack(metric, _check(attack), budget, 1 if greater_is_better else -1)
