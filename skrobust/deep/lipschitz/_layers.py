r"""Layers and networks that do not stretch: ‖g(x) − g(x′)‖₂ ≤ ‖x − x′‖₂.

Dense layers have a weight with orthonormal rows or columns. Convolutions are rescaled,

    K_s[:, i] / √t_i ,    t_i = Σ_j Σ_s | (K ⋆ K)_s[i, j] |,

with ⋆ the correlation over output channels and shifts s, whose operator norm is at most 1 for
any size of image (Prach and Lampert, *Almost-orthogonal layers for efficient general-purpose
Lipschitz networks*, ECCV 2022, Theorem 2); with more input than output channels the adjoint is
rescaled, which has the same norm. Activations sort pairs (Anil, Lucas and Grosse,
*Sorting out Lipschitz function approximation*, ICML 2019).
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import nn

__all__ = [
    "LipschitzConvNet",
    "LipschitzMLP",
    "MaxMin",
    "OrthogonalLinear",
    "RescaledConv2d",
    "Standardize",
    "UnitBall",
    "adjoint",
    "channel_sums",
    "lipschitz_model",
    "plain",
]


class OrthogonalLinear(nn.Linear):
    """A dense layer whose weight is the orthogonal factor (QR) of its parameter.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default=True

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import OrthogonalLinear
    >>> x = torch.ones(1, 4)
    >>> z = OrthogonalLinear(4, 6, bias=False)(x).detach()
    >>> round(float(z.norm() / x.norm()), 4)
    1.0
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__(in_features, out_features, bias)

    def reset_parameters(self) -> None:
        """Start from a random orthogonal weight."""
        nn.init.orthogonal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def effective_weight(self) -> torch.Tensor:
        """Return the weight that is applied, of shape (out_features, in_features)."""
        tall = self.out_features >= self.in_features
        factor, triangle = torch.linalg.qr(self.weight if tall else self.weight.T)
        # the factor that is continuous in the parameter
        factor = factor * torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(factor)
        return factor if tall else factor.T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return rows of shape (n, out_features)."""
        return nn.functional.linear(x, self.effective_weight(), self.bias)


class RescaledConv2d(nn.Conv2d):
    """A convolution, with zeros around the image, that is rescaled to norm at most 1.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int, default=3
        Odd; the image keeps its size.
    bias : bool, default=True
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}.")
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias
        )

    def reset_parameters(self) -> None:
        """Start from a random orthogonal map of the channels of each pixel."""
        nn.init.zeros_(self.weight)
        middle = self.kernel_size[0] // 2
        with torch.no_grad():
            centre = torch.empty(self.out_channels, self.in_channels)
            self.weight[:, :, middle, middle] = nn.init.orthogonal_(centre)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def effective_weight(self) -> torch.Tensor:
        """Return the kernel that is applied, of the shape of `weight`."""
        narrows = self.in_channels > self.out_channels
        sums = channel_sums(adjoint(self.weight) if narrows else self.weight)
        scale = torch.where(sums > 0, sums, 1).sqrt()[:, None, None]
        return self.weight / (scale[:, None] if narrows else scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return images of shape (n, out_channels, height, width)."""
        return self._conv_forward(x, self.effective_weight(), self.bias)


class MaxMin(nn.Module):
    """Sort each pair of channels (c, c + half): the larger ones first.

    Needs an even number of channels; with an odd one the last stays as it is.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import MaxMin
    >>> MaxMin()(torch.tensor([[1.0, 5.0, 3.0, 2.0]]))
    tensor([[3., 5., 1., 2.]])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape, (n, channels, ...)."""
        half = x.shape[1] // 2
        first, second, rest = x[:, :half], x[:, half : 2 * half], x[:, 2 * half :]
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second), rest], 1)


class UnitBall(nn.Module):
    """z / max(1, ‖z‖): the nearest point of the unit ball."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape, (n, embedding_dim)."""
        return z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1)


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


def channel_sums(weight: torch.Tensor) -> torch.Tensor:
    """Return t of a kernel, shape (in_channels,); √(max t) bounds the norm of the convolution.

    Parameters
    ----------
    weight : Tensor of shape (out_channels, in_channels, height, width)
    """
    turned = weight.transpose(0, 1)
    padding = (weight.shape[2] - 1, weight.shape[3] - 1)
    return nn.functional.conv2d(turned, turned, padding=padding).abs().sum((1, 2, 3))


def adjoint(weight: torch.Tensor) -> torch.Tensor:
    """Return the kernel of the transposed convolution, shape (in, out, height, width)."""
    return weight.transpose(0, 1).flip(2, 3)


def plain(module: nn.Module) -> nn.Module:
    """Return a copy in float64 in which weights are what is applied, ready to be bounded.

    Parameters
    ----------
    module : torch.nn.Module
    """
    try:
        module = copy.deepcopy(module).double()
    except RuntimeError as error:
        raise ValueError(
            "module cannot be copied, which its bound needs. Hooks such as those of "
            "torch.nn.utils.weight_norm are a reason: use torch.nn.utils.parametrizations. "
            f"({error})"
        ) from error
    root = nn.Sequential(module)
    for parent in list(root.modules()):
        for key, part in list(parent._modules.items()):  # a layer may stand in several places
            if type(part) in (OrthogonalLinear, RescaledConv2d):
                setattr(parent, key, _applied(part))  # type: ignore[arg-type]
    return root[0]


@torch.no_grad()
def _applied(layer: OrthogonalLinear | RescaledConv2d) -> nn.Module:
    """Return an ordinary layer with the weight that a layer applies."""
    made: nn.Linear | nn.Conv2d
    has_bias = layer.bias is not None
    if isinstance(layer, OrthogonalLinear):
        made = nn.Linear(layer.in_features, layer.out_features, has_bias)
    else:
        size = layer.kernel_size[0]
        made = nn.Conv2d(
            layer.in_channels, layer.out_channels, size, padding=size // 2, bias=has_bias
        )
    made = made.to(layer.weight)
    finite = torch.isfinite(layer.weight).all()
    made.weight.copy_(layer.effective_weight() if finite else layer.weight)
    if made.bias is not None and layer.bias is not None:
        made.bias.copy_(layer.bias)
    return made


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
        Width of each block.
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
