"""How far the k-NN lower bound is from the truth: both sides for K = 3 and K = 11.

    python -m studies knn_gap [points [data sets and K ...]]     (such as 150 usps 11)

Features min–max scaled on the training part, Euclidean metric, ℓ₂, all training points, the first
test points. Prints a row for each data set and K; times are of one thread.
"""

import time

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MinMaxScaler

from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.datasets import fetch_table

MAX_NODES = 1000


def compare(n_points, names, neighbors):
    """Print the table."""
    print("| data | K | bound | proved | attack | bound/attack | gap | exact | s a point |")
    for name in names:
        data = fetch_table(name)
        X, y, train = data.data.astype(float), data.target, data.is_train
        scaler = MinMaxScaler().fit(X[train])
        X_train, X_test = scaler.transform(X[train]), scaler.transform(X[~train])[:n_points]
        for K in neighbors:
            model = KNeighborsClassifier(K).fit(X_train, y[train])
            labels = y[~train][:n_points]
            bound = certify_nearest_neighbors(model, X_test, labels)
            started = time.perf_counter()
            found = exact_nearest_neighbor_radius(model, X_test, labels, max_nodes=MAX_NODES)
            seconds = time.perf_counter() - started
            right = found.correct
            low, up = found.radius[right], found.upper[right]
            print(
                f"| {name} | {K} | {bound.radius[right].mean():.4f} | {low.mean():.4f} "
                f"| {up.mean():.4f} | {(bound.radius[right] / up).mean():.3f} "
                f"| {np.median(up / low - 1):.2%} | {(found.status[right] == 'exact').mean():.1%} "
                f"| {seconds / right.sum():.2f} |",
                flush=True,
            )


def main(n_points=150, *given):
    """Compare the data sets and numbers of neighbours that are given."""
    compare(
        int(n_points),
        [word for word in given if not word.isdigit()] or ["pendigits", "usps"],
        [int(word) for word in given if word.isdigit()] or [3, 11],
    )
