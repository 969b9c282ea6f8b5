"""Scikit-learn's own checks, on every public estimator."""

import pickle

import numpy as np
import pytest
from estimators import ESTIMATORS
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # some of the checks' data are noise
    "ignore:Leave-one-out .* classifies no point right:UserWarning",
    "ignore:No point of the classes:UserWarning",
)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_no_check_fails_or_is_skipped(estimator):
    """`check_estimator` runs its suites in full, and says which check fails."""
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


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if hasattr(e, "transform")], ids=repr)
def test_set_output(estimator, library):
    """Frames in, frames out, with the names that `get_feature_names_out` tells."""
    frames = pytest.importorskip(library)
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = np.arange(30) % 3
    frame = frames.DataFrame({name: X[:, k] for k, name in enumerate("abc")})
    fitted = clone(estimator).set_output(transform=library).fit(frame, y)
    found = fitted.transform(frame)
    assert isinstance(found, frames.DataFrame)
    assert list(found.columns) == list(fitted.get_feature_names_out())
    assert list(fitted.feature_names_in_) == ["a", "b", "c"]
