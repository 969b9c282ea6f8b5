"""Losses of the library, numbers that break down, loaders, precisions, threads and memory."""

import functools
import inspect
import random
import tracemalloc

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from pytorch_metric_learning import losses, miners
from shared_data import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from training import digits_metric

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import AdversarialTraining, EnsembleAdversarialTraining, MDProp
from skrobust.deep._io import read_tree
from skrobust.utils._torch import exact_matmul

X, y = load_digits(n_class=5, return_X_y=True)
X, y = X[:200], y[:200]
EPS = ThreatModel(np.inf, 1.0)


metric = functools.partial(digits_metric, max_iter=1, batch_size=40)


def classes_of(package):
    return [name for name in dir(package) if inspect.isclass(getattr(package, name))]


# what has to be given, or cannot be a loss of labels
NEEDS = {
    "BaseLossWrapper": "loss__loss",
    "BaseMetricLossFunction": "NotImplementedError",
    "BaseMiner": "NotImplementedError",
    "CrossBatchMemory": "loss__loss",
    "EmbeddingsAlreadyPackagedAsTriplets": "do not fit together",
    "EmbeddingRegularizerMixin": "not callable",
    "GenericPairLoss": "loss__mat_based_loss",
    "ManifoldLoss": "ref_labels",
    "MultipleLosses": "loss__losses",
    "RankedListLoss": "loss__margin, loss__Tn",
    "SelfSupervisedLoss": "loss__loss",
    "VICRegLoss": "ref_labels",
    "WeightRegularizerMixin": "not callable",
}
GIVEN = {
    "CrossBatchMemory": {"loss__loss": losses.ContrastiveLoss()},
    "RankedListLoss": {"loss__margin": 0.5, "loss__Tn": 1},
    "MarginLoss": {"loss__learn_beta": True},
    "MultipleLosses": {"loss__losses": [losses.NTXentLoss(), losses.TripletMarginLoss()]},
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", classes_of(losses))
def test_every_loss_of_the_library_as_a_class(name):
    own = metric(loss=getattr(losses, name))
    if name in NEEDS:
        with pytest.raises((TypeError, ValueError), match=NEEDS[name]):
            own.fit(X, y)
    if name not in NEEDS or name in GIVEN:
        own.set_params(**GIVEN.get(name, {}), training=AdversarialTraining(EPS, max_iter=1))
        assert np.isfinite(own.fit(X, y).loss_curve_).all()


@pytest.mark.parametrize("name", classes_of(miners))
def test_every_miner_of_the_library_as_a_class(name):
    own = metric(loss="contrastive", miner=getattr(miners, name))
    if name in NEEDS:
        with pytest.raises(ValueError, match=NEEDS[name]):
            own.fit(X, y)
    else:
        assert np.isfinite(own.fit(X, y).loss_curve_).all()


class EmptyLoss(nn.Module):
    def __init__(self, **kwargs):
        raise KeyError


def test_parameters_that_no_constructor_takes_are_named():
    with pytest.raises(TypeError, match=r"CosFaceLoss cannot be made with .*loss__foo=3"):
        metric(loss=losses.CosFaceLoss, loss__foo=3).fit(X, y)
    with pytest.raises(ValueError, match=r"EmptyLoss cannot be made with .*KeyError"):
        metric(loss=EmptyLoss).fit(X, y)


class BreaksDown(nn.Module):
    """A loss that is not a number, or has no finite gradient, from some step on."""

    def __init__(self, kind="loss", step=9):
        super().__init__()
        self.loss, self.kind, self.step, self.n = losses.ContrastiveLoss(), kind, step, 0

    def forward(self, embeddings, labels, indices_tuple=None):
        self.n += self.training
        found = self.loss(embeddings, labels, indices_tuple)
        if self.n < self.step:
            return found
        if self.kind == "gradient":  # finite itself
            return found + (embeddings[0, 0] - embeddings[0, 0].detach()).abs().sqrt()
        return found * {"loss": np.nan, "infinite": np.inf}[self.kind]


BREAKS = [
    (kind, training)
    for kind in ("loss", "infinite", "gradient")
    for training in (None, MDProp(EPS), AdversarialTraining(EPS, max_iter=1))
]


@pytest.mark.parametrize(("kind", "training"), BREAKS)
def test_a_training_that_breaks_down_keeps_the_best_weights(kind, training, tmp_path):
    given = {"max_iter": 6, "training": training, "schedule": None}
    own = metric(loss=BreaksDown(kind, 14), checkpoint=tmp_path / "c", **given)
    with pytest.warns(ConvergenceWarning, match=r"broke down in epoch 3: .* whole epochs before"):
        own.fit(X, y)
    assert own.n_iter_ == len(own.history_) == 2
    assert np.isfinite(own.transform(X)).all()
    best = np.argmin(own.loss_curve_) + 1
    whole = metric(loss=BreaksDown(step=np.inf), **given | {"max_iter": int(best)}).fit(X, y)
    np.testing.assert_array_equal(own.transform(X), whole.transform(X))
    # the checkpoint is that of the last whole epoch
    state = read_tree(tmp_path / "c")
    assert state["epoch"] == 2
    assert all(torch.isfinite(v).all() for v in state["module"]["weights"].values())
    # and a training can go on
    own.criterion_.loss.step = np.inf
    own.partial_fit(X, y)
    assert np.isfinite(own.transform(X)).all()


def test_the_best_recall_is_kept_where_there_is_one():
    given = {"schedule": None, "learning_rate": 0.03, "validation_fraction": 0.3}
    own = metric(loss=BreaksDown(step=23), max_iter=9, n_iter_no_change=9, **given)
    with pytest.warns(ConvergenceWarning, match="best weights"):
        own.fit(X, y)
    recalls = [row["valid_recall"] for row in own.history_]
    assert len(recalls) >= 3
    from skrobust.deep._batches import split_rows

    codes = np.searchsorted(own.classes_, y)
    _, valid = split_rows(codes, 0.3, "points", np.random.RandomState(own._state.seed))
    assert own.score(X[valid], y[valid]) == pytest.approx(max(recalls))


def test_nothing_is_kept_of_a_first_epoch_that_breaks_down():
    fitted = metric().fit(X, y)
    before = fitted.transform(X)
    with pytest.raises(ValueError, match=r"broke down in epoch 1: the loss is nan in batch 2"):
        fitted.set_params(loss=BreaksDown(step=2)).fit(X, y)
    np.testing.assert_array_equal(fitted.transform(X), before)
    fitted = metric(loss=BreaksDown(step=6)).fit(X, y)
    before = fitted.transform(X)
    with pytest.warns(ConvergenceWarning, match="broke down in epoch 2"):
        fitted.partial_fit(X, y)
    np.testing.assert_array_equal(fitted.transform(X), before)


def listed(samples):
    assert isinstance(samples, list)
    xs, ys = zip(*samples, strict=True)
    return torch.stack(xs), torch.stack(ys)


def test_collate_functions_get_lists_of_samples():
    own = metric(
        iterator_train__collate_fn=listed,
        iterator_valid__collate_fn=listed,
        validation_fraction=0.2,
    ).fit(X, y)
    plain = metric(validation_fraction=0.2).fit(X, y)
    np.testing.assert_array_equal(own.transform(X), plain.transform(X))


@pytest.mark.parametrize("call", ["fit", "transform", "pair_distance"])
def test_loaders_are_refused(call):
    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    own = metric().fit(X, y)
    for rows in (DataLoader(data), data, iter(X)):
        with pytest.raises(TypeError, match="X must be an array"):
            getattr(own, call)(rows, y) if call != "transform" else own.transform(rows)
        with pytest.raises(TypeError, match="X must be an array"):
            metric().fit(rows)  # labels come with the rows


SAMPLERS = {
    "sampler": lambda labels: WeightedRandomSampler(np.ones(len(labels)), len(labels)),
    "batch_sampler": lambda labels: BatchSampler(
        SubsetRandomSampler(range(len(labels))), 25, False
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_as_objects_and_as_functions(name):
    make = SAMPLERS[name]
    given = {f"iterator_train__{name}": make}
    assert metric(validation_fraction=0.2, **given).fit(X, y).n_iter_ == 1
    given = {f"iterator_train__{name}": make(y)}
    assert metric(**given).fit(X, y).n_iter_ == 1
    with pytest.raises(ValueError, match=f"iterator_train__{name} is an object"):
        metric(validation_fraction=0.2, **given).fit(X, y)
    with pytest.raises(ValueError, match="of 100 training rows; give a callable"):
        metric(**given).fit(X[:100], y[:100])


PRECISIONS = [torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("lipschitz", [None, "orthogonal"])
def test_modules_in_other_precisions(dtype, lipschitz, tmp_path):
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 8)]
    module = nn.Sequential(*layers).to(dtype)
    given = {"module": module, "lipschitz": lipschitz, "optimizer": torch.optim.SGD}
    own = metric(checkpoint=tmp_path / "c", training=AdversarialTraining(EPS, max_iter=1), **given)
    own.fit(X, y)
    wide = lipschitz is not None or dtype == torch.float64
    found = own.transform(X)
    assert found.dtype == (np.float64 if wide else np.float32)
    assert own.score(X, y) > 0.5
    with pytest.warns(UserWarning, match="does not hold optimizer"):
        own.save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m", module=module, device="cpu")
    np.testing.assert_array_equal(again.transform(X), found)
    attacked = own._differentiable_embedding()(torch.tensor(X, requires_grad=True))
    np.testing.assert_allclose(attacked.detach().numpy(), found, atol=1e-6)


class Own(nn.Module):
    def __init__(self, embedding_dim=32):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, embedding_dim))

    def forward(self, x):
        return self.layers(x)


