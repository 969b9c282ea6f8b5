import cvxpy as cp
import numpy as np
import pytest
import torch

from skrobust.numerics import project_ball

NORMS = [1, 2, np.inf]


def problems(seed, n=40, d=6):
    rng = np.random.default_rng(seed)
    point = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-2, 2, (n, 1))
    lower = -rng.exponential(size=(n, d)) * rng.integers(0, 2, (n, d))
    upper = rng.exponential(size=(n, d)) * rng.integers(0, 2, (n, d))
    lower[rng.random((n, d)) < 0.2] = -np.inf
    upper[rng.random((n, d)) < 0.2] = np.inf
    return point, rng.exponential(size=n), lower, upper


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("boxed", [False, True])
def test_the_nearest_point_as_a_convex_program_finds_it(norm, boxed):
    point, radius, lower, upper = problems(0, n=15)
    tensors = [torch.from_numpy(a) for a in (point, radius)]
    box = [torch.from_numpy(lower), torch.from_numpy(upper)] if boxed else []
    found = project_ball(*tensors, norm, *box).numpy()
    for row in range(len(point)):
        eta = cp.Variable(point.shape[1])
        limits = [cp.norm(eta, norm) <= radius[row]]
        if boxed:
            for k in range(point.shape[1]):
                limits += [eta[k] <= upper[row, k]] * bool(np.isfinite(upper[row, k]))
                limits += [eta[k] >= lower[row, k]] * bool(np.isfinite(lower[row, k]))
        cp.Problem(cp.Minimize(cp.sum_squares(eta - point[row])), limits).solve("CLARABEL")
        gone, least = np.linalg.norm([found[row] - point[row], eta.value - point[row]], axis=1)
        assert gone == pytest.approx(least, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_inside_idempotent_and_interior_points_left_alone(norm, seed):
    point, radius, lower, upper = (torch.from_numpy(a) for a in problems(seed))
    found = project_ball(point, radius, norm, lower, upper)
    size = torch.linalg.vector_norm(found, ord=norm, dim=1)
    assert (size <= radius * (1 + 1e-14)).all()
    assert ((found >= lower) & (found <= upper)).all()
    again = project_ball(found, radius, norm, lower, upper)
    np.testing.assert_allclose(again, found, rtol=1e-14, atol=0)
    interior = found * 0.5
    assert torch.equal(project_ball(interior, radius, norm, lower, upper), interior)


@pytest.mark.parametrize("norm", NORMS)
def test_radius_zero(norm):
    point, radius, _, _ = (torch.from_numpy(a) for a in problems(1))
    assert (project_ball(point, 0 * radius, norm) == 0).all()
