"""The skorch net that trains an embedding with a strategy."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import unpack_data
from torch import nn
from torch.utils.data import Sampler

from skrobust.deep._adversary import Adversary
from skrobust.deep._batches import ClassBatches, CollateSamples, MetricDataset, collate
from skrobust.deep._callbacks import Diverged, KeepBest, StopTraining
from skrobust.deep.strategies._base import Training, TrainingStep
from skrobust.metrics import recall_at_k

__all__ = ["MetricNet", "TrainingContext", "ValidationRecall"]


# what modules, losses and miners raise for tensors that they were not made for
_MISFITS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(eq=False)
class TrainingContext:
    """What a net needs while it trains, and not afterwards.

    Attributes
    ----------
    strategy : Training
    adversary : Adversary or None
    seed : int
        Of the batches.
    n_batches : int
        Of an epoch.
    first_epoch : int
        Epochs that were made before.
    cycle_start : int
        The epoch in which the cycle of the learning rate starts.
    memory : dict
        Of the strategy.
    validation : MetricDataset or None
        Rows that are not trained on.
    known_classes : bool
        Whether the classes of the validation are trained on.
    schedule : bool
        Whether the length of the training is known, so that the learning rate may follow it.
    """

    strategy: Training
    adversary: Adversary | None
    seed: int
    n_batches: int = 0
    first_epoch: int = 0
    cycle_start: int = 0
    memory: dict[str, float] = field(default_factory=dict)
    validation: MetricDataset | None = None
    known_classes: bool = True
    schedule: bool = True


class ValidationRecall(Callback):
    """Record Recall@1 of the validation rows after each epoch, as ``valid_recall``."""

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the last epoch."""
        self.found_: list[np.ndarray] = []
        self.labels_: list[np.ndarray] = []

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Keep the embeddings of a validation batch."""
        if not training:
            self.found_.append(kwargs["y_pred"].detach().float().cpu().numpy())
            self.labels_.append(unpack_data(batch)[1].cpu().numpy())

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the recall."""
        if not self.found_:
            return
        found = np.concatenate(self.found_)
        if not np.isfinite(found).all():
            raise Diverged("the embeddings of validation rows hold NaN or infinity")
        recall = recall_at_k(found, np.concatenate(self.labels_))
        before = net.history[:-1, ("valid_recall",)] if len(net.history) > 1 else []
        best = not any(recall <= old for (old,) in before)
        net.history.record("valid_recall", recall)
        net.history.record("valid_recall_best", bool(best))
        self.found_, self.labels_ = [], []


