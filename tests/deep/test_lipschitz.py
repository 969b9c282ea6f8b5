"""Networks with a known Lipschitz constant: bounds against singular values, and certificates."""

import pickle

import numpy as np
import pytest
import torch
from shared_data import load_digits
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skrobust import AdversarialClustering, AdversarialDeepMetric, ThreatModel, certify
from skrobust.adapters import EmbeddedQueries, as_lipschitz_victim
from skrobust.attacks import PGD
from skrobust.certificates import certify_lipschitz
from skrobust.deep import (
    CertifiedMarginLoss,
    ConvNet,
    EnsembleAdversarialTraining,
    LayerBound,
    LipschitzConvNet,
    LipschitzMLP,
    MaxMin,
    MDProp,
    OrthogonalLinear,
    RescaledConv2d,
    UnitBall,
    layer_bound,
    lipschitz_bound,
)
from skrobust.deep.lipschitz._layers import Standardize, plain
from skrobust.neighbors import RobustPrototypeClassifier
from skrobust.scorers import certified_accuracy_scorer, certified_assignment_scorer

X, y = load_digits(n_class=5, return_X_y=True)
X = X / 16
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1:201:2], y[1:201:2]


def lipschitz_metric(**params):
    given = {
        "lipschitz": "orthogonal",
        "loss": "certified_margin",
        "embedding_dim": 16,
        "max_iter": 10,
        "random_state": 0,
    }
    return AdversarialDeepMetric(**given | params)


@pytest.fixture(scope="module")
def metric():
    return lipschitz_metric().fit(X_train, y_train)


@pytest.fixture(scope="module")
def centroids(metric):
    return make_pipeline(FrozenEstimator(metric), NearestCentroid()).fit(X_train, y_train)


def operator_norm(layer, shape):
    """The largest singular value of the derivative at a random point, in float32."""
    torch.manual_seed(1)
    layer = layer.float().eval()
    x = torch.randn(1, *shape)
    jacobian = torch.autograd.functional.jacobian(layer, x)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


def seeded(make):
    torch.manual_seed(0)
    return make()


def random_kernel(*args, **kwargs):
    layer = nn.Conv2d(*args, **kwargs)
    nn.init.normal_(layer.weight)
    return layer


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (seeded(lambda: nn.Linear(7, 9)), (7,)),
        (seeded(lambda: nn.Linear(9, 4, bias=False)), (9,)),
        (seeded(lambda: OrthogonalLinear(7, 9)), (7,)),
        (seeded(lambda: OrthogonalLinear(9, 4)), (9,)),
    ],
)
def test_dense_bounds_are_the_largest_singular_values(layer, shape):
    bound = lipschitz_bound(layer, shape).lipschitz
    found = operator_norm(layer, shape)
    assert found * (1 - 1e-6) <= bound <= found * (1 + 1e-5)


@pytest.mark.parametrize(
    ("layer", "shape", "tight"),
    [
        (seeded(lambda: random_kernel(2, 3, 3, padding=1)), (2, 7, 6), 1.1),
        (seeded(lambda: random_kernel(3, 2, 5, padding=2)), (3, 9, 9), 1.15),
        (seeded(lambda: random_kernel(2, 2, 3, padding=0)), (2, 6, 6), 1.3),
        (seeded(lambda: random_kernel(2, 2, 3, padding=2, dilation=2)), (2, 8, 8), 1.4),
        (seeded(lambda: random_kernel(2, 4, 3, padding=1, stride=2)), (2, 8, 8), 2.0),
        (seeded(lambda: random_kernel(1, 4, 2, stride=2)), (1, 6, 6), 2.0),
        (seeded(lambda: random_kernel(1, 1, 5, padding=2)), (1, 2, 2), 3.0),
        (seeded(lambda: RescaledConv2d(3, 5)), (3, 6, 6), 1.1),
        (seeded(lambda: RescaledConv2d(6, 4, 5)), (6, 6, 6), 1.1),
    ],
)
def test_bounds_of_convolutions_hold_on_a_concrete_image(layer, shape, tight):
    found = operator_norm(layer, shape)
    bound = lipschitz_bound(layer, shape).lipschitz
    assert found * (1 - 1e-6) <= bound <= tight * found


