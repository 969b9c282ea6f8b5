"""What is asked of a certificate: checked once, for every method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._torch import resolve_device
from skrobust.victims import EmbeddedQueries, NearestNeighborRule

__all__ = ["Request"]


@dataclass(frozen=True, eq=False)
class Request:
    """A victim, points with labels, and a threat model.

    Attributes
    ----------
    rule : NearestNeighborRule
    predict : callable
        The victim's own `predict`.
    X : array-like of shape (n_samples, n_features)
        As it was given.
    y : ndarray of shape (n_samples,)
    labels : ndarray of shape (n_samples,), int64
        `y` as indices into ``rule.classes``; -1 for a label that was not seen in fit.
    queries : EmbeddedQueries
    budget : FeatureBudget
    device : torch.device
    """

    rule: NearestNeighborRule
    predict: Callable[[Any], np.ndarray]
    X: Any
    y: np.ndarray
    labels: np.ndarray
    queries: EmbeddedQueries
    budget: FeatureBudget
    device: torch.device

    @classmethod
    def of(
        cls,
        rule: NearestNeighborRule,
        predict: Callable[[Any], np.ndarray],
        X: Any,
        y: Any,
        threat_model: ThreatModel | None,
        device: str,
    ) -> Self:
        """Check what was given; the errors name the parameter."""
        if rule.n_neighbors > len(rule.points):
            raise ValueError(
                f"n_neighbors={rule.n_neighbors} must be at most the number of training points, "
                f"{len(rule.points)}."
            )
        resolved = resolve_device(device)
        model = ThreatModel() if threat_model is None else threat_model
        if not isinstance(model, ThreatModel):
            raise TypeError(f"threat_model must be a ThreatModel or None; got {threat_model!r}.")
        budget = model.resolve(rule.n_features_in, rule.feature_names)
        y = column_or_1d(y)
        queries = rule.embed(X)
        budget.check_inside(queries.raw)
        check_consistent_length(queries.points, y)
        if (y.dtype.kind in "OUS") != (rule.classes.dtype.kind in "OUS"):
            raise ValueError(
                f"y has labels like {y[0]!r}, but the estimator was fitted on labels like "
                f"{rule.classes[0]!r}; both must be text, or both numbers."
            )
        found = np.searchsorted(rule.classes, y).clip(max=len(rule.classes) - 1)
        labels = np.where(rule.classes[found] == y, found, -1)
        return cls(rule, predict, X, y, labels, queries, budget, resolved)

    def status(self, radius: np.ndarray) -> np.ndarray:
        """Return the status of each point from its proved radius.

        A positive radius proves the prediction right; the victim is asked about the others.
        """
        status = np.full(len(radius), "certified", dtype="<U13")
        status[np.isinf(radius)] = "unreachable"
        rows = np.flatnonzero(radius == 0)
        if len(rows):
            right = self.predict(safe_indexing(self.X, rows)) == self.y[rows]
            tie = "numerical_tie" if self.rule.n_neighbors == 1 else "uncertified"
            status[rows] = np.where(right, tie, "misclassified")
        return status

    def perturb(self, rows: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Apply perturbations and ask the victim.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        deltas : ndarray of shape (n, n_features)

        Returns
        -------
        predicted : ndarray of shape (n,)
            What the victim predicts for the perturbed points.
        moved : ndarray of shape (n, n_features)
            How far they really moved, in the precision of X and inside the bounds.
        """
        raw = self.queries.raw[rows]
        points = np.clip(raw + deltas, self.budget.lower, self.budget.upper)
        if self.queries.unit > 2.0**-53:
            points = points.astype(np.float32)
        moved = np.where(deltas == 0, 0.0, points.astype(np.float64) - raw)
        # to the last bit: X + moved stays inside the bounds
        while (
            outside := (raw + moved < self.budget.lower) | (raw + moved > self.budget.upper)
        ).any():
            moved[outside] = np.nextafter(moved[outside], 0.0)
        given: Any = points
        if hasattr(self.X, "columns"):
            names = list(self.rule.feature_names if self.rule.feature_names is not None else [])
            key = "columns" if hasattr(self.X, "iloc") else "schema"
            given = type(self.X)(points, **{key: names or list(self.X.columns)})
        return self.predict(given), moved
