"""Data for the tests: real files where they lie beside the project, scikit-learn's own always."""

import functools
import os

# before scikit-learn is imported: its array API check is skipped otherwise
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from examples import register_profiles

matplotlib.use("Agg")
register_profiles()

# several processes of pytest-xdist share the cores
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    threadpool_limits(1)

DATA = Path(
    os.environ.get("SKROBUST_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data")
)


@functools.lru_cache(maxsize=4)
def _read(path):
    with np.load(path) as data:
        X, y, train = data["X"], data["y"], data["is_train"]
    return X.reshape(len(X), -1), y, train


@pytest.fixture(scope="session")
def load_shared():
    """Return a loader of (X_train, X_test, y_train, y_test); skips where the data are absent."""

    def load(name):
        path = DATA / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        X, y, train = _read(path)
        X = X.astype(float)
        return X[train], X[~train], y[train], y[~train]

    return load


@pytest.fixture
def ignore_convergence():
    """Allow a fit that stops at max_iter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.fixture(autouse=True)
def _end_idle_workers():
    """End joblib's processes after a test: what is sent while they time out may be lost."""
    yield
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
