"""Scikit-learn's own checks, on every public estimator."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skrobust import RobustMahalanobis
from skrobust.neighbors import RobustKNeighborsClassifier

ESTIMATORS = [
    RobustMahalanobis(random_state=0),
    RobustMahalanobis(n_components=1, init="pca", loss="hinge", max_iter=500),
    RobustKNeighborsClassifier(),
    RobustKNeighborsClassifier(1, method="exact"),
]

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@parametrize_with_checks(ESTIMATORS)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_no_check_fails_or_is_skipped(estimator):
    """`check_estimator` runs its suites in full."""
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) >= 45
    assert [r["check_name"] for r in results if r["status"] != "passed"] == []


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_clone_and_pickle(estimator):
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = np.arange(30) % 3
    fitted = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    apply = "transform" if hasattr(fitted, "transform") else "predict"
    np.testing.assert_array_equal(getattr(again, apply)(X), getattr(fitted, apply)(X))
    assert not hasattr(clone(fitted), "n_features_in_")
