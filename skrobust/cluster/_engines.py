r"""k-means by faiss or scikit-learn, and what comes after it.

    min_{μ}  Σ_i  min_c ‖z_i − μ_c‖² ,

from k-means++ starts, the best of several. faiss is the faster one on many points; it gets all of
them and scikit-learn's starts, because its own (random points, a sample of 256 a centroid) end
higher.
"""

import importlib.util
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

__all__ = ["Partition", "kmeans", "nearest_center", "refine", "resolve_backend", "trimmed_kmeans"]

_FAISS_FROM = 20_000_000  # n · k · d beyond which faiss is worth its import


@dataclass(frozen=True, eq=False)
class Partition:
    """Clusters with centers.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_components)
    labels : ndarray of shape (n_samples,), int32
    n_iter : int
    """

    centers: np.ndarray
    labels: np.ndarray
    n_iter: int


def resolve_backend(backend: str, work: int) -> str:
    """Return "faiss" or "sklearn".

    Parameters
    ----------
    backend : {"auto", "faiss", "sklearn"}
        "auto" is faiss for large problems, where it is installed.
    work : int
        Points times clusters times components.

    Raises
    ------
    ImportError
        If faiss is asked for and not installed.
    """
    there = importlib.util.find_spec("faiss") is not None
    if backend == "faiss" and not there:
        raise ImportError("backend='faiss' needs the package faiss-cpu: pip install faiss-cpu.")
    if backend == "auto":
        return "faiss" if there and work >= _FAISS_FROM else "sklearn"
    return backend


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
) -> Partition:
    """Return the best of several runs of k-means.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
    n_clusters : int
    backend : {"faiss", "sklearn"}
    n_init : int
        Runs.
    max_iter : int
    tol : float
        Of scikit-learn.
    batch_size : int or None
        Points of a step of mini-batch k-means; None goes over all of them.
    gpu : bool
        Of faiss.
    random_state : RandomState
    """
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    if batch_size is not None:
        found = MiniBatchKMeans(
            n_clusters,
            n_init=n_init,
            max_iter=max_iter,
            batch_size=batch_size,
            random_state=seed,
        ).fit(Z)
    elif backend == "sklearn":
        found = KMeans(
            n_clusters, n_init=n_init, max_iter=max_iter, tol=tol, random_state=seed
        ).fit(Z)
    else:
        return _faiss(Z, n_clusters, n_init, max_iter, gpu, seed)
    return Partition(found.cluster_centers_, found.labels_, int(found.n_iter_))


def _faiss(
    Z: np.ndarray, n_clusters: int, n_init: int, max_iter: int, gpu: bool, seed: int
) -> Partition:
    import faiss

    points = np.ascontiguousarray(Z, dtype=np.float32)
    rng = np.random.RandomState(seed)
    best, centers = np.inf, points[:n_clusters]
    for _ in range(n_init):
        start, _ = kmeans_plusplus(points, n_clusters, random_state=rng.randint(2**31 - 1))
        run = faiss.Kmeans(
            points.shape[1],
            n_clusters,
            niter=max_iter,
            seed=int(rng.randint(2**31 - 1)),
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
            gpu=gpu,
        )
        value = run.train(points, init_centroids=start)
        if value < best:
            best, centers = value, np.array(run.centroids)
    centers = centers.astype(Z.dtype)
    return Partition(centers, nearest_center(Z, centers), max_iter)


def nearest_center(Z: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the position of the nearest center of each row, int32."""
    return pairwise_distances_argmin(Z, centers).astype(np.int32)


def refine(Z: np.ndarray, start: Partition, kind: str, max_iter: int) -> Partition:
    """Go on from a partition with other centers than means.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
        Of norm 1 for "direction".
    start : Partition
    kind : {"median", "direction"}
        The median of each coordinate, or the mean divided by its norm (spherical k-means).
    max_iter : int
    """
    centers, labels = start.centers.copy(), start.labels
    done = 0
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
    return Partition(centers, labels, start.n_iter + done)


def trimmed_kmeans(
    Z: np.ndarray,
    n_clusters: int,
    trim: float,
    *,
    n_init: int,
    max_iter: int,
    random_state: np.random.RandomState,
) -> Partition:
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
    best, best_value = None, np.inf
    for _ in range(n_init):
        centers = Z[random_state.permutation(len(Z))[:n_clusters]].copy()
        value, done = np.inf, 0
        while done < max_iter:
            done += 1
            labels, apart = pairwise_distances_argmin_min(Z, centers)
            kept = np.argsort(apart, kind="stable")[:n_kept]
            before, value = value, float(np.square(apart[kept]).sum())
            if value >= before * (1 - 1e-12):
                break
            for c in np.unique(labels[kept]):
                centers[c] = Z[kept[labels[kept] == c]].mean(axis=0)
        if value < best_value:
            best, best_value = Partition(centers, nearest_center(Z, centers), done), value
    if best is None:  # all distances are 0 or not finite
        return Partition(centers, nearest_center(Z, centers), done)
    return best


def _center(members: np.ndarray, kind: str) -> np.ndarray:
    if kind == "median":
        return np.median(members, axis=0)
    mean = members.mean(axis=0)
    if kind == "direction":
        size = np.linalg.norm(mean)
        return mean / size if size > 0 else mean
    return mean
