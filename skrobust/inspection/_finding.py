"""Findings of health checks, and the checks that classifiers and embeddings share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from skrobust.attacks import resolve_budget, resolve_eps
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._fitted_table import read_table

__all__ = [
    "CHANCE",
    "MANY",
    "CheckedReport",
    "HealthFinding",
    "beyond_the_data",
    "finding",
    "not_checked",
    "randomness",
    "sign_test",
    "zero_gradients",
]

MANY = 0.05  # share of points that speaks against an evaluation
CHANCE = 0.01  # of a false alarm, for one check
_SAMPLE = 100  # rows for a check that needs no more


@dataclass(frozen=True)
class HealthFinding:
    """One check of an evaluation.

    Attributes
    ----------
    name : str
        What was checked.
    flagged : bool
        Whether it speaks against the evaluation.
    message : str
        The result, and what to do.
    checked : bool
        Whether there was something to check; if not, nothing speaks for the evaluation either.
    """

    name: str
    flagged: bool
    message: str
    checked: bool = True

    @property
    def mark(self) -> str:
        """Sign in the report: "!" flagged, "ok" passed, "--" nothing to check."""
        if self.flagged:
            return "!"
        return "ok" if self.checked else "--"

    def __str__(self) -> str:
        return f"[{self.mark}] {self.name}: {self.message}"


class CheckedReport:
    """Base class of reports with a section on their own health."""

    health: list[HealthFinding]

    @property
    def healthy(self) -> bool:
        """Whether no check of the evaluation is flagged."""
        return not any(one.flagged for one in self.health)


def finding(name: str, flagged: bool, message: str, advice: str = "") -> HealthFinding:
    """Return a finding whose message ends with advice where it is flagged."""
    return HealthFinding(name, bool(flagged), f"{message} {advice}" if flagged else message)


def not_checked(name: str, message: str) -> HealthFinding:
    """Return the finding of a check that had nothing to check."""
    return HealthFinding(name, False, message, checked=False)


def randomness(outputs: str, changed: float, advice: str = "") -> HealthFinding:
    """Check that a victim says the same twice; `changed` is the share of points where not."""
    message = f"Two {outputs} of the same points agree."
    if changed:
        message = f"Two {outputs} of the same points differ for {changed:.1%} of them.{advice}"
    return HealthFinding("randomness", changed > 0, message)


def zero_gradients(shares: Sequence[float], points: str, advice: str) -> HealthFinding:
    """Check the shares of points at which attacks see no gradient in their first step."""
    if not shares:
        return not_checked("zero gradients", "No attack by gradients had a point to move.")
    share = max(shares)
    message = f"The first gradient is 0 for {share:.1%} of the {points}."
    return finding("zero gradients", share > MANY, message, advice)


def sign_test(wins: int, losses: int, chance: float) -> bool:
    """Whether one side wins more often than one that has half of the wins, beyond chance."""
    return wins > 0 and float(binom.sf(wins - 1, wins + losses, 0.5)) < chance


def beyond_the_data(
    estimator: Any, X: Any, threat_model: ThreatModel, eps: float | None = None
) -> tuple[np.ndarray, FeatureBudget, float]:
    """Return rows, spread evenly, the threat model for X, and a budget that reaches all points.

    An attack that fails even there is broken. `eps` is a budget to exceed; None is that of the
    threat model.
    """
    table = read_table(X, estimator)
    budget = resolve_budget(threat_model, table)
    eps = resolve_eps(threat_model, budget, table) if eps is None else eps
    rows = np.linspace(0, len(table.values) - 1, min(len(table.values), _SAMPLE)).astype(int)
    movable = budget.scale > 0
    if not movable.any():
        return rows, budget, 10 * eps
    span = np.ptp(table.values[:, movable], axis=0) / budget.scale[movable]
    return rows, budget, max(10 * eps, 4 * float(np.linalg.norm(span, ord=budget.norm)))
