"""
Three guarantees for one image classifier
=========================================

How far may the pixels of a handwritten digit move before its class changes? Three kinds of proof
answer, each for its own classifier, in the same units:

* a **linear metric** with the nearest neighbour: the radius is exact;
* a **Lipschitz network** with the nearest class mean: the radius among embeddings is divided by how
  much the network can stretch, which is a lower bound;
* **randomized smoothing** of a convolutional network: a lower bound as well, and one that holds
  with probability .999 only, for the vote over noisy copies.

Attacks give the other side of each: upper bounds, tight where the proof is exact, and far off for
the smoothed network, whose attacker has no gradients and few queries. Runs in about a minute on
two cores.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline

from skrobust import AdversarialDeepMetric, RobustMahalanobis, ThreatModel, certify
from skrobust.attacks import APGD, ExactNeighborAttack, HopSkipJump
from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.deep import ConvNet
from skrobust.inspection import CertifiedAccuracyDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
X_test, y_test = X_test[:300], y_test[:300]

# %%
# Learn
# -----
# The network behind the second is made of layers that stretch nothing, and trained for the margin
# between class means; that of the third only sees noise.

SIGMA = 0.2
models = {
    "linear metric, 1-NN (exact)": make_pipeline(
        RobustMahalanobis(random_state=0), KNeighborsClassifier(1)
    ),
    "Lipschitz network, class means": make_pipeline(
        AdversarialDeepMetric(
            lipschitz="orthogonal",
            loss="certified_margin",
            loss__target_radius=0.25,
            max_iter=40,
            random_state=0,
        ),
        NearestCentroid(),
    ),
    "smoothed network (probability .999)": RandomizedSmoothingClassifier(
        make_pipeline(
            AdversarialDeepMetric(
                module=ConvNet, image_shape=(8, 8), loss="proxy_anchor", max_iter=20, random_state=0
            ),
            NearestCentroid(),
        ),
        sigma=SIGMA,
        n_augment=5,
        n_samples=1000,
        random_state=0,
    ),
}
for model in models.values():
    model.fit(X_train, y_train)

# %%
# Prove, and attack
# -----------------
# ``certify`` picks the proof. Each classifier gets the strongest attack that there is for it.

attacks = {
    "linear metric, 1-NN (exact)": ExactNeighborAttack(),
    "Lipschitz network, class means": APGD(max_iter=30, n_restarts=2, random_state=0),
    "smoothed network (probability .999)": HopSkipJump(
        max_iter=3, n_evaluations=20, random_state=0
    ),
}
eps = np.linspace(0, 1.6, 33)
some = slice(0, 40)
proved, found = {}, {}
for name, model in models.items():
    proved[name] = certify(model, X_test, y_test)
    print(f"{name}: {proved[name].method}")
    attack = attacks[name].set_params(threat_model=ThreatModel(2.0))
    budgets = None if attack.minimum_norm else eps[::4]
    result = attack.run(model, X_test[some], y_test[some], eps=budgets)
    found[name] = np.asarray(result.robust_accuracy(eps[::4]))
    for radius in (0.0, 0.25, 0.5, 1.0):
        print(f"    certified at {radius:g}: {proved[name].certified(radius).mean():.3f}")

# %%
# Look
# ----
# Lines are proofs on 300 digits, points attacks on 40 of them. Below, three digits with the radius
# that each proof gives them.

figure = plt.figure(figsize=(9, 7), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=(2, 1))
axes = upper.subplots()
display = CertifiedAccuracyDisplay.from_radii(
    {name: (one.radius, one.correct) for name, one in proved.items()}, eps=eps, ax=axes
)
for line, name in zip(display.lines_, models, strict=True):
    axes.plot(eps[::4], found[name], "o", color=line.get_color(), label=f"{name}: attacked")
axes.legend(fontsize=8, loc="center right")
axes.set(xlabel="ℓ₂ budget (pixels in [0, 1])", ylabel="accuracy", ylim=(0, 1.02))
right = np.all([one.radius > 0 for one in proved.values()], axis=0)
order = np.flatnonzero(right)[proved["Lipschitz network, class means"].radius[right].argsort()]
for ax, row in zip(lower.subplots(1, 3), order[[0, len(order) // 2, -1]], strict=True):
    ax.imshow(X_test[row].reshape(8, 8), cmap="gray_r")
    radii = [f"{name.split()[0]} {one.radius[row]:.2f}" for name, one in proved.items()]
    ax.set_title("\n".join(radii), fontsize=9)
    ax.set_axis_off()
figure.savefig("three_guarantees.png", dpi=100)
