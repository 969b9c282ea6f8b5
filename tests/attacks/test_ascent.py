"""The projected ascent that attacks and training share, against closed forms."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel
from skrobust.attacks import (
    APGD,
    PGD,
    ExactNeighborAttack,
    HopSkipJump,
    NoiseAttack,
    ScaledRows,
    TransferAttack,
    WorstCase,
    ascend,
    steepest,
)

DUAL = {1: np.inf, 2: 2, np.inf: 1}


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("seed", range(3))
def test_a_linear_value_reaches_the_dual_norm(norm, seed):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    raw = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    scale = torch.tensor([1.0, 2, 0.5, 0, 1, 3], dtype=torch.float64)
    eps = torch.tensor([0.1, 0.5, 1.0, 0.0], dtype=torch.float64)
    rows = ScaledRows(raw, scale, eps, norm)
    sizes = [0.25 * eps[:, None]] * 200
    eta = ascend(rows, torch.zeros_like(raw), lambda eta, t: scale * w, sizes)
    gained = (w * (rows.points(eta) - raw)).sum(1)
    best = eps * torch.linalg.vector_norm(scale * w, ord=DUAL[norm], dim=1)
    torch.testing.assert_close(gained, best, rtol=1e-6, atol=1e-12)


def test_it_stays_in_the_box_and_stops_on_none():
    raw = torch.zeros(2, 3)
    lower, upper = torch.full((2, 3), -0.1), torch.full((2, 3), 0.2)
    rows = ScaledRows(raw, torch.ones(3), torch.ones(2), torch.inf, lower, upper)
    seen = []

    def gradient(eta, t):
        seen.append(t)
        return None if t == 3 else torch.ones_like(eta)

    eta = ascend(rows, raw, gradient, [0.15] * 10)
    assert seen == [0, 1, 2, 3]
    torch.testing.assert_close(eta, upper)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_a_gradient_of_zero_moves_nothing(norm):
    assert (steepest(torch.zeros(2, 3), norm) == 0).all()


def test_who_looks_into_the_victim():
    inside = [PGD(), APGD(), ExactNeighborAttack(), WorstCase()]
    outside = [HopSkipJump(), NoiseAttack(), TransferAttack()]
    outside.append(WorstCase(attacks=[("noise", NoiseAttack())]))
    assert all(attack.white_box for attack in inside)
    assert not any(attack.white_box for attack in outside)


class Recorded(NoiseAttack):
    """Keeps the problem that it was given."""

    fills_batches = True

    def _perturb(self, problem):
        Recorded.problem = problem
        return super()._perturb(problem)


def test_rows_that_fill_a_batch_do_not_count():
    X, y = load_iris(return_X_y=True)
    knn = KNeighborsClassifier(1).fit(X, y)
    Recorded(threat_model=ThreatModel(eps=0.1), batch_size=64, max_iter=1).run(knn, X[:5], y[:5])
    problem = Recorded.problem
    assert (len(problem.rows), problem.n_rows) == (64, 5)
    assert problem.rows[4:].tolist() == [4] * 60
    before = problem.counts.n_queries
    problem.predict(problem.raw)
    assert problem.counts.n_queries == before + 5
    alone = problem.take(np.arange(2))
    assert (alone.n_rows, alone.counts.n_queries) == (2, 0)
    np.testing.assert_array_equal(alone.raw, X[:2])
