"""Checks of what a user hands in, with messages that name parameter, value and what is allowed."""

from collections.abc import Collection, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from skrobust.utils._warnings import warn

__all__ = [
    "check_abstain_label",
    "check_choice",
    "check_count",
    "check_eps",
    "check_kind_of_labels",
    "check_labels",
    "check_norm",
    "check_one_eps",
    "check_radii",
    "check_temperature",
]

_NORMS = {"1": 1.0, "2": 2.0, "inf": np.inf}


def check_eps(eps: Any, *, name: str = "eps") -> np.ndarray:
    """Return perturbation budgets as a float64 array of shape (n_eps,).

    Parameters
    ----------
    eps : float or iterable of float
        Finite and ≥ 0, in the units of ``X``.
    name : str, default="eps"
        The parameter's name in messages.

    Raises
    ------
    TypeError
        If `eps` is not made of real numbers.
    ValueError
        If one is negative or not finite, or none is given.
    """
    if isinstance(eps, np.ndarray) and eps.ndim == 0:
        eps = eps[()]
    values = list(eps) if isinstance(eps, Iterable) and not isinstance(eps, str) else [eps]
    for value in values:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a real number or several; got {value!r}.")
        if not 0 <= float(value) < np.inf:
            raise ValueError(f"{name} must be finite and >= 0; got {value!r}.")
    if not values:
        raise ValueError(f"{name} must hold at least one value; got none.")
    return np.asarray(values, dtype=np.float64)


def check_one_eps(eps: Any, *, name: str = "eps") -> float:
    """Return one budget as a float; errors as in :func:`check_eps`."""
    if np.ndim(eps) != 0:
        raise TypeError(f"{name} must be a single real number; got {eps!r}.")
    return float(check_eps(eps, name=name)[0])


def check_norm(norm: Any) -> float:
    """Return p of a norm that is given as a number or spelt: 1, 2 or inf.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if isinstance(norm, str):
        p = _NORMS.get(norm.strip().lower().removeprefix("l").lstrip("_"))
    else:
        real = isinstance(norm, Real) and not isinstance(norm, (bool, np.bool_))
        p = float(norm) if real and float(norm) in _NORMS.values() else None
    if p is None:
        raise ValueError(
            f"norm must be 1, 2 or inf; got {norm!r}. As text it is 'l1', 'l2' or 'linf'."
        )
    return p


def check_abstain_label(label: Any, classes: np.ndarray) -> None:
    """Raise a ValueError unless a label is of the kind of the classes, and none of them."""
    if np.ndim(label) or _kind_of_labels(np.asarray([label])) != _kind_of_labels(classes):
        raise ValueError(
            f"abstain_label must be of the kind of the classes {classes.tolist()}; got {label!r}."
        )
    if label in classes:
        raise ValueError(
            f"abstain_label={label!r} must not be one of the classes {classes.tolist()}."
        )


def check_choice(value: Any, allowed: Collection[Any], *, name: str) -> None:
    """Raise a ValueError unless a parameter is one of the values that it may have."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}; got {value!r}.")


def check_count(value: Any, least: int, *, name: str) -> int:
    """Return an integer that is at least `least`.

    Raises
    ------
    TypeError, ValueError
        If it is not.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer; got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be >= {least}; got {value!r}.")
    return int(value)


def check_temperature(temperature: Any) -> tuple[float, float]:
    """Return the first and the last temperature of a schedule; one number is both.

    Raises
    ------
    ValueError
        If one is not > 0 and finite.
    """
    ends = np.ravel(np.asarray(temperature, dtype=object)).tolist()
    ends = ends if np.ndim(temperature) else ends * 2
    if len(ends) != 2 or not all(isinstance(u, Real) and 0 < float(u) < np.inf for u in ends):
        raise ValueError(f"temperature must be a number > 0, or two of them; got {temperature!r}.")
    return ends[0], ends[1]


def check_radii(radius: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return certified radii and the mask of correct predictions, checked.

    Raises
    ------
    ValueError
        If the shapes differ or are not 1-D, or a radius is negative or NaN.
    """
    radius = np.asarray(radius, dtype=np.float64)
    correct = np.asarray(correct)
    if radius.ndim != 1 or radius.shape != correct.shape:
        raise ValueError(
            "radius and correct must have the same shape (n_samples,); got "
            f"{radius.shape} and {correct.shape}."
        )
    if correct.dtype != bool:
        raise ValueError(f"correct must be a boolean mask; got dtype {correct.dtype}.")
    if len(radius) == 0:
        raise ValueError("radius must hold at least one value; got none.")
    if not (radius >= 0).all():
        raise ValueError("radius must be >= 0 everywhere and not NaN.")
    return radius, correct


def check_labels(y: np.ndarray, known: np.ndarray) -> None:
    """Raise where labels are of another kind than the estimator's; warn where none is known.

    Parameters
    ----------
    y, known : ndarray of shape (n_samples,), (n_classes,)
    """
    check_kind_of_labels(y, known)
    if not np.isin(y, known).any():
        warn(
            f"y holds none of the classes {known.tolist()}, only labels like "
            f"{y.tolist()[0]!r}: all points count as misclassified."
        )


def check_kind_of_labels(y: np.ndarray, known: np.ndarray) -> None:
    """Raise where labels are text and those of the estimator numbers, or the other way round.

    Parameters
    ----------
    y, known : ndarray of shape (n_samples,), (n_classes,)
    """
    given, wanted = _kind_of_labels(y), _kind_of_labels(known)
    if given != wanted:
        raise ValueError(
            f"y has labels like {y.tolist()[0]!r} ({given}), but those of the estimator are like "
            f"{known.tolist()[0]!r} ({wanted}); both must be text, or both numbers."
        )


def _kind_of_labels(labels: np.ndarray) -> str:
    """Return "text" or "numbers", by the labels themselves where their dtype is object."""
    if labels.dtype.kind != "O":
        return "text" if labels.dtype.kind in "UST" else "numbers"
    kinds = {isinstance(label, str) for label in labels.ravel().tolist()}
    if kinds == {True, False}:
        return "text and numbers"
    return "text" if True in kinds else "numbers"
