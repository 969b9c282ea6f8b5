"""Parameters of a deep metric: those with prefixes, as in skorch, and the check before a fit.

A fit that fails leaves the estimator as it was.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Self

import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.utils.data import Sampler

from skrobust.deep._data import check_image_shape
from skrobust.utils._torch import resolve_device

__all__ = [
    "PrefixedParams",
    "check_parameters",
    "resolve_accelerator",
    "unchanged_on_error",
    "without_kwargs",
]

_PREFIXES = (
    "callbacks__",
    "compile__",
    "iterator_train__",
    "iterator_valid__",
    "loss__",
    "miner__",
    "module__",
    "optimizer__",
)

# names that other packages have for parameters of ours
_MEANT = {
    "criterion": "loss",
    "epochs": "max_iter",
    "lr": "learning_rate",
    "max_epochs": "max_iter",
}


class PrefixedParams:
    """`get_params` and `set_params` with parameters that are not in the signature."""

    def _set_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Set the keyword arguments of ``__init__`` that are not in its signature."""
        wrong = [name for name in kwargs if not name.startswith(_PREFIXES)]
        if wrong:
            meant = [f"{_MEANT[name]} for {name}" for name in wrong if name in _MEANT]
            hint = f" Use {', '.join(meant)}." if meant else ""
            raise TypeError(
                f"{type(self).__name__} got unexpected parameters {wrong}; others than those of "
                f"the signature must begin with one of {', '.join(_PREFIXES)}.{hint}"
            )
        for name, value in kwargs.items():
            setattr(self, name, value)

    def params_for(self, prefix: str) -> dict[str, Any]:
        """Return the parameters with a prefix, without it."""
        own = vars(self).items()
        return {name[len(prefix) :]: value for name, value in own if name.startswith(prefix)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those with prefixes included.

        Parameters
        ----------
        deep : bool, default=True
            With those of components.
        """
        params: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]
        own = vars(self).items()
        return params | {name: value for name, value in own if name.startswith(_PREFIXES)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those with prefixes included.

        Parameters
        ----------
        **params : dict
        """
        own = {name: value for name, value in params.items() if name.startswith(_PREFIXES)}
        others = {name: value for name, value in params.items() if name not in own}
        super().set_params(**others)  # type: ignore[misc]
        self._set_kwargs(own)
        return self


def without_kwargs(kind: type) -> inspect.Signature:
    """Return the signature of a class without ``**kwargs``.

    Tools that try every parameter of a signature would take that for a name.
    """
    signature = inspect.signature(kind)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return signature.replace(parameters=kept)


def check_parameters(estimator: Any) -> torch.device:
    """Check what scikit-learn's constraints do not say, before any work; return the device.

    Parameters
    ----------
    estimator : AdversarialDeepMetric

    Raises
    ------
    ValueError, TypeError
        If parameters contradict each other, or are not as described.
    """
    device = resolve_device(estimator.device)
    if estimator.image_shape is not None:
        check_image_shape(estimator.image_shape)
    if estimator.training is not None:
        estimator.training.check()
    size, m = estimator.batch_size, estimator.samples_per_class
    if size < 2 * m:
        raise ValueError(
            f"batch_size={size} must hold samples_per_class={m} points of at least two classes: "
            f"use batch_size >= {2 * m}."
        )
    if estimator.n_iter_no_change is not None and estimator.validation_fraction == 0:
        raise ValueError(
            f"n_iter_no_change={estimator.n_iter_no_change} needs rows to judge by: set "
            "validation_fraction > 0."
        )
    if estimator.resume and estimator.checkpoint is None:
        raise ValueError("resume=True needs a checkpoint; got checkpoint=None.")
    if estimator.accelerator and estimator.checkpoint is not None:
        raise ValueError("checkpoint is for a single process; got an accelerator as well.")
    given = estimator.params_for("module__")
    if given and isinstance(estimator.module, nn.Module):
        raise TypeError(f"module__… parameters need a class; got {given} with an object.")
    given = estimator.params_for("compile__")
    if given and not estimator.compile:
        raise ValueError(f"compile__{next(iter(given))} needs compile=True; got compile=False.")
    _check_loaders(
        estimator.params_for("iterator_train__"),
        estimator.params_for("iterator_valid__"),
        estimator.validation_fraction,
    )
    _check_callbacks(estimator.callbacks, estimator.schedule)
    return device


def _check_loaders(
    train: dict[str, Any], valid: dict[str, Any], validation_fraction: float
) -> None:
    """Raise where parameters of the loaders do not fit the batches of classes."""
    samplers = {
        name: train[name] for name in ("sampler", "batch_sampler") if train.get(name) is not None
    }
    for name in ("batch_size", "shuffle", "drop_last"):
        if name in train and not samplers:
            raise ValueError(
                f"iterator_train__{name}={train[name]!r} is for samplers of your own "
                "(iterator_train__sampler); batches of m points a class are set by batch_size and "
                "samples_per_class."
            )
    for name, sampler in samplers.items():
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


def _check_callbacks(callbacks: Any, schedule: Any) -> None:
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


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Restore an estimator's attributes if the ``with`` block raises; gradients are on inside."""
    before = dict(vars(estimator))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def resolve_accelerator(accelerator: Any) -> Any:
    """Return an ``accelerate.Accelerator``, or None for a single process.

    Parameters
    ----------
    accelerator : accelerate.Accelerator, bool or None

    Raises
    ------
    ImportError
        If accelerate is not installed.
    """
    if accelerator is not True:
        return accelerator or None
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ImportError(
            "accelerator needs the package accelerate: pip install accelerate."
        ) from error
    return Accelerator()
