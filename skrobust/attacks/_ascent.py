r"""What attacks by gradients share: the loss, its gradient in scaled units, the steepest step.

With x = x₀ + s ∘ η and scores f, the loss to be raised is one of

    margin           max_{c ≠ y} f_c − f_y          (> 0: no longer y)
    cross_entropy    −log softmax(f)_y
    dlr              (max_{c ≠ y} f_c − f_y) / (f_(1) − f_(3)),    f_(i) the i-th largest.

The last is invariant to shift and scale of the scores (Croce and Hein, ICML 2020, equation 6); with
two classes it is the margin.
"""

import torch

from skrobust.adapters import NeighborScores
from skrobust.attacks._problem import AttackProblem

__all__ = ["LOSSES", "Ascent", "steepest"]

LOSSES = ("margin", "cross_entropy", "dlr")


class Ascent:
    """The loss of some rows as a function of η.

    Parameters
    ----------
    problem : AttackProblem
    loss : str
        One of `LOSSES`.
    temperature : tuple of two floats
        First and last temperature of a surrogate, in units of the gap between the best score
        of another class and that of the label at the clean point.
    n_steps : int
        Over how many steps the temperature falls, geometrically.
    """

    def __init__(
        self,
        problem: AttackProblem,
        loss: str,
        temperature: tuple[float, float],
        n_steps: int,
    ):
        self.problem, self.loss, self.n_steps = problem, loss, max(n_steps - 1, 1)
        self.temperature = temperature
        self.rows, self.scores = problem.scaled, problem.victim.scores
        self.plain = bool((self.rows.scale == 1).all())
        self.unit = self.target = None
        aims = problem.restart % 2 == 1 and len(self.scores.classes) > 2
        if self.scores.annealed:
            clean = self._clean()
            gap = margin(clean, self.rows.labels).abs()
            finite = torch.where(torch.isfinite(clean), clean.abs(), 0).amax(1)
            floor = 1e-12 * finite + torch.finfo(clean.dtype).tiny
            self.unit = torch.maximum(torch.where(torch.isfinite(gap), gap, finite), floor)
        elif aims:
            # the class of the largest score need not be the nearest one
            others = self._clean().scatter(1, self.rows.labels[:, None], -torch.inf)
            rank = (problem.restart + 1) // 2 % (others.shape[1] - 1)
            self.target = others.topk(rank + 1, dim=1).indices[:, -1]

    def _clean(self) -> torch.Tensor:
        with torch.no_grad():
            return self.scores(self.rows.raw)

    def at(self, eta: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return loss and margin, of shape (n,), and the loss's gradient, of the shape of η."""
        eta = eta.detach().requires_grad_()
        x = self.rows.raw + (eta if self.plain else self.rows.scale * eta)
        if self.unit is None:
            soft = hard = self.scores(x)
        else:
            first, last = self.temperature
            T = self.unit * first * (last / first) ** (min(step, self.n_steps) / self.n_steps)
            soft, hard = self.scores.soften(x, T)
            if self.loss == "cross_entropy":
                soft = soft / T[:, None]
        if self.target is None:
            value = attack_loss(soft, self.rows.labels, self.loss)
        else:
            pair = torch.stack([self.target, self.rows.labels], 1)
            value = soft.gather(1, pair) @ torch.tensor([1.0, -1.0]).to(soft)
        (gradient,) = torch.autograd.grad(value.sum(), eta)
        self.problem.count_gradients()
        if self.unit is not None:  # a class without points has scores of −inf
            gradient = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        return value.detach(), margin(hard.detach(), self.rows.labels), gradient

    def start(self) -> torch.Tensor:
        """Return where to start: 0 first, then toward other classes or at random in turn.

        A vote of neighbours is pulled from the directions of training points, and starts toward
        the next nearest point of another class. With other scores the start is 0 again, and the
        next class is aimed at.
        """
        restart, rows = self.problem.restart, self.rows
        if restart == 0 or self.target is not None:
            return torch.zeros_like(rows.raw)
        if isinstance(self.scores, NeighborScores) and restart % 2:
            return self.scores.toward(rows.raw, rows.labels, rows.scale, restart // 2)
        drawn = self.problem.noise.in_ball(
            rows.raw.shape[1], self.problem.budget.norm, stream=restart
        )
        moved = torch.as_tensor(drawn, dtype=rows.raw.dtype, device=rows.raw.device)
        return torch.where(rows.scale > 0, moved * rows.eps[:, None], 0)


def margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return ``max_{c ≠ y} f_c − f_y``, shape (n,)."""
    own = scores.gather(1, labels[:, None])
    return scores.scatter(1, labels[:, None], -torch.inf).amax(1) - own[:, 0]


def attack_loss(scores: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
    """Return the loss that an attack raises, shape (n,)."""
    if name == "cross_entropy":
        return torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    found = margin(scores, labels)
    if name == "dlr" and scores.shape[1] > 2:  # of two classes it would be ±1
        top = scores.topk(3, dim=1).values
        found = found / (top[:, 0] - top[:, -1] + 1e-12)
    return found


def steepest(gradient: torch.Tensor, norm: float) -> torch.Tensor:
    """Return the step along which an attack goes: the signs in ℓ∞, else the direction.

    In ℓ₁ the steepest step would move a single feature; the direction moves many, and the
    projection onto the ball keeps those that matter.
    """
    if norm == torch.inf:
        return gradient.sign()
    size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)
