"""A threat model for data with a known number of features: sizes, projection, the check."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skrobust.numerics import project_ball
from skrobust.utils._floating_point import round_features, round_inside

__all__ = ["FeatureBudget"]

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
        The bounds; −inf and inf where there are none.
    increasing : ndarray of shape (n_features,) of bool
        Features that may only grow.
    integer : ndarray of shape (n_features,) of bool
        Features whose values stay whole numbers.
    groups : tuple of ndarray of int
        Positions of the columns of each one-hot group.
    extend : bool
        A clean point outside the bounds widens them for itself, instead of being an error.
    """

    norm: float
    scale: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    increasing: np.ndarray
    integer: np.ndarray
    groups: tuple[np.ndarray, ...] = ()
    extend: bool = False

    @property
    def dual(self) -> float:
        """The exponent q of the dual norm, 1/p + 1/q = 1."""
        return _DUAL[self.norm]

    def same_as(self, other: "FeatureBudget") -> bool:
        """Return whether two models allow the same perturbations.

        Parameters
        ----------
        other : FeatureBudget
        """
        arrays = ("scale", "lower", "upper", "increasing", "integer")
        return (
            self.norm == other.norm
            and self.extend == other.extend
            and all(np.array_equal(getattr(self, a), getattr(other, a)) for a in arrays)
            and {tuple(g) for g in self.groups} == {tuple(g) for g in other.groups}
        )

    @property
    def bounded(self) -> bool:
        """Whether a mutable feature has a finite bound, or may only grow."""
        movable = self.scale > 0
        ends = np.isfinite(self.lower) | np.isfinite(self.upper) | self.increasing
        return bool(ends[movable].any())

    @property
    def discrete(self) -> np.ndarray:
        """Mask of the mutable features that do not move continuously."""
        mask = self.integer.copy()
        for group in self.groups:
            mask[group] = True
        return mask & (self.scale > 0)

    def fixing(self, columns: np.ndarray) -> "FeatureBudget":
        """Return a model in which some features do not move; a group moves as a whole or not.

        Parameters
        ----------
        columns : ndarray of shape (n_features,) of bool
        """
        if not columns.any():
            return self
        broken = [group for group in self.groups if columns[group].any()]
        still = columns.copy()
        for group in broken:
            still[group] = True
        return replace(
            self,
            scale=np.where(still, 0.0, self.scale),
            lower=np.where(columns, -np.inf, self.lower),
            upper=np.where(columns, np.inf, self.upper),
            increasing=self.increasing & ~columns,
            integer=self.integer & ~columns,
            groups=tuple(group for group in self.groups if not columns[group].any()),
        )

    def with_binary(self, columns: np.ndarray) -> "FeatureBudget":
        """Return a model in which some features stay 0 or 1.

        Parameters
        ----------
        columns : ndarray of shape (n_features,) of bool
        """
        return replace(
            self,
            integer=self.integer | columns,
            lower=np.where(columns, np.maximum(self.lower, 0.0), self.lower),
            upper=np.where(columns, np.minimum(self.upper, 1.0), self.upper),
        )

    def box(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends, both of the shape of `raw`, between which each clean point moves.

        Parameters
        ----------
        raw : ndarray of shape (n_samples, n_features)
            Clean points.
        """
        lower, upper = (
            np.broadcast_to(self.lower, raw.shape),
            np.broadcast_to(self.upper, raw.shape),
        )
        if self.extend:
            lower, upper = np.minimum(lower, raw), np.maximum(upper, raw)
        return np.where(self.increasing, np.maximum(lower, raw), lower), upper

    def scaled_box(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of η's box, ``x = raw + s ∘ η``, both of the shape of `raw`.

        Features that do not move are left in their own units.
        """
        lower, upper = self.box(raw)
        unit = np.where(self.scale > 0, self.scale, 1.0)
        return (lower - raw) / unit, (upper - raw) / unit

    def farthest(self, raw: np.ndarray) -> np.ndarray:
        """Return the largest size of a perturbation inside the box, rounded up; inf without one.

        Parameters
        ----------
        raw : ndarray of shape (n_samples, n_features)
            Clean points.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        lower, upper = self.scaled_box(raw)
        reach = np.where(self.scale > 0, np.maximum(-lower, upper), 0.0)
        largest = reach.max(axis=1, initial=0.0)
        unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        sizes = np.linalg.norm(reach / unit[:, None], ord=self.norm, axis=1)
        return np.asarray(unit * sizes * (1 + 1e-9))

    def check_inside(self, X: np.ndarray) -> None:
        """Raise a ValueError where a clean point does not satisfy the model itself."""
        outside = (self.lower > X) | (self.upper < X)
        if outside.any() and not self.extend:
            row, feature = np.argwhere(outside)[0]
            value, low, high = X[row, feature], self.lower[feature], self.upper[feature]
            raise ValueError(
                f"bounds must hold for the clean points; X[{row}, {feature}] is {value}, outside "
                f"[{low}, {high}]. With outside='extend' such a point widens them for itself."
            )
        movable = self.scale > 0
        broken = (np.rint(X) != X) & self.integer & movable
        if broken.any():
            row, feature = np.argwhere(broken)[0]
            raise ValueError(
                "integers must name features that hold whole numbers; "
                f"X[{row}, {feature}] is {X[row, feature]}."
            )
        for group in self.groups:
            wrong = (~_one_hot(X[:, group]) & X[:, group].any(axis=1)) & movable[group].any()
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    "one_hot must name columns of which at most one is 1 and the others are 0; "
                    f"X[{row}, {group.tolist()}] is {X[row, group].tolist()}."
                )

    def size(self, delta: np.ndarray) -> np.ndarray:
        """Return ``‖δ / s‖_p`` of each row; inf where an immutable feature moves."""
        movable = self.scale > 0
        # by rows in memory: the order of a sum, and so its last bit, must not depend on the batch
        moved = np.ascontiguousarray(delta[:, movable] / self.scale[movable])
        norms = np.linalg.norm(moved, ord=self.norm, axis=1) if movable.any() else 0.0
        return np.where((delta[:, ~movable] != 0).any(axis=1), np.inf, norms)

    def default_eps(self, spread: np.ndarray) -> float:
        """Return ``‖σ / (10 s)‖_p``: all features move by a tenth of their standard deviation.

        The budget of ``ThreatModel(eps=None)`` where one is needed.

        Parameters
        ----------
        spread : ndarray of shape (n_features,)
            σ, the features' standard deviations.

        Raises
        ------
        ValueError
            If no feature that can change varies.
        """
        move = np.where(self.scale > 0, 0.1 * spread, 0.0)
        eps = float(self.size(move[None])[0])
        if eps == 0 and (self.scale > 0).any():
            raise ValueError(
                "threat_model has no eps, and the points have no spread that would give one (are "
                "they more than n_samples=1?); set it, as in ThreatModel(eps=0.1)."
            )
        return eps

    def satisfied(self, raw: np.ndarray, points: np.ndarray, eps: float) -> np.ndarray:
        """Return the mask of rows of `points` that an adversary at `raw` may go to.

        Parameters
        ----------
        raw, points : ndarray of shape (n_samples, n_features)
        eps : float
            The budget.
        """
        lower, upper = self.box(raw)
        inside = ((lower <= points) & (points <= upper)) | (points == raw)
        allowed = inside.all(axis=1) & (self.size(points - raw) <= eps)
        allowed &= ((np.rint(points) == points) | ~self.integer | (points == raw)).all(axis=1)
        for group in self.groups:
            chosen = _one_hot(points[:, group]) & _one_hot(raw[:, group])
            allowed &= chosen | (points[:, group] == raw[:, group]).all(axis=1)
        return allowed

    def project(
        self, raw: np.ndarray, points: np.ndarray, eps: float, single: Any = False
    ) -> np.ndarray:
        """Return points that satisfy the model, near the given ones, to the last bit.

        Whole numbers and categories are settled first (the nearest ones where the budget
        allows it, else those nearer to the clean point), then the other features are projected
        onto what is left of the budget, in scaled units.

        Parameters
        ----------
        raw, points : ndarray of shape (n_samples, n_features), float64
            Clean and perturbed points.
        eps : float
            The budget, ≥ 0.
        single : bool or ndarray of shape (n_features,) of bool, default=False
            Which features are handed on in float32; the points satisfy the model after
            rounding to it.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64
        """
        lower, upper = self.box(raw)
        single = np.broadcast_to(single, self.scale.shape)
        points = np.where(np.isnan(points) | (self.scale == 0), raw, points)
        allowed = self.satisfied(raw, points, eps) & (points == round_features(points, single)).all(
            axis=1
        )
        if allowed.all():
            return points
        base, left = raw, np.full(len(raw), float(eps))
        free = self.scale > 0
        discrete = self.discrete
        if discrete.any():
            base = self._settle(raw, points, eps, (lower, upper), single)
            used = self.size(np.where(discrete, base - raw, 0.0))
            if self.norm == 2:
                left = np.sqrt(np.maximum(eps**2 - used**2, 0))
            elif self.norm == 1:
                left = np.maximum(eps - used, 0)
            free &= ~discrete
        s = self.scale[free]
        eta = project_ball(
            torch.from_numpy((points - raw)[:, free] / s),
            torch.from_numpy(left),
            self.norm,
            torch.from_numpy((lower - raw)[:, free] / s),
            torch.from_numpy((upper - raw)[:, free] / s),
        ).numpy()
        moved = self._rounded(raw, base, eta, free, eps, (lower, upper), single)
        return np.where(allowed[:, None], points, moved)

    def _settle(
        self,
        raw: np.ndarray,
        points: np.ndarray,
        eps: float,
        box: tuple[np.ndarray, np.ndarray],
        single: np.ndarray,
    ) -> np.ndarray:
        """Return `raw` with the discrete features at allowed values near those of `points`."""
        lower, upper = box
        movable = self.scale > 0
        integer = self.integer & movable
        for group in self.groups:
            integer[group] = False  # a category is a whole number already
        bounded = round_inside(np.clip(points, lower, upper), lower, upper, single)
        switched = raw.copy()
        for group in self.groups:
            if not movable[group].all():
                continue
            chosen = np.eye(len(group))[points[:, group].argmax(axis=1)]
            open_ = ((lower[:, group] <= chosen) & (chosen <= upper[:, group])).all(axis=1)
            open_ &= _one_hot(raw[:, group])
            switched[:, group] = np.where(open_[:, None], chosen, raw[:, group])

        def whole(base: np.ndarray, near: bool) -> np.ndarray:
            step = bounded - raw
            step = np.rint(step) if near else np.trunc(step)
            result = np.where(integer, raw + step, base)
            inside = (lower <= result) & (result <= upper)
            return np.where(integer & ~inside, raw + np.trunc(bounded - raw), result)

        # the first of these that the budget allows
        tries = [whole(switched, True), whole(switched, False), whole(raw, True), whole(raw, False)]
        settled = raw.copy()
        open_ = np.ones(len(raw), dtype=bool)
        for attempt in tries:
            fits = open_ & (self.size(attempt - raw) <= eps)
            fits &= (attempt == round_features(attempt, single)).all(axis=1)
            settled[fits] = attempt[fits]
            open_ &= ~fits
        # where rounding took all movement away, one unit of what moved most
        rows = np.flatnonzero((settled == raw).all(axis=1) & integer.any())
        if len(rows):
            step = np.where(integer, bounded[rows] - raw[rows], 0.0)
            most = np.abs(step).argmax(axis=1)
            bumped = raw[rows].copy()
            each = np.arange(len(rows))
            bumped[each, most] += np.sign(step[each, most])
            fits = (lower[rows] <= bumped) & (bumped <= upper[rows])
            fits &= bumped == round_features(bumped, single)
            fine = fits.all(axis=1) & (self.size(bumped - raw[rows]) <= eps)
            settled[rows[fine]] = bumped[fine]
        return settled

    def _rounded(
        self,
        raw: np.ndarray,
        base: np.ndarray,
        eta: np.ndarray,
        free: np.ndarray,
        eps: float,
        box: tuple[np.ndarray, np.ndarray],
        single: np.ndarray,
    ) -> np.ndarray:
        """Return ``base + s ∘ η`` in floating point, drawn in until it satisfies the model."""
        moved = base.copy()
        todo = np.arange(len(raw))
        single = single[free]
        shrink = float(np.finfo(np.float32 if single.any() else np.float64).eps) / 2
        share = 1.0
        while len(todo):
            clean, low, high = (array[todo][:, free] for array in (raw, *box))
            at = np.clip(clean + self.scale[free] * (eta[todo] * share), low, high)
            at = round_inside(at, low, high, single)
            moved[np.ix_(todo, free)] = np.where(eta[todo] == 0, clean, at)
            todo = todo[~self.satisfied(raw[todo], moved[todo], eps)]
            if share == 0:
                break
            share, shrink = max(0.0, 1 - shrink), 2 * shrink
        moved[todo] = raw[todo]
        return moved


def _one_hot(columns: np.ndarray) -> np.ndarray:
    """Return the mask of rows with a single 1 among zeros."""
    return ((columns == 0) | (columns == 1)).all(axis=1) & (columns.sum(axis=1) == 1)
