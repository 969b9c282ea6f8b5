"""Ensemble adversarial training: the split, the transfer, the embedding of all members."""

import pickle

import numpy as np
import pytest
import torch
from shared_data import load_digits
from training import EPS, LinearRecorder, make_step

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import EmbeddingShift
from skrobust.deep import EnsembleAdversarialTraining

X, y = load_digits(n_class=5, return_X_y=True)
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1::2], y[1::2]
WIDE = ThreatModel(np.inf, 2.0, bounds=(0.0, 16.0))


def ensemble_step(strategy, n=24):
    return make_step(strategy, "proxy_anchor", n, LinearRecorder)


@pytest.mark.parametrize(
    ("transfer", "n_examples"), [("T0", 1), ("T1", 3), ("T2", 1), ("T3", 1), ("T4", 2)]
)
def test_members_train_on_the_examples_they_are_given(transfer, n_examples):
    strategy = EnsembleAdversarialTraining(EPS, transfer=transfer, max_iter=3)
    step = ensemble_step(strategy)
    value, z = strategy.loss(step)
    assert z.shape == (24, 9)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(24))
    value.backward()
    for m, member in enumerate(step.module.members):
        rows = step.parts != m
        (trained,) = member.seen(training=True)  # one forward in training mode
        assert len(trained) == n_examples * int(rows.sum())
        moved = trained.chunk(n_examples)
        for part in moved:
            apart = (part - step.x[rows]).abs()
            assert apart.max() <= 0.1 + 1e-6
            assert apart.max() > 0.05
        assert member.layers.weight.grad.abs().sum() > 0
        assert step.criterion.losses[m].loss.proxies.grad.abs().sum() > 0
    first, second = (member.seen(training=True)[0] for member in step.module.members[:2])
    both = (step.parts != 0) & (step.parts != 1)
    alike = [
        torch.equal(
            one.chunk(n_examples)[0][both[step.parts != 0]],
            two.chunk(n_examples)[0][both[step.parts != 1]],
        )
        for one, two in [(first, second)]
    ]
    # T1: everybody gets the same examples; T0 and T4: not the same first one
    assert alike == [transfer in ("T1", "T2")] or transfer == "T3"


def test_the_loss_is_the_mean_over_members_and_examples():
    strategy = EnsembleAdversarialTraining(EPS, max_iter=2)
    step = ensemble_step(strategy)
    value, _ = strategy.loss(step)
    expected = []
    for m, member in enumerate(step.module.members):
        rows = step.parts != m
        for part in member.seen(training=True)[0].chunk(3):
            loss = step.criterion.losses[m]
            expected.append(loss(member.layers(part), step.y[rows]))
    torch.testing.assert_close(value, torch.stack(expected).mean())


@pytest.mark.parametrize(
    ("split", "share"), [("leave_one_out", 2 / 3), ("disjoint", 1 / 3), ("none", 1.0)]
)
def test_the_split_is_stratified(split, share):
    strategy = EnsembleAdversarialTraining(EPS, split=split)
    labels = np.repeat(np.arange(7), 31)
    parts = torch.from_numpy(strategy.assign(labels, np.random.RandomState(0)))
    for m in range(3):
        rows = strategy._rows(parts, m).numpy()
        counts = np.bincount(labels[rows])
        assert np.ptp(counts) <= 1
        assert abs(counts.mean() - share * 31) <= 1


def test_a_split_by_classes_leaves_whole_classes_out():
    strategy = EnsembleAdversarialTraining(EPS, split="classes")
    labels = np.repeat(np.arange(7), 10)
    parts = torch.from_numpy(strategy.assign(labels, np.random.RandomState(0)))
    for m in range(3):
        rows = strategy._rows(parts, m).numpy()
        assert set(np.bincount(labels[rows], minlength=7)) == {0, 10}


