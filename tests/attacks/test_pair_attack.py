"""Pairs that are attacked from both sides."""

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import load_digits
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import KernelPCA
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import ClusteringAttack, PairAttack

X, y = load_iris(return_X_y=True)
SAME = StandardScaler(with_mean=False, with_std=False).fit(X)
rng = np.random.default_rng(0)
A, B = rng.permutation(150)[:60], rng.permutation(150)[:60]
TOGETHER = y[A] == y[B]


def attack(eps=0.5, norm=2, **params):
    return PairAttack(ThreatModel(norm, eps), random_state=0, **params)


def test_in_the_space_itself_both_sides_go_straight():
    """‖a − b‖ changes by 2 ε: ε for each side, and not below 0."""
    found = attack(max_iter=100).run(SAME, X[A], X[B], TOGETHER)
    np.testing.assert_allclose(found.distance, np.linalg.norm(X[A] - X[B], axis=1))
    same = TOGETHER & (found.distance > 0)
    np.testing.assert_allclose(found.distance_adv[same], found.distance[same] + 1, atol=1e-3)
    lowered = np.maximum(found.distance[~TOGETHER] - 1, 0)
    np.testing.assert_allclose(found.distance_adv[~TOGETHER], lowered, atol=0.05)
    assert found.perturbation_norm.shape == (60, 2)
    assert found.perturbation_norm.max() <= 0.5
    for side, rows in ((found.first_adv, A), (found.second_adv, B)):
        assert np.linalg.norm(side - X[rows], axis=1).max() <= 0.5


@pytest.mark.parametrize("gradient", ["exact", "nes"])
def test_equal_points_can_be_pushed_apart(gradient):
    found = attack(max_iter=50, gradient=gradient).run(SAME, X[:5], X[:5], np.ones(5))
    np.testing.assert_allclose(found.distance_adv, 1, atol=0.02)


def test_one_side_alone_reaches_less():
    """Both sides of a deep metric: more than the worst that one side can do."""
    D, labels = load_digits(n_class=4, return_X_y=True)
    metric = AdversarialDeepMetric(
        image_shape=(8, 8), max_iter=5, random_state=0, device="cpu"
    ).fit(D[::2], labels[::2])
    first, second = D[1:81:2], D[401:481:2]
    together = labels[1:81:2] == labels[401:481:2]
    model = ThreatModel(np.inf, 1.0, bounds=(0, 16))
    both = PairAttack(model, random_state=0).run(metric, first, second, together)
    fixed = metric.transform(second)
    one_side = np.linalg.norm(metric.transform(both.first_adv) - fixed, axis=1)
    gained = np.where(together, 1, -1) * (both.distance_adv - both.distance)
    assert (gained > 0).mean() > 0.95
    assert (gained > np.where(together, 1, -1) * (one_side - both.distance)).mean() > 0.9


def test_the_two_sides_share_one_ascent(monkeypatch):
    """The gradient of a row is that of the distance of its own pair."""
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    signs = torch.tensor([1.0, 1, -1, -1, 1, 1], dtype=torch.float64)
    value = PairAttack()._value(z, signs)
    (gradient,) = torch.autograd.grad(value.sum() / 2, z)
    direction = torch.nn.functional.normalize(z[0::2] - z[1::2], dim=1)
    torch.testing.assert_close(gradient[0::2], signs[0::2, None] * direction)
    torch.testing.assert_close(gradient[1::2], -signs[0::2, None] * direction)


def test_without_gradients_and_frames():
    kernel = KernelPCA(3, kernel="rbf", gamma=0.1).fit(X)
    with pytest.raises(TypeError, match="gradient"):
        attack().run(kernel, X[A], X[B], TOGETHER)
    found = attack(gradient="nes", max_iter=10).run(kernel, X[A], X[B], TOGETHER)
    gained = np.where(TOGETHER, 1, -1) * (found.distance_adv - found.distance)
    assert (gained > 0).mean() > 0.8
    names = list("abcd")
    scaler = StandardScaler().fit(pd.DataFrame(X, columns=names))
    framed = attack().run(
        scaler, pd.DataFrame(X[A], columns=names), pd.DataFrame(X[B], columns=names), TOGETHER
    )
    assert list(framed.first_adv.columns) == names


