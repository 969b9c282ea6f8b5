"""Networks of 1-Lipschitz layers, for certificates."""

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import nn

from skrobust.deep.lipschitz._bound import LayerBound, layer_bound
from skrobust.deep.lipschitz._layers import MaxMin, OrthogonalLinear, RescaledConv2d, UnitBall

__all__ = ["LipschitzConvNet", "LipschitzMLP", "Standardize", "lipschitz_model"]


class LipschitzMLP(nn.Sequential):
    """A multi-layer perceptron of orthogonal layers that sort pairs.

    Parameters
    ----------
    input_shape : tuple of int
        Images are flattened.
    embedding_dim : int
    hidden : sequence of int, default=(256, 256)
        Widths of the hidden layers.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import LipschitzMLP
    >>> LipschitzMLP((5,), 2)(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, input_shape: tuple[int, ...], embedding_dim: int, hidden: Sequence[int] = (256, 256)
    ):
        _check_widths("hidden", hidden)
        layers: list[nn.Module] = [] if len(input_shape) == 1 else [nn.Flatten()]
        width = int(torch.Size(input_shape).numel())
        for n in hidden:
            layers += [OrthogonalLinear(width, n), MaxMin()]
            width = n
        super().__init__(*layers, OrthogonalLinear(width, embedding_dim))


class LipschitzConvNet(nn.Sequential):
    """A convolutional network of rescaled convolutions that sort pairs.

    Each block is a convolution, a sorting of pairs, and as long as the size of the image is even a
    rearrangement of 2 × 2 pixels into channels, which loses nothing. Dense orthogonal layers end
    it.

    Parameters
    ----------
    input_shape : tuple (channels, height, width)
    embedding_dim : int
    channels : sequence of int, default=(32, 64)
        Of each block.
    hidden : sequence of int, default=(256,)
        Widths of the dense layers before the last.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import LipschitzConvNet
    >>> LipschitzConvNet((1, 8, 8), 2)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        embedding_dim: int,
        channels: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (256,),
    ):
        if len(input_shape) != 3:
            raise ValueError(
                f"LipschitzConvNet is for images; got inputs of shape {input_shape}. Flat images "
                "need image_shape."
            )
        _check_widths("channels", channels)
        _check_widths("hidden", hidden)
        n_channels, height, width = input_shape
        layers: list[nn.Module] = []
        for n in channels:
            if height % 2 == 0 and width % 2 == 0:
                layers.append(nn.PixelUnshuffle(2))
                n_channels, height, width = 4 * n_channels, height // 2, width // 2
            layers += [RescaledConv2d(n_channels, n), MaxMin()]
            n_channels = n
        layers.append(nn.Flatten())
        size = n_channels * height * width
        for n in hidden:
            layers += [OrthogonalLinear(size, n), MaxMin()]
            size = n
        super().__init__(*layers, OrthogonalLinear(size, embedding_dim))


def _check_widths(name: str, widths: Any) -> None:
    given = list(widths) if isinstance(widths, (tuple, list)) else [0]
    if not all(isinstance(n, Integral) and int(n) >= 1 for n in given):
        raise ValueError(f"{name} must be a sequence of integers >= 1; got {widths!r}.")


class Standardize(nn.Module):
    """x ↦ (x − mean) / std.

    Parameters
    ----------
    mean : Tensor
        Broadcasts to an input.
    std : Tensor
        Likewise, > 0.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape."""
        return (x - self.mean) / self.std


@layer_bound.register
def _(layer: Standardize, shape: tuple[int, ...]) -> LayerBound:
    gain = (1 + 1e-9) / float(layer.std.min())
    offset = torch.broadcast_to(layer.mean / layer.std, shape)
    return LayerBound(gain, float(torch.linalg.vector_norm(offset)) * (1 + 1e-9), gain, 16)


def lipschitz_model(
    backbone: nn.Module,
    mean: torch.Tensor | None,
    std: torch.Tensor | None,
    normalize: bool,
) -> nn.Module:
    """Return a network between the standardisation of its inputs and the unit ball.

    Parameters
    ----------
    backbone : torch.nn.Module
    mean, std : Tensor or None
        None for 0 and 1.
    normalize : bool
        Whether embeddings are moved into the unit ball, z / max(1, ‖z‖).
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if mean is not None and std is not None:
        parts["standardize"] = Standardize(mean, std)
    parts["backbone"] = backbone
    if normalize:
        parts["ball"] = UnitBall()
    return nn.Sequential(parts)
