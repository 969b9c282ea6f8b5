import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.inspection import CertifiedAccuracyDisplay
from skrobust.scorers import certified_accuracy

X, Y = load_iris(return_X_y=True)


def test_several_pipelines_in_one_figure():
    models = {
        "plain": KNeighborsClassifier(1).fit(X[::2], Y[::2]),
        "scaled": make_pipeline(StandardScaler(), KNeighborsClassifier(3)).fit(X[::2], Y[::2]),
    }
    display = CertifiedAccuracyDisplay.from_estimator(models, X[1::2], Y[1::2], eps=[0, 0.1, 0.5])
    assert [line.get_label() for line in display.lines_] == ["plain", "scaled"]
    for row, model in zip(display.certified_accuracy, models.values(), strict=True):
        expected = [certified_accuracy(model, X[1::2], Y[1::2], eps) for eps in (0, 0.1, 0.5)]
        np.testing.assert_array_equal(row, expected)
        assert row[0] == model.score(X[1::2], Y[1::2])
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), display.certified_accuracy[0])
    assert "eps" in display.ax_.get_xlabel()
    display.figure_.canvas.draw()


def test_one_estimator_given_axes_and_style():
    _, ax = plt.subplots()
    model = KNeighborsClassifier(1).fit(X, Y)
    display = CertifiedAccuracyDisplay.from_estimator(model, X, Y, ax=ax, color="red")
    assert display.ax_ is ax
    assert display.lines_[0].get_color() == "red"
    assert display.names == ["KNeighborsClassifier"]
    # between two budgets the curve shows the lower of both values
    assert display.lines_[0].get_drawstyle() == "steps-pre"


def test_infinite_radii_and_bad_input():
    display = CertifiedAccuracyDisplay.from_radii({"one": ([np.inf, 0.0], [True, False])})
    assert display.eps[-1] == 1.0
    assert (display.certified_accuracy == 0.5).all()
    with pytest.raises(ValueError, match="at least one curve"):
        CertifiedAccuracyDisplay.from_radii({})
    with pytest.raises(ValueError, match="eps must be finite"):
        CertifiedAccuracyDisplay.from_radii({"one": ([0.0], [True])}, eps=[-1])


@pytest.mark.parametrize(
    ("model", "unit"),
    [
        (None, "ℓ₂, in the units of X"),
        (ThreatModel("inf"), "ℓ∞, in the units of X"),
        (ThreatModel(1, feature_scale=[1, 2, 3, 4]), "ℓ₁, in the units of feature_scale"),
    ],
)
def test_curves_under_a_threat_model(model, unit):
    knn = KNeighborsClassifier(1).fit(X[::2], Y[::2])
    display = CertifiedAccuracyDisplay.from_estimator(
        knn, X[1::2], Y[1::2], threat_model=model, eps=[0.2]
    )
    assert display.ax_.get_xlabel() == f"eps ({unit})"
    expected = certified_accuracy(knn, X[1::2], Y[1::2], 0.2, threat_model=model)
    assert display.certified_accuracy[0, 0] == expected
