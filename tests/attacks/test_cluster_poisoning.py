"""A genetic search for a few points that change the clusters of others."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialClustering, ThreatModel
from skrobust.attacks import ClusterPoisoning

X, y = load_iris(return_X_y=True)


def poison(eps=2.0, norm=2, **params):
    params = {"share": 0.1, "max_iter": 8, "random_state": 0} | params
    return ClusterPoisoning(ThreatModel(norm, eps), **params)


@pytest.mark.parametrize(
    "clustering",
    [
        KMeans(3, n_init=4, random_state=0),
        AgglomerativeClustering(3),
        make_pipeline(StandardScaler(), AdversarialClustering(n_clusters=3, random_state=0)),
        DBSCAN(eps=0.6),
    ],
    ids=repr,
)
def test_few_points_move_and_the_clusters_change(clustering):
    found = poison().run(clustering.fit(X), X, y)
    assert found.touched.sum() == 15
    np.testing.assert_array_equal(found.X_adv[~found.touched], X[~found.touched])
    assert np.linalg.norm(found.X_adv - X, axis=1).max() <= 2.0
    fitness = found.found.diagnostics["fitness"]
    assert (np.diff(fitness) <= 0).all()
    assert fitness[-1] < 1
    same = adjusted_mutual_info_score(found.labels, found.labels_adv)
    assert fitness[-1] >= same - 1e-12  # and the penalty of what was moved
    assert fitness[-1] <= same + 0.1 * 15 / 150 + 1e-12
    assert found.found.n_gradient_calls == 0


def test_one_point_joins_two_clusters():
    """Single linkage: the gap is 1.2, steps of 0.7 are bridged, so one point between is enough."""
    grid = np.stack(np.meshgrid(np.arange(5) / 2, np.arange(3) / 2), axis=2).reshape(-1, 2)
    points = np.concatenate([grid, grid + np.array([3.2, 0])])
    chain = AgglomerativeClustering(None, linkage="single", distance_threshold=0.7).fit(points)
    assert chain.n_clusters_ == 2
    found = ClusterPoisoning(ThreatModel(eps=1.0), share=0.03, random_state=0).run(chain, points)
    assert found.touched.sum() == 1
    assert len(np.unique(found.labels_adv)) == 1
    assert found.spill_over == pytest.approx(1)  # nothing is left of what the others said


def test_generations_improve_on_the_first_candidates():
    first, last = 0.0, 0.0
    for seed in range(5):
        clusters = AgglomerativeClustering(3).fit(X)
        attack = poison(eps=0.6, norm=np.inf, population=4, max_iter=20, random_state=seed)
        fitness = attack.run(clusters, X).found.diagnostics["fitness"]
        first, last = first + fitness[0], last + fitness[-1]
    assert last < first - 0.2


def test_victims_are_those_near_the_other_cluster():
    clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    labels = clusters.fit_predict(X)
    found = poison(clusters=(int(labels[60]), int(labels[0])), max_iter=1).run(clusters, X)
    assert (labels[found.touched] == labels[60]).all()
    center = X[labels == labels[0]].mean(0)
    apart = np.linalg.norm(X - center, axis=1)
    inside = labels == labels[60]
    assert apart[found.touched].max() <= apart[inside & ~found.touched].min()


def test_threat_models_and_frames():
    names = list("abcd")
    frame = pd.DataFrame(X, columns=names)
    model = ThreatModel(np.inf, 1.0, mutable=["a", "c"], bounds=(0, 8))
    clusters = KMeans(3, n_init=1, random_state=0).fit(frame)
    found = ClusterPoisoning(model, share=0.1, max_iter=3, random_state=0).run(clusters, frame)
    assert list(found.X_adv.columns) == names
    np.testing.assert_array_equal(found.X_adv[["b", "d"]], frame[["b", "d"]])
    assert (found.X_adv.to_numpy() >= 0).all()
    again = ClusterPoisoning(model, share=0.1, max_iter=3, random_state=0).run(clusters, frame)
    pd.testing.assert_frame_equal(found.X_adv, again.X_adv)


def test_without_a_budget_nothing_changes():
    found = poison(eps=0.0, max_iter=2).run(KMeans(3, n_init=1, random_state=0).fit(X), X)
    np.testing.assert_array_equal(found.X_adv, X)
    assert found.scores["all"]["nmi"] == pytest.approx(1)


def test_an_interrupt_keeps_the_best(monkeypatch, capsys):
    calls = []
    original = ClusterPoisoning._children

    def interrupted(self, *args):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(ClusterPoisoning, "_children", interrupted)
    clusters = KMeans(3, n_init=1, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="interrupted after 2 generations"):
        found = poison(verbose=1).run(clusters, X)
    assert len(found.found.diagnostics["fitness"]) == 2
    assert "generation 2/8" in capsys.readouterr().out
    assert found.touched.any()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"share": 0.0}, "'share' parameter"),
        ({"population": 1}, "'population' parameter"),
        ({"clusters": (0, 7)}, r"two different labels of \[0, 1, 2\]; got \(0, 7\)"),
        ({"clusters": (0, 0)}, "two different labels"),
        ({"clusters": ([0], [1])}, "two different labels"),
        ({"threat_model": ThreatModel(2, -1.0)}, "eps must be finite"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        poison().set_params(**params).run(KMeans(3, n_init=1, random_state=0).fit(X), X)


def test_bad_estimators_and_data():
    with pytest.raises(TypeError, match="must be a clusterer"):
        poison().run(LogisticRegression(max_iter=500).fit(X, y), X)
    one = KMeans(1, n_init=1).fit(X)
    with pytest.raises(ValueError, match="at least two clusters to be poisoned; got 1"):
        poison().run(one, X)
    with pytest.raises(ValueError, match="y must have 150 labels; got 3"):
        poison().run(KMeans(3, n_init=1).fit(X), X, y[:3])
