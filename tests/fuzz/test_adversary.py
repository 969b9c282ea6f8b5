"""The search finds what there is to find."""

from dataclasses import replace

import numpy as np
from fuzz_adversary import attack
from fuzz_problems import draw_problem
from fuzz_run import time_limit


def exact_problems(n_problems):
    """Yield problems with exact radii and their certificates."""
    seed = 0
    while n_problems:
        seed += 1
        try:
            with time_limit(60):
                problem = draw_problem(seed)
                certificate = problem.certify(problem.clean, np.arange(len(problem.clean)))
        except (TypeError, ValueError):
            continue
        if problem.by_row or not (certificate.status == "exact").any():
            continue
        n_problems -= 1
        yield problem, certificate


def test_a_radius_that_is_a_little_too_long_is_crossed():
    n_longer = n_crossed = 0
    for problem, certificate in exact_problems(8):
        exact = certificate.status == "exact"
        radius = np.where(exact, 1.001 * certificate.upper, 0.0)
        longer = replace(certificate, radius=radius)
        with time_limit(60):
            crossings, _ = attack(problem, longer, np.random.default_rng(0))
        n_longer += exact.sum()
        n_crossed += len(crossings)
        for crossing in crossings:
            assert certificate.radius[crossing.row] < crossing.share * crossing.radius
    assert n_crossed >= 0.8 * n_longer > 0


def test_without_perturbations_to_start_from():
    n_longer = n_crossed = 0
    for problem, certificate in exact_problems(8):
        exact = certificate.status == "exact"
        radius = np.where(exact, 1.1 * certificate.upper, 0.0)
        longer = replace(certificate, radius=radius, perturbation=None)
        with time_limit(60):
            crossings, _ = attack(problem, longer, np.random.default_rng(0))
        n_longer += exact.sum()
        n_crossed += len(crossings)
    assert n_crossed >= 0.8 * n_longer > 0
