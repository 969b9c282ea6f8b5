"""Time and memory of a fit on Fashion-MNIST, beside NCA on as much of it as it can do.

    python -m studies fit_time [NCA's points ...]     (2000 5000 10000)

Each fit runs in a process of its own; peak memory is that of the process, data (0.19 GB) and
libraries included. RobustMahalanobis is fitted with its defaults on parts of growing size, which
shows how a step and the memory grow with n. The search for neighbours is timed on its own.
"""

import json
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
from benchmarks.common import SMOKE, fashion_mnist
from sklearn.neighbors import NeighborhoodComponentsAnalysis

from skrobust import RobustMahalanobis

PARTS = (200, 400) if SMOKE else (7500, 15000, 30000, 60000)


def fit(name, size):
    """Return what one fit took."""
    X, y, _, _ = fashion_mnist()
    rows = np.random.default_rng(0).permutation(len(X))[:size]
    X, y = X[rows], y[rows]
    learner = (
        NeighborhoodComponentsAnalysis(random_state=0)
        if name == "NCA"
        else RobustMahalanobis(max_iter=2 if SMOKE else 50, random_state=0)
    )
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    learner.fit(X, y)
    found = {"seconds": time.perf_counter() - started, "n_iter": learner.n_iter_}
    if name != "NCA":
        found |= {k: v for k, v in learner.solver_result_.items() if k.endswith("seconds")}
    return found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def compare(sizes):
    """Print the table."""
    print("| learner | points | epochs | fit, s | search | steps | judging | peak, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, parts in (("NCA", sizes), ("RobustMahalanobis", PARTS)):
        for size in parts:
            command = [sys.executable, "-m", "studies", "fit_time", "one", name, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            shares = [
                f"{found[key]:.1f}" if key in found else ""
                for key in ("search_seconds", "step_seconds", "judge_seconds")
            ]
            print(
                f"| {name} | {size} | {found['n_iter']} | {found['seconds']:.1f} "
                f"| {' | '.join(shares)} | {found['peak']:.2f} |",
                flush=True,
            )


def main(*sizes):
    """Measure all fits; ``one NAME SIZE`` prints one, in a process of its own."""
    if sizes[:1] == ("one",):
        print(json.dumps(fit(sizes[1], int(sizes[2]))))
    else:
        compare([int(size) for size in sizes] or ([100] if SMOKE else [2000, 5000, 10000]))
