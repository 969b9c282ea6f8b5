"""Is the score of an embedding to be trusted? A shift that gradients cannot see looks robust."""

from typing import Any

import numpy as np
from sklearn.base import clone

from skrobust.attacks import (
    EmbeddingAttackResult,
    EmbeddingNoise,
    EmbeddingShift,
)
from skrobust.inspection._finding import (
    CHANCE,
    MANY,
    HealthFinding,
    beyond_the_data,
    finding,
    not_checked,
    randomness,
    sign_test,
    zero_gradients,
)
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import safe_indexing

__all__ = ["ranking_health"]

_COLLAPSED = 0.05  # spread of embeddings of norm 1


def ranking_health(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    attack: EmbeddingShift,
    results: dict[str, EmbeddingAttackResult],
) -> list[HealthFinding]:
    """Check the attacks of a ranking report.

    Parameters
    ----------
    estimator : fitted transformer
    X : array-like or data frame of shape (n_samples, n_features)
        Clean points.
    y : ndarray of shape (n_samples,)
    attack : EmbeddingShift
    results : dict of str to EmbeddingAttackResult
        Those of "ES", which is `attack`'s, and of "TMA": two whose gradient never is 0 by rights.

    Returns
    -------
    list of HealthFinding
    """
    shift = results["ES"]
    shares = [float(one.diagnostics["zero_gradient"].mean()) for one in results.values()]
    advice = (
        "The attacks are blind there: look for rounding, saturation or a step that is not "
        "differentiable, and do not believe the score."
    )
    return [
        _randomness(estimator, X, shift),
        _collapse(shift),
        zero_gradients(shares, "points", advice),
        _control(estimator, X, attack, shift),
        _reaches_others(estimator, X, y, attack),
    ]


def _randomness(estimator: Any, X: Any, result: EmbeddingAttackResult) -> HealthFinding:
    again = np.asarray(estimator.transform(X), dtype=np.float64).reshape(result.embedding.shape)
    changed = float((np.abs(again - result.embedding).max(axis=1) > 1e-4).mean())
    return randomness("embeddings", changed)


def _collapse(result: EmbeddingAttackResult) -> HealthFinding:
    z = result.embedding
    spread = float(np.sqrt(np.square(z - z.mean(axis=0)).sum(axis=1).mean()))
    message = f"The embeddings have a spread of {spread:.2g} around their mean."
    advice = "They have collapsed, which the score rewards: little moves, and little is shown."
    return finding("collapse", spread < _COLLAPSED, message, advice)


def _control(
    estimator: Any, X: Any, attack: EmbeddingShift, result: EmbeddingAttackResult
) -> HealthFinding:
    """Compare the shift with that of noise, which chooses nothing and has to lose."""
    noise = EmbeddingNoise(threat_model=attack.threat_model, random_state=0)
    moved, shift = noise.run(estimator, X).value, result.value
    wins, losses = int((moved > shift).sum()), int((shift > moved).sum())
    message = (
        f"Random noise moves {wins / len(moved):.1%} of the embeddings farther than the attack."
    )
    advice = "Gradients mislead here, and the score with them."
    return finding("noise against attacks", sign_test(wins, losses, CHANCE), message, advice)


def _reaches_others(estimator: Any, X: Any, y: np.ndarray, attack: EmbeddingShift) -> HealthFinding:
    """Give an attack a budget that reaches any point: embeddings have to leave their class."""
    name = "embeddings leave their class"
    model = ThreatModel.of(attack.threat_model)
    rows, budget, wide = beyond_the_data(estimator, X, model)
    labels = y[rows]
    other = labels[:, None] != labels
    if not other.any(axis=1).all() or not (budget.scale > 0).any():
        return not_checked(name, "There is one class only, or nothing that may be changed.")
    strong = clone(attack).set_params(threat_model=clone(model).set_params(eps=wide))
    result = strong.run(estimator, safe_indexing(X, rows))
    z = result.embedding
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)  # (n_rows, n_rows)
    nearest = np.where(other, distances, np.inf).min(axis=1)
    stay = float((result.value < nearest).mean())
    message = (
        f"At a budget of {wide:.3g}, wider than the data, {stay:.1%} of the embeddings move less "
        "far than to the nearest one of another class."
    )
    advice = "Bounds or immutable features may be the reason; if not, the attack fails."
    return finding(name, stay > MANY, message, advice)
