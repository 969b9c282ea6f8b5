"""What a fit of a metric refuses."""

import numpy as np

__all__ = ["check_classes", "check_neighbors"]


def check_classes(classes: np.ndarray, counts: np.ndarray) -> None:
    """Raise where the classes leave nothing to be learned."""
    if len(classes) < 2:
        raise ValueError(
            f"y must have at least 2 classes; got 1 class, {classes.tolist()[0]!r}: there is "
            "nothing to separate."
        )
    if counts.max() < 2:
        raise ValueError("y must have at least one class with 2 or more points; every class has 1.")


def check_neighbors(n_neighbors: int, n_candidates: int | None, counts: np.ndarray) -> None:
    """Raise where no anchor could have the candidates that K neighbours need."""
    positives, negatives = n_neighbors // 2 + 1, (n_neighbors + 1) // 2
    if n_candidates is not None and n_candidates < positives:
        raise ValueError(
            f"n_candidates must be at least {positives} for n_neighbors={n_neighbors}; got "
            f"{n_candidates}."
        )
    if not ((counts > positives) & (counts.sum() - counts >= negatives)).any():
        raise ValueError(
            f"n_neighbors={n_neighbors} needs a class with more than {positives} points, beside "
            f"{negatives} points of other classes; the classes have {counts.tolist()}."
        )
