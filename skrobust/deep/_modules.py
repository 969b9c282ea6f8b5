"""The networks that are used where none is given, and the model around any network."""

import copy
import inspect
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from skrobust.deep._data import InputLayout, Moments
from skrobust.deep.lipschitz._layers import LipschitzConvNet, LipschitzMLP, lipschitz_model
from skrobust.deep.strategies._base import Training
from skrobust.utils._torch import eval_mode

__all__ = [
    "MLP",
    "ConvNet",
    "EmbeddingModel",
    "build_model",
    "check_output",
    "duplicate",
    "precision_of",
]

_DIM = 64


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
        Width of each block.

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


def duplicate(module: nn.Module) -> nn.Module:
    """Return a copy, also of modules that hold tensors that were computed."""
    try:
        return copy.deepcopy(module)
    except RuntimeError:  # such as torch.nn.utils.spectral_norm
        written = io.BytesIO()
        torch.save(module, written)
        written.seek(0)
        return torch.load(written, weights_only=False)


def build_model(
    estimator: Any, strategy: Training, layout: InputLayout, moments: Moments
) -> tuple[nn.Module, int]:
    """Return an untrained model, and the dimensions of the embedding of one of its networks.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
        It says which network, of what size, and what stands around it.
    strategy : Training
        It makes the model of one or several networks.
    layout : InputLayout
    moments : Moments
        Statistics of the training points.

    Raises
    ------
    TypeError
        If parameters do not fit, or no module comes of it.
    ValueError
        If there is no default network for rows of this shape, or its output is no embedding.
    """
    lipschitz = estimator.lipschitz is not None
    sizes: list[int] = []

    def make() -> nn.Module:
        backbone = _build_backbone(
            estimator.module,
            estimator.params_for("module__"),
            layout,
            estimator.embedding_dim,
            lipschitz,
        )
        mean, std = None, None
        if estimator.standardize:
            scaling = moments.isotropic if lipschitz else moments
            mean, std = scaling.mean, scaling.std
        network: nn.Module
        if lipschitz:  # trained in float32; what is fitted is in float64
            network = lipschitz_model(backbone.float(), mean, std, estimator.normalize)
        else:
            network = EmbeddingModel(backbone, mean, std, estimator.normalize)
        sizes.append(check_output(network, layout, estimator.embedding_dim))
        return network

    return strategy.build(make), sizes[0]


def _build_backbone(
    module: Any,
    params: dict[str, Any],
    layout: InputLayout,
    embedding_dim: int | None,
    lipschitz: bool,
) -> nn.Module:
    """Return the network: a copy of an object, or what a class makes of the sizes it names."""
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    kind = _default_kind(layout, lipschitz) if module is None else module
    sizes = {
        "input_shape": layout.input_shape,
        "embedding_dim": _DIM if embedding_dim is None else embedding_dim,
    }
    named = inspect.signature(kind).parameters
    own = named.get("embedding_dim")
    if embedding_dim is None and own is not None and own.default is not own.empty:
        del sizes["embedding_dim"]  # the default of the class
    given = {name: value for name, value in sizes.items() if name in named} | params
    try:
        backbone = kind(**given)
    except TypeError as error:
        raise TypeError(
            f"module={getattr(kind, '__name__', kind)} cannot be made with {given}: {error}"
        ) from error
    if not isinstance(backbone, nn.Module):
        raise TypeError(f"module must make a torch.nn.Module; got {type(backbone).__name__}.")
    return backbone


def check_output(model: nn.Module, layout: InputLayout, embedding_dim: int | None) -> int:
    """Return the dimensions of the embedding, by a trial with two rows of zeros.

    Raises
    ------
    ValueError
        If the output is not of shape (n, embedding_dim), or the input was refused.
    """
    x = torch.zeros(2, *layout.input_shape)
    try:
        with torch.no_grad(), eval_mode(model):
            z = model(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"module refused an input of shape {tuple(x.shape)}, two rows of X as it gets them: "
            f"{error}"
        ) from error
    shape = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
    wanted = "embedding_dim" if embedding_dim is None else embedding_dim
    if (
        not isinstance(z, torch.Tensor)
        or z.ndim != 2
        or len(z) != 2
        or not z.is_floating_point()
        or embedding_dim not in (None, z.shape[1])
    ):
        raise ValueError(
            f"module must return embeddings of shape (n, {wanted}) for n rows; got {shape} for "
            "2 rows of zeros. embedding_dim=None takes what the module gives."
        )
    return z.shape[1]


def _default_kind(layout: InputLayout, lipschitz: bool) -> type[nn.Module]:
    if len(layout.shape) == 1:
        return LipschitzMLP if lipschitz else MLP
    if len(layout.input_shape) == 3:
        return LipschitzConvNet if lipschitz else ConvNet
    raise ValueError(
        f"module must be given for rows of shape {layout.shape}: the default networks are for "
        "tables and images."
    )
