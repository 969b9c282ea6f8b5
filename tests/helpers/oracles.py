"""Slow, obvious references."""

from itertools import combinations

import numpy as np

from skrobust.numerics import least_norm


def oracle_lower_bound(X_train, y_train, X, y, components=None, n_neighbors=1, scale=1.0, dual=2):
    """The k-NN lower bound by nested loops over test points, negatives and positives.

    The innermost loop, over features, is a vector expression.
    """
    n_features = X_train.shape[1]
    G = np.eye(n_features) if components is None else np.asarray(components, dtype=float)
    M = G.T @ G
    a, b = -(-n_neighbors // 2), n_neighbors // 2 + 1
    radii = []
    for x, label in zip(X, y, strict=True):
        positives, negatives = X_train[y_train == label], X_train[y_train != label]
        if len(positives) < b:
            radii.append(0.0)
            continue
        if len(negatives) < a:
            radii.append(np.inf)
            continue
        values = []
        for x_j in negatives:
            bounds = []
            for x_i in positives:
                gap = (x - x_j) @ M @ (x - x_j) - (x - x_i) @ M @ (x - x_i)
                norm = np.linalg.norm(scale * (M @ (x_i - x_j)), ord=dual)
                bounds.append(0.0 if gap <= 0 else np.inf if norm == 0 else gap / (2 * norm))
            values.append(sorted(bounds, reverse=True)[b - 1])
        radii.append(sorted(values)[a - 1])
    return np.array(radii)


def problems(rng, kind, n_train=40, n_test=12, n_features=4, n_classes=3):
    """Random and degenerate classification problems."""
    X = rng.standard_normal((n_train + n_test, n_features))
    y = rng.integers(0, n_classes, n_train + n_test)
    y[:n_classes] = np.arange(n_classes)
    if kind == "duplicates":
        X[n_train // 2 : n_train] = X[: n_train - n_train // 2]
        X[n_train:] = X[:n_test]
    elif kind == "ties":
        X = np.round(X)
    elif kind == "constant":
        X[:, 0] = 3.0
    elif kind == "single point":
        y[:] = rng.integers(1, n_classes, len(y))
        y[0] = 0
        y[n_train] = 0
    elif kind == "two classes":
        y = y % 2
    elif kind != "random":
        raise ValueError(kind)
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


KINDS = ("random", "duplicates", "ties", "constant", "single point", "two classes")


def oracle_exact_knn(X_train, y_train, x, label, n_neighbors, G, budget, target=None):
    """The exact K-NN radius by trying every set of K neighbours, each cell one program."""
    M, movable = G.T @ G, budget.scale > 0
    scale = budget.scale[movable]
    V = (X_train @ M)[:, movable] * scale
    D = np.einsum("ij,jk,ik->i", X_train - x, M, X_train - x)
    lower = (budget.lower - x)[movable] / scale
    upper = (budget.upper - x)[movable] / scale
    best = np.inf
    for chosen in combinations(range(len(X_train)), n_neighbors):
        inside = list(chosen)
        winner = np.bincount(y_train[inside]).argmax()
        if winner == label if target is None else winner != target:
            continue
        outside = [i for i in range(len(X_train)) if i not in chosen]
        C = np.concatenate([2 * (V[outside] - V[i]) for i in inside])
        h = np.concatenate([D[outside] - D[i] for i in inside])
        point = least_norm(C, h, budget.norm, lower, upper).point
        if point is not None:
            best = min(best, np.linalg.norm(point, ord=budget.norm))
    return best
