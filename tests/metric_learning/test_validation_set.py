"""What the defaults learn, for whom, and how held-out points choose."""

import warnings

import numpy as np
import pytest
import torch
from shared_data import load_digits
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.certificates import certify_nearest_neighbors, nearest_neighbor_lower_bound
from skrobust.metric_learning._best_iterate import BestIterate
from skrobust.metric_learning._problem import ValidationSet, split_anchors
from skrobust.numerics import nearest_by_class
from skrobust.objectives import CertificateObjective


def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X, y_train, y = train_test_split(X, y, test_size=0.3, random_state=0)
    scaler = MinMaxScaler().set_output(transform="pandas").fit(X_train)
    return scaler.transform(X_train), scaler.transform(X), y_train, y


def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.2, random_state=0)


def radius(parts, metric=None, **options):
    X_train, X, y_train, y = map(np.asarray, parts)
    found = nearest_neighbor_lower_bound(
        X_train, y_train, X, y, components=None if metric is None else metric.components_, **options
    )
    return found.radius.mean(), 1 - found.correct.mean()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_default_beats_the_euclidean_metric(seed):
    parts = breast_cancer()
    found = radius(parts, RobustMahalanobis(random_state=seed).fit(parts[0], parts[2]))
    euclidean = radius(parts)
    assert found[0] > 1.15 * euclidean[0]
    assert found[1] <= euclidean[1] + 0.005


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_default_beats_the_paper_on_digits(seed):
    parts = digits()
    found = radius(parts, RobustMahalanobis(random_state=seed).fit(parts[0], parts[2]))
    euclidean = radius(parts)
    assert found[0] > 0.614  # the paper's objective: 0.613
    assert found[1] <= euclidean[1] + 0.005


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_few_points_in_many_dimensions(seed):
    """Where there is nothing to learn, the Euclidean metric stays, or almost."""
    rng = np.random.default_rng(seed)
    y = np.arange(80) % 2
    X = rng.standard_normal((80, 60)) + 0.4 * y[:, None]
    X_test = rng.standard_normal((400, 60)) + 0.4 * (np.arange(400) % 2)[:, None]
    parts = X, X_test, y, np.arange(400) % 2
    default = RobustMahalanobis(random_state=0)
    careless = RobustMahalanobis(
        objective=CertificateObjective(temperature=0.01),
        validation_fraction=0,
        max_iter=200,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        default.fit(X, y)
        careless.fit(X, y)
    euclidean = radius(parts)[0]
    assert radius(parts, default)[0] > 0.97 * euclidean
    assert radius(parts, default)[0] >= radius(parts, careless)[0]


@pytest.mark.slow
def test_k_neighbours():
    """On digits learning for K = 11 gains for K = 11, over the Euclidean metric and over K = 1."""
    parts = digits()
    one = RobustMahalanobis(random_state=0).fit(parts[0], parts[2])
    many = RobustMahalanobis(n_neighbors=11, random_state=0).fit(parts[0], parts[2])
    found = {name: radius(parts, m, n_neighbors=11)[0] for name, m in (("1", one), ("11", many))}
    assert found["11"] > 1.05 * radius(parts, n_neighbors=11)[0]
    assert found["11"] > found["1"]


@pytest.mark.slow
def test_a_metric_for_a_threat_model():
    """ℓ∞ with half of the features immutable: learning for it gains over learning for ℓ₂."""
    parts = breast_cancer()
    names = list(parts[0].columns)
    threat = ThreatModel(np.inf, feature_scale=dict.fromkeys(names[:5], 0.5), mutable=names[:15])
    result = {}
    for given in (None, threat):
        metric = RobustMahalanobis(threat_model=given, random_state=0)
        model = make_pipeline(metric, KNeighborsClassifier(1)).fit(parts[0], parts[2])
        found = certify_nearest_neighbors(model, parts[1], parts[3], threat_model=threat)
        result[given is None] = np.minimum(found.radius, 1).mean()
    assert result[False] > 1.05 * result[True]


def test_names_of_features_are_checked():
    parts = breast_cancer()
    threat = ThreatModel(2, mutable=["no such feature"])
    with pytest.raises(ValueError, match="no such feature"):
        RobustMahalanobis(threat_model=threat).fit(parts[0], parts[2])
    threat = ThreatModel(2, mutable=[parts[0].columns[0]])
    with pytest.raises(ValueError, match="mean radius"):
        RobustMahalanobis(threat_model=threat).fit(parts[0].to_numpy(), parts[2])


def test_held_out_points_are_no_anchors():
    slices = [slice(0, 30), slice(30, 31), slice(31, 60)]
    generator = torch.Generator().manual_seed(0)
    anchors, held_out = split_anchors(slices, 0.25, generator)
    assert len(held_out) == 15  # a quarter of 59
    assert sorted(anchors.tolist() + held_out.tolist()) == [k for k in range(60) if k != 30]
    anchors, held_out = split_anchors([slice(0, 2)], 0.99, generator)
    assert len(anchors) == len(held_out) == 1
    assert len(split_anchors(slices, 0, generator)[1]) == 0


def test_held_out_bounds_are_leave_one_out_bounds():
    parts = breast_cancer()
    X, y = parts[0].to_numpy()[:80], parts[2].to_numpy()[:80]
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    ends = np.cumsum(np.bincount(y))
    slices = [slice(0, int(ends[0])), slice(int(ends[0]), int(ends[1]))]
    points = torch.arange(0, 80, 7)
    objective = CertificateObjective(n_neighbors=3).prepare(30)
    judge = ValidationSet(torch.from_numpy(X), slices, points, 80, objective)
    found = judge.radii(torch.eye(30, dtype=torch.float64))
    for k, point in enumerate(points.tolist()):
        rest = np.arange(80) != point
        expected = nearest_neighbor_lower_bound(
            X[rest], y[rest], X[[point]], y[[point]], n_neighbors=3
        )
        assert found[k] == pytest.approx(expected.radius[0], abs=1e-6)
    objective = CertificateObjective(target_radius=0.1).prepare(30)
    judge = ValidationSet(torch.from_numpy(X), slices, points, 80, objective)
    assert judge.radii(torch.eye(30, dtype=torch.float64)).max() == 0.1


class Judge:
    """Radii that are written down."""

    def __init__(self, radii):
        self.by_name = radii

    def radii(self, parameters):
        return torch.tensor(self.by_name[float(parameters[0, 0])])


def chosen(*iterates):
    """Offer iterates 1, 2, …; return the chosen one (0 is the start)."""
    best = BestIterate(torch.zeros(1, 1), Judge(dict(enumerate(iterates))), 0.0)
    for k in range(1, len(iterates)):
        best.offer(torch.full((1, 1), float(k)), 0.0)
    return float(best.chosen.parameters[0, 0])


def test_the_rule_of_choice():
    start = [1.0] * 90 + [0.0] * 10
    more = [1.5] * 90 + [0.0] * 10
    assert chosen(start, more) == 1
    assert chosen(start, [0.89] * 100) == 0  # less radius, though no errors
    assert chosen(start, [9.0] * 89 + [0.0] * 11) == 0  # an error more than at the start
    assert chosen(start, more, [1.49] * 90 + [0.0] * 10) == 1
    # nine tenths of the gain with far fewer errors
    assert chosen(start, more, [1.43] * 94 + [1.2] * 4 + [0.0] * 2) == 2
    # less of the gain than that
    assert chosen(start, more, [1.2] * 98 + [0.0] * 2) == 1
    # as many errors, up to their standard error: the larger radius
    assert chosen(start, [1.49] * 91 + [0.0] * 9, [0.0] * 10 + [1.55] * 90) == 2


def test_what_cannot_be_changed_is_worth_all():
    """An immutable feature that tells the classes: nothing can be reached, and the judge knows."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = np.c_[y + 0.1 * rng.random(200), rng.standard_normal((200, 2))]
    threat = ThreatModel(2, mutable=[1, 2])
    metric = RobustMahalanobis(threat_model=threat, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        metric.fit(X, y)
    model = make_pipeline(metric, KNeighborsClassifier(1)).fit(X, y)
    assert model.score(X, y) == 1
    objective = CertificateObjective(threat_model=threat).prepare(3)
    order = np.argsort(y, kind="stable")
    judge = ValidationSet(
        torch.from_numpy(X[order]), [slice(0, 100), slice(100, 200)], torch.arange(9), 10, objective
    )
    perfect = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.isposinf(judge.radii(perfect)).all()
    anchors = torch.arange(9)
    neighbors = nearest_by_class(judge.X @ perfect.T, judge.class_slices, 10)
    value = objective.value(perfect, judge.X, anchors, neighbors, None)
    assert torch.isfinite(value)
    half = torch.tensor([[1.0, 0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    objective.value(half, judge.X, anchors, neighbors, None).backward()
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_the_size_of_the_start_does_not_matter(size):
    parts = breast_cancer()
    X, y = parts[0].to_numpy(), parts[2]
    one = RobustMahalanobis(max_iter=3, random_state=0).fit(X, y)
    other = RobustMahalanobis(init=size * np.eye(30), max_iter=3, random_state=0).fit(X, y)
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-6)


def test_overflow_is_named():
    X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="X must be scaled"):
        RobustMahalanobis().fit(X * np.float32(1e25), np.arange(40) % 2)
