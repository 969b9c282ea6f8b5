"""The sandwich report: what is proved, what attacks found, and whether to believe it."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import column_or_1d

from skrobust.adapters import (
    NotDifferentiableError,
    as_nearest_neighbor_rule,
    as_pipeline,
    split_pipeline,
)
from skrobust.attacks import (
    APGD,
    AttackResult,
    BaseAttack,
    ExactNeighborAttack,
    GreedyNeighborAttack,
    HopSkipJump,
    NoiseAttack,
    check_same_threat_model,
    checked_scores,
    resolve_budget,
)
from skrobust.certificates import (
    CenterSmoothing,
    Certificate,
    RandomizedSmoothingClassifier,
    SoundnessError,
    certify,
)
from skrobust.inspection._finding import CheckedReport, HealthFinding
from skrobust.inspection._health import evaluation_health
from skrobust.inspection._report_html import report_html
from skrobust.threat_model import ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import names_missed_once
from skrobust.utils._validation import check_eps

__all__ = ["RobustnessReport", "SoundnessError", "robustness_report"]


_COLUMNS = ("clean", "worst attack (upper bound)", "certified (lower bound)")


@dataclass(frozen=True, eq=False)
class RobustnessReport(CheckedReport):
    """Lower and upper bounds on the robust accuracy of a classifier.

    Attributes
    ----------
    estimator : str
        Its name.
    threat_model : ThreatModel
    eps : ndarray of shape (n_eps,)
        Budgets.
    clean_accuracy : float
    robust_accuracy : dict of str to ndarray of shape (n_eps,)
        Under each attack: upper bounds.
    worst : ndarray of shape (n_eps,)
        Under the worst attack for each point: the best upper bound.
    certified : ndarray of shape (n_eps,) or None
        Proved: a lower bound. None where no certificate applies.
    certificate : Certificate or None
    results : dict of str to AttackResult
    health : list of HealthFinding
        Whether to believe the attacks.
    n_samples : int
    notes : list of str
        What did not run, and why.
    """

    estimator: str
    threat_model: ThreatModel
    eps: np.ndarray
    clean_accuracy: float
    robust_accuracy: dict[str, np.ndarray]
    worst: np.ndarray
    certified: np.ndarray | None
    certificate: Certificate | None
    results: dict[str, AttackResult]
    health: list[HealthFinding]
    n_samples: int
    notes: list[str]

    def to_frame(self) -> Any:
        """Return the table as a pandas data frame, a row for each budget."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas.") from error
        return pd.DataFrame(self._columns(), index=pd.Index(self.eps, name="eps"))

    def to_html(self) -> str:
        """Return a page that needs nothing else: table, curve and checks."""
        title = escape(self.estimator)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"</head><body>{report_html(self)}</body></html>"
        )

    def _repr_html_(self) -> str:
        return report_html(self)

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {"clean": np.full(len(self.eps), self.clean_accuracy)}
        columns |= dict(self.robust_accuracy)
        columns["worst attack (upper bound)"] = self.worst
        if self.certified is not None:
            columns["certified (lower bound)"] = self.certified
        return columns

    def __str__(self) -> str:
        columns = self._columns()
        width = max(10, *(len(name) for name in columns))
        lines = [f"{self.estimator}, {self.n_samples} points, norm {self.threat_model.norm}"]
        lines.append("eps".ljust(width) + "".join(f"{eps:>9.4g}" for eps in self.eps))
        for name, values in columns.items():
            lines.append(name.ljust(width) + "".join(f"{value:>9.3f}" for value in values))
        lines += [f"note: {note}" for note in self.notes]
        lines += [str(finding) for finding in self.health]
        return "\n".join(lines)


