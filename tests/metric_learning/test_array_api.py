"""With array API dispatch on, tensors are mapped where they are."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_iris

from skrobust import RobustMahalanobis

# SciPy reads its switch when it is imported: tests/conftest.py sets it before
pytest.importorskip("sklearn", minversion="1.7")  # 1.6 needs array-api-compat

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


@pytest.fixture(scope="module")
def metric():
    X, y = load_iris(return_X_y=True)
    return RobustMahalanobis(max_iter=3, random_state=0).fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("device", DEVICES)
def test_tensors_are_mapped_where_they_are(metric, device, dtype, tol):
    X, _ = load_iris(return_X_y=True)
    points = torch.tensor(X, dtype=dtype, device=device)
    with config_context(array_api_dispatch=True):
        found = metric.transform(points)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == dtype
    assert found.device == points.device
    np.testing.assert_allclose(found.cpu().numpy(), metric.transform(X), rtol=tol, atol=tol)
    with (
        config_context(array_api_dispatch=True),
        pytest.raises(ValueError, match="2 features"),
    ):
        metric.transform(points[:, :2])
    assert isinstance(metric.transform(points.cpu()), np.ndarray)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_arrays_stay_arrays(metric):
    X, _ = load_iris(return_X_y=True)
    with config_context(array_api_dispatch=True):
        assert isinstance(metric.transform(X), np.ndarray)
