"""Move an embedding away from where it was; and random noise, the control."""

from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, EmbeddingProblem, unit
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import StrOptions

__all__ = ["EmbeddingNoise", "EmbeddingShift"]


class _Movement(BaseEmbeddingAttack):
    """What is raised or reported is how far the embedding moves."""

    normalizes = False

    def _select_targets(self, problem: EmbeddingProblem) -> torch.Tensor:
        return problem.clean

    def _value(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(z - targets, dim=1)


class EmbeddingShift(_Movement):
    """Move the embedding as far as possible from where it was.

    Parameters
    ----------
    estimator : transformer, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``PCA()``. With ``gradient="exact"`` one of
        :func:`skrobust.adapters.differentiable_embedding`.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    normalize : bool, default=False
        Whether embeddings are compared on the unit sphere.
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
        For the random start; the same for a row in whatever batch it comes.

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
    The value that is reported is the shift ``‖f(x') − f(x)‖₂``.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import EmbeddingShift
    >>> scaler = StandardScaler().fit([[0.0, 0.0], [2.0, 8.0]])
    >>> attack = EmbeddingShift(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> attack.run(scaler, [[1.0, 1.0]]).value.round(3)
    array([1.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"normalize": ["boolean"]}

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        normalize: bool = False,
        max_iter: int = 32,
        step_size: float = 0.25,
        gradient: str = "exact",
        n_evaluations: int = 30,
        batch_size: int = 128,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.normalize = normalize
        self.max_iter = max_iter
        self.step_size = step_size
        self.gradient = gradient
        self.n_evaluations = n_evaluations
        self.batch_size = batch_size
        self.random_state = random_state

    def _normalize(self, z: torch.Tensor) -> torch.Tensor:
        return unit(z) if self.normalize else z


class EmbeddingNoise(_Movement):
    """One random perturbation of each point: what an attack has to beat.

    Nothing is chosen, so that it is a control and not an attack by trial and error.

    Parameters
    ----------
    estimator : transformer, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``PCA()``. Any transformer.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    distribution : {"surface", "uniform"}, default="surface"
        Directions that use up the budget (ℓ∞: random signs), or points spread evenly over the
        ball.
    batch_size : int, default=128
        Rows that are moved together.
    random_state : int, RandomState or None, default=None
        For the noise; the same for a row in whatever batch it comes.

    Attributes
    ----------
    estimator_ : transformer
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    gallery_ : ndarray of shape (n_samples, n_components)
        Embeddings of the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Notes
    -----
    The value that is reported is the shift ``‖f(x') − f(x)‖₂``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import EmbeddingNoise
    >>> scaler = StandardScaler().fit([[0.0, 0.0], [2.0, 2.0]])
    >>> noise = EmbeddingNoise(threat_model=ThreatModel(np.inf, 0.5), random_state=0)
    >>> abs(noise.run(scaler, [[1.0, 1.0]]).X_adv - 1)
    array([[0.5, 0.5]])
    """

    uses_gradients = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "distribution": [StrOptions({"surface", "uniform"})]
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        distribution: str = "surface",
        batch_size: int = 128,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.distribution = distribution
        self.batch_size = batch_size
        self.random_state = random_state

    def _perturb(self, problem: EmbeddingProblem, targets: torch.Tensor) -> np.ndarray:
        return problem.random_points(self.distribution, 1)
