"""Embeddings trained in many ways, clean and under attack: the study of doc/deep_study.md.

    python -m studies deep run
    python -m studies deep table

Images are in [0, 1] as the network sees them ("standardized": with mean 0 and deviation 1 inside),
budgets are ℓ∞ in these units. Omniglot is averaged down to 28 × 28, its test
classes are none of the training classes; Fashion-MNIST has 10,000 training images at random (seed
0) and its own test part. Attacks are white-box on the branch that inference uses, 20 steps, with
1,000 test images as queries against the whole clean test part (the same for all methods); ERS is
the score of the ranking literature on them (77/255, 32 steps; of the first seed).
"""

import time

import numpy as np
import torch
from benchmarks.common import SMOKE
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import EmbeddingShift, EmbeddingTargets, RankingAttack
from skrobust.datasets import fetch_table
from skrobust.deep import (
    AdversarialTraining,
    AntiCollapseTriplet,
    EmbeddingShiftTraining,
    HardnessManipulation,
    MDProp,
)
from skrobust.inspection import ranking_report
from studies._cells import spread

# fixed before anything was measured
EPOCHS = {"omniglot": 20, "fashion": 8}
EPS = (0.01, 0.1)
STEPS = 2 if SMOKE else 20
SEEDS = (0, 1, 2)
DATA_SETS = tuple(EPOCHS)


def budget(eps):
    """Return the threat model of images in [0, 1]."""
    return ThreatModel(np.inf, eps, bounds=(0.0, 1.0))


# name: (loss, strategy, share of the epochs); T is 3 where an adversary makes several steps
METHODS = {
    "plain": ("multi_similarity", lambda: None, 1),
    "MP'' .1": ("multi_similarity", lambda: MDProp(budget(0.1)), 1),
    "MP'' .01": ("multi_similarity", lambda: MDProp(budget(0.01)), 1),
    "MP'' .1, one norm": (
        "multi_similarity",
        lambda: MDProp(budget(0.1), shared_batch_norm=True),
        1,
    ),
    "MP'' .01, one norm": (
        "multi_similarity",
        lambda: MDProp(budget(0.01), shared_batch_norm=True),
        1,
    ),
    # how far the rows have to differ for several norms to pay
    "MP'' .3": ("multi_similarity", lambda: MDProp(budget(0.3)), 1),
    "MP'' .3, one norm": (
        "multi_similarity",
        lambda: MDProp(budget(0.3), shared_batch_norm=True),
        1,
    ),
    "MP'' noise .1": ("multi_similarity", lambda: MDProp(budget(0.1), perturbation="noise"), 1),
    "plain, standardized": ("multi_similarity", lambda: None, 1),
    "MP'' .1, standardized": ("multi_similarity", lambda: MDProp(budget(0.1)), 1),
    "MP'' .01, standardized": ("multi_similarity", lambda: MDProp(budget(0.01)), 1),
    "plain, 3.4 x epochs": ("multi_similarity", lambda: None, 3.4),
    "AT .1": ("multi_similarity", lambda: AdversarialTraining(budget(0.1), max_iter=3), 1),
    "EST .1": ("multi_similarity", lambda: EmbeddingShiftTraining(budget(0.1), max_iter=3), 1),
    "TRADES .1": (
        "multi_similarity",
        lambda: AdversarialTraining(budget(0.1), objective="trades", max_iter=3),
        1,
    ),
    "AP' .1": ("multi_similarity", lambda: MDProp(budget(0.1), variant="AP'"), 1),
    "MP' .1": ("multi_similarity", lambda: MDProp(budget(0.1), variant="MP'"), 1),
    "plain, PA": ("proxy_anchor", lambda: None, 1),
    "AT .1, PA": ("proxy_anchor", lambda: AdversarialTraining(budget(0.1), max_iter=3), 1),
    "MP'' .1, PA": ("proxy_anchor", lambda: MDProp(budget(0.1)), 1),
    "ACT .1": ("multi_similarity", lambda: AntiCollapseTriplet(budget(0.1), max_iter=3), 1),
    "HM .1": ("multi_similarity", lambda: HardnessManipulation(budget(0.1), max_iter=3), 1),
    # as much time as MP''; AT, EST, AP' and MP' take that already
    "ACT .1, 0.5 x epochs": (
        "multi_similarity",
        lambda: AntiCollapseTriplet(budget(0.1), max_iter=3),
        0.5,
    ),
    "HM .1, 0.3 x epochs": (
        "multi_similarity",
        lambda: HardnessManipulation(budget(0.1), max_iter=3),
        0.3,
    ),
    "TRADES .1, 0.75 x epochs": (
        "multi_similarity",
        lambda: AdversarialTraining(budget(0.1), objective="trades", max_iter=3),
        0.75,
    ),
    "plain, PA, 3.4 x epochs": ("proxy_anchor", lambda: None, 3.4),
}