@pytest.mark.parametrize("loss", ["proxy_anchor", "multi_similarity"])
def test_it_learns_an_embedding_of_all_members(loss):
    metric = AdversarialDeepMetric(
        image_shape=(8, 8),
        embedding_dim=8,
        loss=loss,
        training=EnsembleAdversarialTraining(WIDE, max_iter=2),
        max_iter=4,
        validation_fraction=0.2,
        random_state=0,
        device="cpu",
    ).fit(X_train, y_train)
    Z = metric.transform(X_test)
    assert Z.shape == (len(X_test), 24)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)
    assert metric.score(X_test, y_test) > 0.9
    firsts = [member.backbone.head.weight for member in metric.module_.members]
    assert not torch.equal(firsts[0], firsts[1])
    again = pickle.loads(pickle.dumps(metric))
    np.testing.assert_array_equal(again.transform(X_test), Z)
    # an attack on the metric goes through all of them
    found = EmbeddingShift(threat_model=WIDE, max_iter=3, random_state=0).run(metric, X_test[:20])
    assert found.embedding.shape == (20, 24)


def test_saved_loaded_and_resumed(tmp_path):
    given = {
        "image_shape": (8, 8),
        "loss": "proxy_anchor",
        "training": EnsembleAdversarialTraining(WIDE, n_members=2, max_iter=1, transfer="T3"),
        "random_state": 0,
        "device": "cpu",
        "schedule": None,
    }
    own = AdversarialDeepMetric(max_iter=3, **given).fit(X_train, y_train)
    own.save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(again.transform(X_test), own.transform(X_test))
    path = tmp_path / "c"
    AdversarialDeepMetric(max_iter=2, checkpoint=path, **given).fit(X_train, y_train)
    resumed = AdversarialDeepMetric(max_iter=3, checkpoint=path, resume=True, **given)
    np.testing.assert_array_equal(
        resumed.fit(X_train, y_train).transform(X_test), own.transform(X_test)
    )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_members": 1}, "'n_members' parameter"),
        ({"split": "half"}, "'split' parameter"),
        ({"transfer": "T5"}, "'transfer' parameter"),
    ],
)
def test_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        EnsembleAdversarialTraining(EPS, **params).check()


def test_members_without_rows_of_their_own_take_the_batch():
    strategy = EnsembleAdversarialTraining(EPS, split="disjoint", max_iter=1)
    step = ensemble_step(strategy)
    step.parts = torch.zeros_like(step.parts)
    strategy.loss(step)
    assert [len(member.seen(training=True)[0]) for member in step.module.members] == [72, 72, 72]


@pytest.mark.parametrize("transfer", ["T1", "T2"])
def test_examples_may_be_those_that_move_embeddings(transfer):
    """Each row is moved farther than by the examples of the loss; "mixed" does that to half."""
    apart = {}
    for craft in ("loss", "shift", "mixed"):
        strategy = EnsembleAdversarialTraining(
            EPS, craft=craft, transfer=transfer, max_iter=10, split="none"
        )
        step = ensemble_step(strategy, n=240)
        member = step.module if transfer == "T2" else step.module.members[0]
        clean = step.embed_eval(step.x) if transfer == "T2" else member(step.x)
        x = strategy._examples(step, strategy.pairs(step.module, step.criterion))[0]
        apart[craft] = (member(x) - clean).norm(dim=1).detach()
    assert (apart["shift"] > apart["loss"]).sum() > 2 * (apart["shift"] < apart["loss"]).sum()
    assert apart["shift"].mean() > 1.1 * apart["loss"].mean()
    even, odd = apart["mixed"][::2], apart["mixed"][1::2]
    torch.testing.assert_close(odd, apart["shift"][1::2])
    assert abs(even.mean() - apart["loss"][::2].mean()) < abs(even.mean() - odd.mean())


def test_a_shift_has_to_start_away_from_the_point():
    with pytest.raises(ValueError, match="start must be > 0 for craft='mixed'"):
        EnsembleAdversarialTraining(EPS, craft="mixed", start=0).check()


def test_with_an_accelerator_the_split_is_known():
    pytest.importorskip("accelerate")
    metric = AdversarialDeepMetric(
        image_shape=(8, 8),
        training=EnsembleAdversarialTraining(WIDE, max_iter=1),
        accelerator=True,
        max_iter=3,
        random_state=0,
    ).fit(X_train, y_train)
    assert metric.score(X_test, y_test) > 0.9
