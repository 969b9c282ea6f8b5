"""Certified errors of learned metrics on eight data sets: the study of doc/metric_study.md.

    SKROBUST_PEERS=PYTHON_WITH_METRIC_LEARN python -m studies metric run
    python -m studies metric table

Features are scaled to [0, 1] on the training part. The victim is 1-NN on all training points; the
radii are lower bounds of ``nearest_neighbor_lower_bound`` in ℓ₂, on the whole test part, and 0 for
misclassified points. Splice has no official split: 30 % at random, stratified, seed 0.
"""

import os
import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from benchmarks.common import SMOKE
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.preprocessing import MinMaxScaler

from skrobust import RobustMahalanobis
from skrobust.certificates import nearest_neighbor_lower_bound
from skrobust.datasets import fetch_table
from skrobust.metric_learning import AdamSolver
from skrobust.neighbors import AdversarialPruning, WilsonEditing
from studies._cells import FOLDER, spread

# fixed before anything was measured
RADII = {
    "pendigits": (0.1, 0.2, 0.3, 0.4),
    "satimage": (0.05, 0.1, 0.15, 0.2),
    "usps": (0.5, 1.0, 1.5, 2.0),
    "splice": (0.1, 0.2, 0.3, 0.4),
    "dna": (0.5, 0.75, 1.0, 1.25),
    "optdigits": (0.2, 0.4, 0.6, 0.8),
    "mnist": (0.5, 1.0, 1.5, 2.0),
    "fashion_mnist": (0.25, 0.5, 1.0, 1.5),
}
PEERS = ("LMNN", "LFDA", "ITML", "LSML", "MMC", "MLKR", "RCA", "SDML")
# the largest training part that a learner is given; a random subset of it beyond
SUBSET = dict.fromkeys(("NCA", "LMNN", "MLKR", "MMC"), 2000)
PEER_SECONDS = 300
PEER_SCRIPT = str(Path(__file__).parent / "_peer_metrics.py")
METHODS = (
    *("Euclidean", "NCA", *PEERS, "paper", "projected", "default"),
    # the track that changes the training points
    *("Euclidean+Wilson", "default+Wilson", "Euclidean+pruning", "default+pruning"),
)
UNSEEDED = ("Euclidean", "LFDA")
DATA_SETS, SEEDS = tuple(RADII), (0, 1, 2)


def load(name):
    """Return X_train, y_train, X_test, y_test."""
    data = fetch_table(name)
    X, y, train = data.data.astype(np.float64), data.target, data.get("is_train")
    if train is None:
        chosen, _ = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=0)
        train = np.isin(np.arange(len(y)), chosen)
    if SMOKE:
        order = np.random.default_rng(0).permutation(len(y))
        kept = np.r_[order[train[order]][:300], order[~train[order]][:50]]
        X, y, train = X[kept], y[kept], train[kept]
    scaler = MinMaxScaler().fit(X[train])
    return scaler.transform(X[train]), y[train], scaler.transform(X[~train]), y[~train]


def paper_epochs(X):
    """30 where a search takes a minute, 100 on usps, else 300."""
    return 2 if SMOKE else 30 if len(X) >= 60000 else 100 if X.size > 1e6 else 300


def fit(method, X, y, seed):
    """Return G (None for the Euclidean metric), seconds, and notes."""
    if method == "Euclidean":
        return None, 0.0, {}
    notes = {}
    if len(X) > SUBSET.get(method, len(X)):
        rows, _ = train_test_split(
            np.arange(len(X)), train_size=SUBSET[method], stratify=y, random_state=seed
        )
        X, y, notes = X[rows], y[rows], {"subset": len(rows)}
    if method in PEERS:
        return (*fit_peer(method, X, y, seed), notes)
    X32 = X.astype(np.float32)
    if method == "NCA":
        learner = NeighborhoodComponentsAnalysis(random_state=seed)
    elif method == "paper":
        epochs = paper_epochs(X)
        learner = RobustMahalanobis(
            objective="triplet",
            validation_fraction=0,
            solver=AdamSolver(epoch_size=None, max_iter=epochs, n_iter_no_change=epochs),
            random_state=seed,
        )
        notes["epochs"] = epochs
    else:
        solver = "projected" if method == "projected" else "auto"
        learner = RobustMahalanobis(solver=solver, random_state=seed)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.fit(X32, y)
    seconds = time.perf_counter() - started
    if isinstance(learner, RobustMahalanobis):
        notes["epochs"] = learner.n_iter_
        notes |= {k: v for k, v in learner.solver_result_.items() if k.endswith("seconds")}
    return learner.components_.astype(float), seconds, notes


