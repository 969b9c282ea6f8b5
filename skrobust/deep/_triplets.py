"""One triplet for each row of a batch."""

import torch

__all__ = ["SOURCES", "triplets"]

SOURCES = ("random", "semihard", "softhard", "hard")


def triplets(
    z: torch.Tensor, y: torch.Tensor, source: str, generator: torch.Generator, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return positions of anchors, positives and negatives.

    Parameters
    ----------
    z : Tensor of shape (n, embedding_dim)
        Embeddings, for the sources that look at distances.
    y : Tensor of shape (n,)
    source : {"random", "semihard", "softhard", "hard"}
        The positive is random, for "softhard" one that is farther than the nearest negative
        and for "hard" the farthest. The negative is random, for "semihard" one that is farther
        than the positive by less than the margin, for "softhard" one that is nearer than the
        farthest positive and for "hard" the nearest. Where there is none of the kind, it is
        random.
    generator : torch.Generator
    margin : float

    Returns
    -------
    anchors, positives, negatives : Tensor of shape (n_anchors,)
        Rows without another one of their class, or without another class, are no anchors.
    """
    same = y[:, None] == y
    other = ~same
    same = same & ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    anchors = torch.nonzero(same.any(1) & other.any(1))[:, 0]
    same, other = same[anchors], other[anchors]
    if len(anchors) == 0:
        return anchors, anchors, anchors
    apart = torch.cdist(z[anchors].float(), z.float())
    far = torch.where(same, apart, -torch.inf).amax(1, keepdim=True)
    near = torch.where(other, apart, torch.inf).amin(1, keepdim=True)
    if source == "softhard":
        same, other = _prefer(same, apart >= near), _prefer(other, apart <= far)
    elif source == "hard":
        same, other = same & (apart == far), other & (apart == near)
    positives = _draw(same, generator)
    if source == "semihard":
        own = apart.gather(1, positives[:, None])
        other = _prefer(other, (apart > own) & (apart < own + margin))
    return anchors, positives, _draw(other, generator)


def _prefer(mask: torch.Tensor, wish: torch.Tensor) -> torch.Tensor:
    """Return the wished part of a mask, or all of a row's where it is empty."""
    both = mask & wish
    return torch.where(both.any(1, keepdim=True), both, mask)


def _draw(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(mask.shape, generator=generator, device=mask.device)
    return torch.where(mask, drawn, -1).argmax(1)
