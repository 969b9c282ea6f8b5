"""Is the score of an embedding to be trusted? A shift that gradients cannot see looks robust."""

from typing import Any

import numpy as np
from sklearn.base import clone

from skrobust.attacks import (
    EmbeddingAttackResult,
    EmbeddingNoise,
    EmbeddingShift,
    resolve_budget,
    threat_model_or_default,
)
from skrobust.inspection._health import (
    CHANCE,
    MANY,
    HealthFinding,
    not_checked,
    sample_rows,
    sign_test,
    wide_eps,
)
from skrobust.utils._fitted_table import read_table
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._validation import check_one_eps

__all__ = ["ranking_health"]

_COLLAPSED = 0.05  # spread of embeddings of norm 1


def ranking_health(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    attack: EmbeddingShift,
    found: dict[str, EmbeddingAttackResult],
) -> list[HealthFinding]:
    """Check the attacks of a ranking report.

    Parameters
    ----------
    estimator : fitted transformer
    X : array-like or data frame of shape (n_samples, n_features)
        Clean points.
    y : ndarray of shape (n_samples,)
    attack : EmbeddingShift
    found : dict of str to EmbeddingAttackResult
        Those of "ES", which is `attack`'s, and of "TMA": two whose gradient never is 0 by rights.

    Returns
    -------
    list of HealthFinding
    """
    return [
        _randomness(estimator, X, found["ES"]),
        _collapse(found["ES"]),
        _gradients(found),
        _control(estimator, X, attack, found["ES"]),
        _reaches_others(estimator, X, y, attack),
    ]


def _randomness(estimator: Any, X: Any, found: EmbeddingAttackResult) -> HealthFinding:
    again = np.asarray(estimator.transform(X), dtype=np.float64).reshape(found.embedding.shape)
    changed = float((np.abs(again - found.embedding).max(axis=1) > 1e-4).mean())
    message = "Two embeddings of the same points agree."
    if changed:
        message = f"Two embeddings of the same points differ for {changed:.1%} of them."
    return HealthFinding("randomness", changed > 0, message)


def _collapse(found: EmbeddingAttackResult) -> HealthFinding:
    z = found.embedding
    spread = float(np.sqrt(np.square(z - z.mean(axis=0)).sum(axis=1).mean()))
    message = f"The embeddings have a spread of {spread:.2g} around their mean."
    if spread < _COLLAPSED:
        message += (
            " They have collapsed, which the score rewards: little moves, and little is told."
        )
    return HealthFinding("collapse", spread < _COLLAPSED, message)


def _gradients(found: dict[str, EmbeddingAttackResult]) -> HealthFinding:
    share = max(float(result.diagnostics["zero_gradient"].mean()) for result in found.values())
    message = f"The first gradient is 0 for {share:.1%} of the points."
    if share > MANY:
        message += (
            " The attacks are blind there: look for rounding, saturation or a step that is not "
            "differentiable, and do not believe the score."
        )
    return HealthFinding("zero gradients", share > MANY, message)


def _control(
    estimator: Any, X: Any, attack: EmbeddingShift, found: EmbeddingAttackResult
) -> HealthFinding:
    """Compare the shift with that of noise, which chooses nothing and has to lose."""
    noise = EmbeddingNoise(threat_model=attack.threat_model, random_state=0)
    shift = noise.run(estimator, X).value
    wins, losses = (int((a > b).sum()) for a, b in ((shift, found.value), (found.value, shift)))
    flagged = sign_test(wins, losses, CHANCE)
    message = (
        f"Random noise moves {wins / len(shift):.1%} of the embeddings farther than the attack"
    )
    message += ": gradients mislead here, and the score with them." if flagged else "."
    return HealthFinding("noise against attacks", flagged, message)


def _reaches_others(estimator: Any, X: Any, y: np.ndarray, attack: EmbeddingShift) -> HealthFinding:
    """Give an attack a budget that reaches any point: embeddings have to leave their class."""
    name = "embeddings leave their class"
    rows = sample_rows(len(y))
    labels = y[rows]
    other = labels[:, None] != labels
    model = threat_model_or_default(attack.threat_model)
    budget = resolve_budget(model, X, estimator)
    if not other.any(axis=1).all() or not (budget.scale > 0).any():
        return not_checked(name, "There is one class only, or nothing that may be changed.")
    wide = wide_eps(budget, read_table(X, estimator).values, check_one_eps(model.eps))
    strong = clone(attack).set_params(threat_model=clone(model).set_params(eps=wide))
    found = strong.run(estimator, safe_indexing(X, rows))
    z = found.embedding
    apart = np.linalg.norm(z[:, None] - z[None], axis=2)
    held = float((found.value < np.where(other, apart, np.inf).min(axis=1)).mean())
    message = (
        f"At a budget of {wide:.3g}, wider than the data, {held:.1%} of the embeddings move less "
        "far than to the nearest one of another class."
    )
    if held > MANY:
        message += " Bounds or immutable features may be the reason; if not, the attack fails."
    return HealthFinding(name, held > MANY, message)
