"""Saving and loading without pickle."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_metric_learning import losses
from shared_data import load_digits
from torch import nn
from training import digits_metric

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    EmbeddingShiftTraining,
    MDProp,
    Training,
    branches_of,
)
from skrobust.deep._io import (
    parameter_from_tree,
    parameter_to_tree,
    read_tree,
    write_tree,
)

X, y = load_digits(n_class=4, return_X_y=True)


metric = functools.partial(digits_metric, max_iter=1)


CASES = {
    "plain": {},
    "branches": {"training": MDProp(ThreatModel(np.inf, 1.0, bounds=(0.0, 16.0)), variant="MP'")},
    "parameters": {
        "embedding_dim": 5,
        "module__channels": (4, 8),
        "normalize": False,
        "standardize": False,
        "training": AdversarialTraining(
            ThreatModel(2, 1.0, feature_scale=np.linspace(1, 2, 64), mutable=[3, 5]), max_iter=2
        ),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_round_trip(case, tmp_path):
    own = metric(**CASES[case]).fit(X, y)
    path = tmp_path / "metric.safetensors"
    own.save(path)
    again = AdversarialDeepMetric.load(path, device="cpu")
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    assert branches_of(again.module_) == branches_of(own.module_)
    assert again.history_ == own.history_
    assert again.n_iter_ == 1
    np.testing.assert_array_equal(again.classes_, own.classes_)
    assert str(again.get_params()) == str(own.get_params())
    assert list(again.get_feature_names_out()) == list(own.get_feature_names_out())
    again.fit(X, y)  # it can be fitted anew
    np.testing.assert_array_equal(again.transform(X), own.transform(X))


def test_names_and_text_labels_are_kept(tmp_path):
    frame = pd.DataFrame(X).add_prefix("pixel")
    labels = np.array(["zero", "one", "two", "three"])[y]
    own = metric().fit(frame, labels)
    own.save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m")
    np.testing.assert_array_equal(again.transform(frame), own.transform(frame))
    assert sorted(again.classes_) == ["one", "three", "two", "zero"]
    with pytest.raises(ValueError, match="feature names"):
        again.transform(frame.add_prefix("x"))


class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width))

    def forward(self, x):
        return self.layers(x)


def test_own_modules_have_to_be_given(tmp_path):
    path = tmp_path / "m"
    own = metric(module=Net, module__width=4, loss=losses.NTXentLoss(), batch_size=32).fit(X, y)
    with pytest.warns(UserWarning, match="does not hold loss, which are objects"):
        own.save(path)
    with pytest.raises(ValueError, match=r"weights of a .*Net; give it as module="):
        AdversarialDeepMetric.load(path)
    again = AdversarialDeepMetric.load(path, module=Net)
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    assert again.loss == "multi_similarity"  # an object is not in the file
    with pytest.raises(TypeError, match="Sequential cannot be made with"):
        AdversarialDeepMetric.load(path, module=nn.Sequential)
    again = AdversarialDeepMetric.load(path, module=Net(4))
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    with pytest.raises(ValueError, match="another architecture"):
        AdversarialDeepMetric.load(path, module=Net(5))
    with pytest.raises(ValueError, match="path must be a file in a folder that is there"):
        own.save(tmp_path / "nowhere" / "m")


def lazy(embedding_dim):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))


def test_functions_and_lazy_modules(tmp_path):
    path = tmp_path / "m"
    own = metric(module=lazy, embedding_dim=5).fit(X, y)
    own.save(path)
    with pytest.raises(ValueError, match=r"weights of a .*lazy; give it"):
        AdversarialDeepMetric.load(path)
    again = AdversarialDeepMetric.load(path, module=lazy)
    np.testing.assert_array_equal(again.transform(X), own.transform(X))


def test_what_was_fitted_is_saved_not_what_was_set_since(tmp_path):
    own = metric().fit(X, y)
    expected = own.transform(X)
    own.set_params(normalize=False, module__channels=(2,)).save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m")
    np.testing.assert_array_equal(again.transform(X), expected)


def test_what_was_loaded_is_not_trained_further(tmp_path):
    metric().fit(X, y).save(tmp_path / "m")
    with pytest.raises(ValueError, match="loaded cannot be trained further"):
        AdversarialDeepMetric.load(tmp_path / "m").partial_fit(X, y)


def test_files_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError):
        AdversarialDeepMetric.load(tmp_path / "none")
    write_tree(tmp_path / "tree", {"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="does not hold an AdversarialDeepMetric"):
        AdversarialDeepMetric.load(tmp_path / "tree")


def test_a_newer_file_warns(tmp_path):
    path = tmp_path / "m"
    metric().fit(X, y).save(path)
    write_tree(path, read_tree(path) | {"version": "99.0"})
    with pytest.warns(UserWarning, match="written by skrobust 99.0"):
        AdversarialDeepMetric.load(path)


def test_altered_files_raise_and_run_nothing(tmp_path):
    path = tmp_path / "m"
    metric(module__channels=(4,)).fit(X, y).save(path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    expected = AdversarialDeepMetric.load(path).transform(X)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(60):
        broken = bytearray(data)
        place = rng.integers(header, size=3)
        for k in place:
            broken[k] = rng.integers(256)
        path.write_bytes(broken if rng.random() < 0.7 else data[: rng.integers(len(data))])
        try:
            found = AdversarialDeepMetric.load(path).transform(X)
        except ValueError:
            continue
        np.testing.assert_array_equal(found, expected)
    # a header with other text than ours is refused
    head = json.loads(data[8:header])
    head["__metadata__"]["skrobust"] = json.dumps({"dict": [["class", "os.system"]]})
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[header:])
    with pytest.raises(ValueError, match="not what was written"):
        AdversarialDeepMetric.load(path)
    # and one that is whole, but of another class
    write_tree(path, {"kind": "os.system"})
    with pytest.raises(ValueError, match="does not hold"):
        AdversarialDeepMetric.load(path)


class Scaled(Training):
    """A strategy of one's own, with a component of one's own and one of skrobust's inside."""

    def __init__(self, factor=2.0, inner=None, threat_model=None):
        self.factor, self.inner, self.threat_model = factor, inner, threat_model

    def loss(self, step):
        z = step.embed(step.x)
        return self.factor * step.criterion(z, step.y), z


