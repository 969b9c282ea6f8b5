import pickle

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import certify_nearest_neighbors
from skrobust.metric_learning import AdamSolver
from skrobust.objectives import CertificateObjective
from skrobust.scorers import (
    certified_accuracy,
    certified_accuracy_scorer,
    certified_curve_scorer,
    mean_certified_radius_scorer,
)

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :10] / X[:, :10].max(0)


def model():
    return Pipeline(
        [
            ("scale", MinMaxScaler()),
            (
                "metric",
                RobustMahalanobis(solver=AdamSolver(tol=0.05, n_iter_no_change=3), random_state=0),
            ),
            ("knn", KNeighborsClassifier(3)),
        ]
    )


def test_one_pass_gives_what_the_single_scorers_give():
    fitted = model().fit(X[::2], Y[::2])
    rest = X[1::2], Y[1::2]
    curve = certified_curve_scorer([0, 0.02, 0.05])(fitted, *rest)
    assert curve["accuracy"] == curve["certified@0"] == fitted.score(*rest)
    for eps in (0, 0.02, 0.05):
        expected = certified_accuracy(fitted, *rest, eps)
        assert curve[f"certified@{eps:g}"] == expected
        assert certified_accuracy_scorer(eps)(fitted, *rest) == expected
    assert 0 < curve["certified@0.05"] < curve["certified@0.02"] < curve["accuracy"]
    found = certify_nearest_neighbors(fitted, *rest)
    assert curve["mean_certified_radius"] == found.radius.mean()
    assert mean_certified_radius_scorer()(fitted, *rest) == found.radius.mean()
    assert curve["share_unreachable"] == 0
    for norm, mutable in ((np.inf, None), (1, [0, 1])):
        threat = ThreatModel(norm, mutable=mutable)
        found = certify_nearest_neighbors(fitted, *rest, threat_model=threat)
        score = certified_accuracy(fitted, *rest, 0.02, threat_model=threat)
        assert score == found.certified(0.02).mean() != curve["certified@0.02"]
        assert certified_accuracy_scorer(0.02, threat_model=threat)(fitted, *rest) == score
        several = certified_curve_scorer([0.02], threat_model=threat)(fitted, *rest)
        assert several["certified@0.02"] == score
        mean = mean_certified_radius_scorer(threat_model=threat)(fitted, *rest)
        assert mean == found.radius.mean() == several["mean_certified_radius"]


@pytest.mark.slow
def test_cross_validation_and_search_with_two_jobs():
    scores = cross_val_score(
        model(), X, Y, scoring=certified_accuracy_scorer(0.02), cv=2, n_jobs=2, error_score="raise"
    )
    assert ((scores > 0) & (scores < 1)).all()
    several = cross_validate(
        model(), X, Y, scoring=certified_curve_scorer([0.02]), cv=2, n_jobs=2, error_score="raise"
    )
    np.testing.assert_array_equal(several["test_certified@0.02"], scores)
    search = GridSearchCV(
        model(),
        {
            "metric__objective": ["certificate", CertificateObjective(loss="hinge")],
            "metric__target_radius": [0.1],
            "knn__n_neighbors": [1, 3],
        },
        scoring=certified_curve_scorer([0.02, 0.05]),
        refit="certified@0.02",
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(X, Y)
    assert search.best_score_ == search.cv_results_["mean_test_certified@0.02"].max()
    assert certified_accuracy(search, X, Y, 0.02) > 0
    search = GridSearchCV(
        model(),
        {"metric__n_candidates": [2, 10]},
        scoring=mean_certified_radius_scorer(),
        cv=2,
        error_score="raise",
    ).fit(X, Y)
    assert search.best_score_ > 0


def test_scorers_pickle_and_show_their_parameters():
    for scorer in (
        certified_accuracy_scorer(0.5),
        certified_curve_scorer([0.5, 1]),
        mean_certified_radius_scorer(cap=2),
    ):
        assert pickle.loads(pickle.dumps(scorer)) == scorer
    assert "eps=0.5" in repr(certified_accuracy_scorer(0.5))


def test_infinite_radii():
    knn = KNeighborsClassifier(1).fit([[0.0], [1.0]], [0, 0])
    rest = [[0.5]], [0]
    with pytest.raises(ValueError, match="cap must be given"):
        mean_certified_radius_scorer()(knn, *rest)
    assert mean_certified_radius_scorer(cap=3)(knn, *rest) == 3
    scores = certified_curve_scorer([1], cap=2)(knn, *rest)
    assert scores["share_unreachable"] == 1
    assert scores["mean_certified_radius"] == 2
    assert certified_curve_scorer([1])(knn, *rest)["mean_certified_radius"] == np.inf


@pytest.mark.parametrize(
    "make",
    [
        certified_accuracy_scorer,
        lambda eps: certified_curve_scorer([eps]),
        lambda eps: mean_certified_radius_scorer(cap=eps),
        lambda eps: certified_accuracy(model(), X, Y, eps),
    ],
)
def test_bad_budgets_are_refused_before_any_work(make):
    with pytest.raises(ValueError, match="must be finite and >= 0; got -1"):
        make(-1)
    with pytest.raises(TypeError, match="must be a real number"):
        make("much")


def test_doubled_budgets_and_pipelines_that_are_not_affine():
    with pytest.raises(ValueError, match="twice"):
        certified_curve_scorer([0.1, 0.1])
    bad = make_pipeline(Normalizer(), KNeighborsClassifier()).fit(X, Y)
    with pytest.raises(ValueError, match="'normalizer'"):
        certified_accuracy(bad, X, Y, 0.1)
