"""
==========================================
Choosing a metric by what can be certified
==========================================

Objectives, solvers and the radius that one cares for are parameters like any other: here a
``GridSearchCV`` chooses among them with a certified scorer, on the training part of the Wisconsin
breast cancer data, and the choice is then compared with the Euclidean metric and with the
default on the test part.

Run it with ``python examples/plot_search_metric.py``; it prints tables and saves
``search_metric.png`` in the current folder.
"""

# %%
import sys
import warnings

import matplotlib

if not hasattr(sys, "ps1"):
    matplotlib.use("Agg")  # runs where there is no screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skrobust import RobustMahalanobis
from skrobust.inspection import CertifiedAccuracyDisplay
from skrobust.metric_learning import ProjectedSolver
from skrobust.objectives import CertificateObjective
from skrobust.scorers import certified_curve_scorer

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
# one scaler for all: radii are in the units of the scaled features
scaler = MinMaxScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

# %%
# The search
# ----------
# One certification gives the accuracy and the certified accuracy at a budget; the search is
# refitted by the latter. A candidate that does not converge is scored as it is.
budget = 0.3
model = Pipeline(
    [
        ("metric", RobustMahalanobis(objective=CertificateObjective(), random_state=0)),
        ("knn", KNeighborsClassifier(1)),
    ]
)
grid = [
    {
        "metric__solver": ["adam"],
        "metric__objective__temperature": [1.0, 0.1, (1.0, 0.05)],
        "metric__target_radius": [None, 0.3],
    },
    {
        "metric__solver": [ProjectedSolver(regularization=c) for c in (0.03, 0.3)],
        "metric__target_radius": [0.15, 0.3],
    },
]
search = GridSearchCV(
    model,
    grid,
    scoring=certified_curve_scorer([budget]),
    refit=f"certified@{budget:g}",
    cv=3,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    search.fit(X_train, y_train)

results = search.cv_results_
accuracy, certified = (results[f"mean_test_{key}"] for key in ("accuracy", f"certified@{budget:g}"))
print(f"cross-validated   accuracy   certified at {budget}")
for k in np.argsort(-certified):
    chosen = {key.partition("__")[2]: value for key, value in results["params"][k].items()}
    print(f"{accuracy[k]:26.3f} {certified[k]:9.3f}      {chosen}")

# %%
# On the test part
# ----------------
rivals = {
    "Euclidean": KNeighborsClassifier(1),
    "default": Pipeline([("metric", RobustMahalanobis(random_state=0)), model.steps[1]]),
}
rivals = {name: rival.fit(X_train, y_train) for name, rival in rivals.items()}
rivals["chosen by cross-validation"] = search.best_estimator_
figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
CertifiedAccuracyDisplay.from_estimator(rivals, X_test, y_test, ax=axes)
axes.axvline(budget, color="gray", lw=0.8, ls=":")
axes.set_title("breast cancer, 1-NN: certified accuracy")
scorer = certified_curve_scorer([budget])
for name, rival in rivals.items():
    scores = scorer(rival, X_test, y_test)
    print(f"{name:28} " + "  ".join(f"{key} {value:.3f}" for key, value in scores.items()))
figure.savefig("search_metric.png", dpi=120)
print("saved search_metric.png")
