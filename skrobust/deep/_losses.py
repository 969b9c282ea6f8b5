"""Metric losses and miners of pytorch-metric-learning, by name or as objects."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import losses, miners, reducers
from torch import nn

from skrobust.deep._certified_margin_loss import CertifiedMarginLoss

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
MINERS: dict[str, Callable[..., Any]] = {
    "multi_similarity": lambda **kw: miners.MultiSimilarityMiner(**{"epsilon": 0.1} | kw),
    "semihard": lambda **kw: miners.TripletMarginMiner(
        **{"margin": 0.2, "type_of_triplets": "semihard"} | kw
    ),
    "hard": lambda **kw: miners.BatchHardMiner(**kw),
}


class MetricLoss(nn.Module):
    """A loss, and the miner that chooses its pairs or triplets.

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
        if chosen is None and self.miner is not None:
            chosen = self.miner(embeddings, labels)
        return self.loss(embeddings, labels, chosen)


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
    if isinstance(loss, str):
        kind, defaults, own_miner = LOSSES[loss]
        given: dict[str, Any] = defaults() | loss_params
    else:
        kind, given, own_miner = loss, dict(loss_params), None
    if inspect.isclass(kind):
        if "num_classes" in inspect.signature(kind.__init__).parameters:  # it learns proxies
            given = {"num_classes": n_classes, "embedding_size": embedding_dim} | given
        made = _call(kind, given, "loss")
    else:
        _refuse(loss_params, "loss")
        made = copy.deepcopy(kind)
    _check_proxies(made, n_classes, embedding_dim)
    if isinstance(miner, str) and miner == "auto":
        miner = own_miner
    if isinstance(miner, str):
        chooser = _call(MINERS[miner], miner_params, "miner")
    elif inspect.isclass(miner):
        chooser = _call(miner, miner_params, "miner")
    else:
        _refuse(miner_params, "miner")
        chooser = copy.deepcopy(miner)
    return MetricLoss(made, chooser)


def _call(kind: Callable[..., Any], given: dict[str, Any], what: str) -> Any:
    try:
        return kind(**given)
    except TypeError as error:
        raise TypeError(f"{what}__… parameters {given} do not fit: {error}") from error


def _refuse(given: dict[str, Any], what: str) -> None:
    if given:
        raise TypeError(
            f"{what}__… parameters need a {what} given by name or as a class; got {given} with "
            "an object or none."
        )


def _check_proxies(loss: nn.Module, n_classes: int, embedding_dim: int) -> None:
    proxies = getattr(loss, "proxies", None)
    if isinstance(proxies, torch.Tensor) and proxies.ndim == 2:
        n_proxies, width = proxies.shape
        if n_proxies < n_classes or width != embedding_dim:
            raise ValueError(
                f"loss has proxies for {n_proxies} classes in {width} dimensions; the data have "
                f"{n_classes} classes and the module gives {embedding_dim}. Give the class or its "
                "name instead of an object."
            )
