"""Everything that a training needs to go on after it was killed.

A file is written after each epoch: weights, optimizer, random states, callbacks and history. A
training that reads it makes the same steps as one that was never interrupted.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from skrobust.deep._tree import read_tree, write_tree

__all__ = ["Checkpoint", "check_same", "check_writable", "describe", "read_checkpoint"]

_FREE = {"max_iter", "resume", "checkpoint", "verbose", "callbacks", "device", "random_state"}


def describe(params: dict[str, Any], X: Any, y: np.ndarray) -> dict[str, str]:
    """Return what has to be the same for a training to go on: parameters and data, as text.

    Parameters
    ----------
    params : dict
        Of the estimator.
    X : array-like of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
    """
    found = {
        name: re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        for name, value in params.items()
        if name not in _FREE and not name.startswith("callbacks__")
    }
    some = np.linspace(0, len(y) - 1, min(len(y), 64)).astype(int)
    digest = hashlib.sha256(np.ascontiguousarray(X[some]).tobytes())
    digest.update(np.ascontiguousarray(y).tobytes())
    found["X, y"] = f"{tuple(X.shape)} {digest.hexdigest()[:16]}"
    return found


def check_writable(path: Any) -> None:
    """Raise where no file can be written.

    Raises
    ------
    ValueError
        If the folder is not there, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"checkpoint must be a file in a folder that is there; got {str(path)!r}.")


def read_checkpoint(path: Any, described: dict[str, str]) -> dict[str, Any] | None:
    """Return the state in a file, or None where there is none yet.

    Raises
    ------
    ValueError
        If it is broken, or of a training with other parameters or data.
    """
    if not Path(path).is_file():
        return None
    state = read_tree(path)
    if not isinstance(state, dict) or "described" not in state:
        raise ValueError(f"checkpoint={str(path)!r} is not the checkpoint of a training.")
    before = state["described"]
    other = sorted(k for k in {*before, *described} if before.get(k) != described.get(k))
    if other:
        k = other[0]
        raise ValueError(
            f"checkpoint={str(path)!r} is of another training: it differs in {', '.join(other)} "
            f"({k}: {before.get(k)} there, {described.get(k)} here). Use another file, or "
            "resume=False."
        )
    return state


def check_same(path: Any, module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Raise where weights do not fit a module.

    Raises
    ------
    ValueError
        If names or shapes differ; the message names one.
    """
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    for key in sorted({*own, *given}):
        if own.get(key) != given.get(key):
            raise ValueError(
                f"{str(path)!r} holds the weights of another architecture: {key} has shape "
                f"{given.get(key, 'none')} there and {own.get(key, 'none')} in this module."
            )


class Checkpoint(Callback):
    """Write a checkpoint after each epoch, and go on from the one that was read.

    Parameters
    ----------
    path : path-like
    described : dict
        See :func:`describe`.
    seed : int
        Of the training.
    state : dict or None
        Where to go on from.
    """

    def __init__(self, path: Any, described: Any, seed: int, state: Any = None):
        self.path, self.described, self.seed, self.state = path, described, seed, state

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the state, last of all callbacks."""
        state, self.state = self.state, None
        if state is None:
            return
        net.bare_module.load_state_dict(state["module"])
        net.criterion_.load_state_dict(state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.history = History(state["history"])
        session = net.session
        session.memory.update(state["memory"])
        session.first_epoch = state["epoch"]
        if session.adversary is not None:
            session.adversary.generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])
        if net.step_device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], net.step_device)
        for name, callback in net.callbacks_:
            for key, value in state["callbacks"].get(name, {}).items():
                if key == "lr_scheduler_":
                    callback.lr_scheduler_.load_state_dict(value)
                else:
                    setattr(callback, key, value)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the state."""
        session, cuda = net.session, net.step_device.type == "cuda"
        generator = None if session.adversary is None else session.adversary.generator.get_state()
        write_tree(
            self.path,
            {
                "described": self.described,
                "seed": self.seed,
                "epoch": len(net.history),
                "module": dict(net.bare_module.state_dict()),
                "criterion": dict(net.criterion_.state_dict()),
                "optimizer": net.optimizer_.state_dict(),
                "memory": dict(session.memory),
                "generator": generator,
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(net.step_device) if cuda else None,
                "callbacks": {
                    name: _kept(callback)
                    for name, callback in net.callbacks_
                    if callback is not self
                },
                "history": [dict(row) for row in net.history],
            },
        )


def _kept(callback: Callback) -> dict[str, Any]:
    """Return the simple fitted attributes of a callback, and the state of its scheduler."""
    found: dict[str, Any] = {}
    for key, value in vars(callback).items():
        if key == "lr_scheduler_":
            found[key] = {
                k: v for k, v in value.state_dict().items() if not callable(v) and k != "optimizer"
            }
        elif key.endswith("_") and not key.startswith("_") and _simple(value):
            found[key] = value
    return found


def _simple(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(part, torch.Tensor) for part in value.values())
    return value is None or isinstance(value, (bool, int, float, str, np.generic))
