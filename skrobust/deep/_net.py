"""The skorch net that trains an embedding with a strategy.

One step of training: batch (x, y) → strategy → loss → gradients. The strategy sees the batch as a
:class:`TrainingStep`, and may attack it, embed it and call the criterion as often as it likes; the
net does the rest, which is skorch's loop of epochs and batches.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import unpack_data
from skorch.hf import AccelerateMixin
from torch import nn
from torch.utils.data import Sampler

from skrobust.deep._adversary import Adversary
from skrobust.deep._batches import ClassBatches, CollateSamples, MetricDataset, collate
from skrobust.deep._callbacks import (
    Diverged,
    KeepBest,
    StopTraining,
    ValidationRecall,
    make_callbacks,
)
from skrobust.deep._modules import duplicate
from skrobust.deep._parameters import resolve_accelerator
from skrobust.deep.lipschitz._bound import lipschitz_bound
from skrobust.deep.lipschitz._layers import plain
from skrobust.deep.strategies._base import Training, TrainingStep
from skrobust.utils._warnings import warn

__all__ = ["AcceleratedNet", "MetricNet", "TrainingContext", "make_net"]

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
_PREFIXES = ("callbacks__", "compile__", "iterator_train__", "iterator_valid__", "optimizer__")


@dataclass(eq=False)
class TrainingContext:
    """What a net needs while it trains, and not afterwards.

    Attributes
    ----------
    strategy : Training
    adversary : Adversary or None
    seed : int
        Seed of the batches.
    n_batches : int
        Batches of an epoch.
    first_epoch : int
        Epochs that were made before.
    cycle_start : int
        The epoch in which the cycle of the learning rate starts.
    memory : dict
        What the strategy keeps from step to step.
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


