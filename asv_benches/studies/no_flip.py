"""A million attempts to flip predictions inside certified radii, on five real data sets.

    python -m studies no_flip [attempts per data set]

Random directions, gradients of a soft k-NN, and the exact perturbation at 0.999 of the radius
(see ``tests/helpers/attempts.py``). Prints a line for each data set, K and norm.
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "helpers")]

from attempts import flips
from benchmarks.common import SMOKE

from skrobust import ThreatModel
from skrobust.certificates import exact_nearest_neighbor_radius
from skrobust.datasets import fetch_table

NAMES = ("pendigits", "usps", "satimage", "optdigits", "spambase")
N_POINTS = 5 if SMOKE else 60
SETTINGS = ((1, 2), (3, 2), (1, np.inf), (11, 2))


def load(name):
    """Return (X_train, y_train, X, y), scaled on the training part."""
    data = fetch_table(name)
    X, y = data.data.astype(float), data.target
    train = data.get("is_train", np.arange(len(X)) % 4 > 0)
    if name == "spambase":
        X = np.log1p(X)
    low, span = X[train].min(0), np.ptp(X[train], axis=0)
    X = (X - low) / np.where(span > 0, span, 1)
    return X[train], y[train], X[~train], y[~train]


def main(each=200_000):
    """Run all and return how many flips there were."""
    total = tried = 0
    for name in NAMES:
        X_train, y_train, X, y = load(name)
        X, y = X[:N_POINTS], y[:N_POINTS]
        for K, norm in SETTINGS:
            started = time.perf_counter()
            model = KNeighborsClassifier(K).fit(X_train, y_train)
            found = exact_nearest_neighbor_radius(
                model, X, y, threat_model=ThreatModel(norm), max_nodes=100
            )
            n_flips, n_tried = flips(
                model,
                X_train,
                y_train,
                X,
                y,
                found.radius,
                found.perturbation,
                norm,
                int(each) // len(SETTINGS),
            )
            total, tried = total + n_flips, tried + n_tried
            seconds = time.perf_counter() - started
            line = f"{name:10} K={K:<2} norm={norm:<3} {n_tried:7,} tried, {n_flips} flips"
            print(f"{line}, {seconds:.0f} s", flush=True)
    print(f"{tried:,} attempts, {total} flips")
    return total
