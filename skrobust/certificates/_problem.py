r"""What is to be certified, checked once for every method, and what confirms a proof.

A certificate follows from what is known of a victim: steps that are affine maps, a rule. Both are
compared with what its steps and its `predict` do where it matters, across the certified regions:

- each step gets, for each of its inputs, the largest and the smallest value that any certified
  perturbation reaches: what clips, saturates or wraps around shows there;
- `predict` gets points moved by up to their radius, at random and towards other classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.certificates._result import Certificate
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._floating_point import round_inside
from skrobust.utils._frames import Table
from skrobust.utils._guard import is_exactly_known
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_labels

__all__ = [
    "AttackOutcome",
    "CertificationProblem",
    "Region",
    "refuse_difference",
]

# how a victim is confirmed that is scikit-learn's or ours to the last part: predictions times
# training points up to which every point is predicted, points that are predicted in any case
_ALL, _FEWEST = 4_000_000, 64
_ROUNDS = 4  # perturbations of each point of any other victim
_SIZES = np.array([1 - 1e-6, 0.5])  # shares of the radius at which a victim is confirmed
_FAR = 1e6  # sizes of X, beyond which no infinite radius is tried


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


@dataclass(frozen=True, eq=False)
class Region:
    """Perturbed points as a victim gets them.

    Attributes
    ----------
    rule : NearestNeighborRule
    table : Table
        Clean points, in the container in which they were given.
    budget : FeatureBudget
    """

    rule: NearestNeighborRule
    table: Table
    budget: FeatureBudget

    @property
    def raw(self) -> np.ndarray:
        """Clean points, of shape (n_samples, n_features)."""
        return self.table.clean

    def move(self, rows: np.ndarray, deltas: np.ndarray) -> tuple[Any, np.ndarray]:
        """Perturb some points.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        deltas : ndarray of shape (n, n_features)

        Returns
        -------
        points : array-like of shape (n, ...)
            In the container of X, in its precision and inside the bounds.
        moved : ndarray of shape (n, n_features)
            How far they really moved.
        """
        raw = self.raw[rows]
        lower, upper = self.budget.box(raw)
        points = np.clip(raw + deltas, lower, upper)
        points = np.where(deltas == 0, raw, round_inside(points, lower, upper, self.table.single))
        moved = points - raw
        # to the last bit: X + moved stays inside the bounds
        for _ in range(4):
            outside = (raw + moved < lower) | (raw + moved > upper)
            moved[outside] = np.nextafter(moved[outside], 0.0)
        return self.table.rebuild(points, rows), moved

    def check_maps(self, radius: np.ndarray) -> None:
        """Raise a NotAffineError where a step is not its map at the ends of what is certified.

        Parameters
        ----------
        radius : ndarray of shape (n_samples,)
        """
        rows = np.flatnonzero(radius > 0)
        if not self.rule.steps or not len(rows):
            return
        radius = self._finite(radius)[rows]
        matrix = np.eye(self.raw.shape[1])
        for step in self.rule.maps:
            gains, directions = self._steepest(matrix)
            values, reach = self.raw[rows] @ matrix.T, np.outer(radius, gains)
            at = np.r_[(values + reach).argmax(axis=0), (values - reach).argmin(axis=0)]
            deltas = radius[at, None] * np.r_[directions, -directions]
            self.rule.embed(self.move(rows[at], deltas)[0])
            matrix = step.matrix @ matrix

    def samples(
        self, rows: np.ndarray, labels: np.ndarray, radius: np.ndarray, rounds: int
    ) -> Iterator[np.ndarray]:
        """Yield perturbations, of shape (n, n_features), of up to the rows' radii.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        labels : ndarray of shape (n,)
            Class indices of the rows.
        radius : ndarray of shape (n_samples,)
        rounds : int
            How many of each row.
        """
        rng = np.random.default_rng(0)
        radius = self._finite(radius)[rows]
        for k in range(rounds):
            turn = np.arange(len(rows)) + k
            toward = rng.standard_normal((len(rows), self.raw.shape[1]))
            others = turn % 2 == 0
            if others.any():
                toward[others] = self._to_others(rows[others], labels[others], rng, toward[others])
            toward[:, self.budget.scale == 0] = 0
            size = self.budget.size(toward)
            share = _SIZES[turn // 2 % 2] * radius / np.where(size > 0, size, np.inf)
            yield share[:, None] * toward

    def _to_others(
        self, rows: np.ndarray, labels: np.ndarray, rng: Any, otherwise: np.ndarray
    ) -> np.ndarray:
        """Return directions in which random training points of other classes come nearer."""
        chosen = rng.integers(len(self.rule.points), size=(4, len(rows)))
        other = self.rule.labels[chosen] != labels
        any_other = other.any(axis=0)
        points = self.rule.points[chosen[other.argmax(axis=0), np.arange(len(rows))]]
        matrix = self.rule.matrix
        if matrix is None:
            return np.where(any_other[:, None], points - self.raw[rows], otherwise)
        nearer = (points - self.rule.embed(self.move(rows, 0 * otherwise)[0]).points) @ matrix
        return np.where(any_other[:, None], nearer, otherwise)

    def _finite(self, radius: np.ndarray) -> np.ndarray:
        """Return the radii, those that are infinite or out of all proportion cut off."""
        largest = _FAR * (1 + np.abs(self.raw).max(initial=0))
        return np.minimum(radius, largest / max(self.budget.scale.max(initial=0), 1e-100))

    def _steepest(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how much a unit of budget moves each output, and the perturbations that do."""
        scale, p = self.budget.scale, self.budget.norm
        slopes = matrix * scale
        gains = np.linalg.norm(slopes, ord=self.budget.dual, axis=1)
        if p == np.inf:
            directions = np.sign(slopes)
        elif p == 2:
            directions = slopes / np.where(gains > 0, gains, 1)[:, None]
        else:
            steepest = np.abs(slopes).argmax(axis=1)[:, None]
            directions = np.zeros_like(slopes)
            signs = np.sign(np.take_along_axis(slopes, steepest, axis=1))
            np.put_along_axis(directions, steepest, signs, axis=1)
        return gains, directions * scale


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
    from_predictions : bool
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
    from_predictions: bool
    labels: np.ndarray
    queries: EmbeddedQueries
    budget: FeatureBudget
    device: torch.device
    target: int | None = None
    exponent: int = 0

    @classmethod
    def of(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        threat_model: ThreatModel | None = None,
        device: str = "cpu",
        target: Any = None,
        rule: NearestNeighborRule | None = None,
    ) -> Self:
        """Fold the estimator, unless its rule is known, and check the points.

        Parameters
        ----------
        estimator : fitted classifier
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or None
            None for what the estimator predicts.
        threat_model : ThreatModel, default=None
            None is ℓ₂ on all features.
        device : str, default="cpu"
        target : label, default=None
        rule : NearestNeighborRule, default=None
            What the estimator folds into; None folds it.

        Raises
        ------
        TypeError, ValueError
            If the estimator is no nearest-neighbour rule, or a parameter is not supported.
        """
        if rule is None:
            rule = as_nearest_neighbor_rule(estimator)
        # read once, as numbers and as the victim's embeddings
        table = rule.read(X)
        budget = ThreatModel.of(threat_model).resolve_for(table, whole_groups=True)
        queries, from_predictions = rule.embed(table), y is None
        y = column_or_1d(estimator.predict(X) if from_predictions else y)
        budget.check_inside(queries.raw)
        check_consistent_length(queries.points, y)
        check_labels(y, rule.classes)
        # labels and the target as indices into the rule's classes
        place = np.searchsorted(rule.classes, y).clip(max=len(rule.classes) - 1)
        labels = np.where(rule.classes[place] == y, place, -1)
        wanted = None if target is None else _target_class(target, rule.classes, labels)
        # a unit of the norm that moves the embedding by about 1, whatever the units of X
        exponent = _exponent(rule, budget.scale)
        with np.errstate(over="ignore"):
            budget = replace(budget, scale=np.ldexp(budget.scale, -exponent))
        _check_scale(budget.scale)
        return cls(
            rule=rule,
            estimator=estimator,
            table=table,
            y=y,
            from_predictions=from_predictions,
            labels=labels,
            queries=queries,
            budget=budget,
            device=resolve_device(device),
            target=wanted,
            exponent=exponent,
        )

    @cached_property
    def constant(self) -> np.ndarray:
        """Mask of points whose prediction nothing changes: they do not move, or all vote."""
        lower, upper = self.budget.box(self.queries.raw)
        moves = ((self.budget.scale > 0) & ~self.rule.ignored & (lower < upper)).any(axis=1)
        return np.asarray(~moves | (self.rule.n_neighbors == len(self.rule.points)))

    @cached_property
    def limit(self) -> float:
        """The norm up to which the victim's arithmetic does not overflow."""
        return self.rule.reach(self.budget.scale, self.queries.unit)

    def predict(self, X: Any) -> np.ndarray:
        """Predict by the victim itself."""
        return self.estimator.predict(X)

    def right(self) -> np.ndarray:
        """Return the mask of points that the victim predicts right."""
        if self.from_predictions:  # in another batch it may decide a tie otherwise
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
            Which predictions are right. None predicts them; where that takes long, and the victim
            is scikit-learn's or ours to the last part, points without a radius and a sample of the
            others.
        upper : ndarray of shape (n_samples,), default=None
            Norms of perturbations that are known to succeed.
        **more : dict
            Further attributes of the certificate.

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
        # confirm: the clean points, the steps at the ends of the regions, points inside of them
        proved = np.where(done, radius, 0.0)
        if right is None:
            right = self._confirmed_right(proved)
        elif self.target is None:
            self._refuse((proved > 0) & ~right)
        proved = np.where(right, proved, 0.0)
        self.region.check_maps(proved)
        self._confirm_around(proved)
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
            radius = np.minimum(radius, self.limit)
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
        if self.from_predictions:
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
            outcome = self.attack(rows, deltas)
            inside = self.budget.size(outcome.moved) <= radius[rows]
            refuse_difference(self.estimator, rows, outcome.success & inside, outcome.moved)

    def _refuse(self, wrong: np.ndarray) -> None:
        moved = np.zeros((len(wrong), 1))
        refuse_difference(self.estimator, np.arange(len(wrong)), wrong, moved)

    def attack(self, rows: np.ndarray, deltas: np.ndarray) -> AttackOutcome:
        """Perturb some points, and predict them by the victim.

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


def refuse_difference(
    estimator: Any, rows: np.ndarray, wrong: np.ndarray, moved: np.ndarray
) -> None:
    """Raise a ValueError where a victim predicts otherwise than what is proved of it.

    A proof allows for rounding, so that one difference is enough: the proof is of something else.

    Parameters
    ----------
    estimator : object
        The victim.
    rows : ndarray of shape (n,)
    wrong : ndarray of shape (n,) of bool
        Where it predicts otherwise.
    moved : ndarray of shape (n, n_features)
        How far the points were moved.
    """
    if not wrong.any():
        return
    k = int(np.flatnonzero(wrong)[0])
    where = "moved inside its certified region" if moved[k].any() else "as it is"
    raise ValueError(
        f"{type(estimator).__name__} does not predict what is proved of the nearest-neighbour rule "
        f"that it is known as: row {rows[k]}, {where}; {int(wrong.sum())} rows differ. Nothing is "
        "certified. Either a part of it predicts or transforms in its own way, or was changed "
        "after fit; or all of it is scikit-learn's and as it was fitted: then the proof is wrong, "
        "please report it."
    )


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
        scaled = np.ldexp(radius, exponent)
        exact = np.ldexp(scaled, -exponent) == radius
    if toward == 0:  # a finite radius stays one
        scaled = np.where(np.isinf(scaled) & np.isfinite(radius), np.finfo(float).max, scaled)
    return np.where(exact | np.isinf(radius), scaled, np.nextafter(scaled, toward))


def _target_class(target: Any, classes: np.ndarray, labels: np.ndarray) -> int:
    """Return the index of the class that an adversary wants, of no point to certify."""
    place = np.flatnonzero(classes == target) if np.ndim(target) == 0 else np.empty(0, dtype=int)
    if len(place) != 1:
        raise ValueError(f"target must be one of the classes {classes.tolist()}; got {target!r}.")
    if (labels == place[0]).any():
        row = int(np.flatnonzero(labels == place[0])[0])
        raise ValueError(
            f"target={target!r} must not be the label of a point to certify; y[{row}] is."
        )
    return int(place[0])
