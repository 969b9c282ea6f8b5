r"""The smallest budget at which an attack works, row by row.

A lower end (the attack failed) and an upper end (an adversarial example, shortened along its line)
are kept for each row. The first budget is the first-order estimate

    −m(x) / ‖s ∘ ∇m(x)‖_q,       m = max_{c ≠ y} f_c − f_y,

which is the answer for a linear model; it is doubled until the attack works, then the interval is
halved.
"""

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks._ascent import ScoreAscent
from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem, Victim
from skrobust.attacks._search import boundary_search
from skrobust.attacks.classifiers._apgd import APGD
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import HasMethods, Interval

__all__ = ["MinimumNormAttack"]

_DOUBLINGS = 40


class MinimumNormAttack(BaseAttack):
    """An attack within a budget, made into one that looks for the smallest perturbation.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    attack : FGSM, PGD or APGD, default=None
        None is ``APGD(max_iter=30, n_restarts=4)``. Its own `estimator`, `threat_model`,
        `batch_size`, `device`, `random_state`, `n_jobs` and `verbose` are not used.
    threat_model : ThreatModel, default=None
        What may be changed; None is ``ThreatModel()``. Larger perturbations than its `eps` do not
        count; None there is no limit.
    max_iter : int, default=6
        Halvings of the interval of budgets.
    tol : float, default=0.05
        The search ends where all intervals are narrower, relative to their upper end.
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
    >>> from skrobust.attacks import MinimumNormAttack
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> attack = MinimumNormAttack(threat_model=ThreatModel(norm=1), random_state=0)
    >>> attack.run(knn, [[0.5, 0.3]], [0]).perturbation_norm.round(4)
    array([0.5])
    """

    minimum_norm = True
    uses_gradients = fills_batches = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "attack": [HasMethods(["run", "transform"]), None],
        "tol": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator: Any = None,
        attack: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        max_iter: int = 6,
        tol: float = 0.05,
        batch_size: int = 128,
        device: str = "cpu",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.attack = attack
        self.threat_model = threat_model
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _prepare(self, victim: Victim) -> None:
        given = self.attack
        if given is None:
            return
        if not getattr(given, "uses_gradients", False) or given.minimum_norm:
            raise TypeError(
                f"attack must be one by gradients within a budget: FGSM, PGD, APGD; got {given!r}."
            )

    def _parts(self) -> list[tuple[str, Any]]:
        return [] if self.attack is None else [("attack", self.attack)]

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        inner = APGD(max_iter=30, n_restarts=4) if self.attack is None else self.attack
        raw, budget, limit = problem.raw, problem.budget, problem.eps
        # the first-order estimate of each row, shape (n,); a small budget where there is none
        ascent = ScoreAscent(problem, "margin", (0.1, 0.1))
        margin, gradient = ascent.at(torch.zeros_like(ascent.rows.raw), 0)
        slope = torch.linalg.vector_norm(gradient, ord=budget.dual, dim=1)
        estimate = (-margin / slope).double().cpu().numpy()
        fallback = np.linalg.norm(raw, axis=1) * 1e-3 + 1e-6
        usable = np.isfinite(estimate) & (estimate > 0)
        # a little beyond, so that a linear model gives way at once
        eps = np.minimum(np.where(usable, estimate * (1 + 1e-6), fallback), limit)
        low, high = np.zeros(len(raw)), np.full(len(raw), np.inf)
        best = raw.copy()
        halvings, done = np.zeros(len(raw), dtype=int), np.zeros(len(raw), dtype=bool)
        for _ in range(_DOUBLINGS + self.max_iter):
            # attack, and move the end of the interval [low, high] that the outcome decides
            points, works = self._at(inner, problem, eps)
            size = budget.size(points - raw)
            better = works & (size < high) & ~done
            best[better], high[better] = points[better], size[better]
            low = np.where(works | done, low, np.maximum(low, eps))
            halvings += np.isfinite(high)
            # each row by itself, so that it does not matter which rows it comes with
            done |= (np.isinf(high) & (low >= limit)) | (halvings > self.max_iter)
            done |= high - low <= self.tol * np.where(np.isinf(high), 0.0, high)
            if done.all():
                break
            # twice as far until it works, then halfway
            eps = np.minimum(np.where(np.isinf(high), 2 * eps, (low + high) / 2), limit)
        return best

    def _at(
        self, inner: Any, problem: AttackProblem, eps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Attack all rows, each with its own budget; return points that work, shortened."""
        best, works = problem.raw.copy(), np.zeros(len(eps), dtype=bool)
        for restart in range(inner.n_restarts):
            some = replace(problem, eps=eps, restart=restart)
            for candidate in inner._candidates(some):
                tried = some.project(candidate)
                fresh = some.is_adversarial(tried) & ~works
                best[fresh] = tried[fresh]
                works |= fresh
            if works.all():
                break
        return boundary_search(problem, best, works, 12), works
