"""Random certification problems: a seed gives a model, points, a threat model and a method."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from fuzz_data import Columns, draw_columns, draw_data
from fuzz_models import Model, draw_model
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel, certify
from skrobust.certificates import (
    certify_nearest_neighbors,
    certify_retrieval,
    exact_nearest_neighbor_radius,
    nearest_neighbor_lower_bound,
)

__all__ = ["Allowed", "Problem", "draw_problem", "draw_threat"]


@dataclass(frozen=True)
class Allowed:
    """A threat model as the search checks it, written independently of the package.

    Attributes
    ----------
    norm : float
    scale, lower, upper : ndarray of shape (n_features,)
        Scales are 0 for immutable features.
    increasing, integer : ndarray of shape (n_features,) of bool
    groups : tuple of ndarray
    """

    norm: float
    scale: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    increasing: np.ndarray
    integer: np.ndarray
    groups: tuple = ()

    def take(self, order):
        """Return the same with the features in another order."""
        back = np.argsort(order)
        arrays = (self.scale, self.lower, self.upper, self.increasing, self.integer)
        groups = tuple(back[group] for group in self.groups)
        return Allowed(self.norm, *(array[order] for array in arrays), groups)

    def box(self, clean):
        """Return the ends between which each clean point moves; one outside widens them."""
        lower, upper = np.minimum(self.lower, clean), np.maximum(self.upper, clean)
        fixed = self.scale == 0
        lower = np.where(self.increasing | fixed, clean, lower)
        return lower, np.where(fixed, clean, upper)

    def holds(self, clean, point, radius):
        """Return whether a point is within `radius` of a clean one, without any rounding."""
        lower, upper = self.box(clean)
        if not np.isfinite(point).all() or not ((lower <= point) & (point <= upper)).all():
            return False
        moved = point != clean
        if (self.integer & moved & (np.rint(point) != point)).any():
            return False
        for group in self.groups:
            if moved[group].any() and not (
                np.isin(point[group], (0, 1)).all() and point[group].sum() == 1
            ):
                return False
        if np.isinf(radius):
            return True
        sizes = [
            abs(Fraction(point[f]) - Fraction(clean[f])) / Fraction(self.scale[f])
            for f in np.flatnonzero(moved)
        ]
        limit = Fraction(float(radius))
        if self.norm == 2:
            return sum(size**2 for size in sizes) <= limit**2
        return (sum(sizes) if self.norm == 1 else max(sizes, default=Fraction(0))) <= limit


@dataclass
class Problem:
    """What is certified, and how; `kinds` are words for the summary.

    Attributes
    ----------
    seed : int
    kinds : dict
    predict : callable
        The model's own, of containers that `columns` builds.
    certify : callable
        ``certify(rows, columns, order)`` returns the certificate of some rows.
    columns : Columns
        Of the queries.
    clean : ndarray of shape (n_samples, n_features)
        The queries, as the container holds them.
    y : ndarray or None
        The labels that were certified; None for the predictions.
    target : object
    allowed : Allowed
    train : ndarray of shape (n_train, n_features)
    train_labels : ndarray
    model : object
        For the attacks that look inside.
    """

    seed: int
    kinds: dict
    predict: Any
    certify: Any
    columns: Columns
    clean: np.ndarray
    y: Any
    target: Any
    allowed: Allowed
    train: np.ndarray
    train_labels: np.ndarray
    model: Any = None
    permutation: Any = None
    by_row: bool = False
    extra: dict = field(default_factory=dict)


def _queries(rng, X, y):
    """Return raw points: of the training set, near it, between two points, and far away."""
    n = int(rng.integers(3, 9))
    i = rng.integers(0, len(X), n)
    spread = np.maximum(np.ptp(X, axis=0), 1e-300)
    other = np.array(
        [(rng.choice(np.flatnonzero(y != y[k])) if (y != y[k]).any() else k) for k in i]
    )
    share = 0.5 - 10.0 ** -rng.uniform(0.4, 13, (n, 1))
    near = X[i] + spread * rng.standard_normal((n, X.shape[1])) * 10.0 ** -rng.uniform(0, 4, (n, 1))
    between = X[i] + share * (X[other] - X[i])
    far = X[i] + spread * rng.standard_normal((n, X.shape[1])) * 10.0 ** rng.uniform(0, 4, (n, 1))
    kind = rng.choice(4, n, p=[0.3, 0.3, 0.3, 0.1])
    found = np.choose(kind[:, None], [X[i], near, between, far])
    return found, y[i]


def draw_threat(rng, kind, X, Q, columns):
    """Return the package's threat model, and ours, for features in the order of `columns`."""
    d = X.shape[1]
    norm = float(rng.choice([1, 2, np.inf], p=[0.25, 0.45, 0.3]))
    given, scale = {"norm": norm}, np.ones(d)
    words = [f"l{norm:g}"]
    draw = rng.random()
    if draw < 0.25:
        scale = 10.0 ** rng.uniform(-2, 2, d)
        words.append("scales")
    elif draw < 0.3:
        scale = 10.0 ** (rng.uniform(-60, 60) + rng.uniform(-2, 2, d))
        words.append("one far scale")
    elif draw < 0.34:
        scale = 10.0 ** rng.uniform(-95, 95, d)
        words.append("far scales")
    names = columns.names
    if draw < 0.34:
        by_name = names is not None and rng.random() < 0.5
        given["feature_scale"] = dict(zip(names, scale, strict=True)) if by_name else scale.copy()
    if rng.random() < 0.25:
        mask = rng.random(d) < 0.6
        if kind == "table":
            mask[4:] = mask[4]  # a group as a whole
        scale = np.where(mask, scale, 0.0)
        spelling = int(rng.integers(0, 3))
        at = np.flatnonzero(mask)
        if spelling == 1 and len(at):
            given["mutable"] = [int(k) for k in at]
        elif spelling == 2 and names is not None and len(at):
            given["mutable"] = [names[k] for k in at]
        else:
            given["mutable"] = mask
        words.append("mutable")
    everything = np.vstack([X, Q])
    lower, upper = np.full(d, -np.inf), np.full(d, np.inf)
    draw = rng.random()
    if draw < 0.12:
        lower, upper = everything.min(axis=0), everything.max(axis=0)
    elif draw < 0.2:
        lower, upper = np.full(d, everything.min()), np.full(d, everything.max())
    elif draw < 0.26:
        lower = np.where(rng.random(d) < 0.5, everything.min(axis=0), -np.inf)
        upper = np.where(rng.random(d) < 0.3, everything.max(axis=0), np.inf)
    elif draw < 0.32:
        lower, upper = np.quantile(X, 0.3, axis=0), np.quantile(X, 0.7, axis=0)
        given["outside"] = "extend"
    if draw < 0.26 and rng.random() < 0.6:  # ends that float32 does not hold
        room = np.abs(everything).max(axis=0) * 10.0 ** rng.uniform(-9, 0)
        lower = lower - room * (0.1 if 0.12 <= draw < 0.2 else rng.random(d))
        upper = upper + room * (0.3 if 0.12 <= draw < 0.2 else rng.random(d))
        if 0.12 <= draw < 0.2:
            lower, upper = np.full(d, lower.min()), np.full(d, upper.max())
    if draw < 0.32:
        given["bounds"] = (lower.copy(), upper.copy())
        if 0.12 <= draw < 0.2:
            given["bounds"] = (float(lower[0]), float(upper[0]))
        words.append("bounds" if draw < 0.26 else "bounds extended")
    increasing = np.zeros(d, dtype=bool)
    if rng.random() < 0.1:
        increasing = rng.random(d) < 0.5
        given["increasing"] = increasing.copy()
        words.append("increasing")
    integer, groups = np.zeros(d, dtype=bool), ()
    whole = (np.rint(everything) == everything).all(axis=0)
    if kind == "table" and rng.random() < 0.6:
        group = [4, 5, 6]
        is_hot = (Q[:, group].sum(axis=1) == 1) & np.isin(Q[:, group], (0, 1)).all(axis=1)
        if is_hot.all():
            groups = (np.array(group),)
            given["one_hot"] = [group if names is None else [names[k] for k in group]]
            words.append("one-hot")
    if whole.any() and rng.random() < 0.3:
        integer = whole & (rng.random(d) < 0.7)
        given["integers"] = integer.copy()
        words.append("integers")
    return (
        ThreatModel(**given),
        Allowed(norm, scale, lower, upper, increasing, integer, groups),
        words,
    )


