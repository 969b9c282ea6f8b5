r"""The random-triplet objective of certified metric learning.

    min_G  1/n Σ_x  ℓ( ε̃( randnear⁺(x), randnear⁻(x), x ; GᵀG ) )

``randnear±(x)`` is drawn uniformly from the nearest same-class and other-class points.

Source: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020, arXiv:2006.07024; norms other
than ℓ₂ and scales of features enter by the dual norm (see ``pair_margins``).
"""

from collections.abc import Sequence
from typing import Self

import torch

from skrobust.numerics import ClassNeighbors
from skrobust.objectives._base import MetricObjective, Triplets
from skrobust.objectives._bounds import pair_margins, triplet_margin
from skrobust.objectives._losses import margin_loss

__all__ = ["TripletObjective"]


class TripletObjective(MetricObjective):
    """Mean loss of one random triplet for each anchor.

    Parameters
    ----------
    loss : {"negative", "hinge", "exponential", "logistic"}, default=None
        The loss of a margin; None is "hinge" where `target_radius` is given, else "negative".
    target_radius : float, default=None
        The hinge's radius, > 0, in the units of the threat model's budget.
    n_neighbors : int, default=1
        Must be 1: a triplet knows nothing of K; see
        :class:`~skrobust.objectives.CertificateObjective`.
    threat_model : ThreatModel, default=None
        Whose norm, scales and mutable features the margins take; None is ℓ₂ on all features.
    """

    def prepare(self, n_features: int, feature_names: Sequence[str] | None = None) -> Self:
        """Check the parameters against the data, as the base class does."""
        if self.n_neighbors != 1:
            raise ValueError(
                f"n_neighbors must be 1 with the triplet objective; got {self.n_neighbors!r}. Use "
                "objective='certificate' for K neighbours."
            )
        return super().prepare(n_features, feature_names)

    def value(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the mean loss of a batch of anchors, on triplets that are drawn for it."""
        x, i, j = self.triplets(components, X, anchors, neighbors, generator)
        scale, dual = self.scale_and_dual(X)
        if scale is None:
            margins = triplet_margin(components, X[x], X[i], X[j])
        else:
            pairs = (X[i][:, None], X[j][:, None])
            margins = pair_margins(components, X[x], *pairs, scale=scale, dual=dual)[:, 0, 0]
        return margin_loss(margins, self._loss(), self.target_radius).mean()

    def triplets(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> Triplets:
        """Draw one triplet for each anchor."""
        return Triplets(
            anchors,
            _draw(neighbors.positives[anchors], neighbors.n_positives[anchors], generator),
            _draw(neighbors.negatives[anchors], neighbors.n_negatives[anchors], generator),
        )


def _draw(
    candidates: torch.Tensor, n_candidates: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Pick one of the first `n_candidates` entries of each row, uniformly."""
    uniform = torch.rand(len(candidates), generator=generator).to(candidates.device)
    column = (uniform * n_candidates).long().clamp_max(n_candidates - 1)
    return candidates.gather(1, column[:, None])[:, 0]
