"""Layouts, statistics, batches, losses: the small parts of a training."""

import copy

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners

from skrobust.deep import MLP, ConvNet
from skrobust.deep._batches import ClassBatches, split_rows
from skrobust.deep._data import InputLayout, compute_moments
from skrobust.deep._losses import LOSSES, make_criterion


@pytest.mark.parametrize(
    ("row_shape", "image_shape", "input_shape"),
    [
        ((7,), None, (7,)),
        ((64,), (8, 8), (1, 8, 8)),
        ((8, 8), None, (1, 8, 8)),
        ((8, 9, 3), None, (3, 8, 9)),
        ((3, 8, 9), None, (3, 8, 9)),
        ((192,), (3, 8, 8), (3, 8, 8)),
        ((192,), (8, 8, 3), (3, 8, 8)),
        ((2, 3, 4, 5), None, (2, 3, 4, 5)),
    ],
)
def test_layout(row_shape, image_shape, input_shape):
    layout = InputLayout.of(row_shape, image_shape)
    assert layout.input_shape == input_shape
    rows = torch.arange(2.0 * np.prod(row_shape)).reshape(2, *row_shape)
    turned = layout.to_module(rows)
    assert turned.shape == (2, *input_shape)
    assert torch.equal(layout.to_module(rows.flatten(1)), turned)


