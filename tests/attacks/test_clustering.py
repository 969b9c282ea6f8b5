"""Clusterings under attack: modes, spill-over, the estimators that are taken."""

import numpy as np
import pandas as pd
import pytest
from shared_data import load_digits
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialClustering, RobustMahalanobis, ThreatModel
from skrobust.attacks import (
    PGD,
    ClusteringAttack,
    EmbeddingMargin,
    EmbeddingShift,
    NoiseAttack,
)

X, y = load_iris(return_X_y=True)


def margin(eps=1.0, **params):
    return EmbeddingMargin(threat_model=ThreatModel(eps=eps), random_state=0, **params)


def clusterings():
    yield KMeans(3, n_init=4, random_state=0)
    yield make_pipeline(StandardScaler(), PCA(2), KMeans(3, n_init=4, random_state=0))
    yield AgglomerativeClustering(3)
    yield AdversarialClustering(n_clusters=3, random_state=0)
    metric = RobustMahalanobis(max_iter=5, random_state=0)
    yield AdversarialClustering(metric, n_clusters=3, random_state=0)
    yield make_pipeline(StandardScaler(), AdversarialClustering(PCA(2), 3, random_state=0))


@pytest.mark.parametrize("clustering", list(clusterings()), ids=repr)
@pytest.mark.parametrize("mode", ["transductive", "inductive"])
def test_an_attack_lowers_what_the_clusters_say(clustering, mode):
    clustering.fit(X, y)
    attack = ClusteringAttack(margin(), mode=mode)
    if mode == "inductive" and not hasattr(clustering, "predict"):
        with pytest.raises(ValueError, match="needs a clusterer with predict"):
            attack.run(clustering, X, y)
        return
    found = attack.run(clustering, X, y)
    assert found.scores["all"]["nmi"] < found.scores["clean"]["nmi"] - 0.1
    assert found.scores["touched"] == found.scores["all"]
    assert found.touched.all()
    assert np.isnan(found.spill_over)
    assert np.linalg.norm(found.X_adv - X, axis=1).max() <= 1.0
    if mode == "inductive":
        np.testing.assert_array_equal(found.labels_adv, clustering.predict(found.X_adv))


def test_some_points_only():
    clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    found = ClusteringAttack(margin(3.0), share=0.3, random_state=0).run(clusters, X, y)
    assert found.touched.sum() == 45
    np.testing.assert_array_equal(found.X_adv[~found.touched], X[~found.touched])
    assert (found.X_adv[found.touched] != X[found.touched]).any(axis=1).all()
    for name, rows in [("touched", found.touched), ("untouched", ~found.touched)]:
        expected = normalized_mutual_info_score(y[rows], found.labels_adv[rows])
        assert found.scores[name]["nmi"] == pytest.approx(expected)
    before = normalized_mutual_info_score(y[~found.touched], found.labels[~found.touched])
    assert found.spill_over == pytest.approx(before - found.scores["untouched"]["nmi"])


def test_inductively_nobody_else_is_harmed():
    clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    found = ClusteringAttack(margin(3.0), mode="inductive", share=0.3).run(clusters, X, y)
    np.testing.assert_array_equal(found.labels_adv[~found.touched], found.labels[~found.touched])
    assert found.spill_over == 0


def test_without_a_budget_nothing_changes():
    clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    found = ClusteringAttack(margin(0.0)).run(clusters, X, y)
    np.testing.assert_array_equal(found.X_adv, X)
    assert found.scores["all"] == found.scores["clean"]


def test_clusters_as_groups_need_no_labels():
    clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    given = ClusteringAttack(margin(), groups="clusters", random_state=0)
    one = given.run(clusters, X, y)
    other = given.run(clusters, X, np.random.default_rng(0).permutation(y))
    np.testing.assert_array_equal(one.X_adv, other.X_adv)
    assert one.scores["all"]["nmi"] < one.scores["clean"]["nmi"] - 0.1


def test_black_box_embeddings_and_frames():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = ThreatModel(eps=1.0, mutable=["a", "c"])
    attack = EmbeddingShift(threat_model=model, gradient="nes", max_iter=5, random_state=0)
    pipe = make_pipeline(StandardScaler(), KMeans(3, n_init=4, random_state=0)).fit(frame)
    found = ClusteringAttack(attack, share=0.2, random_state=0).run(pipe, frame, y)
    assert list(found.X_adv.columns) == list("abcd")
    assert (found.X_adv[["b", "d"]] == frame[["b", "d"]]).all().all()


def test_a_stronger_adversary_does_more_than_noise():
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:400] / 16, labels[:400]
    clusters = KMeans(10, n_init=4, random_state=0).fit(digits)
    found = ClusteringAttack(margin(1.5)).run(clusters, digits, labels)
    rng = np.random.default_rng(0).standard_normal(digits.shape)
    noise = 1.5 * rng / np.linalg.norm(rng, axis=1, keepdims=True)
    control = KMeans(10, n_init=4, random_state=0).fit_predict(digits + noise)
    assert found.scores["all"]["nmi"] < normalized_mutual_info_score(labels, control) - 0.2


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"mode": "online"}, "'mode' parameter"),
        ({"share": 0.0}, "'share' parameter"),
        ({"groups": "means"}, "'groups' parameter"),
        ({"attack": NoiseAttack()}, "'attack' parameter"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        ClusteringAttack(**params).run(KMeans(3, n_init=1).fit(X), X, y)


def test_bad_estimators_and_labels():
    with pytest.raises(TypeError, match="must be a clusterer"):
        ClusteringAttack().run(LogisticRegression(max_iter=500).fit(X, y), X, y)
    with pytest.raises(ValueError, match="y must have 150 labels; got 3"):
        ClusteringAttack().run(KMeans(3, n_init=1).fit(X), X, y[:3])
    with pytest.raises(ValueError, match="DBSCAN has none"):
        ClusteringAttack(mode="inductive").run(DBSCAN().fit(X), X, y)


def test_a_threat_model_in_the_first_place_is_an_error():
    """Not silently the estimator, with a default budget."""
    X, y = load_iris(return_X_y=True)
    clusters = KMeans(3, n_init=1, random_state=0).fit(X)
    shift = EmbeddingShift(ThreatModel(eps=0.5))
    for run in (
        lambda: ClusteringAttack(shift).run(clusters, X, y),
        lambda: shift.run(clusters, X),
    ):
        with pytest.raises(TypeError, match="did you mean threat_model="):
            run()
    with pytest.raises(TypeError, match="estimator of PGD is a ThreatModel"):
        PGD(ThreatModel(eps=0.5)).run(KNeighborsClassifier().fit(X, y), X, y)
