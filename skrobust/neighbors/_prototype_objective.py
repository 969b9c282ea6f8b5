r"""The 1-NN bound of prototypes, smooth in the prototypes and in the metric.

For a point x of class c, prototypes w_i of class c and w_j of the others, and M = GᵀG,

    t(x) = min_j max_i  [ d_M(x, w_j) − d_M(x, w_i) ] / ( 2 ‖s ∘ M (w_i − w_j)‖_q ),

no perturbation with ‖δ/s‖_p ≤ t(x) changes the class of the nearest prototype. Both extremes are
smoothed by log Σ exp at a temperature, as in ``skrobust.objectives.CertificateObjective``. There
are few prototypes, so that their images under G and M are computed once for a batch.

The bound: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020; prototypes trained for a
certified margin: Voráček and Hein, *Provably Adversarially Robust Nearest Prototype Classifiers*,
ICML 2022. Learning the metric with them is ours.
"""

from dataclasses import dataclass

import torch

from skrobust.objectives import smooth_largest

__all__ = ["PrototypeModel"]

_ROWS = 1024
_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-14}


@dataclass(frozen=True, eq=False)
class PrototypeModel:
    """Prototypes under a metric.

    Attributes
    ----------
    prototypes : Tensor of shape (n_prototypes, n_features)
        w.
    labels : Tensor of shape (n_prototypes,), int64
    components : Tensor of shape (n_components, n_features)
        G.
    scale : Tensor of shape (n_features,) or None
        s; None is 1.
    dual : {1, 2, inf}
        q.
    n_candidates : tuple of two int
        Nearest prototypes of the own and of other classes that a point's bound looks at.
    """

    prototypes: torch.Tensor
    labels: torch.Tensor
    components: torch.Tensor
    scale: torch.Tensor | None
    dual: float
    n_candidates: tuple[int, int]

    def margins(self, X: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the margins of the candidates, and which others are none.

        The margins have shape (n, n_own, n_others): −inf where there is no such own prototype,
        inf where no perturbation turns the pair round. The mask has shape (n, n_others).
        """
        points = X @ self.components.T
        stored = self.prototypes @ self.components.T
        images = stored @ (self.components if self.scale is None else self.components * self.scale)
        with torch.no_grad():
            apart = torch.cdist(points, stored)
            same = y[:, None] == self.labels
            own_far, own = self._nearest(apart.masked_fill(~same, torch.inf), 0)
            other_far, other = self._nearest(apart.masked_fill(same, torch.inf), 1)
        to_own = (points[:, None] - stored[own]).square().sum(2)
        to_other = (points[:, None] - stored[other]).square().sum(2)
        gap = to_other[:, None, :] - to_own[:, :, None]
        norm = torch.cdist(images[own], images[other], p=self.dual)
        # less than this is the rounding of a norm that is 0: no perturbation turns the pair round
        least = _ROUNDING[images.dtype] * images.detach().abs().max()
        met = norm > least
        found = torch.where(met, gap / (2 * torch.where(met, norm, 1)), 0)
        found = found.masked_fill(~met & (gap > 0), torch.inf)
        return found.masked_fill(torch.isinf(own_far)[:, :, None], -torch.inf), torch.isinf(
            other_far
        )

    def _nearest(self, apart: torch.Tensor, kind: int) -> tuple[torch.Tensor, torch.Tensor]:
        n = min(self.n_candidates[kind], apart.shape[1])
        found = apart.topk(n, dim=1, largest=False)
        return found.values, found.indices

    def smooth_bounds(self, X: torch.Tensor, y: torch.Tensor, temperature: float) -> torch.Tensor:
        """Return t(x), smoothed at a temperature in units of the median bound.

        Only of the points that another class can reach: the shape is (n_reached,).
        """
        margins, none = self.margins(X, y)
        exact = _extremes(margins.detach(), none)
        known = torch.isfinite(exact)
        if not known.any():
            return margins.new_zeros(0)
        u = temperature * max(float(exact[known].abs().median()), 1e-12)
        safe = torch.isposinf(margins)
        if safe.any():  # counts as the largest margin there is
            margins = margins.masked_fill(
                safe, float(margins.detach()[torch.isfinite(margins)].max())
            )
        over_own = smooth_largest(margins.transpose(1, 2), 1, u)
        none = none | safe.any(1)
        return -smooth_largest((-over_own).masked_fill(none, -torch.inf), 1, u)[known]

    @torch.no_grad()
    def bounds(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return t(x) over the candidates, shape (n,); inf where no other class is reached."""
        found = [
            _extremes(*self.margins(rows, labels))
            for rows, labels in zip(X.split(_ROWS), y.split(_ROWS), strict=True)
        ]
        return torch.cat(found)


def _extremes(margins: torch.Tensor, none: torch.Tensor) -> torch.Tensor:
    return margins.amax(1).masked_fill(none, torch.inf).amin(1)
