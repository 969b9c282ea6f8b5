"""Outputs of some seventy small certificates, attacks, fits and scores, to the last bit.

A change of layout must not change a number::

    python -m studies outputs store before.npz
    python -m studies outputs compare before.npz

`compare` prints each output that differs, and fails if there is one. Public names alone are
used, so that the script runs before and after modules move. Every seed is fixed; one thread.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import (
    AdversarialClustering,
    AdversarialDeepMetric,
    RobustMahalanobis,
    ThreatModel,
    attacks,
    certificates,
    certify,
    deep,
    inspection,
    metric_learning,
    metrics,
    neighbors,
    objectives,
    scorers,
)

NORMS = {"l1": 1, "l2": 2, "linf": np.inf}


def data(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a small training and test part, scaled to about 1."""
    load = {"iris": load_iris, "cancer": load_breast_cancer, "digits": load_digits}[name]
    X, y = load(return_X_y=True)
    X = (X / np.abs(X).max(axis=0).clip(min=1)).astype(dtype)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:120], order[120:150]
    return X[train], y[train], X[test], y[test]


def certificate(found: Any) -> dict[str, Any]:
    """Return the arrays of a certificate."""
    names = ("radius", "status", "upper", "perturbation", "adversarial_label")
    return {n: getattr(found, n) for n in names if getattr(found, n, None) is not None}


def attack(found: Any) -> dict[str, Any]:
    """Return the arrays of a result of an attack."""
    names = ("X_adv", "success", "perturbation_norm", "value", "embedding_adv", "n_queries")
    return {n: getattr(found, n) for n in names if hasattr(found, n)}


