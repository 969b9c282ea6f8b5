"""Is an evaluation by attacks to be trusted? What betrays a defence that only looks robust.

The signs are those that Athalye, Carlini and Wagner (*Obfuscated gradients give a false sense of
security*, ICML 2018) and Carlini et al. (*On evaluating adversarial robustness*, 2019) list.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skrobust.adapters import NotDifferentiableError
from skrobust.attacks import (
    AttackResult,
    BaseAttack,
    NoiseAttack,
    checked_scores,
    resolve_budget,
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
from skrobust.utils._fitted_table import read_table
from skrobust.utils._sklearn import safe_indexing

__all__ = ["evaluation_health"]

_FEW = 0.01  # share of points that may disagree by ties and rounding
_MOST = 0.25


def evaluation_health(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    threat_model: ThreatModel,
    attacks: Mapping[str, BaseAttack],
    results: Mapping[str, AttackResult],
    eps: Any,
) -> list[HealthFinding]:
    """Check an evaluation.

    Parameters
    ----------
    estimator : fitted classifier
    X : array-like or data frame of shape (n_samples, n_features)
        Clean points.
    y : ndarray of shape (n_samples,)
    threat_model : ThreatModel
    attacks : mapping of str to attack
    results : mapping of str to AttackResult
        What these attacks reached, on all points.
    eps : float or array-like of shape (n_eps,)
        The budgets.

    Returns
    -------
    list of HealthFinding
    """
    white = [name for name, attack in attacks.items() if attack.white_box]
    white.sort(key=lambda name: not attacks[name].uses_gradients)
    budgets = np.atleast_1d(eps)
    largest = float(budgets.max())
    findings = [
        _randomness(estimator, X, results),
        _audit(estimator, X, threat_model, attacks, results, largest),
        _control(attacks, results, budgets),
    ]
    if white:
        findings.append(_gradients(results, white))
        findings.append(_black_box(results, white, budgets))
        findings.append(_surrogate(estimator, X))
        findings.append(_reaches_zero(estimator, X, y, threat_model, attacks[white[0]], largest))
    else:
        findings.append(_no_white_box(estimator, X))
    return findings


def _no_white_box(estimator: Any, X: Any) -> HealthFinding:
    name = "attacks by gradients"
    message = (
        "None ran. Attacks by predictions alone are weaker: the robust accuracy is a loose bound."
    )
    try:
        checked_scores(estimator, X)
    except (NotDifferentiableError, ValueError):
        return not_checked(name, f"{message} No gradients are known for this estimator.")
    return finding(name, True, message, "This estimator has gradients: use APGD too.")


def _randomness(estimator: Any, X: Any, results: Mapping[str, AttackResult]) -> HealthFinding:
    changed = float((np.asarray(estimator.predict(X)) != np.asarray(estimator.predict(X))).mean())
    for result in results.values():
        again = np.asarray(estimator.predict(result.X_adv))
        changed = max(changed, float((again != result.predicted).mean()))
    advice = " Attacks see one draw only: fix the randomness, or attack its expectation."
    return randomness("predictions", changed, advice)


def _audit(
    estimator: Any,
    X: Any,
    threat_model: ThreatModel,
    attacks: Mapping[str, BaseAttack],
    results: Mapping[str, AttackResult],
    eps: float,
) -> HealthFinding:
    """Measure the perturbations again, from what was handed back."""
    table = read_table(X, estimator)
    budget = resolve_budget(threat_model, table)
    broken = []
    for name, result in results.items():
        points = table.reread(result.X_adv).clean
        limit = np.inf if attacks[name].minimum_norm else eps
        if not budget.satisfied(table.clean, points, limit).all():
            broken.append(name)
    message = "Every returned point satisfies the threat model, measured again."
    if broken:
        message = f"Points of {broken} break the threat model: a defect of the attack."
    return HealthFinding("eps audit", bool(broken), message)


def _gradients(results: Mapping[str, AttackResult], white: list[str]) -> HealthFinding:
    shares = [
        float(results[name].diagnostics["zero_gradient"][results[name].correct].mean())
        for name in white
        if "zero_gradient" in results[name].diagnostics and results[name].correct.any()
    ]
    advice = (
        "Attacks by gradients are blind there: look for rounding, saturation or a step that "
        "is not differentiable, and believe black-box attacks and transfer."
    )
    return zero_gradients(shares, "right points", advice)


def _control(
    attacks: Mapping[str, BaseAttack], results: Mapping[str, AttackResult], budgets: np.ndarray
) -> HealthFinding:
    """Compare each attack with noise, which chooses nothing and has to lose."""
    noise = [name for name, attack in attacks.items() if isinstance(attack, NoiseAttack)]
    others = [name for name in attacks if name not in noise]
    if not noise or not others or not results[noise[0]].correct.any():
        return not_checked("noise against attacks", "There was nothing to compare with noise.")
    chance = CHANCE / len(others)
    beaten = [name for name in others if _beaten(results, noise, [name], budgets, chance)]
    message = "No attack is beaten by random noise."
    if beaten:
        message = (
            f"Random noise fools more points than {beaten}: an attack that is weaker than its "
            "control says nothing of robustness."
        )
    return HealthFinding("noise against attacks", bool(beaten), message)


def _black_box(
    results: Mapping[str, AttackResult], white: list[str], budgets: np.ndarray
) -> HealthFinding:
    check = "black box against white box"
    black = [name for name in results if name not in white]
    correct = next(iter(results.values())).correct
    if not black or not correct.any():
        return not_checked(check, "No black-box attack had a point to move.")
    flagged = _beaten(results, black, white, budgets, CHANCE)
    alone = max(wins for wins, _ in _alone(results, black, white, budgets)) / len(correct)
    message = f"Attacks by predictions alone fool up to {alone:.1%} of points that others miss"
    message += (
        ", more than the reverse. Gradients mislead here: believe the worst attack, not one alone."
        if flagged
        else ", as chance may have it."
    )
    return HealthFinding(check, flagged, message)


def _alone(
    results: Mapping[str, AttackResult], some: list[str], others: list[str], budgets: np.ndarray
) -> list[tuple[int, int]]:
    """Return, for each budget, how many points only the ones fool, and how many only the others."""
    mine, theirs = (
        np.min([results[name].minimal_norm for name in names], axis=0) <= budgets[:, None]
        for names in (some, others)
    )
    wins, losses = (mine & ~theirs).sum(axis=1), (theirs & ~mine).sum(axis=1)
    return list(zip(wins.tolist(), losses.tolist(), strict=True))


def _beaten(
    results: Mapping[str, AttackResult],
    some: list[str],
    others: list[str],
    budgets: np.ndarray,
    chance: float,
) -> bool:
    """Whether the ones are stronger than the others at some budget, beyond chance.

    A sign test: of the points that only one of two equally strong attacks fools, each has half.
    """
    counts = _alone(results, some, others, budgets)
    return any(sign_test(wins, losses, chance / len(budgets)) for wins, losses in counts)


def _surrogate(estimator: Any, X: Any) -> HealthFinding:
    try:
        scores = checked_scores(estimator, X)
    except (NotDifferentiableError, ValueError):
        return not_checked("surrogate", "No scores were differentiated.")
    with torch.no_grad():
        x = torch.as_tensor(read_table(X, estimator).clean, dtype=scores.dtype)
        guessed = scores.classes[scores(x).argmax(1).cpu().numpy()]
    differ = float((guessed != np.asarray(estimator.predict(X))).mean())
    message = f"The scores that are differentiated disagree with predict on {differ:.1%} of points."
    # a vote of several neighbours has no scores of its own
    flagged = differ > (_MOST if scores.annealed else _FEW)
    return finding("surrogate", flagged, message, "What they say of gradients is of little use.")


def _reaches_zero(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    threat_model: ThreatModel,
    attack: BaseAttack,
    eps: float,
) -> HealthFinding:
    """Give an attack a budget that reaches any point: all predictions have to fall."""
    name = "robust accuracy reaches zero"
    rows, budget, wide = beyond_the_data(estimator, X, threat_model, eps)
    strong = clone(attack).set_params(threat_model=clone(threat_model))
    result = strong.run(estimator, safe_indexing(X, rows), y[rows], eps=wide)
    if not result.correct.any() or len(np.unique(np.asarray(estimator.predict(X)))) == 1:
        return not_checked(name, "No point is right, or all are predicted the same.")
    right = float((result.correct & ~result.success).mean())
    message = f"At a budget of {wide:.3g}, wider than the data, {right:.1%} of points stay right."
    advice = "No classifier is that robust: the attack fails."
    if budget.bounded or budget.discrete.any() or not (budget.scale > 0).all():
        advice = "Bounds or immutable features may be the reason; if not, the attack fails."
    return finding(name, right > MANY, message, advice)
