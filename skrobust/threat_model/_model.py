r"""What an adversary may change.

A perturbation δ of a point x is allowed if

    ‖δ / s‖_p ≤ eps,   δ_f = 0 where s_f = 0,   lower ≤ x + δ ≤ upper,

with s the features' scales, 0 for the features that cannot be changed; some features may only
grow, stay whole numbers, or form one-hot groups. The dual norm, which certificates need, is
``‖s ∘ w‖_q`` with 1/p + 1/q = 1.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from skrobust.threat_model._budget import FeatureBudget
from skrobust.threat_model._state import plain, restored
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._frames import Table
from skrobust.utils._validation import check_norm, check_one_eps

__all__ = ["ThreatModel"]


class ThreatModel(BaseEstimator):
    """What an adversary may change: norm, budget, scales, mutable features, bounds, types.

    Attacks honour all of it. The lower bounds of certificates hold for every model, because they
    allow more: they leave out bounds, whole numbers and groups. The exact search honours bounds
    and growth, and refuses whole numbers and groups.

    Positions, masks and arrays follow the features of the model, in the order in which it was
    fitted, and names mean the same features, whatever the order of the columns of X. Columns that
    are not numbers, or that the model does not use, do not move.

    Parameters
    ----------
    norm : {1, 2, inf, "l1", "l2", "linf"}, default=2
        p of the norm that measures a perturbation; ``"inf"`` and ``"2"`` are understood as well.
    eps : float, default=None
        The budget, ≥ 0, in the units of X over `feature_scale`. Certificates and attacks of
        minimum norm do not need it. Where it is needed, None is the size of a move of all
        features by a tenth of their standard deviation: over the training points, or over X of
        an attack's `run`.
    feature_scale : array-like of shape (n_features,) or mapping of str to float, default=None
        How far each feature moves for one unit of `eps`, in (1e-100, 1e100). A mapping gives the
        scales of named features, the others have 1; None is 1 for all. A pandas Series, here and
        below, goes by its index where the features have names.
    mutable : array-like, default=None
        The features that can be changed: a boolean mask of shape (n_features,), positions, or
        names. None is all.
    bounds : tuple (lower, upper), mapping of str to such a tuple, or "data", default=None
        A box that perturbed points stay in; each end a float or an array-like of shape
        (n_features,), infinite where there is none. A mapping gives the ends of named
        features. "data" are the smallest and largest values of the training points that an
        attack is fitted on; :meth:`with_bounds_of` reads them beforehand.
    outside : {"error", "extend"}, default="error"
        What a clean point outside the bounds is: an error, or a point that widens them for
        itself.
    increasing : array-like, default=None
        The features that may only grow; spelt as `mutable`.
    integers : array-like, default=None
        The features whose values stay whole numbers; spelt as `mutable`. With bounds (0, 1) they
        are binary.
    one_hot : sequence of array-likes, default=None
        Groups of columns, positions or names, of which one is 1 and the others are 0. The
        adversary may choose another; both columns count in the norm. In a row where all are 0 (a
        category that the encoder did not know, or dropped) it leaves the group as it is: encode
        a dropped category as a column of its own for it to be chosen.

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
        outside: str = "error",
        increasing: Any = None,
        integers: Any = None,
        one_hot: Any = None,
    ):
        self.norm = norm
        self.eps = eps
        self.feature_scale = feature_scale
        self.mutable = mutable
        self.bounds = bounds
        self.outside = outside
        self.increasing = increasing
        self.integers = integers
        self.one_hot = one_hot

    def __getstate__(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: restored(value) for name, value in state.items()})

    @classmethod
    def of(cls, model: Any) -> "ThreatModel":
        """Return the threat model that a parameter `threat_model` means.

        Parameters
        ----------
        model : ThreatModel or None
            None is ``ThreatModel()``: ℓ₂, all features, in the units of X.

        Raises
        ------
        TypeError
            If it is something else.
        """
        if model is not None and not isinstance(model, ThreatModel):
            raise TypeError(f"threat_model must be a ThreatModel or None; got {model!r}.")
        return cls() if model is None else model

    def with_bounds_of(self, X: Any) -> Self:
        """Return a copy whose bounds are the smallest and largest values of each column.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training points; columns that are not numbers get no bounds. Those of a data frame
            are kept by name.

        Examples
        --------
        >>> from skrobust import ThreatModel
        >>> ThreatModel().with_bounds_of([[0.0, 5.0], [1.0, 2.0]]).bounds
        (array([0., 2.]), array([1., 5.]))
        """
        table = Table.of(X)
        if len(table) == 0:
            raise ValueError("X must hold at least one point; got none.")
        raw = np.where(table.numeric, table.values, np.nan).reshape(len(table), -1)
        known = ~np.isnan(raw).all(axis=0)
        lower, upper = np.full(raw.shape[1], -np.inf), np.full(raw.shape[1], np.inf)
        lower[known], upper[known] = np.nanmin(raw[:, known], 0), np.nanmax(raw[:, known], 0)
        bounds: Any = (lower, upper)
        if table.names is not None:
            ends = zip(lower.tolist(), upper.tolist(), strict=True)
            bounds = dict(zip(table.names, ends, strict=True))
        return clone(self).set_params(bounds=bounds)

    def resolve(
        self,
        n_features: int,
        feature_names: Any = None,
        *,
        unused_names: Collection[str] = (),
        fixed_names: Collection[str] = (),
    ) -> FeatureBudget:
        """Check the parameters against the data and return arrays.

        Parameters
        ----------
        n_features : int
        feature_names : array-like of str of shape (n_features,), default=None
            Needed where parameters name features.
        unused_names : collection of str, default=()
            Columns that are none of the features; what the parameters say of them is left out.
        fixed_names : collection of str, default=()
            Features that cannot move whatever the parameters say, such as text; a Series may
            leave them out.

        Returns
        -------
        FeatureBudget

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as described; the message names it.
        """
        norm = check_norm(self.norm)
        if self.eps is not None:
            check_one_eps(self.eps)
        if self.outside not in ("error", "extend"):
            raise ValueError(f"outside must be 'error' or 'extend'; got {self.outside!r}.")
        names = None if feature_names is None else [str(name) for name in feature_names]
        where = _Features(n_features, names, frozenset(unused_names), frozenset(fixed_names))
        scale = self._scale(where)
        lower, upper = self._bounds(where)
        mutable = _mask(self.mutable, where, "mutable", everything=True)
        return FeatureBudget(
            norm=norm,
            scale=np.where(mutable, scale, 0.0),
            lower=lower,
            upper=upper,
            increasing=_mask(self.increasing, where, "increasing"),
            integer=_mask(self.integers, where, "integers"),
            groups=self._groups(where, mutable),
            extend=self.outside == "extend",
        )

    def resolve_for(self, X: Any, *, whole_groups: bool = False) -> FeatureBudget:
        """Resolve for the features of an array or a data frame: what is no number does not move.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, ...), or a Table of one
        whole_groups : bool, default=False
            Whether a one-hot group of which the estimator drops some columns changes all the
            same, as a proof has to assume. Otherwise, as for an attack, it stays.

        Returns
        -------
        FeatureBudget

        Raises
        ------
        ValueError, TypeError
            As :meth:`resolve`; also where a feature that can change is not finite in some row.
        """
        table = X if isinstance(X, Table) else Table.of(X)
        budget = self.resolve(**table.layout)
        fixed = ~table.numeric
        # a category changes as a whole, also where the estimator drops some of its columns
        finite = np.isfinite(table.values).all(axis=0)
        for group in budget.groups if whole_groups else ():
            if (finite & ~table.spelled)[group].all() and not fixed[group].all():
                fixed[group] = False
        budget = budget.fixing(fixed)
        bad = np.flatnonzero(~finite & (budget.scale > 0))
        if len(bad):
            name = int(bad[0]) if table.names is None else table.names[bad[0]]
            raise ValueError(
                f"X must not hold NaN or infinity in features that can change; feature {name!r} "
                "does. Impute it first, or leave it out of `mutable`."
            )
        return budget

    def _scale(self, where: "_Features") -> np.ndarray:
        scale = np.ones(where.n)
        if isinstance(self.feature_scale, Mapping):
            for name, value in self.feature_scale.items():
                if (at := where.position(name, "feature_scale")) is not None:
                    scale[at] = value
        elif self.feature_scale is not None:
            given = where.in_order(self.feature_scale, "feature_scale", 1.0)
            scale = _vector(given, where.n, "feature_scale")
        bad = np.flatnonzero(~((scale > 1e-100) & (scale < 1e100)))
        if len(bad):
            raise ValueError(
                "feature_scale must lie between 1e-100 and 1e100 everywhere; got "
                f"{scale[bad[0]]:g} for feature {bad[0]}. (The deviation of a constant feature is "
                "0: give it another scale.) "
                "Features that cannot be changed are left out of `mutable`."
            )
        return scale

    def _groups(self, where: "_Features", mutable: np.ndarray) -> tuple[np.ndarray, ...]:
        groups, taken = [], np.zeros(where.n, dtype=int)
        if self.one_hot is not None and not isinstance(self.one_hot, list | tuple):
            raise TypeError(f"one_hot must be a list of groups; got {self.one_hot!r}.")
        for given in [] if self.one_hot is None else self.one_hot:
            group = np.flatnonzero(_mask(given, where, "one_hot"))
            if len(group) == 0 and where.unused and len(given):
                continue  # none of these columns is a feature
            if len(group) < 2:
                raise ValueError(f"one_hot must hold groups of two columns or more; got {given!r}.")
            if mutable[group].any() and not mutable[group].all():
                raise ValueError(
                    f"mutable must hold all columns of a one-hot group or none; of {given!r} it "
                    "holds some."
                )
            taken[group] += 1
            groups.append(group)
        if (taken > 1).any():
            raise ValueError(
                f"one_hot must hold each column once; column {int(np.argmax(taken))} is in two."
            )
        return tuple(groups)

    def _bounds(self, where: "_Features") -> tuple[np.ndarray, np.ndarray]:
        lower, upper = np.full(where.n, -np.inf), np.full(where.n, np.inf)
        if isinstance(self.bounds, str):
            what = "are read when an attack is fitted; elsewhere use with_bounds_of(X_train)."
            if self.bounds != "data":
                what = "is not known; use a pair, a mapping or 'data'."
            raise ValueError(f"bounds={self.bounds!r} {what}")
        if isinstance(self.bounds, Mapping):
            for name, pair in self.bounds.items():
                if np.shape(pair) != (2,):
                    raise ValueError(
                        f"bounds[{name!r}] must be a pair (lower, upper); got {pair!r}."
                    )
                if (at := where.position(name, "bounds")) is not None:
                    lower[at], upper[at] = pair
        elif self.bounds is not None:
            if not isinstance(self.bounds, Sequence) or len(self.bounds) != 2:
                raise ValueError(
                    f"bounds must be a pair (lower, upper); got {self.bounds!r}. Ends for each "
                    "feature are two arrays, (lower, upper), or a mapping of names to pairs."
                )
            if where.n == 2:
                _refuse_pairs(self.bounds)
            given = enumerate(zip(self.bounds, (-np.inf, np.inf), strict=True))
            lower, upper = (
                _vector(where.in_order(end, f"bounds[{k}]", none), where.n, f"bounds[{k}]")
                for k, (end, none) in given
            )
        if not (lower <= upper).all():  # also where one is NaN
            raise ValueError(
                f"bounds must have lower <= upper everywhere; got {self.bounds!r}. "
                "An open end is -inf or inf."
            )
        return lower, upper


