"""What a module holds beside its code: weights, buffers, extra states and plain attributes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from skrobust.deep._serialization import can_be_written

__all__ = ["detach_memory", "load_state", "state_of", "untouched"]

# every module has these; the mode is that of a training or of its end, not of a file
_COMMON = {*vars(nn.Module()), "training"}
_EXTRA = "_extra_state"


def state_of(module: nn.Module) -> dict[str, Any]:
    """Return copies of what a module has learned and counted.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict
        ``"weights"``, the state dict with extra states, and ``"plain"``: for each part, by its
        name, the attributes of its own that can be written, such as counters.
    """
    plain = {}
    for name, part in module.named_modules():
        own = {k: v for k, v in vars(part).items() if k not in _COMMON and can_be_written(v)}
        if own:
            plain[name] = _copies(own)
    return {"weights": _copies(module.state_dict()), "plain": plain}


def load_state(path: Any, module: nn.Module, state: dict[str, Any]) -> None:
    """Give a module the state of another one of the same architecture.

    Buffers take their shape and type from the state, because a training may change them;
    parameters have to have those that they had.

    Parameters
    ----------
    path : path-like
        For messages.
    module : torch.nn.Module
        Changed in place.
    state : dict
        See :func:`state_of`.

    Raises
    ------
    ValueError
        If names, shapes or types differ; the message names one.
    """
    weights = state["weights"]
    _adopt_buffers(module, weights)
    _check_same(path, module, weights)
    parts = dict(module.named_modules())
    for name, own in state["plain"].items():
        for key, value in own.items() if name in parts else ():
            if key in _COMMON or hasattr(type(parts[name]), key):
                continue
            if not _equal(vars(parts[name]).get(key, _EXTRA), value):
                device = _device(parts[name])
                found = value.to(device) if isinstance(value, torch.Tensor) else value
                setattr(parts[name], key, found)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} holds the state of another architecture: {error}"
        ) from error


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Undo at the end of a ``with`` block what a module changes of itself, but for its parameters.

    Inside it works on copies of its buffers and attributes: tensors that the block computed from
    them stay as they are, and can be differentiated.

    Parameters
    ----------
    module : torch.nn.Module
    """
    before = [(part, dict(vars(part))) for part in module.modules()]
    try:
        for part, kept in before:
            for name, value in kept.items():
                if name not in _COMMON:
                    vars(part)[name] = _copied(value)
            part._buffers = _copies(part._buffers)
            part._parameters, part._modules = dict(part._parameters), dict(part._modules)
        yield
    finally:
        for part, kept in before:
            vars(part).clear()
            vars(part).update(kept)


def detach_memory(module: nn.Module) -> None:
    """Cut what a module remembers of a batch from the graph of that batch.

    Parameters
    ----------
    module : torch.nn.Module
        Its buffers and tensor attributes are replaced where they have a history.
    """
    for part in module.modules():
        places: tuple[dict[str, Any], ...] = (vars(part), part._buffers)
        for kept in places:
            for name, value in list(kept.items()):
                if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                    kept[name] = value.detach()


def _copies(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) for name, value in values.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, nn.Module):  # a part, which is among the others
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # open files, locks and others that are one of a kind
        return value


def _adopt_buffers(module: nn.Module, weights: dict[str, Any]) -> None:
    """Give buffers the shape and type of the saved ones."""
    device = _device(module)
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        for key, own in list(part._buffers.items()):
            if key in part._non_persistent_buffers_set:
                continue
            saved = weights.get(prefix + key)
            if saved is None or own is None or (saved.shape, saved.dtype) != (own.shape, own.dtype):
                place = device if own is None else own.device
                part._buffers[key] = None if saved is None else saved.to(place)


def _check_same(path: Any, module: nn.Module, weights: dict[str, Any]) -> None:
    """Raise where weights do not fit a module."""
    there = module.state_dict()
    own, given = _shapes(there), _shapes(weights)
    for key in sorted({*own, *given}):
        if own.get(key) != given.get(key):
            raise ValueError(
                f"{str(path)!r} holds the weights of another architecture: {key} has shape "
                f"{given.get(key, 'none')} there and {own.get(key, 'none')} in this module."
            )
    for key, value in weights.items():
        if key in own and value.dtype != there[key].dtype:
            raise ValueError(
                f"{str(path)!r} holds weights of another type: {key} is {value.dtype} there and "
                f"{there[key].dtype} in this module; convert it by module.to({value.dtype})."
            )


def _shapes(weights: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    # extra states may be anything
    return {
        key: tuple(value.shape)
        for key, value in weights.items()
        if key.rpartition(".")[2] != _EXTRA and isinstance(value, torch.Tensor)
    }


def _device(module: nn.Module) -> torch.device:
    held: list[torch.Tensor] = [*module.parameters(), *module.buffers()]
    return held[0].device if held else torch.device("cpu")


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):  # containers of tensors or arrays
        return False
