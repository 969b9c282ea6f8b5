"""Files of tensors and text, without pickle: how a trained network is written and read.

Tensors go into a safetensors file, everything else into its header as JSON, with a digest of
both. Reading a file runs no code from it and imports nothing: a module gets its state from
:func:`load_state`, and a component is a public class of skrobust or one that the caller passes.
"""

import copy
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator
from torch import nn

from skrobust._version import __version__
from skrobust.utils._estimator import warn_if_newer

__all__ = [
    "can_be_written",
    "check_writable",
    "copied",
    "load_state",
    "own_attributes",
    "parameter_from_tree",
    "parameter_to_tree",
    "read_file",
    "read_tree",
    "state_of",
    "write_file",
    "write_tree",
]

_HEADER, _DIGEST = "skrobust", "sha256"
# the types of tensors that a file has itself; others, such as complex128, are written as bytes
_NATIVE = {
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
}
# every module has these; the mode is that of a training or of its end, not of a file
_COMMON = {*vars(nn.Module()), "training"}
_EXTRA = "_extra_state"


def check_writable(path: Any, name: str) -> None:
    """Raise where no file can be written.

    Parameters
    ----------
    path : path-like
    name : str
        The parameter, for the message.

    Raises
    ------
    ValueError
        If the folder is not there, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{name} must be a file in a folder that is there; got {str(path)!r}.")


def write_file(path: Any, kind: str, content: dict[str, Any]) -> None:
    """Write a file that says what it holds and which version wrote it.

    Parameters
    ----------
    path : path-like
    kind : str
        With its article, for messages: "an AdversarialDeepMetric".
    content : dict
        See :func:`write_tree`.
    """
    write_tree(path, {"kind": kind, "version": __version__} | content)


def read_file(path: Any, kind: str) -> dict[str, Any]:
    """Read what :func:`write_file` wrote; warn if a newer version did.

    Parameters
    ----------
    path : path-like
    kind : str

    Raises
    ------
    ValueError
        If the file is broken, or holds something else.
    """
    content = read_tree(path)
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise ValueError(f"the file {str(path)!r} does not hold {kind}.")
    warn_if_newer(f"the file {str(path)!r}", content["version"])
    return content


def write_tree(path: Any, tree: Any) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, bytes, arrays and tensors to a file.

    The file appears whole or not at all.

    Raises
    ------
    TypeError
        If the tree holds something else; the message says where.
    """
    path = Path(path)
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_pack(tree, "", tensors))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata={_HEADER: text, _DIGEST: _digest(text, tensors)})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_tree(path: Any) -> Any:
    """Read what :func:`write_tree` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is broken or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        text = header.get(_HEADER)
        if text is None:
            raise ValueError("it has no header of skrobust.")
        if header.get(_DIGEST) != _digest(text, tensors):
            raise ValueError("its content is not what was written.")
        return _unpack(json.loads(text), tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the file {str(path)!r} is broken, or is not one that skrobust wrote: {error}"
        ) from error


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def can_be_written(tree: Any) -> bool:
    """Return whether :func:`write_tree` takes a tree.

    Parameters
    ----------
    tree : object
    """
    try:
        _pack(tree, "", {})
    except TypeError:
        return False
    return True


def _pack(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a node as JSON; its tensors are added to `tensors`.

    Numbers, text and None stand for themselves. Everything else is a dict whose first key says
    what it is.
    """
    if isinstance(node, np.generic) and not isinstance(node, np.void):
        node = node.item()
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, torch.Tensor):
        return _pack_tensor(node, path, tensors)
    if isinstance(node, np.ndarray):
        return _pack_array(node, path, tensors)
    if isinstance(node, bytes):
        return {"bytes": node.hex()}
    if isinstance(node, complex):
        return {"complex": [node.real, node.imag]}
    if isinstance(node, dict):
        # pairs, because keys may be numbers or tuples
        keys = [_pack(k, f"{path}/{k}", tensors) for k in node]
        values = [_pack(v, f"{path}/{k}", tensors) for k, v in node.items()]
        return {"dict": [list(item) for item in zip(keys, values, strict=True)]}
    if isinstance(node, (list, tuple)):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_pack(v, f"{path}/{i}", tensors) for i, v in enumerate(node)]}
    raise TypeError(f"{path or 'the state'} holds a {type(node).__name__}, which cannot be saved.")


