"""Checks of an evaluation: quiet where attacks are as they should be, loud where they are not."""

import numpy as np
import pytest
from shared_data import load_digits
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import APGD, AttackResult, HopSkipJump, NoiseAttack
from skrobust.inspection import evaluation_health, robustness_report

BLACK_BOX, CONTROL = "black box against white box", "noise against attacks"
ATTACKS = {"apgd": APGD(max_iter=1), "hop": HopSkipJump(), "noise": NoiseAttack()}


@pytest.fixture(scope="module")
def linear():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(X, y)
    right = model.predict(X) == y
    return model, X[right][:100], y[right][:100]


def flagged(linear, fooled, budgets=1.0):
    """Return what is flagged where attacks fool these points, by their names, at norm 1."""
    model, X, y = linear
    results = {
        name: AttackResult(
            X_adv=X,
            success=success,
            perturbation_norm=success.astype(float),
            n_queries=0,
            n_gradient_calls=0,
            correct=np.ones(len(y), dtype=bool),
            predicted=model.predict(X),
            diagnostics={"zero_gradient": np.zeros(len(y), dtype=bool)} if name == "apgd" else {},
        )
        for name, success in fooled.items()
    }
    attacks = {name: ATTACKS[name] for name in results}
    health = evaluation_health(model, X, y, ThreatModel(eps=None), attacks, results, budgets)
    return {finding.name for finding in health if finding.flagged}


def test_equal_attacks_are_no_alarm(linear):
    """Attacks that fool points by the same odds differ by chance alone."""
    n_alarms, n_trials = 0, 120
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        odds = rng.uniform(0.05, 0.95, 100)
        fooled = {name: rng.random(100) < odds for name in ("apgd", "hop")}
        n_alarms += BLACK_BOX in flagged(linear, fooled)
    assert n_alarms <= 5  # a hundredth each; more than 5 of 120 have a probability of .002


@pytest.mark.parametrize("budgets", [1.0, [1.0, 5.0], [0.5, 1.0, 2.0]], ids=str)
def test_a_stronger_black_box_is_an_alarm(linear, budgets):
    some = np.arange(100) < 30
    assert BLACK_BOX in flagged(linear, {"apgd": some & (np.arange(100) < 5), "hop": some}, budgets)
    assert BLACK_BOX not in flagged(linear, {"apgd": some, "hop": some}, budgets)


def test_a_control_that_beats_an_attack_is_an_alarm(linear):
    some, few = np.arange(100) < 30, np.arange(100) < 10
    assert CONTROL in flagged(linear, {"apgd": some, "hop": few, "noise": some})
    assert CONTROL in flagged(linear, {"hop": few, "noise": some})
    assert CONTROL not in flagged(linear, {"apgd": some, "hop": some, "noise": few})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "n_neighbors", "eps"),
    [
        (load_wine, 5, [0.3, 1.0]),
        (load_breast_cancer, 15, [0.5, 1.5]),
        (load_digits, 3, [6.0]),
        (load_digits, 15, [6.0]),
    ],
)
def test_ordinary_neighbours_are_healthy(load, n_neighbors, eps):
    """A few points that a black box alone fools were an alarm."""
    X, y = load(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    X, y, n = X[order], y[order], min(len(y) // 2, 400)
    model, threat = KNeighborsClassifier(n_neighbors), ThreatModel()
    if load is not load_digits:
        model, threat = make_pipeline(StandardScaler(), model), ThreatModel(feature_scale=X.std(0))
    rows = slice(n, n + 80)
    report = robustness_report(
        model.fit(X[:n], y[:n]), X[rows], y[rows], eps=eps, threat_model=threat, certify=False
    )
    assert BLACK_BOX not in {finding.name for finding in report.health if finding.flagged}
    assert report.healthy, str(report)
