r"""Projected gradient descent on the margin.

    η ← Π( η + α u ),     u the steepest step at η (with momentum: of the averaged gradient),

with Π the projection onto the ball and the box (Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR
2018; momentum: Dong et al., CVPR 2018). The step falls along half a cosine unless it is given.
"""

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks._ascent import LOSSES, BestIterate, ScoreAscent, ascend, steepest
from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions
from skrobust.utils._validation import check_temperature

__all__ = ["FGSM", "PGD"]


class PGD(BaseAttack):
    """Projected gradient descent within a budget, in ℓ₁, ℓ₂ or ℓ∞.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``. See :func:`skrobust.adapters.differentiable_scores` for
        what has gradients.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    max_iter : int, default=50
        Steps.
    step_size : float, default=None
        α as a share of the budget. None starts at 0.5 and falls to 0 along half a cosine.
    momentum : float, default=0.0
        Weight of the former gradients, in [0, 1).
    loss : {"margin", "cross_entropy", "dlr"}, default="margin"
        What is raised.
    temperature : float or tuple of two floats, default=(0.1, 0.001)
        First and last temperature of the surrogate of a vote of neighbours, in units of the
        clean point's gap between own and other class.
    n_restarts : int, default=1
        Tries: from the clean point first; then in turn toward the next nearest training point of
        another class (neighbours) or the class of the next largest score (other scores), and
        from a random point of the ball.
    batch_size : int, default=128
        Rows that are attacked together.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto". A torch module stays where it is.
    random_state : int, RandomState or None, default=None
        For the random starts; the same for a row in whatever batch it comes.
    n_jobs : int, default=None
        Jobs for joblib.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_iter_ : int
        Steps that a run makes at most: `max_iter`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import PGD
    >>> X, y = [[0.0, 0.0], [0.2, 0.0], [1.8, 0.0], [2.0, 0.0]], [0, 0, 1, 1]
    >>> model = LogisticRegression().fit(X, y)
    >>> found = PGD(threat_model=ThreatModel(norm=2, eps=0.9)).run(model, X, y)
    >>> found.success
    array([False,  True,  True, False])
    """

    uses_gradients = fills_batches = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "step_size": [Interval(Real, 0, None, closed="neither"), None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "loss": [StrOptions(set(LOSSES))],
        "temperature": [tuple, list, Real],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        max_iter: int = 50,
        step_size: float | None = None,
        momentum: float = 0.0,
        loss: str = "margin",
        temperature: float | tuple[float, float] = (0.1, 0.001),
        n_restarts: int = 1,
        batch_size: int = 128,
        device: str = "cpu",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.max_iter = max_iter
        self.step_size = step_size
        self.momentum = momentum
        self.loss = loss
        self.temperature = temperature
        self.n_restarts = n_restarts
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        ascent = ScoreAscent(problem, self.loss, check_temperature(self.temperature), self.max_iter)
        rows = ascent.rows
        start = rows.project(ascent.start())
        best, average = BestIterate(start, enough=0.0), torch.zeros_like(start)

        def slope(eta: torch.Tensor, t: int) -> torch.Tensor | None:
            nonlocal average
            margin, gradient = ascent.at(eta, t)
            best.update(eta, margin)
            if bool(best.done.all()):
                return None
            if not self.momentum:
                return gradient
            size = gradient.abs().sum(1, keepdim=True).clamp_min(torch.finfo(eta.dtype).tiny)
            average = self.momentum * average + gradient / size
            return average

        sizes = (self._step(t) * rows.eps[:, None] for t in range(self.max_iter))
        return ascent.candidates(best, ascend(rows, start, slope, sizes))

    def _step(self, t: int) -> float:
        if self.step_size is not None:
            return self.step_size
        return 0.25 * (1 + math.cos(math.pi * t / self.max_iter))


class FGSM(BaseAttack):
    """One step of the whole budget along the gradient, from the clean point.

    The fast gradient sign method in ℓ∞, its like in ℓ₂ and ℓ₁ (Goodfellow, Shlens and Szegedy,
    ICLR 2015).

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    loss : {"margin", "cross_entropy", "dlr"}, default="margin"
        What is raised.
    batch_size : int, default=128
        Rows that are attacked together.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import FGSM
    >>> model = LogisticRegression().fit([[0.0], [2.0]], [0, 1])
    >>> attack = FGSM(threat_model=ThreatModel(norm=float("inf"), eps=0.5))
    >>> attack.run(model, [[0.8]], [0]).X_adv
    array([[1.3]])
    """

    uses_gradients = fills_batches = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"loss": [StrOptions(set(LOSSES))]}

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        loss: str = "margin",
        batch_size: int = 128,
        device: str = "cpu",
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.loss = loss
        self.batch_size = batch_size
        self.device = device

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        ascent = ScoreAscent(problem, self.loss)
        rows = ascent.rows
        _, gradient = ascent.at(torch.zeros_like(rows.raw), 0)
        return problem.points(rows.eps[:, None] * steepest(gradient, rows.norm))
