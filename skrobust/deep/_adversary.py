r"""The adversary inside training: projected steps on a batch.

With x' = x + s ∘ η, ‖η‖_p ≤ ε and x' in the box of the threat model, a value is raised by

    η ← Π( η + α ε u ),    u the steepest step (signs in ℓ∞, else the direction),

with the network in evaluation mode, so that its statistics stay what they are. Whole numbers and
one-hot groups are relaxed to intervals here: the adversary of training is not weaker than that of
the threat model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skrobust.attacks import ScaledRows, ascend
from skrobust.deep._data import InputLayout, Moments, row_slices
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._torch import as_tensor
from skrobust.utils._validation import check_one_eps
from skrobust.utils._warnings import warn

__all__ = ["Adversary", "training_adversary"]


@dataclass(eq=False)
class Adversary:
    """A threat model on the batches of a module.

    Attributes
    ----------
    norm : float
    eps : float
    scale : Tensor of shape (n_values,)
        s, in the order of a module's flattened input.
    lower, upper : Tensor of shape (n_values,) or None
    increasing : Tensor of shape (n_values,) of bool or None
    generator : torch.Generator
        For starts and targets, on the device of the batches.
    warned : bool
        Whether it has warned of missing gradients.
    """

    norm: float
    eps: float
    scale: torch.Tensor
    lower: torch.Tensor | None
    upper: torch.Tensor | None
    increasing: torch.Tensor | None
    generator: torch.Generator
    warned: bool = False

    def rows(self, x: torch.Tensor) -> ScaledRows:
        """Return flat clean rows, shape (n, n_values), with ball and box.

        A clean row outside the bounds widens them for itself.
        """
        eps = x.new_full((len(x),), self.eps)
        if self.lower is None or self.upper is None:
            return ScaledRows(x, self.scale, eps, self.norm)
        unit = torch.where(self.scale > 0, self.scale, 1)
        low = ((self.lower - x) / unit).clamp_max(0)
        if self.increasing is not None:
            low = torch.where(self.increasing, 0, low)
        high = ((self.upper - x) / unit).clamp_min(0)
        return ScaledRows(x, self.scale, eps, self.norm, low, high)

    def draw(self, x: torch.Tensor, share: float) -> torch.Tensor:
        """Return random points of the ball of radius share · ε, of the shape of flat rows."""
        if self.norm == np.inf:
            drawn = 2 * torch.rand(x.shape, generator=self.generator, device=x.device) - 1
            return torch.where(self.scale > 0, share * self.eps * drawn, 0)
        drawn = self._direction(x)
        depth = torch.rand((len(x), 1), generator=self.generator, device=x.device)
        n_free = max(int((self.scale > 0).sum()), 1)
        return share * self.eps * drawn * depth ** (1 / n_free)

    def noise(self, x: torch.Tensor) -> torch.Tensor:
        """Return rows moved at random to the surface of the ball (ℓ∞: random signs)."""
        rows = self.rows(x.flatten(1))
        drawn = self._direction(rows.raw)
        eta = self.eps * (drawn.sign() if self.norm == np.inf else drawn)
        return rows.points(rows.project(eta)).reshape(x.shape)

    def _direction(self, x: torch.Tensor) -> torch.Tensor:
        """Return random directions of norm 1 in which features that can be changed move."""
        drawn = torch.randn(x.shape, generator=self.generator, device=x.device)
        drawn = torch.where(self.scale > 0, drawn, 0)
        size = torch.linalg.vector_norm(drawn, ord=self.norm, dim=1, keepdim=True)
        return drawn / size.clamp_min(1e-12)

    def ascend(
        self,
        x: torch.Tensor,
        value: Callable[[torch.Tensor], torch.Tensor],
        *,
        max_iter: int,
        step_size: float,
        start: float,
    ) -> torch.Tensor:
        """Return rows moved so that a value is larger.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Clean rows.
        value : callable
            From perturbed rows to a number, or one for each row.
        max_iter : int
            Steps.
        step_size : float
            α, a share of ε.
        start : float
            Radius of the random start, a share of ε.
        """
        rows = self.rows(x.detach().flatten(1))

        def slope(eta: torch.Tensor, t: int) -> torch.Tensor:
            eta = eta.requires_grad_()
            raised = value(rows.points(eta).reshape(x.shape)).sum()
            return self._gradient(raised, eta)

        eta = rows.project(self.draw(rows.raw, start))
        eta = ascend(rows, eta, slope, [step_size * self.eps] * max_iter)
        return rows.points(eta).reshape(x.shape)

    def _gradient(self, raised: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        """Return the gradient; say once where there is none, though there is something to raise."""
        slope = None
        if raised.requires_grad:
            (slope,) = torch.autograd.grad(raised, eta, allow_unused=True)
        gradient = torch.zeros_like(eta) if slope is None else slope
        gradient = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        if self.warned or self.eps == 0 or bool((gradient != 0).any()):
            return gradient
        # a loss of 0 has nothing to raise it, and one of NaN is reported elsewhere
        if bool(raised.isfinite() & (raised != 0)) and bool((self.scale > 0).any()):
            self.warned = True
            kind = "0" if slope is not None else "missing"
            warn(
                f"the gradient of the adversary of training is {kind} for a whole batch: it moves "
                "nothing on purpose, and what is learned withstands no more than random noise. "
                "Look for rounding, saturation, NaN or a detach in the module."
            )
        return gradient


def training_adversary(
    model: ThreatModel | None,
    layout: InputLayout,
    known: Moments,
    feature_names: Any,
    device: torch.device,
    generator: torch.Generator,
    X: Any,
) -> Adversary:
    """Resolve the threat model of a training strategy for the batches of a module.

    Parameters
    ----------
    model : ThreatModel or None
        None is ``ThreatModel()``.
    layout : InputLayout
    known : Moments
        What is known of the training points.
    feature_names : array-like of str or None
    device : torch.device
    generator : torch.Generator
    X : array-like of shape (n_samples, ...)
        Training points, which have to satisfy the model.

    Raises
    ------
    ValueError
        If the model does not fit the data, or they have no spread that gives it a budget.
    """
    model = ThreatModel.of(model)
    if isinstance(model.bounds, str) and model.bounds == "data":
        model = clone(model).set_params(bounds=(known.lower, known.upper))
    budget = model.resolve(len(known.spread), feature_names)
    eps = budget.default_eps(known.spread) if model.eps is None else check_one_eps(model.eps)
    bounded = budget.bounded and not budget.extend
    if bounded or budget.integer.any() or budget.groups:
        _check_inside(budget, X)

    def turned(values: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        rows = layout.to_module(as_tensor(values[None], device, dtype))
        return rows.flatten()

    return Adversary(
        norm=budget.norm,
        eps=eps,
        scale=turned(budget.scale),
        lower=turned(budget.lower) if budget.bounded else None,
        upper=turned(budget.upper) if budget.bounded else None,
        increasing=turned(budget.increasing, torch.bool) if budget.increasing.any() else None,
        generator=generator,
    )


def _check_inside(budget: FeatureBudget, X: Any) -> None:
    """Check the clean points, some at a time: they may be images that are decoded on demand."""
    for some in row_slices(len(X), len(budget.scale)):
        rows = np.asarray(X[some])
        budget.check_inside(rows.reshape(len(rows), -1).astype(np.float64))
