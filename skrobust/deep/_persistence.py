"""A fitted deep metric in a file, and a training that goes on after it was killed.

`save` keeps what a fitted estimator needs to embed points. A checkpoint is written after each
epoch and keeps weights, optimizer, random states, callbacks and history besides: a training that
reads it makes the same steps as one that was never interrupted.
"""

import hashlib
import inspect
import math
import re
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from skrobust.deep._batch_norm_bank import add_branches, branches_of
from skrobust.deep._data import InputLayout, Moments, row_slices
from skrobust.deep._io import (
    can_be_written,
    check_writable,
    load_state,
    parameter_from_tree,
    parameter_to_tree,
    read_file,
    state_of,
    write_file,
)
from skrobust.deep._modules import build_model
from skrobust.deep.lipschitz._bound import lipschitz_bound
from skrobust.deep.lipschitz._layers import plain
from skrobust.deep.strategies._base import StandardTraining
from skrobust.utils._torch import isolated_rng, resolve_device
from skrobust.utils._warnings import warn

__all__ = ["Checkpoint", "PersistenceMixin", "built_with", "look_for_checkpoint"]

# what a loaded estimator has besides its model
_FITTED = (
    *("classes_", "embedding_dim_", "feature_names_in_", "history_"),
    *("loss_curve_", "n_features_in_", "n_iter_"),
)
_TRAINING = "the checkpoint of a training"
# a training that goes on may have others of these
_FREE = {"max_iter", "resume", "checkpoint", "verbose", "callbacks"}


class PersistenceMixin:
    """`save` and `load` of a fitted deep metric."""

    def save(self, path: Any) -> None:
        """Write the fitted estimator to a safetensors file.

        It holds weights, classes, the shape of the input, and the parameters that are data
        (numbers, text, arrays) or components, such as training strategies and threat models.
        Others (a loss given as an object) are left out, with a warning, and :meth:`load` has
        their defaults. The optimizer is not saved: see `checkpoint` for trainings that go on.

        Parameters
        ----------
        path : path-like
        """
        check_is_fitted(self)
        check_writable(path, "path")
        own: Any = self
        kept, lost = {}, []
        for name, value in _params_of_fit(own).items():
            try:
                kept[name] = parameter_to_tree(value)
            except TypeError:
                lost.append(name)
        if lost:
            warn(
                f"the file does not hold {', '.join(lost)}, which are objects; load has their "
                "defaults, which matters for another fit only."
            )
        # parameters of what is not there go with it, such as loss__… of a loss
        parts = tuple(f"{name}__" for name in lost)
        module = own.module
        kind = module if hasattr(module, "__qualname__") or module is None else type(module)
        content = {
            "module": None if kind is None else f"{kind.__module__}.{kind.__qualname__}",
            "params": {k: v for k, v in kept.items() if not k.startswith(parts)},
            "row_shape": own.layout_.row_shape,
            "branches": branches_of(own.module_),
            "fitted": {name: getattr(own, name) for name in _FITTED if hasattr(own, name)},
            "state": state_of(own.module_),
        }
        write_file(path, f"an {type(self).__name__}", content)

    @classmethod
    def load(
        cls,
        path: Any,
        *,
        module: Any = None,
        components: Sequence[type[BaseEstimator]] = (),
        device: str = "auto",
    ) -> Self:
        """Read an estimator that :meth:`save` wrote.

        The file is data: nothing in it is run, and nothing is imported by a name in it.

        Parameters
        ----------
        path : path-like
        module : torch.nn.Module class or object, default=None
            The network, where the estimator was given one: files hold weights, not code.
        components : sequence of classes, default=()
            Those of your own among the parameters, such as a training strategy. The public
            ones of skrobust are known.
        device : str, default="auto"
            Where it is put.

        Returns
        -------
        AdversarialDeepMetric
            It transforms, and can be fitted anew; `net_` and `partial_fit`'s state are not saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is broken, was written by another class, or its weights do not fit
            the module.

        Warns
        -----
        UserWarning
            If a newer version wrote the file, or a component of yours is not given: its
            parameter has the default then.
        """
        target = resolve_device(device)
        content = read_file(path, f"an {cls.__name__}")
        if content["module"] is not None and module is None:
            raise ValueError(
                f"the file {str(path)!r} holds weights of a {content['module']}; give it as "
                "module=."
            )
        params = _read_params(path, content["params"], components)
        if isinstance(module, torch.nn.Module):  # it is made already
            params = {k: v for k, v in params.items() if not k.startswith("module__")}
        own: Any = cls(**params | {"module": module, "device": device})
        row_shape = tuple(content["row_shape"])
        own.layout_ = InputLayout.of(row_shape, own.image_shape, own.channels_last)
        model = _untrained_model(own)
        if content["branches"] and not branches_of(model):
            add_branches(model, content["branches"])
        load_state(path, model, content["state"])
        own.module_, own._built_with = model.to(target).eval(), built_with(own)
        own.lipschitz_ = None
        if own.lipschitz is not None:
            own.lipschitz_ = lipschitz_bound(own.module_, own.layout_.input_shape)
        for name in _FITTED:
            if name in content["fitted"]:
                setattr(own, name, content["fitted"][name])
        return own


def built_with(estimator: Any) -> dict[str, Any]:
    """Return the parameters that the shape of a model depends on.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    """
    names = ("normalize", "lipschitz", "standardize", "embedding_dim", "training")
    params = {name: getattr(estimator, name) for name in names}
    return params | {f"module__{k}": v for k, v in estimator.params_for("module__").items()}


