"""What is asked of a certificate: checked once, for every method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.certificates._result import Certificate
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.threat_model._budget import stored_inside
from skrobust.threat_model._model import resolve_table
from skrobust.utils._frames import Table
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_labels
from skrobust.victims import EmbeddedQueries, NearestNeighborRule

__all__ = ["Attack", "Attempt", "Request", "model_or_l2"]


@dataclass(frozen=True, eq=False)
class Attempt:
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


Attack = Callable[[np.ndarray, np.ndarray], Attempt]


@dataclass(frozen=True, eq=False)
class Request:
    """A victim, points with labels, and a threat model.

    Attributes
    ----------
    rule : NearestNeighborRule
    predict : callable
        The victim's own `predict`.
    table : Table
        The points, in the container in which they were given.
    y : ndarray of shape (n_samples,)
    labels : ndarray of shape (n_samples,), int64
        `y` as indices into ``rule.classes``; -1 for a label that was not seen in fit.
    queries : EmbeddedQueries
    budget : FeatureBudget
    device : torch.device
    target : int or None
        Index of the class that the adversary wants; None for any change.
    """

    rule: NearestNeighborRule
    predict: Callable[[Any], np.ndarray]
    table: Table
    y: np.ndarray
    labels: np.ndarray
    queries: EmbeddedQueries
    budget: FeatureBudget
    device: torch.device
    target: int | None = None

    @classmethod
    def of(
        cls,
        rule: NearestNeighborRule,
        predict: Callable[[Any], np.ndarray],
        X: Any,
        y: Any,
        threat_model: ThreatModel | None,
        device: str,
        target: Any = None,
    ) -> Self:
        """Check what was given; the errors name the parameter."""
        if rule.n_neighbors > len(rule.points):
            raise ValueError(
                f"n_neighbors={rule.n_neighbors} must be at most the number of training points, "
                f"{len(rule.points)}."
            )
        resolved = resolve_device(device)
        y = column_or_1d(y)
        table = rule.read(X)
        budget = resolve_table(model_or_l2(threat_model), table)
        queries = rule.embed(table)
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
        return cls(rule, predict, table, y, labels, queries, budget, resolved, wanted)

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
        moves = ((self.budget.scale > 0) & (lower < upper)).any(axis=1)
        return np.asarray(~moves | (self.rule.n_neighbors == len(self.rule.points)))

    def right(self) -> np.ndarray:
        """Return the mask of points that the victim predicts right."""
        return np.asarray(self.predict(self.table.given) == self.y)

    def status(self, radius: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
        """Return the status of each point from its proved radius.

        Parameters
        ----------
        radius : ndarray of shape (n_samples,)
        right : ndarray of shape (n_samples,) of bool, default=None
            Which predictions are right. None: a positive radius proves it, the victim is
            asked about the others.
        """
        status = np.full(len(radius), "certified", dtype="<U13")
        status[np.isinf(radius)] = "unreachable"
        rows = np.flatnonzero(radius == 0)
        if right is None:
            right = radius > 0
            if len(rows):
                right[rows] = self.predict(safe_indexing(self.table.given, rows)) == self.y[rows]
        status[rows] = "numerical_tie" if self.rule.n_neighbors == 1 else "uncertified"
        status[~right] = "misclassified"
        return status

    def certificate(
        self, radius: np.ndarray, done: np.ndarray, right: np.ndarray | None = None, **more: Any
    ) -> Certificate:
        """Return a certificate of proved radii; `done` masks the points that were reached."""
        if right is None and (self.target is not None or self.constant.any()):
            # a radius proves that the target is not predicted, not that the label is
            right = self.right()
        if right is not None:
            radius = np.where(self.constant & right, np.inf, radius)
        status = self.status(radius, right)
        status[~done] = "interrupted"
        return Certificate(
            radius=np.where(done & (status != "misclassified"), radius, 0.0),
            status=status,
            norm=self.budget.norm,
            scale=self.budget.scale,
            feature_names=self.rule.feature_names,
            target=None if self.target is None else self.rule.classes[self.target],
            **more,
        )

    def attack(self, rows: np.ndarray, deltas: np.ndarray) -> Attempt:
        """Perturb some points and ask the victim.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        deltas : ndarray of shape (n, n_features)
        """
        raw = self.queries.raw[rows]
        lower, upper = self.budget.box(raw)
        points = np.clip(raw + deltas, lower, upper)
        points = np.where(deltas == 0, raw, stored_inside(points, lower, upper, self.table.single))
        moved = points - raw
        # to the last bit: X + moved stays inside the bounds
        for _ in range(4):
            outside = (raw + moved < lower) | (raw + moved > upper)
            moved[outside] = np.nextafter(moved[outside], 0.0)
        predicted = self.predict(self.table.rebuild(points, rows))
        if self.target is None:
            return Attempt(predicted != self.y[rows], moved, predicted)
        return Attempt(predicted == self.rule.classes[self.target], moved, predicted)


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
