"""The one place that converts NumPy to torch and back, picks a device and makes generators."""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

__all__ = [
    "as_tensor",
    "draw_seed",
    "eval_mode",
    "exact_matmul",
    "isolated_rng",
    "make_generator",
    "resolve_device",
    "to_numpy",
]


def resolve_device(device: str) -> torch.device:
    """Turn the parameter `device` into a torch device that is there.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA where it is present, else the CPU) or a name that torch knows,
        such as ``"cpu"`` or ``"cuda:1"``.

    Raises
    ------
    ValueError
        If torch does not know the name, or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:N'."
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'."
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA "
            "devices; use device='auto' or 'cpu'."
        )
    return resolved


def as_tensor(
    array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return `array` as a tensor on `device`; shares memory where it can, never writes."""
    if not array.flags.writeable:  # torch cannot hold read-only memory
        array = array.copy()
    return torch.as_tensor(np.ascontiguousarray(array), device=device, dtype=dtype)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a detached NumPy array on the CPU."""
    return tensor.detach().cpu().numpy()


def make_generator(random_state: np.random.RandomState) -> torch.Generator:
    """Return a torch generator on the CPU, seeded from a NumPy random state.

    Random numbers are always drawn on the CPU, so that a fit does not depend on the device.
    """
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    return torch.Generator(device="cpu").manual_seed(seed)


class _Precision:
    """How many blocks, of all threads, ask for full precision, and what there was before."""

    lock = threading.Lock()
    users = 0
    before = ""


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Matrix products in full precision (no TF32, no bfloat16), restored afterwards.

    The setting is global: where blocks of several threads overlap, the first one sets it and the
    last one restores it.
    """
    with _Precision.lock:
        if _Precision.users == 0:
            _Precision.before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
        _Precision.users += 1
    try:
        yield
    finally:
        with _Precision.lock:
            _Precision.users -= 1
            if _Precision.users == 0:
                torch.set_float32_matmul_precision(_Precision.before)


# Initial weights, dropout and the samplers of others can only draw from global states, of which a
# process has one: threads take turns. The same thread may enter again.
_turn = threading.RLock()


def _new_turn() -> None:
    """Make a lock for a forked process, where the threads that may hold this one are not."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turn)


def draw_seed(random_state: Any) -> int:
    """Return a seed for :func:`isolated_rng`, not while another thread has seeded the global state.

    Parameters
    ----------
    random_state : int, RandomState or None
        None draws from NumPy's global state.
    """
    with _turn:
        return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Global random states, seeded inside a ``with`` block and restored afterwards.

    Initial weights, dropout and loaders draw from torch's, samplers of others from NumPy's and
    Python's. The blocks of several threads run one after the other, so that each draws the
    numbers of its own seed.

    Parameters
    ----------
    seed : int
    device : torch.device
        A CUDA device has a state of its own.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with _turn:
        before = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
                yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; afterwards each part is in its own mode again.

    Parameters
    ----------
    module : torch.nn.Module
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
