import numpy as np
import pytest

from skrobust.metrics import (
    attack_success_rate,
    empirical_robustness_score,
    median_perturbation_norm,
    robust_accuracy_score,
)


def test_robust_accuracy_counts_what_holds_beyond_the_budget():
    norm, correct = [0.0, 0.2, 0.5, np.inf], [False, True, True, True]
    np.testing.assert_array_equal(
        robust_accuracy_score(norm, correct, [0.0, 0.1, 0.2, 0.5]), [0.75, 0.75, 0.5, 0.25]
    )


def test_success_is_a_share_of_the_right_points():
    assert attack_success_rate([True, True, False], [True, True, True]) == pytest.approx(2 / 3)
    assert np.isnan(attack_success_rate([False], [False]))
    with pytest.raises(ValueError, match="same shape"):
        attack_success_rate([True], [True, False])


def test_median_norm():
    assert median_perturbation_norm([0.1, 0.3, 0.0], [True, True, False]) == 0.3
    assert median_perturbation_norm([0.1, np.inf], [True, True]) == np.inf
    assert np.isnan(median_perturbation_norm([0.0], [False]))


COLLAPSED = {"CA+": 50, "CA-": 0, "QA+": 50, "QA-": 0, "TMA": 0, "ES:D": 0} | dict.fromkeys(
    ["ES:R", "LTM", "GTM", "GTT"], 100
)


def test_ers_formula_on_one_result_at_a_time():
    """Each of the ten results moves the mean by its own weight."""
    weights = {"CA+": 0.2, "CA-": -0.1, "QA+": 0.2, "QA-": -0.1, "TMA": -10, "ES:D": -5}
    weights |= dict.fromkeys(["ES:R", "LTM", "GTM", "GTT"], 0.1)
    for name, weight in weights.items():
        step = {"TMA": 0.5, "ES:D": 1.0}.get(name, -10 if weight > 0 else 10)
        moved = COLLAPSED | {name: COLLAPSED[name] + step}
        assert empirical_robustness_score(moved) == pytest.approx(100 + weight * step)


def test_ers_refuses_what_it_is_not_defined_for():
    with pytest.raises(ValueError, match=r"\['GTT'\] are missing"):
        empirical_robustness_score({k: v for k, v in COLLAPSED.items() if k != "GTT"})
    with pytest.raises(ValueError, match=r"results\['ES:D'\] .* unit-norm embeddings; got 7"):
        empirical_robustness_score(COLLAPSED | {"ES:D": 7})
