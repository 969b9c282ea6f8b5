import numpy as np
import pytest
import torch
from oracles import oracle_lower_bound
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.numerics import nearest_by_class
from skrobust.objectives import (
    LOSSES,
    CertificateObjective,
    pair_margins,
    smooth_largest,
    triplet_margin,
)
from skrobust.scorers import mean_certified_radius_scorer

SLICES = [slice(0, 10), slice(10, 22), slice(22, 30)]


def problem(seed=0, n_candidates=30):
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.standard_normal((30, 4)))
    for rows in SLICES:
        X[rows] += torch.from_numpy(1.5 * rng.standard_normal(4))
    G = torch.from_numpy(rng.standard_normal((3, 4)))
    return G, X, nearest_by_class(X @ G.T, SLICES, n_candidates)


def test_pairs_are_triplets():
    G, X, _ = problem()
    x, x_i, x_j = X[:5], X[5:20].reshape(5, 3, 4), X[20:30].reshape(5, 2, 4)
    found = pair_margins(G, x, x_i, x_j)
    assert found.shape == (5, 3, 2)
    for i in range(3):
        for j in range(2):
            expected = triplet_margin(G, x, x_i[:, i], x_j[:, j])
            torch.testing.assert_close(found[:, i, j], expected)


def test_smooth_order_statistics():
    values = torch.tensor([[3.0, 1.0, 2.0, -torch.inf], [0.0, 0.0, 0.0, 0.0]])
    for order, expected in ((1, [3, 0]), (2, [2, 0]), (3, [1, 0])):
        found = smooth_largest(values, order, 1e-3)
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=found.dtype), atol=0.01, rtol=0
        )
        assert (smooth_largest(values, order, 1.0) >= found - 1e-6).all()
    assert smooth_largest(values, 5, 1.0).tolist() == [-torch.inf, -torch.inf]
    assert smooth_largest(values, 4, 1.0).tolist() == [-torch.inf, 0.0]


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 5])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_without_temperature_it_is_the_bound(norm, n_neighbors):
    """With all points as candidates: the oracle's leave-one-out bound, where it is positive."""
    G, X, neighbors = problem()
    scale, dual = np.array([1.0, 0.5, 0.0, 2.0]), {1: np.inf, 2: 2, np.inf: 1}[norm]
    threat = ThreatModel(norm, feature_scale=[1, 0.5, 1, 2], mutable=[0, 1, 3])
    objective = CertificateObjective(n_neighbors=n_neighbors, threat_model=threat)
    found = objective.bounds(G, X, torch.arange(30), neighbors, temperature=1e-7).numpy()
    y = np.repeat([0, 1, 2], [10, 12, 8])
    n_positive = 0
    for k in range(30):
        rest = np.arange(30) != k
        expected = oracle_lower_bound(
            X[rest].numpy(), y[rest], X[[k]].numpy(), y[[k]], G.numpy(), n_neighbors, scale, dual
        )[0]
        assert max(found[k], 0) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        n_positive += expected > 0
    assert n_positive >= 3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_gradients_match_finite_differences(norm, n_neighbors, loss):
    G, X, neighbors = problem(1, 5)
    # a temperature of its own for each batch has no gradient: compare at a fixed one
    objective = CertificateObjective(
        loss, n_neighbors=n_neighbors, threat_model=ThreatModel(norm, mutable=[0, 1, 2])
    )

    def value(components):
        bound = objective.bounds(components, X, torch.arange(30), neighbors, unit=0.3)
        from skrobust.objectives import margin_loss

        return margin_loss(bound, loss, target_radius=0.3).mean()

    assert torch.autograd.gradcheck(value, G.clone().requires_grad_(), eps=1e-7, atol=1e-5)


def test_few_candidates_and_scale():
    G, X, neighbors = problem(2, 5)
    objective = CertificateObjective(n_neighbors=11)
    assert objective.value(G, X, torch.arange(30), neighbors, None) == 0
    objective = CertificateObjective(n_neighbors=3)
    value = objective.value(G, X, torch.arange(30), neighbors, None)
    scaled = objective.value(5 * G, X, torch.arange(30), neighbors, None)
    torch.testing.assert_close(value, scaled)
    farther = objective.value(G, 3 * X, torch.arange(30), neighbors, None)
    torch.testing.assert_close(3 * value, farther)
    assert clone(objective).get_params()["n_neighbors"] == 3


@pytest.mark.slow
def test_learns_a_larger_radius_than_the_euclidean_metric():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.min(0)) / np.ptp(X, axis=0)
    X_train, X, y_train, y = train_test_split(X, y, test_size=0.2, random_state=0)
    score = mean_certified_radius_scorer()
    euclidean = score(KNeighborsClassifier(1).fit(X_train, y_train), X, y)
    for seed in range(2):
        metric = RobustMahalanobis(objective=CertificateObjective(), random_state=seed)
        model = make_pipeline(metric, KNeighborsClassifier(1)).fit(X_train, y_train)
        assert score(model, X, y) > 1.1 * euclidean
