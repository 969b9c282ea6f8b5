"""Pull an embedding toward items of a gallery, and how items are chosen."""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, EmbeddingProblem
from skrobust.threat_model import ThreatModel
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["EmbeddingTargets", "draw", "others", "same_class"]


class EmbeddingTargets(BaseEmbeddingAttack):
    r"""Pull the embedding toward one or several items: STAX (one) and MTAX (several).

    The mean distance to T targets ``1/T Σ_q ‖t_q − f(x')‖`` is lowered (the geometric median), or
    the mean of its squares (the centroid).

    Parameters
    ----------
    estimator : transformer, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``PCA()``.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    n_targets : int, default=1
        T.
    targets : {"any", "other_class"}, default="any"
        Which items of the gallery are drawn.
    aim : {"median", "centroid"}, default="median"
        Distances, or their squares.
    max_iter : int, default=32
        Steps.
    step_size : float, default=0.25
        First step as a share of the budget; it falls to 0.
    gradient : {"exact", "nes"}, default="exact"
        "nes" estimates it from `transform` alone.
    n_evaluations : int, default=30
        Pairs of points of an estimate.
    batch_size : int, default=128
        Rows that are attacked together.
    random_state : int, RandomState or None, default=None
        For the targets and the random start.

    Attributes
    ----------
    estimator_ : transformer
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    gallery_ : ndarray of shape (n_samples, n_components)
        Embeddings of the training points.
    n_iter_ : int
        Steps that are made: `max_iter`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Notes
    -----
    The value that is reported is the mean cosine of the perturbed point and its targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import EmbeddingTargets
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = EmbeddingTargets(threat_model=ThreatModel(eps=2.0), random_state=0)
    >>> found = attack.run(StandardScaler().fit(X), X)
    >>> bool(found.value.mean() > 0.5)
    True
    """

    ceiling = 0.0  # at the targets

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "targets": [StrOptions({"any", "other_class"})],
        "aim": [StrOptions({"median", "centroid"})],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        n_targets: int = 1,
        targets: str = "any",
        aim: str = "median",
        max_iter: int = 32,
        step_size: float = 0.25,
        gradient: str = "exact",
        n_evaluations: int = 30,
        batch_size: int = 128,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.n_targets = n_targets
        self.targets = targets
        self.aim = aim
        self.max_iter = max_iter
        self.step_size = step_size
        self.gradient = gradient
        self.n_evaluations = n_evaluations
        self.batch_size = batch_size
        self.random_state = random_state

    def _select_targets(self, problem: EmbeddingProblem) -> torch.Tensor:
        allowed = others(problem)
        if self.targets == "other_class":
            allowed &= ~same_class(problem, "targets='other_class'")
        return problem.gallery.items[draw(allowed, self.n_targets, problem.noise)]

    def _value(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        distance = (z[:, None] - targets).square().sum(2)  # (n, n_targets)
        if self.aim == "median":
            distance = distance.clamp_min(1e-24).sqrt()
        return -distance.mean(1)

    def _report(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (z[:, None] * targets).sum(2).mean(1)


def others(problem: EmbeddingProblem) -> np.ndarray:
    """Return the mask, of shape (n, n_gallery), of the items that are not the row itself."""
    own = problem.own
    allowed = np.ones((len(own), len(problem.gallery.items)), dtype=bool)
    inside = np.flatnonzero(own >= 0)
    allowed[inside, own[inside]] = False
    return allowed


def same_class(problem: EmbeddingProblem, what: str) -> np.ndarray:
    """Return the mask of the items of each row's class; errors name what needs labels."""
    if problem.labels is None or problem.gallery.labels is None:
        raise ValueError(f"y must be given for {what}; got None.")
    return problem.labels[:, None] == problem.gallery.labels


def draw(allowed: np.ndarray, n: int, noise: RowNoise) -> np.ndarray:
    """Return n random allowed items of each row, shape (n_rows, n); again where there are fewer."""
    if not allowed.any(axis=1).all():
        raise ValueError("X must hold other items to choose from; a row has none.")
    counts = allowed.sum(axis=1)
    place = (noise.uniform(n, 7) * counts[:, None]).astype(int)
    order = np.argsort(~allowed, axis=1, kind="stable")
    return np.take_along_axis(order, place, 1)
