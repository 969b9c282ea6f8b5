"""
===========================================
A metric for the adversary that one expects
===========================================

The spammer of ``plot_spam_filter.py`` cannot change everything: not the receiver's own words, and
not how many capitals there are. A metric that is learned *for* this adversary leans on what he
cannot touch. Here three nearest-neighbour filters face him, in ℓ∞ with a budget for each feature of
so many standard deviations:

* the Euclidean metric on standardised features;
* a metric that is learned for ℓ₂ on all features, as in the paper, at a target radius;
* a metric that is learned for this threat model, at a target radius.

Everything that is learned or chosen sees the training part only. The radii are lower bounds: no
change within them makes the filter err, in either direction.

Run it with ``python examples/plot_spam_metric.py``; it prints a table and saves
``spam_metric.png`` in the current folder.
"""

# %%
# Data and adversary
# ------------------
# The UCI data set *Spambase*, from a local copy or from OpenML.
import sys
import time

import matplotlib

if not hasattr(sys, "ps1"):
    matplotlib.use("Agg")  # runs where there is no screen
import matplotlib.pyplot as plt
import numpy as np
from _spambase import CAPITALS, NAMES, OWN_WORDS, load
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import certify_nearest_neighbors
from skrobust.metrics import certified_accuracy_score

frame, is_spam = load()
label = np.where(is_spam, "spam", "legitimate")
X_train, X_test, y_train, y_test = train_test_split(frame, label, test_size=0.25, random_state=0)

unknown = [name for name in NAMES if name not in OWN_WORDS.split(" ")]
mutable = [name for name in unknown if name not in CAPITALS]
# the same adversary in the raw features that the filter reads, where he is certified against, and
# in the standardised ones that the metric is learned on
threat = ThreatModel(np.inf, feature_scale=X_train.std(ddof=0).to_dict(), mutable=mutable)
threat_scaled = ThreatModel(np.inf, mutable=mutable)

# %%
# Three filters
# -------------
# With a target radius the fit cares for the points that can be certified there, instead of the mean
# radius, which a few mails far from all others would rule.
target_radius = 0.5
metrics = {
    "Euclidean": "passthrough",
    "learned for ℓ₂": RobustMahalanobis(target_radius=2.0, random_state=0),
    "learned for this adversary": RobustMahalanobis(
        target_radius=target_radius, threat_model=threat_scaled, random_state=0
    ),
}
budgets = np.linspace(0, 1, 201)
curves, learned = {}, {}
print("certified accuracy at a budget of      0 (clean)  0.125   0.25    0.5")
for name, metric in metrics.items():
    scaler = StandardScaler().set_output(transform="pandas")
    started = time.perf_counter()
    model = make_pipeline(scaler, metric, KNeighborsClassifier(1)).fit(X_train, y_train)
    seconds = time.perf_counter() - started
    found = certify_nearest_neighbors(model, X_test, y_test, threat_model=threat)
    curves[name] = certified_accuracy_score(found.radius, found.correct, budgets)
    shares = certified_accuracy_score(found.radius, found.correct, [0, 0.125, 0.25, 0.5])
    print(f"{name:38} {'   '.join(f'{share:.3f}' for share in shares)}   fit {seconds:.0f} s")
    if metric != "passthrough":
        learned[name] = model[1].get_mahalanobis_matrix()

# %%
# What the metrics look at
# ------------------------
# Left: the shares of mails that are proved to be judged right. Right: how much of tr(M) lies on
# features that the adversary cannot change, and on which of them.
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for k, (name, curve) in enumerate(curves.items()):
    left.plot(budgets, curve, color=f"C{k}", label=name)
left.axvline(target_radius, color="gray", lw=0.8, ls=":")
left.set(
    xlabel="budget (standard deviations of each mutable feature, ℓ∞)",
    ylabel="certified accuracy",
    xlim=(0, 1),
    ylim=(0, 1),
)
left.legend()

weights = {name: np.diag(M) / np.trace(M) for name, M in learned.items()}
immutable = [name for name in NAMES if name not in mutable]
heights = {
    name: [weight[NAMES.index(feature)] for feature in immutable]
    for name, weight in weights.items()
}
place = np.arange(len(immutable))
for k, (name, height) in enumerate(heights.items()):
    right.barh(
        place + 0.4 * k - 0.2,
        height,
        height=0.4,
        color=f"C{k + 1}",
        label=f"{name}: {sum(height):.0%} in all",
    )
right.set(xlabel="share of tr(M)", yticks=place, yticklabels=immutable)
right.set_title("features that the adversary cannot change", fontsize="medium")
right.invert_yaxis()
right.legend(loc="center right")
figure.savefig("spam_metric.png", dpi=120)
print("saved spam_metric.png")
