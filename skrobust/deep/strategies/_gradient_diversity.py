r"""Several networks whose losses do not rise in the same direction of the input.

    min  1/M Σ_m L_m( f_m(x), y )  +  λ E log Σ_{i<j} exp cos( ∇_x L_i, ∇_x L_j )

on clean rows: no adversary, but an example that is found on one member should not transfer to the
others (Kariyappa and Qureshi, *Improving adversarial robustness of ensembles with diversity
training*, arXiv:1901.09981, with metric losses in the place of the cross entropy).
"""

from itertools import combinations
from numbers import Integral, Real
from typing import Any, ClassVar

import torch

from skrobust.deep.strategies._base import TrainingStep
from skrobust.deep.strategies._ensemble import EnsembleStrategy
from skrobust.utils._sklearn import Interval

__all__ = ["GradientDiversity"]


class GradientDiversity(EnsembleStrategy):
    """Train several networks on clean batches, with input gradients that are not aligned.

    The embedding is that of all members side by side. It is here to be compared with: without
    adversarial examples it holds little against an adversary who sees all members.

    Parameters
    ----------
    n_members : int, default=3
        M.
    weight : float, default=0.5
        λ; 0 is a plain ensemble.

    Examples
    --------
    >>> from skrobust.deep import GradientDiversity
    >>> GradientDiversity(weight=1.0)
    GradientDiversity(weight=1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_members": [Interval(Integral, 2, None, closed="left")],
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, *, n_members: int = 3, weight: float = 0.5):
        self.n_members = n_members
        self.weight = weight

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        if step.model is not step.module and self.weight > 0:
            raise ValueError(
                "GradientDiversity differentiates gradients, which the wrapper of several "
                "processes does not allow; use one process."
            )
        x = step.x.detach().requires_grad_(self.weight > 0)
        embedded = step.model([x] * self.n_members)
        pairs = self.pairs(step.module, step.criterion)
        losses = [loss(z, step.y) for z, (_, loss) in zip(embedded, pairs, strict=True)]
        total = torch.stack(losses).mean()
        if self.weight > 0:
            slopes = [
                torch.autograd.grad(loss, x, create_graph=True)[0].flatten(1) for loss in losses
            ]
            aligned = alignment(slopes)
            if "differentiable" not in step.memory:
                _check_differentiable(aligned, step.module)
                step.memory["differentiable"] = 1.0
            total = total + self.weight * aligned
        return total, step.embed_eval(step.x)


def _check_differentiable(value: torch.Tensor, module: torch.nn.Module) -> None:
    """Raise where the loss has no second derivative."""
    try:
        torch.autograd.grad(value, list(module.parameters()), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise ValueError(
            "GradientDiversity needs a loss that can be differentiated twice: 'proxy_anchor', "
            f"'multi_similarity' or 'arcface'. ({error})"
        ) from error


def alignment(slopes: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean over rows of ``log Σ_{i<j} exp cos(g_i, g_j)``, for M of shape (n, d)."""
    # a gradient of 0 has no direction; the norms are not differentiated there
    units = [g / (g.square().sum(1, keepdim=True) + 1e-24).sqrt() for g in slopes]
    cosines = [(one * two).sum(1) for one, two in combinations(units, 2)]
    return torch.logsumexp(torch.stack(cosines), dim=0).mean()
