"""Callbacks of the net: learning rate, validation, when to stop, scikit-learn's callbacks."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import unpack_data
from torch import nn

from skrobust.deep._io import load_state, state_of
from skrobust.metrics import recall_at_k

__all__ = [
    "CallbackBridge",
    "Diverged",
    "KeepBest",
    "OneCycle",
    "Patience",
    "StopTraining",
    "ValidationRecall",
    "make_callbacks",
]

# share of the steps in which the rate rises, and its first and last values as shares of the highest
_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1e-4


class StopTraining(Exception):  # noqa: N818
    """A callback ends the training; what was learned is kept."""


class Diverged(StopTraining):
    """The training broke down; the message says how."""


class OneCycle(Callback):
    """One cycle of the learning rate: up over three tenths of the steps, then down, by cosines.

    It depends on the number of the step alone, so that a training that was interrupted goes on
    as it would have. The rates that the optimizer starts with are the highest ones.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note the highest rates; a training of unknown length keeps to them."""
        for group in net.optimizer_.param_groups:
            group.setdefault("highest_lr", group["lr"])
            if not net.context.schedule:
                group["lr"] = group["highest_lr"]

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note how many steps were made."""
        cycle = net.history[net.context.cycle_start :]
        self.step_ = sum(row.get("train_batch_count", 0) for row in cycle)

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Set the rate of a step."""
        if not training or not net.context.schedule:
            return
        n_epochs = net.max_epochs - net.context.cycle_start
        share = self.step_ / max(net.context.n_batches * n_epochs - 1, 1)
        if share < _RISE:
            factor = _between(_FIRST, 1, share / _RISE)
        else:
            factor = _between(1, _FIRST * _LAST, min(1, (share - _RISE) / (1 - _RISE)))
        for group in net.optimizer_.param_groups:
            group["lr"] = group["highest_lr"] * factor
        self.step_ += 1


class ValidationRecall(Callback):
    """Record Recall@1 of the validation rows after each epoch, as ``valid_recall``."""

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the last epoch."""
        self.embeddings_: list[np.ndarray] = []
        self.labels_: list[np.ndarray] = []

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Keep the embeddings of a validation batch."""
        if not training:
            self.embeddings_.append(kwargs["y_pred"].detach().float().cpu().numpy())
            self.labels_.append(unpack_data(batch)[1].cpu().numpy())

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the recall."""
        if not self.embeddings_:
            return
        embeddings = np.concatenate(self.embeddings_)
        if not np.isfinite(embeddings).all():
            raise Diverged("the embeddings of validation rows hold NaN or infinity")
        recall = recall_at_k(embeddings, np.concatenate(self.labels_))
        before = net.history[:-1, ("valid_recall",)] if len(net.history) > 1 else []
        best = not any(recall <= old for (old,) in before)
        net.history.record("valid_recall", recall)
        net.history.record("valid_recall_best", bool(best))
        self.embeddings_, self.labels_ = [], []


class Patience(EarlyStopping):
    """Stop when the validation's Recall@1 no longer improves, and keep the best weights.

    Parameters
    ----------
    epochs : int
        How many without improvement.
    verbose : bool
        Print why.
    """

    def __init__(self, epochs: int, verbose: bool = False):
        self.epochs, self.verbose = epochs, verbose
        super().__init__(
            monitor="valid_recall",
            patience=epochs,
            threshold=0,
            lower_is_better=False,
            load_best=True,
            sink=print if verbose else _silent,
        )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Judge an epoch; one without validation (of `partial_fit`) does not count."""
        if "valid_recall" in net.history[-1]:
            super().on_epoch_end(net, **kwargs)


class KeepBest(Callback):
    """Keep the best weights so far, and end a training whose numbers are no longer finite.

    The best epoch has the highest ``valid_recall``, or else the smallest training loss.
    """

    kept_: Any = None

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep what a training starts from."""
        self.best_ = -math.inf
        self._keep(net)

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Look at the loss of a batch, and where it is not finite at the embeddings."""
        if not training:
            return
        batches = net.history[-1]["batches"]
        loss = batches[-1]["train_loss"]
        if not net.anywhere(not math.isfinite(loss)):
            return
        place = f"in batch {len(batches)}"
        if torch.isfinite(kwargs["y_pred"]).all():
            raise Diverged(f"the loss is {loss} {place}, of embeddings that are finite")
        raise Diverged(f"the embeddings hold NaN or infinity {place}{self._broken(net)}")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights of an epoch that is the best so far."""
        broken = self._broken(net)
        if broken:
            raise Diverged(f"the last step left numbers that are not finite{broken}")
        row = net.history[-1]
        value = row.get("valid_recall", -row.get("train_loss", math.inf))
        if value > self.best_:
            self.best_ = value
            self._keep(net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the weights."""
        self.kept_ = None

    def go_back(self, net: Any) -> None:
        """Give the net its best weights, and the optimizer no past."""
        module, criterion = self.kept_
        load_state("the best epoch", net.bare_module, module)
        load_state("the best epoch", net.criterion_, criterion)
        net.optimizer_.state.clear()

    def _keep(self, net: Any) -> None:
        self.kept_ = state_of(net.bare_module), state_of(net.criterion_)

    @staticmethod
    def _broken(net: Any) -> str:
        """Return the first weight that is not finite, as a part of a sentence, or nothing."""
        parts: list[nn.Module] = [net.bare_module, net.criterion_]
        for part in parts:
            for name, value in part.named_parameters():
                if not torch.isfinite(value).all():
                    return f": {name} is not finite"
        return ""


class CallbackBridge(Callback):
    """Call scikit-learn's callbacks after each epoch.

    Parameters
    ----------
    call : callable
        A true value ends the training.
    """

    def __init__(self, call: Callable[[], bool]):
        self.call, self.n_calls, self.ended = call, 0, False

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Call the function, and stop where it says so."""
        self.n_calls += 1
        if self.call():
            self.ended = True
            raise StopTraining

    def __reduce__(self) -> Any:
        """Make copies that call nothing: the net may be pickled while it trains."""
        return CallbackBridge, (_nothing,)


def make_callbacks(estimator: Any) -> list[Any]:
    """Return the callbacks of an estimator's net beside those that every net has.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    """
    callbacks: list[Any] = []
    if estimator.schedule == "one_cycle":
        callbacks.append(("one_cycle", OneCycle()))
    callbacks += copy.deepcopy(list(estimator.callbacks or []))
    if estimator.n_iter_no_change is not None:
        patience = Patience(estimator.n_iter_no_change, bool(estimator.verbose))
        callbacks.append(("early_stopping", patience))
    return callbacks


def _nothing() -> bool:
    return False


def _silent(text: str) -> None:
    """Print nothing."""


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
