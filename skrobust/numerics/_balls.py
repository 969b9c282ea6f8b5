r"""Nearest points of a norm ball cut by a box.

    argmin ‖η − ζ‖₂   subject to   ‖η‖_p ≤ r,   lower ≤ η ≤ upper,      lower ≤ 0 ≤ upper.

By the optimality conditions ``η = clip(ζ, −r, r)`` for p = ∞, ``η = clip(t ζ)`` with some
t ≤ 1 for p = 2, and ``η = clip(sign(ζ) max(|ζ| − λ, 0))`` with some λ ≥ 0 for p = 1, where clip
is to the box. The norm grows with t and falls with λ.
"""

import torch

__all__ = ["project_ball"]

_MAX_ITER = 60


def project_ball(
    point: torch.Tensor,
    radius: torch.Tensor,
    norm: float,
    lower: torch.Tensor | None = None,
    upper: torch.Tensor | None = None,
) -> torch.Tensor:
    """Project rows onto norm balls around 0, cut by boxes around 0.

    Parameters
    ----------
    point : Tensor of shape (n, d)
    radius : Tensor of shape (n,)
        r ≥ 0 of each row.
    norm : 1, 2 or inf
    lower, upper : Tensor of shape (n, d) or (d,), default=None
        Ends of the box, ``lower <= 0 <= upper``, infinite ones allowed; None for no box.

    Returns
    -------
    Tensor of shape (n, d)
        A row that is inside already comes back as it is.

    Examples
    --------
    >>> import torch
    >>> from skrobust.numerics import project_ball
    >>> project_ball(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0]), 2)
    tensor([[0.6000, 0.8000]])
    """
    if norm == torch.inf:
        ends = radius[:, None]
        return _clip(point.clamp(-ends, ends), lower, upper)
    clipped = _clip(point, lower, upper)
    outside = torch.linalg.vector_norm(clipped, ord=norm, dim=1) > radius
    if not outside.any():
        return clipped
    reach = None
    if lower is not None and upper is not None:
        reach = torch.where(point > 0, upper, -lower)
    size = point.abs()
    amount = _euclidean(size, reach, radius) if norm == 2 else _manhattan(size, reach, radius)
    # to the last bits, which the sums above have lost
    length = torch.linalg.vector_norm(amount, ord=norm, dim=1)
    amount = (
        amount * (radius / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)[:, None]
    )
    return torch.where(outside[:, None], torch.copysign(amount, point), clipped)


def _clip(
    point: torch.Tensor, lower: torch.Tensor | None, upper: torch.Tensor | None
) -> torch.Tensor:
    if lower is None or upper is None:
        return point
    return point.clamp(lower, upper)


def _euclidean(
    size: torch.Tensor, reach: torch.Tensor | None, radius: torch.Tensor
) -> torch.Tensor:
    """Return ``min(t |ζ|, reach)`` of ℓ₂ norm r.

    Entries that reach their end for a t that is too small do so for the right one, so t grows
    until no further entry does.
    """
    tiny = torch.finfo(size.dtype).tiny
    t = radius / torch.linalg.vector_norm(size, dim=1).clamp_min(tiny)
    if reach is None:
        return size * t[:, None]
    for _ in range(_MAX_ITER):
        held = size * t[:, None] >= reach
        fixed = torch.where(held, reach, 0).square().sum(1)
        free = torch.where(held, 0, size).square().sum(1)
        larger = ((radius**2 - fixed).clamp_min(0) / free.clamp_min(tiny)).sqrt()
        larger = torch.maximum(torch.where(free > 0, larger, t), t).clamp_max(1)
        if bool((larger <= t).all()):
            break
        t = larger
    return torch.minimum(size * t[:, None], reach)


def _manhattan(
    size: torch.Tensor, reach: torch.Tensor | None, radius: torch.Tensor
) -> torch.Tensor:
    """Return ``min(max(|ζ| − λ, 0), reach)`` of ℓ₁ norm r; λ by bisection."""
    low, high = torch.zeros_like(radius), size.amax(1)
    amount = size
    for _ in range(_MAX_ITER):
        middle = (low + high) / 2
        amount = (size - middle[:, None]).clamp_min(0)
        if reach is not None:
            amount = torch.minimum(amount, reach)
        small = amount.sum(1) <= radius
        high = torch.where(small, middle, high)
        low = torch.where(small, low, middle)
    amount = (size - high[:, None]).clamp_min(0)
    return amount if reach is None else torch.minimum(amount, reach)
