"""Training on clean batches."""

import torch

from skrobust.deep.strategies._base import Training, TrainingStep

__all__ = ["StandardTraining"]


class StandardTraining(Training):
    """The loss of the clean batch: the reference that the others are compared with.

    Examples
    --------
    >>> from skrobust.deep import StandardTraining
    >>> StandardTraining()
    StandardTraining()
    """

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        z = step.embed(step.x)
        return step.criterion(z, step.y), z
