r"""Training points under a threat model, and what the victim's rounding may shift.

A perturbation is δ = s ∘ η, with the budget's scales s and ‖η‖_p as its norm. It moves the squared
distance D_u of x to the training point u, up to a term that all points share, by ``−2 v_u·η``,

    v = s ∘ Aᵀ z    over the mutable features.

The victim rounds. It may find u among the nearest and w not, although w is nearer, only if

    D_u − D_w ≤ τ,   τ = c (m + m_u)² + c (m + m_w)² + c′ (…)² + 4 E ‖z_u − z_w‖ + γ (D_u + D_w)
                         + e (√D_u + √D_w) + ω

anywhere in the ball of a given radius around x (see ``adapters._rule`` for c, c′ and E; γ is the
rounding of our own float64 distances, ω what squares lose below the normal range). e is what a
ball tree may err in the distance from x to a ball: a share of ‖x − center‖ + radius ≤
‖x − m‖ + 3 R, with m the mean of all training points and R the distance of the farthest from it.
Proofs relax every comparison by τ, and so hold for the victim's own `predict`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import as_tensor, to_numpy

__all__ = ["Movement", "Rounding", "SearchPoints", "TrainingSet", "round_down"]

_FLOAT64_LIMIT = 5e9  # products n·m·d up to which everything runs in float64
_UNDERFLOW = 1e-150  # of a norm whose squares are below the normal range


def round_down(radius: np.ndarray) -> np.ndarray:
    """Round finite positive radii down: strictly below the infimum."""
    return np.where(np.isfinite(radius) & (radius > 0), np.nextafter(radius, 0), radius)


@dataclass(frozen=True, eq=False)
class SearchPoints:
    """Centred training points in the precision of the search.

    Attributes
    ----------
    Z : Tensor of shape (n_train, n_components)
        Points in the space of distances.
    V : Tensor of shape (n_train, n_directions)
        Their images v, as in `TrainingSet`.
    V_error : float
        Bound on the error of ``‖v_i − v_j‖_q`` from computing V.
    dual : float
        q.
    """

    Z: torch.Tensor
    V: torch.Tensor
    V_error: float
    dual: float

    @property
    def unit(self) -> float:
        """Unit roundoff."""
        return torch.finfo(self.Z.dtype).eps / 2

    @cached_property
    def squared_Z(self) -> torch.Tensor:
        """‖z‖² of each point, of shape (n_train,)."""
        return (self.Z * self.Z).sum(1)

    @cached_property
    def squared_V(self) -> torch.Tensor:
        """‖v‖₂² of each point, of shape (n_train,)."""
        return (self.V * self.V).sum(1)

    @cached_property
    def size_Z(self) -> float:
        """The largest ‖z‖."""
        return float(self.squared_Z.max().sqrt()) * (1 + 16 * torch.finfo(self.Z.dtype).eps)

    @cached_property
    def size_V(self) -> float:
        """The largest ‖v‖_q."""
        return float(torch.linalg.vector_norm(self.V, ord=self.dual, dim=1).max())

    def denominators(self, rows: torch.Tensor, columns: slice) -> torch.Tensor:
        """Return 2 ‖v_i − v_j‖_q from above, of shape (len(rows), columns)."""
        V, tiny = self.V, torch.finfo(self.V.dtype).tiny
        growth = (V.shape[1] + 16) * self.unit
        if self.dual != 2:
            norm = torch.cdist(V[rows], V[columns], p=self.dual).mul_(1 + growth)
            rounding = 4 * self.unit * 2 * self.size_V + tiny
            return norm.add_(rounding + self.V_error).mul_(2)
        # ‖v_i‖² − 2 v_i·v_j + ‖v_j‖², whose rounding is that of its largest term
        norm = torch.mm(V[rows] * -2, V[columns].T).add_(self.squared_V[columns])
        slack = growth * (2 * self.size_V) ** 2 + tiny
        norm.add_(self.squared_V[rows][:, None]).clamp_min_(0).add_(slack).sqrt_()
        return norm.add_(self.V_error).mul_(2)


@dataclass(frozen=True, eq=False)
class Movement:
    """How far a unit of ‖η‖_p moves things, from above.

    Attributes
    ----------
    reach : float
        The embedding z.
    stretch : float
        The magnitudes that the rounding of the victim's distances scales with.
    error : float
        E, the error of the victim's embedding.
    """

    reach: float
    stretch: float
    error: float


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A rule's training points under a threat model, sorted by class.

    Attributes
    ----------
    rule : NearestNeighborRule
    budget : FeatureBudget
    Z : Tensor of shape (n_train, n_components), float64
        The points as they are, **not** centred: their differences are exact up to one rounding.
    V : Tensor of shape (n_train, n_directions), float64
        Images v to take differences of, in an orthonormal basis of their span for ℓ₂; `Z` itself
        where v = z.
    V_error : float
        Bound on the error of ``‖v_i − v_j‖_q`` from computing V.
    basis : ndarray of shape (n_mutable, n_directions) or None
        Orthonormal columns: η = basis @ (coordinates in V's space). None is the identity.
    magnitudes : Tensor of shape (n_train,), float64
        What the rounding of the victim's distances scales with.
    center : Tensor of shape (n_components,), float64
    labels : ndarray of shape (n_train,)
        Class indices, ascending.
    bounds : list of (first, last)
        The rows of each class.
    movement : Movement
    search : SearchPoints
    """

    rule: NearestNeighborRule
    budget: FeatureBudget
    Z: torch.Tensor
    V: torch.Tensor
    V_error: float
    basis: np.ndarray | None
    magnitudes: torch.Tensor
    center: torch.Tensor
    labels: np.ndarray
    bounds: list[tuple[int, int]]
    movement: Movement
    search: SearchPoints

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
        images, basis, V_error = _images(rule.matrix, budget, points)
        if dtype is None:
            n_products = len(queries.points) * len(points)
            work = n_products * (max(points.shape[1], images.shape[1]) + 32.0)
            dtype = torch.float64 if work <= _FLOAT64_LIMIT else torch.float32
        largest = float(np.abs(points).max(initial=0)), float(np.abs(images).max(initial=0))
        if dtype == torch.float32 and not (min(largest) > 1e-12 and max(largest) < 1e12):
            dtype = torch.float64  # squares would leave the range of float32
        # images that are the points themselves are not stored twice
        same = images is points
        Z = as_tensor(raw, device)
        V = Z if same else as_tensor(images, device)
        searched = as_tensor(points, device).to(dtype)
        ends = np.cumsum(np.bincount(rule.labels, minlength=len(rule.classes))).tolist()
        return cls(
            rule=rule,
            budget=budget,
            Z=Z,
            V=V,
            V_error=V_error,
            basis=basis,
            magnitudes=as_tensor(rule.magnitudes[order], device),
            center=as_tensor(center, device),
            labels=rule.labels[order],
            bounds=list(zip([0, *ends[:-1]], ends, strict=True)),
            movement=Movement(
                reach=_reach(rule.matrix, budget),
                stretch=rule.stretch(budget.scale) * _euclidean(budget),
                error=rule.movement_error(budget.scale, budget.dual, queries.unit),
            ),
            search=SearchPoints(searched, searched if same else V.to(dtype), V_error, budget.dual),
        )

    def delta(self, eta: np.ndarray) -> np.ndarray:
        """Return δ = s ∘ η in the raw features, η in the coordinates of V."""
        movable = self.budget.scale > 0
        delta = np.zeros(len(movable))
        raw = eta if self.basis is None else self.basis @ eta
        delta[movable] = self.budget.scale[movable] * raw
        return delta

    def size(self, eta: np.ndarray | None) -> float:
        """Return ‖η‖_p; inf for None."""
        return np.inf if eta is None else float(np.linalg.norm(eta, ord=self.budget.norm))


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
    matrix: np.ndarray | None, budget: FeatureBudget, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Return V from centred points, its basis and the error of a distance in it."""
    scale = budget.scale
    if matrix is None and (scale == 1).all():
        return points, None, _UNDERFLOW
    movable = scale > 0
    if matrix is None:
        matrix = np.eye(len(scale))
    matrix = matrix[:, movable] * scale[movable]
    # fewer directions than features: the norm is the same in a basis of the rows of A
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


@dataclass(frozen=True, eq=False)
class Rounding:
    """Bounds of the victim's rounding around some test points.

    Attributes
    ----------
    absolute, relative, growth, underflow : float
        c, c′, γ and ω.
    embedding_error : Tensor or ndarray of shape (n_rows,)
        E within each point's ball.
    magnitude : Tensor or ndarray of shape (n_rows,)
        m, the largest in the ball.
    moved : Tensor or ndarray of shape (n_rows,)
        How far the embedding moves in the ball.
    pruning : Tensor or ndarray of shape (n_rows,)
        e, the largest in the ball.
    """

    absolute: float
    relative: float
    growth: float
    underflow: float
    embedding_error: Any
    magnitude: Any
    moved: Any
    pruning: Any

    @classmethod
    def within(cls, radius: np.ndarray, training: TrainingSet, queries: EmbeddedQueries) -> Self:
        """Bound the rounding where the points move by at most `radius`, of shape (n_rows,)."""
        rule, movement, device = training.rule, training.movement, training.Z.device
        absolute, relative = rule.distance_error(queries)
        error = rule.embedding_error(queries) + radius * movement.error
        operations = training.Z.shape[1] + 16
        smallest = np.finfo(np.float32 if relative > 0 else np.float64).tiny
        moved = movement.stretch * radius
        pruning = np.zeros(len(radius))
        if rule.pruning > 0:
            center = np.linalg.norm(queries.points - to_numpy(training.center), axis=1)
            pruning = rule.pruning * (center + moved + 3 * training.search.size_Z) * (1 + 1e-6)
        return cls(
            absolute=absolute,
            relative=relative,
            growth=operations * 2.0**-53,
            underflow=operations * float(smallest),
            embedding_error=as_tensor(error, device),
            magnitude=as_tensor(queries.magnitudes + moved, device),
            moved=as_tensor(moved, device),
            pruning=as_tensor(pruning, device),
        )

    def as_numpy(self) -> Self:
        """Return the same with NumPy arrays."""
        return self._each(to_numpy)

    def take(self, at: Any) -> Self:
        """Return the rounding around some of the points; `at` is any index."""
        return self._each(lambda values: values[at])

    def _each(self, change: Callable[[Any], Any]) -> Self:
        return replace(
            self,
            embedding_error=change(self.embedding_error),
            magnitude=change(self.magnitude),
            moved=change(self.moved),
            pruning=change(self.pruning),
        )

    def tau(self, m_u: Any, m_w: Any, D_u: Any, D_w: Any, between: Any) -> Any:
        """Return τ; the points and the arguments broadcast."""
        m, moved = self.magnitude, self.moved
        tau = self.absolute * ((m + m_u) ** 2 + (m + m_w) ** 2)
        d_u, d_w = D_u**0.5 + moved, D_w**0.5 + moved
        tau = tau + self.relative * (d_u**2 + d_w**2) + self.pruning * (d_u + d_w)
        tau = tau + 4 * self.embedding_error * between + self.growth * (D_u + D_w)
        return tau + self.underflow
