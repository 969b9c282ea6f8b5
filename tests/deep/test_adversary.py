"""The adversary of training stays inside its threat model, and raises what it should."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    EmbeddingShiftTraining,
    HardnessManipulation,
    MDProp,
)
from skrobust.deep._adversary import training_adversary
from skrobust.deep._data import InputLayout, compute_moments
from skrobust.utils._torch import eval_mode

CPU = torch.device("cpu")
X = np.random.default_rng(0).random((40, 6)) * [1, 1, 1, 1, 1, 5]


def adversary(model, X=X, layout=None, names=None):
    layout = layout or InputLayout.of(X.shape[1:])
    generator = torch.Generator().manual_seed(0)
    return training_adversary(model, layout, compute_moments(X, layout), names, CPU, generator, X)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("bounds", [None, "data", (0.0, 5.0)])
@pytest.mark.parametrize("scale", [None, [1, 2, 1, 0.5, 1, 3]])
def test_perturbed_rows_satisfy_the_model(norm, bounds, scale):
    model = ThreatModel(
        norm, 0.3, bounds=bounds, feature_scale=scale, mutable=[0, 1, 3, 4, 5], increasing=[1]
    )
    x = torch.from_numpy(X).float()
    w = torch.randn(6, generator=torch.Generator().manual_seed(1))
    found = adversary(model).ascend(x, lambda v: v @ w, max_iter=5, step_size=0.5, start=0.5)
    resolved = model.with_bounds_of(X) if bounds == "data" else model
    budget = resolved.resolve(6)
    moved = (found - x).double().numpy()
    assert (moved[:, 2] == 0).all()
    assert (moved[:, 1] >= 0).all()
    size = np.linalg.norm(
        np.delete(moved / np.where(budget.scale > 0, budget.scale, 1), 2, 1), norm, axis=1
    )
    assert (size <= 0.3 * (1 + 1e-5)).all()
    assert (found.numpy() >= budget.lower - 1e-5).all()
    assert (found.numpy() <= budget.upper + 1e-5).all()
    assert ((found @ w) >= (x @ w) - 1e-6).all()
    assert ((found @ w) > (x @ w)).any()


@pytest.mark.parametrize(("norm", "dual"), [(2, 2), (np.inf, 1)])
def test_a_linear_value_is_raised_to_its_maximum(norm, dual):
    w = torch.tensor([3.0, -4.0, 1.0, 0.5, 2.0, -1.0])
    x = torch.from_numpy(X).float()
    attack = adversary(ThreatModel(norm, 0.3))
    found = attack.ascend(x, lambda v: v @ w, max_iter=20, step_size=0.5, start=1.0)
    gain = (found - x) @ w
    expected = 0.3 * torch.linalg.vector_norm(w, dual)
    torch.testing.assert_close(gain, torch.full_like(gain, expected), rtol=1e-3, atol=0)


def test_the_default_budget_is_that_of_attacks():
    attack = adversary(None)
    assert (attack.scale == 1).all()
    assert attack.norm == 2
    assert attack.eps == pytest.approx(0.1 * np.linalg.norm(X.std(0)), rel=1e-6)
    assert attack.lower is attack.upper is None


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_noise_has_the_full_budget_and_starts_fill_the_ball(norm):
    data = np.random.default_rng(0).random((2000, 40))
    attack = adversary(ThreatModel(norm, 0.5, mutable=[3, 7, 8]), data)
    x = torch.from_numpy(data).float()
    moved = (attack.noise(x) - x).double()
    size = torch.linalg.vector_norm(moved, norm, dim=1)
    torch.testing.assert_close(size, torch.full_like(size, 0.5), rtol=1e-4, atol=0)
    start = attack.draw(x, 1.0)
    assert (start[:, [3, 7, 8]] != 0).all()
    size = torch.linalg.vector_norm(start, norm, dim=1) / 0.5
    assert size.max() <= 1 + 1e-6
    assert abs((size**3).mean() - 0.5) < 0.03  # uniform in three dimensions


def test_images_have_one_deviation_and_features_find_their_pixels():
    images = np.random.default_rng(1).random((30, 6, 5, 3))
    layout = InputLayout.of((6, 5, 3))
    attack = adversary(ThreatModel(np.inf), images, layout)
    assert attack.eps == pytest.approx(0.1 * images.std(), rel=1e-6)
    mutable = np.zeros((6, 5, 3), dtype=bool)
    mutable[2, 1, 0] = True
    one = adversary(ThreatModel(np.inf, 0.1, mutable=mutable.ravel()), images, layout)
    x = layout.to_module(torch.from_numpy(images).float())
    moved = one.noise(x) - x
    assert (moved[:, 0, 2, 1] != 0).all()
    moved[:, 0, 2, 1] = 0
    assert (moved == 0).all()


def test_names_of_features():
    attack = adversary(ThreatModel(2, 0.3, mutable=["b"]), names=list("abcdef"))
    assert attack.scale.tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (ThreatModel(2, -1.0), "eps must be finite and >= 0"),
        (ThreatModel(2, 0.1, bounds=(0.0, 1.0)), "bounds must hold for the clean points"),
        (ThreatModel(2, 0.1, bounds="dta"), "bounds='dta'"),
        (ThreatModel(2, 0.1, feature_scale=[1, 2]), "feature_scale"),
    ],
)
def test_bad_models(model, match):
    with pytest.raises(ValueError, match=match):
        adversary(model)


def test_frozen_restores_each_part():
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    net.train()
    net[1].eval()
    before = net[0].running_mean.clone()
    with eval_mode(net):
        assert not net[0].training
        net(torch.randn(5, 2))
    assert net.training
    assert net[0].training
    assert not net[1].training
    assert torch.equal(net[0].running_mean, before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu():
    device = torch.device("cuda")
    layout = InputLayout.of((6,))
    model = ThreatModel(np.inf, 0.1, bounds="data")
    generator = torch.Generator(device).manual_seed(0)
    attack = training_adversary(
        model, layout, compute_moments(X, layout), None, device, generator, X
    )
    x = torch.from_numpy(X).float()
    w = torch.randn(6)
    found = attack.ascend(
        x.to(device), lambda v: v @ w.to(device), max_iter=5, step_size=1, start=0
    )
    own = adversary(model).ascend(x, lambda v: v @ w, max_iter=5, step_size=1, start=0)
    torch.testing.assert_close(found.cpu(), own)


class Hidden(torch.nn.Module):
    """A network behind something that hides its gradient."""

    def __init__(self, hide=torch.round):
        super().__init__()
        self.hide, self.layers = hide, torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.layers(self.hide(x))


BLIND = {
    "rounds": (lambda x: torch.round(4 * x) / 4, "is 0 for a whole batch"),
    "detached": (lambda x: x.detach(), "is missing for a whole batch"),
    "nan": (lambda x: x + 0 * (x - x).abs().sqrt(), "is 0 for a whole batch"),
}


@pytest.mark.parametrize("hide", BLIND)
@pytest.mark.parametrize(
    "training",
    [
        AdversarialTraining(max_iter=2),
        AdversarialTraining(max_iter=2, objective="trades"),
        EmbeddingShiftTraining(max_iter=2),
        HardnessManipulation(max_iter=2),
        MDProp(max_iter=2, shared_batch_norm=True),
    ],
    ids=lambda t: f"{type(t).__name__} {getattr(t, 'objective', '')}",
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_training_with_a_blind_adversary_warns_once(training, hide):
    """What is trained so withstands noise at most; it is not to look adversarially trained."""
    data, labels = load_iris(return_X_y=True)
    hidden, message = BLIND[hide]

    def fit(module):
        AdversarialDeepMetric(module, training=training, max_iter=2, random_state=0).fit(
            data, labels
        )

    with pytest.warns(UserWarning, match=message) as found:
        fit(Hidden(hidden))
    assert sum("adversary of training" in str(w.message) for w in found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit(Hidden(torch.tanh))
