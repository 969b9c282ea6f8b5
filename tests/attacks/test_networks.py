"""Networks of torch and skorch as victims."""

import numpy as np
import pytest
import torch
from shared_data import load_digits

from skrobust import ThreatModel
from skrobust.adapters import TorchClassifier
from skrobust.attacks import PGD, EmbeddingShift, NoiseAttack

skorch = pytest.importorskip("skorch")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(1, 8, 3, padding=1),
                torch.nn.BatchNorm2d(8),
                torch.nn.ReLU(),
                torch.nn.Flatten(),
                torch.nn.Linear(512, 10),
            )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32).reshape(-1, 1, 8, 8), y[:300].astype(np.int64)


@pytest.fixture(scope="module")
def net(data):
    X, y = data
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return skorch.NeuralNetClassifier(
            Small,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=0.01,
            max_epochs=8,
            batch_size=64,
            train_split=None,
            verbose=0,
        ).fit(X, y)


def test_a_skorch_net_on_images(data, net):
    X, y = data
    threat = ThreatModel(np.inf, 0.2, bounds=(0, 1))
    found = PGD(threat_model=threat, random_state=0).run(net, X[:60], y[:60])
    assert found.X_adv.shape == (60, 1, 8, 8)
    assert found.X_adv.dtype == np.float32
    np.testing.assert_array_equal(found.predicted, net.predict(found.X_adv))
    control = NoiseAttack(threat_model=threat, random_state=0).run(net, X[:60], y[:60])
    assert found.success.mean() > 0.5 > control.success.mean()


def test_the_same_module_alone_and_on_flat_rows(data, net):
    X, y = data
    alone = TorchClassifier(net.module_, np.arange(10))
    flat = TorchClassifier(net.module_, np.arange(10), input_shape=(1, 8, 8))
    np.testing.assert_array_equal(alone.predict(X), net.predict(X))
    threat = ThreatModel(2, 1.0, bounds=(0, 1))
    attack = PGD(threat_model=threat, random_state=0, max_iter=10)
    images = attack.run(alone, X[:40], y[:40])
    rows = attack.run(flat, X[:40].reshape(40, -1), y[:40])
    np.testing.assert_array_equal(images.success, rows.success)
    assert images.success.any()


def test_batch_norms_are_not_updated(data, net):
    X, y = data
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    net.module_.train()
    PGD(threat_model=ThreatModel(2, 0.5), max_iter=3).run(
        TorchClassifier(net.module_, np.arange(10)), X[:20], y[:20]
    )
    assert net.module_.training
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_as_an_embedding(data, net):
    X, _ = data

    class Embedding:
        """As the package's own deep estimators will look."""

        def __init__(self):
            self.module_ = net.module_.layers

        def transform(self, X):
            with torch.no_grad():
                return self.module_.eval()(torch.as_tensor(X)).numpy()

    attack = EmbeddingShift(threat_model=ThreatModel(np.inf, 0.1), random_state=0)
    found = attack.run(Embedding(), X[:30])
    little = attack.set_params(max_iter=1).run(Embedding(), X[:30])
    assert found.value.mean() > 1.3 * little.value.mean()
