"""What every objective offers to a solver, and the parameters that all of them share."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import torch

from skrobust.objectives._losses import LOSSES
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["MetricObjective", "Triplets"]


class Triplets(NamedTuple):
    """Indices of training points, one of each kind for a triplet.

    Attributes
    ----------
    x : Tensor of shape (n_triplets,), int64
        Anchors.
    i : Tensor of shape (n_triplets,), int64
        Points of the anchor's class.
    j : Tensor of shape (n_triplets,), int64
        Points of other classes.
    """

    x: torch.Tensor
    i: torch.Tensor
    j: torch.Tensor


class MetricObjective(BaseEstimator):
    """Base class: a mean loss of margins t(x) of the anchors x, in a threat model's norm.

    A subclass writes `value` for solvers that follow gradients, and `triplets` for convex ones;
    a solver names the one that it needs. Both take the same arguments::

        value(components, X, anchors, neighbors, generator) -> Tensor of shape ()
        triplets(components, X, anchors, neighbors, generator) -> Triplets

    with G of shape (n_components, n_features), the training points X, the indices of a batch of
    anchors (each has a positive and a negative), the candidates of every anchor
    (:class:`~skrobust.numerics.ClassNeighbors`), and a generator on the CPU for what is drawn. The
    `__init__` of a subclass may leave the parameters below out; they then have their defaults, or
    what :class:`~skrobust.RobustMahalanobis` is given.

    Parameters
    ----------
    loss : {"negative", "hinge", "exponential", "logistic"}, default=None
        The loss of a margin; None is "hinge" where `target_radius` is given, else "negative".
    target_radius : float, default=None
        The radius that is cared for, > 0, in the units of the threat model's budget: the
        hinge's [target_radius − t]₊. Only the hinge has one, and it must.
    n_neighbors : int, default=1
        K of the k-NN that will be used.
    threat_model : ThreatModel, default=None
        Whose norm, scales and mutable features the margins take; None is ℓ₂ on all features.
        Features are those of the X that the fit receives.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions(set(LOSSES)), None],
        "target_radius": [Interval(Real, 0, None, closed="neither"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "threat_model": [ThreatModel, None],
    }

    # solvers look for them; a subclass has the ones that it defines
    value: Callable[..., torch.Tensor]
    triplets: Callable[..., Triplets]

    # what a subclass has whose __init__ leaves some of them out
    loss: str | None = None
    target_radius: float | None = None
    n_neighbors: int = 1
    threat_model: ThreatModel | None = None

    def __init__(
        self,
        loss: str | None = None,
        target_radius: float | None = None,
        *,
        n_neighbors: int = 1,
        threat_model: ThreatModel | None = None,
    ):
        self.loss = loss
        self.target_radius = target_radius
        self.n_neighbors = n_neighbors
        self.threat_model = threat_model

    def prepare(self, n_features: int, feature_names: Sequence[str] | None = None) -> Self:
        """Check the parameters against the data, before any work.

        Parameters
        ----------
        n_features : int
        feature_names : sequence of str of length n_features, default=None
            Needed where the threat model names features.

        Raises
        ------
        ValueError
            If a parameter is not as described.
        """
        self._validate_params()
        if self.loss == "hinge" and self.target_radius is None:
            raise ValueError(
                "target_radius must be given with loss='hinge', in the units of X; got None."
            )
        if self.loss not in (None, "hinge") and self.target_radius is not None:
            raise ValueError(
                f"target_radius={self.target_radius!r} needs loss='hinge' or None; got "
                f"loss={self.loss!r}."
            )
        self._budget = (
            None
            if self.threat_model is None
            else self.threat_model.resolve(n_features, feature_names)
        )
        if self._budget is not None and not (self._budget.scale > 0).any():
            raise ValueError(
                "threat_model must leave a feature mutable: with none there is nothing to learn."
            )
        return self

    @property
    def anneals(self) -> bool:
        """Whether the objective changes while a fit goes on, so that its end is a schedule's."""
        return False

    def at(self, progress: float) -> Self:
        """Return the objective as it is when a fit is `progress` of its way, from 0 to 1."""
        return self

    def scale_and_dual(self, X: torch.Tensor) -> tuple[torch.Tensor | None, float]:
        """Return s, of shape (n_features,), and q of the dual norm; (None, 2.0) for plain ℓ₂."""
        budget: Any = getattr(self, "_budget", None)
        if budget is None and self.threat_model is not None:
            budget = self.threat_model.resolve(X.shape[1])
        if budget is None:
            return None, 2.0
        if budget.dual == 2.0 and (budget.scale == 1).all():
            return None, 2.0
        return torch.as_tensor(budget.scale).to(X), budget.dual

    def _loss(self) -> str:
        if self.loss is not None:
            return self.loss
        return "negative" if self.target_radius is None else "hinge"
