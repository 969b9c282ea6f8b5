"""From training points to prototypes: k-means, the steps, and the iterate that is kept."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from torch.nn.functional import relu

from skrobust.neighbors._prototype_objective import PrototypeModel
from skrobust.utils._torch import as_tensor, make_generator

__all__ = ["PrototypeProblem", "Schedule", "Trained", "start_prototypes", "train"]

_MEDIAN_OF = 4096  # points of which the median bound is taken
_LEAST_STEPS = 12  # of an epoch
_MINI_BATCH_FROM = 3000  # points of a class beyond which k-means takes mini-batches


# a model, its score and its clean error
Iterate = tuple[PrototypeModel, float, float]


@dataclass(frozen=True)
class Schedule:
    """How the steps are made.

    Attributes
    ----------
    target_radius : float or None
        None is the median bound at the start.
    temperature : tuple of two float
        First and last, in units of the batch's median bound.
    max_iter : int
        Epochs.
    batch_size : int
    rates : tuple of two float
        Of the prototypes, in units of the data, and of G.
    clean_tolerance : float
        How much more than the lowest clean error an iterate may have, in standard errors of it.
    verbose : int
    told : callable, default=None
        Called after each epoch with the model that would be kept; a true value ends the
        training.
    """

    target_radius: float | None
    temperature: tuple[float, float]
    max_iter: int
    batch_size: int
    rates: tuple[float, float]
    clean_tolerance: float
    verbose: int
    on_epoch_end: Callable[[PrototypeModel], bool] | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """Prototypes that were trained.

    Attributes
    ----------
    model : PrototypeModel
        The iterate that is kept.
    score : float
        Its mean bound on the judging points, between 0 and the target radius.
    clean_error : float
        On the same points.
    curve : list of tuple (loss, score, clean_error)
        After each epoch.
    interrupted : bool
    target_radius : float
    stopped : bool
        By a callback.
    """

    model: PrototypeModel
    score: float
    clean_error: float
    curve: list[tuple[float, float, float]]
    interrupted: bool
    target_radius: float
    stopped: bool


@dataclass(frozen=True, eq=False)
class PrototypeProblem:
    """Training points, and points that judge.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int
    judges : ndarray of shape (n_judges, n_features)
    judge_labels : ndarray of shape (n_judges,)
    components : ndarray of shape (n_components, n_features)
        G at the start.
    scale : ndarray of shape (n_features,) or None
    dual : float
    n_candidates : tuple of two int
    device : torch.device
    seed : int
    """

    X: np.ndarray
    y: np.ndarray
    judges: np.ndarray
    judge_labels: np.ndarray
    components: np.ndarray
    scale: np.ndarray | None
    dual: float
    n_candidates: tuple[int, int]
    device: torch.device
    seed: int

    def solve(self, n_prototypes: int, schedule: Schedule) -> Trained:
        """Start with so many prototypes a class, and train."""
        random_state = np.random.RandomState(self.seed)

        def single(values: np.ndarray) -> torch.Tensor:
            return as_tensor(values, self.device, torch.float32)

        def labels(values: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=self.device)

        start, classes = start_prototypes(self.X, self.y, n_prototypes, random_state)
        model = PrototypeModel(
            single(start),
            labels(classes),
            single(self.components),
            None if self.scale is None else single(self.scale),
            self.dual,
            self.n_candidates,
        )
        X, y = single(self.X), labels(self.y)
        judges = single(self.judges), labels(self.judge_labels)
        if schedule.target_radius is None:
            schedule = replace(schedule, target_radius=_median_bound(model, X, y))
        return train(model, X, y, judges, schedule, make_generator(random_state))


def start_prototypes(
    X: np.ndarray, y: np.ndarray, n_prototypes: int, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k-means centers of each class, and their classes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int
    n_prototypes : int
        Of a class, at most; a class with fewer different points has as many as these.
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


def train(
    model: PrototypeModel,
    X: torch.Tensor,
    y: torch.Tensor,
    judges: tuple[torch.Tensor, torch.Tensor],
    schedule: Schedule,
    generator: torch.Generator,
) -> Trained:
    """Minimise the mean of ``[target_radius − t(x)]₊`` over prototypes and metric.

    Parameters
    ----------
    model : PrototypeModel
        The start; it is an iterate too.
    X : Tensor of shape (n_samples, n_features)
    y : Tensor of shape (n_samples,), int64
    judges : tuple of Tensor
        Points and labels that choose among the iterates.
    schedule : Schedule
        With a target radius.
    generator : torch.Generator
        On the CPU.
    """
    if schedule.target_radius is None:
        raise ValueError("target_radius must be given; got None.")
    target: float = schedule.target_radius
    prototypes = model.prototypes.clone().requires_grad_()
    components = model.components.clone().requires_grad_(schedule.rates[1] > 0)
    groups: list[dict[str, Any]] = [{"params": [prototypes], "lr": schedule.rates[0]}]
    if components.requires_grad:
        groups.append({"params": [components], "lr": schedule.rates[1]})
    size = min(schedule.batch_size, len(X))
    # few points are gone through several times in an epoch
    n_passes = -(-_LEAST_STEPS // (len(X) // size))
    n_steps = schedule.max_iter * n_passes * (len(X) // size)
    optimizer = torch.optim.Adam(groups)
    rise_and_fall = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=n_steps, pct_start=0.1
    )
    moving = replace(model, prototypes=prototypes, components=components)
    first, last = schedule.temperature
    latest: Iterate = (model, *_judge(model, judges, target))
    iterates = [latest]
    curve: list[tuple[float, float, float]] = []
    step, interrupted, stopped = 0, False, False
    try:
        for epoch in range(schedule.max_iter):
            started, losses = time.perf_counter(), [0.0]
            orders = [torch.randperm(len(X), generator=generator) for _ in range(n_passes)]
            batches = [rows for order in orders for rows in order.split(size) if len(rows) == size]
            for batch in batches:
                rows = batch.to(X.device)
                temperature = first * (last / first) ** (step / n_steps)
                bound = moving.smooth_bounds(X[rows], y[rows], temperature)
                step += 1
                if len(bound) == 0:
                    continue
                loss = relu(target - bound).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rise_and_fall.step()
                losses.append(loss.item())
            now = replace(
                model,
                prototypes=prototypes.detach().clone(),
                components=components.detach().clone(),
            )
            score, error = _judge(now, judges, target)
            latest = (now, score, error)
            iterates.append(latest)
            curve.append((float(np.mean(losses)), score, error))
            # the others are worse in both
            iterates = [
                one
                for k, one in enumerate(iterates)
                if k == 0 or not any(_dominates(other, one) for other in iterates)
            ]
            if schedule.verbose:
                seconds = time.perf_counter() - started
                print(  # noqa: T201
                    f"epoch {epoch + 1:3d}  loss {curve[-1][0]:.5g}  held-out radius {score:.5g}"
                    f"  error {error:.4f}  {seconds:.1f} s"
                )
            if schedule.on_epoch_end is not None and schedule.on_epoch_end(
                _choose(iterates, latest, len(judges[1]), schedule.clean_tolerance)[0]
            ):
                stopped = True
                break
    except KeyboardInterrupt:
        interrupted = True
    kept = _choose(iterates, latest, len(judges[1]), schedule.clean_tolerance)
    return Trained(*kept, curve, interrupted, target, stopped)


def _choose(iterates: list[Iterate], latest: Iterate, n_judges: int, tolerance: float) -> Iterate:
    """Return the end of the schedule where its clean error is allowed, else the best that is.

    Differences of held-out scores are mostly chance, and the end is what was asked for.
    """
    lowest = min(error for _, _, error in iterates)
    most = lowest + tolerance * (lowest * (1 - lowest) / n_judges) ** 0.5
    best = max((one for one in iterates if one[2] <= most), key=lambda one: one[1])
    start_is_better = iterates[0][1] > latest[1]
    return best if latest[2] > most or start_is_better else latest


def _judge(
    model: PrototypeModel, judges: tuple[torch.Tensor, torch.Tensor], target_radius: float
) -> tuple[float, float]:
    """Return the mean bound, at most the target radius and 0 where wrong, and the error."""
    bounds = model.bounds(*judges)
    score = bounds.clamp(0, target_radius).mean()
    return float(score), float((bounds <= 0).double().mean())


def _dominates(one: Iterate, two: Iterate) -> bool:
    return one is not two and one[1] >= two[1] and one[2] <= two[2] and one[1:] != two[1:]


def _median_bound(model: PrototypeModel, X: torch.Tensor, y: torch.Tensor) -> float:
    """Return the median bound of points that are right and can be reached; 1 without any."""
    bounds = model.bounds(X[:_MEDIAN_OF], y[:_MEDIAN_OF])
    bounds = bounds[torch.isfinite(bounds) & (bounds > 0)]
    return float(bounds.median()) if len(bounds) else 1.0