def test_the_bound_without_fourier_transforms_holds_too(monkeypatch):
    layer = seeded(lambda: random_kernel(2, 3, 3, padding=1))
    monkeypatch.setattr("skrobust.deep.lipschitz._bound._MOST_WORK", 0)
    found = operator_norm(layer, (2, 7, 6))
    assert found <= lipschitz_bound(layer, (2, 7, 6)).lipschitz <= 3 * found


@pytest.mark.parametrize("n", [(3, 8), (8, 3), (4, 4)])
def test_rescaled_convolutions_have_norm_one_at_most(n):
    layer = RescaledConv2d(*n)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    assert 0.2 < operator_norm(layer, (n[0], 8, 8)) <= 1 + 1e-6
    nn.init.zeros_(layer.weight)
    assert operator_norm(layer, (n[0], 8, 8)) == 0


def batch_norm():
    layer = nn.BatchNorm2d(3)
    layer.running_var.copy_(torch.tensor([0.25, 1.0, 4.0]))
    layer.running_mean.copy_(torch.tensor([1.0, -2.0, 3.0]))
    return layer


@pytest.mark.parametrize(
    ("layer", "shape", "tight"),
    [
        (MaxMin(), (5,), 1.001),
        (MaxMin(), (4, 3, 3), 1.001),
        (UnitBall(), (6,), 30),
        (nn.ReLU(), (6,), 1.001),
        (nn.LeakyReLU(1.7), (6,), 1.8),
        (nn.Tanh(), (60,), 1.1),
        (nn.PixelUnshuffle(2), (2, 4, 6), 1.001),
        (nn.Flatten(), (2, 3), 1.001),
        (nn.Dropout(), (4,), 1.001),
        (nn.MaxPool2d(2), (2, 5, 4), 1.001),
        (nn.AvgPool2d(2), (2, 4, 4), 1.001),
        (nn.AdaptiveAvgPool2d(2), (2, 4, 6), 1.001),
        (batch_norm(), (3, 2, 2), 1.001),
        (nn.BatchNorm1d(4), (4,), 1.001),
        (Standardize(torch.ones(3), torch.tensor([0.5, 1.0, 2.0])), (3,), 1.001),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_other_layers(layer, shape, tight):
    found = operator_norm(layer, shape)
    bound = lipschitz_bound(layer, shape).lipschitz
    assert found * (1 - 1e-6) <= bound <= tight * found


@pytest.mark.parametrize("net", [LipschitzMLP((20,), 5), LipschitzConvNet((2, 12, 12), 6)])
def test_networks_move_outputs_by_no_more_than_inputs(net):
    shape = (20,) if isinstance(net, LipschitzMLP) else (2, 12, 12)
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p)
    bound = lipschitz_bound(net, shape)
    assert bound.lipschitz <= 1 + 1e-7
    x = torch.randn(200, *shape, dtype=torch.float64)
    moved = x + torch.randn_like(x) * torch.logspace(-3, 1, 200).reshape(-1, *[1] * len(shape))
    exact = plain(net)
    with torch.no_grad():
        ratio = (exact(x) - exact(moved)).norm(dim=1) / (x - moved).flatten(1).norm(dim=1)
        single = net(x.float())
        assert float((single - exact(x)).abs().max()) < 1e-4
    assert float(ratio.max()) <= bound.lipschitz


def test_the_rounding_bound_holds_in_extended_precision():
    net = nn.Sequential(
        Standardize(torch.full((9,), 3.0), torch.tensor(0.01)), *LipschitzMLP((9,), 4)
    )
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p)
    c, slope = lipschitz_bound(net, (9,)).rounding
    exact = plain(net)
    x = 100 * np.random.default_rng(0).standard_normal((50, 9))
    with torch.no_grad():
        found = exact(torch.from_numpy(x)).numpy()
    z = ((x.astype(np.longdouble) - np.longdouble(3)) / exact[0].std.numpy()).astype(np.longdouble)
    for layer in list(exact)[1:]:
        if isinstance(layer, MaxMin):
            half = z.shape[1] // 2
            z = np.hstack(
                [np.maximum(z[:, :half], z[:, half:]), np.minimum(z[:, :half], z[:, half:])]
            )
        else:
            weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
            z = z @ weight.T.astype(np.longdouble) + bias
    error = np.linalg.norm((found - z).astype(float), axis=1)
    allowed = c + slope * np.linalg.norm(x, axis=1)
    assert (error <= allowed).all()
    assert error.max() > 0
    assert allowed.max() < 1e-6


