import numpy as np
import pytest

from skrobust.metrics import (
    certified_accuracy_per_class,
    certified_accuracy_score,
    mean_certified_radius,
)

RADIUS = np.array([0.0, 0.2, 0.5, np.inf, 0.0])
CORRECT = np.array([True, True, True, True, False])


def test_certified_accuracy():
    assert certified_accuracy_score(RADIUS, CORRECT, 0) == 0.8
    assert certified_accuracy_score(RADIUS, CORRECT, 0.2) == 0.6
    np.testing.assert_array_equal(
        certified_accuracy_score(RADIUS, CORRECT, [0, 0.2, 0.3, 9]), [0.8, 0.6, 0.4, 0.2]
    )


def test_mean_radius():
    assert mean_certified_radius(RADIUS, cap=1.0) == pytest.approx(1.7 / 5)
    assert mean_certified_radius(RADIUS[:3]) == pytest.approx(0.7 / 3)
    with pytest.raises(ValueError, match="cap must be given"):
        mean_certified_radius(RADIUS)
    with pytest.raises(ValueError, match="cap must be finite"):
        mean_certified_radius(RADIUS, cap=-1)


@pytest.mark.parametrize(
    ("radius", "correct", "eps", "error", "message"),
    [
        (RADIUS, CORRECT, -0.1, ValueError, "eps must be finite and >= 0; got -0.1"),
        (RADIUS, CORRECT, np.nan, ValueError, "eps must be finite"),
        (RADIUS, CORRECT, np.inf, ValueError, "eps must be finite"),
        (RADIUS, CORRECT, [], ValueError, "at least one"),
        (RADIUS, CORRECT, "0.1", TypeError, "real number"),
        (RADIUS, CORRECT, True, TypeError, "real number"),
        (RADIUS, CORRECT[:2], 0.1, ValueError, "same shape"),
        (RADIUS, CORRECT.astype(int), 0.1, ValueError, "boolean"),
        (-RADIUS, CORRECT, 0.1, ValueError, "radius must be >= 0"),
        ([np.nan], [True], 0.1, ValueError, "radius must be >= 0"),
        (RADIUS[:0], CORRECT[:0], 0.1, ValueError, "at least one"),
    ],
)
def test_bad_input(radius, correct, eps, error, message):
    with pytest.raises(error, match=message):
        certified_accuracy_score(radius, correct, eps)


def test_recall_of_each_class():
    y = np.array(["b", "a", "b", "b", "a"])
    np.testing.assert_allclose(certified_accuracy_per_class(y, RADIUS, CORRECT, 0), [0.5, 1])
    np.testing.assert_allclose(certified_accuracy_per_class(y, RADIUS, CORRECT, 0.3), [0, 2 / 3])
    for eps in (0, 0.1, 0.3):
        recall = certified_accuracy_per_class(y, RADIUS, CORRECT, eps)
        assert recall @ [2, 3] / 5 == pytest.approx(certified_accuracy_score(RADIUS, CORRECT, eps))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        certified_accuracy_per_class(y[:2], RADIUS, CORRECT, 0)
    with pytest.raises(ValueError, match="eps must be finite"):
        certified_accuracy_per_class(y, RADIUS, CORRECT, -1)
