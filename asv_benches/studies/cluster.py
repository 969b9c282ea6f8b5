"""Clustering on embeddings under attack, for ensembles and what they are compared with.

    python -m studies cluster run
    python -m studies cluster table

The study of doc/cluster_study.md. Loss: Proxy Anchor.
Fashion-MNIST: 4,000 training images at random (seed 0), budget 16/255; Omniglot at 28 × 28, test
classes are none of the training classes, budget .1 (both ℓ∞, images in [0, 1]). 1,000 test images
are attacked in 20 steps and clustered by k-means with as many clusters as classes.

all        every image is moved, and clustered anew;
10 %, 50 % some are moved, and the others are scored;
inductive  the centers are those of the clean images.
"""

import time

import numpy as np
import torch
from benchmarks.common import SMOKE
from sklearn.cluster import KMeans

from skrobust import AdversarialDeepMetric
from skrobust.attacks import EmbeddingMargin, EmbeddingNoise, EmbeddingShift, PairAttack
from skrobust.attacks.embeddings._base import Gallery
from skrobust.deep import AdversarialTraining, EnsembleAdversarialTraining, GradientDiversity
from skrobust.metrics import clustering_scores
from skrobust.scorers import reseeding_floor
from studies._cells import spread
from studies.deep import STEPS, budget, load, recall

# fixed before anything was measured
EPOCHS = {"fashion": 8, "omniglot": 20}
EPS = {"fashion": 16 / 255, "omniglot": 0.1}
DATA_SETS, SEEDS = tuple(EPOCHS), (0, 1, 2)
MODES = ("all", "10 %", "50 %", "inductive")


def eat(eps, **params):
    """Return a strategy with three members and three steps."""
    return EnsembleAdversarialTraining(budget(eps), max_iter=3, **params)


def adversarial(eps, **params):
    """Return a strategy of one network with three steps."""
    return AdversarialTraining(budget(eps), max_iter=3, **params)


def trades(eps, beta=1.0):
    """Return a strategy that holds embeddings where they are."""
    return adversarial(eps, objective="trades", beta=beta)


# name: (strategy of a budget, share of the epochs); an ensemble has three members
METHODS = {
    "plain": (lambda eps: None, 1),
    "plain ensemble": (lambda eps: GradientDiversity(weight=0), 1),
    "gradient diversity": (lambda eps: GradientDiversity(), 1),
    "AT": (adversarial, 1),
    "AT, 3 x epochs": (adversarial, 3),
    "AT, 9 x epochs": (adversarial, 9),
    "TRADES": (trades, 1),
    "TRADES, 3 x epochs": (trades, 3),
    # the loss is larger than that of pairs, for which 1 is enough
    "TRADES, beta 6": (lambda eps: trades(eps, 6), 1),
    "TRADES, beta 30": (lambda eps: trades(eps, 30), 1),
    "AT ensemble": (lambda eps: eat(eps, split="none", transfer="T0"), 1),
    "split alone": (lambda eps: eat(eps, transfer="T0"), 1),
    "transfer alone": (lambda eps: eat(eps, split="none"), 1),
    "transfer alone, mixed": (lambda eps: eat(eps, split="none", craft="mixed"), 1),
    "EAT": (eat, 1),
    "EAT, 3 x epochs": (eat, 3),
    "EAT, T4": (lambda eps: eat(eps, transfer="T4"), 1),
    "EAT, shift": (lambda eps: eat(eps, craft="shift"), 1),
    "EAT, mixed": (lambda eps: eat(eps, craft="mixed"), 1),
    "EAT, mixed, clean .25": (lambda eps: eat(eps, craft="mixed", clean_weight=0.25), 1),
}


def attacks(eps):
    """Return the attacks at a budget."""
    common = {"threat_model": budget(eps), "random_state": 0}
    steps = common | {"max_iter": STEPS}
    return {
        "noise": EmbeddingNoise(**common),
        "shift": EmbeddingShift(**steps),
        "margin": EmbeddingMargin(**steps),
        "anchor": EmbeddingMargin(objective="proxy_anchor", **steps),
        "pairs": PairAttack(**steps),
    }


def moved_by(attack, metric, X, y):
    """Return the embeddings of attacked images."""
    if isinstance(attack, PairAttack):
        return attack._attack_groups(metric, X, y, attack.threat_model, Gallery()).embedding_adv
    return attack.run(metric, X, y).embedding_adv


