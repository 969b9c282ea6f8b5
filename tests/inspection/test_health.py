"""Checks of an evaluation: quiet where attacks are as they should be, loud where they are not."""

import numpy as np
import pytest
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
@pytest.mark.parametrize("n_neighbors", [3, 5, 15])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_ordinary_neighbours_are_healthy(load, n_neighbors):
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    n = len(y) // 2
    knn = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors)).fit(X[:n], y[:n])
    report = robustness_report(
        knn,
        X[n : n + 60],
        y[n : n + 60],
        eps=[0.5, 1.5],
        threat_model=ThreatModel(feature_scale=X[:n].std(axis=0)),
    )
    assert report.healthy, str(report)
