"""
Spill-over: points that nobody touched change their clusters
============================================================

An adversary moves some points; all are clustered anew. What becomes of the points that were left
alone? Handwritten digits are embedded by a plainly trained network and by an ensemble that was
trained adversarially, some of the images are moved by up to 3 of 16 grey levels a pixel, and the
agreement of the *untouched* ones with their classes is drawn against the share that was moved.

Two things to see. k-means hardly minds as long as the clusters are far from each other; HDBSCAN,
which joins what is connected, is misled by points in between. And adversarial training protects
the images that are moved (what is printed in the end), not their neighbours: its clusters are
closer to each other, so that the untouched images lose more. HDBSCAN joins such clusters at a
touch: noise of the same size does it too.

k-means looks at all points when it places its centers, agglomeration when it decides what to
join, HDBSCAN when it measures density. The numbers come from an attack: they are upper bounds on
what holds. Runs in about two minutes on two cores.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skrobust import AdversarialClustering, AdversarialDeepMetric, ThreatModel
from skrobust.attacks import ClusteringAttack, EmbeddingNoise, PairAttack
from skrobust.deep import EnsembleAdversarialTraining
from skrobust.scorers import reseeding_floor

# %%
# Train
# -----

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
budget = ThreatModel(np.inf, 3.0, bounds=(0.0, 16.0))
metrics = {
    name: AdversarialDeepMetric(
        image_shape=(8, 8), loss="proxy_anchor", training=training, max_iter=12, random_state=0
    ).fit(X_train, y_train)
    for name, training in {
        "plain": None,
        "ensemble adversarial training": EnsembleAdversarialTraining(budget, max_iter=3),
    }.items()
}

# %%
# Attack
# ------
# Moved points are paired at random. Those of different classes are pulled together, which leaves
# them between the clusters, where they do most harm to others: an attack that sends each into
# the middle of another cluster would leave two clean clusters behind. Which points are moved is
# drawn three times; noise of the same size is the control.

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75)
ALGORITHMS = ("kmeans", "agglomerative", "hdbscan")
pairs = PairAttack(budget, max_iter=10, random_state=0)
noise = EmbeddingNoise(threat_model=budget, random_state=0)
found, controls, clean = {}, {}, {}
for name, metric in metrics.items():
    for algorithm in ALGORITHMS:
        clusters = AdversarialClustering(
            FrozenEstimator(metric), n_clusters=10, algorithm=algorithm, random_state=0
        ).fit(X_test, y_test)
        clean[name, algorithm] = clusters.scores_["nmi"]
        for attack, into in ((pairs, found), (noise, controls)):
            into[name, algorithm] = np.array(
                [
                    [
                        ClusteringAttack(attack, share=share, random_state=seed)
                        .run(clusters, X_test, y_test)
                        .scores["untouched"]["nmi"]
                        for seed in range(3)
                    ]
                    for share in SHARES
                ]
            )
        lost = clean[name, algorithm] - found[name, algorithm].mean(1)
        values = "  ".join(f"{s:.0%}: {v:.3f}" for s, v in zip(SHARES, lost, strict=True))
        print(f"{name}, {algorithm}: NMI {clean[name, algorithm]:.3f}, lost {values}")
for name, metric in metrics.items():
    clusters = AdversarialClustering(FrozenEstimator(metric), n_clusters=10, random_state=0)
    result = ClusteringAttack(pairs, share=0.5, random_state=0).run(
        clusters.fit(X_test), X_test, y_test
    )
    print(f"{name}: NMI of the moved half {result.scores['touched']['nmi']:.3f}")
floor = {
    name: reseeding_floor(AdversarialClustering(n_clusters=10), metric.transform(X_test), y_test)
    for name, metric in metrics.items()
}

# %%
# Look
# ----
# The grey band is how much k-means changes when nothing but its seed does.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
colors = {"kmeans": "tab:blue", "agglomerative": "tab:orange", "hdbscan": "tab:green"}
x = 100 * np.array(SHARES)
for axis, name in zip(axes, metrics, strict=True):
    top = clean[name, "kmeans"]
    axis.axhspan(top - floor[name], top, color="0.88", label="k-means, other seeds")
    for algorithm, color in colors.items():
        values = found[name, algorithm]
        axis.plot(x, values.mean(1), "o-", color=color, label=algorithm)
        axis.fill_between(x, values.min(1), values.max(1), color=color, alpha=0.15, linewidth=0)
        axis.plot(x, controls[name, algorithm].mean(1), ":", color=color)
    axis.plot([], [], ":", color="0.4", label="noise of the same size")
    axis.set(title=name, xlabel="points that were moved, %", xscale="log")
    axis.set_xticks(x, [f"{value:g}" for value in x])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
axes[0].set(ylabel="NMI of the untouched points (upper bound)", ylim=(0, 1.02))
axes[0].legend(loc="lower left")
figure.savefig("spill_over.png", dpi=110)
