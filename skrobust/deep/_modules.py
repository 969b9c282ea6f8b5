"""The networks that are used where none is given, and the model around any network."""

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["MLP", "ConvNet", "EmbeddingModel"]


class MLP(nn.Module):
    """A multi-layer perceptron with batch norm, for tables.

    Parameters
    ----------
    input_shape : tuple (n_features,)
    embedding_dim : int
    hidden : sequence of int, default=(128, 128)
        Widths of the hidden layers.
    dropout : float, default=0.0

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import MLP
    >>> MLP((5,), 2)(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        embedding_dim: int,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ):
        super().__init__()
        if len(input_shape) != 1:
            raise ValueError(f"MLP is for tables; got inputs of shape {input_shape}.")
        layers: list[nn.Module] = []
        (width,) = input_shape
        for n in hidden:
            layers += [nn.Linear(width, n, bias=False), nn.BatchNorm1d(n), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = n
        self.layers = nn.Sequential(*layers, nn.Linear(width, embedding_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings of shape (n, embedding_dim)."""
        return self.layers(x)


class ConvNet(nn.Module):
    """A small convolutional network with batch norm, for images.

    Each block is a 3 × 3 convolution, batch norm, a maximum over 2 × 2 as long as the image
    has that many pixels, and a rectifier; the last grid is averaged down to at most 4 × 4.

    Parameters
    ----------
    input_shape : tuple (channels, height, width)
    embedding_dim : int
    channels : sequence of int, default=(16, 32, 64)
        Of each block.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import ConvNet
    >>> ConvNet((1, 8, 8), 2)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        embedding_dim: int,
        channels: Sequence[int] = (16, 32, 64),
    ):
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(
                f"ConvNet is for images; got inputs of shape {input_shape}. Flat images need "
                "image_shape."
            )
        width, height, length = input_shape
        blocks: list[nn.Module] = []
        for n in channels:
            blocks += [nn.Conv2d(width, n, 3, padding=1, bias=False), nn.BatchNorm2d(n)]
            if min(height, length) >= 2:
                blocks.append(nn.MaxPool2d(2))
                height, length = height // 2, length // 2
            blocks.append(nn.ReLU())  # after the maximum: the same values, a fourth of the work
            width = n
        grid = (min(height, 4), min(length, 4))
        if grid != (height, length):
            blocks.append(nn.AdaptiveAvgPool2d(grid))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width * grid[0] * grid[1], embedding_dim)
        # the channels of a pixel side by side: the same but for rounding, and faster on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings of shape (n, embedding_dim)."""
        return self.head(self.blocks(x).flatten(1))


def precision_of(module: nn.Module) -> torch.dtype | None:
    """Return the type that all weights of a network have, or None where they have several.

    Parameters
    ----------
    module : torch.nn.Module
    """
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    first = next(kinds, None)
    return first if all(kind == first for kind in kinds) else None


class EmbeddingModel(nn.Module):
    """A network between the standardisation of its inputs and the norm of its outputs.

        f(x) = g((x − mean) / std),   divided by its norm where `normalize` is set.

    Parameters
    ----------
    backbone : torch.nn.Module
        g.
    mean, std : Tensor, default=None
        Broadcast to an input; None for 0 and 1.
    normalize : bool, default=True
    """

    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        mean: torch.Tensor | None = None,
        std: torch.Tensor | None = None,
        normalize: bool = True,
    ):
        super().__init__()
        self.backbone = backbone
        self.normalize = normalize
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings of shape (n, embedding_dim)."""
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        # a network in another precision gets its inputs in that, and norms are computed in float32
        own = precision_of(self.backbone)
        z = self.backbone(x if own is None else x.to(own))
        if own in (torch.bfloat16, torch.float16) and isinstance(z, torch.Tensor):
            z = z.float()
        if not isinstance(z, torch.Tensor):
            raise TypeError(f"module must return one tensor; got {type(z).__name__}.")
        return nn.functional.normalize(z, dim=1) if self.normalize else z
