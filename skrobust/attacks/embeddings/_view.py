r"""How an attack on an embedding raises its value: projected steps, with gradients or without.

With x = x₀ + s ∘ η and the embedding z = f(x), a value v(z) is raised by projected steps

    η ← Π( η + α u ),     u the steepest step of v along f.

The gradient is that of torch, or, for a transformer that has none, the estimate of natural
evolution strategies from antithetic pairs of points (Ilyas, Engstrom, Athalye and Lin, ICML 2018),

    g = 1/(2 σ P) Σ_p [ v(x + σ s ∘ u_p) − v(x − σ s ∘ u_p) ] u_p.

The start is random: at the clean point the gradient of a shift is undefined.
"""

from typing import Any

import numpy as np
import torch

from skrobust.adapters import check_gradient, differentiable_embedding
from skrobust.attacks._ascent import steepest
from skrobust.numerics import project_ball
from skrobust.threat_model import FeatureBudget
from skrobust.utils._frames import Table
from skrobust.utils._row_noise import RowNoise

__all__ = ["EmbeddingView"]


class EmbeddingView:
    """A transformer, seen from the rows of a table.

    Parameters
    ----------
    attack : BaseEmbeddingAttack
        What is raised, and how many steps are made.
    estimator : fitted transformer
    table : Table
    budget : FeatureBudget
    eps : float
    """

    def __init__(
        self,
        attack: Any,
        estimator: Any,
        table: Table,
        budget: FeatureBudget,
        eps: float,
    ):
        self.attack, self.estimator, self.table = attack, estimator, table
        self.budget = self.searched = budget  # what is allowed, and what of it is tried
        self.eps = eps
        self.n_queries = self.n_gradient_calls = 0
        self.embed = differentiable_embedding(estimator) if attack.gradient == "exact" else None
        self.raw = table.clean
        self.shape = table.row_shape
        if self.embed is not None:
            first = torch.from_numpy(self.raw[:1].reshape(1, *self.shape))
            check_gradient(self.embed, first, estimator)

    def transform(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Ask the public `transform`."""
        self.n_queries += len(np.unique(rows))
        found = self.estimator.transform(self.table.rebuild(points, rows))
        found = found.toarray() if hasattr(found, "toarray") else found
        return np.asarray(found, dtype=np.float64).reshape(len(rows), -1)

    def ascend(
        self, rows: np.ndarray, chosen: Any, noise: RowNoise, n_meant: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return perturbed rows, and where the first gradient was 0."""
        attack, budget = self.attack, self.searched
        raw = self.raw[rows]
        clean, scale = torch.from_numpy(raw), torch.from_numpy(budget.scale)
        radius = torch.full((len(rows),), self.eps, dtype=torch.float64)
        box: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        if budget.bounded:
            low, high = budget.scaled_box(raw)
            box = torch.from_numpy(low), torch.from_numpy(high)
        start = torch.from_numpy(noise.in_ball(raw.shape[1], budget.norm, 1))
        eta = project_ball(
            torch.where(scale > 0, 0.1 * self.eps * start, 0), radius, budget.norm, *box
        )
        best, best_value = eta, torch.full_like(radius, -torch.inf)
        zero = np.zeros(len(rows), dtype=bool)
        for t in range(attack.max_iter):
            value, gradient = self._slope(clean, scale, eta, rows, chosen, noise, t)
            self.n_gradient_calls += n_meant
            if t == 0:
                # a row that cannot move, or has nothing to gain, is not a blind one
                meant = (eta != 0).any(1) & (value < attack.ceiling)
                zero = (meant & (gradient == 0).all(1)).numpy()
            best = torch.where((value > best_value)[:, None], eta, best)
            best_value = torch.fmax(value, best_value)  # a value of NaN is none
            rate = attack.step_size * self.eps * (1 - t / attack.max_iter)
            eta = project_ball(
                eta + rate * steepest(gradient, budget.norm), radius, budget.norm, *box
            )
        with torch.no_grad():
            value = self._value(clean + scale * eta, rows, chosen)
        best = torch.where((value > best_value)[:, None], eta, best)
        return raw + (scale * best).numpy(), zero

    def _slope(
        self,
        clean: torch.Tensor,
        scale: torch.Tensor,
        eta: torch.Tensor,
        rows: np.ndarray,
        chosen: Any,
        noise: RowNoise,
        t: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.embed is not None:
            eta = eta.detach().requires_grad_()
            value = self._value(clean + scale * eta, rows, chosen)
            (gradient,) = torch.autograd.grad(value.sum(), eta)
            return value.detach(), torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)

        def at(moved: torch.Tensor) -> torch.Tensor:
            return self._value(clean + scale * moved, rows, chosen)

        n_pairs = self.attack.n_evaluations
        width, gradient = 0.05 * self.eps, torch.zeros_like(eta)
        for p in range(n_pairs):
            u = torch.from_numpy(noise.normal(eta.shape[1], 10_000 + t * n_pairs + p))
            u = torch.where(scale > 0, u, 0)
            gradient += (at(eta + width * u) - at(eta - width * u))[:, None] * u
        return at(eta), gradient / (2 * width * n_pairs)

    def _value(self, x: torch.Tensor, rows: np.ndarray, chosen: Any) -> torch.Tensor:
        """Return what is raised, at points of these rows."""
        if self.embed is None:
            z = torch.from_numpy(self.transform(x.numpy(), rows))
        else:
            z = self.embed(x.reshape(len(x), *self.shape) if len(self.shape) > 1 else x)
        return self.attack._value(self.attack._normalize(z), chosen)