def test_a_class_keeps_its_default_size():
    assert metric(module=Own).fit(X, y).embedding_dim_ == 32
    assert metric(module=Own, embedding_dim=5).fit(X, y).embedding_dim_ == 5
    assert metric().fit(X, y).embedding_dim_ == 64


def test_lone_rows_are_not_judged_by():
    labels = np.repeat(np.arange(50), 4)
    with pytest.raises(ValueError, match="none has a partner"):
        metric(validation_fraction=0.25).fit(X, labels)
    # a class with two held-out rows among lone ones
    few = np.r_[np.zeros(20, int), np.repeat(np.arange(1, 21), 4)]
    own = metric(validation_fraction=0.25, max_iter=2).fit(X[:100] + 9.0 * few[:, None], few)
    assert max(row["valid_recall"] for row in own.history_) > 0


def fit_one(seed, params):
    return metric(random_state=seed, **params).fit(X, y).transform(X)


THREADED = {
    "plain": {},
    "adversary": {"training": AdversarialTraining(EPS, max_iter=1), "loss": "proxy_anchor"},
    "samplers": {
        "iterator_train__sampler": lambda labels: [
            *np.random.permutation(len(labels))[:99].tolist(),  # noqa: NPY002
            random.randrange(len(labels)),
        ]
    },
    "ensemble": {"training": EnsembleAdversarialTraining(EPS, n_members=2, max_iter=1)},
}


