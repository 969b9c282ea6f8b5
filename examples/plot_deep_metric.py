"""
Retrieval under attack, and three ways to train for it
======================================================

A small network embeds handwritten digits, and the nearest embeddings of a query are what a search
returns. Then every pixel of the query may change by up to 3 of 16 grey levels: the search of a
plainly trained network loses nearly all queries, one that was trained with an adversary keeps
some or most of them.

The numbers come from attacks: they are upper bounds on what holds. Nothing here is proved.
Runs in about a minute on two cores.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import EmbeddingShift
from skrobust.deep import EmbeddingShiftTraining, MDProp
from skrobust.metrics import recall_at_k

# %%
# Train
# -----
# A batch has eight points of each class; the threat model is in the units of the pixels.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
budget = ThreatModel(np.inf, 3.0, bounds=(0.0, 16.0))
metrics = {
    name: AdversarialDeepMetric(
        image_shape=(8, 8), training=training, max_iter=20, random_state=0
    ).fit(X_train, y_train)
    for name, training in {
        "plain": None,
        "MDProp": MDProp(budget),
        "embedding shift": EmbeddingShiftTraining(budget, max_iter=5),
    }.items()
}

# %%
# Attack
# ------
# Each test image in turn is the query, moved so that its embedding goes as far as it can; the
# others stay as they are.

EPS = (0.0, 1.0, 2.0, 3.0, 4.0)
recalls = {}
for name, metric in metrics.items():
    found = []
    for eps in EPS:
        attack = EmbeddingShift(
            threat_model=ThreatModel(np.inf, eps, bounds=(0.0, 16.0)), random_state=0
        )
        result = attack.run(metric, X_test)
        found.append(recall_at_k(result.embedding, y_test, queries=result.embedding_adv))
        if eps == budget.eps and name == "plain":
            moved = result.X_adv
    recalls[name] = found
    print(f"{name:16}", "  ".join(f"{eps:g}: {r:.3f}" for eps, r in zip(EPS, found, strict=True)))

# %%
# Look
# ----
# Queries that plain training loses, moved against each metric in turn, and what it returns.


def nearest(metric, query, own, k=4):
    """Return the positions of the k nearest test images, without the query's own."""
    distance = np.linalg.norm(metric.transform(X_test) - metric.transform(query[None]), axis=1)
    distance[own] = np.inf
    return distance.argsort()[:k]


attack = EmbeddingShift(threat_model=budget, random_state=0)
shown = ("plain", "embedding shift")
lost = [i for i in range(100) if y_test[nearest(metrics["plain"], moved[i], i)[0]] != y_test[i]]
queries = lost[:3]
figure = plt.figure(figsize=(11, 6.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
axes = left.subplots(2 * len(queries), 6)
for row, (i, name) in enumerate((i, name) for i in queries for name in shown):
    metric = metrics[name]
    query = attack.run(metric, X_test[i][None]).X_adv[0]
    images = [X_test[i], query, *X_test[nearest(metric, query, i)]]
    labels = [y_test[i], y_test[i], *y_test[nearest(metric, query, i)]]
    for axis, image, label in zip(axes[row], images, labels, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(color="tab:green" if label == y_test[i] else "tab:red", linewidth=2.5)
    axes[row, 0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
for axis, title in zip(axes[0], ["query", "attacked", "1st", "2nd", "3rd", "4th"], strict=True):
    axis.set_title(title, fontsize=10)
left.suptitle("What is returned for an attacked query (red: another digit)", fontsize=11)

axis = right.subplots()
for name, found in recalls.items():
    axis.plot(EPS, found, "o-", label=name)
axis.set(
    xlabel="largest change of a pixel, of 16", ylabel="Recall@1 under attack (upper bound)",
    ylim=(0, 1.02), title="Recall@1 against the budget",
)  # fmt: skip
axis.legend(title="training")
axis.grid(alpha=0.3)
figure.savefig("deep_metric.png", dpi=110)
