r"""The convex program by cvxpy: interior points (Clarabel), or operator splitting (SCS).

    minimise  Σ_t c_t h_t + λ R(N)
    over      N ≽ 0,  h ≥ 0,  ν
    such that h_t ≥ 1 + 2 r ν_{p(t)} − ⟨A_t, N⟩,      ‖s ∘ Bᵀ N u_p‖_q ≤ ν_p,

with A_t = sym(u_t e_tᵀ), and one norm for each pair p of points, however many triplets share it.
λ and c are parameters: another regularisation, or another choice among the triplets, does not
compile the problem again. New triplets do: with u and A as parameters too, compiling 1,000
triplets in 30 dimensions takes 47 s, with constants half a second (see doc/benchmarks.md).
"""

import warnings
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.metric_learning._rounds import ConvexSolver, ProgramSolution
from skrobust.numerics import project_norm_cone, project_psd
from skrobust.objectives import TargetRadiusProgram
from skrobust.utils._sklearn import StrOptions

__all__ = ["BACKENDS", "CvxpySolver"]

BACKENDS = ("auto", "CLARABEL", "SCS")
# n_triplets × dimension² up to which interior points take seconds
_INTERIOR = 500 * 15**2


class CvxpySolver(ConvexSolver):
    """Solve the convex program at a target radius by cvxpy.

    For small problems, and as a check of ``solver="projected"``.

    Parameters
    ----------
    regularization : float, default=0.3
        λ without units: the penalty, as a share of the loss of M = 0, of the multiple of the
        identity under which the median negative is at distance 1.
    penalty : {"trace", "frobenius"}, default="frobenius"
        tr(M), which makes M low-rank, or ‖M‖_F², which had the larger radii where it was tried.
    n_rounds : int, default=6
        Times that triplets are mined under the metric of the moment.
    n_triplets : int, default=300
        Anchors that are mined a round.
    backend : {"auto", "CLARABEL", "SCS"}, default="auto"
        "auto" is Clarabel up to 500 triplets in 15 dimensions, or as much work, and SCS beyond.
    tol : float, default=1e-3
        Relative duality gap above which a fit warns.
    options : dict, default=None
        Passed to cvxpy's `solve`, such as ``{"max_iters": 10000}``. SCS gets tolerances of a
        ten-thousandth of `tol` where none are given.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ConvexSolver._parameter_constraints,
        "backend": [StrOptions(set(BACKENDS))],
        "options": [dict, None],
    }

    def __init__(
        self,
        regularization: float = 0.3,
        penalty: str = "frobenius",
        n_rounds: int = 6,
        n_triplets: int = 300,
        backend: str = "auto",
        tol: float = 1e-3,
        options: dict[str, Any] | None = None,
    ):
        self.regularization = regularization
        self.penalty = penalty
        self.n_rounds = n_rounds
        self.n_triplets = n_triplets
        self.backend = backend
        self.tol = tol
        self.options = options

    @staticmethod
    def compile(program: TargetRadiusProgram) -> "CompiledProgram":
        """Return the program as a cvxpy problem whose λ and weights may be changed.

        Parameters
        ----------
        program : TargetRadiusProgram
        """
        return CompiledProgram(program.to(torch.device("cpu")))

    def solve_program(self, program: TargetRadiusProgram, verbose: int = 0) -> ProgramSolution:
        """Minimise one program.

        Raises
        ------
        ImportError
            If the backend is not installed.
        ValueError
            If the backend does not take the options.
        RuntimeError
            If the backend fails, or returns no solution.
        """
        backend, compiled = self.backend, self.compile(program)
        if backend == "auto":
            size = len(program.u) * program.u.shape[1] ** 2
            backend = "CLARABEL" if size <= _INTERIOR else "SCS"
        options = dict(self.options or {})
        if backend == "SCS":  # cvxpy's own tolerances leave dual points that are a per cent off
            options = {"eps_abs": self.tol / 1e4, "eps_rel": self.tol / 1e4} | options
        solution = compiled.solve(backend, options, verbose > 1)
        device = program.u.device
        return replace(
            solution,
            N=solution.N.to(device),
            alpha=solution.alpha.to(device),
            w=solution.w.to(device),
        )


class CompiledProgram:
    """A program as a cvxpy problem, with λ and the weights of triplets as parameters.

    ``strength.value`` and ``weight.value`` may be changed between two calls of :meth:`solve`,
    which then does not compile the problem again.
    """

    def __init__(self, program: TargetRadiusProgram):
        import cvxpy  # lazy: it takes a second

        cp: Any = cvxpy  # its annotations leave out what is allowed
        self._cp, self._program = cp, program
        u, e = program.u.numpy(), program.e.numpy()
        n_triplets, k = u.shape
        pairs, self._pair = np.unique(u, axis=0, return_inverse=True)
        self._pair = self._pair.reshape(-1)
        rows, columns = np.triu_indices(k)
        # ⟨A_t, N⟩ by the upper triangle of N
        products = u[:, rows] * e[:, columns] + u[:, columns] * e[:, rows]
        products[:, rows == columns] /= 2
        self._N = cp.Variable((k, k), PSD=True)
        self._h = cp.Variable(n_triplets, nonneg=True)
        self._moved = cp.Variable(len(pairs))
        self.strength, self.weight = (
            cp.Parameter(nonneg=True),
            cp.Parameter(n_triplets, nonneg=True),
        )
        images = pairs @ self._N
        if not program.plain:
            scale = 1.0 if program.scale is None else program.scale.numpy()
            images = images @ (program.basis.numpy() * scale)
        if program.dual == 2.0:
            self._cone = cp.SOC(self._moved, images, axis=1)
            cones = [self._cone]
        else:
            # an equality, because its multiplier is what the dual point is made of
            copy = cp.Variable(images.shape)
            self._cone = copy == images
            cones = [self._cone, cp.norm(copy, program.dual, axis=1) <= self._moved]
        self._hinge = (
            1
            + 2 * program.radius * self._moved[self._pair]
            - products @ self._N[rows, columns]
            - self._h
            <= 0
        )
        if program.penalty == "trace":
            size = cp.trace(self._N)
        else:
            # ‖N‖² ≤ size as a cone: with cvxpy 1.6 a parameter times a quadratic term is lost
            size = cp.Variable()
            cones.append(cp.SOC(size + 1, cp.hstack([2 * cp.vec(self._N, order="F"), size - 1])))
        self.problem = cp.Problem(
            cp.Minimize(self.weight @ self._h + self.strength * size), [*cones, self._hinge]
        )
        self.strength.value, self.weight.value = program.strength, program.weight.numpy()

    def solve(self, backend: str, options: dict[str, Any], verbose: bool) -> ProgramSolution:
        """Solve, and value both sides by the program itself."""
        cp = self._cp
        if backend not in cp.installed_solvers():
            raise ImportError(
                f"backend={backend!r} is not installed; cvxpy has {cp.installed_solvers()}. "
                f"Install it (pip install {backend.lower()}) or choose another."
            )
        try:
            with warnings.catch_warnings():
                # the fit warns of it, with the gap
                warnings.filterwarnings("ignore", message="Solution may be inaccurate")
                self.problem.solve(solver=backend, verbose=verbose, **options)
        except TypeError as error:
            raise ValueError(
                f"options={options!r} are not options of {backend}: {error}"
            ) from error
        except cp.error.SolverError as error:
            raise RuntimeError(
                f"backend={backend!r} failed: {error} Use solver='projected', another backend, or "
                "scale X."
            ) from error
        if self._N.value is None:
            raise RuntimeError(
                f"backend={backend!r} returned no solution (status {self.problem.status!r}). Use "
                "solver='projected', or another target_radius or regularization."
            )
        program = self._program
        program = replace(
            program,
            strength=float(self.strength.value),
            weight=torch.as_tensor(np.array(self.weight.value, dtype=float)),
        )
        N = project_psd(torch.as_tensor(np.array((self._N.value + self._N.value.T) / 2)))
        alpha, w = self._dual_point(program)
        return ProgramSolution(
            N=N,
            alpha=alpha,
            w=w,
            primal=program.value(N),
            dual=program.dual_value(alpha, w),
            n_iter=int(self.problem.solver_stats.num_iters or 0),
            status=self.problem.status,
        )

    def _dual_point(self, program: TargetRadiusProgram) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a feasible (α, w) from the backend's multipliers.

        That of a pair's image is −2 r Σ w over the triplets of the pair, which share it in
        proportion to their α.
        """
        alpha = torch.as_tensor(np.array(self._hinge.dual_value, dtype=float)).reshape(-1)
        alpha = torch.minimum(alpha.clamp_min(0), program.weight)
        multiplier = self._cone.dual_value
        if program.dual == 2.0:
            multiplier = multiplier[1]
        multiplier = torch.as_tensor(np.array(multiplier, dtype=float))
        pair = torch.as_tensor(self._pair)
        multiplier = multiplier.reshape(int(pair.max()) + 1, -1)
        total = torch.zeros(len(multiplier), dtype=torch.float64).index_add_(0, pair, alpha)
        share = alpha / total[pair].clamp_min(1e-300)
        w = -share[:, None] * multiplier[pair] / (2 * program.radius)
        return project_norm_cone(alpha, w, program.norm, program.weight)
