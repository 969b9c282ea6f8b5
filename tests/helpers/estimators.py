"""Every public estimator, with parameters at which it is quick."""

from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skrobust import AdversarialClustering, AdversarialDeepMetric, RobustMahalanobis
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingMargin,
    EmbeddingNoise,
    EmbeddingShift,
    EmbeddingTargets,
    ExactNeighborAttack,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
    RankingAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.certificates import CenterSmoothing, RandomizedSmoothingClassifier
from skrobust.deep import AdversarialTraining, EnsembleAdversarialTraining, MDProp
from skrobust.metric_learning import CvxpySolver, ProjectedSolver
from skrobust.neighbors import (
    AdversarialPruning,
    RobustKNeighborsClassifier,
    RobustPrototypeClassifier,
    WilsonEditing,
)

__all__ = ["ESTIMATORS"]

ESTIMATORS = [
    RobustMahalanobis(max_iter=2, random_state=0),
    RobustMahalanobis(n_components=1, init="pca", target_radius=1.0, max_iter=2),
    RobustMahalanobis(solver=ProjectedSolver(n_rounds=1), random_state=0),
    RobustMahalanobis(solver=CvxpySolver(n_rounds=1), random_state=0),
    AdversarialClustering(n_clusters=3, random_state=0),
    AdversarialClustering(n_clusters=3, backend="faiss", random_state=0),
    AdversarialClustering(PCA(1), n_clusters=2, center="trimmed", random_state=0),
    AdversarialClustering(n_clusters=3, algorithm="spherical_kmeans", random_state=0),
    AdversarialClustering(n_clusters=3, algorithm="agglomerative"),
    AdversarialClustering(algorithm="hdbscan"),
    AdversarialDeepMetric(max_iter=2, random_state=0),
    AdversarialDeepMetric(training=MDProp(), max_iter=2, batch_size=16, random_state=0),
    AdversarialDeepMetric(
        training=EnsembleAdversarialTraining(n_members=2, max_iter=1), max_iter=1, random_state=0
    ),
    AdversarialDeepMetric(
        loss="proxy_anchor",
        normalize=False,
        training=AdversarialTraining(max_iter=2),
        max_iter=2,
        random_state=0,
    ),
    AdversarialDeepMetric(
        lipschitz="orthogonal", loss="certified_margin", max_iter=2, random_state=0
    ),
    CenterSmoothing(n_samples=20, random_state=0),
    CenterSmoothing(PCA(1), n_samples=21, random_state=0),
    RobustKNeighborsClassifier(),
    RobustKNeighborsClassifier(1, method="exact"),
    RandomizedSmoothingClassifier(random_state=0),
    RandomizedSmoothingClassifier(DecisionTreeClassifier(random_state=0), random_state=0),
    RobustPrototypeClassifier(5, max_iter=2, random_state=0),
    RobustPrototypeClassifier("auto", learn_metric=False, max_iter=1, random_state=0),
    WilsonEditing(),
    WilsonEditing(RobustKNeighborsClassifier(1), n_neighbors=3),
    AdversarialPruning(),
    AdversarialPruning(RobustKNeighborsClassifier(3), radius=0.3),
    FGSM(),
    PGD(max_iter=5, random_state=0),
    PGD(LogisticRegression(), max_iter=5, n_restarts=3, random_state=0),
    APGD(max_iter=5, random_state=0),
    MinimumNormAttack(attack=PGD(max_iter=5), max_iter=2, random_state=0),
    ExactNeighborAttack(),
    GreedyNeighborAttack(n_candidates=2),
    NeighborDirectionAttack(n_candidates=2),
    HopSkipJump(LogisticRegression(), max_iter=1, n_evaluations=5, n_starts=5, random_state=0),
    NoiseAttack(random_state=0),
    TransferAttack(DecisionTreeClassifier(random_state=0), attack=PGD(max_iter=5), random_state=0),
    WorstCase(
        attacks=[("pgd", PGD(max_iter=3, random_state=0)), ("noise", NoiseAttack(random_state=0))]
    ),
    EmbeddingShift(max_iter=3, random_state=0),
    EmbeddingNoise(random_state=0),
    EmbeddingMargin(max_iter=3, random_state=0),
    EmbeddingMargin(objective="proxy_anchor", max_iter=3, random_state=0),
    EmbeddingTargets(n_targets=2, max_iter=3, random_state=0),
    RankingAttack(max_iter=3, random_state=0),
]