def pipelines(X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return fitted nearest-neighbour rules of each kind."""
    one, three = KNeighborsClassifier(1), KNeighborsClassifier(3)
    columns = make_column_transformer((StandardScaler(), [0, 2]), remainder="passthrough")
    models = {
        "1-NN": one,
        "scaled 3-NN": make_pipeline(StandardScaler(), three),
        "PCA 4-NN": make_pipeline(StandardScaler(), PCA(3), KNeighborsClassifier(4)),
        "columns 1-NN": make_pipeline(columns, KNeighborsClassifier(1)),
        "centroids": NearestCentroid(),
        "tree 1-NN": KNeighborsClassifier(1, algorithm="kd_tree"),
    }
    return {name: model.fit(X, y) for name, model in models.items()}


def certified() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield certificates: rules by norms, precisions and threat models."""
    for dtype in (np.float64, np.float32):
        X, y, T, t = data("iris", dtype)
        for norm_name, norm in NORMS.items():
            threat = ThreatModel(norm)
            for name, model in pipelines(X, y).items():
                if dtype is np.float32 and name not in ("1-NN", "scaled 3-NN"):
                    continue
                key = f"certify {name} {norm_name} {np.dtype(dtype).name}"
                yield (
                    key,
                    lambda m=model, th=threat, T=T, t=t: certificate(
                        certify(m, T, t, threat_model=th)
                    ),
                )
    X, y, T, t = data("cancer", np.float64)
    knn = {K: KNeighborsClassifier(K).fit(X, y) for K in (1, 3)}
    limited = ThreatModel(
        2, mutable=np.arange(30) < 20, bounds=(0.0, 1.0), feature_scale=np.linspace(0.5, 2, 30)
    )
    exact = certificates.exact_nearest_neighbor_radius
    yield "limited 1-NN", lambda: certificate(certify(knn[1], T, t, threat_model=limited))
    yield "limited exact 3-NN", lambda: certificate(exact(knn[3], T[:8], t[:8], max_nodes=100))
    yield "fast", lambda: certificate(certify(knn[1], T, t, method="fast"))
    yield "predictions", lambda: certificate(certify(knn[3], T))
    yield "retrieval", lambda: certificate(certificates.certify_retrieval(PCA(3).fit(X), T, t))
    center = make_pipeline(
        certificates.CenterSmoothing(PCA(3), n_samples=40, n_certify=200, random_state=0),
        KNeighborsClassifier(1),
    ).fit(X, y)
    yield "center smoothing", lambda: certificate(certify(center, T, t))
    smoothed = certificates.RandomizedSmoothingClassifier(
        LogisticRegression(), n_samples=100, n_selection=20, random_state=0
    ).fit(X, y)
    yield "smoothing", lambda: certificate(certify(smoothed, T, t))
    clusters = KMeans(3, n_init=1, random_state=0).fit(X)
    yield "k-means", lambda: certificate(certify(clusters, T))
    for name, model in {
        "robust k-NN": neighbors.RobustKNeighborsClassifier(3),
        "prototypes": neighbors.RobustPrototypeClassifier(3, max_iter=3, random_state=0),
        "Wilson": neighbors.WilsonEditing(KNeighborsClassifier(1), n_neighbors=3),
        "pruning": neighbors.AdversarialPruning(KNeighborsClassifier(1), radius=0.1),
    }.items():
        fitted = model.fit(X, y)
        yield f"certify {name}", lambda m=fitted: certificate(certify(m, T, t))
    net = AdversarialDeepMetric(
        lipschitz="orthogonal", loss="certified_margin", max_iter=2, random_state=0
    )
    behind = make_pipeline(net, KNeighborsClassifier(1)).fit(X.astype(np.float32), y)
    yield "Lipschitz", lambda: certificate(certify(behind, T.astype(np.float32), t))


def attacked() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield attacks: families by norms."""
    X, y, T, t = data("iris", np.float64)
    T, t = T[:12], t[:12]
    knn, logistic = KNeighborsClassifier(3).fit(X, y), LogisticRegression().fit(X, y)
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    embedding = PCA(2).fit(X)
    for norm_name, norm in NORMS.items():
        threat = ThreatModel(norm, eps=0.1)
        for name, one, victim in (
            ("FGSM", attacks.FGSM(threat_model=threat), logistic),
            ("PGD", attacks.PGD(threat_model=threat, max_iter=10, random_state=0), knn),
            ("APGD", attacks.APGD(threat_model=threat, max_iter=10, random_state=0), logistic),
            ("noise", attacks.NoiseAttack(threat_model=threat, random_state=0), forest),
            ("exact", attacks.ExactNeighborAttack(threat_model=threat), knn),
        ):
            yield f"{name} {norm_name}", lambda a=one, v=victim: attack(a.run(v, T, t))
        shift = attacks.EmbeddingShift(threat_model=threat, max_iter=4, random_state=0)
        yield f"shift {norm_name}", lambda a=shift: attack(a.run(embedding, T))
    threat = ThreatModel(2, eps=0.2)
    for name, one in {
        "HopSkipJump": attacks.HopSkipJump(
            threat_model=threat, max_iter=3, n_evaluations=20, random_state=0
        ),
        "transfer": attacks.TransferAttack(threat_model=threat, random_state=0),
        "greedy": attacks.GreedyNeighborAttack(threat_model=threat),
        "direction": attacks.NeighborDirectionAttack(threat_model=threat),
        "minimum": attacks.MinimumNormAttack(
            attack=attacks.PGD(max_iter=5), threat_model=threat, max_iter=3, random_state=0
        ),
        "worst": attacks.WorstCase(threat_model=threat),
    }.items():
        fitted = {"transfer": X, "HopSkipJump": X}.get(name)
        if name == "transfer":
            one.surrogate = LogisticRegression().fit(fitted, y)
        yield name, lambda a=one: attack(a.run(knn, T, t))
    for name, one in {
        "margin": attacks.EmbeddingMargin(threat_model=threat, max_iter=3, random_state=0),
        "targets": attacks.EmbeddingTargets(
            n_targets=2, threat_model=threat, max_iter=3, random_state=0
        ),
        "ranking": attacks.RankingAttack(threat_model=threat, max_iter=3, random_state=0),
        "embedding noise": attacks.EmbeddingNoise(threat_model=threat, random_state=0),
    }.items():
        yield name, lambda a=one: attack(a.run(embedding, T, t))
    clusters = AdversarialClustering(n_clusters=3, random_state=0).fit(X)
    yield (
        "clustering",
        lambda: {
            "labels": attacks.ClusteringAttack(
                attacks.EmbeddingShift(threat_model=threat, max_iter=3, random_state=0),
                random_state=0,
            )
            .run(clusters, T, t)
            .labels_adv
        },
    )


def weights(model: AdversarialDeepMetric) -> dict[str, Any]:
    """Return a deep metric's embeddings of the points it was fitted on."""
    X, *_ = data("digits", np.float32)
    return {"Z": model.transform(X)}


def fitted() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield fits: solvers, objectives, strategies, clusters."""
    X, y, T, _ = data("cancer", np.float64)
    for name, model in {
        "Adam": RobustMahalanobis(max_iter=5, random_state=0),
        "Adam l1": RobustMahalanobis(threat_model=ThreatModel(1), max_iter=3, random_state=0),
        "triplets": RobustMahalanobis(
            objective=objectives.TripletObjective(), max_iter=3, random_state=0
        ),
        "projected": RobustMahalanobis(
            solver=metric_learning.ProjectedSolver(max_iter=50), target_radius=0.1, random_state=0
        ),
    }.items():
        yield f"fit {name}", lambda m=model: {"Z": m.fit(X, y).transform(T)}
    prototypes = neighbors.RobustPrototypeClassifier(4, max_iter=4, random_state=0)
    yield "fit prototypes", lambda: {"proba": prototypes.fit(X, y).predict(T)}
    digits, labels, *_ = data("digits", np.float32)
    for name, training in {
        "standard": deep.StandardTraining(),
        "adversarial": deep.AdversarialTraining(max_iter=2),
        "shift": deep.EmbeddingShiftTraining(max_iter=2),
        "collapse": deep.AntiCollapseTriplet(max_iter=2),
        "hardness": deep.HardnessManipulation(max_iter=2),
        "ensemble": deep.EnsembleAdversarialTraining(n_members=2, max_iter=1),
        "mdprop": deep.MDProp(),
    }.items():
        net = AdversarialDeepMetric(
            training=training, max_iter=2, batch_size=32, random_state=0, device="cpu"
        )
        yield f"fit deep {name}", lambda n=net: weights(n.fit(digits, labels))
    for algorithm in ("kmeans", "spherical_kmeans", "agglomerative"):
        clusters = AdversarialClustering(
            n_clusters=3, algorithm=algorithm, random_state=0, backend="sklearn"
        )
        yield f"fit {algorithm}", lambda c=clusters: {"labels": c.fit(X).labels_}


def scored() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield scores and reports."""
    X, y, T, t = data("cancer", np.float64)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3)).fit(X, y)
    pgd = attacks.PGD(threat_model=ThreatModel(2), max_iter=5, random_state=0)
    for name, scorer in {
        "certified": scorers.certified_accuracy_scorer(0.05),
        "curve": scorers.certified_curve_scorer([0.05, 0.1]),
        "mean radius": scorers.mean_certified_radius_scorer(),
        "robust": scorers.robust_accuracy_scorer(pgd, 0.1),
        "robust curve": scorers.robust_curve_scorer(pgd, [0.05, 0.1]),
    }.items():
        yield f"score {name}", lambda s=scorer: {"score": repr(s(model, T, t))}

    def report() -> dict[str, Any]:
        found = inspection.robustness_report(model, T, t, eps=[0.05, 0.2])
        return {"worst": found.worst, "certified": found.certified}

    yield "report", report
    Z = PCA(3, random_state=0).fit_transform(X)
    yield "recall", lambda: {"recall": metrics.recall_at_k(Z, y, [1, 5])}
    yield "map", lambda: {"map": metrics.mean_average_precision_at_r(Z, y)}


def collect() -> dict[str, np.ndarray]:
    """Compute every output, as arrays by name."""
    torch.set_num_threads(1)
    outputs = {}
    for family in (certified, attacked, fitted, scored):
        for name, compute in family():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for part, value in compute().items():
                    outputs[f"{name} | {part}"] = np.asarray(value)
    return outputs


def main(command: str, path: str) -> bool:
    """Store the outputs, or compare them with those that were stored."""
    outputs = collect()
    if command == "store":
        np.savez(path, **outputs)
        print(f"{len({key.split(' | ')[0] for key in outputs})} outputs stored in {path}")
        return False
    stored = np.load(path)
    names = sorted(set(outputs) | set(stored.files))
    differ = [
        name
        for name in names
        if name not in outputs
        or name not in stored
        or outputs[name].dtype != stored[name].dtype
        or outputs[name].tobytes() != stored[name].tobytes()
    ]
    print("\n".join(f"differs: {name}" for name in differ) or f"{len(names)} arrays agree")
    return bool(differ)
