"""Ensembles with input gradients that are not aligned."""

import numpy as np
import pytest
import torch
from shared_data import load_digits
from training import LinearRecorder, make_step

from skrobust import AdversarialDeepMetric
from skrobust.deep import GradientDiversity
from skrobust.deep.strategies._gradient_diversity import alignment

X, y = load_digits(n_class=5, return_X_y=True)


def test_alignment_is_between_its_bounds():
    g = torch.randn(6, 4)
    three = torch.log(torch.tensor(3.0))
    torch.testing.assert_close(alignment([g, 2 * g, 3 * g]), 1 + three)  # all cosines are 1
    one, two, other = torch.eye(3)
    torch.testing.assert_close(alignment([one[None], two[None], other[None]]), three)
    torch.testing.assert_close(alignment([g, -g]), torch.tensor(-1.0))
    assert torch.isfinite(alignment([g, 0 * g]))


def test_the_gradient_is_that_of_finite_differences():
    g = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: alignment([a, b]), (g, h))


def test_the_loss_is_the_mean_and_the_alignment():
    step = make_step(GradientDiversity(), "proxy_anchor", n=20, make=LinearRecorder)
    plain, z = GradientDiversity(weight=0).loss(step)
    assert z.shape == (20, 9)
    expected, slopes = [], []
    for member, loss in zip(step.module.members, step.criterion.losses, strict=True):
        x = step.x.clone().requires_grad_()
        value = loss(member(x), step.y)
        expected.append(value.detach())
        slopes.append(torch.autograd.grad(value, x)[0])
    torch.testing.assert_close(plain.detach(), torch.stack(expected).mean())
    whole, _ = GradientDiversity(weight=0.7).loss(step)
    torch.testing.assert_close(whole.detach(), plain.detach() + 0.7 * alignment(slopes))


def test_training_takes_the_gradients_apart():
    def aligned(weight):
        metric = AdversarialDeepMetric(
            image_shape=(8, 8),
            loss="proxy_anchor",
            training=GradientDiversity(weight=weight),
            max_iter=5,
            random_state=0,
            device="cpu",
        ).fit(X[::2], y[::2])
        assert metric.score(X[1::2], y[1::2]) > 0.9
        slopes = []
        x = metric.layout_.to_module(torch.from_numpy(X[1::2].astype(np.float32)))
        labels = torch.from_numpy(y[1::2])
        pairs = GradientDiversity.pairs(metric.module_, metric.criterion_)
        for member, loss in pairs:
            moved = x.clone().requires_grad_()
            value = loss(member.eval()(moved), labels)
            slopes.append(torch.autograd.grad(value, moved)[0].flatten(1))
        return float(alignment(slopes))

    assert aligned(50.0) < aligned(0.0) - 0.2


@pytest.mark.parametrize("loss", ["triplet", "contrastive"])
def test_losses_without_a_second_derivative_are_refused(loss):
    """torch's distances have none for a few rows."""
    metric = AdversarialDeepMetric(
        training=GradientDiversity(n_members=2),
        loss=loss,
        max_iter=1,
        batch_size=16,
        random_state=0,
        device="cpu",
    )
    with pytest.raises(ValueError, match="needs a loss that can be differentiated twice"):
        metric.fit(X, y)


def test_bad_parameters():
    with pytest.raises(ValueError, match="'n_members' parameter"):
        GradientDiversity(n_members=1).check()
    with pytest.raises(ValueError, match="'weight' parameter"):
        GradientDiversity(weight=-1).check()