def test_channels_are_turned_not_cut():
    pixels = np.arange(2 * 6 * 5 * 3).reshape(2, 6, 5, 3)
    turned = InputLayout.of((6, 5, 3)).to_module(torch.from_numpy(pixels))
    np.testing.assert_array_equal(turned.numpy(), pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("image_shape", [(8,), (8, 9), "8x8", (8.5, 8), (-8, -8), 8, (1, 2, 4, 8)])
def test_bad_image_shape(image_shape):
    with pytest.raises(ValueError, match=r"image_shape(=| must be)"):
        InputLayout.of((64,), image_shape)


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_moments_of_tables(shift):
    X = np.random.default_rng(0).random((3000, 4)) + shift
    X[:, 2] = 5.0 + shift
    found = compute_moments(X, InputLayout.of((4,)))
    np.testing.assert_allclose(found.mean, X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.spread[[0, 1, 3]], X.std(0)[[0, 1, 3]], rtol=1e-6)
    assert found.spread[2] == 0
    assert found.std[2] == 1
    np.testing.assert_array_equal(found.lower, X.min(0))
    np.testing.assert_array_equal(found.upper, X.max(0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_moments_of_images_are_by_channel(dtype):
    X = (np.random.default_rng(0).random((1500, 5, 6, 3)) * [100, 200, 250]).astype(dtype)
    found = compute_moments(X, InputLayout.of((5, 6, 3)))
    assert found.mean.shape == found.std.shape == (3, 1, 1)
    np.testing.assert_allclose(found.mean.ravel(), X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.std.ravel(), X.std((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.spread, X.std(), rtol=1e-5)


def test_batches_hold_m_points_of_each_class():
    y = np.repeat(np.arange(10), 13)
    sampler = ClassBatches(y, 20, 4, seed=0)
    assert len(list(sampler)) == len(sampler) == 130 // 20
    for batch in sampler:
        classes, counts = np.unique(y[batch], return_counts=True)
        assert len(classes) == 5
        assert set(counts) == {4}
        assert len(set(batch)) == len(batch)


def test_with_few_classes_each_gets_more_points():
    (batch,) = list(ClassBatches(np.arange(20) % 2, 16, 4, seed=0))[:1]
    assert sorted(np.bincount(np.arange(20)[batch] % 2)) == [8, 8]


def test_halves_of_a_batch_share_classes():
    y = np.arange(60) % 2
    for batch in ClassBatches(y, 20, 4, seed=0):
        assert len(np.unique(y[batch[:10]])) == len(np.unique(y[batch[10:]])) == 2


def test_a_small_class_is_repeated():
    y = np.r_[np.zeros(30, int), 1, 1]
    for batch in ClassBatches(y, 16, 4, seed=0):
        assert (y[batch] == 1).sum() == 8


def test_every_point_comes_before_any_again():
    y = np.repeat([0, 1], 40)
    seen = np.concatenate(list(ClassBatches(y, 16, 4, seed=3)))
    assert len(np.unique(seen)) == len(seen) == 80


def test_epochs_differ_and_are_reproducible():
    y = np.repeat(np.arange(4), 10)
    first = ClassBatches(y, 8, 4, seed=1)
    one, two = list(first), list(first)
    assert one != two
    assert list(ClassBatches(y, 8, 4, seed=1, epoch=1)) == two
    assert list(ClassBatches(y, 8, 4, seed=2)) != one


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_name_have_gradients(name):
    criterion = make_criterion(name, "auto", 3, 4, {}, {})
    z = torch.randn(12, 4, requires_grad=True)
    criterion(z, torch.arange(12) % 3).backward()
    assert z.grad.abs().sum() > 0


def test_multi_similarity_is_that_of_the_paper():
    criterion = make_criterion("multi_similarity", "auto", 3, 4, {}, {})
    z, y = torch.nn.functional.normalize(torch.randn(8, 4), dim=1), np.arange(8) % 2
    S = (z @ z.T).numpy()
    values = []
    for i in range(8):
        own = [j for j in range(8) if y[j] == y[i] and j != i]
        other = [j for j in range(8) if y[j] != y[i]]
        near = [j for j in other if S[i, j] + 0.1 > S[i, own].min()]
        far = [j for j in own if S[i, j] - 0.1 < S[i, other].max()]
        value = np.log1p(np.exp(-2 * (S[i, far] - 0.5)).sum()) / 2 if far else 0.0
        value += np.log1p(np.exp(40 * (S[i, near] - 0.5)).sum()) / 40 if near else 0.0
        values.append(value)
    positive = [v for v in values if v > 0]
    assert float(criterion(z, torch.from_numpy(y))) == pytest.approx(np.mean(positive), rel=1e-4)


def test_objects_are_copied_and_classes_get_parameters():
    given = losses.ContrastiveLoss(neg_margin=0.7)
    criterion = make_criterion(given, miners.PairMarginMiner(), 3, 4, {}, {})
    assert criterion.loss is not given
    assert criterion.loss.neg_margin == 0.7
    made = make_criterion(losses.ArcFaceLoss, None, 3, 4, {"margin": 20}, {})
    assert made.loss.W.shape == (4, 3)
    assert make_criterion("triplet", "hard", 3, 4, {"margin": 0.3}, {}).loss.margin == 0.3


@pytest.mark.parametrize(
    ("loss", "miner", "loss_params", "miner_params", "error", "match"),
    [
        ("triplet", None, {"marginn": 1}, {}, TypeError, "loss__marginn=1"),
        (losses.NTXentLoss(), None, {"temperature": 1}, {}, TypeError, "parameters need a loss"),
        ("triplet", None, {}, {"margin": 1}, TypeError, "miner__… parameters need"),
        ("triplet", "semihard", {}, {"marginn": 1}, TypeError, "miner__marginn=1"),
        (losses.ProxyAnchorLoss(2, 4), None, {}, {}, ValueError, "num_classes=2"),
        (losses.ProxyAnchorLoss(3, 5), None, {}, {}, ValueError, "embedding_size=5"),
    ],
)  # fmt: skip
def test_bad_losses(loss, miner, loss_params, miner_params, error, match):
    with pytest.raises(error, match=match):
        make_criterion(loss, miner, 3, 4, loss_params, miner_params)


def test_validation_rows():
    y = np.repeat(np.arange(10), 8)
    train, valid = split_rows(y, 0.25, "points", np.random.RandomState(0))
    assert sorted([*train, *valid]) == list(range(80))
    assert set(np.bincount(y[valid])) == {2}
    train, valid = split_rows(y, 0.3, "classes", np.random.RandomState(0))
    assert len(np.unique(y[valid])) == 3
    assert not set(y[valid]) & set(y[train])
    train, valid = split_rows(y, 0.0, "points", np.random.RandomState(0))
    assert len(valid) == 0


@pytest.mark.parametrize(("fraction", "by"), [(0.9, "points"), (0.05, "classes"), (0.9, "classes")])
def test_too_little_to_validate_on(fraction, by):
    with pytest.raises(ValueError, match="validation_fraction="):
        split_rows(np.repeat(np.arange(10), 3), fraction, by, np.random.RandomState(0))


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 8, 8), (3, 64, 64), (1, 28, 30)])
def test_conv_net_takes_images_of_any_size(shape):
    assert ConvNet(shape, 5, channels=(2, 3))(torch.randn(4, *shape)).shape == (4, 5)


def test_conv_net_keeps_channels_last_and_gives_what_channels_first_give():
    last = ConvNet((3, 12, 12), 5, channels=(4, 6)).eval()
    first = copy.deepcopy(last).to(memory_format=torch.contiguous_format)
    x = torch.randn(4, 3, 12, 12)
    grid = last.blocks[:-1](x)
    assert grid.is_contiguous(memory_format=torch.channels_last)
    assert not first.blocks[:-1](x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x), first(x))


def test_mlp_with_dropout():
    net = MLP((3,), 2, hidden=(4,), dropout=0.5)
    assert any(isinstance(part, torch.nn.Dropout) for part in net.modules())
    assert net(torch.randn(4, 3)).shape == (4, 2)
