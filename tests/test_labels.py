"""The dtype of labels changes nothing; text is no number, and numbers are no text."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel, certify
from skrobust.attacks import PGD
from skrobust.certificates import RandomizedSmoothingClassifier, certify_nearest_neighbors
from skrobust.neighbors import RobustKNeighborsClassifier
from skrobust.scorers import certified_curve_scorer

X, Y = load_iris(return_X_y=True)
X, Y = X[::5], Y[::5]
KNN = {
    "numbers": KNeighborsClassifier(3).fit(X, Y),
    "text": KNeighborsClassifier(3).fit(X, Y.astype(str)),
    "text objects": KNeighborsClassifier(3).fit(X, Y.astype(str).astype(object)),
}
NUMBERS = [
    Y.astype(object),
    Y.astype(float),
    Y.astype(np.int8),
    list(Y),
    pd.Series(Y),
    pd.Series(Y).astype("Int64"),
    pd.Series(Y).astype(object),
    pd.Series(Y).astype("category"),
]
TEXT = [
    Y.astype(str),
    Y.astype(str).astype(object),
    list(Y.astype(str)),
    pd.Series(Y.astype(str)),
    pd.Series(Y.astype(str), dtype="string"),
    pd.Series(Y.astype(str)).astype("category"),
]
SMOOTHED = RandomizedSmoothingClassifier(n_samples=20, n_selection=5, random_state=0)


def say(model, y):
    """Return what certificates, attacks and scorers say of labels."""
    attack = PGD(max_iter=2, random_state=0, threat_model=ThreatModel(eps=0.5))
    return [
        certify(model, X, y).radius,
        certify_nearest_neighbors(model, X, y).radius,
        attack.run(model, X, y).minimal_norm,
        list(certified_curve_scorer([0.1])(model, X, y).values()),
    ]


@pytest.mark.parametrize("kind", sorted(KNN))
@pytest.mark.parametrize("place", range(8))
def test_the_dtype_of_labels_changes_nothing(kind, place):
    labels = NUMBERS if kind == "numbers" else TEXT
    if place >= len(labels):
        return
    expected = say(KNN[kind], Y if kind == "numbers" else Y.astype(str))
    for found, wanted in zip(say(KNN[kind], labels[place]), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    classes = Y if kind == "numbers" else Y.astype(str)
    smoothed = SMOOTHED.fit(X, classes)
    np.testing.assert_array_equal(
        smoothed.certify(X, labels[place]).radius, smoothed.certify(X, classes).radius
    )


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("numbers", Y.astype(str), r"like '0' \(text\), .* like 0 \(numbers\)"),
        ("numbers", Y.astype(str).astype(object), r"like '0' \(text\), .* like 0 \(numbers\)"),
        ("text", Y, r"like 0 \(numbers\), .* like '0' \(text\)"),
        ("text objects", Y.astype(object), r"like 0 \(numbers\), .* like '0' \(text\)"),
        ("text", np.array(["a", 1] * 15, dtype=object), r"\(text and numbers\)"),
    ],
)
def test_labels_of_another_kind_are_refused(kind, y, message):
    attack = PGD(max_iter=2, threat_model=ThreatModel(eps=0.5))
    for run in (certify, lambda *args: attack.run(*args)):
        with pytest.raises(ValueError, match=message):
            run(KNN[kind], X, y)


def test_labels_of_an_abstention():
    text = RobustKNeighborsClassifier(1).fit(X, Y.astype(str).astype(object))
    assert set(text.predict_or_abstain(X, 0.1, abstain_label="?")) <= {"0", "1", "2", "?"}
    with pytest.raises(ValueError, match="abstain_label must be of the kind"):
        text.predict_or_abstain(X, 0.1, abstain_label=-1)
