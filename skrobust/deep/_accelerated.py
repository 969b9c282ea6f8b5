"""The net in several processes, by accelerate."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.hf import AccelerateMixin

from skrobust.deep._net import MetricNet

__all__ = ["AcceleratedNet", "resolve_accelerator"]


class AcceleratedNet(MetricNet, AccelerateMixin, NeuralNet):
    """A net whose batches are dealt to the processes, and whose gradients are averaged.

    Parameters
    ----------
    *args, **kwargs
        Of :class:`MetricNet`, and ``accelerator``.
    """

    @property
    def step_device(self) -> torch.device:
        """Where batches go."""
        return self.accelerator.device

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

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients, averaged over the processes."""
        self.accelerator.backward(loss)
        for parameter in self.criterion_.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def anywhere(self, flag: bool) -> bool:
        """Return whether something is so in any of the processes, which then do the same."""
        found = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(found, reduction="sum") > 0)

    def _autocast(self) -> AbstractContextManager[Any]:
        return self.accelerator.autocast()

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the loader of this process."""
        loader = MetricNet.get_iterator(self, dataset, training)
        if not training:  # every process judges by all rows
            return loader
        # batches go to the device in the step: on the way they would lose what a strategy knows
        loader = self.accelerator.prepare_data_loader(loader, device_placement=False)
        self.context.n_batches = len(loader)
        return loader


def resolve_accelerator(accelerator: Any) -> Any:
    """Return an ``accelerate.Accelerator``.

    Raises
    ------
    ImportError
        If accelerate is not installed.
    TypeError
        If it is something else.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ImportError(
            "accelerator needs the package accelerate: pip install accelerate."
        ) from error
    if accelerator is True:
        return Accelerator()
    if not isinstance(accelerator, Accelerator):
        raise TypeError(
            "accelerator must be None, True or an accelerate.Accelerator; got "
            f"{type(accelerator).__name__}."
        )
    return accelerator