class MetricNet(NeuralNet):
    """A skorch net whose training step is that of a strategy.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    samples_per_class : int
        Points of each class in a batch, at least.
    precision : {"full", "mixed"}
        "mixed" computes the network in bfloat16 where autograd allows.
    lipschitz : bool
        Whether the trained model computes with the weights that its layers apply, in float64.
    **kwargs
        Parameters of ``skorch.NeuralNet``.
    """

    def __init__(
        self,
        module: Any,
        *args: Any,
        samples_per_class: int = 4,
        precision: str = "full",
        lipschitz: bool = False,
        **kwargs: Any,
    ):
        self.samples_per_class = samples_per_class
        self.precision = precision
        self.lipschitz = lipschitz
        super().__init__(module, *args, **kwargs)

    context: TrainingContext
    callbacks_: list[Any]

    @property
    def _default_callbacks(self) -> list[Any]:
        # skorch's last callback prints the epoch, what ours recorded included
        *first, last = super()._default_callbacks
        return [*first, ("valid_recall", ValidationRecall()), ("keep_best", KeepBest()), last]

    # What several processes do otherwise (see AcceleratedNet).

    @property
    def step_device(self) -> torch.device:
        """Where batches go."""
        return torch.device(self.device)

    @property
    def rank(self) -> int:
        """The number of this process."""
        return 0

    @property
    def bare_module(self) -> nn.Module:
        """The module without the wrapper of several processes."""
        module: Any = self.module_
        return getattr(module, "module", module)

    def anywhere(self, flag: bool) -> bool:
        """Return whether something is so in any of the processes."""
        return flag

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients."""
        loss.backward()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "mixed":
            return torch.autocast(self.step_device.type, dtype=torch.bfloat16)
        return nullcontext()

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile in place: keys stay, and the criterion, which breaks graphs, is left alone."""
        if self.compile and name == "module":
            module.compile(**self.get_params_for("compile"))
        return module

    def train(
        self,
        rows: MetricDataset,
        context: TrainingContext,
        epochs: int | None = None,
        callbacks: Sequence[tuple[str, Callback]] = (),
    ) -> None:
        """Train; an interrupt ends it and keeps what there is.

        Parameters
        ----------
        rows : MetricDataset
        context : TrainingContext
        epochs : int, default=None
            None trains up to `max_epochs`, those of a checkpoint included.
        callbacks : sequence of (str, Callback)
            Further ones, of this training alone.

        Raises
        ------
        ValueError
            If the training broke down in its first epoch.
        """
        self.context = context
        self.callbacks_ += callbacks
        interrupted, fault = False, ""
        try:
            self.notify("on_train_begin", X=rows, y=None)
            try:
                # a checkpoint, which is read when the training begins, knows the first epoch
                left = self.max_epochs - context.first_epoch if epochs is None else epochs
                self.fit_loop(rows, epochs=max(left, 0))
            except Diverged as error:
                # the epoch that broke down is as if it had not been
                fault = f"the training broke down in epoch {len(self.history)}: {error}."
                self.history.pop()
                dict(self.callbacks_)["keep_best"].go_back(self)
            except StopTraining:
                pass
            except KeyboardInterrupt:
                interrupted = not self._stopped_early()
            self.notify("on_train_end", X=rows, y=None)
        finally:
            del self.context
            self.callbacks_ = [pair for pair in self.callbacks_ if pair not in callbacks]
        self._report(interrupted, fault)

    def _stopped_early(self) -> bool:
        """Return whether a callback ended the training, by skorch's exception, and not the user."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
            for _, callback in self.callbacks_
        )

    def _report(self, interrupted: bool, fault: str) -> None:
        """Say that the training did not end as it should have."""
        n = sum("train_loss" in row for row in self.history)
        if interrupted:
            warn(f"the training was interrupted after {n} whole epochs; what was learned is kept.")
        if fault:
            advice = f"Use a smaller learning_rate than {self.lr}, or check the loss."
            if n == 0:
                raise ValueError(f"{fault} Nothing was learned. {advice}")
            warn(
                f"{fault} The best weights of the {n} whole epochs before are kept. {advice}",
                ConvergenceWarning,
            )

    def inference_module(self) -> nn.Module:
        """Return what embeds: the module, or with `lipschitz` its copy with bounded weights."""
        module = self.bare_module.eval()
        return plain(module) if self.lipschitz else module

    def results(self, input_shape: tuple[int, ...], copies: bool = False) -> dict[str, Any]:
        """Return the fitted attributes of an estimator that come of the training.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one input of the module.
        copies : bool, default=False
            Whether module and criterion are copies, which further training does not change.
        """
        module, criterion = self.inference_module(), self.criterion_
        if copies:
            module, criterion = duplicate(module), duplicate(criterion)
        epochs = [{k: v for k, v in row.items() if k != "batches"} for row in self.history]
        history = [
            {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
            for row in epochs
        ]
        curve = [row["train_loss"] for row in history if "train_loss" in row]
        return {
            "module_": module,
            "criterion_": criterion,
            "lipschitz_": lipschitz_bound(module, input_shape) if self.lipschitz else None,
            "history_": history,
            "loss_curve_": curve,
            "n_iter_": len(curve),
        }

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do what the strategy does with a batch, and compute gradients."""
        self._set_training(True)
        # x of shape (n, *input_shape), y of shape (n,)
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
        # The first batch shows whether module, loss, miner and strategy fit together: what they
        # raise there is explained, and what the strategy returns is looked at.
        first = len(self.history) == 1 and len(self.history[-1]["batches"]) == 1
        try:
            with self._autocast():
                result = context.strategy.loss(step)
            loss, z = _check_result(result, step, context.strategy) if first else result
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
        # z of shape (n, embedding_dim)
        return {"loss": loss, "y_pred": z.detach()}

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

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return a loader; of batches with m points a class, unless a sampler was given."""
        kwargs = dict(self.get_params_for("iterator_train" if training else "iterator_valid"))
        own = kwargs.get("collate_fn")
        kwargs["collate_fn"] = collate if own is None else CollateSamples(own)
        if not training:
            return self.iterator_valid(dataset, **{"batch_size": self.batch_size} | kwargs)
        # a sampler of the user's may be made here, of the labels that are trained on
        for name in ("sampler", "batch_sampler"):
            sampler = kwargs.get(name)
            if callable(sampler) and not isinstance(sampler, Sampler):
                kwargs[name] = sampler(dataset.labels)
        # without one, batches have m points of each of their classes
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


def _check_result(
    result: Any, step: TrainingStep, strategy: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a strategy returned; raise where it is not as described."""
    name = type(strategy).__name__
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}.loss must return the loss and an embedding of each row.")
    loss, z = result
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


