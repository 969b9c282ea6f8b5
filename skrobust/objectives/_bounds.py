r"""The certified margin of a triplet under a Mahalanobis metric.

For ``M = GᵀG`` and ``d_M(x, x') = (x − x')ᵀ M (x − x')``, the smallest ℓ₂ perturbation of
``x`` that brings it as near to ``x_j`` as to ``x_i`` is the distance to a half-space,

    ε̃(x_i, x_j, x; M) = [ d_M(x, x_j) − d_M(x, x_i) ] / ( 2 ‖M (x_i − x_j)‖₂ ),

negative where ``x_j`` is the nearer one already. It does not change when M is scaled.

Source: Wang, Liu, Yi, Jiang, Hsieh, *Provably Robust Metric Learning*, NeurIPS 2020,
arXiv:2006.07024.
"""

import torch

__all__ = ["pair_margins", "triplet_margin"]


def triplet_margin(
    components: torch.Tensor, x: torch.Tensor, x_i: torch.Tensor, x_j: torch.Tensor
) -> torch.Tensor:
    """Return the signed margin ε̃ of each triplet, not clamped at 0.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
        G.
    x, x_i, x_j : Tensor of shape (n_triplets, n_features)
        Anchors, same-class points and other-class points.

    Returns
    -------
    Tensor of shape (n_triplets,)
        In the units of X. It is 0, with gradient 0, where G does not separate ``x_i`` from ``x_j``.
    """
    to_i = (x - x_i) @ components.T  # (n_triplets, n_components)
    to_j = (x - x_j) @ components.T
    gap = (to_j * to_j).sum(1) - (to_i * to_i).sum(1)
    squared_norm = (((to_j - to_i) @ components) ** 2).sum(1)
    turns = squared_norm > 0  # whether G separates x_i and x_j
    # the inner where keeps the square root's gradient finite at 0
    norm = torch.sqrt(torch.where(turns, squared_norm, 1.0))
    return torch.where(turns, gap / (2 * norm), 0.0)


def pair_margins(
    components: torch.Tensor,
    x: torch.Tensor,
    x_i: torch.Tensor,
    x_j: torch.Tensor,
    *,
    scale: torch.Tensor | None = None,
    dual: float = 2.0,
    unreachable: float = 0.0,
) -> torch.Tensor:
    """Return the signed margins of all pairs of each anchor's candidates, not clamped at 0.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
        G.
    x : Tensor of shape (n_anchors, n_features)
    x_i : Tensor of shape (n_anchors, n_positives, n_features)
    x_j : Tensor of shape (n_anchors, n_negatives, n_features)
    scale : Tensor of shape (n_features,), default=None
        s of the threat model, 0 for immutable features; None is 1.
    dual : {1, 2, inf}, default=2
        q of the dual norm.
    unreachable : float, default=0.0
        The margin of a pair that no perturbation can turn round: denominator 0, ``D_j > D_i``.

    Returns
    -------
    Tensor of shape (n_anchors, n_positives, n_negatives)
        ``(D_j − D_i) / (2 ‖s ∘ M (x_i − x_j)‖_q)``; without a gradient where the denominator
        is 0: 0 there, or `unreachable`.
    """
    to_i = (x_i - x[:, None]) @ components.T
    to_j = (x_j - x[:, None]) @ components.T
    gap = (to_j * to_j).sum(2)[:, None, :] - (to_i * to_i).sum(2)[:, :, None]
    images = components if scale is None else components * scale
    norm = torch.cdist(to_i @ images, to_j @ images, p=dual)
    turns = norm > 0
    margins = torch.where(turns, gap / (2 * torch.where(turns, norm, 1.0)), 0.0)
    if unreachable:
        margins = margins.masked_fill(~turns & (gap > 0), unreachable)
    return margins
