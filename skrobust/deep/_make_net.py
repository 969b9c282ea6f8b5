"""From the estimator's parameters to a skorch net, with checks before training starts."""

import copy
import inspect
from fnmatch import fnmatch
from numbers import Integral
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.utils.data import Sampler

from skrobust.deep._accelerated import AcceleratedNet, resolve_accelerator
from skrobust.deep._callbacks import OneCycle, Patience
from skrobust.deep._net import MetricNet

__all__ = ["check_batch", "check_callbacks", "check_loaders", "make_net"]

_PREFIXES = ("callbacks__", "compile__", "iterator_train__", "iterator_valid__", "optimizer__")
_OWN = ("batch_size", "shuffle", "drop_last")


def make_net(
    estimator: Any, model: nn.Module, criterion: nn.Module, device: torch.device
) -> MetricNet:
    """Return an initialised net for an estimator's model.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    model, criterion : torch.nn.Module
    device : torch.device
    """
    mixed = estimator.precision == "mixed" or (
        estimator.precision == "auto" and device.type == "cuda"
    )
    given: dict[str, Any] = {
        "criterion": criterion,
        "optimizer": torch.optim.AdamW if estimator.optimizer is None else estimator.optimizer,
        "lr": estimator.learning_rate,
        "max_epochs": estimator.max_iter,
        "batch_size": estimator.batch_size,
        "samples_per_class": estimator.samples_per_class,
        "precision": "mixed" if mixed else "full",
        "callbacks": _callbacks(estimator),
        "compile": estimator.compile,
        "device": str(device),
        "verbose": int(estimator.verbose),
    }
    options = {
        prefix + name: value
        for prefix in _PREFIXES
        for name, value in estimator.params_for(prefix).items()
    }
    given |= {
        name: value if name.startswith("optimizer__") else copy.deepcopy(value)
        for name, value in options.items()
    }
    if estimator.accelerator is None or estimator.accelerator is False:
        return _initialized(MetricNet(model, **given), options)
    if estimator.checkpoint is not None:
        raise ValueError("checkpoint is for a single process; got an accelerator as well.")
    del given["device"]
    if not estimator.verbose:  # the mixin would print in any case
        given["callbacks__print_log__sink"] = print
    accelerator = resolve_accelerator(estimator.accelerator)
    return _initialized(AcceleratedNet(model, accelerator=accelerator, **given), options)


def _callbacks(estimator: Any) -> list[Any]:
    found: list[Any] = []
    if estimator.schedule == "one_cycle":
        found.append(("one_cycle", OneCycle()))
    found += copy.deepcopy(list(estimator.callbacks or []))
    if estimator.n_iter_no_change is not None:
        stop = Patience(estimator.n_iter_no_change, bool(estimator.verbose))
        found.append(("early_stopping", stop))
    return found


def check_batch(batch_size: int, samples_per_class: int) -> None:
    """Raise where a batch cannot hold the points of two classes."""
    if batch_size < 2 * samples_per_class:
        raise ValueError(
            f"batch_size={batch_size} must hold samples_per_class={samples_per_class} points of "
            f"at least two classes: use batch_size >= {2 * samples_per_class}."
        )


def check_loaders(train: dict[str, Any], valid: dict[str, Any], validation_fraction: float) -> None:
    """Raise where parameters of the loaders do not fit the batches of classes.

    Parameters
    ----------
    train, valid : dict
        What was given as ``iterator_train__…`` and ``iterator_valid__…``.
    validation_fraction : float
        0 where all rows are trained on.
    """
    given = [name for name in ("sampler", "batch_sampler") if train.get(name) is not None]
    for name in _OWN:
        if name in train and not given:
            raise ValueError(
                f"iterator_train__{name}={train[name]!r} is for samplers of your own "
                "(iterator_train__sampler); batches of m points a class are set by batch_size and "
                "samples_per_class."
            )
    for name in given:
        sampler = train[name]
        if isinstance(sampler, str) or not (callable(sampler) or hasattr(sampler, "__iter__")):
            raise TypeError(
                f"iterator_train__{name} must be a sampler, or a callable that makes one of the "
                f"labels; got {sampler!r}."
            )
        if validation_fraction > 0 and (isinstance(sampler, Sampler) or not callable(sampler)):
            raise ValueError(
                f"iterator_train__{name} is an object, which knows nothing of the rows that "
                f"validation_fraction={validation_fraction} leaves to train on; give a callable "
                "that gets their labels and makes a sampler, or validation_fraction=0."
            )
    size = valid.get("batch_size", 1)
    if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
        raise ValueError(f"iterator_valid__batch_size must be an integer >= 1; got {size!r}.")


def check_callbacks(callbacks: Any, schedule: Any) -> None:
    """Raise where something is not a callback of skorch, or two schedules would be followed."""
    for item in callbacks or []:
        callback = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else item
        kind = callback if inspect.isclass(callback) else type(callback)
        if callback is not None and not issubclass(kind, Callback):
            raise TypeError(
                f"callbacks must hold callbacks of skorch, or pairs (name, callback); got {item!r}."
            )
        if schedule is not None and callback is not None and issubclass(kind, LRScheduler):
            raise ValueError(
                f"callbacks hold an LRScheduler, and schedule={schedule!r} sets the learning rate "
                "as well; use schedule=None."
            )


def _initialized(net: MetricNet, options: dict[str, Any]) -> MetricNet:
    """Return a net, initialised; check that the options found what they are for.

    Parameters
    ----------
    net : MetricNet
    options : dict
        What was given with prefixes.

    Raises
    ------
    TypeError, ValueError
        If an optimizer or callback refuses its parameters, or there is none of that name.
    """
    if not any(p.requires_grad for p in net.module.parameters()):
        raise ValueError("module must have parameters to learn; it has none.")
    asked = ", ".join(f"{k}={v!r}" for k, v in options.items())
    try:
        net.initialize()
    except (TypeError, ValueError, AttributeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"the net cannot be made with learning_rate={net.lr}, {asked or 'no other options'}: "
            f"{error}"
        ) from error
    names = [name for name, _ in net._uniquely_named_callbacks()]
    for key in options:
        if key.startswith("callbacks__") and key.split("__")[1] not in names:
            raise ValueError(f"{key} is of no callback; their names are {names}.")
        if key.startswith("compile__") and not net.compile:
            raise ValueError(f"{key} needs compile=True; got compile=False.")
    learned = [name for name, _ in net.get_all_learnable_params()]
    for pattern, _ in options.get("optimizer__param_groups", []):
        if not any(fnmatch(name, pattern) for name in learned):
            raise ValueError(
                f"optimizer__param_groups has the pattern {pattern!r}, which fits none of "
                f"{learned}."
            )
    return net