class AcceleratedNet(MetricNet, AccelerateMixin, NeuralNet):
    """A net in several processes, which share the batches and average their gradients.

    Parameters
    ----------
    *args, **kwargs
        Parameters of :class:`MetricNet`, and ``accelerator``.
    """

    @property
    def step_device(self) -> torch.device:
        """Where batches go."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.accelerator.process_index

    def anywhere(self, flag: bool) -> bool:
        """Return whether something is so in any of the processes, which then do the same."""
        flags = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags, reduction="sum") > 0)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients, averaged over the processes."""
        self.accelerator.backward(loss)
        for parameter in self.criterion_.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def _autocast(self) -> AbstractContextManager[Any]:
        return self.accelerator.autocast()

    def _initialize_accelerator(self) -> Any:
        # The criterion stays as it is: attacks differentiate through it more than once a step,
        # which the wrapper of several processes does not allow. Its gradients: see `backward`.
        criteria: list[str] = self._criteria
        self._criteria: list[str] = []
        try:
            super()._initialize_accelerator()
        finally:
            self._criteria = criteria
        self.criterion_.to(self.accelerator.device)
        return self

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the loader of this process."""
        loader = MetricNet.get_iterator(self, dataset, training)
        if not training:  # every process judges by all rows
            return loader
        # batches go to the device in the step: on the way they would lose what a strategy knows
        loader = self.accelerator.prepare_data_loader(loader, device_placement=False)
        self.context.n_batches = len(loader)
        return loader


def make_net(
    estimator: Any, model: nn.Module, criterion: nn.Module, device: torch.device
) -> MetricNet:
    """Return an initialised net for an estimator's model.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
    model, criterion : torch.nn.Module
    device : torch.device

    Raises
    ------
    TypeError, ValueError
        If an optimizer or callback refuses its parameters, or there is none of that name.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("module must have parameters to learn; it has none.")
    mixed = ("mixed", "auto") if device.type == "cuda" else ("mixed",)
    options = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name.startswith(_PREFIXES)
    }
    params: dict[str, Any] = {
        "criterion": criterion,
        "optimizer": torch.optim.AdamW if estimator.optimizer is None else estimator.optimizer,
        "lr": estimator.learning_rate,
        "max_epochs": estimator.max_iter,
        "batch_size": estimator.batch_size,
        "samples_per_class": estimator.samples_per_class,
        "precision": "mixed" if estimator.precision in mixed else "full",
        "lipschitz": estimator.lipschitz is not None,
        "callbacks": make_callbacks(estimator),
        "compile": estimator.compile,
        "verbose": int(estimator.verbose),
        # callbacks and loaders are the net's own; what goes to the optimizer is only read
        **{
            name: value if name.startswith("optimizer__") else copy.deepcopy(value)
            for name, value in options.items()
        },
    }
    accelerator = resolve_accelerator(estimator.accelerator)
    if accelerator is None:
        return _initialize(MetricNet(model, device=str(device), **params), options)
    if not estimator.verbose:  # the mixin would print in any case
        params["callbacks__print_log__sink"] = print
    return _initialize(AcceleratedNet(model, accelerator=accelerator, **params), options)


def _initialize(net: MetricNet, options: dict[str, Any]) -> MetricNet:
    """Return a net, initialised; raise where parameters with a prefix are of no use to it."""
    given = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "no other options"
    try:
        net.initialize()
    except (TypeError, ValueError, AttributeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"the net cannot be made with learning_rate={net.lr}, {given}: {error}"
        ) from error
    names = [name for name, _ in net._uniquely_named_callbacks()]
    for key in options:
        if key.startswith("callbacks__") and key.split("__")[1] not in names:
            raise ValueError(f"{key} is of no callback; their names are {names}.")
    learned = [name for name, _ in net.get_all_learnable_params()]
    for pattern, _ in options.get("optimizer__param_groups", []):
        if not any(fnmatch(name, pattern) for name in learned):
            raise ValueError(
                f"optimizer__param_groups has the pattern {pattern!r}, which fits none of "
                f"{learned}."
            )
    return net