@pytest.mark.parametrize("case", THREADED)
def test_fits_in_threads_are_those_of_one_thread(case):
    params = THREADED[case]
    serial = [fit_one(seed, params) for seed in range(4)]
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    run = Parallel(2, backend="threading")
    found = run(delayed(metric(random_state=seed, **params).fit)(X, y) for seed in range(4))
    for own, expected in zip(found, serial, strict=True):
        np.testing.assert_array_equal(own.transform(X), expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_full_precision_is_restored_when_threads_overlap():
    before = torch.get_float32_matmul_precision()
    first, second = exact_matmul(), exact_matmul()
    try:
        torch.set_float32_matmul_precision("medium")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "highest"
        second.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("threat_model", [None, ThreatModel(np.inf, 1.0, bounds=(0, 255))])
def test_memory_follows_the_batch(threat_model, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (800, 100, 100, 3), dtype=np.uint8)
    labels = np.arange(800) % 4
    own = AdversarialDeepMetric(
        module=nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)),
        training=AdversarialTraining(threat_model, max_iter=1),
        batch_size=50,
        max_iter=1,
        checkpoint=tmp_path / "c",
        device="cpu",
    )
    tracemalloc.start()
    own.fit(images, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # several megabytes at a time; all of the images in float64 are 192 MB (and tensors of torch
    # are not traced)
    assert peak < 120e6, peak
