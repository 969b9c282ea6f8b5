"""Memory is linear in the number of samples; measured in processes of their own."""

import json
import subprocess
import sys

import pytest

FIT = """
import json, resource, sys, warnings
import numpy as np
from skrobust import RobustMahalanobis
warnings.simplefilter("ignore")
n, d = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
y = rng.integers(0, 10, n)
X = (rng.random((10, d), dtype=np.float32)[y] + rng.random((n, d), dtype=np.float32)) / 2
RobustMahalanobis(max_iter=1, random_state=0).fit(X[:100], y[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
metric = RobustMahalanobis(max_iter=1, random_state=0).fit(X, y)
assert np.abs(metric.components_ - np.eye(d)).max() > 0
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([before * 1024, after * 1024]))
"""


def peak(n_samples, n_features):
    """Return bytes at the peak, before the fit (data and libraries) and after it."""
    if sys.platform != "linux":
        pytest.skip("ru_maxrss has other units elsewhere")
    found = subprocess.run(
        [sys.executable, "-c", FIT, str(n_samples), str(n_features)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


@pytest.mark.slow
def test_no_matrix_of_pairs():
    """At 40,000 points a float32 matrix of pairs would take 6.4 GB, one of bits 0.2 GB."""
    before, after = peak(40000, 4)
    assert after - before < 0.15e9


@pytest.mark.slow
def test_60000_times_784_fits_in_4_gib():
    _, after = peak(60000, 784)
    assert after < 4 * 2**30
