"""What an attack gets: a victim, some of its rows, budgets and random numbers."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from skrobust.adapters import (
    NearestNeighborRule,
    Scores,
    as_nearest_neighbor_rule,
    check_gradient,
    differentiable_scores,
)
from skrobust.numerics import project_ball
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import Table
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._torch import as_tensor, resolve_device
from skrobust.utils._validation import check_choice, check_one_eps

__all__ = [
    "AttackProblem",
    "Counts",
    "ScaledRows",
    "Victim",
    "checked_scores",
    "resolve_budget",
    "resolve_eps",
]


class Victim:
    """A fitted estimator, and the rows at which it is attacked.

    Parameters
    ----------
    estimator : fitted classifier or transformer
    table : Table
        The clean rows.
    y : ndarray of shape (n_samples,) or None
        Labels; of a classifier those that the adversary wants to change.
    threat_model : ThreatModel
    device : str
    """

    def __init__(
        self,
        estimator: Any,
        table: Table,
        y: np.ndarray | None,
        threat_model: ThreatModel,
        device: str = "cpu",
    ):
        self.estimator, self.table, self.y, self.device = estimator, table, y, device
        self.threat_model = threat_model

    def predict(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the labels of perturbed rows by the public `predict`."""
        return np.asarray(self.estimator.predict(self.table.rebuild(points, rows)))

    @cached_property
    def scores(self) -> Scores:
        """Differentiable scores; an error where none are known."""
        return checked_scores(self.estimator, self.table, self.device)

    @cached_property
    def rule(self) -> NearestNeighborRule:
        """The nearest-neighbour rule, folded once; an error where there is none."""
        return as_nearest_neighbor_rule(self.estimator)

    def __getstate__(self) -> dict[str, Any]:
        # functions with gradients are made again in another process
        return {name: kept for name, kept in self.__dict__.items() if name != "scores"}


