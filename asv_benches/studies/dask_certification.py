"""Certification on a dask cluster of two workers, against a serial run: same radii, less time.

    python -m studies dask_certification [N_POINTS]

The lower bound of 1-NN on Fashion-MNIST, all training points, one BLAS thread everywhere. The
workers have imported the package when the time starts, and keep freed memory as the serial process
does: dask sets MALLOC_TRIM_THRESHOLD_, and glibc then no longer raises the size from which it asks
the system for fresh pages, which costs half of the time here. That size is set to its largest,
32 MiB.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import time

import dask
import numpy as np
import torch
from benchmarks.common import fashion_mnist
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.neighbors import KNeighborsClassifier

from skrobust.certificates import certify_nearest_neighbors

MALLOC = "distributed.nanny.pre-spawn-environ.MALLOC_"
dask.config.set({f"{MALLOC}TRIM_THRESHOLD_": 2**31, f"{MALLOC}MMAP_THRESHOLD_": 2**25})


def peak():
    """Return the peak resident memory of a process, in GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def prepare():
    """Import what a worker needs, before the time runs."""
    import skrobust.certificates  # noqa: F401

    torch.set_num_threads(1)


def main(n=None):
    """Time both, and compare."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = fashion_mnist()
    n = len(X_test) if n is None else int(n)
    X_test, y_test = X_test[:n], y_test[:n]
    model = KNeighborsClassifier(1).fit(X, y)
    started = time.perf_counter()
    serial = certify_nearest_neighbors(model, X_test, y_test)
    alone = time.perf_counter() - started
    started = time.perf_counter()
    with parallel_config("threading"):
        threads = certify_nearest_neighbors(model, X_test, y_test, n_jobs=2)
    threaded = time.perf_counter() - started
    found, ratios, memory = [threads], [], 0.0
    for processes in (False, True):
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            client.run(prepare)
            started = time.perf_counter()
            with parallel_config("dask"):
                found.append(certify_nearest_neighbors(model, X_test, y_test, n_jobs=2))
            ratios.append((time.perf_counter() - started) / alone)
            memory = max(client.run(peak).values())
    for one in found:
        np.testing.assert_array_equal(one.radius, serial.radius)
        np.testing.assert_array_equal(one.status, serial.status)
    print(
        f"{n} points: serial {alone:.1f} s; ratios: two threads {threaded / alone:.2f}, two dask "
        f"workers in one process {ratios[0]:.2f}, in two {ratios[1]:.2f}; peak memory of a worker "
        f"process {memory:.1f} GiB, of this one {peak():.1f} GiB"
    )
