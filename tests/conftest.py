"""Data for the tests: real files in the folder SKROBUST_DATA, scikit-learn's own always."""

import functools
import os

# before scikit-learn is imported: its array API check is skipped otherwise
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import warnings

import matplotlib
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from examples import register_profiles
from skrobust.datasets import fetch_table

matplotlib.use("Agg")
register_profiles()

# several processes of pytest-xdist share the cores
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    threadpool_limits(1)


@functools.lru_cache(maxsize=4)
def _read(name):
    return fetch_table(name, download_if_missing=False)


@pytest.fixture(scope="session")
def load_shared():
    """Return a loader of (X_train, X_test, y_train, y_test); skips where the data are absent."""

    def load(name):
        try:
            data = _read(name)
        except OSError as error:
            pytest.skip(str(error).partition("\n")[0])
        X, y, train = data.data.astype(float), data.target, data.is_train
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