def test_unknown_layers_are_named_before_training():
    class Own(nn.Module):
        def forward(self, x):
            return 3 * x

    with pytest.raises(TypeError, match=r"layer '1\.0': Own has no known Lipschitz bound"):
        lipschitz_bound(nn.Sequential(nn.ReLU(), nn.Sequential(Own())), (3,))
    for given in (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Own()), ConvNet):
        with pytest.raises(TypeError, match="no known Lipschitz bound"):
            lipschitz_metric(module=given, image_shape=(8, 8), embedding_dim=8).fit(
                X_train, y_train
            )
    with pytest.raises(TypeError, match="Ensemble has no known"):
        lipschitz_metric(training=EnsembleAdversarialTraining(n_members=2)).fit(X_train, y_train)
    with pytest.raises(ValueError, match="batch norm"):
        lipschitz_metric(training=MDProp()).fit(X_train, y_train)

    layer_bound.register(Own)(lambda layer, shape: LayerBound(3.0, operations=1, absolute=3.0))
    assert lipschitz_bound(Own(), (3,)).lipschitz == pytest.approx(3)


@pytest.mark.parametrize(
    ("layer", "shape", "match"),
    [
        (nn.Conv2d(2, 2, 3, groups=2), (2, 4, 4), "groups=1"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), (1, 4, 4), "zeros"),
        (nn.Conv2d(1, 1, 3, padding="same"), (1, 4, 4), "padding in numbers"),
        (nn.MaxPool2d(3, stride=2), (1, 6, 6), "do not overlap"),
        (nn.AvgPool2d(2, ceil_mode=True), (1, 5, 5), "ceil_mode"),
        (nn.AdaptiveAvgPool2d(4), (1, 6, 6), "divides"),
        (nn.BatchNorm1d(3, track_running_stats=False), (3,), "running statistics"),
    ],
)
def test_settings_without_a_bound(layer, shape, match):
    with pytest.raises(ValueError, match=match):
        lipschitz_bound(layer, shape)


def test_bad_parameters():
    with pytest.raises(ValueError, match="'lipschitz' parameter"):
        lipschitz_metric(lipschitz="spectral").fit(X_train, y_train)
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        RescaledConv2d(1, 1, 2)
    with pytest.raises(ValueError, match="target_radius must be finite and > 0; got 0"):
        CertifiedMarginLoss(2, 2, target_radius=0)
    with pytest.raises(ValueError, match="proxies_per_class"):
        CertifiedMarginLoss(2, 2, proxies_per_class=0)
    with pytest.raises(ValueError, match="for images"):
        LipschitzConvNet((5,), 2)


