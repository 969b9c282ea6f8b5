"""Projections, against cvxpy and against what defines them."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from skrobust.numerics import project_norm_cone, project_psd


@pytest.mark.parametrize("seed", range(3))
def test_psd(seed):
    rng = np.random.default_rng(seed)
    M = torch.from_numpy(rng.standard_normal((6, 6)))
    M = M + M.T
    found = project_psd(M)
    assert torch.linalg.eigvalsh(found)[0] > -1e-12
    # the residual is negative semidefinite and orthogonal: the conditions of the projection
    assert torch.linalg.eigvalsh(M - found)[-1] < 1e-12
    assert abs(float((found * (M - found)).sum())) < 1e-10
    torch.testing.assert_close(project_psd(found), found)
    assert not project_psd(-torch.eye(3)).any()
    assert torch.equal(project_psd(torch.eye(3)), torch.eye(3))


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_norm_cones(norm, capped):
    rng = np.random.default_rng(0)
    alpha, w = 2 * rng.standard_normal(30), rng.standard_normal((30, 4))
    alpha[:3], w[3:6] = 0, 0
    w[6], alpha[6] = [1, 1, 1, 1], 0.5  # ties
    cap = np.full(30, 0.4 if capped else np.inf)
    level, found = project_norm_cone(
        *(torch.from_numpy(a) for a in (alpha, w)), norm, torch.from_numpy(cap)
    )
    for k in range(30):
        a, v = cp.Variable(), cp.Variable(4)
        inside = [cp.norm(v, norm) <= a] + ([a <= cap[k]] if capped else [])
        distance = cp.sum_squares(a - alpha[k]) + cp.sum_squares(v - w[k])
        cp.Problem(cp.Minimize(distance), inside).solve(solver=cp.CLARABEL, tol_gap_abs=1e-10)
        assert level[k] == pytest.approx(float(a.value), abs=2e-5)
        np.testing.assert_allclose(found[k], v.value, atol=2e-5)
    again = project_norm_cone(level, found, norm, torch.from_numpy(cap))
    torch.testing.assert_close(again[0], level)
    torch.testing.assert_close(again[1], found)
    sizes = torch.linalg.vector_norm(found, ord=norm, dim=1)
    assert (sizes <= level + 1e-12).all()
