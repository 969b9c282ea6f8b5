import dataclasses
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pictures import cut_off
from shared_data import load_digits
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import PGD, AttackResult, EmbeddingShift, NoiseAttack
from skrobust.inspection import (
    CertifiedAccuracyDisplay,
    PerturbationDisplay,
    RobustnessCurveDisplay,
    robustness_report,
)


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
    drawn = shown.axes_[2, 0].images[0].get_array()
    adversarial = found.X_adv[first].reshape(8, 8)
    low, high = shown.clean.min(), shown.clean.max()
    np.testing.assert_allclose(drawn, ((adversarial - low) / (high - low)).clip(0, 1))
    assert shown.axes_[2, 0].get_xlabel() == f"→ {found.predicted[first]}"
    with pytest.raises(ValueError, match=r"image_shape must have 64 pixels.* got \(3, 3\)"):
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


def result_of(X, moved, **more):
    size = np.linalg.norm((moved - X).reshape(len(X), -1), axis=1)
    yes = np.ones(len(X), dtype=bool)
    return AttackResult(moved, yes, size, 0, 0, yes, np.zeros(len(X)), **more)


@pytest.mark.parametrize("top", [1.0, 255.0, 3.0], ids=str)
@pytest.mark.parametrize("layout", ["last", "first", "flat last", "flat first", "grey", "one"])
def test_images_in_every_layout(layout, top):
    """Neither warnings nor white pictures, whatever the range and the place of the channels."""
    rng = np.random.default_rng(0)
    channels = {"grey": 1, "one": 1}.get(layout, 3)
    images = top * rng.random((5, 8, 8, channels))
    moved = (images + 0.1 * top * rng.standard_normal(images.shape)).clip(0, top)
    if top == 3.0:
        images, moved = images - 1, moved - 1

    def laid(x):
        x = np.moveaxis(x, -1, 1) if "first" in layout else x
        x = x[..., 0] if layout == "grey" else x
        return x.reshape(len(x), -1) if "flat" in layout else x

    shape = {"flat last": (8, 8, 3), "flat first": (3, 8, 8)}.get(layout)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = PerturbationDisplay.from_result(
            laid(images), np.arange(5), result_of(laid(images), laid(moved)), image_shape=shape
        )
        shown.figure_.canvas.draw()
    low, high = (0, top) if channels == 3 and top != 3.0 else (-1, 2)
    for row, expected in ((0, images), (2, moved)):
        drawn = np.asarray(shown.axes_[row, 1].images[0].get_array())
        if channels == 3:
            assert drawn.shape == (8, 8, 3)
            if top == 3.0:
                low = min(images[:4].min(), moved[:4].min())
                high = max(images[:4].max(), moved[:4].max())
            np.testing.assert_allclose(drawn, (expected[1] - low) / (high - low), atol=1e-12)
        else:
            assert drawn.shape == (8, 8)
            assert drawn.std() > 0.1


@pytest.mark.parametrize("as_frame", [False, True])
def test_results_of_embeddings(as_frame):
    X, y = load_iris(return_X_y=True, as_frame=as_frame)
    attack = EmbeddingShift(threat_model=ThreatModel(eps=0.5), random_state=0, max_iter=3)
    found = attack.run(StandardScaler().fit(X), X)
    for labels in (y, None):
        shown = PerturbationDisplay.from_result(X, labels, found, rows=[3, 60])
        assert shown.axes_[0, 1].get_title() == f"{60 if labels is None else 1} → value " + (
            f"{found.value[60]:.3g}"
        )
    assert len(PerturbationDisplay.from_result(X, y, found).clean) == 4


def test_features_in_other_units_are_seen_together():
    """Metres beside millimetres: a bar is a change in the scale of its feature."""
    rng = np.random.default_rng(0)
    units = np.array([1e3, 1.0, 1e-3])
    X = rng.standard_normal((40, 3)) * units
    found = result_of(X, X + 0.5 * units)
    threat = ThreatModel(feature_scale=units)
    for model, name in ((None, "standard deviations"), (threat, "scales of the threat model")):
        shown = PerturbationDisplay.from_result(X, np.zeros(40), found, threat_model=model)
        widths = np.array([bar.get_width() for bar in shown.axes_[0, 0].patches])
        assert (widths > 0.3).all()
        assert (widths < 0.7).all()
        assert name in shown.axes_[0, 0].get_xlabel()


def test_nothing_is_cut_off():
    X, y = load_iris(return_X_y=True, as_frame=True)
    X.columns = [f"a feature with a long name, number {k}" for k in range(4)]
    found = result_of(X.to_numpy(), X.to_numpy() + 1)
    shown = [PerturbationDisplay.from_result(X, y, dataclasses.replace(found, X_adv=X + 1))]
    knn = KNeighborsClassifier(1).fit(X, y)
    shown.append(CertifiedAccuracyDisplay.from_estimator({"a long name " * 3: knn}, X[:20], y[:20]))
    for display in shown:
        assert cut_off(display.figure_) < 0.02
