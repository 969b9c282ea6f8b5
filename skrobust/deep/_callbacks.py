"""Callbacks of the net: the learning-rate schedule, when to stop, and who is told."""

import math
from collections.abc import Callable
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

__all__ = ["OneCycle", "Patience", "StopTraining", "Tell"]

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
            if not net.session.schedule:
                group["lr"] = group["highest_lr"]

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note how many steps were made."""
        self.step_ = sum(row.get("train_batch_count", 0) for row in net.history)

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Set the rate of a step."""
        if not training or not net.session.schedule:
            return
        share = self.step_ / max(net.session.n_batches * net.max_epochs - 1, 1)
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


class Tell(Callback):
    """Tell of each epoch that ended.

    Parameters
    ----------
    told : callable
        A true value ends the training.
    """

    def __init__(self, told: Callable[[], bool]):
        self.told, self.n_told, self.ended = told, 0, False

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell, and stop where that is wanted."""
        self.n_told += 1
        if self.told():
            self.ended = True
            raise StopTraining

    def __reduce__(self) -> Any:
        """Make copies that tell nobody: the net may be pickled while it trains."""
        return Tell, (_nothing,)


def _nothing() -> bool:
    return False


def _silent(text: str) -> None:
    """Print nothing."""


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
