"""Weights, metadata routing, balance and classes, in every scorer."""

import inspect
import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel, scorers
from skrobust.attacks import PGD, ClusteringAttack, EmbeddingMargin, EmbeddingTargets
from skrobust.scorers import (
    certified_accuracy,
    certified_accuracy_scorer,
    certified_assignment_scorer,
    certified_curve_scorer,
    certified_retrieval_scorer,
    make_robust_scorer,
    mean_certified_radius_scorer,
    robust_accuracy_scorer,
    robust_clustering_scorer,
    robust_clustering_scores,
    robust_curve_scorer,
    robust_recall_scorer,
)

X, Y = load_iris(return_X_y=True)
rng = np.random.default_rng(0)
X, Y = X[50:] + 0.3 * rng.standard_normal((100, 4)), Y[50:]
WEIGHT = rng.integers(0, 3, 100) + 0.5 * (Y == 2)

ATTACK = PGD(max_iter=3, random_state=0)
TARGETS = EmbeddingTargets(
    threat_model=ThreatModel(eps=1.0), targets="other_class", max_iter=3, random_state=0
)
MARGIN = ClusteringAttack(
    EmbeddingMargin(threat_model=ThreatModel(eps=1.0), max_iter=3, random_state=0),
    share=0.5,
    random_state=0,
)
SCORERS = {
    "certified_accuracy_scorer": certified_accuracy_scorer(0.2),
    "certified_assignment_scorer": certified_assignment_scorer(0.2),
    "certified_curve_scorer": certified_curve_scorer([0.1, 0.2]),
    "certified_retrieval_scorer": certified_retrieval_scorer(0.1),
    "mean_certified_radius_scorer": mean_certified_radius_scorer(),
    "robust_accuracy_scorer": robust_accuracy_scorer(ATTACK, 0.2),
    "robust_curve_scorer": robust_curve_scorer(ATTACK, [0.1, 0.2]),
    "robust_recall_scorer": robust_recall_scorer(TARGETS),
    "make_robust_scorer": make_robust_scorer(balanced_accuracy_score, ATTACK, eps=0.2),
    "robust_clustering_scorer": robust_clustering_scorer(MARGIN, "f1"),
    "robust_clustering_scores": robust_clustering_scores(MARGIN),
}


def model_for(name):
    if "assignment" in name or "clustering" in name:
        return KMeans(2, n_init=2, random_state=0)
    return PCA(3) if "retrieval" in name or "recall" in name else KNeighborsClassifier(1)


def numbers(score):
    return score if isinstance(score, dict) else {"score": score}


def test_every_scorer_is_here():
    factories = {n for n in scorers.__all__ if "scorer" in n or n.endswith("_scores")}
    assert {*SCORERS} == factories
    assert "sample_weight" in inspect.signature(certified_accuracy).parameters


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_weights_count(name):
    """Weights of 1 change nothing; others do, and their size does not."""
    model = clone(model_for(name)).fit(X[::2], Y[::2])
    scorer, rest, weight = SCORERS[name], (X[1::2], Y[1::2]), WEIGHT[1::2]
    plain = numbers(scorer(model, *rest))
    ones = numbers(scorer(model, *rest, sample_weight=np.ones(50)))
    for key, score in ones.items():
        assert score == pytest.approx(plain[key]), key
    assert {*plain} - {*ones} <= {"ami", "robust_ami", "untouched_ami"}
    weighted = numbers(scorer(model, *rest, sample_weight=weight))
    assert any(weighted[key] != pytest.approx(plain[key]) for key in weighted)
    again = numbers(scorer(model, *rest, sample_weight=weight * 7))
    assert again == pytest.approx(weighted)
    if name not in ("robust_clustering_scorer", "robust_clustering_scores") and "re" not in name:
        copies = [np.repeat(a, (2 * weight).astype(int), axis=0) for a in rest]
        assert numbers(scorer(model, *copies)) == pytest.approx(weighted)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(n_samples,\)"):
        scorer(model, *rest, sample_weight=weight[1:])


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_metadata_routing(name):
    model = model_for(name)
    given = {"cv": KFold(2, shuffle=True, random_state=0), "error_score": "raise"}
    with config_context(enable_metadata_routing=True):
        scorer = pickle.loads(pickle.dumps(SCORERS[name]))
        if "sample_weight" in inspect.signature(model.fit).parameters:
            model.set_fit_request(sample_weight=False)
        given |= {"estimator": model, "X": X, "y": Y}
        with pytest.raises(UnsetMetadataPassedError, match="not explicitly set as requested"):
            cross_validate(scoring=scorer, params={"sample_weight": WEIGHT}, **given)
        plain = cross_validate(scoring=scorer, params={}, **given)
        assert scorer.set_score_request(sample_weight=True) is scorer
        asks = pickle.loads(pickle.dumps(scorer))
        weighted = cross_validate(scoring=asks, params={"sample_weight": WEIGHT}, **given)
        scorer.set_score_request(sample_weight="importance")
        renamed = cross_validate(scoring=scorer, params={"importance": WEIGHT}, **given)
    keys = [key for key in weighted if key.startswith("test_")]
    assert any((weighted[key] != plain[key]).any() for key in keys)
    for key in keys:
        np.testing.assert_array_equal(renamed[key], weighted[key])
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        SCORERS[name].set_score_request(sample_weight=True)