def _refuse_pairs(bounds: Any) -> None:
    """Raise where the bounds of two features read as well as a pair for each feature."""
    if not all(isinstance(end, list | tuple) and np.shape(end) == (2,) for end in bounds):
        return  # arrays are the ends of all features
    (a, b), (c, d) = (_vector(end, 2, "bounds") for end in bounds)
    # (lower, upper) as it is documented, and no feature that cannot move
    lists = isinstance(bounds, tuple) and not any(isinstance(end, tuple) for end in bounds)
    clear = lists and a < c and b < d
    if b != c and a < b and c < d and not clear:
        raise ValueError(
            f"bounds={bounds!r} is ambiguous for two features: two pairs, or (lower, upper). Give "
            f"two arrays, as in bounds=(np.array([{a:g}, {c:g}]), np.array([{b:g}, {d:g}])) for "
            "two pairs, or a mapping of names to pairs."
        )


@dataclass(frozen=True)
class _Features:
    """The features that a threat model is resolved for.

    Attributes
    ----------
    n : int
    names : list of str or None
    unused : frozenset of str
        Names of columns that are none of the features.
    fixed : frozenset of str
        Names of features that cannot move.
    """

    n: int
    names: list[str] | None
    unused: frozenset[str]
    fixed: frozenset[str]

    def position(self, name: Any, parameter: str) -> int | None:
        """Return the position of a feature, None for a column that is unused."""
        if self.names is None:
            raise ValueError(
                f"{parameter} names the feature {name!r}, but the data have no feature names; fit "
                "on a data frame, or give positions."
            )
        if name in self.names:
            return self.names.index(name)
        if name in self.unused:
            return None
        raise ValueError(
            f"{parameter} names the feature {name!r}, which is not among {self.names}."
        )

    def in_order(self, given: Any, parameter: str, default: Any) -> Any:
        """Return a pandas Series in the order of the features that its index names.

        Fixed features that it leaves out get the default. One that is numbered, or whose
        features have no names, is in their order already.
        """
        if self.names is None or not hasattr(given, "reindex"):
            return given
        labels = [str(label) for label in given.index]
        kept = [label for label in labels if label not in self.unused or label in self.names]
        odd = ({*kept} - {*self.names}) | ({*self.names} - {*kept} - self.fixed)
        if not odd and len({*labels}) == len(labels):
            value = dict(zip(labels, given.to_numpy(), strict=True))
            return np.array([value.get(name, default) for name in self.names])
        if labels == [str(k) for k in range(len(labels))]:
            return given
        name = min(odd or labels)
        raise ValueError(
            f"{parameter} must have one value for each feature where its index has names; "
            f"{name!r} is in one of them only, or twice. A dict, {parameter}.to_dict(), may name "
            "some."
        )