def cell(name, method, seed):
    """Train, and return a record."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = load(name)
    if name == "fashion":  # the first of a random order
        X, y = X[:4000], y[:4000]
    rows = np.random.default_rng(1).permutation(len(y_test))[: 60 if SMOKE else 1000]
    Q, labels = X_test[rows], y_test[rows]
    strategy, share = METHODS[method]
    started = time.perf_counter()
    metric = AdversarialDeepMetric(
        image_shape=(28, 28),
        loss="proxy_anchor",
        training=strategy(EPS[name]),
        max_iter=1 if SMOKE else share * EPOCHS[name],
        batch_size=120,
        standardize=False,
        random_state=seed,
        device="cpu",
    ).fit(X, y)
    seconds = time.perf_counter() - started
    Z = metric.transform(Q).astype(np.float64)
    kmeans = KMeans(len(np.unique(labels)), n_init=4, random_state=seed)
    clean = kmeans.fit_predict(Z)
    centers = kmeans.cluster_centers_
    every = np.arange(len(Z))
    record = {
        "data": name,
        "method": method,
        "seed": seed,
        "seconds": seconds,
        "clean": clustering_scores(labels, clean) | {"recall": recall(Z, labels, every, Z)},
        "floor": reseeding_floor(kmeans, Z, labels),
    }
    order = np.random.default_rng(2).permutation(len(Z))
    for kind, attack in attacks(EPS[name]).items():
        moved = moved_by(attack, metric, Q, labels)
        found = {"recall": recall(Z, labels, every, moved)}
        found["all"] = clustering_scores(labels, kmeans.fit_predict(moved))
        for mode, part in (("10 %", 0.1), ("50 %", 0.5)):
            touched = order[: round(part * len(Z))]
            untouched = np.setdiff1d(every, touched)
            mixed = Z.copy()
            mixed[touched] = moved[touched]
            after = kmeans.fit_predict(mixed)
            found[mode] = clustering_scores(labels[untouched], after[untouched])
            before = clustering_scores(labels[untouched], clean[untouched])
            found[mode]["spill-over"] = before["nmi"] - found[mode]["nmi"]
        nearest = ((moved[:, None] - centers) ** 2).sum(2).argmin(1)
        found["inductive"] = clustering_scores(labels, nearest)
        record[kind] = found
    return record


def table(cells):
    """Print tables for each data set, mean ± half the range over seeds, in percent."""
    kinds = list(attacks(0.1))
    for name in EPOCHS:
        found = {m: [c for c in cells if (c["data"], c["method"]) == (name, m)] for m in METHODS}
        found = {m: some for m, some in found.items() if some}
        if not found:
            continue

        def line(method, some, values, digits=1):
            shown = [spread(100 * np.array(column), digits) for column in zip(*values, strict=True)]
            print(f"| {method} | {' | '.join(shown)} |")

        print(f"\n### {name}: Recall@1 in the clean gallery\n")
        print(f"| method | clean | {' | '.join(kinds)} | fit, s | seeds |")
        print("|---|" + "---|" * (len(kinds) + 3))
        for method, some in found.items():
            values = [[c["clean"]["recall"]] + [c[k]["recall"] for k in kinds] for c in some]
            shown = [spread(100 * np.array(v), 1) for v in zip(*values, strict=True)]
            seconds = np.median([c["seconds"] for c in some])
            print(f"| {method} | {' | '.join(shown)} | {seconds:.0f} | {len(some)} |")
        for score in ("nmi", "ami", "f1"):
            print(f"\n### {name}: {score.upper()}, all images moved\n")
            print(f"| method | clean | {' | '.join(kinds)} | other seeds |")
            print("|---|" + "---|" * (len(kinds) + 2))
            for method, some in found.items():
                values = [
                    [c["clean"][score]] + [c[k]["all"][score] for k in kinds] + [c["floor"]]
                    for c in some
                ]
                line(method, some, values)
        print(f"\n### {name}: NMI by mode (of the untouched images where some are moved)\n")
        modes = [(k, m) for k in ("shift", "margin", "pairs") for m in MODES[1:]]
        print(f"| method | {' | '.join(f'{k}, {m}' for k, m in modes)} |")
        print("|---|" + "---|" * len(modes))
        for method, some in found.items():
            line(method, some, [[c[k][m]["nmi"] for k, m in modes] for c in some])
        print(f"\n### {name}: spill-over, the NMI that untouched images lose\n")
        parts = [(k, m) for k in ("shift", "margin", "anchor", "pairs") for m in ("10 %", "50 %")]
        print(f"| method | {' | '.join(f'{k}, {m}' for k, m in parts)} |")
        print("|---|" + "---|" * len(parts))
        for method, some in found.items():
            line(method, some, [[c[k][m]["spill-over"] for k, m in parts] for c in some])