def load(name):
    """Return X_train, y_train, X_test, y_test; images in [0, 1], flat."""
    data = fetch_table({"omniglot": "omniglot_small", "fashion": "fashion_mnist"}[name])
    X, y, train = data.images, data.target, data.is_train
    if name == "omniglot":
        images = torch.from_numpy(X).float()[:, None] / 255
        X = torch.nn.functional.interpolate(images, size=(28, 28), mode="area").numpy()
    else:
        X = X.astype(np.float32) / 255
    X = X.reshape(len(X), -1)
    X_train, y_train, X_test, y_test = X[train], y[train], X[~train], y[~train]
    if name == "fashion":
        some = np.random.default_rng(0).permutation(len(X_train))[:10_000]
        X_train, y_train = X_train[some], y_train[some]
    if SMOKE:
        few = np.flatnonzero(np.isin(y_train, np.unique(y_train)[:6]))[:240]
        some = np.flatnonzero(np.isin(y_test, np.unique(y_test)[:6]))[:100]
        return X_train[few], y_train[few], X_test[some], y_test[some]
    return X_train, y_train, X_test, y_test


def recall(Z, y, rows, queries):
    """Return Recall@1 of queries (some of the rows, moved) in the clean gallery Z."""
    nearness = queries.astype(np.float64) @ Z.astype(np.float64).T
    nearness[np.arange(len(rows)), rows] = -np.inf
    return float((y[nearness.argmax(1)] == y[rows]).mean())


def nmi(Z, y):
    """Return NMI of k-means with as many clusters as classes."""
    found = KMeans(len(np.unique(y)), n_init=3, random_state=0).fit_predict(Z)
    return float(normalized_mutual_info_score(y, found))


def attacks(eps):
    """Return the attacks at a budget."""
    common = {"threat_model": budget(eps), "max_iter": STEPS, "random_state": 0}
    return {
        "ES": EmbeddingShift(**common),
        "STAX": EmbeddingTargets(**common),
        "MTAX": EmbeddingTargets(n_targets=5, **common),
        "LTM": RankingAttack(kind="LTM", **common),
    }


