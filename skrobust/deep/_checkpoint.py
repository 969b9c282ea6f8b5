"""Everything that a training needs to go on after it was killed.

A file is written after each epoch: weights, optimizer, random states, callbacks and history. A
training that reads it makes the same steps as one that was never interrupted.
"""

import hashlib
import inspect
import math
import re
import warnings
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from skrobust.deep._data import row_slices
from skrobust.deep._module_state import load_state, state_of
from skrobust.deep._serialization import can_be_written, read_tree, write_tree

__all__ = ["Checkpoint", "check_writable", "look_for_checkpoint"]

_FREE = {"max_iter", "resume", "checkpoint", "verbose", "callbacks"}


def describe(params: dict[str, Any], X: Any, y: np.ndarray) -> dict[str, str]:
    """Return what has to be the same for a training to go on: parameters and data, as text.

    Parameters
    ----------
    params : dict
        Of the estimator.
    X : array-like of shape (n_samples, ...)
        Arrays count by their values, images in files by their names.
    y : ndarray of shape (n_samples,)
    """
    found = {
        name: _text(value)
        for name, value in params.items()
        if name not in _FREE and not name.startswith("callbacks__")
    }
    if not isinstance(params.get("random_state"), Integral):
        found.pop("random_state", None)  # the checkpoint has the seed
    digest = hashlib.sha256(np.ascontiguousarray(y).tobytes())
    if hasattr(X, "filenames"):
        digest.update("\n".join(X.filenames).encode())
    else:
        for some in row_slices(len(X), math.prod(X.shape[1:])):
            digest.update(np.ascontiguousarray(X[some]).tobytes())
    found["X, y"] = f"{tuple(X.shape)} {digest.hexdigest()[:16]}"
    return found


def _text(value: Any) -> str:
    """Return a text that is the same for the same parameter in another process."""
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"tensor {value.dtype} {hashlib.sha256(data.tobytes()).hexdigest()[:16]}"
    if inspect.isfunction(value):
        code = value.__code__
        constants = [c for c in code.co_consts if not inspect.iscode(c)]
        return f"{value.__qualname__} {code.co_code.hex()} {constants}"
    if inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(part) for part in value) + "]"
    if isinstance(value, BaseEstimator):
        return f"{type(value).__name__}{_text(value.get_params(deep=False))}"
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    if hasattr(value, "__dict__"):
        state = {k: v for k, v in vars(value).items() if not k.endswith("hooks")}
        return f"{type(value).__qualname__}{_text(state)}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def check_length(path: Any, state: dict[str, Any], max_iter: int, schedule: Any) -> None:
    """Raise where a training cannot have the length that is asked for.

    Parameters
    ----------
    path : path-like
    state : dict
        Of the checkpoint.
    max_iter : int
    schedule : str or None

    Raises
    ------
    ValueError
        If it is longer already, or the learning rate followed another length.
    """
    if state["epoch"] > max_iter:
        raise ValueError(
            f"checkpoint={str(path)!r} has made {state['epoch']} epochs; max_iter={max_iter} is "
            "less."
        )
    if schedule is not None and max_iter != state["max_iter"] != state["epoch"]:
        raise ValueError(
            f"checkpoint={str(path)!r} is in the middle of a training with "
            f"max_iter={state['max_iter']}, which schedule={schedule!r} follows; got "
            f"max_iter={max_iter}. Resume it with max_iter={state['max_iter']} first; a training "
            "that is finished can be prolonged, and one with schedule=None at any time."
        )


def check_writable(path: Any, name: str = "checkpoint") -> None:
    """Raise where no file can be written.

    Raises
    ------
    ValueError
        If the folder is not there, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{name} must be a file in a folder that is there; got {str(path)!r}.")


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
            f"({k}: {_short(before.get(k))} there, {_short(described.get(k))} here). Use another "
            "file, or resume=False."
        )
    return state


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) < 80 else f"{text[:77]}..."


def look_for_checkpoint(
    estimator: Any, X: Any, y: np.ndarray, device: torch.device
) -> tuple[dict[str, str], dict[str, Any] | None]:
    """Return what describes a training, and the state to go on from.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    X : array-like of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
    device : torch.device

    Raises
    ------
    ValueError
        If there is no file to go on from or to write to, or it is of another training.
    """
    path = estimator.checkpoint
    if path is None:
        if estimator.resume:
            raise ValueError("resume=True needs a checkpoint; got checkpoint=None.")
        return {}, None
    check_writable(path)
    described = describe(estimator.get_params(deep=False) | {"device": device.type}, X, y)
    state = read_checkpoint(path, described) if estimator.resume else None
    if state is not None:
        check_length(path, state, estimator.max_iter, estimator.schedule)
    return described, state


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
        load_state(self.path, net.bare_module, state["module"])
        load_state(self.path, net.criterion_, state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.history = History(state["history"])
        context = net.context
        context.memory.update(state["memory"])
        context.first_epoch = state["epoch"]
        # epochs that are added to a finished training are a cycle of their own
        same = state["max_iter"] == net.max_epochs
        context.cycle_start = state["cycle_start"] if same else state["epoch"]
        if context.first_epoch == net.max_epochs:
            warnings.warn(
                f"checkpoint={str(self.path)!r} has made all of max_iter={net.max_epochs} epochs: "
                "resume=True has nothing left to train. A larger max_iter adds epochs.",
                UserWarning,
                stacklevel=2,
            )
        if context.adversary is not None:
            context.adversary.generator.set_state(state["generator"])
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
        context, cuda = net.context, net.step_device.type == "cuda"
        generator = None if context.adversary is None else context.adversary.generator.get_state()
        write_tree(
            self.path,
            {
                "described": self.described,
                "seed": self.seed,
                "epoch": len(net.history),
                "max_iter": net.max_epochs,
                "cycle_start": context.cycle_start,
                "module": state_of(net.bare_module),
                "criterion": state_of(net.criterion_),
                "optimizer": net.optimizer_.state_dict(),
                "memory": dict(context.memory),
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
    """Return the fitted attributes of a callback, and the state of its scheduler.

    What cannot be written is left out, with a warning for callbacks that are not skorch's.
    """
    found: dict[str, Any] = {}
    for key, value in vars(callback).items():
        if key == "lr_scheduler_":
            value = {
                k: v for k, v in value.state_dict().items() if not callable(v) and k != "optimizer"
            }
        elif not key.endswith("_") or key.startswith("_"):
            continue
        if can_be_written(value):
            found[key] = value
        elif not type(callback).__module__.startswith(("skorch.", "skrobust.")):
            warnings.warn(
                f"{type(callback).__name__}.{key} cannot be written to the checkpoint; a training "
                "that is resumed will start it anew.",
                UserWarning,
                stacklevel=2,
            )
    return found
