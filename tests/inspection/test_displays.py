import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel
from skrobust.attacks import PGD, NoiseAttack
from skrobust.inspection import PerturbationDisplay, RobustnessCurveDisplay, robustness_report


def test_the_curve_shows_the_report():
    X, y = load_iris(return_X_y=True)
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    attacks = {"pgd": PGD(max_iter=5, random_state=0), "noise": NoiseAttack(random_state=0)}
    report = robustness_report(knn, X[1::4], y[1::4], eps=[0.0, 0.2, 0.5], attacks=attacks)
    _, ax = plt.subplots()
    shown = RobustnessCurveDisplay.from_report(report, ax=ax)
    assert shown.ax_ is ax
    np.testing.assert_array_equal(shown.eps, [0, 0.2, 0.5])
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert set(drawn) == {
        "pgd",
        "noise",
        "worst attack (upper bound)",
        "certified (lower bound)",
    }
    np.testing.assert_array_equal(
        drawn["certified (lower bound)"], np.r_[report.clean_accuracy, report.certified[1:]]
    )
    assert ax.get_xlabel() == "eps (ℓ₂)"


def test_images_side_by_side():
    X, y = load_digits(return_X_y=True)
    knn = KNeighborsClassifier(1).fit(X[:500], y[:500])
    found = PGD(threat_model=ThreatModel(eps=20.0), random_state=0).run(knn, X[500:520], y[500:520])
    shown = PerturbationDisplay.from_result(X[500:520], y[500:520], found, image_shape=(8, 8))
    assert shown.axes_.shape == (3, 4)
    first = np.flatnonzero(found.success)[0]
    np.testing.assert_array_equal(
        shown.axes_[2, 0].images[0].get_array(), found.X_adv[first].reshape(8, 8)
    )
    assert shown.axes_[2, 0].get_xlabel() == f"→ {found.predicted[first]}"
    with pytest.raises(ValueError, match="image_shape must hold 64 pixels; got \\(3, 3\\)"):
        PerturbationDisplay.from_result(X[500:520], y[500:520], found, image_shape=(3, 3))


def test_features_of_a_table():
    X, y = load_iris(return_X_y=True)
    X = pd.DataFrame(X, columns=["sl", "sw", "pl", "pw"])
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    found = PGD(threat_model=ThreatModel(eps=1.0, mutable=["pl"]), random_state=0).run(knn, X, y)
    shown = PerturbationDisplay.from_result(X, y, found, rows=[np.flatnonzero(found.success)[0]])
    widths = [bar.get_width() for bar in shown.axes_[0, 0].patches]
    assert np.count_nonzero(widths) == 1
    missed = NoiseAttack(threat_model=ThreatModel(eps=1e-6)).run(knn, X, y)
    with pytest.raises(ValueError, match="succeeded on none"):
        PerturbationDisplay.from_result(X, y, missed)
