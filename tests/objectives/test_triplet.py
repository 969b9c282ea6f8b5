import numpy as np
import pytest
import torch

from skrobust.numerics import nearest_by_class
from skrobust.objectives import LOSSES, TripletObjective, margin_loss, triplet_margin


@pytest.mark.parametrize("seed", range(3))
def test_margin_is_the_distance_to_the_bisector(seed):
    """Against the closed-form projection onto the half-space, in raw space."""
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((2, 4))
    x, x_i, x_j = rng.standard_normal((3, 5, 4))
    M = G.T @ G
    found = triplet_margin(*(torch.from_numpy(v) for v in (G, x, x_i, x_j))).numpy()
    for t in range(5):

        def gap(p, t=t):
            return (p - x_j[t]) @ M @ (p - x_j[t]) - (p - x_i[t]) @ M @ (p - x_i[t])

        normal = M @ (x_i[t] - x_j[t])
        # step back along the normal: the gap is 0 there, and the step has length |margin|
        landed = x[t] - found[t] * normal / np.linalg.norm(normal)
        assert gap(landed) == pytest.approx(0, abs=1e-10)
        assert np.sign(found[t]) == np.sign(gap(x[t]))


def test_margin_does_not_change_when_the_metric_is_scaled():
    rng = np.random.default_rng(0)
    G = torch.from_numpy(rng.standard_normal((3, 4)))
    points = torch.from_numpy(rng.standard_normal((3, 6, 4)))
    torch.testing.assert_close(triplet_margin(3.7 * G, *points), triplet_margin(G, *points))


def test_equal_points_have_margin_and_gradient_zero():
    G = torch.eye(2, requires_grad=True)
    x = torch.tensor([[0.0, 1.0]])
    margin = triplet_margin(G, x, x + 1, x + 1)
    assert margin.item() == 0
    margin.sum().backward()
    assert torch.equal(G.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_match_finite_differences(loss):
    rng = np.random.default_rng(1)
    Z = torch.from_numpy(rng.standard_normal((30, 4)))
    neighbors = nearest_by_class(Z, [slice(0, 10), slice(10, 30)], 5)
    anchors = torch.arange(30)
    objective = TripletObjective(loss=loss, target_radius=0.3)

    def value(G):
        return objective.value(G, Z, anchors, neighbors, torch.Generator().manual_seed(0))

    G = torch.from_numpy(rng.standard_normal((3, 4))).requires_grad_()
    assert torch.autograd.gradcheck(value, (G,))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_do_not_increase(loss):
    t = torch.linspace(-3, 3, 50)
    values = margin_loss(t, loss, target_radius=0.5)
    assert (values.diff() <= 0).all()
    assert values[0] > values[-1]


def test_unknown_loss():
    with pytest.raises(ValueError, match="loss must be one of"):
        margin_loss(torch.zeros(1), "nonsense")


def test_triplets_are_drawn_uniformly_among_the_candidates():
    Z = torch.from_numpy(np.random.default_rng(2).standard_normal((40, 3)))
    neighbors = nearest_by_class(Z, [slice(0, 4), slice(4, 40)], 10)
    from skrobust.objectives._triplet import _draw

    generator = torch.Generator().manual_seed(0)
    row = torch.zeros(30000, dtype=torch.int64)
    drawn = _draw(neighbors.positives[row], neighbors.n_positives[row], generator)
    values, counts = drawn.unique(return_counts=True)
    assert sorted(values.tolist()) == [1, 2, 3]
    assert (counts.double() / 30000 - 1 / 3).abs().max() < 0.02