@dataclass
class Counts:
    """Rows that a victim predicted, and rows whose gradient was computed."""

    n_queries: int = 0
    n_gradient_calls: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of a part of the work, wherever it was done."""
        self.n_queries += other.n_queries
        self.n_gradient_calls += other.n_gradient_calls


class ScaledRows(NamedTuple):
    """Rows as tensors, in units of the threat model: ``x = raw + scale ∘ η``.

    Attributes
    ----------
    raw : Tensor of shape (n, n_features)
    scale : Tensor of shape (n_features,)
    eps : Tensor of shape (n,)
    norm : float
    lower, upper : Tensor of shape (n, n_features) or None
        Ends of η's box; None where nothing is bounded.
    """

    raw: torch.Tensor
    scale: torch.Tensor
    eps: torch.Tensor
    norm: float
    lower: torch.Tensor | None = None
    upper: torch.Tensor | None = None

    def points(self, eta: torch.Tensor) -> torch.Tensor:
        """Return ``raw + scale ∘ η``, of the shape of `raw`.

        Parameters
        ----------
        eta : Tensor of shape (n, n_features)
        """
        return self.raw + self.scale * eta

    def project(self, eta: torch.Tensor) -> torch.Tensor:
        """Return the nearest η in the ball and the box, of the shape of `raw`.

        Parameters
        ----------
        eta : Tensor of shape (n, n_features)
        """
        return project_ball(eta, self.eps, self.norm, self.lower, self.upper)


@dataclass(eq=False, kw_only=True)
class AttackProblem:
    """Some rows to perturb; what :class:`BaseAttack` hands to an attack.

    Attributes
    ----------
    victim : Victim
    budget : FeatureBudget
    rows : ndarray of shape (n,)
        Positions in the victim's table; the last may be repeated to fill a batch.
    n_rows : int
        How many of them count: the others fill a batch.
    eps : ndarray of shape (n,)
        The budget of each row; inf for none.
    noise : RowNoise
        Random numbers of these rows.
    restart : int
        0 for the first try.
    counts : Counts
        Predictions and gradients so far.
    notes : dict
        Values for each row, for the diagnostics.
    raw : ndarray of shape (n, n_features)
        Clean rows; 0 in columns that are not numbers.
    y : ndarray of shape (n,)
        Labels to leave.
    scaled : ScaledRows
        The rows as tensors, for attacks by gradients.
    """

    victim: Victim
    budget: FeatureBudget
    rows: np.ndarray
    n_rows: int
    eps: np.ndarray
    noise: RowNoise
    restart: int = 0
    counts: Counts = field(default_factory=Counts)
    notes: dict[str, np.ndarray] = field(default_factory=dict, init=False)

    @cached_property
    def raw(self) -> np.ndarray:
        """Clean rows, shape (n, n_features); 0 where they are not finite numbers."""
        return self.victim.table.clean[self.rows]

    @cached_property
    def y(self) -> np.ndarray:
        """Labels to leave, shape (n,)."""
        return self.victim.y[self.rows]  # type: ignore[index]

    def take(self, which: np.ndarray) -> Self:
        """Return the problem of some of the rows, with counts of its own.

        Parameters
        ----------
        which : ndarray of int
        """
        return replace(
            self,
            rows=self.rows[which],
            n_rows=len(which),
            eps=self.eps[which],
            noise=self.noise.take(which),
            counts=Counts(),
        )

    def filled(self, size: int) -> Self:
        """Return the problem with its last row repeated, and the same counts.

        Parameters
        ----------
        size : int
            How many rows there are then.
        """
        n = len(self.rows)
        which = np.minimum(np.arange(max(n, size)), n - 1)
        return replace(self.take(which), n_rows=self.n_rows, counts=self.counts)

    def project(
        self, points: np.ndarray, eps: float = np.inf, which: Any = slice(None)
    ) -> np.ndarray:
        """Return points near these that satisfy the threat model with another budget.

        Parameters
        ----------
        points : ndarray of shape (n, n_features)
        eps : float, default=inf
        which : index, default=all
            The rows that the points belong to.
        """
        return self.budget.project(self.raw[which], points, eps, self.victim.table.single)

    def predict(self, points: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Return what the victim predicts for points.

        Parameters
        ----------
        points : ndarray of shape (n, n_features)
        which : index, default=all
            The rows that the points belong to.
        """
        rows = self.rows[which]
        # rows that fill a batch do not count
        self.counts.n_queries += len(rows) * self.n_rows // len(self.rows)
        return self.victim.predict(points, rows)

    def is_adversarial(self, points: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Return the mask of the points that the victim predicts as the adversary wants.

        Parameters
        ----------
        points : ndarray of shape (n, n_features)
        which : index, default=all
            The rows that the points belong to.
        """
        return self.predict(points, which) != self.y[which]

    def count_gradients(self) -> None:
        """Note that the gradient of each row was computed."""
        self.counts.n_gradient_calls += self.n_rows

    @cached_property
    def scaled(self) -> ScaledRows:
        """The rows as tensors, on the device and in the type of the victim's function."""
        return self._scaled(self.victim.scores.dtype, resolve_device(self.victim.device))

    def _scaled(self, dtype: torch.dtype, device: torch.device) -> ScaledRows:
        def tensor(array: np.ndarray) -> torch.Tensor:
            return as_tensor(np.ascontiguousarray(array), device, dtype)

        lower = upper = None
        if self.budget.bounded:
            lower, upper = (tensor(end) for end in self.budget.scaled_box(self.raw))
        raw, scale, eps = (tensor(array) for array in (self.raw, self.budget.scale, self.eps))
        return ScaledRows(raw, scale, eps, self.budget.norm, lower, upper)

    def points(self, eta: torch.Tensor) -> np.ndarray:
        """Return ``raw + scale ∘ η`` as an array.

        Parameters
        ----------
        eta : Tensor of shape (n, n_features)
        """
        moved = eta.detach().double().cpu().numpy() * self.budget.scale
        return np.where(moved == 0, self.raw, self.raw + moved)

    def random_points(self, distribution: str, stream: int, which: Any = slice(None)) -> np.ndarray:
        """Return rows moved at random, all by the first row's budget.

        Parameters
        ----------
        distribution : {"uniform", "gaussian", "surface"}
            Evenly over the ball; normal numbers, scaled to the budget; the same, but random signs
            in ℓ∞.
        stream : int
            Another one for each draw.
        which : index, default=all
            Which rows.
        """
        check_choice(distribution, ("uniform", "gaussian", "surface"), name="distribution")
        if not np.isfinite(self.eps[0]):
            raise ValueError("random_points needs a budget; problem.eps is inf.")
        noise, budget = self.noise.take(which), self.budget
        movable = budget.scale > 0
        d, norm = int(movable.sum()), budget.norm
        if distribution == "uniform":
            eta = noise.in_ball(d, norm, stream)
        elif distribution == "surface" and norm == np.inf:
            eta = np.where(noise.uniform(d, stream) < 0.5, -1.0, 1.0)
        else:
            eta = noise.normal(d, stream)
            eta /= np.maximum(np.linalg.norm(eta, ord=norm, axis=1, keepdims=True), 1e-300)
        points = self.raw[which].copy()
        points[:, movable] += float(self.eps[0]) * budget.scale[movable] * eta
        return points


def checked_scores(estimator: Any, X: Any, device: str = "cpu") -> Scores:
    """Return differentiable scores of a classifier, tried on the first row of X.

    Parameters
    ----------
    estimator : fitted classifier
    X : array-like or data frame of shape (n_samples, ...)
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".

    Returns
    -------
    Scores
        For rows of the shape of those of X.

    Raises
    ------
    NotDifferentiableError
        If no gradients are known, or torch has none.
    """
    place, table = resolve_device(device), read_table(X, estimator)
    scores = differentiable_scores(estimator).with_shape(table.row_shape).to(place)
    check_gradient(scores, as_tensor(table.clean[:1], place, scores.dtype), estimator)
    return scores


def resolve_eps(threat_model: ThreatModel, budget: FeatureBudget, table: Table) -> float:
    """Return the `eps` of a threat model, or the default one for the rows of a table.

    Parameters
    ----------
    threat_model : ThreatModel
    budget : FeatureBudget
        What the threat model is for the features of the table.
    table : Table

    Raises
    ------
    ValueError
        If `eps` is not as described, or None where no feature that can change varies.
    """
    if threat_model.eps is None:
        return budget.default_eps(table.spread)
    return check_one_eps(threat_model.eps)


def resolve_budget(threat_model: ThreatModel, X: Any, estimator: Any = None) -> FeatureBudget:
    """Resolve a threat model for the columns of X, as attacks do.

    Columns that are not numbers do not move, nor those that the estimator drops; those of True
    and False stay so.

    Parameters
    ----------
    threat_model : ThreatModel
    X : array-like or data frame of shape (n_samples, ...)
    estimator : fitted estimator, default=None
        What X is for; its features are those of the result.

    Returns
    -------
    FeatureBudget
    """
    table = read_table(X, estimator)
    return threat_model.resolve_for(table).with_binary(table.binary & table.numeric)
