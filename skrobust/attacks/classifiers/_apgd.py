r"""Projected gradient descent that sets its own step.

    z = Π( η_t + α u_t ),     η_{t+1} = Π( η_t + ¾ (z − η_t) + ¼ (η_t − η_{t−1}) ).

α starts at twice the budget. At checkpoints that come closer and closer it is halved, and the
best point taken up again, where fewer than ¾ of the steps since the last one raised the margin,
or neither the step nor the best margin has changed (Croce and Hein, *Reliable evaluation of
adversarial robustness with an ensemble of diverse parameter-free attacks*, ICML 2020, section 3).
"""

from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks._ascent import LOSSES, BestIterate, ScoreAscent, steepest
from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import StrOptions
from skrobust.utils._validation import check_temperature

__all__ = ["APGD"]

_MOMENTUM, _ENOUGH = 0.75, 0.75


class APGD(BaseAttack):
    """Projected gradient descent with automatic steps, in ℓ₁, ℓ₂ or ℓ∞.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    max_iter : int, default=50
        Steps.
    loss : {"margin", "cross_entropy", "dlr"}, default="margin"
        What is raised.
    temperature : float or tuple of two floats, default=(0.1, 0.001)
        As in :class:`PGD`.
    n_restarts : int, default=1
        Starts, as in :class:`PGD`.
    batch_size : int, default=128
        Rows that are attacked together.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".
    random_state : int, RandomState or None, default=None
        For the random starts.
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
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import APGD
    >>> model = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> APGD(threat_model=ThreatModel(eps=0.6)).run(model, [[0.5, 1.0]], [0]).success
    array([ True])
    """

    uses_gradients = fills_batches = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions(set(LOSSES))],
        "temperature": [tuple, list, Real],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        max_iter: int = 50,
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
        eta = before = rows.project(ascent.start())  # (n, n_features)
        best = BestIterate(eta, enough=0.0)
        last_margin = best.value  # (n,), like all that follow
        rate, raised = 2 * rows.eps, torch.zeros_like(rows.eps)
        checked_rate, checked_margin = rate, best.value
        checkpoints = _checkpoints(self.max_iter)
        for t in range(self.max_iter):
            margin, gradient = ascent.at(eta, t)
            raised = raised + (margin > last_margin)
            last_margin = margin
            best.update(eta, margin)
            if bool(best.done.all()):
                break
            # where steps are too long: half of it, from the best iterate
            if t in checkpoints:
                slow = raised < _ENOUGH * checkpoints[t]
                stuck = (checked_rate == rate) & (checked_margin == best.value)
                checked_rate, checked_margin = rate, best.value
                halved = slow | stuck
                rate = torch.where(halved, rate / 2, rate)
                eta = torch.where(halved[:, None], best.eta, eta)
                before = torch.where(halved[:, None], best.eta, before)
                raised = torch.zeros_like(raised)
                if bool(halved.any()):
                    _, gradient = ascent.at(eta, t)
            # a projected step, and a share of the last move
            z = rows.project(eta + rate[:, None] * steepest(gradient, rows.norm))
            moved = _MOMENTUM * (z - eta) + (1 - _MOMENTUM) * (eta - before)
            eta, before = rows.project(eta + moved), eta
        return ascent.candidates(best, eta)


def _checkpoints(max_iter: int) -> dict[int, int]:
    """Return the steps at which the rate is judged, with the steps since the last one.

    The shares of `max_iter` are 0.22, then each time 0.03 less, at least 0.06 more.
    """
    shares, gap = [0.0, 0.22], 0.22
    while shares[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    steps = sorted({round(share * max_iter) for share in shares if share < 1})
    return {b: b - a for a, b in pairwise(steps)}
