"""The convex program by three solvers: primal value, proved gap, seconds.

    python -m studies solver_times [triplets dimensions seeds]     (1000 30 5)

Triplets that decide the 1-NN bound of Gaussian classes which overlap, in ℓ₂, at a target radius.
Clarabel and SCS are called through cvxpy; compiling is part of their time, and shown on its own.
"""

import time

import torch
from benchmarks.common import target_radius_program

from skrobust.metric_learning import CvxpySolver, ProjectedSolver


def main(n_triplets=1000, n_features=30, n_seeds=5):
    """Print a row for each seed and solver."""
    torch.set_num_threads(2)
    n_triplets, n_features, n_seeds = int(n_triplets), int(n_features), int(n_seeds)
    print("| seed | solver | primal | gap | iterations | compile, s | solve, s |")
    print("|---|---|---|---|---|---|---|")
    for seed in range(n_seeds):
        problem = target_radius_program(n_triplets, n_features, seed)
        for name in ("projected", "SCS", "CLARABEL"):
            started = time.perf_counter()
            compiled = None if name == "projected" else CvxpySolver.compile(problem)
            between = time.perf_counter()
            if compiled is None:
                found = ProjectedSolver(tol=1e-3).solve_program(problem)
            else:
                found = compiled.solve(name, {}, False)
            ended = time.perf_counter()
            print(
                f"| {seed} | {name} | {found.primal:.6f} | {found.gap:.1e} | {found.n_iter} "
                f"| {between - started:.2f} | {ended - between:.2f} |",
                flush=True,
            )
