"""Files: trees come back as they were; so does what modules have beside their code."""

import functools
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning import losses, miners
from shared_data import load_digits
from torch import nn
from training import digits_metric

from examples import examples
from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    AntiCollapseTriplet,
    EmbeddingShiftTraining,
    EnsembleAdversarialTraining,
    GradientDiversity,
    HardnessManipulation,
    MDProp,
)
from skrobust.deep._io import read_tree, write_tree

X, y = load_digits(n_class=4, return_X_y=True)
X, y = X[:160], y[:160]
EPS = ThreatModel(np.inf, 1.0)


metric = functools.partial(digits_metric, batch_size=40)


class Odd(nn.Module):
    """A network with every kind of state, under names that mean something elsewhere."""

    def __init__(self, embedding_dim=6, dtype="float32", shape=(), names=("mean", "std")):
        super().__init__()
        kind = getattr(torch, dtype)
        for k, name in enumerate(names):
            value = torch.full(shape, k + 2).to(kind)
            if kind.is_floating_point and k == 0:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_buffer("grown", None)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, embedding_dim))
        self.scales, self.n_seen = {"aux": (1.0, 1.0)}, 0

    def forward(self, x):
        if self.training:  # a state of each kind that the training changes
            self.n_seen += len(x)
            self.grown = torch.arange(float(min(self.n_seen // 10, 50)))
            self.scales = {"aux": (1.0, 1.0 + self.n_seen)}
        move = 0.0 if self.grown is None else self.grown.sum()
        return self.layers(x) * self.scales["aux"][1] + self.n_seen % 7 + move

    def get_extra_state(self):
        return {(0, "seen"): self.n_seen, "parts": [b"\x00", 2 + 1j]}

    def set_extra_state(self, state):
        assert state[0, "seen"] == self.n_seen
        assert state["parts"] == [b"\x00", 2 + 1j]


NAMES = ["mean", "std", "standardize", "weight", "aux", "branch", "a/b", "backbone", "0", "é"]
DTYPES = ["float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int64"]
DTYPES += ["uint8", "bool", "int16", "float8_e5m2"]
ODD = {
    "dtype": st.sampled_from(DTYPES),
    "shape": st.sampled_from([(), (1,), (0,), (3,), (1, 8, 8), (64,)]),
    "names": st.permutations(NAMES).map(lambda names: tuple(names[:3])),
    "standardize": st.booleans(),
    "lent": st.sampled_from(["class", "object"]),
}


@examples(8, derandomize=True)
@given(**ODD)
def test_what_was_saved_loads(tmp_path_factory, dtype, shape, names, standardize, lent):
    path = tmp_path_factory.mktemp("saved") / "m"
    params = {"dtype": dtype, "shape": shape, "names": names}
    if lent == "class":
        params = {f"module__{name}": value for name, value in params.items()}
        module = Odd
    else:
        module, params = Odd(**params), {}
    own = metric(module=module, standardize=standardize, normalize=False, max_iter=1, **params)
    own.fit(X, y).save(path)
    again = AdversarialDeepMetric.load(path, module=module, device="cpu")
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    before, after = own.module_.state_dict(), again.module_.state_dict()
    assert list(before) == list(after)
    for key, value in before.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == after[key].dtype
            assert value.shape == after[key].shape


@pytest.mark.parametrize("training", [MDProp(EPS), GradientDiversity(n_members=2)])
@pytest.mark.parametrize("lipschitz", [None, "orthogonal"])
@pytest.mark.parametrize("standardize", [True, False])
def test_models_of_all_strategies_load(training, lipschitz, standardize, tmp_path):
    if lipschitz and isinstance(training, MDProp):
        training = EmbeddingShiftTraining(EPS, max_iter=1)
    if lipschitz and isinstance(training, GradientDiversity):
        pytest.skip("an ensemble has no bound")
    own = metric(training=training, lipschitz=lipschitz, standardize=standardize, max_iter=1)
    own.fit(X, y).set_params(standardize=not standardize)  # what was fitted counts
    own.save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(again.transform(X), own.transform(X))


def test_weights_in_another_precision_are_refused(tmp_path):
    own = metric(module=Odd().double(), max_iter=1).fit(X, y)
    own.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"module\.to\(torch\.float64\)"):
        AdversarialDeepMetric.load(tmp_path / "m", module=Odd())


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3),
    st.binary(max_size=3), st.complex_numbers(allow_nan=False, allow_infinity=False),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2)))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


