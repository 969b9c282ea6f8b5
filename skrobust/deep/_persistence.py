"""Saving and loading by safetensors, without pickle."""

import os
import warnings
from contextlib import suppress
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skrobust._version import __version__
from skrobust.deep._batch_norm_bank import add_branches, branches_of
from skrobust.deep._checkpoint import check_writable
from skrobust.deep._data import InputLayout, Moments
from skrobust.deep._module_state import load_state, state_of
from skrobust.deep._modules import build_model, check_output
from skrobust.deep._serialization import read_tree, write_tree
from skrobust.deep.lipschitz._layers import plain
from skrobust.deep.strategies._adversarial import AdversarialTraining
from skrobust.deep.strategies._anti_collapse_triplet import AntiCollapseTriplet
from skrobust.deep.strategies._embedding_shift import EmbeddingShiftTraining
from skrobust.deep.strategies._ensemble_adversarial import EnsembleAdversarialTraining
from skrobust.deep.strategies._gradient_diversity import GradientDiversity
from skrobust.deep.strategies._hardness_manipulation import HardnessManipulation
from skrobust.deep.strategies._mdprop import MDProp
from skrobust.deep.strategies._standard import StandardTraining
from skrobust.threat_model import ThreatModel
from skrobust.utils._torch import isolated_rng, resolve_device

__all__ = ["PersistenceMixin", "built_with"]

_FORMAT = 1
_KNOWN: dict[str, type[BaseEstimator]] = {
    kind.__name__: kind
    for kind in (
        AdversarialTraining,
        AntiCollapseTriplet,
        EmbeddingShiftTraining,
        EnsembleAdversarialTraining,
        GradientDiversity,
        HardnessManipulation,
        MDProp,
        StandardTraining,
        ThreatModel,
    )
}


