"""Every classifier of the package has scores that agree with `predict`, and goes where they go."""

import numpy as np
import pytest
from estimators import ESTIMATORS
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import TunedThresholdClassifierCV, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from examples import examples
from skrobust.neighbors import AdversarialPruning, RobustPrototypeClassifier, WilsonEditing

CLASSIFIERS = [e for e in ESTIMATORS if is_classifier(e)]
X, Y = load_breast_cancer(return_X_y=True)
X, Y = X[:150, :4] / X[:150, :4].std(axis=0), Y[:150]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:No point of the classes:UserWarning"),
]


def classes_of_scores(fitted, points):
    """Return the classes that each kind of score of a classifier says."""
    found = []
    for name in ("decision_function", "predict_proba"):
        if hasattr(fitted, name):
            scores = getattr(fitted, name)(points)
            best = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)
            found.append(fitted.classes_[best])
    return found


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=repr)
def test_scores_calibration_thresholds_and_votes(estimator):
    found = cross_validate(
        clone(estimator),
        X,
        Y,
        scoring=["roc_auc", "neg_log_loss", "accuracy"],
        cv=3,
        error_score="raise",
    )
    assert (found["test_roc_auc"] > 0.6).all()
    assert (found["test_neg_log_loss"] > -12).all()
    CalibratedClassifierCV(clone(estimator), cv=2).fit(X, Y).predict_proba(X)
    TunedThresholdClassifierCV(clone(estimator), cv=2).fit(X, Y).predict(X)
    VotingClassifier(
        [("it", clone(estimator)), ("knn", KNeighborsClassifier())], voting="soft"
    ).fit(X, Y).predict(X)


@pytest.mark.parametrize("data", ["iris", "two classes", "one class", "text"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=repr)
def test_the_best_score_is_the_prediction(estimator, data):
    points, y = load_iris(return_X_y=True)
    if data == "two classes":
        points, y = points[50:], y[50:]
    if data == "one class":
        points, y = points[:30], y[:30]
    if data == "text":
        y = np.array(["no", "yes", "maybe"])[y]
    fitted = clone(estimator).fit(points[::2], y[::2])
    predicted = fitted.predict(points)
    found = classes_of_scores(fitted, points)
    assert found
    for said in found:
        np.testing.assert_array_equal(said, predicted)
    shares = fitted.predict_proba(points)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.shape == (len(points), len(fitted.classes_))
    assert (shares >= 0).all()


@examples(10)
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.sampled_from([2, 3]),
    size=st.sampled_from([1e-160, 1e-20, 1.0, 1e20, 1e130]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_prototypes_agree_with_predict_at_ties_and_at_all_sizes(seed, n_classes, size, dtype):
    if dtype == "float32":
        size = {1e-160: 1e-15, 1e130: 1e15}.get(size, size)
    rng = np.random.default_rng(seed)
    points = (rng.integers(-3, 4, (12, 2)) * size).astype(dtype)
    y = np.arange(12) % n_classes
    model = RobustPrototypeClassifier(4, learn_metric=False, max_iter=1, random_state=0)
    fitted = model.fit(points, y)
    # at the prototypes, and half-way between them, where rounding decides
    ends = fitted.prototypes_.astype(dtype)
    queries = np.concatenate([ends, (ends[:, None] + ends[None]).reshape(-1, 2) / 2])
    for said in classes_of_scores(fitted, queries):
        np.testing.assert_array_equal(said, fitted.predict(queries))
    for scores in (fitted.decision_function(queries), fitted.predict_proba(queries)):
        assert (abs(scores) <= 1).all()


@pytest.mark.parametrize("selecting", [WilsonEditing, AdversarialPruning])
def test_a_selection_has_the_scores_of_its_estimator(selecting):
    model = selecting(LinearSVC(random_state=0)).fit(X, Y)
    np.testing.assert_array_equal(model.decision_function(X), model.estimator_.decision_function(X))
    assert not hasattr(model, "predict_proba")
    assert not hasattr(selecting(), "decision_function")
    assert hasattr(selecting(), "predict_proba")
