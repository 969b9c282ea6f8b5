"""How the settings of doc/guarantees.md were chosen: prints its numbers.

    python -m studies guarantee_settings

* Prototypes: the mean bound on held-out training points (at most the target radius) at the end of
  training, by number of epochs and by last temperature; mean of three seeds.
* The head behind a 1-Lipschitz network on digits: certified accuracy at 4, pixels from 0 to 16.
"""

import numpy as np
import torch
from benchmarks.common import SMOKE
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline

from skrobust import AdversarialDeepMetric, certify
from studies.guarantee import SEEDS, prototypes
from studies.metric import load


def held_out(name, **params):
    """Return the mean bound on held-out points, over seeds."""
    X, y, *_ = load(name)
    found = []
    for seed in SEEDS:
        model = prototypes(name, seed).set_params(**params)
        found.append(model.fit(X.astype(np.float32), y).validation_curve_[-1])
    return float(np.mean(found))


def heads():
    """Print the certified accuracy of three heads behind the same kind of network."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    for head in (NearestCentroid(), KNeighborsClassifier(3), KNeighborsClassifier(1)):
        shares = []
        for seed in SEEDS:
            metric = AdversarialDeepMetric(
                lipschitz="orthogonal",
                loss="certified_margin",
                max_iter=1 if SMOKE else 20,
                random_state=seed,
            )
            model = make_pipeline(metric, head).fit(X_train, y_train)
            found = certify(model, X_test, y_test, method="fast")
            shares.append(found.certified(4.0).mean())
        print(f"digits, certified at 4: {head} {np.mean(shares):.3f}", flush=True)


def main():
    """Print all of it."""
    torch.set_num_threads(1)
    heads()
    for max_iter in (2, 3) if SMOKE else (10, 20, 40, 80):
        print(
            f"satimage, {max_iter} epochs: {held_out('satimage', max_iter=max_iter):.4f}",
            flush=True,
        )
    for name in ("satimage", "usps"):
        for last in (0.1, 0.2):
            bound = held_out(name, temperature=(1.0, last))
            print(f"{name}, last temperature {last}: {bound:.4f}", flush=True)
