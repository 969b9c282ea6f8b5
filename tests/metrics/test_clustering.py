"""Noise is no cluster, in every metric of clusters."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from examples import examples
from skrobust.metrics import clustering_scores, pairwise_f1
from skrobust.scorers import reseeding_floor

labels = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-1, 3), st.floats(0.1, 3)), min_size=1, max_size=30
)


def test_all_noise_is_worth_nothing():
    y = load_breast_cancer().target
    noise = np.full(len(y), -1)
    assert clustering_scores(y, noise) == {"nmi": 0, "ami": 0, "f1": 0}
    assert clustering_scores(y, noise, sample_weight=np.arange(1, len(y) + 1)) == {
        "nmi": 0,
        "f1": 0,
    }
    assert pairwise_f1(y, noise) == 0


@examples(40)
@given(labels)
def test_noise_is_in_no_cluster(rows):
    """The slow obvious way: pairs one by one, and the information of the points in clusters."""
    y, found, weight = (np.array(column) for column in zip(*rows, strict=True))
    for w in (None, weight):
        own = np.ones(len(y)) if w is None else w
        both = together = 0.0
        for i in range(len(y)):
            for j in range(i):
                pair, same = own[i] * own[j], y[i] == y[j]
                clustered = found[i] == found[j] != -1
                both += pair * (same and clustered)
                together += pair * (float(same) + float(clustered))
        expected = 2 * both / together if together else 1.0
        scores = clustering_scores(y, found, sample_weight=w)
        assert scores["f1"] == pytest.approx(expected)
        assert pairwise_f1(y, found, sample_weight=w) == scores["f1"]
    inside = found >= 0
    nmi = normalized_mutual_info_score(y[inside], found[inside]) if inside.any() else 0
    ami = adjusted_mutual_info_score(y[inside], found[inside]) if inside.any() else 0
    scores = clustering_scores(y, found)
    assert scores["nmi"] == pytest.approx(inside.mean() * nmi)
    assert scores["ami"] == pytest.approx(inside.mean() * ami)


@examples(20)
@given(labels, st.integers(0, 29))
def test_a_right_point_that_becomes_noise_gains_nothing(rows, k):
    """An attack that makes noise of a perfect clustering lowers what is reported."""
    y = np.array([row[0] for row in rows])
    assume(len(np.unique(y)) < len(y))  # releases differ on clusters of single points
    noisy = y.copy()
    noisy[k % len(y)] = -1
    perfect, after = clustering_scores(y, y), clustering_scores(y, noisy)
    assert all(after[name] <= perfect[name] for name in ("nmi", "ami", "f1"))


class HalfNoise(ClusterMixin, BaseEstimator):
    """Right, but every other seed takes half of the points for noise."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y):
        self.labels_ = np.where(np.arange(len(y)) % 2 < self.random_state % 2, -1, y)
        return self

    def fit_predict(self, X, y=None):
        return self.fit(X, y).labels_


def test_the_floor_of_reseeding_counts_noise_alike():
    y = np.repeat([0, 1], 10)
    assert reseeding_floor(HalfNoise(), np.zeros((20, 1)), y) == pytest.approx(0.5)
