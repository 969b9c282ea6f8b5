"""
Between proof and attack
========================

How robust is 1-NN on handwritten digits, under the Euclidean metric and under a learned one? A
certificate says what no adversary can do, attacks what one can: the truth lies between, and for one
neighbour the exact attack closes the gap. The report also checks whether the attacks are to be
believed. It is printed, saved as a page, and drawn; a second picture shows what the attack did.
"""

import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.attacks import APGD, ExactNeighborAttack, HopSkipJump, NoiseAttack
from skrobust.inspection import PerturbationDisplay, RobustnessCurveDisplay, robustness_report

warnings.simplefilter("ignore")  # a fit may stop at its last epoch

X, y = load_digits(return_X_y=True)
X_train, X, y_train, y = train_test_split(X / 16, y, test_size=100, random_state=0, stratify=y)
models = {
    "Euclidean": KNeighborsClassifier(1),
    "learned": make_pipeline(RobustMahalanobis(random_state=0), KNeighborsClassifier(1)),
}
eps = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]
attacks = {
    "exact": ExactNeighborAttack(),
    "APGD": APGD(n_restarts=2, max_iter=30, random_state=0),
    "HopSkipJump": HopSkipJump(max_iter=8, n_evaluations=40, random_state=0),
    "noise": NoiseAttack(random_state=0),
}

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(X_train, y_train)
    report = robustness_report(
        model, X, y, eps=eps, threat_model=ThreatModel(norm=2), attacks=attacks
    )
    print(report, end="\n\n")
    RobustnessCurveDisplay.from_report(report, ax=ax)
    ax.set_title(f"1-NN, {name} metric")
    Path(f"robustness_report_{name.lower()}.html").write_text(report.to_html(), encoding="utf-8")
figure.tight_layout()
figure.savefig("robustness_report.png", dpi=150)

found = report.results["exact"]
shown = PerturbationDisplay.from_result(X, y, found, rows=range(6), image_shape=(8, 8))
shown.figure_.savefig("perturbed_digits.png", dpi=150)
print("saved robustness_report.png, perturbed_digits.png and two pages")
