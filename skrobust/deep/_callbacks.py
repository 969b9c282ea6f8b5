"""Callbacks of the net: the learning-rate schedule, when to stop, and who is told."""

import math
from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skrobust.deep._io import load_state, state_of

__all__ = ["CallbackBridge", "Diverged", "KeepBest", "OneCycle", "Patience", "StopTraining"]

_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1e-4


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


class Patience(EarlyStopping):
    """Stop when the validation's Recall@1 no longer improves, and keep the best weights.

    Parameters
    ----------
    epochs : int
        How many without improvement.
    loud : bool
        Say so.
    """

    def __init__(self, epochs: int, loud: bool = False):
        self.epochs, self.loud = epochs, loud
        super().__init__(
            monitor="valid_recall",
            patience=epochs,
            threshold=0,
            lower_is_better=False,
            load_best=True,
            sink=print if loud else _silent,
        )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Judge an epoch; one without validation (of `partial_fit`) is let pass."""
        if "valid_recall" in net.history[-1]:
            super().on_epoch_end(net, **kwargs)


class StopTraining(KeyboardInterrupt):
    """A callback ends the training; what was learned is kept."""


class Diverged(StopTraining):
    """The training broke down; the message says how."""


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
        z = kwargs["y_pred"]
        place = f"in batch {len(batches)}"
        if torch.isfinite(z).all():
            raise Diverged(f"the loss is {loss} {place}, of embeddings that are finite")
        bad = self._broken(net)
        raise Diverged(f"the embeddings hold NaN or infinity {place}{bad}")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights of an epoch that is the best so far."""
        bad = self._broken(net)
        if bad:
            raise Diverged(f"the last step left numbers that are not finite{bad}")
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
        load_state("the best epoch", net.bare_module, self.kept_["module"])
        load_state("the best epoch", net.criterion_, self.kept_["criterion"])
        net.optimizer_.state.clear()

    def _keep(self, net: Any) -> None:
        self.kept_ = {
            "module": state_of(net.bare_module),
            "criterion": state_of(net.criterion_),
        }

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
    """Call a function after each epoch.

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


def _nothing() -> bool:
    return False


def _silent(text: str) -> None:
    """Print nothing."""


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