def test_the_estimator(metric, tmp_path):
    Z = metric.transform(X_test)
    assert Z.dtype == np.float64
    assert np.linalg.norm(Z, axis=1).max() <= 1 + 1e-12
    assert metric.score(X_test, y_test) > 0.97
    scale = np.sqrt(np.square(X_train.std(0)).sum())
    assert metric.lipschitz_.lipschitz == pytest.approx(1 / scale, rel=1e-5)
    again = pickle.loads(pickle.dumps(metric))
    np.testing.assert_array_equal(again.transform(X_test), Z)
    metric.save(tmp_path / "net")
    loaded = AdversarialDeepMetric.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.transform(X_test), Z)
    assert loaded.lipschitz_ == metric.lipschitz_
    before = again.lipschitz_
    again.partial_fit(X_train, y_train)
    assert again.lipschitz_ != before
    assert (again.transform(X_test) != Z).any()


def test_the_loss_is_the_hinge_on_the_bound():
    loss = CertifiedMarginLoss(2, 2, target_radius=1.0, temperature=1e-6)
    with torch.no_grad():
        loss.proxies.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    z = torch.tensor([[0.5, 3.0], [-4.0, 0.0], [1.5, 0.0]])
    labels = torch.tensor([0, 0, 0])
    # distances to the plane in the middle
    np.testing.assert_allclose(loss.margins(z, labels).detach(), [0.5, 5.0, -0.5], atol=1e-5)
    assert float(loss(z, labels).detach()) == pytest.approx((0.5 + 0 + 1.5) / 3, abs=1e-5)


def test_several_proxies_of_a_class():
    loss = CertifiedMarginLoss(2, 1, target_radius=1.0, temperature=1e-6, proxies_per_class=2)
    with torch.no_grad():
        loss.proxies.copy_(torch.tensor([[0.0], [2.0], [9.0], [20.0]]))  # of classes 0, 1, 0, 1
    found = loss.margins(torch.tensor([[8.0]]), torch.tensor([0])).detach()
    np.testing.assert_allclose(found, [2.5], atol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        NearestCentroid(),
        KNeighborsClassifier(1),
        KNeighborsClassifier(3),
        RobustPrototypeClassifier(3, max_iter=2, random_state=0),
    ],
    ids=lambda head: type(head).__name__,
)
@pytest.mark.parametrize("scaled", [False, True])
def test_pipelines_are_certified_by_the_same_scorer(metric, head, scaled):
    steps = [FrozenEstimator(metric), head]
    if scaled:
        steps = [StandardScaler(with_std=False), lipschitz_metric(max_iter=3), head]
    pipe = make_pipeline(*steps).fit(X_train, y_train)
    found = certify(pipe, X_test, y_test)
    assert found.bound == "lower"
    assert "Lipschitz constant" in found.method
    assert found.correct.mean() == pipe.score(X_test, y_test)
    score = certified_accuracy_scorer(0.2)(pipe, X_test, y_test)
    assert 0.3 < score <= found.certified(0.2).mean() + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True], ids=["dense", "convolutions"])
@pytest.mark.parametrize(
    "head",
    [
        KNeighborsClassifier(1),
        KNeighborsClassifier(3),
        RobustPrototypeClassifier(3, max_iter=3, random_state=0),
    ],
    ids=["1-NN", "3-NN", "prototypes"],
)
def test_an_attack_through_the_embedding_never_succeeds_inside(metric, head, images):
    """PGD with 50 restarts at the radius of each point; far outside it does succeed."""
    shape = (-1, 8, 8) if images else (-1, 64)
    some = slice(None, None, 3 if images else 1)
    train, labels, test = X_train.reshape(shape)[some], y_train[some], X_test.reshape(shape)
    embed = lipschitz_metric(max_iter=3).fit(train, labels) if images else metric
    pipe = make_pipeline(FrozenEstimator(embed), clone(head)).fit(train, labels)
    found = certify(pipe, test, y_test)
    outside = 0
    for row in np.flatnonzero(found.radius > 0)[: 1 if images else 8]:
        for share, n_restarts in ((1 - 1e-9, 50), (6.0, 10)):
            model = ThreatModel(2.0, found.radius[row] * share)
            attack = PGD(threat_model=model, n_restarts=n_restarts, max_iter=10, random_state=0)
            flipped = attack.run(pipe, test[[row]], y_test[[row]]).success.any()
            outside += flipped and share > 1
            assert share > 1 or not flipped
    assert outside >= (1 if images else 3)


