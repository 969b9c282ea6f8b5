import pickle

import numpy as np
import pandas as pd
import pytest
from shared_data import load_digits
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, zero_one_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import PGD, HopSkipJump, NoiseAttack
from skrobust.scorers import (
    certified_curve_scorer,
    make_robust_scorer,
    robust_accuracy_scorer,
    robust_curve_scorer,
)


@pytest.fixture
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


@pytest.fixture
def count_runs(monkeypatch):
    """Count the calls of `run` in this process."""
    calls = []
    for kind in (PGD, HopSkipJump):
        run = kind.run

        def counted(self, *args, _run=run, **kwargs):
            calls.append(type(self).__name__)
            return _run(self, *args, **kwargs)

        monkeypatch.setattr(kind, "run", counted)
    return calls


def test_one_attack_a_fold_gives_the_curve(digits, count_runs):
    X, y = digits
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1))
    scorer = robust_curve_scorer(PGD(max_iter=20, n_restarts=2, random_state=0), [0.1, 0.3, 0.6])
    scores = cross_validate(model, X, y, cv=3, scoring=scorer)
    assert count_runs == ["PGD"] * 3
    curve = [
        scores[f"test_{name}"] for name in ("accuracy", "robust@0.1", "robust@0.3", "robust@0.6")
    ]
    assert (np.diff(curve, axis=0) <= 0).all()
    assert (curve[3] < curve[0]).all()
    proved = cross_validate(model, X, y, cv=3, scoring=certified_curve_scorer([0.1, 0.3, 0.6]))
    for eps in ("0.1", "0.3", "0.6"):
        assert (proved[f"test_certified@{eps}"] <= scores[f"test_robust@{eps}"]).all()


def test_a_search_by_robust_accuracy(digits):
    X, y = digits
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), KNeighborsClassifier()),
        {"kneighborsclassifier__n_neighbors": [1, 5]},
        scoring=robust_curve_scorer(PGD(max_iter=10, random_state=0), [0.1, 0.5]),
        refit="robust@0.1",
        cv=2,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_robust@0.5"]).all()
    assert search.best_score_ == search.cv_results_["mean_test_robust@0.1"].max()


def test_mixed_columns_through_a_column_transformer(count_runs):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "amount": rng.exponential(size=120),
            "country": rng.choice(["de", "fr", "it"], 120),
            "visits": rng.poisson(4, 120),
        }
    )
    y = np.where(X["amount"] + 0.2 * X["visits"] > 1.6, "fraud", "fine")
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["country"]),
        (StandardScaler(), ["amount", "visits"]),
    )
    threat = ThreatModel(np.inf, integers=["visits"], mutable=["amount", "visits"])
    attack = HopSkipJump(
        threat_model=threat, max_iter=1, n_evaluations=10, n_starts=5, random_state=0
    )
    scores = cross_validate(
        make_pipeline(encode, RandomForestClassifier(5, random_state=0)),
        X,
        y,
        cv=3,
        scoring=robust_curve_scorer(attack, [0.2, 1.0]),
        error_score="raise",
    )
    assert count_runs == ["HopSkipJump"] * 3
    assert (scores["test_robust@1"] < scores["test_accuracy"]).all()


def test_any_metric_under_attack(digits):
    X, y = digits
    knn = KNeighborsClassifier(1).fit(X[:200], y[:200])
    attack = PGD(threat_model=ThreatModel(2, 0.4), max_iter=10, random_state=0)
    found = attack.run(knn, X[200:], y[200:])
    balanced = make_robust_scorer(balanced_accuracy_score, attack)(knn, X[200:], y[200:])
    assert balanced == balanced_accuracy_score(y[200:], found.predicted)
    loss = make_robust_scorer(zero_one_loss, attack, greater_is_better=False)
    share = robust_accuracy_scorer(attack, 0.4)
    assert loss(knn, X[200:], y[200:]) == pytest.approx(share(knn, X[200:], y[200:]) - 1)
    assert pickle.loads(pickle.dumps(share))(knn, X[200:], y[200:]) == found.robust_accuracy(0.4)


def test_wrong_parameters():
    with pytest.raises(TypeError, match="attack must be an attack"):
        robust_accuracy_scorer("pgd", 0.1)
    with pytest.raises(ValueError, match="eps must not have a value twice"):
        robust_curve_scorer(NoiseAttack(), [0.1, 0.1])
    with pytest.raises(ValueError, match="eps must be finite"):
        robust_accuracy_scorer(NoiseAttack(), np.nan)
    with pytest.raises(TypeError, match="metric must be callable"):
        make_robust_scorer("accuracy", NoiseAttack())