@names_missed_once()
def robustness_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    eps: Any,
    threat_model: ThreatModel | None = None,
    attacks: Mapping[str, BaseAttack] | None = None,
    certify: bool | str = True,
    random_state: Any = 0,
    verbose: int = 0,
) -> RobustnessReport:
    """Bound the robust accuracy of a fitted classifier from both sides, and check the evaluation.

    Parameters
    ----------
    estimator : fitted classifier
        Anything with `predict`.
    X : array-like or data frame of shape (n_samples, n_features)
        Clean points, as the estimator's `predict` takes them.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float or array-like of shape (n_eps,)
        Budgets, finite, ≥ 0, in the units of X over the threat model's scales.
    threat_model : ThreatModel, default=None
        What may be changed; None is ℓ₂ on all features. Its own `eps` is not used.
    attacks : mapping of str to attack, default=None
        None takes those that apply: for k-NN the exact one (one neighbour) or the greedy one, APGD
        with four restarts where there are gradients, HopSkipJump, and noise. They have
        no `threat_model` of their own, or the same.
    certify : bool or {"fast", "auto", "exact"}, default=True
        Whether a lower bound is proved, where that is possible, and by which method of
        :func:`skrobust.certify`; True is its default, "auto", which is exact for one
        neighbour. "fast" takes less time and leaves a gap there. For smoothed estimators the
        bound is probabilistic, and a note says so.
    random_state : int, RandomState or None, default=0
        For the attacks that are chosen here.
    verbose : int, default=0
        Handed on to the attacks.

    Returns
    -------
    RobustnessReport

    Raises
    ------
    SoundnessError
        If a point was changed by less than its certified radius.
    ValueError, TypeError
        If a parameter or the data are not supported; the message names it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.inspection import robustness_report
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    >>> report = robustness_report(knn, X[1::10], y[1::10], eps=[0.1, 0.3])
    >>> bool((report.certified <= report.worst).all())
    True
    """
    if not isinstance(certify, bool) and certify not in ("fast", "auto", "exact"):
        raise ValueError(
            f"certify must be True, False, 'fast', 'auto' or 'exact'; got {certify!r}."
        )
    budgets = np.unique(check_eps(eps))
    y = column_or_1d(y)
    model = _by_position(threat_model, X, estimator)
    notes = _columns_that_stay(estimator, X)
    if attacks is None:
        attacks = _attacks(estimator, X, model, random_state, notes)
    else:
        _check_attacks(attacks, model, X, estimator)
    chosen = {name: _for_report(attack, model, verbose) for name, attack in attacks.items()}
    results = {
        # without a limit, the smallest perturbations are known beyond the largest budget too
        name: attack.run(estimator, X, y, eps=None if attack.minimum_norm else budgets)
        for name, attack in chosen.items()
    }
    norms = np.array([result.minimal_norm for result in results.values()])  # (n_attacks, n_samples)
    method = "auto" if certify is True else certify
    certificate = _certificate(estimator, X, y, model, method, notes) if method else None
    certified = None
    if certificate is not None:
        _check_sound(certificate, norms, list(results), notes)
        certified = np.array([certificate.certified(value).mean() for value in budgets])
    correct = next(iter(results.values())).correct
    robust = correct & (norms.min(axis=0) > budgets[:, None])  # (n_eps, n_samples)
    return RobustnessReport(
        estimator=_name(estimator),
        threat_model=model,
        eps=budgets,
        clean_accuracy=float(correct.mean()),
        robust_accuracy={
            name: np.asarray(result.robust_accuracy(budgets)) for name, result in results.items()
        },
        worst=robust.mean(axis=1),
        certified=certified,
        certificate=certificate,
        results=results,
        health=evaluation_health(estimator, X, y, model, chosen, results, budgets),
        n_samples=len(y),
        notes=notes,
    )


def _check_attacks(attacks: Any, model: ThreatModel, X: Any, estimator: Any) -> None:
    """Raise unless these are attacks under names of their own, and under one threat model."""
    if not isinstance(attacks, Mapping):
        raise TypeError(f"attacks must be a mapping of names to attacks; got {attacks!r}.")
    if not attacks:
        raise ValueError("attacks must have at least one attack; got none.")
    for name, attack in attacks.items():
        if not isinstance(name, str) or name in _COLUMNS:
            raise ValueError(f"attacks must have names other than {_COLUMNS}; got {name!r}.")
        if not isinstance(attack, BaseAttack):
            raise TypeError(f"attacks[{name!r}] must be an attack; got {attack!r}.")
        what = (f"attacks[{name!r}]", "robustness_report")
        check_same_threat_model(attack.threat_model, model, X, estimator, *what)


def _for_report(attack: BaseAttack, model: ThreatModel, verbose: int) -> BaseAttack:
    """Return a clone of an attack under the report's threat model."""
    attack = clone(attack).set_params(threat_model=clone(model))
    return attack.set_params(verbose=verbose) if "verbose" in attack.get_params() else attack


