r"""What an adversary may change.

A perturbation δ of a point x is allowed if

    ‖δ / s‖_p ≤ eps,   δ_f = 0 where s_f = 0,   lower ≤ x + δ ≤ upper,

with s the features' scales, 0 for the features that cannot be changed. The dual norm, which
certificates need, is ``‖s ∘ w‖_q`` with 1/p + 1/q = 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skrobust.utils._validation import check_eps

__all__ = ["FeatureBudget", "ThreatModel"]

_DUAL = {1.0: np.inf, 2.0: 2.0, np.inf: 1.0}


@dataclass(frozen=True, eq=False)
class FeatureBudget:
    """A threat model for data with a known number of features.

    Attributes
    ----------
    norm : float
        p: 1, 2 or inf.
    scale : ndarray of shape (n_features,)
        s; 0 for a feature that cannot be changed.
    lower, upper : ndarray of shape (n_features,)
        The box; −inf and inf where there is none.
    """

    norm: float
    scale: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def dual(self) -> float:
        """The exponent q of the dual norm, 1/p + 1/q = 1."""
        return _DUAL[self.norm]

    @property
    def bounded(self) -> bool:
        """Whether a mutable feature has a finite bound."""
        movable = self.scale > 0
        return bool(np.isfinite([self.lower[movable], self.upper[movable]]).any())

    def check_inside(self, X: np.ndarray) -> None:
        """Raise a ValueError where a clean point lies outside the bounds."""
        outside = (self.lower > X) | (self.upper < X)
        if outside.any():
            row, feature = np.argwhere(outside)[0]
            value, low, high = X[row, feature], self.lower[feature], self.upper[feature]
            raise ValueError(
                f"bounds must hold for the clean points; X[{row}, {feature}] is {value}, outside "
                f"[{low}, {high}]."
            )

    def size(self, delta: np.ndarray) -> np.ndarray:
        """Return ``‖δ / s‖_p`` of each row; inf where an immutable feature moves."""
        movable = self.scale > 0
        moved = delta[:, movable] / self.scale[movable]
        norms = np.linalg.norm(moved, ord=self.norm, axis=1) if movable.any() else 0.0
        return np.where((delta[:, ~movable] != 0).any(axis=1), np.inf, norms)


class ThreatModel(BaseEstimator):
    """What an adversary may change: norm, budget, scales, mutable features, bounds.

    Parameters
    ----------
    norm : 1, 2 or inf, default=2
        p of the norm that measures a perturbation.
    eps : float, default=None
        The budget, ≥ 0, in the units of X over `feature_scale`. Certificates do not need it.
    feature_scale : array-like of shape (n_features,) or mapping of str to float, default=None
        How far each feature moves for one unit of `eps`, in (1e-100, 1e100). A mapping gives the
        scales of named features, the others have 1; None is 1 for all.
    mutable : array-like, default=None
        The features that can be changed: a boolean mask of shape (n_features,), positions, or
        names. None is all.
    bounds : tuple (lower, upper) or mapping of str to such a tuple, default=None
        A box that perturbed points stay in; each end a float or an array-like of shape
        (n_features,), infinite where there is none. A mapping gives the ends of named
        features.

    Examples
    --------
    >>> from skrobust import ThreatModel
    >>> model = ThreatModel(norm=1, feature_scale={"age": 5.0}, mutable=["age", "income"])
    >>> model.resolve(3, ["age", "income", "sex"]).scale
    array([5., 1., 0.])
    """

    def __init__(
        self,
        norm: Any = 2,
        eps: float | None = None,
        *,
        feature_scale: Any = None,
        mutable: Any = None,
        bounds: Any = None,
    ):
        self.norm = norm
        self.eps = eps
        self.feature_scale = feature_scale
        self.mutable = mutable
        self.bounds = bounds

    def resolve(self, n_features: int, feature_names: Any = None) -> FeatureBudget:
        """Check the parameters against the data and return arrays.

        Parameters
        ----------
        n_features : int
        feature_names : array-like of str of shape (n_features,), default=None
            Needed where parameters name features.

        Returns
        -------
        FeatureBudget

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as described; the message names it.
        """
        if not isinstance(self.norm, Real) or float(self.norm) not in _DUAL:
            raise ValueError(f"norm must be 1, 2 or inf; got {self.norm!r}.")
        if self.eps is not None:
            check_eps(self.eps)
        names = None if feature_names is None else [str(name) for name in feature_names]
        scale = self._scale(n_features, names)
        lower, upper = self._bounds(n_features, names)
        return FeatureBudget(
            norm=float(self.norm),
            scale=np.where(self._mutable(n_features, names), scale, 0.0),
            lower=lower,
            upper=upper,
        )

    def _scale(self, n_features: int, names: list[str] | None) -> np.ndarray:
        scale = np.ones(n_features)
        if isinstance(self.feature_scale, Mapping):
            for name, value in self.feature_scale.items():
                scale[_position(name, names, "feature_scale")] = value
        elif self.feature_scale is not None:
            scale = _vector(self.feature_scale, n_features, "feature_scale")
        if not ((scale > 1e-100) & (scale < 1e100)).all():
            raise ValueError(
                "feature_scale must lie between 1e-100 and 1e100 everywhere; got "
                f"{self.feature_scale!r}. "
                "Features that cannot be changed are left out of `mutable`."
            )
        return scale

    def _mutable(self, n_features: int, names: list[str] | None) -> np.ndarray:
        if self.mutable is None:
            return np.ones(n_features, dtype=bool)
        given = np.atleast_1d(np.asarray(self.mutable))
        if given.dtype == bool:
            if given.shape != (n_features,):
                raise ValueError(
                    f"mutable as a mask must have shape ({n_features},); got {given.shape}."
                )
            return given
        mask = np.zeros(n_features, dtype=bool)
        if given.dtype.kind in "OUT":
            mask[[_position(name, names, "mutable") for name in given.tolist()]] = True
        elif given.dtype.kind in "iu" or given.size == 0:
            positions = given.astype(int)
            if ((positions < -n_features) | (positions >= n_features)).any():
                raise ValueError(
                    f"mutable must hold positions below {n_features}; got {self.mutable!r}."
                )
            mask[positions] = True
        else:
            raise TypeError(f"mutable must be a mask, positions or names; got {self.mutable!r}.")
        return mask

    def _bounds(self, n_features: int, names: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = np.full(n_features, -np.inf), np.full(n_features, np.inf)
        if isinstance(self.bounds, Mapping):
            for name, (low, high) in self.bounds.items():
                position = _position(name, names, "bounds")
                lower[position], upper[position] = low, high
        elif self.bounds is not None:
            if len(self.bounds) != 2:
                raise ValueError(f"bounds must be a pair (lower, upper); got {self.bounds!r}.")
            lower = _vector(self.bounds[0], n_features, "bounds[0]")
            upper = _vector(self.bounds[1], n_features, "bounds[1]")
        if not (lower <= upper).all():  # also where one is NaN
            raise ValueError(f"bounds must have lower <= upper everywhere; got {self.bounds!r}.")
        return lower, upper


def _vector(value: Any, n_features: int, name: str) -> np.ndarray:
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim == 0:
        return np.full(n_features, float(vector))
    if vector.shape != (n_features,):
        raise ValueError(f"{name} must have shape ({n_features},); got {vector.shape}.")
    return vector


def _position(name: Any, names: list[str] | None, parameter: str) -> int:
    if names is None:
        raise ValueError(
            f"{parameter} names the feature {name!r}, but the data have no feature names; fit on "
            "a data frame, or give positions."
        )
    if name not in names:
        raise ValueError(f"{parameter} names the feature {name!r}, which is not among {names}.")
    return names.index(name)