def fit_peer(method, X, y, seed):
    """Fit in the environment of SKROBUST_PEERS, within five minutes."""
    if "SKROBUST_PEERS" not in os.environ:
        raise LookupError("SKROBUST_PEERS must be the Python of an environment with metric-learn")
    with tempfile.TemporaryDirectory() as folder:
        data, result = f"{folder}/data.npz", f"{folder}/result.npz"
        np.savez(data, X=X, y=y, seed=seed)
        subprocess.run(
            [os.environ["SKROBUST_PEERS"], PEER_SCRIPT, method, data, result],
            check=True,
            capture_output=True,
            text=True,
            timeout=PEER_SECONDS,
        )
        with np.load(result) as found:
            return found["G"], float(found["seconds"])


def edit(method, G, X, y, radius):
    """Return the indices of the training points that are kept."""
    Z = X if G is None else X @ G.T
    if method.endswith("Wilson"):
        return WilsonEditing().fit(Z, y).sample_indices_
    # a radius in raw units is one of at most ‖G‖₂ times as much under the metric
    norm = 1.0 if G is None else np.linalg.norm(G, 2)
    return AdversarialPruning(radius=radius * norm).fit(Z, y).sample_indices_


def cell(name, method, seed):
    """Return the record of a cell; learned metrics are kept for the edited track."""
    X_train, y_train, X, y = load(name)
    record = {"data": name, "method": method, "seed": seed, "radii": RADII[name]}
    metric, _, kind = method.partition("+")
    saved = FOLDER / "metric.metrics" / f"{name}-{metric}-{seed}.npz"
    saved.parent.mkdir(parents=True, exist_ok=True)
    try:
        if kind:
            if metric == "Euclidean":
                G = None
            elif saved.exists():
                G = np.load(saved)["G"]
            else:
                G, _, _ = fit(metric, X_train, y_train, seed)
            kept = edit(method, G, X_train, y_train, RADII[name][1])
            record["removed"] = 1 - len(kept) / len(X_train)
            X_train, y_train = X_train[kept], y_train[kept]
        else:
            G, record["seconds"], record["notes"] = fit(metric, X_train, y_train, seed)
            if metric == "default":
                np.savez(saved, G=G.astype(np.float32))
    except subprocess.TimeoutExpired:
        return record | {"failed": f"no result in {PEER_SECONDS} s"}
    except subprocess.CalledProcessError as error:
        return record | {"failed": error.stderr.strip().splitlines()[-1][:90]}
    if G is not None and not np.isfinite(G).all():
        return record | {"failed": "the metric is not finite"}
    found = nearest_neighbor_lower_bound(X_train, y_train, X, y, components=G)
    return record | {
        "clean_error": 1 - float(found.correct.mean()),
        "certified_error": [1 - float(found.certified(eps).mean()) for eps in RADII[name]],
        "mean_radius": float(found.radius.mean()),
        "n_test": len(X),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def table(cells):
    """Print a table for each data set, mean ± half the spread over seeds."""
    for name, radii in RADII.items():
        print(f"\n### {name}\n")
        print(f"| method | clean | {' | '.join(map(str, radii))} | mean radius | fit, s | seeds |")
        print("|---|" + "---|" * (len(radii) + 4))
        for method in METHODS:
            found = [c for c in cells if c["data"] == name and c["method"] == method]
            if not found:
                continue
            failed = [c["failed"] for c in found if "failed" in c]
            found = [c for c in found if "failed" not in c]
            if not found:
                print(f"| {method} | {failed[0]} |" + " |" * (len(radii) + 3))
                continue
            errors = np.array([[c["clean_error"], *c["certified_error"]] for c in found])
            radius = np.array([c["mean_radius"] for c in found])
            subset = found[0].get("notes", {}).get("subset")
            label = f"{method} ({subset:,} points)" if subset else method
            if "removed" in found[0]:
                label += f" (−{np.mean([c['removed'] for c in found]):.1%})"
            seconds = np.median([c.get("seconds", np.nan) for c in found])
            print(
                f"| {label} | "
                + " | ".join(spread(column, 3) for column in errors.T)
                + f" | {spread(radius, 4)} | {'' if np.isnan(seconds) else round(seconds, 1)} "
                f"| {len(found)} |"
            )
