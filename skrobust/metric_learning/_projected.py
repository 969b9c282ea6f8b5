r"""The convex program by projections: a primal-dual method with a proof of how far it is.

With K the program's operator, P is the saddle point of

    min_{N ≽ 0}  max_{‖w_t‖_p ≤ α_t ≤ c_t}   Σ α + ⟨(α, w), K N⟩ + λ R(N).

Every iteration projects N onto the positive semidefinite cone and (α, w) onto norm cones:

    N'     = prox_{τ λ R} ( N − τ Kᵀ(α, w) ),
    (α, w) = project( (α, w) + σ ( 1 + K (2 N' − N) ) ),        τ σ ‖K‖² < 1.

Sources: Chambolle & Pock, *A first-order primal-dual algorithm for convex problems*, JMIV 2011;
restarts at the average iterate and the balance of the steps as Applegate et al., *Practical
large-scale linear programming using primal-dual hybrid gradient*, NeurIPS 2021 (PDLP); row
scaling as Pock & Chambolle, ICCV 2011.
"""

import math
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import torch

from skrobust.metric_learning._rounds import ConvexSolver, ProgramSolution
from skrobust.numerics import project_norm_cone, project_psd
from skrobust.objectives import TargetRadiusProgram
from skrobust.utils._sklearn import Interval

__all__ = ["ProjectedSolver"]

_CHECK_EVERY = 40
_STEP = 0.95
# restart where the gap has fallen to this share, or where the average is this part of all
# iterations
_ENOUGH = 0.3
_LONG = 0.36
# give up, after so many iterations, where the last half of all has left this share of the gap
_PATIENCE = 2000
_STALLED = 0.7


class _Point(NamedTuple):
    """A primal and a dual point."""

    N: torch.Tensor
    alpha: torch.Tensor
    w: torch.Tensor

    def toward(self, other: "_Point", share: float) -> "_Point":
        return _Point(*(a + share * (b - a) for a, b in zip(self, other, strict=True)))


