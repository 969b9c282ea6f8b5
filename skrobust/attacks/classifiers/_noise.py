"""Random noise: the control that every attack has to beat."""

from typing import Any, ClassVar

import numpy as np

from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import StrOptions

__all__ = ["NoiseAttack"]


class NoiseAttack(BaseAttack):
    """Random points within the budget.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``. Any classifier with `predict`.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    distribution : {"uniform", "gaussian"}, default="uniform"
        Evenly over the ball; or independent normal numbers, scaled to the budget.
    max_iter : int, default=20
        Draws for each point; the first that works is kept.
    batch_size : int, default=128
        Rows that are attacked together.
    random_state : int, RandomState or None, default=None
        For the draws; the same for a row in whatever batch it comes.
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
    >>> from skrobust.attacks import NoiseAttack
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> attack = NoiseAttack(threat_model=ThreatModel(eps=0.5), random_state=0)
    >>> attack.run(knn, [[0.2], [0.99]], [0, 0]).success
    array([False,  True])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "distribution": [StrOptions({"uniform", "gaussian"})],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        distribution: str = "uniform",
        max_iter: int = 20,
        batch_size: int = 128,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.distribution = distribution
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        best, left = problem.raw.copy(), np.arange(len(problem.raw))
        for draw in range(self.max_iter):
            tried = problem.random_points(self.distribution, draw, left)
            tried = problem.project(tried, float(problem.eps[0]), left)
            best[left] = tried
            left = left[~problem.is_adversarial(tried, left)]
            if len(left) == 0:
                break
        return best
