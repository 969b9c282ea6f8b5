r"""How far a network can move its outputs, layer by layer, and how much it rounds.

For layers g with ‖g(x) − g(x′)‖₂ ≤ L_g ‖x − x′‖₂ and ‖g(0)‖ ≤ b_g, inputs of norm t give

    L = Π L_g ,     n ← L_g n + b_g ,     e ← L_g e + k_g u [ a_g (n + e) + b_g ],

with n ≥ the norm of what enters, e ≥ the distance between what a program computes and the exact
value, k_g roundings of one result, a_g ≥ the norm of |W| and u the unit roundoff (the standard
model of floating point). Both are affine in t.

A convolution of an image with zeros around it is a part of the convolution on a torus that is
larger by the kernel; its norm is the largest singular value of the kernel's Fourier transform
(Sedghi, Gupta and Long, *The singular values of convolutional layers*, ICLR 2019).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

from skrobust.deep.lipschitz._layers import (
    MaxMin,
    Standardize,
    UnitBall,
    adjoint,
    channel_sums,
    plain,
)

__all__ = ["LayerBound", "LipschitzBound", "layer_bound", "lipschitz_bound"]

# of the singular values that are computed in float64, on the safe side
_SLACK = 1 + 1e-9
# multiplications that the Fourier transforms of a kernel may cost
_MOST_WORK = 1e11


@dataclass(frozen=True)
class LayerBound:
    """Bounds of one layer.

    Attributes
    ----------
    lipschitz : float
        L_g.
    offset : float
        b_g ≥ ‖g(0)‖.
    absolute : float
        a_g: rounding errors grow with it and with the norm of what enters.
    operations : int
        k_g: roundings of one result; 0 for layers that only choose, sort or move values.
    name : str
        Where it is in the network.
    """

    lipschitz: float = 1.0
    offset: float = 0.0
    absolute: float = 1.0
    operations: int = 0
    name: str = ""


@dataclass(frozen=True)
class LipschitzBound:
    """Bounds of a network.

    Attributes
    ----------
    layers : tuple of LayerBound
    lipschitz : float
        L, the product.
    rounding : tuple of two float
        (c, c′): for an input of norm t the program's result is within c + c′ t of the exact one,
        where it computes in float64.
    """

    layers: tuple[LayerBound, ...]
    lipschitz: float
    rounding: tuple[float, float]


def lipschitz_bound(module: nn.Module, input_shape: Any) -> LipschitzBound:
    """Bound how far a network moves its outputs, in ℓ₂.

    Parameters
    ----------
    module : torch.nn.Module
        Made of known layers, in ``nn.Sequential``. In evaluation mode: batch norms have their
        running statistics, dropout does nothing.
    input_shape : tuple of int
        Shape of one input.

    Returns
    -------
    LipschitzBound

    Raises
    ------
    TypeError
        If nothing is known of a layer; the message names it. Teach it by
        ``layer_bound.register(MyLayer)``.
    ValueError
        If the settings of a layer are not supported.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import LipschitzMLP, lipschitz_bound
    >>> bound = lipschitz_bound(LipschitzMLP((5,), 3), (5,))
    >>> round(bound.lipschitz, 6), len(bound.layers)
    (1.0, 5)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module; got {module!r}.")
    sizes = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if not sizes or not all(isinstance(n, Integral) and int(n) > 0 for n in sizes):
        raise ValueError(
            f"input_shape must be a tuple of positive integers, such as (8,) or (1, 28, 28); got "
            f"{input_shape!r}."
        )
    layers = tuple(_walk(plain(module).cpu().eval(), tuple(int(n) for n in sizes)))
    # n and e of the formulas above as (constant, slope), for an input of norm t
    unit = 2.0**-53
    size, error = np.array([0.0, 1.0]), np.zeros(2)
    constant = np.array([1.0, 0.0])
    with np.errstate(invalid="ignore", over="ignore"):  # where nothing is known of a layer
        for layer in layers:
            growth = layer.operations * unit
            rounded = growth * (layer.absolute * (size + error) + layer.offset * constant)
            error = layer.lipschitz * error + rounded
            size = layer.lipschitz * size + layer.offset * constant
    total = math.prod(layer.lipschitz for layer in layers) * _SLACK
    if not np.isfinite([total, *error]).all():  # nothing is known
        return LipschitzBound(layers, math.inf, (math.inf, math.inf))
    return LipschitzBound(layers, total, (float(error[0] * _SLACK), float(error[1] * _SLACK)))


