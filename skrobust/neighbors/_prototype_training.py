"""From training points to prototypes: k-means, and the problem that a solver is given."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from skrobust.metric_learning import FitProblem
from skrobust.objectives import PrototypeObjective
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import as_tensor, make_generator

__all__ = ["PrototypeProblem", "prototype_problem", "start_prototypes"]

_MEDIAN_OF = 4096  # points of which the median bound is taken
_MINI_BATCH_FROM = 3000  # points of a class beyond which k-means takes mini-batches
_STEP = 5.0  # how much longer the steps of prototypes are than those of G


@dataclass(frozen=True, eq=False)
class _LabeledPoints:
    """Points that judge prototypes, or that these are trained on.

    Attributes
    ----------
    objective : PrototypeObjective
    components : Tensor of shape (n_components, n_features)
        G at the start.
    X : Tensor of shape (n_samples, n_features)
    y : Tensor of shape (n_samples,), int64
    """

    objective: PrototypeObjective
    components: torch.Tensor
    X: torch.Tensor
    y: torch.Tensor

    def split(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prototypes, and the components of the metric."""
        n = len(self.objective.labels)
        return _STEP * parameters[:n], parameters[n:] if len(parameters) > n else self.components

    def radii(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the bound of each point, at most the target radius, and 0 where wrong."""
        bounds = self.objective.bounds(*self.split(parameters), self.X, self.y)
        return bounds.clamp(0, self.objective.target_radius)


@dataclass(frozen=True, eq=False, kw_only=True)
class PrototypeProblem(FitProblem):
    """Prototypes and a metric to be learned.

    The parameters are the rows of W / 5 and, where the metric is learned, of G below them: Adam's
    steps do not depend on the size of gradients, so that prototypes make longer ones than G.

    Attributes
    ----------
    points : _LabeledPoints
        The training points.
    """

    points: _LabeledPoints

    @property
    def anneals(self) -> bool:
        """True: the end of the schedule is the end of the training."""
        return True

    def epoch(
        self, parameters: torch.Tensor, size: int | None, progress: float
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
        """Draw the points of an epoch."""
        points = self.points
        objective = points.objective.at(progress)
        return self.sample(size), lambda parameters, batch: objective.value(
            *points.split(parameters), points.X[batch], points.y[batch]
        )


def prototype_problem(
    X: np.ndarray,
    y: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray],
    components: np.ndarray,
    n_prototypes: int,
    *,
    learn_metric: bool,
    target_radius: float | None,
    temperature: tuple[float, float],
    budget: FeatureBudget,
    device: torch.device,
    seed: int,
    verbose: int,
    on_epoch_end: Callable[[PrototypeProblem, np.ndarray], bool],
) -> PrototypeProblem:
    """Start from the k-means centers of each class.

    Parameters
    ----------
    X, y : ndarray of shape (n_samples, n_features), (n_samples,)
        Training points, and their classes as numbers.
    held_out : tuple of ndarray
        Points and classes that judge.
    components : ndarray of shape (n_components, n_features)
        G at the start.
    n_prototypes : int
        A class, at most.
    learn_metric : bool
    target_radius : float or None
        None is the median bound at the start.
    temperature : tuple of two float
    budget : FeatureBudget
    device : torch.device
    seed : int
    verbose : int
    on_epoch_end : callable
        Called with the problem, and the parameters that would be kept.
    """
    random_state = np.random.RandomState(seed)

    def single(values: np.ndarray) -> torch.Tensor:
        return as_tensor(values, device, torch.float32)

    def points(X: np.ndarray, y: np.ndarray) -> _LabeledPoints:
        return _LabeledPoints(objective, G, single(X), as_tensor(y, device, torch.int64))

    start, classes = start_prototypes(X, y, n_prototypes, random_state)
    prototypes, G = single(start), single(components)
    objective = PrototypeObjective(
        as_tensor(classes, device, torch.int64),
        target_radius or 1.0,
        temperature,
        None if (budget.scale == 1).all() else single(budget.scale),
        budget.dual,
    )
    if target_radius is None:
        some = points(X[:_MEDIAN_OF], y[:_MEDIAN_OF])
        bounds = objective.bounds(prototypes, G, some.X, some.y)
        bounds = bounds[torch.isfinite(bounds) & (bounds > 0)]
        radius = float(bounds.median()) if len(bounds) else 1.0
        objective = replace(objective, target_radius=radius)
    problem = PrototypeProblem(
        parameters=torch.cat([prototypes / _STEP, G] if learn_metric else [prototypes / _STEP]),
        anchors=torch.arange(len(X)),
        validation=points(*held_out),
        generator=make_generator(random_state),
        verbose=verbose,
        points=points(X, y),
    )
    return replace(problem, on_epoch_end=lambda _, best: on_epoch_end(problem, best()))


def start_prototypes(
    X: np.ndarray, y: np.ndarray, n_prototypes: int, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k-means centers of each class, and their classes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int
    n_prototypes : int
        A class, at most; a class with fewer different points has as many as these.
    random_state : RandomState
    """
    centers, labels = [], []
    for c in np.unique(y):
        points = X[y == c]
        n = min(n_prototypes, len(np.unique(points, axis=0)))
        kind = MiniBatchKMeans if len(points) > _MINI_BATCH_FROM else KMeans
        model = kind(n, n_init=1, random_state=random_state.randint(2**31 - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            centers.append(model.fit(points).cluster_centers_)
        labels.append(np.full(n, c))
    return np.concatenate(centers), np.concatenate(labels)
