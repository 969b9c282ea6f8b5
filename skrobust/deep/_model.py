"""From the parameter `module` to a model that embeds raw rows."""

import copy
import inspect
import io
from typing import Any

import torch
from torch import nn

from skrobust.deep._layout import InputLayout
from skrobust.deep._modules import MLP, ConvNet, EmbeddingModel
from skrobust.deep._statistics import Moments
from skrobust.deep.lipschitz._modules import LipschitzConvNet, LipschitzMLP, lipschitz_model
from skrobust.utils._torch import eval_mode

__all__ = ["build_model", "check_output", "duplicate"]

_DIM = 64


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
    module: Any,
    params: dict[str, Any],
    layout: InputLayout,
    embedding_dim: int | None,
    scaling: Moments | None,
    normalize: bool,
    lipschitz: bool = False,
) -> nn.Module:
    """Return an untrained model.

    Parameters
    ----------
    module : torch.nn.Module class or object, callable, or None
    params : dict
        Of the class.
    layout : InputLayout
    embedding_dim : int or None
    scaling : Moments or None
    normalize : bool
    lipschitz : bool, default=False
        Make a model that can be bounded: see :func:`lipschitz_model`.

    Raises
    ------
    TypeError
        If parameters do not fit, or no module comes of it.
    ValueError
        If there is no default network for rows of this shape.
    """
    if isinstance(module, nn.Module):
        if params:
            raise TypeError(f"module__… parameters need a class; got {params} with an object.")
        backbone = copy.deepcopy(module)
    else:
        kind = _default(layout, lipschitz) if module is None else module
        offered = {
            "input_shape": layout.input_shape,
            "embedding_dim": _DIM if embedding_dim is None else embedding_dim,
        }
        named = inspect.signature(kind).parameters
        own = named.get("embedding_dim")
        if embedding_dim is None and own is not None and own.default is not own.empty:
            del offered["embedding_dim"]  # the default of the class
        given = {name: value for name, value in offered.items() if name in named} | params
        try:
            backbone = kind(**given)
        except TypeError as error:
            raise TypeError(
                f"module={getattr(kind, '__name__', kind)} cannot be made with {given}: {error}"
            ) from error
        if not isinstance(backbone, nn.Module):
            raise TypeError(f"module must make a torch.nn.Module; got {type(backbone).__name__}.")
    if scaling is not None and lipschitz:
        scaling = scaling.isotropic
    mean, std = (None, None) if scaling is None else (scaling.mean, scaling.std)
    if lipschitz:  # trained in float32; what is fitted is in float64
        return lipschitz_model(backbone.float(), mean, std, normalize)
    return EmbeddingModel(backbone, mean, std, normalize)


def check_output(model: nn.Module, layout: InputLayout, embedding_dim: int | None) -> int:
    """Return the dimensions of the embedding, found by trying two rows of zeros.

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


def _default(layout: InputLayout, lipschitz: bool) -> type[nn.Module]:
    if len(layout.shape) == 1:
        return LipschitzMLP if lipschitz else MLP
    if layout.is_image:
        return LipschitzConvNet if lipschitz else ConvNet
    raise ValueError(
        f"module must be given for rows of shape {layout.shape}: the default networks are for "
        "tables and images."
    )
