"""Random fitted models for the searches of tests/fuzz: steps, rules, overrides, changes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import (
    KNeighborsClassifier,
    NearestCentroid,
    NearestNeighbors,
    NeighborhoodComponentsAnalysis,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skrobust import AdversarialClustering, AdversarialDeepMetric, RobustMahalanobis
from skrobust.adapters import AffineFunction
from skrobust.neighbors import (
    AdversarialPruning,
    RobustKNeighborsClassifier,
    RobustPrototypeClassifier,
    WilsonEditing,
)

__all__ = ["Model", "draw_model"]


def _first(X):
    """Return the first column as float64."""
    if hasattr(X, "columns"):
        return np.asarray(X[next(iter(X.columns))], dtype=np.float64)
    return np.asarray(X, dtype=np.float64)[:, 0]


def _behind_the_door(X):
    """Return the mask of points in narrow stripes: what an override treats in its own way."""
    column = np.abs(_first(X))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.modf(np.log2(np.where(column > 0, column, 1.0)) * 3)[0] > 0.8


def _swapped(predicted, X, classes):
    at = np.searchsorted(classes, predicted)
    return np.where(_behind_the_door(X), classes[(at + 1) % len(classes)], predicted)


class PredictsItsOwn(KNeighborsClassifier):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class ProbaOfItsOwn(KNeighborsClassifier):
    def predict_proba(self, X):
        found = super().predict_proba(X)
        return np.where(_behind_the_door(X)[:, None], np.roll(found, 1, axis=1), found)


class NeighborsOfItsOwn(KNeighborsClassifier):
    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
        return super().kneighbors(
            None if X is None else np.round(X, 1), n_neighbors, return_distance
        )


class CentroidOfItsOwn(NearestCentroid):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class EditingOfItsOwn(WilsonEditing):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class PrototypesOfTheirOwn(RobustPrototypeClassifier):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class RobustKNNOfItsOwn(RobustKNeighborsClassifier):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class GridOfItsOwn(GridSearchCV):
    def predict(self, X):
        return _swapped(super().predict(X), X, self.classes_)


class PipelineOfItsOwn(Pipeline):
    def predict(self, X, **params):
        return _swapped(super().predict(X, **params), X, self.classes_)


class HarmlessKNN(KNeighborsClassifier):
    """A subclass that changes nothing."""


class ClippingScaler(StandardScaler):
    def transform(self, X, copy=None):
        return np.clip(super().transform(X, copy), -3, 3)


class RoundingScaler(StandardScaler):
    def transform(self, X, copy=None):
        return np.round(super().transform(X, copy), 2)


class FoldingMahalanobis(RobustMahalanobis):
    def transform(self, X):
        return np.abs(super().transform(X))


def _soft_clip(X):
    return np.clip(X, -3.0, 3.0)


def _columns(rng, X, d, names):
    parts = {"standard": StandardScaler(), "keep": "passthrough", "minmax": MinMaxScaler()}
    order = rng.permutation(d)
    at = np.sort(rng.integers(0, d + 1, 2))
    blocks = [order[: max(at[0], 1)], order[max(at[0], 1) : max(at[1], 1)]]
    spelt = []
    by_name = names is not None and rng.random() < 0.7
    for block in blocks:
        if len(block):
            what = parts[str(rng.choice(list(parts)))]
            columns = [names[k] for k in block] if by_name else [int(k) for k in block]
            spelt.append((f"b{len(spelt)}", what, columns))
    return ColumnTransformer(spelt, remainder=str(rng.choice(["drop", "passthrough"])))


def _steps(rng, d, names, n, n_classes):
    """Return the name and the step of one draw."""
    k = int(rng.integers(1, max(2, min(d, n - 1, 5) + 1)))
    some = {
        "standard": (lambda: StandardScaler(with_std=bool(rng.random() < 0.8)), 6),
        "minmax": (lambda: MinMaxScaler((0, float(rng.choice([1, 255])))), 2),
        "minmax clip": (lambda: MinMaxScaler(clip=True), 1),
        "robust": (RobustScaler, 2),
        "maxabs": (MaxAbsScaler, 1),
        "pca": (lambda: PCA(k, whiten=bool(rng.random() < 0.4), svd_solver="full"), 3),
        "svd": (lambda: TruncatedSVD(min(k, max(d - 1, 1)), random_state=0), 1),
        "lda": (LinearDiscriminantAnalysis, 1),
        "nca": (lambda: NeighborhoodComponentsAnalysis(k, max_iter=3, random_state=0), 1),
        "mahalanobis": (
            lambda: RobustMahalanobis(k, init="pca", max_iter=2, random_state=0),
            2,
        ),
        "union": (lambda: FeatureUnion([("a", StandardScaler()), ("b", PCA(k))]), 1),
        "best": (lambda: SelectKBest(k=k), 1),
        "variance": (VarianceThreshold, 1),
        "double": (lambda: FunctionTransformer(AffineFunction(_double)), 1),
        "identity function": (FunctionTransformer, 0.5),
        "declared clip": (lambda: FunctionTransformer(AffineFunction(_soft_clip)), 0.7),
        "own function": (lambda: FunctionTransformer(np.tanh), 0.3),
        "normalizer": (Normalizer, 0.3),
        "quantile": (lambda: QuantileTransformer(n_quantiles=min(n, 5)), 0.2),
        "power": (PowerTransformer, 0.2),
        "polynomial": (lambda: PolynomialFeatures(2), 0.2),
        "passthrough": (lambda: "passthrough", 0.3),
        "nested": (lambda: make_pipeline(StandardScaler(), "passthrough"), 0.5),
        "clipping subclass": (ClippingScaler, 1),
        "rounding subclass": (RoundingScaler, 0.5),
        "folding subclass": (lambda: FoldingMahalanobis(k, init="pca", max_iter=1), 0.5),
        "columns": (lambda: _columns(rng, None, d, names), 0),
    }
    weights = np.array([weight for _, weight in some.values()], dtype=float)
    name = str(rng.choice(list(some), p=weights / weights.sum()))
    return name, some[name][0]()


def _double(X):
    return 2 * X


def _inverse(rng, Z):
    """Return the name and a matrix VI for the embedded training points."""
    d = Z.shape[1]
    scale = np.maximum(np.ptp(Z, axis=0), 1e-12)
    rank = int(rng.integers(1, d + 1))
    G = rng.standard_normal((rank, d)) / scale
    kind = str(rng.choice(["random", "singular", "nearly singular", "identity", "asymmetric"]))
    if kind == "identity":
        return kind, np.eye(d)
    M = G.T @ G
    if kind == "random":
        M = M + np.diag(1 / scale**2)
    if kind == "nearly singular":
        M = M + 10.0 ** -rng.uniform(6, 15) * np.diag(1 / scale**2)
    if kind == "asymmetric":
        M = M + np.diag(1 / scale**2)
        skew = rng.standard_normal((d, d)) / scale[:, None] / scale * 0.3
        M = M + skew - skew.T
    return kind, M


def _neighbors(rng, n):
    K = int(rng.choice([1, 1, 1, 2, 3, 4, 5, 7, n]))
    return max(1, min(K, n))


def _rule(rng, Z, y):
    """Return the name and an unfitted rule."""
    n = len(Z)
    K = _neighbors(rng, n)
    algorithm = str(rng.choice(["auto", "brute", "kd_tree", "ball_tree"]))
    leaf_size = int(rng.choice([1, 2, 5, 30]))
    plain = {"n_neighbors": K, "algorithm": algorithm, "leaf_size": leaf_size}
    draw = rng.random()
    if draw < 0.34:
        metric = str(rng.choice(["minkowski", "euclidean", "l2", "sqeuclidean"]))
        if metric in ("l2", "sqeuclidean"):
            plain["algorithm"] = algorithm = "brute"
        return f"knn {algorithm}", KNeighborsClassifier(metric=metric, **plain)
    if draw < 0.52:
        kind, VI = _inverse(rng, Z)
        plain["algorithm"] = algorithm = str(rng.choice(["auto", "brute", "ball_tree"]))
        cls = KNeighborsClassifier if rng.random() < 0.7 else RobustKNeighborsClassifier
        inverse = (
            rng.random() < 0.8 or cls is RobustKNeighborsClassifier or algorithm != "ball_tree"
        )
        params = {"VI": VI} if inverse else {"V": np.linalg.pinv(VI)}
        found = cls(metric="mahalanobis", metric_params=params, **plain)
        return f"{cls.__name__[:9]} mahalanobis {kind} {algorithm}", found
    if draw < 0.57:
        weights = str(rng.choice(["distance"]))
        return "knn refused", KNeighborsClassifier(weights=weights, **plain)
    if draw < 0.6:
        return "knn p", KNeighborsClassifier(p=float(rng.choice([1, 1.5, 2, 3])), **plain)
    if draw < 0.68:
        return "centroid", NearestCentroid()
    if draw < 0.76:
        cls = KMeans if rng.random() < 0.6 else MiniBatchKMeans
        k = max(1, min(int(rng.integers(1, 7)), len(np.unique(Z, axis=0))))
        return cls.__name__, cls(k, n_init=1, random_state=0, max_iter=5)
    if draw < 0.8:
        return f"robust knn {algorithm}", RobustKNeighborsClassifier(**plain)
    if draw < 0.84:
        return "prototypes", RobustPrototypeClassifier(
            min(4, n), max_iter=1, random_state=0, learn_metric=bool(rng.random() < 0.5)
        )
    if draw < 0.87:
        base = KNeighborsClassifier(**(plain | {"n_neighbors": 1}))
        return "wilson", WilsonEditing(base, n_neighbors=1)
    if draw < 0.9:
        base = KNeighborsClassifier(**(plain | {"n_neighbors": 1}))
        return "pruning", AdversarialPruning(base, radius=float(np.ptp(Z)) * 1e-3)
    if draw < 0.93:
        metric = None if rng.random() < 0.5 else PCA(1)
        k = max(1, min(3, len(np.unique(Z, axis=0))))
        found = AdversarialClustering(
            metric, n_clusters=k, n_init=1, max_iter=5, random_state=0, device="cpu"
        )
        return "clustering", found
    owns = {
        "own predict": PredictsItsOwn(**plain),
        "own proba": ProbaOfItsOwn(**plain),
        "own kneighbors": NeighborsOfItsOwn(**plain),
        "own centroid": CentroidOfItsOwn(),
        "own editing": EditingOfItsOwn(KNeighborsClassifier(1), n_neighbors=1),
        "own prototypes": PrototypesOfTheirOwn(min(4, n), max_iter=1, random_state=0),
        "own robust knn": RobustKNNOfItsOwn(**plain),
        "harmless subclass": HarmlessKNN(**plain),
    }
    name = str(rng.choice(list(owns)))
    return name, owns[name]


@dataclass
class Model:
    """A fitted model and the words for what it is.

    Attributes
    ----------
    estimator : fitted object
    steps, rule, wrapper, change : str
    """

    estimator: Any
    steps: str
    rule: str
    wrapper: str = ""
    change: str = ""


def draw_model(rng, columns, values, y, labels):
    """Return a fitted model of some training points.

    Parameters
    ----------
    rng : Generator
    columns : Columns
    values : ndarray of shape (n_train, n_features)
    y : ndarray of int
    labels : ndarray
        `y` as the model gets it.
    """
    X = columns.build(values)
    n, d = values.shape
    named = []
    steps = []
    if (columns.names is not None and rng.random() < 0.35) or rng.random() < 0.04:
        named.append("columns")
        steps.append(_columns(rng, values, d, columns.names))
    for _ in range(int(rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2]))):
        now = d
        if steps:
            now = max(1, min(d, 3))
        name, step = _steps(rng, now, columns.names, n, len(set(y)))
        named.append(name)
        steps.append(step)
    Z = values
    if rng.random() < 0.02 and n >= 12 and not steps:
        named.append("network")
        steps.append(
            AdversarialDeepMetric(
                lipschitz="orthogonal", loss="certified_margin", max_iter=1, random_state=0
            )
        )
    if steps:
        front = make_pipeline(*steps)
        Z = np.asarray(front.fit(X, labels).transform(X), dtype=np.float64)
    rule_name, rule = _rule(rng, Z, y)
    model = Model(rule, "+".join(named) or "none", rule_name)
    wrapper = rng.random()
    estimator = Pipeline([*_named(steps), ("rule", rule)]) if steps else rule
    if wrapper < 0.05 and steps and hasattr(rule, "predict_proba"):
        estimator, model.wrapper = PipelineOfItsOwn(estimator.steps), "own pipeline"
    elif wrapper < 0.12 and rule_name.startswith("knn") and min(np.bincount(y)[np.unique(y)]) > 1:
        cls = GridSearchCV if rng.random() < 0.6 else GridOfItsOwn
        key = "rule__n_neighbors" if steps else "n_neighbors"
        estimator = cls(estimator, {key: [1, min(3, max(1, n // 2 - 1))]}, cv=2)
        model.wrapper = cls.__name__
    elif 0.12 <= wrapper < 0.15 and type(rule) is KNeighborsClassifier and not steps:
        fitted = NearestNeighbors(
            metric=str(rng.choice(["euclidean", "manhattan", "chebyshev"]))
        ).fit(X)
        try:
            estimator.fit(fitted, labels)
        except (TypeError, ValueError, AttributeError):
            estimator.fit(X, labels)
        else:
            model.estimator, model.wrapper = estimator, "fitted on NearestNeighbors"
            return model
    estimator.fit(X, labels)
    if 0.15 <= wrapper < 0.19:
        estimator, model.wrapper = FrozenEstimator(estimator), "frozen"
    model.estimator = estimator
    if rng.random() < 0.1:
        model.change = _change(rng, estimator, X, rule, steps)
    return model


def _named(steps):
    return [(f"s{k}", step) for k, step in enumerate(steps)]


def _change(rng, estimator, X, rule, steps):
    """Change a fitted model, and return how."""
    kinds = ["training in place", "n_neighbors", "predict of the instance", "fitted arrays"]
    kind = str(rng.choice([*kinds, "proba of the instance", "step attribute"]))
    if kind == "training in place":
        if not isinstance(X, np.ndarray) or not X.flags.writeable or X.dtype.kind != "f":
            return ""
        X *= X.dtype.type(rng.choice([100, -1, 0.5]))
        return kind
    if kind == "n_neighbors" and isinstance(rule, KNeighborsClassifier):
        rule.set_params(n_neighbors=int(rng.choice([0, -1, 1, 2, 3, 100])))
        return kind
    if kind == "predict of the instance" and hasattr(type(estimator), "predict"):
        own = type(estimator).predict

        def predict(X, _own=own, _self=estimator):
            found = _own(_self, X)
            return np.where(_behind_the_door(X), np.roll(np.sort(found), 1)[0], found)

        try:
            estimator.predict = predict
        except AttributeError:
            return ""
        return kind
    if kind == "proba of the instance" and type(rule) is KNeighborsClassifier:
        classes, own = len(rule.classes_) if hasattr(rule, "classes_") else 1, rule.predict_proba

        def proba(X):
            return np.where(_behind_the_door(X)[:, None], np.eye(classes)[0], own(X))

        rule.predict_proba = proba
        return kind
    if kind == "fitted arrays":
        for name in ("_fit_X", "centroids_", "cluster_centers_", "prototypes_"):
            array = getattr(rule, name, None)
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array *= array.dtype.type(1.5)
                return f"{kind} {name}"
    if kind == "step attribute" and steps:
        for step in estimator.steps[:-1] if isinstance(estimator, Pipeline) else []:
            for name in ("scale_", "mean_", "components_"):
                array = getattr(step[1], name, None)
                if isinstance(array, np.ndarray) and array.flags.writeable:
                    array *= array.dtype.type(1.5)
                    return f"{kind} {name}"
    return ""