def _walk(module: nn.Module, shape: tuple[int, ...]) -> Iterable[LayerBound]:
    """Yield the bounds of the layers; each sees the shape of what enters it."""
    x = torch.zeros(1, *shape, dtype=torch.float64)
    with torch.no_grad():
        for name, layer in _layers("", module):
            shape = tuple(x.shape[1:])
            _check_own(name, layer)
            try:
                finite = all(torch.isfinite(t).all() for t in layer.state_dict().values())
                bound = layer_bound(layer, shape) if finite else LayerBound(math.inf)
                x = layer(x)
            except TypeError as error:
                raise TypeError(f"layer {name!r}: {error}") from error
            except (ValueError, IndexError, RuntimeError) as error:
                raise ValueError(f"layer {name!r}, inputs of shape {shape}: {error}") from error
            # what could not be computed bounds nothing
            values = (bound.lipschitz, bound.offset, bound.absolute)
            lipschitz, offset, absolute = (math.inf if math.isnan(v) else v for v in values)
            yield LayerBound(lipschitz, offset, absolute, bound.operations, name)


def _layers(name: str, module: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Yield the layers of nested ``nn.Sequential``, in order, with their names."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        _check_own(name or "module", module)
        for key, child in module._modules.items():  # a layer may stand in several places
            if child is not None:
                yield from _layers(f"{name}.{key}" if name else key, child)
    else:
        yield name or "module", module


def _check_own(name: str, layer: nn.Module) -> None:
    """Raise where a layer does something else than the type whose bound it would get."""
    known = (*layer_bound.registry, nn.Sequential)
    kind = next((parent for parent in type(layer).__mro__ if parent in known), object)
    if kind is object:
        return
    own = type(layer)
    changed = [
        method
        for method in ("forward", "_conv_forward", "__call__", "_call_impl")
        if getattr(own, method, None) is not getattr(kind, method, None) or method in vars(layer)
    ]
    if changed:
        raise TypeError(
            f"layer {name!r}: {own.__name__} has a {changed[0]} of its own, so that the bound of "
            f"{kind.__name__} says nothing of it; teach its own by layer_bound.register."
        )
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise TypeError(f"layer {name!r}: {own.__name__} has hooks, which may change what it does.")


@singledispatch
def layer_bound(layer: Any, shape: tuple[int, ...]) -> LayerBound:
    """Bound one layer; extended by ``layer_bound.register(MyLayer)``.

    Parameters
    ----------
    layer : torch.nn.Module
        In float64, in evaluation mode.
    shape : tuple of int
        Shape of one input.

    Returns
    -------
    LayerBound
    """
    raise TypeError(
        f"{type(layer).__name__} has no known Lipschitz bound. Use layers of skrobust.deep, "
        "nn.Linear, nn.Conv2d, ReLU and others in nn.Sequential; or teach it by "
        "skrobust.deep.layer_bound.register."
    )


@layer_bound.register
def _(layer: nn.Linear, shape: tuple[int, ...]) -> LayerBound:
    weight = layer.weight.detach()
    return LayerBound(
        float(torch.linalg.matrix_norm(weight, 2)) * _SLACK,
        _norm(layer.bias) * math.sqrt(math.prod(shape[:-1])),
        float(torch.linalg.matrix_norm(weight)),
        _operations(weight.shape[1]),
    )


@layer_bound.register
def _(layer: nn.Conv2d, shape: tuple[int, ...]) -> LayerBound:
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            "Conv2d needs groups=1, padding_mode='zeros' and its padding in numbers; got "
            f"{layer.groups}, {layer.padding_mode!r} and {layer.padding!r}."
        )
    weight = layer.weight.detach()
    if len(shape) != 3:
        raise ValueError("Conv2d needs images, (channels, height, width).")
    height, width = shape[1:]
    out_height, out_width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            shape[1:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    )
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    absolute = float(torch.linalg.matrix_norm(weight.flatten(2).movedim(2, 0)).sum())
    return LayerBound(
        _torus_norm(weight, layer.dilation, (height + reach[0], width + reach[1])),
        _norm(layer.bias) * math.sqrt(out_height * out_width),
        absolute,
        _operations(weight[0].numel()),
    )


@layer_bound.register(nn.BatchNorm1d)
@layer_bound.register(nn.BatchNorm2d)
def _(layer: Any, shape: tuple[int, ...]) -> LayerBound:
    if layer.running_var is None:
        raise ValueError(f"{type(layer).__name__} needs its running statistics.")
    slope = (layer.running_var + layer.eps).rsqrt()
    gain = slope if layer.weight is None else slope * layer.weight.detach().abs()
    # (x − m) γ / √(v + ε) + β, in parts that do not cancel
    parts = gain * layer.running_mean.abs()
    if layer.bias is not None:
        parts = parts + layer.bias.detach().abs()
    largest = float(gain.max()) * _SLACK
    return LayerBound(largest, _norm(parts) * math.sqrt(math.prod(shape[1:])), largest, 64)