@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("front", [False, True])
def test_ascent_of_the_margin_stays_inside_all_norms(norm, front):
    """20 ascents toward the nearest other centroid, for any norm, with an immutable feature."""
    steps = [StandardScaler(with_std=False), lipschitz_metric(max_iter=4)]
    pipe = make_pipeline(*steps[not front :], NearestCentroid()).fit(X_train, y_train)
    model = ThreatModel(norm, mutable=np.arange(64) != 20, feature_scale=np.linspace(0.5, 2, 64))
    found = certify_lipschitz(pipe, X_test, y_test, threat_model=model)
    assert (found.radius > 0).mean() > 0.5
    metric = pipe[-2]
    centers = torch.from_numpy(pipe[-1].centroids_)
    embed = metric._differentiable_embedding()
    shift = torch.from_numpy(pipe[0].mean_ if front else np.zeros(64))
    scale = torch.from_numpy(np.where(np.arange(64) == 20, 0, np.linspace(0.5, 2, 64)))
    rng = torch.Generator().manual_seed(0)
    x = torch.from_numpy(X_test)
    own = torch.from_numpy(np.searchsorted(pipe.classes_, y_test))
    eps = torch.from_numpy(found.radius)[:, None]
    for _ in range(20):
        eta = torch.randn(x.shape, generator=rng, dtype=torch.float64)
        for _ in range(12):
            eta = eta / torch.linalg.vector_norm(eta, ord=norm, dim=1, keepdim=True) * eps
            eta.requires_grad_()
            far = torch.cdist(embed(x + scale * eta - shift), centers)
            others = far.scatter(1, own[:, None], torch.inf)
            value = (far.gather(1, own[:, None])[:, 0] - others.amin(1)).sum()
            (gradient,) = torch.autograd.grad(value, eta)
            step = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
            if norm == np.inf:
                step = gradient.sign()
            eta = (eta / eps.clamp_min(1e-12) + 0.5 * step).detach()
        size = torch.linalg.vector_norm(eta, ord=norm, dim=1, keepdim=True)
        moved = (x + scale * eta / size * eps * (1 - 1e-9)).numpy()
        kept = pipe.predict(moved) == y_test
        assert kept[found.radius > 0].all()


def test_what_cannot_reach_the_network_changes_nothing(centroids):
    model = ThreatModel(2.0, mutable=np.zeros(64, bool))
    found = certify(centroids, X_test, y_test, threat_model=model)
    right = centroids.predict(X_test) == y_test
    assert np.isinf(found.radius[right]).all()
    assert (found.radius[~right] == 0).all()


def test_images_float32_and_frozen_searches(metric):
    net = lipschitz_metric(max_iter=3).fit(X_train.reshape(-1, 8, 8), y_train)
    pipe = make_pipeline(FrozenEstimator(net), NearestCentroid())
    pipe.fit(X_train.reshape(-1, 8, 8), y_train)
    found = certify(FrozenEstimator(pipe), X_test.reshape(-1, 8, 8), y_test)
    single = certify(pipe, X_test.reshape(-1, 8, 8).astype(np.float32), y_test)
    assert (found.radius > 0).mean() > 0.8
    np.testing.assert_allclose(found.radius, single.radius, atol=1e-4)


def test_clusters_through_the_embedding(metric):
    clusters = AdversarialClustering(FrozenEstimator(metric), n_clusters=5, random_state=0)
    clusters.fit(X_train)
    found = certify(clusters, X_test)
    assert "Lipschitz" in found.method
    assert (found.radius > 0).all()
    score = certified_assignment_scorer(0.1)(clusters, X_test)
    assert 0.5 < score < 1
    assert score == pytest.approx(found.certified(0.1).mean())


