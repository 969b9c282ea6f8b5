"""A torch module as a classifier: it predicts, is attacked, and can be trained further."""

from copy import deepcopy
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skrobust.adapters._scores import ModuleScores
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import Interval, fit_context
from skrobust.utils._torch import as_tensor, isolated_rng, to_numpy

__all__ = ["TorchClassifier"]


class TorchClassifier(ClassifierMixin, BaseEstimator):
    """A torch module as a classifier.

    With a trained module and its `classes` it predicts at once, and needs no :meth:`fit`.
    :meth:`fit` trains a copy of the module, from the weights that it has, with the cross-entropy
    and Adam; the module itself stays as it is. In a ``FrozenEstimator`` it is never trained.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a batch to scores of shape (n_samples, n_classes), or (n_samples,) for two classes.
        It predicts in evaluation mode, on the device it is on; normalisation of the inputs
        belongs in it.
    classes : array-like of shape (n_classes,), default=None
        Labels of the scores. None takes the sorted labels of :meth:`fit`.
    input_shape : tuple of int, default=None
        Shape of one input, where X is flat; None hands X on as it is.
    batch_size : int, default=512
        Rows that the module is given at once, in :meth:`fit` about as many.
    max_iter : int, default=50
        Epochs of :meth:`fit`.
    learning_rate : float, default=1e-3
        Of Adam, in :meth:`fit`.
    random_state : int, RandomState or None, default=None
        For the order of the rows and for dropout in :meth:`fit`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    module_ : torch.nn.Module
        The trained copy, after :meth:`fit`.
    n_iter_ : int
        Epochs that :meth:`fit` made.
    n_features_in_ : int
        Seen in :meth:`fit`, like the next.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> import torch
    >>> from skrobust.adapters import TorchClassifier
    >>> victim = TorchClassifier(torch.nn.Linear(2, 3), classes=["a", "b", "c"])
    >>> victim.predict([[0.0, 1.0]]).shape
    (1,)
    >>> X, y = [[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]], [0, 0, 1, 1]
    >>> fresh = TorchClassifier(torch.nn.Linear(2, 2), learning_rate=0.1, random_state=0)
    >>> fresh.fit(X, y).predict(X)
    array([0, 0, 1, 1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "module": [torch.nn.Module],
        "classes": ["array-like", None],
        "input_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        module: torch.nn.Module,
        classes: Any = None,
        *,
        input_shape: tuple[int, ...] | None = None,
        batch_size: int = 512,
        max_iter: int = 50,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ):
        self.module = module
        self.classes = classes
        self.input_shape = input_shape
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Train a copy of the module, from the weights that it has.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            Labels; among `classes` where these are given.

        Returns
        -------
        TorchClassifier
            Itself, fitted.

        Raises
        ------
        ValueError
            If the module does not give one score for each class, y holds another label, or the
            loss is no longer a number.
        """
        values = validate_data(self, X, **_CHECKS)
        y = column_or_1d(y, warn=True)
        check_consistent_length(values, y)
        check_classification_targets(y)
        classes = np.unique(y) if self.classes is None else np.asarray(self.classes)
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                f"y must hold labels of classes, {classes.tolist()}; got {unknown.tolist()[0]!r}."
            )
        if len(classes) < 2:
            raise ValueError(
                f"y must hold two classes or more; got one class, {classes.tolist()[0]!r}."
            )
        order = np.argsort(classes)
        encoded = order[np.searchsorted(classes, y, sorter=order)]
        module = deepcopy(self.module)
        self._train(ModuleScores(module, classes, self.input_shape), values, encoded)
        self.module_, self._fitted_classes, self.n_iter_ = module.eval(), classes, self.max_iter
        self.n_features_in_ = values.shape[1]
        return self

    def _train(self, scores: ModuleScores, values: np.ndarray, y: np.ndarray) -> None:
        rng, module, n = check_random_state(self.random_state), scores.module, len(values)
        scores(as_tensor(values[:1], scores.device, scores.dtype))  # its shape is checked
        optimizer = torch.optim.Adam(module.parameters(), lr=self.learning_rate)
        with isolated_rng(int(rng.randint(np.iinfo(np.int32).max)), scores.device):
            for epoch in range(self.max_iter):
                # parts of equal size: a batch norm cannot learn from a single row
                for rows in np.array_split(rng.permutation(n), -(-n // self.batch_size)):
                    x = as_tensor(values[rows], scores.device, scores.dtype)
                    target = torch.as_tensor(y[rows], device=scores.device)
                    module.train()
                    loss = torch.nn.functional.cross_entropy(scores.in_its_mode(x), target)
                    if not bool(torch.isfinite(loss)):
                        raise ValueError(
                            f"the loss is {loss.item()} in epoch {epoch + 1}; use a smaller "
                            f"learning_rate than {self.learning_rate}, or scale the inputs."
                        )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the scores, shape (n_classes,)."""
        if hasattr(self, "_fitted_classes"):
            return np.asarray(self._fitted_classes)
        if self.classes is None:
            raise AttributeError("classes_ is known after fit, or where classes are given.")
        return np.asarray(self.classes)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores, shape (n_samples, n_classes).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        scores = self._differentiable_scores()
        fitted = hasattr(self, "module_")
        values = (
            validate_data(self, X, reset=False, **_CHECKS) if fitted else check_array(X, **_CHECKS)
        )
        if fitted and values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {values.shape[1]} features, but TorchClassifier is expecting "
                f"{self.n_features_in_} features as input."
            )
        outputs = np.empty((len(values), len(self.classes_)))
        with torch.no_grad():
            for start in range(0, len(values), self.batch_size):
                rows = slice(start, start + self.batch_size)
                batch = as_tensor(values[rows], scores.device, scores.dtype)
                outputs[rows] = to_numpy(scores(batch))
        return outputs

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest score, shape (n_samples,).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        best = self.decision_function(X).argmax(axis=1)
        return self.classes_[best]

    def _differentiable_scores(self) -> ModuleScores:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                "This TorchClassifier is not fitted yet: call fit, or give the classes of a "
                "trained module."
            )
        module = getattr(self, "module_", self.module)
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module; got {type(module).__name__}.")
        return ModuleScores(module, self.classes_, self.input_shape)

    def __sklearn_is_fitted__(self) -> bool:
        return self.classes is not None or hasattr(self, "module_")


_CHECKS: dict[str, Any] = {"allow_nd": True, "ensure_2d": False, "dtype": "numeric"}
