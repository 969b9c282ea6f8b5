r"""k-means by faiss or scikit-learn, and what comes after it.

    min_{μ}  Σ_i  min_c ‖z_i − μ_c‖² ,

from k-means++ starts, the best of several. faiss is the faster one on many points. It gets all of
them, because a sample (its default) ends higher, starts that scikit-learn chooses (among a sample
of many points), and no more iterations than gain something.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min
from sklearn.utils import gen_batches

__all__ = [
    "Centers",
    "inertia",
    "kmeans",
    "nearest_center",
    "refine",
    "trimmed_kmeans",
]

_FAISS_FROM = 20_000_000  # n · k · d beyond which faiss is worth its import
_START_FROM = 128  # points a cluster that starts are chosen among, for faiss; but if there are
_START_ALL = 10_000  # no more than this many, all
_ROWS = 8192  # that are looked at together
_IDLE = 10  # batches without progress after which mini-batch k-means stops
_BLOCK = 10  # iterations of faiss between two looks at what they gained


@dataclass(frozen=True, eq=False)
class Centers:
    """Centers of clusters; a point belongs to the nearest one.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_components)
    n_iter : int
    """

    centers: np.ndarray
    n_iter: int


def kmeans(
    Z: np.ndarray,
    n_clusters: int,
    *,
    backend: str,
    n_init: int,
    max_iter: int,
    tol: float,
    batch_size: int | None,
    gpu: bool,
    random_state: np.random.RandomState,
) -> Centers:
    """Return the best of several runs of k-means.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
    n_clusters : int
    backend : {"auto", "faiss", "sklearn"}
        "auto" is faiss for large problems.
    n_init : int
        Runs.
    max_iter : int
    tol : float
        That of scikit-learn; with faiss, what an iteration has to gain, a share of the inertia.
    batch_size : int or None
        Points of a step of mini-batch k-means; None goes over all of them.
    gpu : bool
        Whether faiss computes there.
    random_state : RandomState
    """
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    if batch_size is not None and Z.dtype.kind in "iu":
        return _integers_in_batches(Z, n_clusters, n_init, max_iter, batch_size, seed)
    if batch_size is not None:
        model = MiniBatchKMeans(
            n_clusters,
            n_init=n_init,
            max_iter=max_iter,
            batch_size=batch_size,
            random_state=seed,
        ).fit(Z)
    elif backend == "sklearn" or (backend == "auto" and Z.size * n_clusters < _FAISS_FROM):
        model = KMeans(
            n_clusters, n_init=n_init, max_iter=max_iter, tol=tol, random_state=seed
        ).fit(Z)
    else:
        return _faiss(Z, n_clusters, n_init, max_iter, tol, gpu, seed)
    return Centers(model.cluster_centers_, int(model.n_iter_))


def _integers_in_batches(
    Z: np.ndarray, n_clusters: int, n_init: int, max_iter: int, batch_size: int, seed: int
) -> Centers:
    """Mini-batch k-means of integers: one batch at a time becomes float64."""
    rng, n = np.random.RandomState(seed), len(Z)
    # starts are chosen, and judged, among as many points as scikit-learn takes
    some = Z[rng.permutation(n)[: min(n, 3 * max(batch_size, n_clusters))]].astype(np.float64)
    starts = [
        kmeans_plusplus(some, n_clusters, random_state=rng.randint(2**31 - 1))[0]
        for _ in range(n_init)
    ]
    start = min(starts, key=lambda centers: inertia(some, centers, nearest_center(some, centers)))
    model = MiniBatchKMeans(n_clusters, init=start, n_init=1, random_state=rng.randint(2**31 - 1))
    smoothed, best, idle = np.inf, np.inf, 0
    for epoch in range(max_iter):
        order = rng.permutation(n)
        for rows in gen_batches(n, batch_size):
            batch = Z[order[rows]].astype(np.float64)
            value = model.partial_fit(batch).inertia_ / len(batch)
            share = min(1.0, 2 * batch_size / (n + 1))  # scikit-learn's rule to stop, too
            smoothed = value if smoothed == np.inf else (1 - share) * smoothed + share * value
            best, idle = (smoothed, 0) if smoothed < best else (best, idle + 1)
            if idle >= _IDLE:
                return Centers(model.cluster_centers_, epoch + 1)
    return Centers(model.cluster_centers_, max_iter)


def _faiss(
    Z: np.ndarray, n_clusters: int, n_init: int, max_iter: int, tol: float, gpu: bool, seed: int
) -> Centers:
    import faiss

    points = np.ascontiguousarray(Z, dtype=np.float32)
    rng = np.random.RandomState(seed)

    def run(start: np.ndarray, niter: int) -> tuple[float, np.ndarray]:
        model = faiss.Kmeans(
            points.shape[1],
            n_clusters,
            niter=niter,
            seed=int(rng.randint(2**31 - 1)),
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
            gpu=gpu,
        )
        value = model.train(points, init_centroids=start)
        return float(value), np.array(model.centroids)

    n_some = min(len(points), max(_START_FROM * n_clusters, _START_ALL))
    runs = []
    for _ in range(n_init):
        some = points[rng.permutation(len(points))[:n_some]]
        centers, _ = kmeans_plusplus(some, n_clusters, random_state=rng.randint(2**31 - 1))
        value, done = np.inf, 0
        while done < max_iter:
            n_more = min(_BLOCK, max_iter - done)
            before, (value, centers) = value, run(centers, n_more)
            done += n_more
            if before - value <= n_more * tol * value:
                break
        runs.append((value, centers, done))
    _, centers, done = min(runs, key=lambda run: run[0])
    return Centers(centers.astype(Z.dtype), done)


def nearest_center(Z: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the position of the nearest center of each row, int32."""
    if Z.dtype.kind in "iu":  # they become floats some at a time
        parts = [
            nearest_center(Z[some].astype(np.float64), centers)
            for some in gen_batches(len(Z), _ROWS)
        ]
        return np.concatenate(parts)
    return pairwise_distances_argmin(Z, centers).astype(np.int32)