def test_errors_of_certify(centroids, metric):
    with pytest.raises(ValueError, match="does not apply behind a network"):
        certify(centroids, X_test, y_test, method="exact")
    with pytest.raises(TypeError, match="no step with a Lipschitz bound"):
        certify_lipschitz(KNeighborsClassifier(1).fit(X_train, y_train), X_test, y_test)
    ordinary = AdversarialDeepMetric(max_iter=1, random_state=0)
    pipe = make_pipeline(ordinary, KNeighborsClassifier(1)).fit(X_train, y_train)
    with pytest.raises(ValueError, match="lipschitz='orthogonal'"):
        certify(pipe, X_test, y_test)


def doubling():
    layer = nn.Linear(3, 3, bias=False)
    nn.init.eye_(layer.weight)
    layer.weight.data *= 2
    return layer


def test_a_layer_that_is_used_several_times_counts_as_often():
    layer, pool = doubling(), nn.LeakyReLU(-3.0)
    assert lipschitz_bound(nn.Sequential(layer, layer, layer), (3,)).lipschitz == pytest.approx(8)
    assert lipschitz_bound(nn.Sequential(pool, layer, pool), (3,)).lipschitz == pytest.approx(18)
    shared = OrthogonalLinear(3, 3)
    net = nn.Sequential(shared, MaxMin(), shared)
    assert not any(isinstance(part, OrthogonalLinear) for part in plain(net))
    once = nn.MaxPool2d(2)
    assert lipschitz_bound(nn.Sequential(once, once), (1, 4, 4)).lipschitz == pytest.approx(1)


class Louder(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(x)


class Standardized(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 10 * weight, bias)


class LouderSequential(nn.Sequential):
    def __call__(self, x):
        return 10 * super().__call__(x)


class OwnOrthogonal(OrthogonalLinear):
    def forward(self, x):
        return 10 * super().forward(x)


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: 10 * output)
    return layer


def patched(layer):
    layer.forward = lambda x: 10 * x
    return layer


@pytest.mark.parametrize(
    ("net", "shape", "match"),
    [
        (nn.Sequential(Louder(3, 3)), (3,), "'0': Louder has a forward of its own"),
        (nn.Sequential(Standardized(1, 1, 3)), (1, 5, 5), "a _conv_forward of its own"),
        (LouderSequential(doubling()), (3,), "'module': LouderSequential has a __call__"),
        (OwnOrthogonal(3, 3), (3,), "'module': OwnOrthogonal has a forward"),
        (nn.Sequential(hooked(doubling())), (3,), "has hooks"),
        (hooked(nn.Sequential(doubling())), (3,), "has hooks"),
        (patched(nn.Sequential(doubling())), (3,), "a forward of its own"),
        (nn.Sequential(patched(nn.ReLU())), (3,), "a forward of its own"),
    ],
)
def test_what_is_not_the_layer_it_is_derived_from_is_refused(net, shape, match):
    with pytest.raises(TypeError, match=match):
        lipschitz_bound(net, shape)


def test_parametrizations_are_bounded_by_what_they_apply():
    layer = nn.utils.parametrizations.weight_norm(doubling())
    layer.parametrizations.weight.original0.data *= 5
    assert lipschitz_bound(layer, (3,)).lipschitz == pytest.approx(10)


def test_dense_layers_on_several_positions():
    net = nn.Sequential(nn.Unflatten(1, (50, 1)), nn.Linear(1, 1), nn.Flatten())
    nn.init.ones_(net[1].weight)
    nn.init.ones_(net[1].bias)
    assert lipschitz_bound(net, (50,)).layers[1].offset == pytest.approx(np.sqrt(50))


