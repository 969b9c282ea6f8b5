"""What every objective offers to a solver, and the parameters that all of them share."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import torch

from skrobust.numerics import ClassNeighbors
from skrobust.objectives._losses import LOSSES
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator

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

    A subclass writes :meth:`value` for solvers that follow gradients, and :meth:`triplets` for
    convex ones. Its `__init__` may leave these parameters out; they then have their defaults, or
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
        ValueError, TypeError
            If a parameter is not as described.
        """
        if self.loss is not None and self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {list(LOSSES)} or None; got {self.loss!r}.")
        radius: Any = self.target_radius
        n_neighbors: Any = self.n_neighbors
        threat_model: Any = self.threat_model
        if radius is not None and not (
            isinstance(radius, Real) and 0 < float(radius) < float("inf")
        ):
            raise ValueError(f"target_radius must be a number > 0, or None; got {radius!r}.")
        if self.loss == "hinge" and radius is None:
            raise ValueError(
                "target_radius must be given with loss='hinge', in the units of X; got None."
            )
        if self.loss not in (None, "hinge") and radius is not None:
            raise ValueError(
                f"target_radius={radius!r} needs loss='hinge' or None; got loss={self.loss!r}."
            )
        if not isinstance(n_neighbors, Integral) or n_neighbors < 1:
            raise ValueError(f"n_neighbors must be an integer >= 1; got {self.n_neighbors!r}.")
        if threat_model is not None and not isinstance(threat_model, ThreatModel):
            raise TypeError(
                f"threat_model must be a ThreatModel or None; got {self.threat_model!r}."
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

    def anneal(self, progress: float) -> None:
        """Hear how far the fit is, from 0 at its start to 1 at its end."""

    def value(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the objective on a batch of anchors.

        Parameters
        ----------
        components : Tensor of shape (n_components, n_features)
            G, the variable.
        X : Tensor of shape (n_samples, n_features)
            The training points.
        anchors : Tensor of shape (batch_size,), int64
            Indices into `X` of points with at least one positive and one negative.
        neighbors : ClassNeighbors
            Candidates of every anchor.
        generator : torch.Generator
            On the CPU, for what is drawn.

        Returns
        -------
        Tensor of shape ()
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method value, which solver='adam' needs."
        )

    def triplets(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> Triplets:
        """Return the triplets of a batch of anchors on which a convex solver works.

        Parameters are those of :meth:`value`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method triplets, which convex solvers need."
        )

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
