r"""The random-triplet objective of certified metric learning.

    min_G  1/n Σ_x  ℓ( ε̃( randnear⁺(x), randnear⁻(x), x ; GᵀG ) )

``randnear±(x)`` is drawn uniformly from the nearest same-class and other-class points.

Source: Wang et al., *Provably Robust Metric Learning*, NeurIPS 2020, arXiv:2006.07024.
"""

import torch
from sklearn.base import BaseEstimator

from skrobust.numerics import ClassNeighbors
from skrobust.objectives._bounds import triplet_margin
from skrobust.objectives._losses import margin_loss

__all__ = ["TripletObjective"]


class TripletObjective(BaseEstimator):
    """Mean loss of one random triplet for each anchor.

    Parameters
    ----------
    loss : {"negative", "hinge", "exponential", "logistic"}, default="negative"
        The loss of the margin.
    margin : float, default=1.0
        The hinge's margin, in the units of X.
    """

    def __init__(self, loss: str = "negative", margin: float = 1.0):
        self.loss = loss
        self.margin = margin

    def value(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the objective on a batch of anchors.

        Parameters
        ----------
        components : Tensor of shape (n_components, n_features)
            G, the variable.
        X : Tensor of shape (n_samples, n_features)
            The training points.
        anchors : Tensor of shape (batch_size,), int64
            Indices into `X` of points with at least one positive and one negative.
        neighbors : ClassNeighbors
            Candidates of every training point.
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape ()
        """
        x_i = _draw(neighbors.positives[anchors], neighbors.n_positives[anchors], generator)
        x_j = _draw(neighbors.negatives[anchors], neighbors.n_negatives[anchors], generator)
        margins = triplet_margin(components, X[anchors], X[x_i], X[x_j])
        return margin_loss(margins, self.loss, self.margin).mean()


def _draw(
    candidates: torch.Tensor, n_candidates: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Pick one of the first `n_candidates` entries of each row, uniformly."""
    uniform = torch.rand(len(candidates), generator=generator).to(candidates.device)
    column = (uniform * n_candidates).long().clamp_max(n_candidates - 1)
    return candidates.gather(1, column[:, None])[:, 0]
