"""What is guaranteed of classifiers of several kinds: the study of doc/guarantees.md.

    python guarantee_study.py run CELLS.jsonl [--data a,b] [--methods a,b] [--seeds 0,1,2]
    python guarantee_study.py table CELLS.jsonl

It resumes as that of deep_study.py does. ℓ₂, features scaled to [0, 1] on the training part, all
training points; errors on the whole test part and on the 1,000 points of
``shuffle(random_state=42)``. The radii of k-NN and of prototypes are exact.
"""

import time

import numpy as np
import torch
from benchmarks.common import SMOKE, read_cells, spread, study
from metric_study import load
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import shuffle

from skrobust import RobustMahalanobis
from skrobust.certificates import exact_nearest_neighbor_radius
from skrobust.neighbors import AdversarialPruning, RobustPrototypeClassifier

# radii that errors are told at; prototypes of a class, target radius, epochs, last temperature
SETTINGS = {
    "satimage": ((0.05, 0.1, 0.15, 0.2), 150, 0.15, 20, 0.2),
    "usps": ((0.5, 1.0, 1.5, 2.0), 200, 1.0, 20, 0.1),
    "mnist": ((0.5, 1.0, 1.5, 2.0), 300, 1.5, 10, 0.1),
    "fashion_mnist": ((0.25, 0.5, 1.0, 1.5), 300, 1.0, 10, 0.1),
}
SEEDS = (0, 1, 2)


def prototypes(name, seed, **params):
    """Return the classifier with the settings of a data set."""
    _, n_prototypes, target_radius, max_iter, temperature = SETTINGS[name]
    return RobustPrototypeClassifier(
        5 if SMOKE else n_prototypes,
        target_radius=target_radius,
        max_iter=2 if SMOKE else max_iter,
        temperature=(1.0, temperature),
        random_state=seed,
        **params,
    )


METHODS = {
    "1-NN": lambda name, seed: KNeighborsClassifier(1),
    "1-NN, pruned": lambda name, seed: AdversarialPruning(
        KNeighborsClassifier(1), radius=SETTINGS[name][2] / 2
    ),
    "RobustMahalanobis": lambda name, seed: make_pipeline(
        RobustMahalanobis(random_state=seed), KNeighborsClassifier(1)
    ),
    "prototypes": prototypes,
    "prototypes, Euclidean": lambda name, seed: prototypes(name, seed, learn_metric=False),
    "prototypes, auto": lambda name, seed: prototypes(name, seed).set_params(n_prototypes="auto"),
}


def cell(name, method, seed):
    """Fit, certify, and return a record."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = load(name)
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    model = METHODS[method](name, seed)
    started = time.perf_counter()
    model.fit(X, y)
    fitted = time.perf_counter()
    found = exact_nearest_neighbor_radius(model, X_test, y_test)
    seconds = time.perf_counter() - fitted
    some = shuffle(np.arange(len(y_test)), random_state=42)[:1000]

    def errors(rows):
        radius = found.radius[rows]
        return [float(1 - found.correct[rows].mean())] + [
            float((radius < r).mean()) for r in SETTINGS[name][0]
        ]

    return {
        "data": name,
        "method": method,
        "seed": seed,
        "fit_seconds": fitted - started,
        "certify_seconds": seconds,
        "stored": len(getattr(model, "prototypes_", X)),
        "errors": errors(np.arange(len(y_test))),
        "errors_1000": errors(some),
        "mean_radius": float(found.radius.mean()),
    }


def table(cells):
    """Print a table for each data set, mean ± half the range over seeds."""
    cells = read_cells(cells)
    for name, (radii, *_) in SETTINGS.items():
        some = [c for c in cells if c["data"] == name]
        if not some:
            continue
        print(f"\n### {name}\n")
        print(
            f"| method | clean | {' | '.join(f'at {r}' for r in radii)} | "
            f"{' | '.join(f'{r} (1,000)' for r in ('clean', *radii))} | fit, s | certify, s | "
            "points | seeds |"
        )
        print("|---|" + "---|" * (2 * len(radii) + 6))
        for method in METHODS:
            found = [c for c in some if c["method"] == method]
            if found:
                columns = np.array([c["errors"] + c["errors_1000"] for c in found]).T
                shown = " | ".join(spread(column, 3) for column in columns)
                seconds = [
                    np.median([c[k] for c in found]) for k in ("fit_seconds", "certify_seconds")
                ]
                print(
                    f"| {method} | {shown} | {seconds[0]:.0f} | {seconds[1]:.0f} | "
                    f"{found[0]['stored']:,} | {len(found)} |"
                )


if __name__ == "__main__":
    study(__file__, cell, table, SETTINGS, METHODS, SEEDS)
