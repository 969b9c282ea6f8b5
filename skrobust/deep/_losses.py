"""Metric losses and miners of pytorch-metric-learning, by name or as objects."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from typing import Any

import torch
from pytorch_metric_learning import losses, miners, reducers
from torch import nn

from skrobust.deep._io import copied, own_attributes
from skrobust.deep.lipschitz._certified_margin_loss import CertifiedMarginLoss

__all__ = ["LOSSES", "MINERS", "MetricLoss", "make_criterion"]

# name: (class, parameters, miner)
LOSSES: dict[str, tuple[type, Callable[[], dict[str, Any]], str | None]] = {
    # the values of the MDProp paper
    "multi_similarity": (
        losses.MultiSimilarityLoss,
        lambda: {"alpha": 2, "beta": 40, "base": 0.5, "reducer": reducers.AvgNonZeroReducer()},
        "multi_similarity",
    ),
    "arcface": (losses.ArcFaceLoss, lambda: {"margin": 28.6, "scale": 16}, None),
    # those of its paper (Kim et al., CVPR 2020) are the library's
    "proxy_anchor": (losses.ProxyAnchorLoss, dict, None),
    "triplet": (losses.TripletMarginLoss, lambda: {"margin": 0.2}, "semihard"),
    "certified_margin": (CertifiedMarginLoss, dict, None),
    "contrastive": (losses.ContrastiveLoss, lambda: {"pos_margin": 0, "neg_margin": 0.5}, None),
}
# name: (class, parameters)
MINERS: dict[str, tuple[type, dict[str, Any]]] = {
    "multi_similarity": (miners.MultiSimilarityMiner, {"epsilon": 0.1}),
    "semihard": (miners.TripletMarginMiner, {"margin": 0.2, "type_of_triplets": "semihard"}),
    "hard": (miners.BatchHardMiner, {}),
}
# what some constructors of the library call the size of an embedding
_ALIASES = {"descriptors_dim": "embedding_size", "l": "embedding_size"}


class MetricLoss(nn.Module):
    """A loss, and the miner that chooses its pairs or triplets.

    In training mode both may remember what they see, as ``CrossBatchMemory`` does. In evaluation
    mode, that of adversaries and validations, a call leaves no trace.

    Parameters
    ----------
    loss : torch.nn.Module
        Called as ``loss(embeddings, labels, chosen)``; labels are 0, 1, ….
    miner : callable, default=None
        Called as ``miner(embeddings, labels)``; None leaves the choice to the loss.
    """

    def __init__(self, loss: nn.Module, miner: Any = None):
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, chosen: Any = None
    ) -> torch.Tensor:
        """Return the loss of a batch; `chosen` are triplets or pairs in place of the miner's."""
        embeddings = embeddings.float()  # the losses are not made for half precision
        with nullcontext() if self.training else untouched(self):
            if chosen is None and self.miner is not None:
                chosen = self.miner(embeddings, labels)
            value = self.loss(embeddings, labels, chosen)
        if self.training:
            detach_memory(self)
        return value


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
        for part, _ in before:
            vars(part).update({k: copied(v) for k, v in own_attributes(part).items()})
            part._buffers = {k: copied(v) for k, v in part._buffers.items()}
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


def make_criterion(
    loss: Any,
    miner: Any,
    n_classes: int,
    embedding_dim: int,
    loss_params: dict[str, Any],
    miner_params: dict[str, Any],
) -> MetricLoss:
    """Make a loss and its miner from what the estimator was given.

    Raises
    ------
    TypeError, ValueError
        If a name is not known, parameters do not fit, or a loss was made for other sizes.
    """
    sizes = {"num_classes": n_classes, "embedding_size": embedding_dim}
    own_miner = None
    if isinstance(loss, str):
        loss, defaults, own_miner = LOSSES[loss]
        loss_params = defaults() | loss_params
    criterion = _make(loss, loss_params, "loss", sizes)
    _check_sizes(criterion, n_classes, embedding_dim)
    if isinstance(miner, str) and miner == "auto":
        miner = own_miner
    if isinstance(miner, str):
        miner, fixed = MINERS[miner]
        miner_params = fixed | miner_params
    return MetricLoss(criterion, _make(miner, miner_params, "miner", sizes))


def _make(kind: Any, given: dict[str, Any], what: str, sizes: dict[str, int]) -> Any:
    """Return an object of a class, or a copy of an object."""
    if inspect.isclass(kind):
        return _call(kind, given, what, sizes)
    if given:
        raise TypeError(
            f"{what}__… parameters need a {what} given by name or as a class; got {given} with "
            "an object or none."
        )
    return copy.deepcopy(kind)


def _call(kind: type, given: dict[str, Any], what: str, sizes: dict[str, int]) -> Any:
    """Make a loss or a miner; sizes that its constructor needs are filled in."""
    given, named = dict(given), kind.__name__
    of_library = kind.__module__.startswith("pytorch_metric_learning")
    for name in _needed(kind, inherited=True):
        size = _ALIASES.get(name, name) if of_library else name
        if size in sizes:
            given.setdefault(name, sizes[size])
    missing = [f"{what}__{name}" for name in _needed(kind) if name not in given]
    if missing:
        raise TypeError(f"{what}={named} needs {', '.join(missing)}.")
    try:
        return kind(**given)
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        shown = ", ".join(f"{what}__{k}={v!r}" for k, v in given.items()) or "no parameters"
        fault = TypeError if isinstance(error, TypeError) else ValueError
        raise fault(
            f"{what}={named} cannot be made with {shown}: {type(error).__name__} {error}"
        ) from error


def _needed(kind: type, inherited: bool = False) -> list[str]:
    """Return the parameters of a constructor that have no default.

    Parameters
    ----------
    kind : class
    inherited : bool, default=False
        Whether those of parents that get the ``**kwargs`` count; a subclass may fill these in.
    """
    needed: dict[str, bool] = {}  # by name, the class itself before its parents
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(vars(parent)["__init__"]).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                needed.setdefault(p.name, p.default is p.empty)
        if not inherited or not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [name for name, without_default in needed.items() if without_default]


def _check_sizes(loss: Any, n_classes: int, embedding_dim: int) -> None:
    """Raise where a loss, or one inside it, was made for fewer classes or other embeddings."""
    for part in loss.modules() if isinstance(loss, nn.Module) else ():
        # 0 is what the library has where it does not say
        n, width = getattr(part, "num_classes", 0), getattr(part, "embedding_size", 0)
        proxies, columns = getattr(part, "proxies", None), getattr(part, "W", None)
        if isinstance(proxies, torch.Tensor) and proxies.ndim == 2:
            n, width = n or proxies.shape[0], proxies.shape[1]
        if isinstance(columns, torch.Tensor) and columns.ndim == 2:
            width, n = columns.shape[0], n or columns.shape[1]
        wrong = []
        if isinstance(n, Integral) and 0 < int(n) < n_classes:
            wrong.append(f"num_classes={n}, and the data have {n_classes} classes")
        if isinstance(width, Integral) and width not in (0, embedding_dim):
            wrong.append(f"embedding_size={width}, and the module gives {embedding_dim} dimensions")
        if wrong:
            raise ValueError(
                f"loss {type(part).__name__} has {'; '.join(wrong)}. A class, or its name, takes "
                "both from the data where they are not given."
            )