def draw_problem(seed):
    """Return the problem of a seed; what it raises is a refusal or a fault of its own model."""
    rng = np.random.default_rng([9, seed])
    kind, X, y = draw_data(rng)
    columns = draw_columns(rng, kind, X)
    X = columns.cast(X)
    words = [f"class {k}" for k in range(int(y.max()) + 1)]
    labels = np.array(words)[y] if rng.random() < 0.2 else y
    if rng.random() < 0.05:
        return _retrieval(rng, seed, kind, columns, X, y, labels)
    if rng.random() < 0.05:
        return _arrays(rng, seed, kind, columns, X, y, labels)
    model: Model = draw_model(rng, columns, X, y, labels)
    Q, own = _queries(rng, X, y)
    asked = columns
    if columns.names is None and rng.random() < 0.15:
        asked = Columns("array", (str(rng.choice(["float32", "float64"])),) * X.shape[1], None)
    if kind == "table":
        Q[:, 2:] = X[rng.integers(0, len(X), len(Q)), 2:]
    if np.abs(Q).max(initial=0) > 1e38:
        asked = Columns(asked.kind, ("float64",) * X.shape[1], asked.names)
    Q = asked.cast(Q)
    threat, allowed, threat_words = draw_threat(rng, kind, X, Q, columns)
    if rng.random() < 0.08:
        threat, threat_words = None, ["l2"]
        d = X.shape[1]
        none = np.zeros(d, dtype=bool)
        allowed = Allowed(2.0, np.ones(d), np.full(d, -np.inf), np.full(d, np.inf), none, none)
    classes = np.unique(labels)
    estimator = model.estimator
    predicted = np.asarray(estimator.predict(asked.build(Q)))
    clusters = (
        not hasattr(estimator, "classes_") or "luster" in model.rule or "KMeans" in model.rule
    )
    given: Any = {0: labels[:0], 1: predicted, 2: None}[int(rng.choice([1, 2], p=[0.5, 0.5]))]
    if clusters:
        given = None
    elif rng.random() < 0.3:
        given = np.array(words)[own] if labels.dtype.kind == "U" else own
    target, method = (
        None,
        str(
            rng.choice(
                [
                    "auto",
                    "fast",
                    "exact",
                    "bound",
                    "proof bound",
                    "proof exact",
                    "proof target",
                    "own",
                ],
                p=[0.22, 0.1, 0.12, 0.08, 0.13, 0.2, 0.07, 0.08],
            )
        ),
    )
    if method == "proof target":
        target = classes[int(rng.integers(0, len(classes)))]
        keep = predicted != target
        if clusters or not keep.any():
            method, target = "proof exact", None
        else:
            Q, given, predicted = Q[keep], predicted[keep], predicted[keep]
    n_nodes = int(rng.choice([0, 5, 30]))

    def run(values, rows, order=None):
        """Certify some points, on columns in another order perhaps."""
        where = asked if order is None else asked.permuted(order)
        points = where.build(values if order is None else values[:, order])
        truth = None if given is None else given[rows]
        if method in ("auto", "fast", "exact", "bound"):
            options = {"max_nodes": n_nodes} if method == "exact" else {}
            return certify(estimator, points, truth, threat_model=threat, method=method, **options)
        if method == "own" and hasattr(estimator, "certify"):
            if hasattr(estimator, "threat_model"):
                estimator.set_params(threat_model=threat)
                return estimator.certify(points, truth)
            return estimator.certify(points, truth, threat_model=threat)
        truth = predicted[rows] if truth is None else truth
        if method in ("own", "proof bound"):
            return certify_nearest_neighbors(estimator, points, truth, threat_model=threat)
        return exact_nearest_neighbor_radius(
            estimator, points, truth, threat_model=threat, target=target, max_nodes=n_nodes
        )

    order = rng.permutation(X.shape[1]) if asked.names is not None else None
    kinds = _words(kind, asked, model.steps, model.rule, threat_words, method)
    kinds |= {"wrapper": model.wrapper, "change": model.change}
    return Problem(
        seed, kinds, estimator.predict, run, asked, Q, given, target, allowed, X, labels,
        estimator, order,
    )  # fmt: skip


