r"""Class scores of a fitted classifier that can be differentiated by the raw features.

An attack by gradients needs, for each class c, a score f_c(x) whose largest one is the
prediction. Linear models, nearest centroids and networks have them. A vote of neighbours has
none, and gets a surrogate with a temperature T: with the squared distances D_j(x),

    f_c(x) = T log Σ_{j in c} exp(−D_j(x) / T),

which tends to minus the distance of the nearest point of c as T falls. What a surrogate finds
counts only when the victim's own `predict` agrees.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from skrobust.adapters._affine import AffineMap
from skrobust.adapters._rule import NearestNeighborRule
from skrobust.utils._torch import eval_mode

__all__ = [
    "AffineScores",
    "CentroidScores",
    "ModuleScores",
    "NeighborScores",
    "NetworkScores",
    "Scores",
]


class Scores(ABC):
    """Differentiable class scores.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    dtype : torch.dtype
        In which they are computed.
    annealed : bool
        Whether they are a surrogate with a temperature.
    """

    annealed: bool = False
    dtype: torch.dtype = torch.float64

    def __init__(self, classes: Any):
        self.classes = np.asarray(classes)

    @abstractmethod
    def to(self, device: torch.device) -> "Scores":
        """Return the same on a device."""

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores, shape (n, n_classes), of raw points of shape (n, n_features)."""

    def soften(
        self, x: torch.Tensor, temperature: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores at a temperature for each row, and the scores themselves."""
        scores = self(x)
        return scores, scores

    def with_shape(self, shape: tuple[int, ...]) -> "Scores":
        """Return scores that know the shape of one input, where that matters."""
        return self

    def before(self, step: AffineMap) -> "Scores":
        """Return the scores of ``A x + b``, for a step in front."""
        return _Composed(step, self)

    def behind(self, embed: Callable[[torch.Tensor], torch.Tensor]) -> "Scores":
        """Return the scores of ``embed(x)``, for a step in front that is not affine."""
        return _Embedded(embed, self)


class _Behind(Scores):
    """Scores of what a step in front makes of a point."""

    def __init__(self, scores: Scores):
        super().__init__(scores.classes)
        self.scores = scores
        self.annealed, self.dtype = scores.annealed, scores.dtype

    @abstractmethod
    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the step makes of points."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.embed(x))

    def soften(
        self, x: torch.Tensor, temperature: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scores.soften(self.embed(x), temperature)


class _Embedded(_Behind):
    """Scores behind a differentiable map, which stays on its device."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], scores: Scores):
        super().__init__(scores)
        self.function = function

    def to(self, device: torch.device) -> Scores:
        return _Embedded(self.function, self.scores.to(device))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class _Composed(_Behind):
    """Scores behind an affine map."""

    def __init__(self, step: AffineMap, scores: Scores):
        super().__init__(scores)
        self.step = step
        self._matrix = torch.from_numpy(np.array(step.matrix.T)).to(self.dtype)
        self._offset = torch.from_numpy(np.array(step.offset)).to(self.dtype)

    def to(self, device: torch.device) -> Scores:
        moved = _Composed(self.step, self.scores.to(device))
        moved._matrix, moved._offset = self._matrix.to(device), self._offset.to(device)
        return moved

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self._matrix + self._offset

    def before(self, step: AffineMap) -> Scores:
        return _Composed(step.then(self.step), self.scores)


class AffineScores(Scores):
    """``W x + b``, the decision function of a linear classifier.

    Parameters
    ----------
    coef : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
    intercept : ndarray of shape (n_classes,) or (1,)
    classes : ndarray of shape (n_classes,)
    """

    def __init__(self, coef: Any, intercept: Any, classes: Any):
        super().__init__(classes)
        coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
        intercept = np.broadcast_to(np.asarray(intercept, dtype=np.float64).ravel(), len(coef))
        if len(coef) == 1:  # a positive decision is the second class
            coef, intercept = np.vstack([0 * coef, coef]), np.r_[0.0, intercept]
        self.coef, self.intercept = torch.from_numpy(coef), torch.from_numpy(np.array(intercept))

    def to(self, device: torch.device) -> Scores:
        return AffineScores(self.coef.cpu(), self.intercept.cpu(), self.classes)._move(device)

    def _move(self, device: torch.device) -> Scores:
        self.coef, self.intercept = self.coef.to(device), self.intercept.to(device)
        return self

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.coef.T + self.intercept


class NetworkScores(Scores):
    """A multi-layer perceptron of scikit-learn.

    Parameters
    ----------
    layers : sequence of (W of shape (n_inputs, n_outputs), b of shape (n_outputs,))
    activation : callable
        Between the layers.
    classes : ndarray of shape (n_classes,)
    """

    def __init__(
        self,
        layers: Any,
        activation: Callable[[torch.Tensor], torch.Tensor],
        classes: Any,
    ):
        super().__init__(classes)
        self.layers = [(torch.as_tensor(W), torch.as_tensor(b)) for W, b in layers]
        self.activation, self.dtype = activation, self.layers[0][0].dtype

    def to(self, device: torch.device) -> Scores:
        layers = [(W.to(device), b.to(device)) for W, b in self.layers]
        return NetworkScores(layers, self.activation, self.classes)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for k, (W, b) in enumerate(self.layers):
            x = (x if k == 0 else self.activation(x)) @ W + b
        return _a_column_each(x, len(self.classes))


class ModuleScores(Scores):
    """A torch module whose outputs are scores.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a batch of shape (n, ...) to (n, n_classes), or (n,) or (n, 1) for two classes. It
        is put into evaluation mode while it computes.
    classes : ndarray of shape (n_classes,)
    shape : tuple of int, default=None
        Shape of one input; None hands on flat rows.
    """

    def __init__(self, module: torch.nn.Module, classes: Any, shape: Any = None):
        super().__init__(classes)
        self.module, self.shape = module, shape
        first = next(module.parameters(), None)
        self._inner = torch.float32 if first is None else first.dtype
        # half precision is for the module alone: an attack's steps are smaller than it can tell
        self.dtype = torch.float64 if self._inner == torch.float64 else torch.float32
        self.device = torch.device("cpu") if first is None else first.device

    def to(self, device: torch.device) -> Scores:
        return self  # the module stays where its owner put it

    def with_shape(self, shape: tuple[int, ...]) -> Scores:
        own = len(shape) < 2 or self.shape is not None
        return self if own else ModuleScores(self.module, self.classes, shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with eval_mode(self.module):
            return self.in_its_mode(x)

    def in_its_mode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores, shape (n, n_classes), in the mode that the module is in."""
        scores = _a_column_each(self._forward(x), len(self.classes))
        if scores.shape[1] != len(self.classes):
            raise ValueError(
                f"module must give one score for each of the {len(self.classes)} classes; got "
                f"{scores.shape[1]} for each row."
            )
        return scores

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the module gives in evaluation mode."""
        with eval_mode(self.module):
            return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        given = x if self.shape is None else x.reshape(len(x), *self.shape)
        # a copy: a module may work in place
        output = self.module(given.to(self.device, self._inner, copy=True))
        return (output[0] if isinstance(output, tuple) else output).to(x.device, self.dtype)


class CentroidScores(Scores):
    """Minus the squared distances to the classes' centroids.

    Parameters
    ----------
    centroids : ndarray of shape (n_classes, n_features)
    classes : ndarray of shape (n_classes,)
    """

    def __init__(self, centroids: Any, classes: Any):
        super().__init__(classes)
        self.centroids = torch.as_tensor(np.array(centroids), dtype=torch.float64)

    def to(self, device: torch.device) -> Scores:
        moved = CentroidScores(self.centroids.cpu().numpy(), self.classes)
        moved.centroids = moved.centroids.to(device)
        return moved

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return -_squared_distances(x, self.centroids)


class NeighborScores(Scores):
    """The surrogate of a vote of neighbours.

    Parameters
    ----------
    rule : NearestNeighborRule

    Notes
    -----
    For K > 1 the score of a class is minus the distance of its ⌈(K + 1) / 2⌉-th nearest point:
    the one that decides a majority.
    """

    annealed = True

    def __init__(self, rule: NearestNeighborRule):
        super().__init__(rule.classes)
        self.rule = rule
        maps = list(rule.maps)
        if rule.metric_root is not None:
            maps.append(AffineMap(rule.metric_root))
        whole = reduce(AffineMap.then, maps) if maps else None
        # sorted by class, so that a class is a slice
        order = np.argsort(rule.labels, kind="stable")
        self.order = order
        self.ends = np.searchsorted(rule.labels[order], np.arange(len(rule.classes) + 1))
        self.matrix = None if whole is None else torch.from_numpy(np.array(whole.matrix.T))
        offset = np.zeros(rule.points.shape[1]) if whole is None else whole.offset
        self.points = torch.from_numpy(np.array(rule.points[order] - offset))
        self.squares = self.points.square().sum(1)

    def to(self, device: torch.device) -> Scores:
        moved = object.__new__(NeighborScores)
        moved.__dict__.update(self.__dict__)
        for name in ("matrix", "points", "squares"):
            tensor = getattr(self, name)
            setattr(moved, name, None if tensor is None else tensor.to(device))
        return moved

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x; the offset is in the points."""
        return x if self.matrix is None else x @ self.matrix

    def distances(self, x: torch.Tensor) -> torch.Tensor:
        """Return squared distances, shape (n, n_train), to the points sorted by class."""
        z = self.embed(x)
        return z.square().sum(1)[:, None] + self.squares - 2 * z @ self.points.T

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._nearest(self.distances(x))

    def soften(
        self, x: torch.Tensor, temperature: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        D = self.distances(x)  # (n, n_train), a slice of columns for each class
        T = temperature[:, None]
        # the log-sum-exp of a class; −∞ for one without points
        soft = [
            T * torch.logsumexp(-D[:, a:b] / T, dim=1, keepdim=True) if b > a else self._none(D)
            for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)
        ]
        return torch.hstack(soft), self._nearest(D.detach())

    def toward(
        self, x: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor, rank: int
    ) -> torch.Tensor:
        """Return the η that takes each row to one of the nearest points of other classes.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
        labels : Tensor of shape (n,)
        scale : Tensor of shape (n_features,)
            ``x + scale ∘ η`` is moved.
        rank : int
            0 for the nearest of them; beyond their number it starts again.

        Returns
        -------
        Tensor of shape (n, n_features)
            The shortest one in ℓ₂; where the embedding cannot be reached, the nearest to it.
        """
        D = self.distances(x)
        # points of the row's own class are infinitely far
        for c, (a, b) in enumerate(zip(self.ends[:-1], self.ends[1:], strict=True)):
            D[:, a:b] = torch.where((labels == c)[:, None], torch.inf, D[:, a:b])
        n_others = int(torch.isfinite(D).sum(1).amin()) if len(D) else 0
        if n_others == 0:
            return torch.zeros_like(x)
        # the point of the rank, and the least-norm η that moves the embedding onto it
        column = D.topk(rank % n_others + 1, largest=False).indices[:, -1]
        step = self.points[column] - self.embed(x)
        if self.matrix is None:
            return torch.where(scale > 0, step / scale.clamp_min(1e-300), 0)
        return step @ torch.linalg.pinv(scale[:, None] * self.matrix)

    def _nearest(self, D: torch.Tensor) -> torch.Tensor:
        needed = self.rule.n_neighbors // 2 + 1  # votes of a majority
        nearest = []
        for a, b in zip(self.ends[:-1], self.ends[1:], strict=True):
            if b == a:
                nearest.append(self._none(D))
            elif needed == 1:
                nearest.append(-D[:, a:b].amin(1, keepdim=True))
            else:
                k = min(needed, int(b - a))
                nearest.append(-D[:, a:b].topk(k, largest=False).values[:, -1:])
        return torch.hstack(nearest)

    def _none(self, D: torch.Tensor) -> torch.Tensor:
        return torch.full_like(D[:, :1], -torch.inf)


def _squared_distances(x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return x.square().sum(1)[:, None] + points.square().sum(1) - 2 * x @ points.T


def _a_column_each(scores: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return a column for each class, also where there is one number for two classes."""
    scores = scores.reshape(len(scores), -1)
    if scores.shape[1] != 1 or n_classes < 2:
        return scores
    return torch.hstack([torch.zeros_like(scores), scores])
