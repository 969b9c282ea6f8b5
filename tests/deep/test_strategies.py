"""What each strategy makes of a batch, against its formula."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from training import EPS, Recorder, make_step

from skrobust import ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    AntiCollapseTriplet,
    EmbeddingShiftTraining,
    HardnessManipulation,
    MDProp,
    StandardTraining,
    branches_of,
)
from skrobust.deep.strategies._triplets import triplets

ALL = [
    StandardTraining(),
    AdversarialTraining(EPS, max_iter=3),
    AdversarialTraining(EPS, max_iter=3, clean_weight=0.5),
    AdversarialTraining(EPS, max_iter=3, objective="trades"),
    EmbeddingShiftTraining(EPS, max_iter=3),
    AntiCollapseTriplet(EPS, max_iter=3),
    AntiCollapseTriplet(EPS, max_iter=3, source="hard"),
    HardnessManipulation(EPS, max_iter=3),
    HardnessManipulation(EPS, max_iter=3, destination="softhard", structure_weight=0),
    HardnessManipulation(EPS, max_iter=3, destination=-0.1),
    MDProp(EPS),
    MDProp(EPS, variant="AP'"),
    MDProp(EPS, variant="MP'", targets="other_class"),
    MDProp(EPS, targets="dense", aim="centroid", max_iter=2),
    MDProp(EPS, loss_per="branch"),
    MDProp(EPS, shared_batch_norm=True),
    MDProp(EPS, perturbation="noise"),
]


@pytest.mark.parametrize("strategy", ALL, ids=repr)
@pytest.mark.parametrize("loss", ["multi_similarity", "proxy_anchor", "triplet", "contrastive"])
def test_every_strategy_with_every_loss(strategy, loss):
    step = make_step(strategy, loss)
    value, z = strategy.loss(step)
    value.backward()
    assert torch.isfinite(value)
    assert z.shape == (16, 3)
    gradients = [p.grad for p in step.module.parameters() if p.grad is not None]
    assert sum(g.abs().sum() for g in gradients) > 0
    assert step.module.training


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_attacks_leave_statistics_and_gradients_alone(strategy):
    step = make_step(strategy)
    strategy.check()
    before = copy.deepcopy(step.module)
    value, _ = strategy.loss(step)
    assert all(p.grad is None for p in step.module.parameters())
    trained = step.module.seen(training=True)
    assert len(trained) == 1  # a single forward in training mode, so a single update
    tracked = step.module.layers[1].num_batches_tracked
    assert tracked - before.layers[1].num_batches_tracked == 1
    assert torch.isfinite(value)


@pytest.mark.parametrize("strategy", [s for s in ALL if hasattr(s, "threat_model")], ids=repr)
def test_rows_that_are_trained_on_are_inside_the_budget(strategy):
    step = make_step(strategy)
    strategy.loss(step)
    (trained,) = step.module.seen(training=True)
    nearest = (trained[:, None] - step.x).abs().amax(2).amin(1)
    assert (nearest <= 0.1 + 1e-6).all()
    if not isinstance(strategy, HardnessManipulation):  # that stops where it is hard enough
        assert (nearest > 0.09).any()


def test_standard_is_the_loss():
    step = make_step(StandardTraining())
    value, z = StandardTraining().loss(step)
    torch.testing.assert_close(value, step.criterion(z, step.y))


def test_adversarial_training_raises_the_loss():
    strategy = AdversarialTraining(EPS, max_iter=10)
    step = make_step(strategy, "contrastive")
    before = copy.deepcopy(step.module).eval()
    strategy.loss(step)
    (moved,) = step.module.seen(training=True)
    noise = step.adversary.noise(step.x)
    clean, adversarial, random = (
        step.criterion(before(rows), step.y).item() for rows in (step.x, moved, noise)
    )
    assert adversarial > clean + 3 * abs(random - clean)


def test_trades_with_beta_0_is_the_clean_loss():
    strategy = AdversarialTraining(EPS, objective="trades", beta=0.0)
    value, z = strategy.loss(make_step(strategy))
    step = make_step(strategy)
    torch.testing.assert_close(value, step.criterion(z, step.y))


def test_embedding_shift_moves_farther_than_noise():
    strategy = EmbeddingShiftTraining(EPS)
    step = make_step(strategy)
    strategy.loss(step)
    (moved,) = step.module.seen(training=True)
    clean = step.embed_eval(step.x)
    far = (step.embed_eval(moved) - clean).norm(dim=1)
    noise = (step.embed_eval(step.adversary.noise(step.x)) - clean).norm(dim=1)
    assert (far >= noise).double().mean() > 0.9


def test_act_draws_positives_and_negatives_together():
    strategy = AntiCollapseTriplet(EPS, max_iter=10)
    step = make_step(strategy)
    strategy.loss(step)
    (trained,) = step.module.seen(training=True)
    anchor, positive, negative = trained.chunk(3)
    clean = torch.cdist(anchor, step.x).amin(1)
    assert (clean == 0).all()  # anchors are clean
    own = torch.cdist(positive, step.x).argmin(1)
    other = torch.cdist(negative, step.x).argmin(1)
    z = step.embed_eval(step.x)
    before = (z[own] - z[other]).norm(dim=1)
    after = (step.embed_eval(positive) - step.embed_eval(negative)).norm(dim=1)
    assert (after < before).double().mean() > 0.9


@pytest.mark.parametrize("goal", [-0.3, -0.05])
def test_hardness_is_driven_to_its_destination_and_no_further(goal):
    wide = ThreatModel(np.inf, 0.5)
    strategy = HardnessManipulation(
        wide, destination=goal, max_iter=80, step_size=0.01, structure_weight=0, source="random"
    )
    step = make_step(strategy)
    before = copy.deepcopy(step.module)
    strategy.loss(step)
    (trained,) = step.module.seen(training=True)

    def hardness(rows):
        a, p, n = before.eval()(rows).detach().chunk(3)
        return (a - p).norm(dim=1) - (a - n).norm(dim=1)

    clean = step.x[torch.cdist(trained, step.x).argmin(1)]
    H, start = hardness(trained), hardness(clean)
    hard = start > goal
    assert hard.any()
    torch.testing.assert_close(H[hard], start[hard])  # those stay where they are
    assert (torch.where(hard, start, goal - 0.02) <= H).all()
    assert (H[~hard] <= goal + 0.05).all()


def test_the_gradual_adversary_follows_the_loss():
    strategy = HardnessManipulation(EPS)
    step = make_step(strategy)
    z = step.embed_eval(step.x)
    assert strategy._destination(step, z, None) == -0.2
    strategy.loss(step)
    loss = step.memory["triplet_loss"]
    assert 0 < loss < 1
    step.memory["triplet_loss"] = 0.05
    assert strategy._destination(step, z, None) == -0.05


def test_mdprop_keeps_clean_rows_first_and_pulls_the_others():
    strategy = MDProp(EPS, max_iter=10, step_size=0.2)
    step = make_step(strategy)
    strategy.loss(step)
    (trained,) = step.module.seen(training=True)
    assert torch.equal(trained[:16], step.x)
    assert branches_of(step.module) == ("single", "multi")
    # the attack sees the two halves in the branches of their own
    attacked = step.module.seen(training=False)
    assert len(attacked) == 10


@pytest.mark.parametrize(("variant", "names"), [("AP'", ("single",)), ("MP'", ("multi",))])
def test_variants_have_their_branches(variant, names):
    assert branches_of(MDProp(variant=variant).prepare(Recorder())) == names
    assert branches_of(MDProp(variant=variant, shared_batch_norm=True).prepare(Recorder())) == ()


def test_mdprop_pulls_toward_its_targets():
    strategy = MDProp(EPS, variant="AP'", max_iter=10, shared_batch_norm=True)
    step = make_step(strategy)
    z = step.embed_eval(step.x)
    drawn = {}

    def targets(rows, y, n, generator):
        drawn["t"] = rows[torch.randint(len(rows), (len(rows), n), generator=generator)]
        return drawn["t"]

    strategy._targets = targets
    strategy.loss(step)
    (trained,) = step.module.seen(training=True)
    before = (z - drawn["t"][:, 0]).norm(dim=1)
    after = (step.embed_eval(trained[16:]) - drawn["t"][:, 0]).norm(dim=1)
    assert (after < before).double().mean() > 0.8


def test_targets_of_other_classes_and_of_dense_regions():
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(12, 3), torch.arange(12) % 3
    found = MDProp(targets="other_class")._targets(z, y, 4, generator)
    same = (found[:, :, None] == z).all(3).float().argmax(2)
    assert (y[same] != y[:, None]).all()
    dense = MDProp(targets="dense")._targets(z, y, 4, generator)
    first = (dense[:, :1] == z).all(2).float().argmax(1)
    near = torch.cdist(z, z).sort().values[first, 3]
    assert torch.allclose((dense - dense[:, :1]).norm(dim=2).amax(1), near, atol=1e-5)


def test_the_square_of_the_mean_has_the_direction_of_the_sum_of_distances():
    z, t = torch.randn(6, 3, requires_grad=True), torch.randn(6, 4, 3)
    published = (z[:, None] - t).norm(dim=2).mean(0).mean() ** 2
    (g,) = torch.autograd.grad(published, z)
    (own,) = torch.autograd.grad(-MDProp()._pull(z, t).sum(), z)
    torch.testing.assert_close(
        nn.functional.normalize(g, dim=1), nn.functional.normalize(own, dim=1)
    )


@pytest.mark.parametrize("source", ["random", "semihard", "softhard", "hard"])
def test_triplets_are_triplets(source):
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(20, 3), torch.arange(20) % 4
    a, p, n = triplets(z, y, source, generator, 0.2)
    assert a.tolist() == list(range(20))
    assert (y[a] == y[p]).all()
    assert (a != p).all()
    assert (y[a] != y[n]).all()
    D = torch.cdist(z, z)
    if source == "hard":
        own = torch.where(y[:, None] == y, D, -1)
        torch.testing.assert_close(D[a, p], own.amax(1))
        torch.testing.assert_close(D[a, n], torch.where(y[:, None] != y, D, 1e9).amin(1))


def test_rows_without_a_partner_are_no_anchors():
    y = torch.tensor([0, 0, 1, 2])
    a, _, _ = triplets(torch.randn(4, 2), y, "random", torch.Generator(), 0.2)
    assert a.tolist() == [0, 1]
    a, _, _ = triplets(torch.randn(2, 2), y[:2], "random", torch.Generator(), 0.2)
    assert len(a) == 0


@pytest.mark.parametrize(
    ("strategy", "match"),
    [
        (MDProp(EPS, variant="MP"), "'variant' parameter"),
        (MDProp(EPS, n_targets=0), "'n_targets' parameter"),
        (MDProp("linf"), "'threat_model' parameter"),
        (EmbeddingShiftTraining(EPS, start=0.0), "start must be > 0"),
        (AdversarialTraining(EPS, clean_weight=2.0), "'clean_weight' parameter"),
        (AdversarialTraining(EPS, max_iter=0), "'max_iter' parameter"),
        (HardnessManipulation(EPS, destination="far"), "'destination' parameter"),
        (AntiCollapseTriplet(EPS, source="far"), "'source' parameter"),
    ],
)
def test_bad_parameters(strategy, match):
    with pytest.raises(ValueError, match=match):
        strategy.check()
