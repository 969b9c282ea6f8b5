r"""The 1-NN bound of prototypes, smooth in the prototypes and in the metric.

For a point x of class c, prototypes w_i of class c and w_j of the others, and M = GᵀG,

    t(x) = min_j max_i  [ d_M(x, w_j) − d_M(x, w_i) ] / ( 2 ‖s ∘ M (w_i − w_j)‖_q ),

no perturbation with ‖δ/s‖_p ≤ t(x) changes the class of the nearest prototype. The objective is the
mean of [target_radius − t(x)]₊, with both extremes smoothed by log Σ exp at a temperature, as in
``CertificateObjective``. There are few prototypes, so that their images under G and M are computed
once for a batch.

The bound: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020; prototypes trained for a
certified margin: Voráček and Hein, *Provably Adversarially Robust Nearest Prototype Classifiers*,
ICML 2022. Learning the metric with them is ours.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch

from skrobust.objectives._certificate import geometric, median_size, smooth_order_statistics
from skrobust.objectives._losses import margin_loss

__all__ = ["PrototypeObjective"]

_ROWS = 1024
_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-14}


@dataclass(frozen=True, eq=False)
class PrototypeObjective:
    """Mean hinge of the points' smoothed 1-NN bound over prototypes, under a metric.

    Parameters
    ----------
    labels : Tensor of shape (n_prototypes,), int64
        Classes of the prototypes.
    target_radius : float
        The hinge's radius, > 0.
    temperature : tuple of two float, default=(1.0, 0.1)
        First and last of a geometric fall, in units of a batch's median bound.
    scale : Tensor of shape (n_features,), default=None
        s of the threat model; None is 1.
    dual : {1, 2, inf}, default=2
        q of the dual norm.
    n_candidates : tuple of two int, default=(8, 32)
        Nearest prototypes of the own and of other classes that a point's bound looks at.
    """

    labels: torch.Tensor
    target_radius: float
    temperature: tuple[float, float] = (1.0, 0.1)
    scale: torch.Tensor | None = None
    dual: float = 2.0
    n_candidates: tuple[int, int] = (8, 32)

    def at(self, progress: float) -> Self:
        """Return the objective with the temperature of a fit that is `progress` of its way."""
        return replace(self, temperature=(geometric(self.temperature, progress),) * 2)

    def value(
        self, prototypes: torch.Tensor, components: torch.Tensor, X: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean hinge of the points that another class can reach; 0 without any.

        Parameters
        ----------
        prototypes : Tensor of shape (n_prototypes, n_features)
            w.
        components : Tensor of shape (n_components, n_features)
            G.
        X : Tensor of shape (n_samples, n_features)
        y : Tensor of shape (n_samples,), int64

        Returns
        -------
        Tensor of shape ()
        """
        bounds = self.smooth_bounds(prototypes, components, X, y)
        known = torch.isfinite(bounds)
        if not known.any():
            return prototypes.sum() * 0
        return margin_loss(bounds[known], "hinge", self.target_radius).mean()

    def smooth_bounds(
        self,
        prototypes: torch.Tensor,
        components: torch.Tensor,
        X: torch.Tensor,
        y: torch.Tensor,
        unit: float | None = None,
    ) -> torch.Tensor:
        """Return t(x) at the first temperature, (n_samples,); infinite where nothing is reached.

        `unit` replaces the median bound of the batch.
        """
        margins, no_j = self._margins(prototypes, components, X, y)
        unit = median_size(_extremes(margins.detach(), no_j)) if unit is None else unit
        temperature = geometric(self.temperature, 0.0) * unit
        return smooth_order_statistics(margins, no_j, 1, 1, temperature)

    @torch.no_grad()
    def bounds(
        self, prototypes: torch.Tensor, components: torch.Tensor, X: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """Return t(x) over the candidates, (n_samples,); inf where no other class is reached."""
        batches = zip(X.split(_ROWS), y.split(_ROWS), strict=True)
        return torch.cat(
            [_extremes(*self._margins(prototypes, components, *batch)) for batch in batches]
        )

    def _margins(
        self, prototypes: torch.Tensor, components: torch.Tensor, X: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the margins of the candidates, and where no other prototype is.

        The margins have shape (n_samples, n_own, n_others): −inf where there is no such own
        prototype, inf where no perturbation turns the pair round. The mask has shape
        (n_samples, n_others).
        """
        points = X @ components.T  # (n_samples, n_components)
        stored = prototypes @ components.T  # (n_prototypes, n_components)
        images = stored @ (components if self.scale is None else components * self.scale)
        with torch.no_grad():
            distances = torch.cdist(points, stored)
            same = y[:, None] == self.labels
            own_distance, own = self._nearest(distances.masked_fill(~same, torch.inf), 0)
            other_distance, other = self._nearest(distances.masked_fill(same, torch.inf), 1)
        to_own = (points[:, None] - stored[own]).square().sum(2)
        to_other = (points[:, None] - stored[other]).square().sum(2)
        gap = to_other[:, None, :] - to_own[:, :, None]
        norm = torch.cdist(images[own], images[other], p=self.dual)
        # less than this is the rounding of a norm that is 0: no perturbation turns the pair round
        turns = norm > _ROUNDING[images.dtype] * images.detach().abs().max()
        margins = torch.where(turns, gap / (2 * torch.where(turns, norm, 1)), 0)
        margins = margins.masked_fill(~turns & (gap > 0), torch.inf)
        no_i, no_j = torch.isinf(own_distance), torch.isinf(other_distance)
        return margins.masked_fill(no_i[:, :, None], -torch.inf), no_j

    def _nearest(self, distances: torch.Tensor, kind: int) -> tuple[torch.Tensor, torch.Tensor]:
        n = min(self.n_candidates[kind], distances.shape[1])
        nearest = distances.topk(n, dim=1, largest=False)
        return nearest.values, nearest.indices


def _extremes(margins: torch.Tensor, no_j: torch.Tensor) -> torch.Tensor:
    return margins.amax(1).masked_fill(no_j, torch.inf).amin(1)