def _pack_tensor(node: torch.Tensor, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if node.layout != torch.strided or node.is_quantized or node.is_meta:
        raise TypeError(f"{path or 'the state'} holds a {node.layout} tensor that cannot be saved.")
    # a copy: two names of one memory cannot be saved
    value = node.detach().cpu().resolve_conj().resolve_neg().clone().contiguous()
    # numbered, because keys may hold anything
    place, dtype = f"{len(tensors)}", str(value.dtype).removeprefix("torch.")
    if dtype in _NATIVE:
        tensors[place] = value
        return {"tensor": place}
    tensors[place] = value.reshape(-1).view(torch.uint8)
    return {"tensor": place, "dtype": dtype, "shape": list(value.shape)}


def _pack_array(node: np.ndarray, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if node.dtype.hasobject:
        values = [_pack(v, f"{path}/{i}", tensors) for i, v in enumerate(node.ravel().tolist())]
        return {"objects": values, "shape": list(node.shape)}
    if node.dtype.names is not None:
        raise TypeError(f"{path or 'the state'} holds an array with fields; that cannot be saved.")
    # as bytes, because arrays have types that tensors have not; an empty one gets a byte
    place = f"{len(tensors)}"
    tensors[place] = torch.frombuffer(bytearray(node.tobytes() or b"\0"), dtype=torch.uint8)
    return {"array": place, "dtype": node.dtype.str, "shape": list(node.shape)}


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return what :func:`_pack` was given."""
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        value = tensors[node["tensor"]]
        if "dtype" not in node:
            return value
        return value.view(getattr(torch, node["dtype"])).reshape(node["shape"])
    if "array" in node:
        data = tensors[node["array"]].numpy().tobytes()
        return np.ndarray(node["shape"], node["dtype"], data).copy()
    if "objects" in node:
        array = np.empty(len(node["objects"]), dtype=object)
        for i, value in enumerate(node["objects"]):
            array[i] = _unpack(value, tensors)
        return array.reshape(node["shape"])
    if "dict" in node:
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in node["dict"]}
    if "bytes" in node:
        return bytes.fromhex(node["bytes"])
    if "complex" in node:
        return complex(*node["complex"])
    (kind,) = node
    values = [_unpack(value, tensors) for value in node[kind]]
    return tuple(values) if kind == "tuple" else values


def parameter_to_tree(value: Any) -> Any:
    """Return a parameter of an estimator as a tree: components by their names.

    Parameters
    ----------
    value : object

    Raises
    ------
    TypeError
        If it is an object that is neither data nor a component (a ``BaseEstimator``).
    """
    if isinstance(value, BaseEstimator):
        params = {k: parameter_to_tree(v) for k, v in value.get_params(deep=False).items()}
        return {"component": _component_name(type(value)), "params": params}
    if isinstance(value, dict):
        return {"dict": {k: parameter_to_tree(v) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return type(value)(parameter_to_tree(part) for part in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not can_be_written(value):
        raise TypeError(type(value).__name__)
    return value


def parameter_from_tree(tree: Any, components: Sequence[type]) -> Any:
    """Return the parameter that :func:`parameter_to_tree` was given.

    Parameters
    ----------
    tree : object
    components : sequence of classes
        The caller's components.

    Raises
    ------
    LookupError
        If a component is neither public in skrobust nor among the caller's.
    """
    if isinstance(tree, dict) and "component" in tree:
        kind = _find_component(tree["component"], components)
        return kind(**{k: parameter_from_tree(v, components) for k, v in tree["params"].items()})
    if isinstance(tree, dict):
        return {k: parameter_from_tree(v, components) for k, v in tree["dict"].items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(parameter_from_tree(part, components) for part in tree)
    return tree


def _component_name(kind: type) -> str:
    """Return where users import a class from: "skrobust.deep.MDProp"."""
    public = ".".join(kind.__module__.split(".")[:2])
    if _public(public, kind.__name__) is kind:
        return f"{public}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _find_component(name: str, components: Sequence[type]) -> Callable[..., Any]:
    """Return the class of a component without importing anything."""
    package, _, own = name.rpartition(".")
    kind = _public(package, own)
    if inspect.isclass(kind) and issubclass(kind, BaseEstimator):
        return kind
    for kind in components:
        if kind.__name__ == own:
            return kind
    raise LookupError(name)


def _public(package: str, name: str) -> Any:
    """Return a public object of a package of skrobust that is loaded, else None."""
    root, _, rest = package.partition(".")
    if root != "skrobust" or "." in rest or rest.startswith("_") or package not in sys.modules:
        return None
    module = sys.modules[package]
    return getattr(module, name) if name in getattr(module, "__all__", ()) else None


def own_attributes(part: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that not every module has.

    Parameters
    ----------
    part : torch.nn.Module
    """
    return {name: value for name, value in vars(part).items() if name not in _COMMON}


def copied(value: Any) -> Any:
    """Return a copy, or the value itself where it is a module or cannot be copied.

    Parameters
    ----------
    value : object
    """
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, nn.Module):  # a part, which is among the others
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # open files, locks and others that are one of a kind
        return value


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
        own = {k: copied(v) for k, v in own_attributes(part).items() if can_be_written(v)}
        if own:
            plain[name] = own
    return {"weights": {k: copied(v) for k, v in module.state_dict().items()}, "plain": plain}


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
    for name, part in module.named_modules():
        for key, value in state["plain"].get(name, {}).items():
            if key in _COMMON or hasattr(type(part), key):
                continue  # what torch sets itself, and properties
            if _equal(vars(part).get(key, _EXTRA), value):
                continue  # the same object may stand in several places
            setattr(part, key, value.to(_device(part)) if torch.is_tensor(value) else value)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} holds the state of another architecture: {error}"
        ) from error


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
    there, given = _tensors(module.state_dict()), _tensors(weights)
    for key in sorted({*there, *given}):
        shapes = [tuple(w[key].shape) if key in w else "none" for w in (given, there)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{str(path)!r} holds the weights of another architecture: {key} has shape "
                f"{shapes[0]} there and {shapes[1]} in this module."
            )
    for key, value in given.items():
        if value.dtype != there[key].dtype:
            raise ValueError(
                f"{str(path)!r} holds weights of another type: {key} is {value.dtype} there and "
                f"{there[key].dtype} in this module; convert it by module.to({value.dtype})."
            )


def _tensors(weights: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a state dict, without extra states, which may be anything."""
    return {
        key: value
        for key, value in weights.items()
        if key.rpartition(".")[2] != _EXTRA and isinstance(value, torch.Tensor)
    }


def _device(module: nn.Module) -> torch.device:
    tensors: list[torch.Tensor] = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


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
