r"""The certificate itself as an objective: smooth in the metric, over the nearest candidates.

For an anchor x with its nearest positives i and negatives j, the k-NN bound is an order statistic
over j of one over i of the margins ε̃(x_i, x_j, x; M); with a = ⌈K/2⌉ and b = ⌊K/2⌋ + 1,

    t(x) = the a-th smallest over j of the b-th largest over i,

and the objective is the mean of ℓ(t(x)). Both order statistics are smoothed: with the b − 1 largest
left out, the largest of the rest becomes ``u log Σ exp(ε̃ / u)``, and likewise for the smallest.
u is the temperature, in units of the median bound of the batch; it falls geometrically while a
fit goes on, so that first all candidates shape the metric and at last those that decide.

The margins are those of the threat model: ε̃ = (D_j − D_i) / (2 ‖s ∘ M (x_i − x_j)‖_q).
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import torch

from skrobust.numerics import ClassNeighbors
from skrobust.objectives._base import MetricObjective, Triplets
from skrobust.objectives._bounds import pair_margins
from skrobust.objectives._losses import margin_loss
from skrobust.threat_model import ThreatModel
from skrobust.utils._validation import check_temperature

__all__ = ["CertificateObjective", "candidate_bounds", "smooth_largest"]


def smooth_largest(values: torch.Tensor, order: int, temperature: float) -> torch.Tensor:
    """Return a smooth version of the `order`-th largest value along the last dimension.

    Parameters
    ----------
    values : Tensor of shape (..., n)
        −inf marks values that are not there.
    order : int
        1 for the largest.
    temperature : float
        u > 0; the result is exact for u → 0 and never below the `order`-th largest value.

    Returns
    -------
    Tensor of shape (...)
        −inf with fewer than `order` values.
    """
    if order > values.shape[-1]:
        return values.new_full(values.shape[:-1], -torch.inf)
    rest = values.sort(dim=-1, descending=True).values[..., order - 1 :]
    # −inf everywhere has no gradient: leave it out of the sum
    there = torch.isfinite(rest[..., :1])
    safe = torch.where(there, rest, torch.zeros_like(rest))
    largest = temperature * torch.logsumexp(safe / temperature, dim=-1)
    return torch.where(there[..., 0], largest, -torch.inf)


def smooth_order_statistics(
    margins: torch.Tensor, no_j: torch.Tensor, a: int, b: int, temperature: float
) -> torch.Tensor:
    """Return a smooth a-th smallest over j of the b-th largest over i.

    Parameters
    ----------
    margins : Tensor of shape (n, n_positives, n_negatives)
        −inf where there is no i, inf where nothing can turn the pair round.
    no_j : Tensor of shape (n, n_negatives), bool
        Where there is no j.
    a, b : int
    temperature : float
        In the units of the margins.

    Returns
    -------
    Tensor of shape (n,)
        Infinite without candidates enough.
    """
    # what nothing can turn round counts as the largest margin, and a negative that so many
    # positives are safe from is none
    safe = torch.isposinf(margins)
    if safe.any():
        finite = margins[torch.isfinite(margins)]
        most = finite.max().detach() if len(finite) else margins.new_zeros(())
        margins = torch.where(safe, most, margins)
        no_j = no_j | (safe.sum(dim=1) >= b)
    values = smooth_largest(margins.transpose(1, 2), b, temperature)  # (n, n_negatives)
    return -smooth_largest((-values).masked_fill(no_j, -torch.inf), a, temperature)


def geometric(temperature: Any, progress: float) -> float:
    """Return the temperature when a fit is `progress` of its way from the first to the last."""
    first, last = check_temperature(temperature)
    return first * (last / first) ** progress


class CertificateObjective(MetricObjective):
    """Mean loss of the anchors' smoothed k-NN bound over their nearest candidates.

    Parameters
    ----------
    loss : {"negative", "hinge", "exponential", "logistic"}, default=None
        The loss of the bound; None is "hinge" where `target_radius` is given, else "negative".
    target_radius : float, default=None
        The hinge's radius, > 0, in the units of the threat model's budget.
    n_neighbors : int, default=1
        K of the k-NN that will be used; ⌊K/2⌋ + 1 candidates of either kind are needed.
    temperature : float or (float, float), default=(1.0, 0.05)
        u > 0 of both order statistics, in units of the batch's median bound: one number, or the
        first and the last of a geometric fall.
    threat_model : ThreatModel, default=None
        Whose norm, scales and mutable features the margins take; None is ℓ₂ on all features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import RobustMahalanobis
    >>> from skrobust.objectives import CertificateObjective
    >>> X, y = load_iris(return_X_y=True)
    >>> objective = CertificateObjective(n_neighbors=3)
    >>> metric = RobustMahalanobis(objective=objective, random_state=0).fit(X, y)
    >>> metric.components_.shape
    (4, 4)
    """

    temperature: float | tuple[float, float] = (1.0, 0.05)

    def __init__(
        self,
        loss: str | None = None,
        target_radius: float | None = None,
        *,
        n_neighbors: int = 1,
        temperature: float | tuple[float, float] = (1.0, 0.05),
        threat_model: ThreatModel | None = None,
    ):
        super().__init__(loss, target_radius, n_neighbors=n_neighbors, threat_model=threat_model)
        self.temperature = temperature

    def prepare(self, n_features: int, feature_names: Sequence[str] | None = None) -> Self:
        """Check the parameters against the data, as the base class does."""
        super().prepare(n_features, feature_names)
        check_temperature(self.temperature)
        return self

    @property
    def anneals(self) -> bool:
        """Whether the temperature falls while a fit goes on."""
        first, last = check_temperature(self.temperature)
        return first != last

    def at(self, progress: float) -> Self:
        """Return the objective with the temperature of a fit that is `progress` of its way."""
        objective = copy(self)
        objective.temperature = geometric(self.temperature, progress)
        return objective

    def value(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the mean loss of a batch of anchors; nothing is drawn.

        It is 0 where no anchor has candidates enough for K.
        """
        bound = self.bounds(components, X, anchors, neighbors)
        known = torch.isfinite(bound)
        if not known.any():
            return components.sum() * 0
        return margin_loss(bound[known], self._loss(), self.target_radius).mean()

    def bounds(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        temperature: float | None = None,
        unit: float | None = None,
    ) -> torch.Tensor:
        """Return t(x) of each anchor, of shape (batch_size,); infinite without candidates.

        `temperature` replaces the parameter, and `unit` the median bound of the batch.
        """
        a, b = _orders(self.n_neighbors)
        scale, dual = self.scale_and_dual(X)
        margins, no_j = _candidate_margins(components, X, anchors, neighbors, scale, dual)
        unit = median_size(_order_statistics(margins, no_j, a, b)[0]) if unit is None else unit
        if temperature is None:
            temperature = geometric(self.temperature, 0.0)
        return smooth_order_statistics(margins, no_j, a, b, temperature * unit)

    @torch.no_grad()
    def triplets(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> Triplets:
        """Return the triplet that decides each anchor's bound; anchors without one are left out."""
        a, b = _orders(self.n_neighbors)
        scale, dual = self.scale_and_dual(X)
        margins, no_j = _candidate_margins(components, X, anchors, neighbors, scale, dual)
        bound, i, j = _order_statistics(margins, no_j, a, b)
        there = torch.isfinite(bound)
        i = neighbors.positives[anchors].gather(1, i[:, None])[:, 0]
        j = neighbors.negatives[anchors].gather(1, j[:, None])[:, 0]
        return Triplets(anchors[there], i[there], j[there])


@torch.no_grad()
def candidate_bounds(
    components: torch.Tensor,
    X: torch.Tensor,
    anchors: torch.Tensor,
    neighbors: ClassNeighbors,
    *,
    n_neighbors: int = 1,
    scale: torch.Tensor | None = None,
    dual: float = 2.0,
) -> torch.Tensor:
    """Return t(x) itself, not smoothed: the k-NN bound over the nearest candidates.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    X : Tensor of shape (n_samples, n_features)
    anchors : Tensor of shape (n_anchors,), int64
    neighbors : ClassNeighbors
    n_neighbors : int, default=1
        K.
    scale : Tensor of shape (n_features,), default=None
        s of the threat model; None is 1.
    dual : {1, 2, inf}, default=2
        q of the dual norm.

    Returns
    -------
    Tensor of shape (n_anchors,)
        Signed; −inf with too few positives, inf with too few negatives that can be reached.
    """
    a, b = _orders(n_neighbors)
    margins, no_j = _candidate_margins(components, X, anchors, neighbors, scale, dual)
    return _order_statistics(margins, no_j, a, b)[0]


def _orders(n_neighbors: int) -> tuple[int, int]:
    """Return a = ⌈K/2⌉ and b = ⌊K/2⌋ + 1."""
    return (n_neighbors + 1) // 2, n_neighbors // 2 + 1


def _candidate_margins(
    components: torch.Tensor,
    X: torch.Tensor,
    anchors: torch.Tensor,
    neighbors: ClassNeighbors,
    scale: torch.Tensor | None,
    dual: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return margins (n_anchors, n_positives, n_negatives), −inf without i, and where no j is.

    They are inf where no perturbation can turn the pair round.
    """
    positives, negatives = neighbors.positives[anchors], neighbors.negatives[anchors]
    margins = pair_margins(
        components,
        X[anchors],
        X[positives],
        X[negatives],
        scale=scale,
        dual=dual,
        unreachable=torch.inf,
    )
    column = torch.arange(positives.shape[1], device=X.device)
    no_i = column >= neighbors.n_positives[anchors][:, None]
    no_j = column >= neighbors.n_negatives[anchors][:, None]
    return margins.masked_fill(no_i[:, :, None], -torch.inf), no_j


@torch.no_grad()
def _order_statistics(
    margins: torch.Tensor, no_j: torch.Tensor, a: int, b: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the a-th smallest over j of the b-th largest over i, and the columns i and j it is at.

    It is −inf with too few positives, inf with too few negatives; the columns mean nothing there.
    """
    nowhere = torch.zeros(len(margins), dtype=torch.int64, device=margins.device)
    if b > margins.shape[1]:
        return margins.new_full((len(margins),), -torch.inf), nowhere, nowhere
    if a > margins.shape[2]:
        return margins.new_full((len(margins),), torch.inf), nowhere, nowhere
    values, i = margins.sort(dim=1, descending=True)
    values, j = values[:, b - 1].masked_fill(no_j, torch.inf).sort(dim=1)
    j = j[:, a - 1]
    return values[:, a - 1], i[:, b - 1].gather(1, j[:, None])[:, 0], j


def median_size(bounds: torch.Tensor) -> float:
    """Return the median size of the finite bounds, a unit for the temperature."""
    size = bounds[torch.isfinite(bounds)].abs()
    return max(float(size.median()), 1e-12) if len(size) else 1.0