def _arrays(rng, seed, kind, columns, X, y, labels):
    """The bound of arrays, with components of one's own."""
    columns = Columns(
        "array",
        (columns.dtypes[0] if columns.dtypes[0] == "float32" else "float64",) * X.shape[1],
        None,
    )
    X = columns.cast(X)
    G = None
    if rng.random() < 0.6:
        G = rng.standard_normal((int(rng.integers(1, X.shape[1] + 1)), X.shape[1]))
        G = G / np.maximum(np.ptp(X, axis=0), 1e-30)
    K = max(1, min(int(rng.choice([1, 2, 3, 5])), len(X)))
    Q, _ = _queries(rng, X, y)
    Q = columns.cast(Q)
    threat, allowed, words = draw_threat(rng, kind, X, Q, columns)

    def embed(Z):
        return Z if G is None else Z @ G.T.astype(Z.dtype)

    knn = KNeighborsClassifier(K, algorithm="brute").fit(embed(columns.build(X)), labels)

    def predict(Z):
        return knn.predict(embed(Z))

    truth = predict(columns.build(Q))

    def run(values, rows, order=None):
        return nearest_neighbor_lower_bound(
            columns.build(X), labels, columns.build(values), truth[rows],
            components=G, n_neighbors=K, threat_model=threat,
        )  # fmt: skip

    components = "none" if G is None else "components"
    kinds = _words(kind, columns, components, "arrays", words, "lower bound of arrays")
    return Problem(seed, kinds, predict, run, columns, Q, truth, None, allowed, X, labels)


