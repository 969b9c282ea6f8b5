r"""Push an embedding out of its group: away from the mean of its class or cluster, toward another.

With μ_c the mean of the embeddings of group c, and y the group of the row, one of

    margin         ‖f(x') − μ_y‖ − ‖f(x') − μ_t‖
    proxy_anchor   log(1 + e^{−α (s_y − δ)}) + Σ_{c ≠ y} log(1 + e^{α (s_c + δ)})

with the cosines s_c of f(x') and μ_c, is raised. The target t is the group whose mean is nearest,
or one at random: toward the nearest one whole groups may change places, which a clustering does not
mind. The second is the loss of Kim, Kim, Cho and Kwak, *Proxy anchor loss for deep metric
learning*, CVPR 2020, with means in the place of proxies, which new classes do not have.
"""

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, EmbeddingProblem, unit
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["EmbeddingMargin"]


@dataclass(frozen=True, eq=False)
class _Means:
    """Means of the groups, the group of each row, and where it is pushed."""

    means: torch.Tensor
    own: torch.Tensor
    target: torch.Tensor


class EmbeddingMargin(BaseEmbeddingAttack):
    """Push embeddings away from the mean of their class or cluster.

    The groups are the labels that come with the gallery: classes, or the clusters that an
    algorithm found.

    Parameters
    ----------
    estimator : transformer, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``PCA()``.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    objective : {"margin", "proxy_anchor"}, default="margin"
        See the formulas of this file.
    toward : {"random", "nearest"}, default="random"
        The other group of the margin.
    alpha : float, default=32.0
        α, for "proxy_anchor".
    delta : float, default=0.1
        δ, for "proxy_anchor".
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
        For the groups and the random start.

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
    The value that is reported is ‖f(x') − μ_y‖ − min_{c ≠ y} ‖f(x') − μ_c‖: larger than 0 where
    the nearest mean is that of another group.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import EmbeddingMargin
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> found = attack.run(StandardScaler().fit(X), X, y)
    >>> bool((found.value > 0).mean() > 0.3)
    True
    """

    normalizes: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "objective": [StrOptions({"margin", "proxy_anchor"})],
        "toward": [StrOptions({"random", "nearest"})],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        objective: str = "margin",
        toward: str = "random",
        alpha: float = 32.0,
        delta: float = 0.1,
        max_iter: int = 32,
        step_size: float = 0.25,
        gradient: str = "exact",
        n_evaluations: int = 30,
        batch_size: int = 128,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.objective = objective
        self.toward = toward
        self.alpha = alpha
        self.delta = delta
        self.max_iter = max_iter
        self.step_size = step_size
        self.gradient = gradient
        self.n_evaluations = n_evaluations
        self.batch_size = batch_size
        self.random_state = random_state

    def _requires_y(self) -> bool:
        return True

    def _select_targets(self, problem: EmbeddingProblem) -> _Means:
        items, labels, _ = problem.gallery
        if labels is None:
            raise ValueError("y must be given for EmbeddingMargin; got None.")
        groups, codes = np.unique(labels, return_inverse=True)
        if len(groups) < 2:
            raise ValueError(f"y must hold at least two groups; got 1: {groups.tolist()[0]!r}.")
        sums = items.new_zeros(len(groups), items.shape[1])
        sums.index_add_(0, torch.from_numpy(codes), items)
        means = sums / torch.from_numpy(np.bincount(codes)).to(sums)[:, None]
        if problem.labels is None:  # of the nearest mean
            own = torch.cdist(problem.clean, means).argmin(1)
        else:
            known = np.searchsorted(groups, problem.labels).clip(max=len(groups) - 1)
            if (groups[known] != problem.labels).any():
                new = problem.labels[groups[known] != problem.labels].tolist()[0]
                raise ValueError(f"labels must be of the groups {groups.tolist()}; got {new!r}.")
            own = torch.from_numpy(known)
        if self.toward == "random":
            step = 1 + (problem.noise.uniform(1, 7)[:, 0] * (len(groups) - 1)).astype(int)
            target = (own + torch.from_numpy(step)) % len(groups)
        else:
            distance = torch.cdist(problem.clean, means).scatter(1, own[:, None], torch.inf)
            target = distance.argmin(1)
        return _Means(means, own, target)

    def _value(self, z: torch.Tensor, targets: _Means) -> torch.Tensor:
        own = targets.own[:, None]
        if self.objective == "proxy_anchor":
            s = unit(z) @ unit(targets.means).T
            pushed = torch.nn.functional.softplus(self.alpha * (s + self.delta))
            positive = torch.nn.functional.softplus(-self.alpha * (s.gather(1, own) - self.delta))
            return positive[:, 0] + pushed.sum(1) - pushed.gather(1, own)[:, 0]
        distance = torch.cdist(z, targets.means)  # (n, n_groups)
        return (distance.gather(1, own) - distance.gather(1, targets.target[:, None]))[:, 0]

    def _report(self, z: torch.Tensor, targets: _Means) -> torch.Tensor:
        distance = torch.cdist(z, targets.means)  # (n, n_groups)
        own = distance.gather(1, targets.own[:, None])
        return own[:, 0] - distance.scatter(1, targets.own[:, None], torch.inf).amin(1)
