"""
===============================================
What can a spammer change, and what still holds
===============================================

A spam filter sees 57 numbers of a mail: frequencies of words and signs, and lengths of runs of
capitals. A spammer who wants a mail to pass can change some of them, each within limits. Here a
nearest-neighbour filter is asked, for each spam that it finds: by how much does the spammer have
to change the mail until it passes? The answers are exact, and come with the changed mail.

Three adversaries are compared, all measured in ℓ∞ with a budget for each feature (one standard
deviation of it is one unit), all unable to make a frequency negative, and all with one aim
only, spam into legitimate:

* one who may change every feature;
* one who does not know the receiver's own words, such as the name of the company;
* one who in addition cannot change how many capitals there are.

Run it with ``python examples/plot_spam_filter.py``; it prints tables and saves
``spam_filter.png`` in the current folder.
"""

# %%
# Data
# ----
# The UCI data set *Spambase*, from a local copy or from OpenML.
import sys
import time

import matplotlib

if not hasattr(sys, "ps1"):
    matplotlib.use("Agg")  # runs where there is no screen
import matplotlib.pyplot as plt
import numpy as np
from _spambase import CAPITALS, OWN_WORDS, load
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.metrics import certified_accuracy_score

frame, is_spam = load()
label = np.where(is_spam, "spam", "legitimate")
X_train, X_test, y_train, y_test = train_test_split(frame, label, test_size=0.25, random_state=0)
filter_ = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X_train, y_train)
accuracy = filter_.score(X_test, y_test)
print(f"{len(X_train)} mails to learn from; accuracy on the others {accuracy:.3f}")

# %%
# Adversaries
# -----------
# A threat model names features; the others cannot be changed. Radii are in standard deviations.
spread = X_train.std().to_dict()
unknown = [name for name in frame.columns if name not in OWN_WORDS.split(" ")]
adversaries = {
    "every feature": list(frame.columns),
    "not the receiver's words": unknown,
    "nor the capitals": [name for name in unknown if name not in CAPITALS],
}
spam, y_spam = X_test[y_test == "spam"][:200], y_test[y_test == "spam"][:200]
found, bounds = {}, {}
for name, mutable in adversaries.items():
    threat = ThreatModel(np.inf, feature_scale=spread, mutable=mutable, bounds=(0, np.inf))
    started = time.perf_counter()
    found[name] = exact_nearest_neighbor_radius(
        filter_, spam, y_spam, threat_model=threat, target="legitimate"
    )
    seconds = time.perf_counter() - started
    bounds[name] = certify_nearest_neighbors(
        filter_, spam, y_spam, threat_model=threat, target="legitimate"
    )
    right = found[name].correct & np.isfinite(found[name].upper)
    print(
        f"{name:26} median radius {np.median(found[name].radius[right]):.3f}, of the lower bound "
        f"{np.median(bounds[name].radius[right]):.3f}; exact for "
        f"{(found[name].status[right] == 'exact').mean():.0%} of the spam that is found; "
        f"{seconds:.0f} s"
    )

# %%
# One mail
# --------
# The smallest change that lets it pass, as the spammer would make it.
certificate = found["nor the capitals"]
row = int(np.argmin(np.where(certificate.radius > 0.05, certificate.radius, np.inf)))
changes = certificate.explain(row)
print(f"\nMail {row} passes after a change of {certificate.upper[row]:.3f} standard deviations:")
for name, change in changes[:8]:
    print(f"  {name:12} {spam.iloc[row][name]:8.3f} -> {spam.iloc[row][name] + change:8.3f}")
print(
    f"  and {max(len(changes) - 8, 0)} more; then it is called {certificate.adversarial_label[row]}"
)

# %%
# What is still guaranteed
# ------------------------
# Left, for each budget the share of the spam that is found and cannot be made to pass. The thin
# lines are the lower bound, which ignores that frequencies cannot be negative. Right, which
# features move the same way in most mails.
figure, (left, right_) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
budgets = np.linspace(0, 0.6, 121)
for k, name in enumerate(adversaries):
    exact, bound = found[name], bounds[name]
    curve = certified_accuracy_score(exact.radius, exact.correct, budgets)
    left.plot(budgets, curve, color=f"C{k}", label=name)
    curve = certified_accuracy_score(bound.radius, bound.correct, budgets)
    left.plot(budgets, curve, color=f"C{k}", lw=0.8, ls="--")
left.plot([], [], color="gray", lw=0.8, ls="--", label="the lower bound alone")
left.set(
    xlabel="budget (standard deviations of each feature, ℓ∞)",
    ylabel="spam that provably stays spam",
    xlim=(0, 0.6),
    ylim=(0, 1),
)
left.legend(title="the spammer can change")

# right: which features move the same way in most mails, as the share of mails in which one goes
# up, or down, by the whole budget
moved = certificate.correct & np.isfinite(certificate.upper) & (certificate.upper > 0)
share = certificate.perturbation[moved] / certificate.scale.clip(1e-12)
share = share / certificate.upper[moved, None]
up, down = (share > 0.98).mean(axis=0), (share < -0.98).mean(axis=0)
top = np.argsort(np.abs(up - down))[-14:]
right_.barh(frame.columns[top], up[top], color="C0", label="raised")
right_.barh(frame.columns[top], -down[top], color="C3", label="lowered")
right_.axvline(0, color="black", lw=0.8)
right_.set(xlabel="share of mails that have to move it by the whole radius")
right_.legend()
figure.savefig("spam_filter.png", dpi=120)
