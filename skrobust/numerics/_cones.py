r"""Projections onto the cones of the convex programs.

    K_p = { (α, w) : ‖w‖_p ≤ α },        S₊ = { M : M = Mᵀ, M ≽ 0 }

K_2 has a closed form (Parikh & Boyd, *Proximal Algorithms*, 2014, section 6.3.2). For K_1,
(α, w) goes to (α + θ, soft-threshold of w at θ) with the θ ≥ 0 at which the constraint is tight;
K_∞ is the dual cone of K_1, so Moreau's decomposition gives it.
"""

import torch

__all__ = ["project_norm_cone", "project_psd"]


def project_psd(M: torch.Tensor) -> torch.Tensor:
    """Return the nearest positive semidefinite matrix, in Frobenius norm.

    Parameters
    ----------
    M : Tensor of shape (n, n)
        Symmetric.

    Returns
    -------
    Tensor of shape (n, n)
    """
    values, vectors = torch.linalg.eigh(M)
    if values[0] >= 0:
        return M
    kept = values > 0  # a thin product where few are positive
    half = vectors[:, kept] * values[kept].sqrt()
    return half @ half.T


def project_norm_cone(
    alpha: torch.Tensor, w: torch.Tensor, norm: float, cap: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project each row onto ``{ (α, w) : ‖w‖_p ≤ α ≤ cap }``.

    Parameters
    ----------
    alpha : Tensor of shape (n,)
    w : Tensor of shape (n, n_features)
    norm : {1, 2, inf}
        p.
    cap : Tensor of shape (n,)
        At least 0; inf for the cone itself.

    Returns
    -------
    tuple of Tensor of shape (n,), and of shape (n, n_features)
    """
    level, inside = _cone(alpha, w, norm)
    over = level > cap
    if not over.any():
        return level, inside
    # by convexity the cap is tight wherever the cone's projection exceeds it, so that what
    # remains is the ball of this radius
    capped = _ball(w[over], cap[over], norm)
    inside = inside.clone()
    inside[over] = capped
    return torch.minimum(level, cap), inside


def _cone(alpha: torch.Tensor, w: torch.Tensor, norm: float) -> tuple[torch.Tensor, torch.Tensor]:
    if norm == 2:
        size = torch.linalg.vector_norm(w, dim=1)
        level = torch.where(size <= alpha, alpha, (0.5 * (alpha + size)).clamp_min(0))
        level = torch.where(size <= -alpha, 0.0, level)
        shrink = torch.where(size > level, level / size.clamp_min(1e-300), 1.0)
        return level, w * shrink[:, None]
    if norm == 1:
        return _cone_of_1(alpha, w)
    # Moreau: z = P_K(z) − P_{K*}(−z), and the dual cone of K_∞ is K_1
    level, rest = _cone_of_1(-alpha, -w)
    return alpha + level, w + rest


def _cone_of_1(alpha: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """θ solves Σ [|w_f| − θ]₊ = α + θ, so θ = max_k (Σ of the k largest − α) / (k + 1)."""
    sums = w.abs().sort(dim=1, descending=True).values.cumsum(dim=1)
    count = torch.arange(1, w.shape[1] + 1, device=w.device, dtype=w.dtype)
    theta = ((sums - alpha[:, None]) / (count + 1)).amax(dim=1).clamp_min(0)
    # below −‖w‖_∞ the whole row goes to 0, where k = 0 gives θ = −α
    theta = torch.maximum(theta, -alpha)
    shrunk = torch.sign(w) * (w.abs() - theta[:, None]).clamp_min(0)
    return alpha + theta, shrunk


def _ball(w: torch.Tensor, radius: torch.Tensor, norm: float) -> torch.Tensor:
    if norm == 2:
        size = torch.linalg.vector_norm(w, dim=1)
        return w * torch.where(size > radius, radius / size.clamp_min(1e-300), 1.0)[:, None]
    if norm == torch.inf:
        return torch.minimum(torch.maximum(w, -radius[:, None]), radius[:, None])
    sums = w.abs().sort(dim=1, descending=True).values.cumsum(dim=1)
    count = torch.arange(1, w.shape[1] + 1, device=w.device, dtype=w.dtype)
    theta = ((sums - radius[:, None]) / count).amax(dim=1).clamp_min(0)
    return torch.sign(w) * (w.abs() - theta[:, None]).clamp_min(0)