def cell(name, method, seed):
    """Train, and return a record."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = load(name)
    loss, strategy, share = METHODS[method]
    epochs = 1 if SMOKE else round(share * EPOCHS[name])
    started = time.perf_counter()
    metric = AdversarialDeepMetric(
        image_shape=(28, 28),
        loss=loss,
        training=strategy(),
        max_iter=epochs,
        batch_size=120,
        standardize="standardized" in method,
        random_state=seed,
        device="cpu",
    ).fit(X, y)
    seconds = time.perf_counter() - started
    rows = np.random.default_rng(1).permutation(len(y_test))[: 50 if SMOKE else 1000]
    Z = metric.transform(X_test)
    record = {
        "data": name,
        "method": method,
        "seed": seed,
        "epochs": epochs,
        "seconds": seconds,
        "recall": metric.score(X_test, y_test),
        "nmi": nmi(Z[rows], y_test[rows]),
        "attacked": {},
    }
    Q, labels = X_test[rows], y_test[rows]
    for eps in EPS:
        for kind, attack in attacks(eps).items():
            moved = attack.run(metric, Q, labels).embedding_adv
            record["attacked"][f"{kind} {eps}"] = {
                "recall": recall(Z, y_test, rows, moved),
                "nmi": nmi(moved, labels),
            }
    if seed == SEEDS[0]:  # half the time of a cell, and next to 0 for every method
        report = ranking_report(
            metric, Q, labels, threat_model=budget(77 / 255), max_iter=2 if SMOKE else 32
        )
        record["ERS"] = report.score
    if getattr(metric.training_, "shared_batch_norm", True) is False:
        record["grid"] = grid(metric, X_test, y_test, rows[:500])
    return record


def grid(metric, X, y, rows):
    """Return Recall@1 of attacks crafted on one branch and evaluated on another, and clean."""
    names = ("clean", *metric.module_.backbone.blocks[1].aux)
    eps = metric.training_.threat_model.eps
    found = {}
    views = {name: metric.branch(name) for name in names}
    gallery = {name: view.transform(X) for name, view in views.items()}
    for there in names:
        found[f"none on {there}"] = recall(gallery[there], y, rows, gallery[there][rows])
    for kind in ("ES", "STAX", "MTAX"):
        attack = attacks(eps)[kind]
        for here in names:
            moved = attack.run(views[here], X[rows], y[rows]).X_adv
            for there in names:
                value = recall(gallery[there], y, rows, views[there].transform(moved))
                found[f"{kind} from {here} on {there}"] = value
    return found


def table(cells):
    """Print a table for each data set, mean ± half the range over seeds, in percent."""
    kinds = [f"{kind} {eps}" for eps in EPS for kind in ("ES", "STAX", "MTAX", "LTM")]
    for name in EPOCHS:
        print(f"\n### {name}: Recall@1\n")
        print(f"| method | clean | {' | '.join(kinds)} | ERS | fit, s | seeds |")
        print("|---|" + "---|" * (len(kinds) + 4))
        found = {m: [c for c in cells if (c["data"], c["method"]) == (name, m)] for m in METHODS}
        for method, some in found.items():
            if some:
                values = [[c["recall"]] + [c["attacked"][k]["recall"] for k in kinds] for c in some]
                scores = [c["ERS"] for c in some if "ERS" in c]
                ers = spread(scores, 1) if scores else "–"
                line = " | ".join(spread(column, 1) for column in 100 * np.transpose(values))
                seconds = np.median([c["seconds"] for c in some])
                print(f"| {method} | {line} | {ers} | {seconds:.0f} | {len(some)} |")
        print(f"\n### {name}: NMI of the queries\n")
        print(f"| method | clean | {' | '.join(kinds)} |")
        print("|---|" + "---|" * (len(kinds) + 1))
        for method, some in found.items():
            if some:
                values = [[c["nmi"]] + [c["attacked"][k]["nmi"] for k in kinds] for c in some]
                line = " | ".join(spread(column, 1) for column in 100 * np.transpose(values))
                print(f"| {method} | {line} |")
        print(f"\n### {name}: Recall@1 with several batch norms minus that with one, by seed\n")
        print(f"| method | clean | {' | '.join(kinds)} |")
        print("|---|" + "---|" * (len(kinds) + 1))
        for method in found:
            shared = {c["seed"]: c for c in found.get(f"{method}, one norm", [])}
            pairs = [(c, shared[c["seed"]]) for c in found[method] if c["seed"] in shared]
            if pairs:
                print_pairs(method, kinds, pairs)
        print(f"\n### {name}: Recall@1, crafted on one branch and evaluated on another\n")
        for method, some in found.items():
            grids = [c["grid"] for c in some if "grid" in c]
            if grids:
                print_grid(method, grids)


def print_pairs(method, kinds, pairs):
    """Print how much more Recall@1 the first of each pair has."""
    columns = [[100 * (a["recall"] - b["recall"]) for a, b in pairs]]
    for kind in kinds:
        attacked = [[c["attacked"][kind]["recall"] for c in pair] for pair in pairs]
        columns.append([100 * (a - b) for a, b in attacked])
    shown = [", ".join(f"{value:.1f}" for value in column) for column in columns]
    print(f"| {method} | {' | '.join(shown)} |")


def print_grid(method, grids):
    """Print one table of branches."""
    names = [key.removeprefix("none on ") for key in grids[0] if key.startswith("none on ")]
    print(f"| {method} | {' | '.join(f'on {name}' for name in names)} |")
    print("|---|" + "---|" * len(names))
    for craft in ["none", *(f"{k} from {name}" for k in ("ES", "STAX", "MTAX") for name in names)]:
        values = [spread([100 * g[f"{craft} on {name}"] for g in grids], 1) for name in names]
        print(f"| {craft} | {' | '.join(values)} |")
    print()
