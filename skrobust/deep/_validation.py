"""Checks of labels, and the rows that a training is judged by."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

__all__ = ["check_is_array", "check_labels", "split_rows"]


def check_is_array(X: Any) -> None:
    """Raise where rows come as a loader, a data set or an iterator.

    Raises
    ------
    TypeError
        If they do.
    """
    if isinstance(X, (DataLoader, Dataset, Iterator)):
        raise TypeError(
            f"X must be an array, a data frame or the LazyImages of load_image_folder; got a "
            f"{type(X).__name__}. Batches are made inside, by batch_size and iterator_train__…; "
            "rows larger than memory are a numpy.memmap or LazyImages."
        )


def check_labels(classes: np.ndarray, counts: np.ndarray) -> None:
    """Raise where there is nothing to compare with.

    Raises
    ------
    ValueError
        If there is one class, or a class with one point.
    """
    if len(classes) < 2:
        raise ValueError(f"y must hold at least two classes; got 1 class: {classes.tolist()[0]!r}.")
    if (counts < 2).any():
        lonely = classes[counts < 2]
        raise ValueError(
            "y must hold at least two points of each class, because a point is compared with "
            f"another one of its class; got 1 sample of {', '.join(map(str, lonely[:5]))}"
            f"{', …' if len(lonely) > 5 else ''}."
        )


def split_rows(
    y: np.ndarray, fraction: float, by: str, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the rows to train on, and of those for validation.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        0, 1, …
    fraction : float
        Of the points or classes; 0 for none.
    by : {"points", "classes"}
    random_state : RandomState

    Raises
    ------
    ValueError
        If too little is left to train on, or to judge by.
    """
    rows = np.arange(len(y))
    if fraction == 0:
        return rows, rows[:0]
    n_classes = int(y.max()) + 1
    if by == "classes":
        n = round(fraction * n_classes)
        if not 2 <= n <= n_classes - 2:
            raise ValueError(
                f"validation_fraction={fraction} of {n_classes} classes is {n}; at least two "
                "are needed for validation, and two for training."
            )
        held = np.isin(y, random_state.permutation(n_classes)[:n])
        return rows[~held], rows[held]
    try:
        train, valid = train_test_split(
            rows, test_size=fraction, stratify=y, random_state=random_state
        )
    except ValueError as error:
        raise ValueError(
            f"validation_fraction={fraction} cannot be taken of {len(y)} points of {n_classes} "
            f"classes: {error}"
        ) from error
    if (np.bincount(y[train], minlength=n_classes) < 2).any() or len(valid) < 2:
        raise ValueError(
            f"validation_fraction={fraction} leaves fewer than two points of a class to train "
            "on, or fewer than two for validation; use a smaller one, or more points."
        )
    if np.bincount(y[valid]).max() < 2:
        raise ValueError(
            f"validation_fraction={fraction} of {len(y)} points of {n_classes} classes holds out "
            "one point of each class: none has a partner to be found. Use a larger fraction, or "
            "validate_on='classes'."
        )
    return np.sort(train), np.sort(valid)
