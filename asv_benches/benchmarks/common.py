"""Data and sizes that the benchmarks share.

``SKROBUST_BENCH=smoke`` runs everything at toy size, to see that it runs.
"""

import os
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skrobust.datasets import fetch_table
from skrobust.numerics import nearest_by_class
from skrobust.objectives import CertificateObjective, TargetRadiusProgram

SMOKE = os.environ.get("SKROBUST_BENCH") == "smoke"

warnings.simplefilter("ignore", ConvergenceWarning)


def blobs(n_samples, n_features, dtype=np.float32, n_classes=10, seed=0):
    """Gaussian classes that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n_samples)
    centers = rng.standard_normal((n_classes, n_features))
    X = centers[y] + 2 * rng.standard_normal((n_samples, n_features))
    return X.astype(dtype), y


def fashion_mnist():
    """All of Fashion-MNIST in [0, 1], float32; NotImplementedError skips where it is absent."""
    try:
        data = fetch_table("fashion_mnist", download_if_missing=False)
    except OSError as error:
        raise NotImplementedError(str(error)) from error
    X, y, train = data.data.astype(np.float32) / 255, data.target, data.is_train
    if SMOKE:
        kept = np.r_[0:600, 60000:60040]
        X, y, train = X[kept][:, ::16], y[kept], train[kept]
    return X[train], y[train], X[~train], y[~train]


def seconds(function):
    """Run once and return the wall time."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def target_radius_program(n_triplets, n_features, seed, radius=0.3):
    """Triplets that decide the 1-NN bound of Gaussian classes that overlap, as a program."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, 3, n_triplets))
    X = rng.standard_normal((n_triplets, n_features))
    X[:, :3] += 3 * np.eye(3)[y]
    X = torch.from_numpy(X)
    ends = np.cumsum(np.bincount(y))
    slices = [slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    eye = torch.eye(n_features, dtype=torch.float64)
    neighbors = nearest_by_class(X, slices, 10)
    objective = CertificateObjective().prepare(n_features)
    triplets = objective.triplets(eye, X, torch.arange(n_triplets), neighbors, None)
    weight = torch.full((n_triplets,), 1 / n_triplets, dtype=torch.float64)
    return TargetRadiusProgram.of(
        X, triplets, weight, eye, radius=radius, regularization=0.05, penalty="trace"
    )