class ProjectedSolver(ConvexSolver):
    """Solve the convex program at a target radius by projections, on CPU or CUDA.

    The result carries a feasible dual point: ``solver_result_["gap"]`` bounds how far the
    metric that was kept is from the optimum of its own round's triplets.

    Parameters
    ----------
    regularization : float, default=0.3
        λ without units: the penalty, as a share of the loss of M = 0, of the multiple of the
        identity under which the median negative is at distance 1.
    penalty : {"trace", "frobenius"}, default="frobenius"
        tr(M), which makes M low-rank, or ‖M‖_F², which had the larger radii where it was tried.
    n_rounds : int, default=6
        Times that triplets are mined under the metric of the moment.
    n_triplets : int, default=2000
        Anchors that are mined a round.
    max_iter : int, default=20000
        Iterations a round; it ends before, with a warning, where the gap hardly falls any more, as
        on features of very different scales.
    tol : float, default=1e-3
        Relative duality gap at which a round ends.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ConvexSolver._parameter_constraints,
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        regularization: float = 0.3,
        penalty: str = "frobenius",
        n_rounds: int = 6,
        n_triplets: int = 2000,
        max_iter: int = 20000,
        tol: float = 1e-3,
    ):
        self.regularization = regularization
        self.penalty = penalty
        self.n_rounds = n_rounds
        self.n_triplets = n_triplets
        self.max_iter = max_iter
        self.tol = tol

    def solve_program(self, program: TargetRadiusProgram, verbose: int = 0) -> ProgramSolution:
        """Minimise one program; it is "max_iter" or "stalled" where the gap stays above `tol`."""
        iteration = _Iteration(program)
        point = iteration.zero()
        best = iteration.measure(point, 0)
        average, anchor, n_averaged, last_gap = point, point, 0, math.inf
        status, half, gap_of_half = "max_iter", _PATIENCE // 2, math.inf
        for n_iter in range(1, self.max_iter + 1):
            point = iteration.step(point)
            n_averaged += 1
            average = average.toward(point, 1 / n_averaged)
            if n_iter % _CHECK_EVERY and n_iter < self.max_iter:
                continue
            # both the iterate and the average prove something: the lowest primal value and the
            # highest dual one of all are kept, whichever point they are from
            here, there = iteration.measure(point, n_iter), iteration.measure(average, n_iter)
            best = _better(_better(best, here), there)
            if best.gap <= self.tol:
                status = "optimal"
                break
            # give up where the last half of all iterations hardly lowered the gap
            if n_iter >= 2 * half:
                if best.gap > _STALLED * gap_of_half:
                    status = "stalled"
                    break
                half, gap_of_half = n_iter, best.gap
            elif n_iter == half:
                gap_of_half = best.gap
            # restart from the better of iterate and average, with steps weighed anew
            gap = min(here.primal - here.dual, there.primal - there.dual)
            if gap <= _ENOUGH * last_gap or n_averaged >= max(_LONG * n_iter, 400):
                if there.primal - there.dual < here.primal - here.dual:
                    point = average
                iteration.balance(point, anchor)
                average = anchor = point
                n_averaged, last_gap = 0, gap
        return ProgramSolution(best.N, best.alpha, best.w, best.primal, best.dual, n_iter, status)


class _Iteration:
    """One iteration, and its step sizes."""

    def __init__(self, program: TargetRadiusProgram):
        self.program = program
        u, e = (torch.linalg.vector_norm(rows, dim=1) for rows in (program.u, program.e))
        image = 1.0 if program.scale is None else float(program.scale.max())
        row = torch.sqrt((u * e) ** 2 + (2 * program.radius * image * u) ** 2)
        # a triplet's row of K scaled to norm 1 or less; a triplet of equal points has none
        self.row = torch.where(row > 0, 1 / row.clamp_min(1e-150), 1.0)
        self.size = max(self._norm(), 1e-150)
        self.weight = 1.0

    def _norm(self) -> float:
        """Return ‖K‖ with scaled rows, by the power method, a little from above."""
        k = self.program.u.shape[1]
        N = torch.eye(k, dtype=torch.float64, device=self.program.u.device)
        # not only the identity: it may lie in K's kernel
        N += torch.linspace(0, 1, k * k, dtype=N.dtype, device=N.device).reshape(k, k)
        N, size = N + N.T, 0.0
        for _ in range(50):
            N = N / torch.linalg.matrix_norm(N).clamp_min(1e-300)
            gap, moved = self.program.operator(N)
            N = self.program.adjoint(self.row**2 * gap, (self.row**2)[:, None] * moved)
            size = float(torch.linalg.matrix_norm(N))
        return math.sqrt(1.02 * size)

    def zero(self) -> _Point:
        u = self.program.u
        N = u.new_zeros(u.shape[1], u.shape[1])
        return _Point(N, u.new_zeros(len(u)), torch.zeros_like(self.program.images(u)))

    def step(self, point: _Point) -> _Point:
        # a step of N down the gradient, the shrinkage of the penalty, and the cone
        program = self.program
        tau = _STEP / self.size / self.weight
        sigma = _STEP / self.size * self.weight * self.row**2
        N = point.N - tau * program.adjoint(point.alpha, point.w)
        if program.penalty == "trace":
            N.diagonal().sub_(tau * program.strength)
        else:
            N = N / (1 + 2 * tau * program.strength)
        N = project_psd(N)
        # a step of (α, w) up, at the extrapolated N, and the norm cones
        gap, moved = program.operator(2 * N - point.N)
        alpha, w = project_norm_cone(
            point.alpha + sigma * (1 + gap),
            point.w + sigma[:, None] * moved,
            program.norm,
            program.weight,
        )
        return _Point(N, alpha, w)

    def measure(self, point: _Point, n_iter: int) -> ProgramSolution:
        primal = self.program.value(point.N)
        dual = self.program.dual_value(point.alpha, point.w)
        return ProgramSolution(*point, primal, dual, n_iter, "optimal")

    def balance(self, point: _Point, anchor: _Point) -> None:
        """Weigh the steps by how far either side has moved since the last restart."""
        primal = float(torch.linalg.matrix_norm(point.N - anchor.N))
        alpha = (point.alpha - anchor.alpha) / self.row
        w = (point.w - anchor.w) / self.row[:, None]
        dual = math.sqrt(float((alpha * alpha).sum() + (w * w).sum()))
        if primal > 0 and dual > 0:
            self.weight = math.sqrt(self.weight * dual / primal)


def _better(one: ProgramSolution, other: ProgramSolution) -> ProgramSolution:
    """Take the lower primal point of the two, and the higher dual one."""
    primal = one if one.primal <= other.primal else other
    dual = one if one.dual >= other.dual else other
    return ProgramSolution(
        primal.N, dual.alpha, dual.w, primal.primal, dual.dual, other.n_iter, other.status
    )