@examples(20, derandomize=True)
@given(tree=TREES)
def test_trees_come_back_as_they_were(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("trees") / "t"
    write_tree(path, {"tree": tree})
    assert read_tree(path)["tree"] == tree


@pytest.mark.parametrize(
    "array",
    [
        np.array([1 + 2j]),
        np.array([3, "x", None], dtype=object),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.array([b"ab"]),
        np.array(["é"]),
        np.zeros((0, 3), dtype=np.float16),
        np.longdouble([1.5]),
        np.arange(6, dtype=">i4").reshape(2, 3).T,
    ],
)
def test_arrays_come_back_as_they_were(array, tmp_path):
    # names that would be one path
    write_tree(tmp_path / "t", {"a/b": array, "a": {"b": array[::-1]}})
    found = read_tree(tmp_path / "t")
    for own, expected in ((found["a/b"], array), (found["a"]["b"], array[::-1])):
        assert own.dtype == expected.dtype
        np.testing.assert_array_equal(own, expected)


def memory_loss(size=400):
    return losses.CrossBatchMemory(losses.ContrastiveLoss(), 64, memory_size=size)


STRATEGIES = {
    "standard": (None, 1),
    "adversarial": (AdversarialTraining(EPS, max_iter=3), 1),
    "clean too": (AdversarialTraining(EPS, max_iter=3, clean_weight=0.5), 2),
    "trades": (AdversarialTraining(EPS, objective="trades", max_iter=3), 1),
    "shift": (EmbeddingShiftTraining(EPS, max_iter=3), 1),
    "mdprop": (MDProp(EPS, max_iter=3), 2),
}


@pytest.mark.parametrize("case", STRATEGIES)
def test_only_rows_that_are_trained_on_enter_a_memory(case):
    training, times = STRATEGIES[case]
    own = metric(loss=memory_loss(5000), training=training, validation_fraction=0.25, max_iter=1)
    own.fit(X, y)
    batches = own.history_[0]["train_batch_count"]
    assert own.criterion_.loss.queue_idx == times * 40 * batches


def test_members_of_an_ensemble_remember_their_own_rows():
    training = EnsembleAdversarialTraining(
        EPS, n_members=2, split="none", transfer="T0", craft="loss", max_iter=4
    )
    own = metric(loss=memory_loss(5000), training=training, max_iter=1).fit(X, y)
    batches = own.history_[0]["train_batch_count"]
    assert [part.loss.queue_idx for part in own.criterion_.losses] == [40 * batches] * 2


class Remembering(nn.Module):
    """A loss of one's own, with a memory that is no tensor."""

    def __init__(self):
        super().__init__()
        self.loss, self.pasts, self.calls = losses.ContrastiveLoss(), [], {"n": 0}

    def forward(self, embeddings, labels, indices_tuple=None):
        self.calls["n"] += 1
        self.pasts.append(float(embeddings.detach().mean()))
        return self.loss(embeddings, labels, indices_tuple) * (1 + len(self.pasts) / 10)


class Recalling:
    """A miner of one's own that is no module."""

    def __init__(self):
        self.miner, self.n = miners.TripletMarginMiner(), 0

    def __call__(self, embeddings, labels):
        self.n += 1
        return self.miner(embeddings, labels)


def test_memories_of_any_kind_are_left_alone():
    training = AdversarialTraining(EPS, max_iter=3)
    own = metric(
        loss=Remembering(), miner=Recalling(), training=training, validation_fraction=0.25
    ).fit(X, y)
    batches = sum(row["train_batch_count"] for row in own.history_)
    assert own.criterion_.loss.calls["n"] == len(own.criterion_.loss.pasts) == batches
    assert own.criterion_.miner.n == batches


class StopError(Exception):
    """The process is killed."""


def stopped(estimator, epoch):
    """Fit an estimator up to an epoch, as if it was killed in the next one."""
    from skorch.callbacks import Callback

    class Kill(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == epoch + 1 and len(net.history[-1]["batches"]) == 2:
                raise StopError

    with pytest.raises(StopError):
        estimator.set_params(callbacks=[Kill()]).fit(X, y)


RESUMED = {
    "memory": lambda: {"loss": memory_loss(150)},
    "memory, adversary": lambda: {
        "loss": memory_loss(),
        "training": AdversarialTraining(EPS, max_iter=2, clean_weight=0.5),
        "validation_fraction": 0.2,
    },
    "lists": lambda: {"loss": Remembering()},
    "network": lambda: {"module": Odd, "normalize": False, "validation_fraction": 0.2},
    "triplets": lambda: {"loss": memory_loss(), "training": AntiCollapseTriplet(EPS, max_iter=1)},
    "hardness": lambda: {"loss": memory_loss(), "training": HardnessManipulation(EPS, max_iter=1)},
    "soft margin": lambda: {"loss": losses.DynamicSoftMarginLoss},
}


@pytest.mark.parametrize("case", RESUMED)
def test_memories_are_in_the_checkpoint(case, tmp_path):
    build = partial(metric, max_iter=4)
    whole = build(**RESUMED[case]()).fit(X, y)
    stopped(build(checkpoint=tmp_path / "c", **RESUMED[case]()), 2)
    again = build(checkpoint=tmp_path / "c", resume=True, **RESUMED[case]()).fit(X, y)
    assert again.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))
    for one, other in zip(again.criterion_.buffers(), whole.criterion_.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_cycle_can_be_prolonged_and_killed(tmp_path):
    given = {"checkpoint": tmp_path / "c"}
    metric(max_iter=2, **given).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = metric(max_iter=5, checkpoint=tmp_path / "c", resume=True)
        (tmp_path / "d").write_bytes((tmp_path / "c").read_bytes())
        whole.fit(X, y)
    other = metric(max_iter=5, checkpoint=tmp_path / "d", resume=True)
    stopped(other, 3)
    with pytest.raises(ValueError, match="in the middle of a training with max_iter=5"):
        metric(max_iter=7, checkpoint=tmp_path / "d", resume=True).fit(X, y)
    again = metric(max_iter=5, checkpoint=tmp_path / "d", resume=True).fit(X, y)
    assert whole.n_iter_ == again.n_iter_ == 5
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))


