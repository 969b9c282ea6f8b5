"""Nested states as tensors and text, without pickle.

Tensors go into a safetensors file, everything else into its header as JSON, with a digest of
both: reading such a file runs no code, and one that was damaged is refused.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

__all__ = ["can_be_written", "read_tree", "write_tree"]

_HEADER, _DIGEST = "skrobust", "sha256"
# the others, such as complex128, are written as bytes
_NATIVE = {
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
}


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
            text = header.get(_HEADER)
            if text is None:
                raise ValueError("it has no header of skrobust.")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if _DIGEST not in header:
            raise ValueError("it has no digest: it was written before there were any.")
        if header[_DIGEST] != _digest(text, tensors):
            raise ValueError("its content is not what was written.")
        return _unpack(json.loads(text), tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the file {str(path)!r} is broken, or is not one that skrobust wrote: {error}"
        ) from error


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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
    data = torch.frombuffer(bytearray(node.tobytes() or b"\0"), dtype=torch.uint8)
    tensors[f"{len(tensors)}"] = data
    return {"array": f"{len(tensors) - 1}", "dtype": node.dtype.str, "shape": list(node.shape)}


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        value = tensors[node["tensor"]]
        if "dtype" not in node:
            return value
        return value.view(getattr(torch, node["dtype"])).reshape(node["shape"])
    if "array" in node:
        found = np.ndarray(node["shape"], node["dtype"], tensors[node["array"]].numpy().tobytes())
        return found.copy()
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
