import numpy as np
import pytest
from scipy.optimize import minimize

from skrobust.numerics import least_norm

DUAL = {1: np.inf, 2: 2, np.inf: 1}


def dual_bound(C, h, found, norm, lower, upper):
    with np.errstate(invalid="ignore"):
        ends = np.nansum(np.where(found.upper > 0, upper * found.upper, 0)) - np.nansum(
            np.where(found.lower > 0, lower * found.lower, 0)
        )
    push = C.T @ found.rows + found.upper - found.lower
    return (-h @ found.rows - ends) / np.linalg.norm(push, ord=DUAL[norm])


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("exponent", [-8, 0, 8])
def test_primal_meets_dual(norm, boxed, exponent):
    rng = np.random.default_rng(0)
    solved = 0
    for _ in range(40):
        n, m = rng.integers(1, 6), rng.integers(1, 8)
        C = rng.standard_normal((m, n)) * 10.0**exponent
        inside = rng.standard_normal(n)
        h = C @ inside + rng.random(m) * 10.0**exponent
        lower, upper = (-np.abs(inside) - 0.1, np.abs(inside) + 0.1) if boxed else (None, None)
        found = least_norm(C, h, norm, lower, upper)
        assert found.point is not None
        scale = 1e-9 * 10.0**exponent
        assert (C @ found.point <= h + scale).all()
        if boxed:
            assert (found.point >= lower - 1e-9).all()
            assert (found.point <= upper + 1e-9).all()
        size = np.linalg.norm(found.point, ord=norm)
        if size > 1e-9:
            low = np.full(n, -np.inf) if lower is None else lower
            up = np.full(n, np.inf) if upper is None else upper
            assert dual_bound(C, h, found, norm, low, up) == pytest.approx(size, rel=1e-7)
            solved += 1
    assert solved > 20


def test_against_a_general_solver():
    rng = np.random.default_rng(1)
    for _ in range(10):
        C, inside = rng.standard_normal((5, 3)), 2 * rng.standard_normal(3)
        h = C @ inside
        reference = minimize(
            lambda v: v @ v / 2,
            inside,
            jac=lambda v: v,
            constraints={"type": "ineq", "fun": lambda v, C=C, h=h: h - C @ v},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(least_norm(C, h, 2).point, reference.x, atol=1e-5)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_empty_and_trivial_polyhedra(norm):
    C = np.array([[1.0, 0.0], [-1.0, 0.0]])
    empty = least_norm(C, np.array([-1.0, -1.0]), norm)
    assert empty.point is None
    assert (empty.rows >= 0).all()
    at_zero = least_norm(C, np.array([1.0, 0.0]), norm)
    np.testing.assert_array_equal(at_zero.point, 0)
    assert least_norm(np.zeros((1, 2)), np.array([-1.0]), norm).point is None
    flat = least_norm(np.array([[0.0, 0.0], [-1.0, 0.0]]), np.array([1.0, -3.0]), norm)
    assert flat.point[0] == pytest.approx(3)
    assert np.linalg.norm(flat.point, ord=norm) == pytest.approx(3)
    doubled = least_norm(np.array([[-1.0, 0.0]] * 4), np.full(4, -2.0), norm)
    assert np.linalg.norm(doubled.point, ord=norm) == pytest.approx(2)
    box = np.full(2, 0.5)
    assert least_norm(C, np.array([-1.0, 1.0]), norm, -box, box).point is None