def test_searches_hand_weights_on_without_routing():
    """As to scikit-learn's own scorers: one alone, and several in a dict."""
    model, grid = LogisticRegression(), {"C": [0.01, 1.0]}
    one = robust_accuracy_scorer(ATTACK, 0.2)
    for scoring, refit in ((one, True), ({"robust": one, "plain": "accuracy"}, "robust")):
        search = GridSearchCV(model, grid, scoring=scoring, refit=refit, cv=3)
        search.fit(X, Y, sample_weight=WEIGHT)
        rows = StratifiedKFold(3).split(X, Y)
        train, test = next(iter(rows))
        fitted = clone(model).set_params(C=0.01).fit(X[train], Y[train], WEIGHT[train])
        expected = {one(fitted, X[test], Y[test]), one(fitted, X[test], Y[test], WEIGHT[test])}
        key = "split0_test_score" if refit is True else "split0_test_robust"
        assert search.cv_results_[key][0] in expected


def rare(seed, n=300, share=0.06):
    """A frequent class around a rare one."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) < share * n).astype(int)
    points = rng.standard_normal((n, 2)) * np.where(y, 0.4, 1.5)[:, None] + 0.6 * y[:, None]
    order = rng.permutation(n)
    return points[order], np.array(["often", "rare"])[y[order]]


def test_a_balanced_search_finds_the_rare_class():
    points, y = rare(0)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier())
    grid = {"kneighborsclassifier__n_neighbors": [1, 51]}
    best, recall = {}, {}
    for balanced in (False, True):
        scorer = certified_accuracy_scorer(0.05, balanced=balanced)
        search = GridSearchCV(model, grid, scoring=scorer, cv=3, error_score="raise").fit(points, y)
        best[balanced] = search.best_params_["kneighborsclassifier__n_neighbors"]
        recall[balanced] = recall_score(y, search.predict(points), pos_label="rare")
    assert best == {False: 51, True: 1}
    assert recall[False] < 0.1 < recall[True]


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_is_the_mean_over_classes(weighted):
    points, y = rare(1)
    model = KNeighborsClassifier(3).fit(points[::2], y[::2])
    rest = points[1::2], y[1::2]
    weight = np.random.default_rng(0).random(150) if weighted else None
    pairs = [
        ("certified", certified_curve_scorer, ([0, 0.1, 0.2],)),
        ("robust", robust_curve_scorer, (ATTACK, [0, 0.1, 0.2])),
    ]
    for name, make, args in pairs:
        found = make(*args, balanced=True, per_class=True)(model, *rest, sample_weight=weight)
        for eps in ("0", "0.1", "0.2"):
            each = [found[f"{name}@{eps}[{label}]"] for label in ("often", "rare")]
            assert found[f"{name}@{eps}"] == pytest.approx(np.mean(each))
        clean = balanced_accuracy_score(rest[1], model.predict(rest[0]), sample_weight=weight)
        assert found["accuracy"] == found[f"{name}@0"] == pytest.approx(clean)
        plain = make(*args)(model, *rest, sample_weight=weight)
        assert found[f"{name}@0.1"] < plain[f"{name}@0.1"] - 0.05
    proved = certified_accuracy_scorer(0.1, balanced=True)(model, *rest, sample_weight=weight)
    broken = robust_accuracy_scorer(ATTACK, 0.1, balanced=True)(model, *rest, sample_weight=weight)
    assert proved <= broken <= clean
    radius = mean_certified_radius_scorer(balanced=True)(model, *rest, sample_weight=weight)
    assert 0 < radius < mean_certified_radius_scorer()(model, *rest, sample_weight=weight)


def test_keys_of_classes_are_those_of_the_estimator():
    points, y = rare(2)
    model = KNeighborsClassifier(3).fit(points, y)
    often = y == "often"
    found = certified_curve_scorer([0.1], per_class=True)(model, points[often], y[often])
    assert np.isnan(found["certified@0.1[rare]"])
    assert found["certified@0.1[often]"] == found["certified@0.1"]


def test_ami_has_no_weights():
    model = KMeans(2, n_init=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="metric='ami' takes no sample_weight"):
        robust_clustering_scorer(MARGIN, "ami")(model, X, Y, sample_weight=WEIGHT)


def test_queries_alone_in_their_class_are_left_out():
    alone = np.r_[Y[:-1], 9]
    model = PCA(3).fit(X)
    for scorer in (certified_retrieval_scorer(0.05), robust_recall_scorer(TARGETS)):
        weight = np.r_[np.ones(99), 0]
        assert scorer(model, X, alone) == pytest.approx(scorer(model, X, alone, weight))
    assert np.isnan(robust_recall_scorer(TARGETS)(model, X[:3], [0, 1, 2]))
    with pytest.raises(ValueError, match="no query has an item of its class"):
        certified_retrieval_scorer(0.05)(model, X[:3], [0, 1, 2])
