import numpy as np
import pytest
from sklearn.svm import SVC

from skrobust.datasets import make_margin_blobs


@pytest.mark.parametrize("n", [2, 3, 40])
def test_the_distances(n):
    X, y, distance = make_margin_blobs(n, 3, margin=0.5, random_state=1)
    assert X.shape == (n, 3)
    assert np.bincount(y).tolist() == [(n + 1) // 2, n // 2]
    np.testing.assert_array_equal(distance, np.abs(X[:, 0]))
    np.testing.assert_array_equal(y, X[:, 0] > 0)
    assert X[y == 1, 0].min() - X[y == 0, 0].max() == 0.5
    again = make_margin_blobs(n, 3, margin=0.5, random_state=1)
    np.testing.assert_array_equal(again[0], X)


def test_no_hyperplane_has_a_wider_margin():
    X, y, distance = make_margin_blobs(30, 2, margin=2.0, random_state=0)
    svm = SVC(kernel="linear", C=1e6, tol=1e-8).fit(X, y)
    w = svm.coef_[0]
    np.testing.assert_allclose(w, [1, 0], atol=1e-4)
    np.testing.assert_allclose(np.abs(svm.decision_function(X)), distance, atol=1e-3)


@pytest.mark.parametrize(
    "given",
    [{"n_samples": 1}, {"n_samples": 2.0}, {"n_features": 0}, {"margin": 0}, {"margin": "1"}],
    ids=str,
)
def test_bad_parameters(given):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(given))} must be"):
        make_margin_blobs(**given)
