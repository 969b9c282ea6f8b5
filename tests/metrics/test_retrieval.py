"""Retrieval, verification, clusters and spectra against slow obvious definitions."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from skrobust.metrics import (
    embedding_density,
    equal_error_rate,
    mean_average_precision_at_r,
    pairwise_f1,
    r_precision,
    recall_at_k,
    spectral_decay,
    tar_at_far,
    verification_threshold,
)


def slow(Z, y, Q):
    """Recall@1..n−1, mAP@R and R-precision, one query after the other."""
    recall, ap, rp = [], [], []
    for q in range(len(Z)):
        others = [i for i in range(len(Z)) if i != q]
        others.sort(key=lambda i: ((Z[i] - Q[q]) ** 2).sum())
        relevant = np.array([y[i] == y[q] for i in others])
        R = relevant.sum()
        if R:
            recall.append(np.cumsum(relevant) > 0)
            precision = np.cumsum(relevant) / np.arange(1, len(others) + 1)
            ap.append((precision * relevant)[:R].sum() / R)
            rp.append(relevant[:R].mean())
    return np.mean(recall, axis=0), np.mean(ap), np.mean(rp)


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_retrieval(seed, perturbed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, 40)
    y[0] = 9  # a class of its own
    Z = rng.standard_normal((40, 3)) + y[:, None] * 0.3
    Q = Z + 0.5 * rng.standard_normal(Z.shape) if perturbed else Z
    recall, ap, rp = slow(Z, y, Q)
    queries = Q if perturbed else None
    np.testing.assert_allclose(recall_at_k(Z, y, np.arange(1, 40), queries=queries), recall)
    assert recall_at_k(Z, y, queries=queries) == pytest.approx(recall[0])
    assert mean_average_precision_at_r(Z, y, queries=queries) == pytest.approx(ap)
    assert r_precision(Z, y, queries=queries) == pytest.approx(rp)


@pytest.mark.parametrize("seed", range(3))
def test_a_separate_gallery(seed):
    """Queries with labels of their own: as if each alone were added to the gallery, and asked."""
    rng = np.random.default_rng(seed)
    Z, y = rng.standard_normal((30, 3)), rng.integers(0, 4, 30)
    Q, y_queries = rng.standard_normal((12, 3)), rng.integers(0, 5, 12)  # class 4 has no item
    weight = rng.integers(0, 3, 12) + (y_queries == 0)
    found, counted = [], []
    for q, label, w in zip(Q, y_queries, weight, strict=True):
        if not (y == label).any():
            continue
        both, labels = np.r_[Z, q[None]], np.r_[y, label]
        asks = np.r_[np.zeros(30), 1]
        found.append(
            [
                *recall_at_k(both, labels, [1, 5, 30], sample_weight=asks),
                mean_average_precision_at_r(both, labels, sample_weight=asks),
                r_precision(both, labels, sample_weight=asks),
            ]
        )
        counted.append(w)
    for w, expected in ((None, np.mean(found, 0)), (weight, np.average(found, 0, counted))):
        given = {"queries": Q, "y_queries": y_queries, "sample_weight": w}
        np.testing.assert_allclose(recall_at_k(Z, y, [1, 5, 30], **given), expected[:3])
        assert mean_average_precision_at_r(Z, y, **given) == pytest.approx(expected[3])
        assert r_precision(Z, y, **given) == pytest.approx(expected[4])
    assert np.isnan(recall_at_k(Z, y, queries=Q[:1], y_queries=[7]))
    assert recall_at_k([[1.0]], ["a"], queries=[[0.0]], y_queries=["a"]) == 1
    with pytest.raises(ValueError, match="queries must have 3 components"):
        recall_at_k(Z, y, queries=Q[:, :2], y_queries=y_queries)
    with pytest.raises(ValueError, match="need their labels, y_queries"):
        recall_at_k(Z, y, queries=Q)
    with pytest.raises(ValueError, match="both must be text, or both numbers"):
        recall_at_k(Z, y, queries=Q, y_queries=y_queries.astype(str))
    with pytest.raises(ValueError, match="queries must be given where y_queries is"):
        recall_at_k(Z, y, y_queries=y)


def test_copies_of_a_query_stay_in_the_gallery():
    Z, y = [[0.0], [0.0], [5.0], [6.0]], [0, 1, 0, 1]
    assert recall_at_k(Z, y) == 0.0


def test_queries_without_a_partner_are_left_out():
    Z = [[0.0], [0.1], [5.0], [6.0]]
    assert recall_at_k(Z, [0, 0, 1, 2]) == 1.0
    for metric in (recall_at_k, mean_average_precision_at_r, r_precision):
        assert np.isnan(metric(Z, [0, 1, 2, 3]))
    assert np.isnan(recall_at_k(Z, [0, 1, 2, 3], [1, 2])).all()


def test_wrong_input():
    with pytest.raises(ValueError, match="k must be integers from 1 to 2; got 3"):
        recall_at_k(np.zeros((3, 1)), [0, 1, 0], 3)
    with pytest.raises(ValueError, match="queries must have the shape"):
        recall_at_k(np.zeros((3, 1)), [0, 1, 0], queries=np.zeros((3, 2)))


def test_pairwise_f1_over_all_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 60), rng.integers(0, 6, 60)
    together = [(a[i] == a[j], b[i] == b[j]) for i, j in combinations(range(60), 2)]
    both = sum(x and z for x, z in together)
    precision, recall = both / sum(z for _, z in together), both / sum(x for x, _ in together)
    assert pairwise_f1(a, b) == pytest.approx(2 * precision * recall / (precision + recall))
    assert pairwise_f1(a, a) == 1
    assert pairwise_f1(np.arange(5), np.arange(5)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_verification_agrees_with_the_roc_curve(seed):
    rng = np.random.default_rng(seed)
    alike = rng.random(300) < 0.4
    score = np.round(rng.standard_normal(300) + alike, 1)  # with ties
    far, tar, thresholds = roc_curve(alike, score, drop_intermediate=False)
    for limit in (0.0, 0.01, 0.1, 0.5, 1.0):
        assert tar_at_far(alike, score, limit) == pytest.approx(tar[far <= limit].max())
        found = verification_threshold(alike, score, limit)
        assert found == thresholds[far <= limit].min()
        assert (score[~alike] >= found).mean() <= limit
    grid = np.linspace(0, 1, 200001)
    gap = np.interp(grid, far, tar)
    crossing = grid[np.argmin(np.abs(1 - gap - grid))]
    assert equal_error_rate(alike, score) == pytest.approx(crossing, abs=1e-4)


def test_verification_needs_both_kinds():
    with pytest.raises(ValueError, match="only one kind"):
        equal_error_rate([True], [0.3])
    with pytest.raises(ValueError, match=r"far must be in \[0, 1\]; got 2"):
        tar_at_far([True, False], [0.3, 0.1], 2)


def test_density_and_decay():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    wide = rng.standard_normal((200, 4)) + 3 * np.eye(4)[y]
    tight = 0.1 * rng.standard_normal((200, 4)) + 3 * np.eye(4)[y]
    assert embedding_density(tight, y) < embedding_density(wide, y)
    assert embedding_density(np.ones((4, 2)), [0, 0, 1, 1]) == np.inf
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    means = np.array([unit[y == c].mean(0) for c in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    pairs = list(combinations(range(4), 2))
    within = [np.mean([1 - a @ b for a, b in combinations(unit[y == c], 2)]) for c in range(4)]
    between = np.mean([1 - means[a] @ means[b] for a, b in pairs])
    assert embedding_density(wide, y) == pytest.approx(np.mean(within) / between)
    flat = rng.standard_normal((5000, 4))
    assert spectral_decay(flat) == pytest.approx(0, abs=1e-3)
    assert spectral_decay(flat * [1, 1, 1, 0.01]) > 0.5
    assert spectral_decay(flat * [1, 1, 1, 0]) == np.inf
