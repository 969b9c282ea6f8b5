r"""The projected ascent of all attacks by gradients, training's among them.

With x = x₀ + s ∘ η, ‖η‖_p ≤ ε and x in the box of the threat model, a value of x is raised by

    η ← Π( η + α u ),     u the steepest step (the signs in ℓ∞, else the direction of the gradient),

with Π the projection onto the ball and the box. What is raised is up to the caller; for scores f
of a classifier it is one of

    margin           max_{c ≠ y} f_c − f_y          (> 0: no longer y)
    cross_entropy    −log softmax(f)_y
    dlr              (max_{c ≠ y} f_c − f_y) / (f_(1) − f_(3)),    f_(i) the i-th largest.

The last is invariant to shift and scale of the scores (Croce and Hein, ICML 2020, equation 6); with
two classes it is the margin.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from skrobust.adapters import NeighborScores
from skrobust.attacks._problem import AttackProblem, ScaledRows

__all__ = ["LOSSES", "BestIterate", "ScoreAscent", "ascend", "steepest"]

LOSSES = ("margin", "cross_entropy", "dlr")


def ascend(
    rows: ScaledRows,
    start: torch.Tensor,
    gradient: Callable[[torch.Tensor, int], torch.Tensor | None],
    sizes: Iterable[float | torch.Tensor],
) -> torch.Tensor:
    """Make projected steps along the gradient of a value of perturbed rows.

    Parameters
    ----------
    rows : ScaledRows
        The clean rows, with budget and box.
    start : Tensor of shape (n, n_features)
        η to start from, in the ball and the box.
    gradient : callable
        ``gradient(eta, t)`` is the gradient of the value at the t-th iterate, of the shape of η,
        or None to stop there.
    sizes : iterable of float or Tensor of shape (n, 1)
        α of each step, in the units of η.

    Returns
    -------
    Tensor of shape (n, n_features)
        The last iterate.
    """
    eta = start
    for t, size in enumerate(sizes):
        slope = gradient(eta, t)
        if slope is None:
            break
        eta = rows.project(eta.detach() + size * steepest(slope, rows.norm))
    return eta


def steepest(gradient: torch.Tensor, norm: float) -> torch.Tensor:
    """Return the step along which an attack goes: the signs in ℓ∞, else the direction.

    In ℓ₁ the steepest step would move a single feature; the direction moves many, and the
    projection onto the ball keeps those that matter.

    Parameters
    ----------
    gradient : Tensor of shape (n, n_features)
    norm : 1, 2 or inf

    Returns
    -------
    Tensor of shape (n, n_features)
    """
    if norm == torch.inf:
        return gradient.sign()
    size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)


class BestIterate:
    """The iterate of the largest value, row by row; the first whose value is large enough.

    Parameters
    ----------
    eta : Tensor of shape (n, n_features)
        What counts until a value is known.
    enough : float, default=inf
        A row whose value exceeds it keeps its iterate.
    """

    def __init__(self, eta: torch.Tensor, enough: float = torch.inf):
        self.eta, self.enough = eta, enough
        self.value = eta.new_full((len(eta),), -torch.inf)

    def update(self, eta: torch.Tensor, value: torch.Tensor) -> None:
        """Keep rows of η, shape (n, n_features), whose values, shape (n,), are larger."""
        better = (value > self.value) & (self.value <= self.enough)  # NaN is never better
        self.eta = torch.where(better[:, None], eta, self.eta)
        self.value = torch.where(better, value, self.value)

    @property
    def done(self) -> torch.Tensor:
        """Mask of the rows whose value is large enough, shape (n,)."""
        return self.value > self.enough


class ScoreAscent:
    """The loss of a classifier's scores at perturbed rows, its gradient, and the best iterate.

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
        temperature: tuple[float, float] = (1.0, 1.0),
        n_steps: int = 1,
    ):
        self.problem, self.loss, self.n_steps = problem, loss, max(n_steps - 1, 1)
        self.temperature = temperature
        self.rows, self.scores = problem.scaled, problem.victim.scores
        column = {label: k for k, label in enumerate(self.scores.classes.tolist())}
        labels = [column.get(label, 0) for label in problem.y.tolist()]
        self.labels = torch.as_tensor(labels, device=self.rows.raw.device)  # (n,) of columns
        self.unit = self.target = None
        aims = problem.restart % 2 == 1 and len(self.scores.classes) > 2
        if self.scores.annealed:
            # temperatures are shares of each row's gap between the two scores, shape (n,)
            clean = self._clean()
            gap = margin(clean, self.labels).abs()
            finite = torch.where(torch.isfinite(clean), clean.abs(), 0).amax(1)
            floor = 1e-12 * finite + torch.finfo(clean.dtype).tiny
            self.unit = torch.maximum(torch.where(torch.isfinite(gap), gap, finite), floor)
        elif aims:
            # the class of the largest score need not be the nearest one
            others = self._clean().scatter(1, self.labels[:, None], -torch.inf)
            rank = (problem.restart + 1) // 2 % (others.shape[1] - 1)
            self.target = others.topk(rank + 1, dim=1).indices[:, -1]

    def _clean(self) -> torch.Tensor:
        with torch.no_grad():
            return self.scores(self.rows.raw)

    def at(self, eta: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the margin, shape (n,), and the gradient of the loss, of the shape of η."""
        eta = eta.detach().requires_grad_()
        x = self.rows.points(eta)
        # (n, n_classes): what is differentiated, and what the victim's scores are
        if self.unit is None:
            soft = hard = self.scores(x)
        else:
            first, last = self.temperature
            T = self.unit * first * (last / first) ** (min(step, self.n_steps) / self.n_steps)
            soft, hard = self.scores.soften(x, T)
            if self.loss == "cross_entropy":
                soft = soft / T[:, None]
        if self.target is None:
            value = attack_loss(soft, self.labels, self.loss)
        else:
            pair = torch.stack([self.target, self.labels], 1)
            value = soft.gather(1, pair) @ torch.tensor([1.0, -1.0]).to(soft)
        (gradient,) = torch.autograd.grad(value.sum(), eta)
        self.problem.count_gradients()
        if self.unit is not None:  # a class without points has scores of −inf
            gradient = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        if step == 0:
            self.problem.notes["zero_gradient"] = (gradient == 0).all(1).cpu().numpy()
        return margin(hard.detach(), self.labels), gradient

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
            return self.scores.toward(rows.raw, self.labels, rows.scale, restart // 2)
        drawn = self.problem.noise.in_ball(rows.raw.shape[1], rows.norm, stream=restart)
        moved = torch.as_tensor(drawn, dtype=rows.raw.dtype, device=rows.raw.device)
        return torch.where(rows.scale > 0, moved * rows.eps[:, None], 0)

    def candidates(self, best: BestIterate, last: torch.Tensor) -> np.ndarray:
        """Return the best iterates, and the last ones of rows whose best does not work.

        The last iterate has no value yet: the victim predicts both.
        """
        points = [best.eta]
        if not bool(best.done.all()):
            points.append(torch.where(best.done[:, None], best.eta, last))
        return np.stack([self.problem.points(eta) for eta in points])


def margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return ``max_{c ≠ y} f_c − f_y``, shape (n,)."""
    own = scores.gather(1, labels[:, None])
    return scores.scatter(1, labels[:, None], -torch.inf).amax(1) - own[:, 0]


def attack_loss(scores: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
    """Return the loss that an attack raises, shape (n,)."""
    if name == "cross_entropy":
        return torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    value = margin(scores, labels)
    if name == "dlr" and scores.shape[1] > 2:  # with two classes it would be ±1
        top = scores.topk(3, dim=1).values
        value = value / (top[:, 0] - top[:, -1] + 1e-12)
    return value
