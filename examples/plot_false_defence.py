"""
A defence that looks robust and is not
======================================

A network reads handwritten digits. In front of it somebody put a "defence": pixels are rounded to
five grey levels, and noise below half a level disappears. Attacks by gradients find nothing, since
the gradient of a rounding is 0, and the robust accuracy that is measured with them rises from
nearly nothing to that of clean images.

Nothing was gained: an attack that asks for predictions only walks around it. The report says so
before one believes the first number. Runs in less than a minute on two cores.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skrobust import ThreatModel
from skrobust.adapters import TorchClassifier
from skrobust.attacks import APGD, HopSkipJump, NoiseAttack, TransferAttack
from skrobust.inspection import robustness_report

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
network = MLPClassifier((64,), alpha=1e-3, max_iter=300, random_state=0).fit(X_train, y_train)


class Rounded(torch.nn.Module):
    """The network behind a rounding of its pixels."""

    def __init__(self, model, levels=None):
        super().__init__()
        self.weights = [torch.tensor(w).float() for w in model.coefs_]
        self.biases = [torch.tensor(b).float() for b in model.intercepts_]
        self.levels = levels

    def forward(self, x):
        if self.levels is not None:
            x = torch.round(x * (self.levels - 1)) / (self.levels - 1)
        hidden = torch.relu(x @ self.weights[0] + self.biases[0])
        return hidden @ self.weights[1] + self.biases[1]


models = {
    "network": TorchClassifier(Rounded(network), network.classes_),
    "behind the defence": TorchClassifier(Rounded(network, levels=5), network.classes_),
}

# %%
# What a careless evaluation finds, and what a report finds
# ---------------------------------------------------------
# The transfer attack makes its examples on the network without the defence.

some = slice(0, 60)
eps = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 6.0])
bounds = ThreatModel(2, bounds=(0, 1))
reports = {
    name: robustness_report(
        model,
        X_test[some],
        y_test[some],
        eps=eps,
        threat_model=bounds,
        attacks={
            "gradients (APGD)": APGD(n_restarts=2, max_iter=30, random_state=0),
            "predictions (HopSkipJump)": HopSkipJump(max_iter=8, n_evaluations=40, random_state=0),
            "transfer": TransferAttack(surrogate=FrozenEstimator(network), random_state=0),
            "noise": NoiseAttack(random_state=0),
        },
    )
    for name, model in models.items()
}
for name, report in reports.items():
    print(f"\n{name}\n{report}")

# %%
# Look
# ----
# Left, the defence seems to work against gradients; right, it does not against the worst attack.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
titles = ("gradients only: it seems robust", "all attacks: it is not")
for ax, title, column in zip(axes, titles, ("gradients (APGD)", None), strict=True):
    for name, report in reports.items():
        shown = report.worst if column is None else report.robust_accuracy[column]
        kept = report.eps <= 1.5
        values = np.r_[report.clean_accuracy, shown[kept]]
        ax.plot(np.r_[0, report.eps[kept]], values, "o-", label=name)
    ax.set(title=title, xlabel="ℓ₂ budget (pixels in [0, 1])", ylim=(-0.02, 1.02))
axes[0].set_ylabel("accuracy under attack (upper bound)")
axes[0].legend()
flagged = [finding.name for finding in reports["behind the defence"].health if finding.flagged]
figure.suptitle(f"flagged by the report: {', '.join(flagged)}", fontsize=10)
figure.savefig("false_defence.png", dpi=100)
