"""The ten numbers of the ranking literature, and their mean."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from skrobust.attacks import (
    BlindAttackWarning,
    EmbeddingShift,
    EmbeddingTargets,
    RankingAttack,
)
from skrobust.inspection._finding import CheckedReport, HealthFinding
from skrobust.inspection._ranking_health import ranking_health
from skrobust.metrics import empirical_robustness_score, recall_at_k
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once

__all__ = ["RankingReport", "ranking_report"]

_UNIT = 1e-3


@dataclass(frozen=True)
class RankingReport(CheckedReport):
    """How an embedding holds up as a ranking.

    Attributes
    ----------
    recall : float
        Recall@1 of the clean embedding, without which the score says nothing.
    score : float
        The empirical robustness score, 0 to 100.
    results : dict of str to float
        The ten results that it is the mean of.
    health : list of HealthFinding
        Whether to believe the attacks: gradients that vanish, noise that moves embeddings farther,
        embeddings that stay where any point can be reached, or that have collapsed.
    """

    recall: float
    score: float
    results: dict[str, float]
    health: list[HealthFinding] = field(default_factory=list)

    def __str__(self) -> str:
        parts = "  ".join(f"{name} {value:.2f}" for name, value in self.results.items())
        lines = [f"Recall@1 {self.recall:.3f} (clean)  ERS {self.score:.1f}", parts]
        return "\n".join([*lines, *map(str, self.health)])


@names_missed_once()
def ranking_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    threat_model: ThreatModel,
    max_iter: int = 32,
    gradient: str = "exact",
    random_state: Any = 0,
) -> RankingReport:
    """Attack an embedding in the nine ways of the ranking literature, score it, and check that.

    Parameters
    ----------
    estimator : fitted transformer
        Its embeddings must have norm 1.
    X : array-like of shape (n_samples, n_features)
        Points; each in turn is perturbed, the others are the clean gallery.
    y : array-like of shape (n_samples,)
        Labels.
    threat_model : ThreatModel
        With a budget.
    max_iter : int, default=32
        Steps of each attack.
    gradient : {"exact", "nes"}, default="exact"
        "nes" estimates it from `transform` alone.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    RankingReport

    Raises
    ------
    ValueError
        If the embeddings have another norm than 1: the score is not defined for them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.inspection import ranking_report
    >>> X, y = load_iris(return_X_y=True)
    >>> ranking_report(StandardScaler().fit(X), X, y, threat_model=ThreatModel(eps=0.1))
    Traceback (most recent call last):
    ...
    ValueError: estimator must give embeddings of norm 1; got norms from 0.333 to 3.54.
    """
    clean = np.asarray(estimator.transform(X), dtype=np.float64)
    norms = np.linalg.norm(clean, axis=1)
    if not (np.abs(norms - 1) <= _UNIT).all():
        raise ValueError(
            "estimator must give embeddings of norm 1; got norms from "
            f"{norms.min():.3g} to {norms.max():.3g}."
        )
    common = {
        "threat_model": threat_model,
        "max_iter": max_iter,
        "gradient": gradient,
        "random_state": random_state,
    }
    labels = column_or_1d(y)
    shift = EmbeddingShift(**common)
    with warnings.catch_warnings():
        # the health section says it
        warnings.simplefilter("ignore", BlindAttackWarning)
        results, attacked = {}, {}
        for kind in ("CA+", "CA-", "QA+", "QA-", "LTM", "GTM", "GTT"):
            value = RankingAttack(kind=kind, **common).run(estimator, X, labels).value.mean()
            # the last three report hits
            results[kind] = float(value if kind[1] == "A" else 100 * value)
        attacked["TMA"] = EmbeddingTargets(**common).run(estimator, X, labels)
        attacked["ES"] = shift.run(estimator, X, labels)
        health = ranking_health(estimator, X, labels, shift, attacked)
    results["TMA"] = float(attacked["TMA"].value.mean())
    results["ES:D"] = float(attacked["ES"].value.mean())
    results["ES:R"] = 100 * float(recall_at_k(clean, labels, queries=attacked["ES"].embedding_adv))
    score = empirical_robustness_score(results)
    return RankingReport(float(recall_at_k(clean, labels)), score, results, health)