def _columns_that_stay(estimator: Any, X: Any) -> list[str]:
    """Return a note on the columns that no attack moves, if any."""
    named = [repr(name) for name in read_table(X, estimator).fixed_columns]
    if not named:
        return []
    what = "columns that are not numbers, or that the estimator does not use, do not move"
    return [f"{what} in any attack: {', '.join(named)}."]


def _by_position(threat_model: Any, X: Any, estimator: Any) -> ThreatModel:
    """Return a threat model without a budget that names no features.

    The attacks know the names of X, the certificate those of the estimator: masks serve both.
    """
    model = clone(ThreatModel.of(threat_model))
    budget = resolve_budget(model, X, estimator)
    return model.set_params(
        norm=budget.norm,
        eps=None,
        feature_scale=np.where(budget.scale > 0, budget.scale, 1.0),
        mutable=budget.scale > 0,
        bounds=(budget.lower, budget.upper),
        increasing=budget.increasing,
        integers=budget.integer,
        one_hot=[group.tolist() for group in budget.groups] or None,
    )


def _attacks(
    estimator: Any, X: Any, model: ThreatModel, random_state: Any, notes: list[str]
) -> dict[str, BaseAttack]:
    """Return the attacks that apply to an estimator."""
    chosen: dict[str, BaseAttack] = {}
    try:
        rule = as_nearest_neighbor_rule(estimator)
        if (~read_table(X, estimator).numeric & ~rule.ignored).any():
            raise TypeError("columns that are not numbers")
        plain = not np.any(model.integers) and model.one_hot is None
        exact = rule.n_neighbors == 1 and plain
        chosen["nearest neighbors"] = ExactNeighborAttack() if exact else GreedyNeighborAttack()
    except (TypeError, ValueError):
        pass
    try:
        checked_scores(estimator, X)
        chosen["apgd"] = APGD(n_restarts=4, random_state=random_state)
    except (NotDifferentiableError, ValueError) as error:
        notes.append(f"no attack by gradients: {error}")
    chosen["hop skip jump"] = HopSkipJump(max_iter=10, n_evaluations=50, random_state=random_state)
    chosen["noise"] = NoiseAttack(random_state=random_state)
    return chosen


def _certificate(
    estimator: Any, X: Any, y: np.ndarray, model: ThreatModel, method: Any, notes: list[str]
) -> Certificate | None:
    try:
        if not _smoothed(estimator):
            return certify(estimator, X, y, threat_model=model, method=method)
        certificate = certify(estimator, X, y)  # in the threat model of its noise
    except (TypeError, ValueError) as error:
        notes.append(f"no certificate: {error}")
        return None
    budget = resolve_budget(model, X, estimator)
    same_scale = np.array_equal(budget.scale, np.asarray(certificate.scale))
    if budget.norm != certificate.norm or not same_scale:
        notes.append("no certificate: the threat model is not the one that the noise was made for.")
        return None
    notes.append(f"probabilistic certificate: {certificate.method}.")
    return certificate


def _smoothed(estimator: Any) -> bool:
    inside = as_pipeline(estimator)
    centered = split_pipeline(inside, lambda step: isinstance(step, CenterSmoothing))
    return isinstance(inside, RandomizedSmoothingClassifier) or centered is not None


def _check_sound(
    certificate: Certificate, norms: np.ndarray, names: list[str], notes: list[str]
) -> None:
    """Raise where an attack succeeded inside a certified radius; note it if that is by chance."""
    crossed = (norms < certificate.radius) & certificate.correct
    by_chance = crossed & (certificate.status == "probabilistic")
    if by_chance.any():
        notes.append(
            f"{int(by_chance.any(axis=0).sum())} probabilistic radii are above the perturbation of "
            "an attack: they are right with a probability, and for the vote of all noisy points; "
            "predict draws a few of these."
        )
    crossed = crossed & ~by_chance
    if crossed.any():
        attack, row = np.argwhere(crossed)[0]
        n_crossed = int(crossed.any(axis=0).sum())
        raise SoundnessError(
            f"point {row} is certified up to {certificate.radius[row]:.6g}, but the attack "
            f"{names[attack]!r} changed it by {norms[attack, row]:.6g}; {n_crossed} points cross. "
            "Please report this with the data."
        )


def _name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    if steps is None:
        return type(estimator).__name__
    return " → ".join(type(step).__name__ for _, step in steps)