@layer_bound.register(MaxMin)
@layer_bound.register(nn.ReLU)
@layer_bound.register(nn.Identity)
@layer_bound.register(nn.Dropout)
@layer_bound.register(nn.Flatten)
@layer_bound.register(nn.Unflatten)
@layer_bound.register(nn.PixelUnshuffle)
def _(layer: Any, shape: tuple[int, ...]) -> LayerBound:
    return LayerBound()


@layer_bound.register
def _(layer: Standardize, shape: tuple[int, ...]) -> LayerBound:
    gain = _SLACK / float(layer.std.min())
    offset = torch.broadcast_to(layer.mean / layer.std, shape)
    return LayerBound(gain, float(torch.linalg.vector_norm(offset)) * _SLACK, gain, 16)


@layer_bound.register
def _(layer: nn.LeakyReLU, shape: tuple[int, ...]) -> LayerBound:
    slope = max(1.0, abs(layer.negative_slope))
    return LayerBound(slope, absolute=slope, operations=4)


@layer_bound.register(nn.Tanh)
@layer_bound.register(UnitBall)
def _(layer: Any, shape: tuple[int, ...]) -> LayerBound:
    return LayerBound(operations=_operations(math.prod(shape)))


@layer_bound.register
def _(layer: nn.MaxPool2d, shape: tuple[int, ...]) -> LayerBound:
    _check_windows(layer)
    return LayerBound()


@layer_bound.register
def _(layer: nn.AvgPool2d, shape: tuple[int, ...]) -> LayerBound:
    _check_windows(layer)
    size = _pair(layer.kernel_size)
    if layer.divisor_override is not None or layer.ceil_mode:
        raise ValueError("AvgPool2d with divisor_override or ceil_mode is not supported.")
    n = size[0] * size[1]
    return LayerBound(_SLACK / math.sqrt(n), absolute=1.0, operations=_operations(n))


@layer_bound.register
def _(layer: nn.AdaptiveAvgPool2d, shape: tuple[int, ...]) -> LayerBound:
    if len(shape) != 3:
        raise ValueError("AdaptiveAvgPool2d needs images, (channels, height, width).")
    sizes = _pair(layer.output_size)
    grid = [n if size is None else size for n, size in zip(shape[1:], sizes, strict=True)]
    if any(n % size for n, size in zip(shape[1:], grid, strict=True)):
        raise ValueError(
            f"AdaptiveAvgPool2d needs images that its output_size divides; got {shape[1:]} and "
            f"{tuple(grid)}."
        )
    n = math.prod(shape[1:]) // math.prod(grid)
    return LayerBound(_SLACK / math.sqrt(n), absolute=1.0, operations=_operations(n))


def _check_windows(layer: Any) -> None:
    """Raise where windows overlap, or the border is padded."""
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    padding, dilation = _pair(layer.padding), _pair(getattr(layer, "dilation", 1))
    if any(s < k for s, k in zip(stride, kernel, strict=True)) or any(padding):
        raise ValueError(
            f"{type(layer).__name__} needs windows that do not overlap, and no padding; got "
            f"kernel_size={layer.kernel_size}, stride={layer.stride}, padding={layer.padding}."
        )
    if dilation != (1, 1):
        raise ValueError(f"{type(layer).__name__} needs dilation=1; got {dilation}.")


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if not isinstance(value, (tuple, list)) else (value[0], value[1])


def _torus_norm(weight: torch.Tensor, dilation: Any, size: tuple[int, int]) -> float:
    """Return an upper bound of the norm of a convolution, by the torus or by channel sums."""
    n_out, n_in, height, width = weight.shape
    n_frequencies = size[0] * (size[1] // 2 + 1)
    bound = math.inf
    if n_frequencies * n_out * n_in * min(n_out, n_in) <= _MOST_WORK:
        spread = weight.new_zeros(n_out, n_in, *size)
        # a kernel that is wider than the torus wraps around it
        for i in range(height):
            for j in range(width):
                row, column = (i * dilation[0]) % size[0], (j * dilation[1]) % size[1]
                spread[:, :, row, column] += weight[:, :, i, j]
        transformed = torch.fft.rfft2(spread).flatten(2).movedim(2, 0)
        bound = float(torch.linalg.matrix_norm(transformed, 2).max())
    turned = weight if n_in <= n_out else adjoint(weight)
    sums = math.sqrt(float(channel_sums(turned).max()))
    return min(bound, sums) * _SLACK


def _norm(values: torch.Tensor | None) -> float:
    return 0.0 if values is None else float(torch.linalg.vector_norm(values.detach())) * _SLACK


def _operations(n: int) -> int:
    # 4: whatever order, blocks or transforms a library sums in
    return 4 * (n + 16)
