"""Trainings that are killed, and files that are broken."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses
from shared_data import load_digits
from skorch.callbacks import Callback, LRScheduler
from training import digits_metric as metric

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import AdversarialTraining, HardnessManipulation, MDProp
from skrobust.deep._io import read_tree, write_tree

X, y = load_digits(n_class=4, return_X_y=True)
EPS = ThreatModel(np.inf, 1.0)

SCRIPT = """
import os, signal, sys
import numpy as np
from sklearn.datasets import load_digits
from skorch.callbacks import Callback, LRScheduler
from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import *

class Kill(Callback):
    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == 3 and len(net.history[-1]["batches"]) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

X, y = load_digits(n_class=4, return_X_y=True)
AdversarialDeepMetric(
    {params}, checkpoint=sys.argv[1], callbacks=[*{callbacks}, Kill()]
).fit(X, y)
"""
COMMON = "image_shape=(8, 8), max_iter=5, batch_size=64, random_state=3, device='cpu'"
CASES = {
    "plain": "training=None",
    "mdprop": "training=MDProp(ThreatModel(np.inf, 1.0))",
    "proxies": "loss='proxy_anchor', training=AdversarialTraining(ThreatModel(np.inf, 1.0), "
    "max_iter=2)",
    "memory": "loss='triplet', training=HardnessManipulation(ThreatModel(np.inf, 1.0), max_iter=2)",
    "dropout, stopping": "module=MLP, module__dropout=0.4, validation_fraction=0.3, "
    "n_iter_no_change=4",
    "scheduler": "schedule=None",
}


def build(text, **params):
    names = {
        "AdversarialDeepMetric": AdversarialDeepMetric,
        "AdversarialTraining": AdversarialTraining,
        "HardnessManipulation": HardnessManipulation,
        "MDProp": MDProp,
        "ThreatModel": ThreatModel,
        "np": np,
    }
    from skrobust.deep import MLP

    return eval(f"AdversarialDeepMetric({text})", names | {"MLP": MLP}).set_params(**params)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_is_the_same_to_the_bit(case, tmp_path):
    common = COMMON.replace("image_shape=(8, 8), ", "") if "MLP" in CASES[case] else COMMON
    text = f"{common}, {CASES[case]}"
    scheduler = 'LRScheduler(policy="StepLR", step_size=1, gamma=0.7)'
    callbacks = f"[{scheduler}]" if case == "scheduler" else "[]"
    path = tmp_path / "training.safetensors"
    code = textwrap.dedent(SCRIPT).format(params=text, callbacks=callbacks)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_tree(path)["epoch"] == 2

    own = [LRScheduler(policy="StepLR", step_size=1, gamma=0.7)] if case == "scheduler" else None
    whole = build(text, callbacks=own).fit(X, y)
    resumed = build(text, callbacks=own, checkpoint=path, resume=True).fit(X, y)
    assert resumed.n_iter_ == whole.n_iter_
    assert resumed.loss_curve_ == whole.loss_curve_
    for key, value in whole.module_.state_dict().items():
        assert torch.equal(value, resumed.module_.state_dict()[key]), key
    np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))


def test_without_a_file_yet_it_starts(tmp_path):
    own = metric(checkpoint=tmp_path / "c", resume=True).fit(X, y)
    np.testing.assert_array_equal(own.transform(X), metric().fit(X, y).transform(X))


def test_a_finished_training_is_not_repeated_and_can_be_prolonged(tmp_path):
    own = metric(checkpoint=tmp_path / "c", schedule=None).fit(X, y)
    with pytest.warns(UserWarning, match="nothing left to train"):
        again = metric(checkpoint=tmp_path / "c", schedule=None, resume=True).fit(X, y)
    assert again.n_iter_ == 2
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    longer = metric(checkpoint=tmp_path / "c", schedule=None, resume=True, max_iter=4).fit(X, y)
    whole = metric(schedule=None, max_iter=4).fit(X, y)
    np.testing.assert_array_equal(longer.transform(X), whole.transform(X))


def test_without_a_seed_the_checkpoint_has_it(tmp_path):
    path = tmp_path / "c"
    own = metric(checkpoint=path, random_state=None, schedule=None, max_iter=1).fit(X, y)
    seed = own._state.seed
    resumed = metric(checkpoint=path, random_state=None, schedule=None, resume=True).fit(X, y)
    whole = metric(random_state=None, schedule=None)
    assert resumed._state.seed == seed
    assert resumed.n_iter_ == 2
    assert whole.fit(X, y)._state.seed != seed


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"learning_rate": 0.1}, "differs in learning_rate"),
        ({"module__channels": (4,)}, "differs in module__channels"),
        ({"training": MDProp(EPS)}, "differs in training"),
        ({"batch_size": 32, "loss": "triplet"}, "differs in batch_size, loss"),
        ({"random_state": 1}, "differs in random_state"),
        ({"loss": losses.TripletMarginLoss(0.4)}, "differs in loss"),
        ({"optimizer": lambda p, lr: torch.optim.SGD(p, lr=lr / 100)}, "differs in optimizer"),
        ({"max_iter": 1}, "has made 2 epochs; max_iter=1 is less"),
    ],
)
def test_a_checkpoint_of_another_training(params, match, tmp_path, monkeypatch):
    path = tmp_path / "c"
    metric(checkpoint=path).fit(X, y)
    monkeypatch.setattr("skrobust.deep._net.MetricNet.fit_loop", None)
    with pytest.raises(ValueError, match=match):
        metric(checkpoint=path, resume=True, **params).fit(X, y)
    with pytest.raises(ValueError, match="differs in X, y"):
        metric(checkpoint=path, resume=True).fit(np.where(np.arange(64) == 20, 1, X), y)


@pytest.mark.parametrize("margin", [0.1, 0.4])
def test_parameters_of_objects_are_compared(margin, tmp_path):
    path = tmp_path / "c"
    metric(checkpoint=path, loss=losses.TripletMarginLoss(0.1)).fit(X, y)
    again = metric(checkpoint=path, resume=True, loss=losses.TripletMarginLoss(margin))
    if margin == 0.1:
        with pytest.warns(UserWarning, match="nothing left to train"):
            assert again.fit(X, y).n_iter_ == 2
    else:
        with pytest.raises(ValueError, match="differs in loss"):
            again.fit(X, y)


class Memory(Callback):
    """Keeps a list, and something that cannot be written."""

    def on_train_begin(self, net, **kwargs):
        self.values_ = []
        self.open_ = open

    def on_epoch_end(self, net, **kwargs):
        self.values_.append(len(net.history))


def test_callbacks_keep_what_can_be_written(tmp_path):
    path = tmp_path / "c"
    given = {"checkpoint": path, "schedule": None}
    with pytest.warns(UserWarning, match=r"Memory\.open_ cannot be written"):
        metric(callbacks=[("memory", Memory())], **given).fit(X, y)
    again = metric(callbacks=[("memory", Memory())], resume=True, max_iter=3, **given)
    with pytest.warns(UserWarning, match=r"Memory\.open_"):
        again.fit(X, y)
    assert dict(again.net_.callbacks_)["memory"].values_ == [1, 2, 3]


class Net(torch.nn.Module):
    width = 5

    def __init__(self, input_shape, embedding_dim):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, self.width), torch.nn.Linear(self.width, 2)
        )

    def forward(self, x):
        return self.layers(x)


def test_a_checkpoint_of_another_architecture(tmp_path, monkeypatch):
    path = tmp_path / "c"
    metric(module=Net, checkpoint=path).fit(X, y)
    monkeypatch.setattr(Net, "width", 6)
    monkeypatch.setattr("skrobust.deep._net.MetricNet.fit_loop", None)
    with pytest.raises(ValueError, match=r"another architecture: backbone\.layers\.1\.bias"):
        metric(module=Net, checkpoint=path, resume=True).fit(X, y)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other"])
def test_broken_files_are_told(damage, tmp_path):
    path = tmp_path / "c"
    metric(checkpoint=path).fit(X, y)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "noise":
        path.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8)))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        write_tree(path, {"something": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"is broken|not hold the checkpoint of a training"):
        metric(checkpoint=path, resume=True).fit(X, y)
