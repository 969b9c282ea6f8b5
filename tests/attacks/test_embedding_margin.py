"""Embeddings that are pushed out of their group."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import EmbeddingMargin, EmbeddingShift

X, y = load_iris(return_X_y=True)
SAME = StandardScaler(with_mean=False, with_std=False).fit(X)
MEANS = np.array([X[y == c].mean(0) for c in range(3)])


def run(eps=1.0, data=X, labels=y, **params):
    params = {"random_state": 0} | params
    return EmbeddingMargin(threat_model=ThreatModel(eps=eps), **params).run(SAME, data, labels)


def margin(points, own):
    apart = np.linalg.norm(points[:, None] - MEANS, axis=2)
    rows = np.arange(len(points))
    mine = apart[rows, own].copy()
    apart[rows, own] = np.inf
    return mine - apart.min(1)


@pytest.mark.parametrize("toward", ["random", "nearest"])
def test_the_value_is_the_margin(toward):
    found = run(toward=toward)
    np.testing.assert_allclose(found.value, margin(np.asarray(found.X_adv), y))
    assert (found.value > margin(X, y)).mean() > 0.9
    assert found.perturbation_norm.max() <= 1.0


def test_far_away_it_is_the_distance_of_the_means():
    """‖x − a‖ − ‖x − b‖ ≤ ‖a − b‖, with equality beyond b on the line through both."""
    found = run(eps=8.0, max_iter=100, data=X[:100], labels=y[:100])
    bound = np.linalg.norm(MEANS[0] - MEANS[1])
    assert (found.value <= bound * (1 + 1e-9)).all()
    assert (found.value >= 0.97 * bound).all()


def test_the_nearest_group_needs_less_than_a_random_one():
    near = run(eps=1.0, toward="nearest").value
    assert (near > 0).mean() >= (run(eps=1.0).value > 0).mean()


def test_proxy_anchor_with_means_lowers_the_right_cosine():
    found = run(objective="proxy_anchor", alpha=8.0)

    def cosine(points):
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        return (unit @ (MEANS / np.linalg.norm(MEANS, axis=1, keepdims=True)).T)[np.arange(150), y]

    assert (cosine(np.asarray(found.X_adv)) < cosine(X)).mean() > 0.9


def test_random_groups_harm_a_clustering_more_than_the_nearest():
    def nmi(points):
        return normalized_mutual_info_score(
            y, KMeans(3, n_init=5, random_state=0).fit_predict(points)
        )

    random = nmi(np.asarray(run(eps=2.0).X_adv))
    assert random < nmi(X) - 0.3
    shift = EmbeddingShift(threat_model=ThreatModel(eps=2.0), random_state=0).run(SAME, X)
    assert random < nmi(np.asarray(shift.X_adv))


def test_without_labels_a_row_belongs_to_the_nearest_mean():
    attack = EmbeddingMargin(SAME, threat_model=ThreatModel(eps=1.0), random_state=0).fit(X, y)
    own = np.linalg.norm(X[:, None] - MEANS, axis=2).argmin(1)
    np.testing.assert_array_equal(attack.transform(X), attack.transform(X, own))
    text = np.array(["a", "b", "c"])
    named = EmbeddingMargin(SAME, threat_model=ThreatModel(eps=1.0), random_state=0)
    named.fit(X, text[y])
    np.testing.assert_array_equal(named.transform(X), attack.transform(X))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": None}, "y must be given for EmbeddingMargin"),
        ({"labels": np.zeros(150)}, "at least two groups"),
        ({"objective": "triplet"}, "'objective' parameter"),
        ({"toward": "far"}, "'toward' parameter"),
        ({"alpha": 0.0}, "'alpha' parameter"),
    ],
)
def test_bad_input(change, match):
    with pytest.raises(ValueError, match=match):
        run(**change)


def test_bad_labels():
    attack = EmbeddingMargin(SAME, threat_model=ThreatModel(eps=1.0)).fit(X, y)
    with pytest.raises(ValueError, match=r"labels must be of the groups \[0, 1, 2\]; got 7\."):
        attack.transform(X, np.full(150, 7))
    with pytest.raises(ValueError, match="requires y to be passed"):
        EmbeddingMargin(SAME).fit(X)