def _params_of_fit(estimator: Any) -> dict[str, Any]:
    """Return the parameters as they were fitted, whatever was set since, without the module."""
    params = estimator.get_params(deep=False)
    params = {k: v for k, v in params.items() if k != "module" and not k.startswith("module__")}
    layout = estimator.layout_
    if layout.shape != layout.row_shape:
        params["image_shape"] = layout.shape
    if len(layout.shape) == 3:
        params["channels_last"] = layout.channels_last
    return params | estimator._built_with


def _read_params(path: Any, trees: dict[str, Any], components: Sequence[type]) -> dict[str, Any]:
    """Return the parameters in a file; those with unknown components are left out."""
    params, unknown = {}, []
    for name, tree in trees.items():
        try:
            params[name] = parameter_from_tree(tree, components)
        except LookupError as error:
            unknown.append(f"{name} ({error.args[0]})")
    if unknown:
        warn(
            f"the file {str(path)!r} names components that are not skrobust's: "
            f"{', '.join(unknown)}. Give their classes as components=; these parameters have "
            "their defaults now, which matters for another fit only."
        )
    return params


def _untrained_model(estimator: Any) -> torch.nn.Module:
    """Return the model of an estimator, whose weights and statistics are still to be loaded."""
    # the values come with the weights, and only the adversary of a training needs the others
    unknown = Moments(torch.zeros(1), torch.ones(1), *(np.zeros(1),) * 3)
    strategy = StandardTraining() if estimator.training is None else estimator.training
    with isolated_rng(0, torch.device("cpu")):
        model, _ = build_model(estimator, strategy, estimator.layout_, unknown)
    return model if estimator.lipschitz is None else plain(model)


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
        If there is no file to go on from or to write to, or it is broken, of another training,
        or cannot have the length of `max_iter`.
    """
    path = estimator.checkpoint
    if path is None:
        return {}, None
    check_writable(path, "checkpoint")
    described = _describe(estimator.get_params(deep=False) | {"device": device.type}, X, y)
    if not estimator.resume or not Path(path).is_file():
        return described, None
    state = read_file(path, _TRAINING)
    before = state["described"]
    other = sorted(k for k in {*before, *described} if before.get(k) != described.get(k))
    if other:
        there, here = (_short(texts.get(other[0])) for texts in (before, described))
        raise ValueError(
            f"checkpoint={str(path)!r} is of another training: it differs in {', '.join(other)} "
            f"({other[0]}: {there} there, {here} here). Use another file, or resume=False."
        )
    _check_length(path, state, estimator.max_iter, estimator.schedule)
    return described, state


def _describe(params: dict[str, Any], X: Any, y: np.ndarray) -> dict[str, str]:
    """Return what has to be the same for a training to go on: parameters and data, as text.

    Arrays count by their values, images in files by their names.
    """
    described = {
        name: _text(value)
        for name, value in params.items()
        if name not in _FREE and not name.startswith("callbacks__")
    }
    if not isinstance(params.get("random_state"), Integral):
        described.pop("random_state", None)  # the checkpoint has the seed
    digest = hashlib.sha256(np.ascontiguousarray(y).tobytes())
    if hasattr(X, "filenames"):
        digest.update("\n".join(X.filenames).encode())
    else:
        for some in row_slices(len(X), math.prod(X.shape[1:])):
            digest.update(np.ascontiguousarray(X[some]).tobytes())
    described["X, y"] = f"{tuple(X.shape)} {digest.hexdigest()[:16]}"
    return described


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


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) < 80 else f"{text[:77]}..."


def _check_length(path: Any, state: dict[str, Any], max_iter: int, schedule: Any) -> None:
    """Raise where a training is longer already, or its learning rate followed another length."""
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


class Checkpoint(Callback):
    """Write a checkpoint after each epoch, and go on from the one that was read.

    Parameters
    ----------
    path : path-like
    described : dict
        See :func:`look_for_checkpoint`.
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
            warn(
                f"checkpoint={str(self.path)!r} has made all of max_iter={net.max_epochs} epochs: "
                "resume=True has nothing left to train. A larger max_iter adds epochs."
            )
        # random states: of the adversary, of torch, and of the device
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
        adversary = context.adversary
        content = {
            "described": self.described,
            "seed": self.seed,
            "epoch": len(net.history),
            "max_iter": net.max_epochs,
            "cycle_start": context.cycle_start,
            "module": state_of(net.bare_module),
            "criterion": state_of(net.criterion_),
            "optimizer": net.optimizer_.state_dict(),
            "memory": dict(context.memory),
            "generator": None if adversary is None else adversary.generator.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(net.step_device) if cuda else None,
            "callbacks": {n: _fitted(c) for n, c in net.callbacks_ if c is not self},
            "history": [dict(row) for row in net.history],
        }
        write_file(self.path, _TRAINING, content)


def _fitted(callback: Callback) -> dict[str, Any]:
    """Return the fitted attributes of a callback, and the state of its scheduler.

    What cannot be written is left out, with a warning for callbacks that are not skorch's.
    """
    fitted: dict[str, Any] = {}
    for key, value in vars(callback).items():
        if key == "lr_scheduler_":
            value = {
                k: v for k, v in value.state_dict().items() if not callable(v) and k != "optimizer"
            }
        elif not key.endswith("_") or key.startswith("_"):
            continue
        if can_be_written(value):
            fitted[key] = value
        elif not type(callback).__module__.startswith(("skorch.", "skrobust.")):
            warn(
                f"{type(callback).__name__}.{key} cannot be written to the checkpoint; a training "
                "that is resumed will start it anew."
            )
    return fitted