def _checked(
    found: Any, step: TrainingStep, strategy: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a strategy returned; raise where it is not as described."""
    name = type(strategy).__name__
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"{name}.loss must return the loss and an embedding of each row.")
    loss, z = found
    if not isinstance(loss, torch.Tensor) or loss.ndim != 0 or not loss.requires_grad:
        raise TypeError(
            f"{name}.loss must return a scalar tensor with gradients as the loss; got {loss!r}."
        )
    if len(z) != len(step.x):
        raise ValueError(
            f"{name}.loss must return an embedding of each of the {len(step.x)} rows; got {len(z)}."
        )
    if not torch.isfinite(z).all():
        raise ValueError("the embeddings hold NaN or infinity.")
    return loss, z


class MetricNet(NeuralNet):
    """A skorch net whose training step is that of a strategy.

    Parameters
    ----------
    module : callable
        Makes the model.
    samples_per_class : int
    precision : {"full", "mixed"}
        "mixed" computes the network in bfloat16 where autograd allows.
    **kwargs
        Of ``skorch.NeuralNet``.
    """

    def __init__(
        self,
        module: Callable[..., nn.Module],
        *args: Any,
        samples_per_class: int = 4,
        precision: str = "full",
        **kwargs: Any,
    ):
        self.samples_per_class = samples_per_class
        self.precision = precision
        super().__init__(module, *args, **kwargs)

    context: TrainingContext
    interrupted: bool
    diverged: str

    @property
    def _default_callbacks(self) -> list[Any]:
        return [
            *super()._default_callbacks[:-1],
            ("valid_recall", ValidationRecall()),
            ("keep_best", KeepBest()),
            super()._default_callbacks[-1],
        ]

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile in place: keys stay, and the criterion, which breaks graphs, is left alone."""
        if self.compile and name == "module":
            module.compile(**self.get_params_for("compile"))
        return module

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do what the strategy does with a batch, and compute gradients."""
        self._set_training(True)
        x, y = unpack_data(batch)
        context = self.context
        step = TrainingStep(
            model=self.module_,
            module=self.bare_module,
            criterion=self.criterion_,
            x=x.to(self.step_device, non_blocking=True),
            y=y.to(self.step_device, non_blocking=True),
            adversary=context.adversary,
            parts=getattr(batch, "parts", None),
            memory=context.memory,
        )
        first = len(self.history) == 1 and len(self.history[-1]["batches"]) == 1
        try:
            with self._autocast():
                found = context.strategy.loss(step)
            loss, z = _checked(found, step, context.strategy) if first else found
        except _MISFITS as error:
            if not first:
                raise
            reason = str(error) or type(error).__name__
            raise ValueError(
                "the first batch could not be trained on; module, loss, miner and training do not "
                f"fit together, or the data: {reason} (A loss is called as loss(embeddings, "
                "labels, indices_tuple).)"
            ) from error
        self.backward(loss)
        return {"loss": loss, "y_pred": z.detach()}

    def _options(self, loader: str) -> dict[str, Any]:
        """Return what was given for a loader."""
        kwargs = dict(self.get_params_for(loader))
        own = kwargs.get("collate_fn")
        return kwargs | {"collate_fn": collate if own is None else CollateSamples(own)}

    def anywhere(self, flag: bool) -> bool:
        """Return whether something is so in any of the processes."""
        return flag

    @property
    def bare_module(self) -> nn.Module:
        """The module without the wrapper of several processes."""
        module: Any = self.module_
        return getattr(module, "module", module)

    @property
    def step_device(self) -> torch.device:
        """Where batches go."""
        return torch.device(self.device)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients."""
        loss.backward()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "mixed":
            return torch.autocast(self.step_device.type, dtype=torch.bfloat16)
        return nullcontext()

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Embed a validation batch; its loss is NaN where classes are not trained on."""
        self._set_training(False)
        x, y = unpack_data(batch)
        with torch.no_grad():
            z = self.module_(x.to(self.step_device))
            loss = torch.tensor(float("nan"))
            if self.context.known_classes:
                loss = self.criterion_(z, y.to(self.step_device))
        return {"loss": loss, "y_pred": z}

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Return the rows to train on, and those of the validation."""
        return X, self.context.validation

    def train(
        self, rows: MetricDataset, context: TrainingContext, epochs: int | None = None
    ) -> "MetricNet":
        """Train; an interrupt ends it and keeps what there is.

        Parameters
        ----------
        rows : MetricDataset
        context : TrainingContext
        epochs : int, default=None
            None trains up to `max_epochs`, those of a checkpoint included.
        """
        self.context, self.interrupted, self.diverged = context, False, ""
        try:
            self.notify("on_train_begin", X=rows, y=None)
            try:
                left = self.max_epochs - context.first_epoch if epochs is None else epochs
                self.fit_loop(rows, epochs=max(left, 0))
            except Diverged as error:
                self.diverged = f"the training broke down in epoch {len(self.history)}: {error}."
                self.history.pop()
                dict(self.callbacks_)["keep_best"].go_back(self)
            except StopTraining:
                pass
            except KeyboardInterrupt:
                self.interrupted = not self._stopped_early()
            self.notify("on_train_end", X=rows, y=None)
        finally:
            del self.context
        return self

    def _stopped_early(self) -> bool:
        """Return whether a callback ended the training, and not the user."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
            for _, callback in self.callbacks_
        )

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return a loader; of batches with m points a class, unless a sampler was given."""
        if not training:
            kwargs = {"batch_size": self.batch_size} | self._options("iterator_valid")
            return self.iterator_valid(dataset, **kwargs)
        kwargs = self._options("iterator_train")
        for name in ("sampler", "batch_sampler"):
            sampler = kwargs.get(name)
            if callable(sampler) and not isinstance(sampler, Sampler):
                kwargs[name] = sampler(dataset.labels)
        if kwargs.get("batch_sampler") is None and kwargs.get("sampler") is None:
            kwargs["batch_sampler"] = ClassBatches(
                dataset.labels,
                self.batch_size,
                self.samples_per_class,
                self.context.seed,
                self.context.first_epoch,
            )
        elif kwargs.get("batch_sampler") is None:
            kwargs.setdefault("batch_size", self.batch_size)
        loader = self.iterator_train(dataset, **kwargs)
        self.context.n_batches = len(loader)
        return loader
