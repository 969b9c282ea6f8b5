r"""The certificate itself as an objective: smooth in the metric, over the nearest candidates.

For an anchor x with its nearest positives i and negatives j, the k-NN bound is an order statistic
over j of one over i of the margins ε̃(x_i, x_j, x; M); with a = ⌈K/2⌉ and b = ⌊K/2⌋ + 1,

    t(x) = the a-th smallest over j of the b-th largest over i,

and the objective is the mean of ℓ(t(x)). Both order statistics are smoothed: with the b − 1 largest
left out, the largest of the rest becomes ``u log Σ exp(ε̃ / u)``, and likewise for the smallest.
u is the temperature, in units of the median bound under the starting metric.

The margins are those of the threat model: ε̃ = (D_j − D_i) / (2 ‖s ∘ M (x_i − x_j)‖_q).
"""

import torch
from sklearn.base import BaseEstimator

from skrobust.numerics import ClassNeighbors
from skrobust.objectives._bounds import pair_margins
from skrobust.objectives._losses import margin_loss
from skrobust.threat_model import FeatureBudget, ThreatModel

__all__ = ["CertificateObjective", "smooth_largest"]


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
    found = temperature * torch.logsumexp(safe / temperature, dim=-1)
    return torch.where(there[..., 0], found, -torch.inf)


class CertificateObjective(BaseEstimator):
    """Mean loss of the anchors' smoothed k-NN bound over their nearest candidates.

    Parameters
    ----------
    loss : {"negative", "hinge", "exponential", "logistic"}, default="negative"
        The loss of the bound; "hinge" with `margin` as the radius that is cared for.
    margin : float, default=1.0
        The hinge's margin, in the units of X.
    n_neighbors : int, default=1
        K of the k-NN that will be used; ⌊K/2⌋ + 1 candidates of either kind are needed.
    temperature : float, default=0.1
        u > 0 of both order statistics, in units of the batch's median bound.
    threat_model : ThreatModel, default=None
        Whose norm, scales and mutable features the margins take; None is ℓ₂ on all features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import RobustMahalanobis
    >>> from skrobust.objectives import CertificateObjective
    >>> X, y = load_iris(return_X_y=True)
    >>> objective = CertificateObjective(n_neighbors=3)
    >>> metric = RobustMahalanobis(objective=objective, random_state=0, tol=0.1).fit(X, y)
    >>> metric.components_.shape
    (4, 4)
    """

    def __init__(
        self,
        loss: str = "negative",
        margin: float = 1.0,
        *,
        n_neighbors: int = 1,
        temperature: float = 0.1,
        threat_model: ThreatModel | None = None,
    ):
        self.loss = loss
        self.margin = margin
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.threat_model = threat_model

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
            Indices into `X`.
        neighbors : ClassNeighbors
            Candidates of every training point.
        generator : torch.Generator
            Not used: nothing is drawn.

        Returns
        -------
        Tensor of shape ()
            0 where no anchor has candidates enough for K.
        """
        bound = self.bounds(components, X, anchors, neighbors)
        known = torch.isfinite(bound)
        if not known.any():
            return components.sum() * 0
        return margin_loss(bound[known], self.loss, self.margin).mean()

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
        a, b = (self.n_neighbors + 1) // 2, self.n_neighbors // 2 + 1
        positives, negatives = neighbors.positives[anchors], neighbors.negatives[anchors]
        budget = self._budget(X.shape[1])
        scale = None if budget is None else torch.as_tensor(budget.scale).to(X)
        margins = pair_margins(
            components,
            X[anchors],
            X[positives],
            X[negatives],
            scale=scale,
            dual=2.0 if budget is None else budget.dual,
        )  # (batch_size, n_positives, n_negatives)
        column = torch.arange(positives.shape[1], device=X.device)
        no_i = column >= neighbors.n_positives[anchors][:, None]
        no_j = column >= neighbors.n_negatives[anchors][:, None]
        margins = margins.masked_fill(no_i[:, :, None], -torch.inf)
        unit = _median_bound(margins, no_j, a, b) if unit is None else unit
        u = (self.temperature if temperature is None else temperature) * unit
        values = smooth_largest(margins.transpose(1, 2), b, u)  # (batch_size, n_negatives)
        return -smooth_largest((-values).masked_fill(no_j, -torch.inf), a, u)

    def _budget(self, n_features: int) -> FeatureBudget | None:
        if self.threat_model is None:
            return None
        return self.threat_model.resolve(n_features)


def _median_bound(margins: torch.Tensor, no_j: torch.Tensor, a: int, b: int) -> float:
    """Return the median size of the bounds, a unit for the temperature."""
    with torch.no_grad():
        bound = margins.sort(dim=1, descending=True).values[:, min(b, margins.shape[1]) - 1]
        bound = bound.masked_fill(no_j, torch.inf).sort(dim=1).values[:, min(a, no_j.shape[1]) - 1]
        size = bound[torch.isfinite(bound)].abs()
        return max(float(size.median()), 1e-12) if len(size) else 1.0
