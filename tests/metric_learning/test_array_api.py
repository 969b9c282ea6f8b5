"""With array API dispatch on, tensors are mapped where they are."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
import torch
from sklearn import config_context
from sklearn.datasets import load_iris

from skrobust import RobustMahalanobis

X, y = load_iris(return_X_y=True)
metric = RobustMahalanobis(max_iter=3, random_state=0).fit(X, y)
for device in {devices}:
    for dtype, tol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        points = torch.tensor(X, dtype=dtype, device=device)
        with config_context(array_api_dispatch=True):
            found = metric.transform(points)
        assert isinstance(found, torch.Tensor) and found.dtype == dtype
        assert found.device == points.device
        np.testing.assert_allclose(found.cpu().numpy(), metric.transform(X), rtol=tol, atol=tol)
        try:
            with config_context(array_api_dispatch=True):
                metric.transform(points[:, :2])
        except ValueError as error:
            assert "2 features" in str(error)
        else:
            raise AssertionError
        assert isinstance(metric.transform(points.cpu()), np.ndarray)
with config_context(array_api_dispatch=True):
    assert isinstance(metric.transform(X), np.ndarray)
"""


def run(devices):
    # SciPy reads its switch when it is imported
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE.format(devices=devices)],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_tensors_on_the_cpu():
    pytest.importorskip("sklearn", minversion="1.7")  # 1.6 needs array-api-compat
    found = run(["cpu"])
    assert found.returncode == 0, found.stderr


@pytest.mark.cuda
def test_tensors_on_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = run(["cuda"])
    assert found.returncode == 0, found.stderr
