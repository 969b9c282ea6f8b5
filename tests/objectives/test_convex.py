"""The convex program: its value by the margins, its dual by weak duality."""

import numpy as np
import pytest
import torch

from skrobust.numerics import project_norm_cone
from skrobust.objectives import TargetRadiusProgram, Triplets, pair_margins

SCALE = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
NORMS = [(2.0, None), (2.0, SCALE), (1.0, None), (1.0, SCALE), (np.inf, None), (np.inf, SCALE)]


def program(seed=0, dual=2.0, scale=None, n_triplets=40, k=None, **parameters):
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.standard_normal((30, 4)))
    triplets = Triplets(*(torch.from_numpy(rng.integers(0, 30, n_triplets)) for _ in range(3)))
    basis = torch.eye(4, dtype=torch.float64) if k is None else torch.randn(k, 4).double()
    built = TargetRadiusProgram.of(
        X,
        triplets,
        torch.full((n_triplets,), 1 / n_triplets),
        basis,
        radius=0.3,
        regularization=0.2,
        dual=dual,
        scale=scale,
        **parameters,
    )
    return X, triplets, built


def random_psd(rng, k):
    root = torch.from_numpy(rng.standard_normal((k, k)))
    return root @ root.T


@pytest.mark.parametrize(("dual", "scale"), NORMS)
@pytest.mark.parametrize("k", [None, 2])
def test_a_hinge_is_zero_where_the_margin_reaches_the_radius(dual, scale, k):
    """Hinge = [1 − 2 ‖s ∘ M u‖ (ε̃ − r)]₊ with the margin of ``pair_margins``."""
    X, (x, i, j), built = program(0, dual, scale, k=k)
    assert built.radius == pytest.approx(0.3 / built.unit)
    N = random_psd(np.random.default_rng(1), built.u.shape[1])
    G = built.components(N)
    torch.testing.assert_close(G.T @ G, built.basis.T @ N @ built.basis / built.unit**2)
    margins = pair_margins(G, X[x], X[i][:, None], X[j][:, None], scale=scale, dual=dual)[:, 0, 0]
    M = G.T @ G
    moved = (X[i] - X[j]) @ M * (1 if scale is None else scale)
    norm = torch.linalg.vector_norm(moved, ord=dual, dim=1)
    expected = (1 - 2 * norm * (margins - 0.3)).clamp_min(0)
    torch.testing.assert_close(built.losses(N), expected)
    assert built.value(torch.zeros_like(N)) == pytest.approx(1)
    assert built.value(N) == pytest.approx(
        float(expected.mean()) + built.strength * float(torch.trace(N))
    )


@pytest.mark.parametrize("penalty", ["trace", "frobenius"])
@pytest.mark.parametrize(("dual", "scale"), NORMS)
def test_every_dual_point_is_below_every_primal_one(dual, scale, penalty):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, _, built = program(seed, dual, scale, penalty=penalty)
        k = built.u.shape[1]
        lowest = min(built.value(c * random_psd(rng, k)) for c in np.geomspace(1e-4, 10, 30))
        for c in (0.001, 0.03, 1):
            w = built.images(torch.from_numpy(rng.standard_normal((40, k))))
            alpha = torch.from_numpy(rng.random(40))
            point = project_norm_cone(c * alpha, c * w, built.norm, built.weight)
            assert built.dual_value(*point) <= lowest


@pytest.mark.parametrize(("dual", "scale"), NORMS)
def test_adjoint(dual, scale):
    rng = np.random.default_rng(0)
    _, _, built = program(0, dual, scale, k=3)
    N = random_psd(rng, built.u.shape[1])
    gap, moved = built.operator(N)
    alpha = torch.from_numpy(rng.standard_normal(40))
    w = torch.from_numpy(rng.standard_normal(moved.shape))
    there = float((gap * alpha).sum() + (moved * w).sum())
    assert there == pytest.approx(float((N * built.adjoint(alpha, w)).sum()))


def test_a_basis_of_the_differences_loses_nothing():
    """Data in a plane of four dimensions: the program has two."""
    rng = np.random.default_rng(0)
    plane = torch.from_numpy(rng.standard_normal((30, 2)) @ rng.standard_normal((2, 4)))
    triplets = Triplets(*(torch.from_numpy(rng.integers(0, 30, 40)) for _ in range(3)))
    weight, basis = torch.full((40,), 1 / 40), torch.eye(4)
    options = {"radius": 0.1, "regularization": 0.1}
    small = TargetRadiusProgram.of(plane, triplets, weight, basis, **options)
    assert small.basis.shape == (2, 4)
    one = torch.ones(4, dtype=torch.float64)
    full = TargetRadiusProgram.of(plane, triplets, weight, basis, scale=one, **options)
    assert full.basis.shape == (4, 4)
    N = random_psd(rng, 2)
    M = small.basis.T @ N @ small.basis
    torch.testing.assert_close(small.losses(N), full.losses(full.basis @ M @ full.basis.T))
