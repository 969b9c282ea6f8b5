"""A torch module as a classifier that can be attacked."""

from typing import Any

import numpy as np
import torch
from sklearn.utils import ClassifierTags, Tags, TargetTags

from skrobust.utils._torch import as_tensor, to_numpy
from skrobust.victims._scores import ModuleScores

__all__ = ["TorchClassifier"]


class TorchClassifier:
    """A trained torch module with the `predict` that attacks ask.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a batch to scores of shape (n_samples, n_classes), or (n_samples,) for two classes.
        It is asked in evaluation mode, on the device it is on; normalisation of the inputs
        belongs in it.
    classes : array-like of shape (n_classes,)
        Labels of the scores.
    input_shape : tuple of int, default=None
        Shape of one input, where X is flat; None hands X on as it is.
    batch_size : int, default=512
        Rows that the module is given at once.

    Examples
    --------
    >>> import torch
    >>> from skrobust.victims import TorchClassifier
    >>> victim = TorchClassifier(torch.nn.Linear(2, 3), classes=["a", "b", "c"])
    >>> victim.predict([[0.0, 1.0]]).shape
    (1,)
    """

    def __init__(
        self,
        module: torch.nn.Module,
        classes: Any,
        *,
        input_shape: tuple[int, ...] | None = None,
        batch_size: int = 512,
    ):
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module; got {type(module).__name__}.")
        self.module = module
        self.classes_ = np.asarray(classes)
        self.input_shape = input_shape
        self.batch_size = batch_size

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores, shape (n_samples, n_classes).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        scores = self._differentiable_scores()
        values = np.asarray(X)
        found = np.empty((len(values), len(self.classes_)))
        with torch.no_grad():
            for start in range(0, len(values), self.batch_size):
                rows = slice(start, start + self.batch_size)
                batch = as_tensor(values[rows], scores.device, scores.dtype)
                found[rows] = to_numpy(scores(batch))
        return found

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest score, shape (n_samples,).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def _differentiable_scores(self) -> ModuleScores:
        return ModuleScores(self.module, self.classes_, self.input_shape)

    def __sklearn_tags__(self) -> Tags:
        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
        )
