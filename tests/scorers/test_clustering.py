"""Scorers of clusterings under attack."""

import pickle

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialClustering, RobustMahalanobis, ThreatModel
from skrobust.attacks import ClusteringAttack, EmbeddingMargin, EmbeddingShift
from skrobust.scorers import reseeding_floor, robust_clustering_scorer, robust_clustering_scores

X, y = load_iris(return_X_y=True)
# scikit-learn takes rows in their order for clusterers
FOLDS = KFold(3, shuffle=True, random_state=0)
MARGIN = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)


def test_a_search_by_robust_nmi():
    scorer = pickle.loads(pickle.dumps(robust_clustering_scorer(ClusteringAttack(MARGIN))))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), AdversarialClustering(n_clusters=3, random_state=0)),
        {"adversarialclustering__metric": [None, PCA(2)]},
        scoring=scorer,
        cv=FOLDS,
        error_score="raise",
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_all_scores_from_one_attack():
    attack = ClusteringAttack(MARGIN, share=0.3, random_state=0)
    model = KMeans(3, n_init=4, random_state=0)
    found = cross_validate(
        model, X, y, scoring=robust_clustering_scores(attack), cv=FOLDS, error_score="raise"
    )
    assert (found["test_robust_nmi"] < found["test_nmi"]).all()
    assert set(found) >= {"test_untouched_nmi", "test_spill_over", "test_robust_f1", "test_ami"}
    model.fit(X)
    one = robust_clustering_scores(attack)(model, X, y)
    run = attack.run(model, X, y)
    assert one["robust_ami"] == run.scores["all"]["ami"]
    assert one["spill_over"] == run.spill_over
    assert one["robust_f1"] == robust_clustering_scorer(attack, "f1")(model, X, y)
    whole = robust_clustering_scores(ClusteringAttack(MARGIN))(model, X, y)
    assert "spill_over" not in whole


def test_the_floor_is_what_seeds_do():
    one = KMeans(20, n_init=1)
    assert 0 < reseeding_floor(one, X, y) < 0.2
    assert reseeding_floor(one, X, y) == reseeding_floor(one, X, y)
    assert reseeding_floor(KMeans(3, n_init=10), X, y) < 1e-6
    # a metric inside that needs labels gets them
    clusters = AdversarialClustering(RobustMahalanobis(max_iter=3, random_state=0), n_clusters=3)
    assert 0 <= reseeding_floor(clusters, X, y, n_repeats=2) < 0.5


def test_bad_input():
    with pytest.raises(TypeError, match="must be a ClusteringAttack"):
        robust_clustering_scorer(EmbeddingShift())
    with pytest.raises(ValueError, match="metric must be one of"):
        robust_clustering_scorer(ClusteringAttack(MARGIN), "accuracy")
    with pytest.raises(ValueError, match="n_repeats must be >= 2; got 1"):
        reseeding_floor(KMeans(3), X, y, n_repeats=1)
    with pytest.raises(TypeError, match="n_repeats must be an integer"):
        reseeding_floor(KMeans(3), X, y, n_repeats=2.5)