def test_own_components_are_found_among_those_that_are_given(tmp_path):
    training = Scaled(3.0, Scaled(), ThreatModel(np.inf, 0.1))
    own = metric(training=training).fit(X, y)
    own.save(tmp_path / "m")
    again = AdversarialDeepMetric.load(tmp_path / "m", components=[Scaled], device="cpu")
    assert str(again.get_params()) == str(own.get_params())
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    with pytest.warns(UserWarning, match=r"training \(.*Scaled\)\. Give their classes as comp"):
        again = AdversarialDeepMetric.load(tmp_path / "m")
    assert again.training is None
    np.testing.assert_array_equal(again.transform(X), own.transform(X))


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "skrobust.deep._io.write_tree",
        "skrobust.deep.strategies._mdprop.MDProp",
        "skrobust.deep._io",
        "skrobust.deep.add_branches",  # public, but not a component
        "skrobust.deep.MLP",
        "skrobust.nowhere.MDProp",
        "skrobust._version.__version__",
        "MDProp",
        "",
    ],
)
def test_names_are_resolved_among_public_components_only(name):
    with pytest.raises(LookupError):
        parameter_from_tree({"component": name, "params": {}}, [Scaled])


def test_every_public_component_has_a_name():
    for kind in (AdversarialTraining, EmbeddingShiftTraining, MDProp, ThreatModel):
        tree = parameter_to_tree([kind()])
        assert tree[0]["component"].count(".") == 2
        assert repr(parameter_from_tree(tree, ())) == repr([kind()])
