"""Training points as a certificate needs them: on the device, sorted by class, centred."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import as_tensor

__all__ = ["TrainingSet"]

_FLOAT64_LIMIT = 5e9  # products n·m·d up to which everything runs in float64
_UNDERFLOW = 1e-150  # of a norm whose squares are below the normal range


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A rule's training points under a threat model.

    With δ = s ∘ η, moving x by δ changes ``D_i − D_j`` by ``2 (v_j − v_i)·η``, where
    ``v = s ∘ Aᵀ z`` over the mutable features; so denominators are ``‖v_i − v_j‖_q``.

    Attributes
    ----------
    Z : Tensor of shape (n_train, n_components)
        Centred points in the space of distances, in the precision of the search.
    V : Tensor of shape (n_train, n_directions)
        The points' images v; for ℓ₂ in an orthonormal basis of their span.
    Z64 : Tensor of shape (n_train, n_components), float64
        The points as they are, **not** centred: their differences are exact up to one rounding.
    V64 : Tensor of shape (n_train, n_directions), float64
        Images to take differences of; `Z64` itself where v = z.
    basis : ndarray of shape (n_mutable, n_directions) or None
        Orthonormal columns: η = basis @ (coordinates in V's space). None is the identity.
    magnitudes : Tensor of shape (n_train,), float64
        What the rounding of the victim's distances scales with.
    center : Tensor of shape (n_components,), float64
    bounds : list of (first, last)
        The rows of each class.
    V_error : float
        Bound on the error of ``‖v_i − v_j‖_q`` from computing V.
    labels : ndarray of shape (n_train,)
        Class indices, ascending.
    stretch : float
        The victim's magnitudes grow by at most this much a unit of ``‖η‖_p``.
    error : float
        E of the embedding grows by at most this much a unit of ``‖η‖_p``.
    reach : float
        z moves by at most this much a unit of ``‖η‖_p``.
    budget : FeatureBudget
    """

    Z: torch.Tensor
    V: torch.Tensor
    Z64: torch.Tensor
    V64: torch.Tensor
    basis: np.ndarray | None
    magnitudes: torch.Tensor
    center: torch.Tensor
    bounds: list[tuple[int, int]]
    V_error: float
    labels: np.ndarray
    stretch: float
    error: float
    reach: float
    budget: FeatureBudget

    @cached_property
    def squared_Z(self) -> torch.Tensor:
        """‖z‖² of each row of Z."""
        return (self.Z * self.Z).sum(1)

    @cached_property
    def squared_V(self) -> torch.Tensor:
        """‖v‖₂² of each row of V."""
        return (self.V * self.V).sum(1)

    @cached_property
    def size_Z(self) -> float:
        """The largest ‖z‖ of a centred training point."""
        return float(self.squared_Z.max().sqrt()) * (1 + 16 * torch.finfo(self.Z.dtype).eps)

    @cached_property
    def size_V(self) -> float:
        """The largest ‖v‖_q."""
        return float(torch.linalg.vector_norm(self.V, ord=self.budget.dual, dim=1).max())

    @classmethod
    def of(
        cls,
        rule: NearestNeighborRule,
        budget: FeatureBudget,
        queries: EmbeddedQueries,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> Self:
        """Prepare the training points of `rule`.

        Parameters
        ----------
        rule : NearestNeighborRule
        budget : FeatureBudget
            For the rule's raw features.
        queries : EmbeddedQueries
            What will be certified. Their number decides the precision of the search.
        device : torch.device
        dtype : torch.dtype or None
            Precision of the search; None takes float64 for small problems, else float32.
        """
        order = np.argsort(rule.labels, kind="stable")
        raw = rule.points[order]
        center = raw.mean(axis=0)
        points = raw - center
        ends = np.cumsum(np.bincount(rule.labels, minlength=len(rule.classes))).tolist()
        images, basis, error = _images(rule, budget, points)
        if dtype is None:
            n_products = len(queries.points) * len(points)
            work = n_products * (max(points.shape[1], images.shape[1]) + 32.0)
            dtype = torch.float64 if work <= _FLOAT64_LIMIT else torch.float32
        largest = float(np.abs(points).max(initial=0)), float(np.abs(images).max(initial=0))
        if dtype == torch.float32 and not (min(largest) > 1e-12 and max(largest) < 1e12):
            dtype = torch.float64  # squares would leave the range of float32
        Z64 = as_tensor(raw, device)
        V64 = Z64 if images is points else as_tensor(images, device)
        Z = as_tensor(points, device).to(dtype)
        return cls(
            Z=Z,
            V=Z if images is points else V64.to(dtype),
            Z64=Z64,
            V64=V64,
            basis=basis,
            magnitudes=as_tensor(rule.magnitudes[order], device),
            center=as_tensor(center, device),
            bounds=list(zip([0, *ends[:-1]], ends, strict=True)),
            V_error=error,
            labels=rule.labels[order],
            error=rule.movement_error(budget.scale, budget.dual, queries.unit),
            reach=_reach(rule.matrix, budget),
            stretch=rule.stretch(budget.scale) * _euclidean(budget),
            budget=budget,
        )


def _euclidean(budget: FeatureBudget) -> float:
    """Return the largest ‖η‖₂ with ‖η‖_p ≤ 1."""
    return float(np.sqrt((budget.scale > 0).sum())) if budget.norm == np.inf else 1.0


def _reach(matrix: np.ndarray | None, budget: FeatureBudget) -> float:
    """Return a bound on ‖A (s ∘ η)‖₂ with ‖η‖_p ≤ 1."""
    lengths = budget.scale
    if matrix is not None:
        lengths = lengths * np.linalg.norm(matrix, axis=0)
    if budget.norm == np.inf:
        largest = float(np.sqrt((lengths**2).sum()) if matrix is None else lengths.sum())
    elif budget.norm == 2 and matrix is not None:
        largest = float(np.linalg.norm(matrix * budget.scale, 2))
    else:
        largest = float(lengths.max(initial=0.0))
    return largest * (1 + 1e-9)


def _images(
    rule: NearestNeighborRule, budget: FeatureBudget, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Return V from centred points, its basis and the error of a distance in it."""
    matrix, scale = rule.matrix, budget.scale
    if matrix is None and (scale == 1).all():
        return points, None, _UNDERFLOW
    movable = scale > 0
    if matrix is None:
        matrix = np.eye(len(scale))
    matrix = matrix[:, movable] * scale[movable]
    basis = None
    if budget.norm == 2 and not budget.bounded and matrix.shape[0] <= matrix.shape[1]:
        basis, triangle = np.linalg.qr(matrix.T)  # ‖Aᵀ y‖₂ = ‖R y‖₂
        matrix = np.asarray(triangle).T
    largest = np.linalg.norm(points, axis=1).max(initial=0)
    growth = 10 * (sum(matrix.shape) + 16) * 2.0**-53
    error = growth * np.linalg.norm(matrix) * 2 * largest
    if budget.dual == 1:
        error *= np.sqrt(matrix.shape[1])
    return points @ matrix, basis, float(error) + _UNDERFLOW
