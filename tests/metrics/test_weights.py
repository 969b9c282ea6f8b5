"""Weights of samples in every metric: whole numbers are copies, a zero is a sample left out."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from examples import examples
from skrobust import metrics
from skrobust.metrics import clustering_scores


def data(seed, n=12):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0.0, 0.1, 0.5, 2.0], n)
    return {
        "Z": rng.standard_normal((n, 3)),
        "y": np.array(["a", "b", "c"])[np.arange(n) % 3],
        "pred": rng.integers(0, 3, n),
        "correct": rng.random(n) < 0.7,
        "success": rng.random(n) < 0.5,
        "radius": sizes,
        "norm": np.where(rng.random(n) < 0.2, np.inf, sizes),
        "alike": np.arange(n) % 2 == 0,
        "score": rng.integers(0, 5, n) / 4,
        "gallery": rng.standard_normal((6, 3)),
    }


# of data, and the weights
COPIES = {
    "certified_accuracy_score": lambda f, d, **w: f(d["radius"], d["correct"], [0, 0.1, 1], **w),
    "certified_accuracy_per_class": lambda f, d, **w: f(
        d["y"], d["radius"], d["correct"], 0.1, **w
    ),
    "mean_certified_radius": lambda f, d, **w: f(d["norm"], cap=1.5, **w),
    "robust_accuracy_score": lambda f, d, **w: f(d["norm"], d["correct"], [0, 0.1, 1], **w),
    "attack_success_rate": lambda f, d, **w: f(d["success"], d["correct"], **w),
    "median_perturbation_norm": lambda f, d, **w: f(d["norm"], d["correct"], **w),
    "equal_error_rate": lambda f, d, **w: f(d["alike"], d["score"], **w),
    "tar_at_far": lambda f, d, **w: f(d["alike"], d["score"], 0.3, **w),
    "verification_threshold": lambda f, d, **w: f(d["alike"], d["score"], 0.3, **w),
    "spectral_decay": lambda f, d, **w: f(d["Z"], **w),
}
for _name in ("recall_at_k", "mean_average_precision_at_r", "r_precision"):
    COPIES[_name] = lambda f, d, **w: f(
        d["gallery"], list("abcabc"), queries=d["Z"], y_queries=d["y"], **w
    )
# pairs of points: copies would be pairs too
PAIRS = {
    "pairwise_f1": lambda f, d, **w: f(d["y"], d["pred"], **w),
    "embedding_density": lambda f, d, **w: f(d["Z"], d["y"], **w),
}


def test_no_metric_of_samples_is_without_weights():
    # of numbers that are means already; several scores at once, tested by themselves
    without = {"empirical_robustness_score", "clustering_scores"}
    assert {*COPIES, *PAIRS} == {*metrics.__all__} - without
    for name in {*COPIES, *PAIRS}:
        assert "sample_weight" in inspect.signature(getattr(metrics, name)).parameters


@pytest.mark.parametrize("name", sorted(COPIES))
@examples(10)
@given(seed=st.integers(0, 10**6))
def test_whole_weights_are_copies(name, seed):
    d = data(seed)
    metric = getattr(metrics, name)
    weight = np.random.default_rng(seed).integers(0, 4, 12)
    weight[:2] += 1  # something of both kinds of pairs
    weight[[0, 1]], d["correct"][0] = np.maximum(weight[[0, 1]], 1), True
    rows = np.repeat(np.arange(12), weight)
    copies = {key: value if key == "gallery" else value[rows] for key, value in d.items()}
    found = COPIES[name](metric, d, sample_weight=weight)
    expected = COPIES[name](metric, copies)
    if name == "certified_accuracy_per_class":
        found = found[~np.isnan(found)]
    if name == "spectral_decay" and len({*rows}) < 3:
        return
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(
        COPIES[name](metric, d, sample_weight=np.full(12, 1e-9)), COPIES[name](metric, d)
    )


@pytest.mark.parametrize("name", sorted(PAIRS))
@pytest.mark.parametrize("seed", range(5))
def test_weights_of_pairs(name, seed):
    d, metric = data(seed), getattr(metrics, name)
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 3, 12) + 0.0
    weight[:6] = 1.0
    some = {key: value if key == "gallery" else value[weight > 0] for key, value in d.items()}
    expected = PAIRS[name](metric, some, sample_weight=weight[weight > 0])
    found = PAIRS[name](metric, d, sample_weight=weight)
    assert found == pytest.approx(expected)
    assert PAIRS[name](metric, d, sample_weight=weight * 1e-5) == pytest.approx(expected)
    assert PAIRS[name](metric, d, sample_weight=np.full(12, 3)) == pytest.approx(
        PAIRS[name](metric, d)
    )


@pytest.mark.parametrize("seed", range(5))
def test_weighted_nmi_is_scikit_learns_of_copies(seed):
    rng = np.random.default_rng(seed)
    y, clusters, weight = rng.integers(0, 3, 30), rng.integers(0, 4, 30), rng.integers(0, 4, 30)
    found = clustering_scores(y, clusters, sample_weight=weight)
    assert set(found) == {"nmi", "f1"}
    expected = normalized_mutual_info_score(np.repeat(y, weight), np.repeat(clusters, weight))
    assert found["nmi"] == pytest.approx(expected)
    assert clustering_scores(y, y, sample_weight=np.ones(30))["nmi"] == 1
    assert clustering_scores(y * 0, y * 0, sample_weight=np.ones(30))["nmi"] == 1


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1.0], ValueError, r"shape \(n_samples,\) = \(12,\)"),
        (np.r_[-1.0, np.ones(11)], ValueError, r"sample_weight\[0\] is -1.0"),
        (np.r_[np.nan, np.ones(11)], ValueError, r"sample_weight\[0\] is nan"),
        (np.zeros(12), ValueError, "all weights are zero"),
        (["heavy"] * 12, TypeError, "sample_weight must be numbers"),
    ],
)
@pytest.mark.parametrize("name", sorted(COPIES | PAIRS))
def test_wrong_weights_are_named(name, weight, error, message):
    with pytest.raises(error, match=message):
        (COPIES | PAIRS)[name](getattr(metrics, name), data(0), sample_weight=weight)