def _mask(given: Any, where: _Features, parameter: str, everything: bool = False) -> np.ndarray:
    """Return a mask from a mask, positions or names; all or nothing for None."""
    n_features = where.n
    if given is None:
        return np.full(n_features, everything)
    if np.asarray(given).dtype == bool:
        given = where.in_order(given, parameter, False)
    given = np.array(given, ndmin=1)  # a copy: what was given is never written to
    if given.dtype == bool:
        if given.shape != (n_features,):
            raise ValueError(
                f"{parameter} as a mask must have shape ({n_features},); got {given.shape}."
            )
        return given
    mask = np.zeros(n_features, dtype=bool)
    if given.dtype.kind in "OUT":
        places = [where.position(name, parameter) for name in given.tolist()]
        mask[[at for at in places if at is not None]] = True
    elif given.dtype.kind in "iu" or given.size == 0:
        positions = given.astype(int)
        if ((positions < -n_features) | (positions >= n_features)).any():
            raise ValueError(
                f"{parameter} must hold positions below {n_features}; got {given.tolist()!r}."
            )
        mask[positions] = True
        if mask.sum() < positions.size:
            raise ValueError(
                f"{parameter} must hold each position once; got {given.tolist()!r}. (A mask holds "
                "True and False.)"
            )
    else:
        raise TypeError(f"{parameter} must be a mask, positions or names; got {given.tolist()!r}.")
    return mask


def _vector(value: Any, n_features: int, name: str) -> np.ndarray:
    try:
        # a copy: what was given is never written to
        vector = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be made of numbers; got {value!r}.") from error
    if vector.ndim == 0:
        return np.full(n_features, float(vector))
    if vector.shape != (n_features,):
        raise ValueError(f"{name} must have shape ({n_features},); got {vector.shape}.")
    return vector