class PersistenceMixin:
    """`save` and `load` of a fitted deep metric."""

    def save(self, path: Any) -> None:
        """Write the fitted estimator to a safetensors file.

        It holds weights, classes, the shape of the input, and the parameters that are
        numbers, text, the package's training strategies or threat models. Others (a loss given
        as an object, a strategy of your own) are left out, with a warning, and :meth:`load` has
        their defaults. The optimizer is not saved: see
        `checkpoint` for trainings that go on.

        Parameters
        ----------
        path : path-like
        """
        check_is_fitted(self)
        check_writable(path, "path")
        kept, left = {}, []
        for name, value in self.get_params(deep=False).items():  # type: ignore[attr-defined]
            try:
                kept[name] = _to_tree(value)
            except TypeError:
                left.append(name)
        own: Any = self
        module = own.module
        # as they were fitted, whatever was set since
        kept = {k: v for k, v in kept.items() if not k.startswith("module__")}
        for name, value in own._built_with.items():
            with suppress(TypeError):
                kept[name] = _to_tree(value)
        if own.layout_.shape != own.layout_.row_shape:
            kept["image_shape"] = own.layout_.shape
        if len(own.layout_.shape) == 3:
            kept["channels_last"] = own.layout_.channels_last
        kind = module if hasattr(module, "__qualname__") or module is None else type(module)
        lost = [name for name in left if name != "module"]
        if lost:
            warnings.warn(
                f"the file does not hold {', '.join(lost)}, which are objects; load has their "
                "defaults, which matters for another fit only.",
                UserWarning,
                stacklevel=2,
            )
        parts = tuple(f"{name}__" for name in lost)
        kept = {k: v for k, v in kept.items() if not k.startswith(parts)}
        write_tree(
            path,
            {
                "format": _FORMAT,
                "version": __version__,
                "class": type(self).__name__,
                "module": None if kind is None else f"{kind.__module__}.{kind.__qualname__}",
                "params": kept,
                "left_out": lost,
                "row_shape": own.layout_.row_shape,
                "branches": branches_of(own.module_),
                "embedding_dim": own.embedding_dim_,
                "classes": own.classes_,
                "n_features_in": own.n_features_in_,
                "feature_names_in": getattr(own, "feature_names_in_", None),
                "history": own.history_,
                "state": state_of(own.module_),
            },
        )

    @classmethod
    def load(cls, path: Any, *, module: Any = None, device: str = "auto") -> Self:
        """Read an estimator that :meth:`save` wrote.

        The file is data: nothing in it is run, and no class is imported by a name in it.

        Parameters
        ----------
        path : path-like
        module : torch.nn.Module class or object, default=None
            The network, where the estimator was given one: files hold weights, not code.
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
        """
        target = resolve_device(device)
        state = read_tree(path)
        if not isinstance(state, dict) or state.get("class") != cls.__name__:
            raise ValueError(f"the file {str(path)!r} does not hold an {cls.__name__}.")
        if state["format"] > _FORMAT:
            warnings.warn(
                f"the file {str(path)!r} was written by skrobust {state['version']}, newer than "
                f"{__version__}.",
                UserWarning,
                stacklevel=2,
            )
        if state["module"] is not None and module is None:
            raise ValueError(
                f"the file {str(path)!r} holds weights of a {state['module']}; give it as module=."
            )
        params = {name: _from_tree(value) for name, value in state["params"].items()}
        if isinstance(module, torch.nn.Module):  # it is made already
            params = {k: v for k, v in params.items() if not k.startswith("module__")}
        own: Any = cls(**params | {"module": module, "device": device})
        own.layout_ = InputLayout.of(tuple(state["row_shape"]), own.image_shape, own.channels_last)
        # the values come with the weights, and only the adversary of a training needs the others
        unknown = (torch.zeros(1), torch.ones(1), *(np.zeros(1),) * 3)
        scaling = Moments(*unknown) if own.standardize else None
        strategy = StandardTraining() if own.training is None else own.training

        def make() -> torch.nn.Module:
            network = build_model(
                module,
                own.params_for("module__"),
                own.layout_,
                own.embedding_dim,
                scaling,
                own.normalize,
                own.lipschitz is not None,
            )
            check_output(network, own.layout_, None)  # lazy modules learn their shapes
            return network

        with isolated_rng(0, torch.device("cpu")):
            model = strategy.build(make)
        if own.lipschitz is not None:
            model = plain(model)
        if state["branches"] and not branches_of(model):
            add_branches(model, state["branches"])
        load_state(path, model, state["state"])
        own.module_, own._built_with = model.to(target).eval(), built_with(own)
        own.lipschitz_ = None if own.lipschitz is None else own._bound()
        own.embedding_dim_ = state["embedding_dim"]
        own.classes_, own.n_features_in_ = state["classes"], state["n_features_in"]
        if state["feature_names_in"] is not None:
            own.feature_names_in_ = state["feature_names_in"]
        own.history_ = state["history"]
        done = [row for row in own.history_ if "train_loss" in row]
        own.loss_curve_, own.n_iter_ = [row["train_loss"] for row in done], len(done)
        return own


def built_with(estimator: Any) -> dict[str, Any]:
    """Return the parameters that the shape of a model depends on.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    """
    return {
        "normalize": estimator.normalize,
        "lipschitz": estimator.lipschitz,
        "standardize": estimator.standardize,
        "embedding_dim": estimator.embedding_dim,
        "training": estimator.training,
        **{f"module__{k}": v for k, v in estimator.params_for("module__").items()},
    }


def _to_tree(value: Any) -> Any:
    """Return a parameter as something that can be written; TypeError for others."""
    if isinstance(value, BaseEstimator):
        name = type(value).__name__
        if _KNOWN.get(name) is not type(value):
            raise TypeError(name)
        given = value.get_params(deep=False)
        return {"made_by": name, "given": {k: _to_tree(v) for k, v in given.items()}}
    if isinstance(value, dict):
        return {"plain": {k: _to_tree(v) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_tree(part) for part in value)
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubUO":
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(type(value).__name__)


def _from_tree(value: Any) -> Any:
    if isinstance(value, dict) and "made_by" in value:
        given = {k: _from_tree(v) for k, v in value["given"].items()}
        return _KNOWN[value["made_by"]](**given)
    if isinstance(value, dict):
        return {k: _from_tree(v) for k, v in value["plain"].items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_from_tree(part) for part in value)
    return value