def test_each_side_keeps_its_own_text_columns():
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    frame["c"] = np.array(["u", "v", "w"])[y]
    embed = make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(sparse_output=False), ["c"])
    ).fit(frame)
    first, second = frame[:3], frame[50:53]
    found = attack(gradient="nes", max_iter=4).run(embed, first, second, np.ones(3))
    assert found.first_adv["c"].tolist() == ["u"] * 3
    assert found.second_adv["c"].tolist() == ["v"] * 3
    for value, (one, two) in (
        (found.distance, (first, second)),
        (found.distance_adv, (found.first_adv, found.second_adv)),
    ):
        expected = np.linalg.norm(embed.transform(one) - embed.transform(two), axis=1)
        np.testing.assert_allclose(value, expected)


def test_sides_of_different_precision_stay_in_the_budget():
    first, second = (X[:4] + 1e6).astype(np.float32), X[50:54] + 1e6 + 0.01
    found = attack().run(StandardScaler().fit(X + 1e6), first, second, np.ones(4))
    assert np.linalg.norm(found.second_adv - second, axis=1).max() <= 0.5
    assert np.linalg.norm(found.first_adv - first.astype(float), axis=1).max() <= 0.5


@pytest.mark.parametrize("n", [150, 99])
def test_as_an_attack_on_a_clustering(n):
    rows = np.random.default_rng(1).permutation(150)[:n]
    clusters = KMeans(3, n_init=4, random_state=0).fit(X[rows])
    found = ClusteringAttack(attack(2.0)).run(clusters, X[rows], y[rows])
    assert found.scores["all"]["nmi"] < found.scores["clean"]["nmi"] - 0.2
    moved = np.linalg.norm(found.X_adv - X[rows], axis=1)
    assert (moved > 0).all()
    assert moved.max() <= 2.0
    np.testing.assert_allclose(found.found.embedding, X[rows])
    np.testing.assert_allclose(found.found.embedding_adv, found.X_adv)
    some = ClusteringAttack(attack(2.0), share=0.2, random_state=0).run(clusters, X[rows], y[rows])
    np.testing.assert_array_equal(some.X_adv[~some.touched], X[rows][~some.touched])


def test_the_same_seed_gives_the_same():
    one, two = (attack().run(SAME, X[A], X[B], TOGETHER).first_adv for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"together": np.full(60, 2)}, ValueError, "together must be True or False"),
        ({"second": X[B][:5]}, ValueError, "first and second must be equally many; got 60 and 5"),
        ({"together": np.ones(3)}, ValueError, "got 60 pairs and 3 values"),
        ({"second": X[B][:, :2]}, ValueError, "must have the same features"),
        ({"first": X[:0]}, ValueError, "0 sample"),
        ({"estimator": 3}, TypeError, "must have a method transform"),
        ({"first": np.full((60, 4), np.nan)}, ValueError, "NaN"),
    ],
)
def test_bad_input(change, error, match):
    given = {"estimator": SAME, "first": X[A], "second": X[B], "together": TOGETHER} | change
    with pytest.raises(error, match=match):
        attack().run(**given)


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaler = StandardScaler().fit(frame)
    with pytest.raises(ValueError, match="same features, in the same order"):
        attack().run(scaler, frame[:3], frame[list("dcba")][50:53], np.ones(3))


def test_bad_parameters():
    with pytest.raises(ValueError, match="'max_iter' parameter"):
        attack(max_iter=0).run(SAME, X[A], X[B], TOGETHER)
    with pytest.raises(ValueError, match="at least two points"):
        ClusteringAttack(attack(), share=0.001).run(KMeans(3, n_init=1).fit(X), X, y)


def test_pairs_of_polars_frames_are_those_of_pandas():
    polars = pytest.importorskip("polars")
    X = load_iris(as_frame=True).data
    attack = PairAttack(ThreatModel(2, eps=0.4), max_iter=3, random_state=0)
    scaler, together = StandardScaler().fit(X), [1, 0, 1]
    frame = polars.DataFrame(X.to_numpy(), schema=list(X.columns))
    found = attack.run(scaler, frame[:3], frame[100:103], together)
    plain = attack.run(scaler, X[:3], X[100:103], together)
    np.testing.assert_array_equal(found.distance_adv, plain.distance_adv)
    np.testing.assert_array_equal(found.first_adv.to_numpy(), plain.first_adv.to_numpy())
    assert isinstance(found.second_adv, polars.DataFrame)
