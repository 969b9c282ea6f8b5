r"""Embedding-shift training (EST).

    min_f  L(f(x'), y),      x' = argmax ‖f(x') − f(x)‖ :

the adversary needs no labels and knows nothing of the loss, so that any one can be used.
"""

import torch

from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep, distances

__all__ = ["EmbeddingShiftTraining"]


class EmbeddingShiftTraining(AdversarialStrategy):
    """Train on batches that are perturbed to move their embeddings as far as possible.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=1.0
        Radius of the random start, as a share of the budget; more than 0, because at the clean
        point the movement has no gradient.

    Examples
    --------
    >>> from skrobust.deep import EmbeddingShiftTraining
    >>> EmbeddingShiftTraining(max_iter=3)
    EmbeddingShiftTraining(max_iter=3)
    """

    def check(self) -> None:
        """Raise where a parameter is not as described."""
        super().check()
        self._check_start("where the movement is raised")

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        clean = step.embed_eval(step.x)
        moved = step.attack(step.x, lambda z: distances(z, clean), self)
        return step.criterion(step.embed(moved), step.y), clean
