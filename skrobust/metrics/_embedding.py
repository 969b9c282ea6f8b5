r"""What an embedding looks like: how tight its classes are, how many directions it uses.

    density = mean cosine distance of the pairs within a class / of the classes' mean directions,
    spectral decay = KL( U ‖ s / Σ s ),    s the singular values of the embedding, U uniform

(Roth, Milbich, Sinha, Gupta, Ommer and Cohen, *Revisiting training strategies and generalization
performance in deep metric learning*, ICML 2020, section 5). A collapsed embedding has a decay that
grows without bound.
"""

from typing import Any

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from skrobust.utils._weights import check_weight, weight_or_ones

__all__ = ["embedding_density", "spectral_decay"]


def embedding_density(embedding: Any, y: Any, *, sample_weight: Any = None) -> float:
    """Mean cosine distance within classes over that between the classes' mean directions.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
    y : array-like of shape (n_samples,)
        Labels; two classes or more, one of them with two points or more.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0, in the mean direction of its class and, times the weight
        of the other point, in the mean of the pairs; None counts all alike.

    Returns
    -------
    float
        Averaged over the pairs of points of a class, over the classes that have some, and over
        the pairs of classes; inf where all mean directions coincide.

    Examples
    --------
    >>> from skrobust.metrics import embedding_density
    >>> round(embedding_density([[1, 0], [0, 1], [-1, 0], [0, -1]], [0, 0, 1, 1]), 6)
    0.5
    """
    Z = check_array(embedding, dtype=np.float64, input_name="embedding")
    y = column_or_1d(y)
    check_consistent_length(Z, y)
    weight = weight_or_ones(sample_weight, len(Z))
    weight = weight / weight.max()
    Z, y, weight = Z[weight > 0], y[weight > 0], weight[weight > 0]
    classes, inverse = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must hold two classes or more; got {classes.tolist()}.")
    Z = normalize(Z)
    sums = np.zeros((len(classes), Z.shape[1]))
    np.add.at(sums, inverse, Z * weight[:, None])
    total = np.bincount(inverse, weights=weight)
    squares = np.bincount(inverse, weights=weight**2)
    some = np.bincount(inverse) > 1
    # the mean cosine of the pairs of a class, from the norm of its sum
    cosine = ((sums**2).sum(1) - squares)[some] / (total**2 - squares)[some]
    within = float((1 - cosine).mean()) if some.any() else 0.0
    directions = normalize(sums)
    distances = 1 - directions @ directions.T
    between = float(distances[np.triu_indices(len(classes), 1)].mean())
    return within / between if between > 0 else float("inf")


def spectral_decay(embedding: Any, *, sample_weight: Any = None) -> float:
    """Divergence of the uniform spectrum from that of the embedding.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0, as so many copies of it would; None counts all alike.

    Returns
    -------
    float
        0 where all directions carry the same; inf where one carries nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.metrics import spectral_decay
    >>> abs(round(spectral_decay(np.eye(3)), 6))
    0.0
    """
    Z = check_array(embedding, dtype=np.float64, input_name="embedding")
    weight = check_weight(sample_weight, len(Z))
    if weight is not None:
        Z = Z * np.sqrt(weight / weight.max())[:, None]
    values = np.linalg.svd(Z, compute_uv=False)
    share = values / max(values.sum(), np.finfo(float).tiny)
    if (share <= len(Z) * np.finfo(float).eps).any():
        return float("inf")
    return float(-np.log(share * len(share)).mean())
