"""Starting points of a linear metric."""

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils import check_array

__all__ = ["initial_components"]


def initial_components(
    init: Any,
    n_components: int | None,
    X: np.ndarray,
    y: np.ndarray,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """Return G of shape (n_components, n_features) to start from.

    Parameters
    ----------
    init : {"identity", "pca", "lda"} or array-like of shape (n_components, n_features)
        The kind of start.
    n_components : int or None
        Rows of G; None takes as many as `init` gives.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    random_state : RandomState

    Raises
    ------
    ValueError
        If `n_components` is more than `init` can give, or an array has the wrong shape.
    """
    n_samples, n_features = X.shape
    if not isinstance(init, str):
        components = check_array(init, dtype=X.dtype, copy=True, input_name="init")
        wanted = (components.shape[0] if n_components is None else n_components, n_features)
        if components.shape != wanted:
            raise ValueError(
                f"init must have shape (n_components, n_features) = {wanted}; got "
                f"{components.shape}."
            )
        if not components.any():
            raise ValueError("init must not be all zeros: its gradient is zero.")
        return components

    limit = {
        "identity": n_features,
        "pca": min(n_samples, n_features),
        "lda": min(n_features, len(np.unique(y)) - 1),
    }[init]
    if n_components is None:
        n_components = limit
    elif n_components > limit:
        raise ValueError(
            f"n_components={n_components} is out of range: init={init!r} gives at most {limit} "
            f"components for {n_samples} samples of {n_features} features."
        )
    if init == "identity":
        return np.eye(n_components, n_features, dtype=X.dtype)
    if (X[0] == X).all():
        raise ValueError(
            f"init={init!r} needs features that vary; all {n_samples} rows of X are the same. Use "
            "init='identity'."
        )
    if init == "pca":
        pca = PCA(n_components=n_components, random_state=random_state).fit(X)
        return pca.components_.astype(X.dtype)
    lda = _lda(X, y)
    if lda.scalings_.shape[1] < n_components:
        raise ValueError(
            f"init='lda' gives {lda.scalings_.shape[1]} components here, because the means of the "
            f"classes span no more; {n_components} are wanted. Lower n_components, or use another "
            "init."
        )
    return np.ascontiguousarray(lda.scalings_.T[:n_components], dtype=X.dtype)


def _lda(X: np.ndarray, y: np.ndarray) -> LinearDiscriminantAnalysis:
    try:
        # a feature that is constant in every class has no spread within: no warning of it
        with np.errstate(divide="ignore", invalid="ignore"):
            lda = LinearDiscriminantAnalysis().fit(X, y)
    except (IndexError, ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(
            "init='lda' found no directions that separate the classes: the features do not vary "
            f"within classes, or their means do not differ ({error}). Use init='pca' or "
            "'identity'."
        ) from error
    return lda