def test_weights_that_are_not_finite_prove_nothing(metric):
    layer = doubling()
    layer.weight.data[0, 0] = float("nan")
    assert lipschitz_bound(layer, (3,)).lipschitz == np.inf
    odd = nn.BatchNorm1d(3)
    odd.running_var.copy_(torch.tensor([-1.0, 1, 1]))
    assert lipschitz_bound(odd, (3,)).lipschitz == np.inf
    broken = pickle.loads(pickle.dumps(metric))
    with torch.no_grad():
        next(broken.module_.parameters())[0, 0] = float("inf")
    victim = as_lipschitz_victim(make_pipeline(FrozenEstimator(broken), NearestCentroid()))
    queries = EmbeddedQueries(X_test, X_test, np.ones(len(X_test)), 2.0**-53)
    stretch, slack = victim.movement(queries, ThreatModel().resolve(64, None))
    assert np.isinf(stretch)
    assert np.isinf(slack).all()
    diverged = lipschitz_metric(max_iter=1)
    diverged.fit(X_train, y_train)
    with torch.no_grad():
        next(diverged.net_.bare_module.parameters()).fill_(float("nan"))
    results = diverged.net_.results(diverged.layout_.input_shape)
    assert results["lipschitz_"].lipschitz == np.inf


def test_the_bound_is_that_of_the_weights_that_are_there(metric):
    own = pickle.loads(pickle.dumps(metric))
    head = NearestCentroid().fit(own.transform(X_train), y_train)
    pipe = make_pipeline(FrozenEstimator(own), head)
    before = certify(pipe, X_test, y_test).radius
    with torch.no_grad():
        for p in own.module_.parameters():
            p.data.mul_(3)
    certificate = certify(pipe, X_test, y_test)
    assert "Lipschitz constant 7" in certificate.method or certificate.radius.mean() < before.mean()
    L = lipschitz_bound(own.module_, (64,)).lipschitz
    assert own._lipschitz_map().lipschitz == L
    own.module_.float()
    with pytest.raises(ValueError, match="must compute in float64"):
        certify(pipe, X_test, y_test)


def test_one_scale_for_images_with_channels_of_other_means():
    images = np.repeat(X_train.reshape(-1, 8, 8, 1), 3, axis=3)
    scales = []
    for offset in (np.zeros(3), np.array([0.0, 100.0, -5.0])):
        own = lipschitz_metric(max_iter=1).fit((images + offset).astype(np.float32), y_train)
        scales.append(float(own.module_.standardize.std.flatten()[0]))
    centred = images - images.mean((0, 1, 2))
    truth = np.sqrt(np.square(centred).sum((1, 2, 3)).mean())
    np.testing.assert_allclose(scales, truth, rtol=1e-3)


def test_a_diverging_layer_size_or_shape_is_named():
    for shape, match in (
        (5, "input_shape must be a tuple"),
        ((0,), "input_shape must be a tuple"),
        ((4,), r"layer '0', inputs of shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=match):
            lipschitz_bound(nn.Sequential(doubling()), shape)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        lipschitz_bound("net", (3,))
    with pytest.raises(ValueError, match=r"Conv2d needs images"):
        lipschitz_bound(nn.Conv2d(1, 1, 3), (9,))
    with pytest.raises(ValueError, match="hidden must be a sequence"):
        LipschitzMLP((5,), 2, hidden=7)
    with pytest.raises(ValueError, match="channels must be a sequence"):
        LipschitzConvNet((1, 8, 8), 2, channels=(0,))


def test_data_frames_between_the_steps(metric):
    own = pickle.loads(pickle.dumps(metric)).set_output(transform="pandas")
    pipe = make_pipeline(FrozenEstimator(own), KNeighborsClassifier(1)).fit(X_train, y_train)
    found = certify(pipe, X_test, y_test)  # warnings are errors
    assert (found.radius > 0).mean() > 0.8
