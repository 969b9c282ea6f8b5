"""What is asked of a certificate: checked once, for every method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.certificates._region import Region, refuse_difference
from skrobust.certificates._result import Certificate
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._frames import Table
from skrobust.utils._guard import is_exactly_known
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_labels

__all__ = ["Attack", "AttackOutcome", "CertificationProblem", "model_or_l2"]

# how a victim is confirmed that is scikit-learn's or ours to the last part: predictions times
# training points up to which every point is predicted, points that are predicted in any case
_ALL, _FEWEST = 4_000_000, 64
_ROUNDS = 4  # perturbations of each point of any other victim


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """What the victim did with some perturbed points.

    Attributes
    ----------
    success : ndarray of shape (n,) of bool
        Whether the prediction is what the adversary wants.
    moved : ndarray of shape (n, n_features)
        How far the points really moved, in the precision of X and inside the bounds.
    predicted : ndarray of shape (n,)
    """

    success: np.ndarray
    moved: np.ndarray
    predicted: np.ndarray


Attack = Callable[[np.ndarray, np.ndarray], AttackOutcome]


@dataclass(frozen=True, eq=False)
class CertificationProblem:
    """A victim, points with labels, and a threat model.

    Attributes
    ----------
    rule : NearestNeighborRule
    estimator : object
        The victim, with its own `predict`.
    table : Table
        The points, in the container in which they were given.
    y : ndarray of shape (n_samples,)
    own : bool
        `y` is what the victim predicts.
    labels : ndarray of shape (n_samples,), int64
        `y` as indices into ``rule.classes``; -1 for a label that was not seen in fit.
    queries : EmbeddedQueries
    budget : FeatureBudget
    device : torch.device
    target : int or None
        Index of the class that the adversary wants; None for any change.
    exponent : int
        The scales of `budget` are those that were given divided by 2 to this power, so that one
        unit of the norm moves the embedding by about 1, whatever the units of the features.
    """

    rule: NearestNeighborRule
    estimator: Any
    table: Table
    y: np.ndarray
    own: bool
    labels: np.ndarray
    queries: EmbeddedQueries
    budget: FeatureBudget
    device: torch.device
    target: int | None = None
    exponent: int = 0

    @classmethod
    def of(
        cls,
        rule: NearestNeighborRule,
        estimator: Any,
        X: Any,
        y: Any,
        threat_model: ThreatModel | None,
        device: str,
        target: Any = None,
    ) -> Self:
        """Check what was given; the errors name the parameter."""
        resolved = resolve_device(device)
        table = rule.read(X)
        budget = model_or_l2(threat_model).resolve_for(table, whole_groups=True)
        queries, own = rule.embed(table), y is None
        y = column_or_1d(estimator.predict(X) if own else y)
        budget.check_inside(queries.raw)
        check_consistent_length(queries.points, y)
        check_labels(y, rule.classes)
        found = np.searchsorted(rule.classes, y).clip(max=len(rule.classes) - 1)
        labels = np.where(rule.classes[found] == y, found, -1)
        wanted = None
        if target is not None:
            wanted = _class_index(target, rule.classes)
            if (labels == wanted).any():
                row = int(np.flatnonzero(labels == wanted)[0])
                raise ValueError(
                    f"target={target!r} must not be the label of a point to certify; y[{row}] is."
                )
        exponent = _exponent(rule, budget.scale)
        with np.errstate(over="ignore"):
            budget = replace(budget, scale=np.ldexp(budget.scale, -exponent))
        _check_scale(budget.scale)
        return cls(
            rule, estimator, table, y, own, labels, queries, budget, resolved, wanted, exponent
        )

    def compared(self) -> tuple[NearestNeighborRule, np.ndarray, int, int]:
        """Return the rule and labels whose bound is asked for, with its orders a and b.

        With a target, its class stands against all others: to win it needs ⌈K / classes⌉ votes
        at least.
        """
        K = self.rule.n_neighbors
        if self.target is None:
            return self.rule, self.labels, (K + 1) // 2, K // 2 + 1
        a = -(-K // len(self.rule.classes))
        two = replace(
            self.rule,
            labels=(self.rule.labels == self.target).astype(np.int64),
            classes=np.array([0, 1]),
        )
        return two, np.where(self.labels < 0, -1, 0), a, K - a + 1

    @cached_property
    def constant(self) -> np.ndarray:
        """Mask of points whose prediction nothing changes: they do not move, or all vote."""
        lower, upper = self.budget.box(self.queries.raw)
        moves = ((self.budget.scale > 0) & ~self.rule.ignored & (lower < upper)).any(axis=1)
        return np.asarray(~moves | (self.rule.n_neighbors == len(self.rule.points)))

    def predict(self, X: Any) -> np.ndarray:
        """Ask the victim."""
        return self.estimator.predict(X)

    def right(self) -> np.ndarray:
        """Return the mask of points that the victim predicts right."""
        if self.own:  # asked again in another batch, it may decide a tie otherwise
            return np.ones(len(self.y), dtype=bool)
        return np.asarray(self.predict(self.table.given) == self.y)

    @property
    def region(self) -> Region:
        """The points with what may be changed of them."""
        return Region(self.rule, self.table, self.budget)

    def certificate(
        self,
        radius: np.ndarray,
        done: np.ndarray,
        right: np.ndarray | None = None,
        upper: np.ndarray | None = None,
        **more: Any,
    ) -> Certificate:
        """Return a certificate of proved radii, confirmed by the victim.

        Parameters
        ----------
        radius : ndarray of shape (n_samples,)
        done : ndarray of shape (n_samples,) of bool
            Which points were reached.
        right : ndarray of shape (n_samples,) of bool, default=None
            Which predictions are right. None asks the victim; where that takes long, and it is
            scikit-learn's or ours to the last part, about points without a radius and a sample of
            the others.
        upper : ndarray of shape (n_samples,), default=None
            Norms of perturbations that are known to succeed.
        **more : dict
            Of the certificate.

        Raises
        ------
        ValueError
            If the victim predicts anything else than what is proved.
        """
        if right is None and (self.target is not None or self.constant.any()):
            # a radius proves that the target is not predicted, not that the label is
            right = self.right()
        if right is not None:
            radius = np.where(self.constant & right, np.inf, radius)
        radius = self._within_arithmetic(radius)
        proved = np.where(done, radius, 0.0)
        if right is None:
            right = self._confirmed_right(proved)
        elif self.target is None:
            self._refuse((proved > 0) & ~right)
        self.region.check_maps(np.where(right, proved, 0.0))
        self._confirm_around(np.where(right, proved, 0.0))
        status = self._status(radius, right)
        status[~done] = "interrupted"
        radius = np.where(done & (status != "misclassified"), radius, 0.0)
        return Certificate(
            radius=_in_units(radius, -self.exponent, 0.0),
            status=status,
            norm=self.budget.norm,
            upper=None if upper is None else _in_units(upper, -self.exponent, np.inf),
            scale=np.ldexp(self.budget.scale, self.exponent),
            feature_names=self.rule.feature_names,
            target=None if self.target is None else self.rule.classes[self.target],
            **more,
        )

    def _status(self, radius: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the status of each point from its proved radius."""
        status = np.full(len(radius), "certified", dtype="<U13")
        status[np.isinf(radius)] = "unreachable"
        unproved = "numerical_tie" if self.rule.n_neighbors == 1 else "uncertified"
        status[radius == 0] = unproved
        status[~right] = "misclassified"
        return status

    def _within_arithmetic(self, radius: np.ndarray) -> np.ndarray:
        """Let a radius end where the victim overflows, unless no point may go as far."""
        if len(self.rule.classes) > 1:
            radius = np.minimum(radius, self.rule.reach(self.budget.scale, self.queries.unit))
        farthest = self.budget.farthest(self.queries.raw)
        return np.where((radius > 0) & (radius >= farthest), np.inf, radius)

    @cached_property
    def _known(self) -> bool:
        return is_exactly_known(self.estimator)

    def _sample(self, rows: np.ndarray, most: int) -> np.ndarray:
        """Return the rows to confirm: all, or some of a victim that is exactly known."""
        if len(rows) <= most or not self._known:
            return rows
        return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))

    def _confirmed_right(self, radius: np.ndarray) -> np.ndarray:
        """Return which points are right; raise where a point that is proved right is not."""
        if self.own:
            return self.right()
        proved = radius > 0
        most = max(_FEWEST, _ALL // len(self.rule.points))
        rows = np.union1d(np.flatnonzero(~proved), self._sample(np.flatnonzero(proved), most))
        right = proved.copy()
        if len(rows):
            X = self.table.given
            some = X if len(rows) == len(self.y) else safe_indexing(X, rows)
            right[rows] = self.predict(some) == self.y[rows]
        self._refuse(proved & ~right)
        return right

    def _confirm_around(self, radius: np.ndarray) -> None:
        """Raise where the victim changes a prediction within a proved radius."""
        rows = self._sample(np.flatnonzero(radius > 0), _FEWEST)
        if not len(rows):
            return
        rounds = 1 if self._known else _ROUNDS
        for deltas in self.region.samples(rows, self.labels[rows], radius, rounds):
            found = self.attack(rows, deltas)
            inside = self.budget.size(found.moved) <= radius[rows]
            refuse_difference(self.estimator, rows, found.success & inside, found.moved)

    def _refuse(self, wrong: np.ndarray) -> None:
        moved = np.zeros((len(wrong), 1))
        refuse_difference(self.estimator, np.arange(len(wrong)), wrong, moved)

    def attack(self, rows: np.ndarray, deltas: np.ndarray) -> AttackOutcome:
        """Perturb some points and ask the victim.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        deltas : ndarray of shape (n, n_features)
        """
        points, moved = self.region.move(rows, deltas)
        predicted = self.predict(points)
        if self.target is None:
            return AttackOutcome(predicted != self.y[rows], moved, predicted)
        return AttackOutcome(predicted == self.rule.classes[self.target], moved, predicted)


def _exponent(rule: NearestNeighborRule, scale: np.ndarray) -> int:
    """Return k with ``max_f s_f ‖A_f‖_∞`` about 2ᵏ, A_f the columns of the rule's matrix."""
    matrix = rule.matrix
    columns = np.ones(len(scale)) if matrix is None else np.abs(matrix).max(axis=0, initial=0)
    moving = (scale > 0) & (columns > 0)
    if not moving.any():
        moving, columns = scale > 0, np.ones(len(scale))
    if not moving.any():
        return 0
    return int(np.floor((np.log2(scale[moving]) + np.log2(columns[moving])).max()))


def _check_scale(scale: np.ndarray) -> None:
    """Raise where scales are too far apart to be held in one unit."""
    moving = scale[scale != 0]
    if len(moving) and not 1e-150 < moving.min() <= moving.max() < 1e150:
        raise ValueError(
            "feature_scale, with the steps of the estimator, must stay within 150 orders of "
            f"magnitude; got moves of {moving.min():.3g} to {moving.max():.3g} beside one of about "
            "1. Make the features comparable."
        )


def _in_units(radius: np.ndarray, exponent: int, toward: float) -> np.ndarray:
    """Return ``radius · 2^exponent``, rounded toward 0 or inf where that is not exact."""
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(radius, exponent)
        exact = np.ldexp(found, -exponent) == radius
    if toward == 0:  # a finite radius stays one
        found = np.where(np.isinf(found) & np.isfinite(radius), np.finfo(float).max, found)
    return np.where(exact | np.isinf(radius), found, np.nextafter(found, toward))


def model_or_l2(model: Any) -> ThreatModel:
    """Return the threat model of a certificate; None is ℓ₂ on all features."""
    if model is not None and not isinstance(model, ThreatModel):
        raise TypeError(f"threat_model must be a ThreatModel or None; got {model!r}.")
    return ThreatModel() if model is None else model


def _class_index(target: Any, classes: np.ndarray) -> int:
    found = np.flatnonzero(classes == target) if np.ndim(target) == 0 else np.empty(0, dtype=int)
    if len(found) != 1:
        raise ValueError(f"target must be one of the classes {classes.tolist()}; got {target!r}.")
    return int(found[0])
