"""What an attack is given: a victim that counts, and some rows to perturb."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from skrobust.adapters import Scores, check_gradient, differentiable_scores
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._frames import Table
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._torch import as_tensor, resolve_device

__all__ = ["AttackProblem", "ScaledRows", "Victim", "scores_for"]


class Victim:
    """A fitted classifier, the rows that are attacked, and counts of what it was asked.

    Parameters
    ----------
    estimator : fitted classifier
    table : Table
        The clean rows.
    y : ndarray of shape (n_samples,)
        Labels that the adversary wants to see no more.
    threat_model : ThreatModel
    device : str
    """

    def __init__(
        self,
        estimator: Any,
        table: Table,
        y: np.ndarray,
        threat_model: ThreatModel,
        device: str = "cpu",
    ):
        self.estimator, self.table, self.y, self.device = estimator, table, y, device
        self.threat_model = threat_model
        self.n_queries = self.n_gradient_calls = 0

    def predict(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the labels of perturbed rows by the public `predict`."""
        self.n_queries += len(rows)
        return np.asarray(self.estimator.predict(self.table.rebuild(points, rows)))

    @cached_property
    def scores(self) -> Scores:
        """Differentiable scores; an error where none are known."""
        return scores_for(self.estimator, self.table, self.device)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("scores", None)  # made again in another process
        return state


def scores_for(estimator: Any, table: Table, device: str = "cpu") -> Scores:
    """Return differentiable scores of the rows of a table, tried on the first one.

    Parameters
    ----------
    estimator : fitted classifier
    table : Table
    device : str, default="cpu"

    Raises
    ------
    NotDifferentiableError
        If no gradients are known, or torch finds none.
    """
    place = resolve_device(device)
    found = differentiable_scores(estimator).with_shape(table.row_shape).to(place)
    first = as_tensor(table.clean[:1], place, found.dtype)
    check_gradient(found, first, estimator)
    return found


class ScaledRows(NamedTuple):
    """Rows as tensors, in units of the threat model: ``x = raw + scale ∘ η``.

    Attributes
    ----------
    raw : Tensor of shape (n, n_features)
    scale : Tensor of shape (n_features,)
    eps : Tensor of shape (n,)
    lower, upper : Tensor of shape (n, n_features) or None
        Ends of η's box; None where nothing is bounded.
    labels : Tensor of shape (n,)
        Columns of the scores.
    """

    raw: torch.Tensor
    scale: torch.Tensor
    eps: torch.Tensor
    lower: torch.Tensor | None
    upper: torch.Tensor | None
    labels: torch.Tensor


@dataclass(eq=False)
class AttackProblem:
    """Some rows to perturb; what :class:`BaseAttack` hands to an attack.

    Attributes
    ----------
    victim : Victim
    budget : FeatureBudget
    rows : ndarray of shape (n,)
        Positions in the victim's table; the last may be repeated to fill a batch.
    n_rows : int
        How many are meant.
    eps : ndarray of shape (n,)
        The budget of each row; inf for none.
    noise : RowNoise
        Random numbers of these rows.
    restart : int
        0 for the first try.
    notes : dict
        What is told of each row, for the diagnostics.
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
    notes: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def raw(self) -> np.ndarray:
        """Clean rows, shape (n, n_features); 0 where they are not finite numbers."""
        return self.victim.table.clean[self.rows]

    @cached_property
    def y(self) -> np.ndarray:
        """Labels to leave, shape (n,)."""
        return self.victim.y[self.rows]

    def project(self, points: np.ndarray, eps: float = np.inf) -> np.ndarray:
        """Return points near these that satisfy the threat model with another budget.

        Parameters
        ----------
        points : ndarray of shape (n, n_features)
        eps : float, default=inf
        """
        return self.budget.project(self.raw, points, eps, self.victim.table.single)

    def is_adversarial(self, points: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Return the mask of the points that the victim predicts as the adversary wants.

        Parameters
        ----------
        points : ndarray of shape (n, n_features)
        which : index, default=all
            The rows that the points belong to.
        """
        return self.predict(points, which) != self.victim.y[self.rows[which]]

    def predict(self, points: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Return what the victim predicts; arguments as of :meth:`is_adversarial`."""
        rows = self.rows[which]
        before = self.victim.n_queries
        found = self.victim.predict(points, rows)
        # rows that fill a batch are not asked for
        self.victim.n_queries = before + len(rows) * self.n_rows // len(self.rows)
        return found

    def count_gradients(self, times: int = 1) -> None:
        """Note that the gradient of each row was computed."""
        self.victim.n_gradient_calls += times * self.n_rows

    @cached_property
    def scaled(self) -> ScaledRows:
        """The rows as tensors of the scores' type, on their device."""
        scores, device = self.victim.scores, resolve_device(self.victim.device)
        positions = {label: k for k, label in enumerate(scores.classes.tolist())}
        labels = [positions.get(label, 0) for label in self.y.tolist()]

        def tensor(array: np.ndarray) -> torch.Tensor:
            return as_tensor(np.ascontiguousarray(array), device, scores.dtype)

        lower = upper = None
        if self.budget.bounded:
            lower, upper = (tensor(end) for end in self.budget.scaled_box(self.raw))
        return ScaledRows(
            tensor(self.raw),
            tensor(self.budget.scale),
            tensor(self.eps),
            lower,
            upper,
            torch.as_tensor(labels, device=device),
        )

    def points(self, eta: torch.Tensor) -> np.ndarray:
        """Return ``raw + scale ∘ η`` as an array.

        Parameters
        ----------
        eta : Tensor of shape (n, n_features)
        """
        moved = eta.detach().double().cpu().numpy() * self.budget.scale
        return np.where(moved == 0, self.raw, self.raw + moved)