TREE = {
    "numbers": [1, 2.5, float("inf"), True, None, np.float64(3.0), "text"],
    "pair": (1, (2, [3])),
    "tensors": {"a": torch.arange(3), 7: torch.zeros(2, 2, dtype=torch.uint8)},
    "array": np.arange(4.0),
    "labels": np.array(["x", "y"]),
    "names": np.array(["x", "yy"], dtype=object),
}


def test_trees_round_trip(tmp_path):
    path = tmp_path / "tree"
    shared = torch.arange(6.0)
    write_tree(path, TREE | {"same": [shared, shared, shared[:3]]})
    found = read_tree(path)
    assert found["numbers"] == [1, 2.5, float("inf"), True, None, 3.0, "text"]
    assert found["pair"] == (1, (2, [3]))
    assert torch.equal(found["tensors"][7], TREE["tensors"][7])
    for key in ("array", "labels", "names"):
        np.testing.assert_array_equal(found[key], TREE[key])
        assert found[key].dtype.kind == TREE[key].dtype.kind
    assert torch.equal(found["same"][2], shared[:3])


def test_trees_with_something_else_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="/a/0 holds a function"):
        write_tree(tmp_path / "tree", {"a": [print]} | {"a": [lambda: 0]})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        read_tree(tmp_path / "none")