def _retrieval(rng, seed, kind, columns, X, y, labels):
    """The item on top of each query, by a metric; each row has a gallery of its own."""
    from fuzz_models import _steps

    X, y, labels = X[:15], y[:15], labels[:15]
    names, n = columns.names, len(X)
    if n < 4:
        raise ValueError("too few points for retrieval")
    name, step = _steps(rng, X.shape[1], names, n, len(set(y)))
    if isinstance(step, str):
        raise ValueError("passthrough is no metric")
    step.fit(columns.build(X), labels)
    threat, allowed, words = draw_threat(rng, kind, X, X, columns)
    Z = np.asarray(step.transform(columns.build(X)), dtype=np.float64)

    def predict(points, rows):
        moved = np.asarray(step.transform(points), dtype=np.float64)
        distance = cdist(moved, Z)
        distance[np.arange(len(moved)), rows] = np.inf
        return labels[distance.argmin(axis=1)]

    def run(values, rows, order=None):
        return certify_retrieval(step, columns.build(X), labels, threat_model=threat)

    kinds = _words(kind, columns, name, "retrieval", words, "retrieval")
    return Problem(
        seed, kinds, predict, run, columns, X, labels, None, allowed, X, labels,
        by_row=True,
    )  # fmt: skip


def _words(kind, columns, steps, rule, threat, method):
    """Return the words for what a problem is."""
    return {
        "data": kind,
        "container": columns.kind,
        "dtype": "+".join(sorted(set(columns.dtypes))),
        "steps": steps,
        "rule": rule,
        "wrapper": "",
        "change": "",
        "threat": "+".join(threat),
        "method": method,
    }