def inertia(Z: np.ndarray, centers: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of squared distances of rows to their centers, some rows at a time."""
    return float(
        sum(
            np.square(Z[some] - centers[labels[some]], dtype=np.float64).sum()
            for some in gen_batches(len(Z), _ROWS)
        )
    )


def refine(Z: np.ndarray, start: Centers, kind: str, max_iter: int) -> Centers:
    """Go on from centers with other centers than means.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
        Rows of norm 1 for "direction".
    start : Centers
    kind : {"median", "direction"}
        The median of each coordinate, or the mean divided by its norm (spherical k-means).
    max_iter : int
    """
    centers, labels, done = start.centers.copy(), nearest_center(Z, start.centers), 0
    while done < max_iter:
        done += 1
        for c in range(len(centers)):
            members = Z[labels == c]
            if len(members):
                centers[c] = _center(members, kind)
        moved = nearest_center(Z, centers)
        if (moved == labels).all():
            break
        labels = moved
    return Centers(centers, start.n_iter + done)


def trimmed_kmeans(
    Z: np.ndarray,
    n_clusters: int,
    trim: float,
    *,
    n_init: int,
    max_iter: int,
    random_state: np.random.RandomState,
) -> Centers:
    """k-means without the share of the points that is farthest from all centers.

        min_{μ}  Σ over the (1 − trim) n smallest of  min_c ‖z_i − μ_c‖²

    by steps that keep, assign and average, from random points: k-means++ would start at outliers
    (Cuesta-Albertos, Gordaliza and Matrán, *Trimmed k-means*, Annals of Statistics 1997).

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
    n_clusters : int
    trim : float
        In [0, 1).
    n_init : int
        Starts.
    max_iter : int
    random_state : RandomState
    """
    n_kept = max(len(Z) - int(trim * len(Z)), n_clusters)
    runs = [
        _trimmed_run(Z, random_state.permutation(len(Z))[:n_clusters], n_kept, max_iter)
        for _ in range(n_init)
    ]
    return min(runs, key=lambda run: run[0])[1]


def _trimmed_run(
    Z: np.ndarray, start: np.ndarray, n_kept: int, max_iter: int
) -> tuple[float, Centers]:
    """Return what is minimised, and the centers, from the rows `start`."""
    centers, value, done = Z[start].copy(), np.inf, 0
    while done < max_iter:
        done += 1
        labels, distances = pairwise_distances_argmin_min(Z, centers)
        kept = np.argsort(distances, kind="stable")[:n_kept]
        before, value = value, float(np.square(distances[kept]).sum())
        if value >= before * (1 - 1e-12):
            break
        for c in np.unique(labels[kept]):
            centers[c] = Z[kept[labels[kept] == c]].mean(axis=0)
    return value, Centers(centers, done)


def _center(members: np.ndarray, kind: str) -> np.ndarray:
    if kind == "median":
        return np.median(members, axis=0)
    mean = members.mean(axis=0)
    if kind == "direction":
        size = np.linalg.norm(mean)
        return mean / size if size > 0 else mean
    return mean
