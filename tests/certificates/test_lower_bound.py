"""The k-NN lower bound: against the oracle, on degenerate and real data, and under attack."""

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import KINDS, oracle_lower_bound, problems
from shared_data import load_digits
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler

from examples import examples
from skrobust import ThreatModel
from skrobust.adapters import AffineFunction, as_nearest_neighbor_rule
from skrobust.certificates import (
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
    nearest_neighbor_lower_bound,
)
from skrobust.certificates.nearest_neighbor._lower_bound import BoundJob
from skrobust.certificates.nearest_neighbor._lower_bound import lower_bound as bound_of


def lower_bound(rule, queries, labels, budget, device, dtype=None):
    K = rule.n_neighbors
    a, b, limit = (K + 1) // 2, K // 2 + 1, rule.reach(budget.scale, queries.unit)
    job = BoundJob(rule, queries, labels, a, b, budget, limit, device, dtype)
    return bound_of(job)[0]


NEIGHBORS = (1, 2, 3, 4, 5, 11)
METRICS = {"euclidean": None, "full": (4, 4), "rank 2": (2, 4), "tall": (6, 4), "singular": (4, 4)}


def metric(name, rng):
    if METRICS[name] is None:
        return None
    G = rng.standard_normal(METRICS[name])
    if name == "singular":
        G[2] = G[1]
        G[3] = 0
    return G


@pytest.mark.parametrize("n_neighbors", NEIGHBORS)
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_oracle(kind, name, n_neighbors):
    rng = np.random.default_rng(n_neighbors)
    X_train, y_train, X, y = problems(rng, kind)
    G = metric(name, rng)
    expected = oracle_lower_bound(X_train, y_train, X, y, G, n_neighbors)
    found = nearest_neighbor_lower_bound(
        X_train, y_train, X, y, components=G, n_neighbors=n_neighbors
    )
    np.testing.assert_allclose(found.radius, expected, rtol=1e-6, atol=1e-9)
    finite = np.isfinite(expected)
    # rounded down, up to the oracle's own rounding
    assert (found.radius[finite] <= expected[finite] * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("n_neighbors", [1, 2, 5])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("mutable", [[0, 1, 2, 3], [1, 3]])
def test_equals_the_oracle_under_threat_models(norm, mutable, name, n_neighbors):
    rng = np.random.default_rng(n_neighbors)
    X_train, y_train, X, y = problems(rng, "random")
    G = metric(name, rng)
    scale = rng.uniform(0.1, 3, 4)
    model = ThreatModel(norm, feature_scale=scale, mutable=mutable)
    effective = np.where(np.isin(np.arange(4), mutable), scale, 0)
    dual = {1: np.inf, 2: 2, np.inf: 1}[norm]
    expected = oracle_lower_bound(X_train, y_train, X, y, G, n_neighbors, effective, dual)
    found = nearest_neighbor_lower_bound(
        X_train, y_train, X, y, components=G, n_neighbors=n_neighbors, threat_model=model
    )
    np.testing.assert_allclose(found.radius, expected, rtol=1e-6, atol=1e-9)
    assert found.norm == norm


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 11])
@pytest.mark.parametrize("name", ["pendigits", "satimage"])
def test_equals_the_oracle_on_real_data(load_shared, name, n_neighbors):
    X_train, X, y_train, y = load_shared(name)
    scaler = MinMaxScaler().fit(X_train)
    rng = np.random.default_rng(0)
    kept = rng.choice(len(X_train), 300, replace=False)
    X_train, y_train = scaler.transform(X_train[kept]), y_train[kept]
    X, y = scaler.transform(X[:6]), y[:6]
    G = np.eye(X.shape[1]) + 0.3 * rng.standard_normal((X.shape[1], X.shape[1]))
    expected = oracle_lower_bound(X_train, y_train, X, y, G, n_neighbors)
    assert (expected > 0).any()
    found = nearest_neighbor_lower_bound(
        X_train, y_train, X, y, components=G, n_neighbors=n_neighbors
    )
    np.testing.assert_allclose(found.radius, expected, rtol=1e-6, atol=1e-9)


def test_reference_points_of_the_euclidean_metric():
    """Published-method figures on digits and breast_cancer, measured independently."""
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, test_size=0.2, random_state=0)
    for k, errors, clean in (
        (1, [0.019, 0.094, 0.331, 0.650], 0.011),
        (11, [0.044, 0.178, 0.444, 0.714], None),
    ):
        found = nearest_neighbor_lower_bound(parts[0], parts[2], parts[1], parts[3], n_neighbors=k)
        got = [1 - found.certified(eps).mean() for eps in (0.1, 0.3, 0.5, 0.7)]
        np.testing.assert_allclose(got, errors, atol=6e-4)
        if k == 1:
            assert found.radius.mean() == pytest.approx(0.5926, abs=5e-5)
            assert 1 - found.correct.mean() == pytest.approx(clean, abs=6e-4)

    X, y = load_breast_cancer(return_X_y=True)
    X_train, X, y_train, y = train_test_split(X, y, test_size=0.2, random_state=0)
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1)).fit(X_train, y_train)
    scaled = model[0].transform(X)
    found = certify_nearest_neighbors(model[-1], scaled, y)
    assert found.radius.mean() == pytest.approx(0.2287, abs=5e-5)
    got = [1 - found.certified(eps).mean() for eps in (0.05, 0.1, 0.2, 0.3)]
    np.testing.assert_allclose(got, [0.149, 0.272, 0.544, 0.702], atol=6e-4)


def test_even_k_has_two_orders():
    """For K = 2, one order of 1 for both would claim 0.25 where the truth is 0.15."""
    X_train, y_train, x = [[0.0], [0.2], [0.3]], ["b", "b", "a"], np.array([[0.0]])
    found = nearest_neighbor_lower_bound(X_train, y_train, x, ["b"], n_neighbors=2)
    assert found.radius[0] == pytest.approx(0.15)
    victim = KNeighborsClassifier(2).fit(X_train, y_train)
    # the tie of one vote each goes to the smaller label
    assert victim.predict(x + 0.1499)[0] == "b"
    assert victim.predict(x + 0.1501)[0] == "a"
    mixed = nearest_neighbor_lower_bound([[0.0], [0.2], [0.3]], [0, 1, 0], x, [0], n_neighbors=2)
    assert mixed.radius[0] == 0
    assert mixed.status[0] == "uncertified"


@pytest.mark.parametrize("n_neighbors", [1, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_search_is_sound_and_close(kind, n_neighbors):
    X_train, y_train, X, y = problems(np.random.default_rng(1), kind, n_train=200, n_test=40)
    model = KNeighborsClassifier(n_neighbors).fit(X_train, y_train)
    rule = as_nearest_neighbor_rule(model)
    queries, cpu = rule.embed(X), torch.device("cpu")
    for norm in (1, 2, np.inf):
        budget = ThreatModel(norm).resolve(X.shape[1])
        exact = lower_bound(rule, queries, y, budget, cpu, torch.float64)
        single = lower_bound(rule, queries, y, budget, cpu, torch.float32)
        np.testing.assert_allclose(single, exact, rtol=1e-6, atol=1e-9)


def test_a_row_does_not_depend_on_its_batch():
    X_train, y_train, X, y = problems(np.random.default_rng(2), "random", 300, 60)
    whole = nearest_neighbor_lower_bound(X_train, y_train, X, y, n_neighbors=3).radius
    one_by_one = [
        nearest_neighbor_lower_bound(X_train, y_train, X[[i]], y[[i]], n_neighbors=3).radius[0]
        for i in range(len(X))
    ]
    np.testing.assert_array_equal(whole, one_by_one)
    from sklearn import config_context

    with config_context(working_memory=1e-3):
        small = nearest_neighbor_lower_bound(X_train, y_train, X, y, n_neighbors=3).radius
    np.testing.assert_array_equal(whole, small)


def test_value_does_not_change_when_the_metric_is_scaled():
    rng = np.random.default_rng(3)
    X_train, y_train, X, y = problems(rng, "random")
    G = rng.standard_normal((3, 4))
    one = nearest_neighbor_lower_bound(X_train, y_train, X, y, components=G).radius
    for c in (1e-6, 1e6):
        scaled = nearest_neighbor_lower_bound(X_train, y_train, X, y, components=c * G).radius
        np.testing.assert_allclose(scaled, one, rtol=1e-9)


def attack(model, rule, X, y, radius, rng, share=0.9999, n_random=30):
    """Search for a flip inside the radii: bisector normals and random directions."""
    A = np.eye(rule.n_features_in) if rule.matrix is None else rule.matrix
    flips = 0
    for x, label, r in zip(X, y, radius, strict=True):
        if not np.isfinite(r) or r <= 0:
            continue
        D = ((rule.embed(x[None]).points[0] - rule.points) ** 2).sum(1)
        same = rule.classes[rule.labels] == label
        i = np.argsort(np.where(same, D, np.inf))[:3]
        j = np.argsort(np.where(same, np.inf, D))[:15]
        directions = np.concatenate(
            [
                (A.T @ (rule.points[j][:, None] - rule.points[i]).reshape(-1, A.shape[0]).T).T,
                rng.standard_normal((n_random, len(x))),
            ]
        )
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        directions = (directions / np.where(norms == 0, 1, norms))[norms[:, 0] > 0]
        flips += int((model.predict(x + share * r * directions) != label).sum())
    return flips


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_no_flip_inside_the_radius(kind, n_neighbors):
    rng = np.random.default_rng(4)
    X_train, y_train, X, y = problems(rng, kind, 60, 20)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors))
    model.fit(X_train, y_train)
    found = certify_nearest_neighbors(model, X, y)
    assert attack(model, as_nearest_neighbor_rule(model), X, y, found.radius, rng) == 0


def test_the_attack_of_this_file_finds_flips_outside_the_radius():
    rng = np.random.default_rng(4)
    X_train, y_train, X, y = problems(rng, "random", 60, 20)
    model = KNeighborsClassifier(1).fit(X_train, y_train)
    found = certify_nearest_neighbors(model, X, y)
    rule = as_nearest_neighbor_rule(model)
    assert attack(model, rule, X, y, found.radius, rng, share=1.5) > 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("offset", "spread"), [(0, 1), (1e6, 0.01), (1e6, 1), (1e3, 1e-3), (0, 1e-30), (0, 1e12)]
)
@pytest.mark.parametrize("scaled", [False, True])
def test_no_flip_where_the_victim_rounds(offset, spread, dtype, scaled):
    """The victim's own distances are wrong far off the centre: its rounding is subtracted."""
    rng = np.random.default_rng(5)
    X_train, y_train, X, y = problems(rng, "random", 60, 30)
    X_train = (offset + spread * X_train).astype(dtype)
    X = (offset + spread * X).astype(dtype)
    knn = KNeighborsClassifier(1, algorithm="brute")
    model = make_pipeline(StandardScaler(), knn) if scaled else knn
    model.fit(X_train, y_train)
    found = certify_nearest_neighbors(model, X, y)
    right = model.predict(X) == y
    assert not (found.radius[~right] > 0).any()
    rule = as_nearest_neighbor_rule(model)
    assert attack(model, rule, X, y, found.radius, rng) == 0
    if offset == 0 and dtype == np.float64:
        assert (found.radius[right] > 0).all()


@pytest.mark.parametrize("exact", [False, True])
def test_no_flip_where_centring_rounds(exact):
    """One cluster far away shifts the centre, not the victim's rounding near the origin."""
    rng = np.random.default_rng(0)
    X_train = np.r_[1e-2 * rng.standard_normal((40, 4)), 1e5 + rng.standard_normal((40, 4))]
    X, y_train = 1e-2 * rng.standard_normal((30, 4)), np.arange(80) % 2
    y = np.arange(30) % 2
    model = KNeighborsClassifier(1).fit(X_train, y_train)
    if exact:
        found = exact_nearest_neighbor_radius(model, X, y)
    else:
        found = certify_nearest_neighbors(model, X, y)
    assert (found.radius > 0).sum() > 5
    rule = as_nearest_neighbor_rule(model)
    assert attack(model, rule, X, y, found.radius, rng, share=1 - 1e-9) == 0


def cast(X):
    """Compute in float32 inside, float64 outside."""
    return (np.asarray(X).astype(np.float32) * np.float32(1.7)).astype(np.float64)


class Casting(TransformerMixin, BaseEstimator):
    """A step of its own that casts."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return cast(X)

    def _affine_map(self):
        return np.float64(np.float32(1.7)) * np.eye(4), np.zeros(4)


@pytest.mark.parametrize(
    "steps",
    [
        [MaxAbsScaler()],
        [PCA(3, whiten=True)],
        [PCA(3), MaxAbsScaler()],
        [NeighborhoodComponentsAnalysis(max_iter=2)],
        [make_pipeline(StandardScaler(), Casting())],
        [Casting()],
        [FunctionTransformer(AffineFunction(cast))],
        [ColumnTransformer([("a", "passthrough", [0, 0, 1]), ("b", MinMaxScaler(), [2, 3])])],
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_flip_where_steps_round(steps, dtype):
    """Fitted on float32 data, asked about float64 data; float32 inside a step."""
    rng = np.random.default_rng(9)
    X_train, y_train, X, y = problems(rng, "random", 80, 40)
    model = make_pipeline(*steps, KNeighborsClassifier(1, algorithm="brute"))
    model.fit((100 + X_train).astype(dtype), y_train)
    X = 100 + X
    rule = as_nearest_neighbor_rule(model)
    found = certify_nearest_neighbors(model, X, y)
    assert (found.radius > 0).any()
    assert attack(model, rule, X, y, found.radius, rng, share=1 - 1e-9) == 0
    found = exact_nearest_neighbor_radius(model, X, y)
    inside = found.radius > 0
    direction = found.perturbation[inside] / found.upper[inside][:, None]
    moved = X[inside] + (1 - 1e-9) * found.radius[inside][:, None] * np.nan_to_num(direction)
    assert (model.predict(moved) == y[inside]).all()


@pytest.mark.parametrize("scales", [(1e-3, 1e4, 1, 1), (1e6, 1e-6, 1, 1), (1, 1e3, 1e6, 1e9)])
@pytest.mark.parametrize("scaler", [MinMaxScaler(), StandardScaler()])
def test_equals_the_oracle_on_badly_scaled_features(scaler, scales):
    """Ranges of many magnitudes, and a constant feature, behind a scaler."""
    rng = np.random.default_rng(10)
    X_train, y_train, X, y = problems(rng, "random", 40, 12)
    X_train, X = X_train * scales, X * scales
    X_train[:, 3] = X[:, 3] = 1.0
    model = make_pipeline(clone(scaler), KNeighborsClassifier(1)).fit(X_train, y_train)
    rule = as_nearest_neighbor_rule(model)
    expected = oracle_lower_bound(X_train, y_train, X, y, rule.matrix)
    found = certify_nearest_neighbors(model, X, y)
    np.testing.assert_allclose(found.radius, expected, rtol=1e-6, atol=1e-9)
    exact = exact_nearest_neighbor_radius(model, X, y)
    assert (exact.radius >= found.radius * (1 - 1e-9)).all()
    assert set(exact.status) <= {"exact", "misclassified"}


@pytest.mark.parametrize("size", [1e-20, 1e20, 1e100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_and_tiny_data(size, dtype):
    X_train, y_train, X, y = problems(np.random.default_rng(11), "random", 60, 20)
    unit = lower_bound_of(X_train, y_train, X, y, torch.float64)
    found = lower_bound_of(size * X_train, y_train, size * X, y, dtype)
    np.testing.assert_allclose(found / size, unit, rtol=1e-6)


def lower_bound_of(X_train, y_train, X, y, dtype):
    rule = as_nearest_neighbor_rule(KNeighborsClassifier(1).fit(X_train, y_train))
    budget = ThreatModel().resolve(X.shape[1])
    return lower_bound(rule, rule.embed(X), y, budget, torch.device("cpu"), dtype)


def test_immutable_features_that_separate_the_classes():
    rng = np.random.default_rng(12)
    X, y = rng.random((30, 3)), np.arange(30) % 2
    X[:, 0] = 10.0 * y
    X[:, 1:] = X[0, 1:]
    model = KNeighborsClassifier(1).fit(X, y)
    for threat in (ThreatModel(mutable=[1, 2]), ThreatModel(mutable=[])):
        found = certify_nearest_neighbors(model, X, y, threat_model=threat)
        if np.any(threat.mutable):  # as far as rounding is covered
            assert (found.status == "certified").all()
            assert (found.radius > 1e6).all()
        else:
            assert (found.status == "unreachable").all()
        exact = exact_nearest_neighbor_radius(model, X, y, threat_model=threat)
        assert (exact.status == found.status).all()
        np.testing.assert_array_equal(exact.radius, found.radius)


def test_numerical_ties_are_told():
    rng = np.random.default_rng(6)
    X_train, y_train, X, y = problems(rng, "random", 60, 60)
    model = KNeighborsClassifier(1, algorithm="brute")
    model.fit(1e8 + 1e-3 * X_train, y_train)
    found = certify_nearest_neighbors(model, 1e8 + 1e-3 * X, y)
    assert (found.status == "numerical_tie").any()
    assert (found.radius == 0).all()


def test_duplicates_across_classes_have_radius_zero():
    found = nearest_neighbor_lower_bound([[0.0], [0.0], [1.0]], [0, 1, 1], [[0.0]], [0])
    assert found.radius[0] == 0
    assert found.status[0] == "numerical_tie"


@examples(20)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    n_neighbors=st.sampled_from([1, 2, 3, 4, 5]),
    rank=st.integers(1, 4),
    exponent=st.integers(-6, 6),
)
def test_sound_on_random_problems(seed, kind, n_neighbors, rank, exponent):
    rng = np.random.default_rng(seed)
    X_train, y_train, X, y = problems(rng, kind, 25, 6)
    G = rng.standard_normal((rank, 4)) * 10.0**exponent
    found = nearest_neighbor_lower_bound(
        X_train, y_train, X, y, components=G, n_neighbors=n_neighbors
    )
    expected = oracle_lower_bound(X_train, y_train, X, y, G, n_neighbors)
    np.testing.assert_allclose(found.radius, expected, rtol=1e-6, atol=1e-8)
    victim = KNeighborsClassifier(
        n_neighbors, algorithm="brute", metric="mahalanobis", metric_params={"VI": G.T @ G}
    ).fit(X_train, y_train)
    if rank < 4:  # rounding may make the distances negative
        with pytest.raises(ValueError, match="positive definite"):
            certify_nearest_neighbors(victim, X, y)
        return
    same = certify_nearest_neighbors(victim, X, y)
    rule = as_nearest_neighbor_rule(victim)
    assert attack(victim, rule, X, y, same.radius, rng, n_random=5) == 0
    assert (same.radius <= expected * (1 + 1e-6) + 1e-8).all()


def test_certified_accuracy_never_exceeds_clean_accuracy():
    X, y = load_digits(return_X_y=True)
    X_train, X, y_train, y = train_test_split(X, y, test_size=0.2, random_state=0)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(5)).fit(X_train, y_train)
    found = certify_nearest_neighbors(model, X, y)
    clean = (model.predict(X) == y).mean()
    assert found.certified(0).mean() == clean
    curve = [found.certified(eps).mean() for eps in (0, 1e-9, 1, 3, 5, 100)]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == 0


def test_one_class_is_unreachable_and_unseen_labels_are_wrong():
    found = nearest_neighbor_lower_bound([[0.0], [1.0]], [3, 3], [[0.5], [0.5]], [3, 4])
    assert found.radius.tolist() == [np.inf, 0]
    assert found.status.tolist() == ["unreachable", "misclassified"]


def test_string_labels_lists_and_data_frames():
    X_train = pd.DataFrame({"a": [0.0, 2.0], "b": [0.0, 0.0]})
    model = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1)).fit(X_train, ["no", "yes"])
    X = pd.DataFrame({"a": [0.5, 1.9], "b": [0.0, 0.0]})
    found = certify_nearest_neighbors(model, X, ["no", "no"])
    assert found.status.tolist() == ["certified", "misclassified"]
    assert found.radius[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"lacks the features \['b'\]"):
        certify_nearest_neighbors(model, X[["a"]], ["no", "no"])


def test_float32_frames_are_known_to_round():
    X = np.random.default_rng(8).random((40, 3))
    y = np.arange(40) % 2
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X, y)
    rule = as_nearest_neighbor_rule(model)
    assert rule.embed(X).unit == 2.0**-53
    single = pd.DataFrame(X.astype(np.float32))
    for frame in (X.astype(np.float32), single, single.assign(more=1.0)[[0, 1, 2]]):
        assert rule.embed(np.asarray(frame)).unit == 2.0**-24
    names = ["a", "b", "c"]
    model.fit(pd.DataFrame(X, columns=names), y)
    for frame in (pd.DataFrame(X, columns=names), polars.DataFrame(X, schema=names)):
        rule = as_nearest_neighbor_rule(model)
        assert rule.embed(frame).unit == 2.0**-53
        found = certify_nearest_neighbors(model, frame, y)
        assert (found.radius > 0).all()
        single = (
            frame.astype(np.float32) if hasattr(frame, "astype") else frame.cast(polars.Float32)
        )
        assert rule.embed(single).unit == 2.0**-24


def test_bad_input():
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    model = KNeighborsClassifier(3).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        certify_nearest_neighbors(model, np.full((1, 3), np.nan), [0])
    with pytest.raises(ValueError, match="infinity"):
        certify_nearest_neighbors(model, np.full((1, 3), np.inf), [0])
    with pytest.raises(ValueError, match="2 features, but the estimator expects 3"):
        certify_nearest_neighbors(model, X[:, :2], y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        certify_nearest_neighbors(model, X, y[:5])
    with pytest.raises(
        ValueError, match=r"y has labels like '0' \(text\), but those of the estimator are like 0"
    ):
        certify_nearest_neighbors(model, X, y.astype(str))
    with pytest.warns(UserWarning, match=r"none of the classes \[0, 1\], only labels like 10: all"):
        found = certify_nearest_neighbors(model, X, y + 10)
    assert (found.status == "misclassified").all()
    with pytest.raises(TypeError, match="eps must be a single real number"):
        certify_nearest_neighbors(model, X, y).certified([0.1, 0.2])
    with pytest.raises(TypeError, match="threat_model must be a ThreatModel or None; got 'linf'"):
        certify_nearest_neighbors(model, X, y, threat_model="linf")
    with pytest.raises(ValueError, match="must stay below 1e"):
        certify_nearest_neighbors(KNeighborsClassifier(1).fit(1e160 * X, y), X, y)
    with pytest.raises(ValueError, match="must stay below 1e"):
        certify_nearest_neighbors(model, 1e160 * X, y)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    named = KNeighborsClassifier(1).fit(frame, y)
    with pytest.raises(ValueError, match="in their order"):
        certify_nearest_neighbors(named, frame[["b", "a", "c"]], y)
    with pytest.raises(ValueError, match="in their order"):
        certify_nearest_neighbors(named, frame.assign(d=0.0), y)
    with pytest.raises(NotFittedError):
        certify_nearest_neighbors(clone(model), X, y)
    with pytest.raises(ValueError, match=r"n_neighbors=30 must be at most .* 20"):
        certify_nearest_neighbors(KNeighborsClassifier(30).fit(X, y), X, y)
    with pytest.raises(ValueError, match="weights='distance'"):
        certify_nearest_neighbors(KNeighborsClassifier(weights="distance").fit(X, y), X, y)
    with pytest.raises(ValueError, match=r"components must have shape .*n_features=3"):
        nearest_neighbor_lower_bound(X, y, X, y, components=np.eye(2))
    with pytest.raises(ValueError, match="n_neighbors"):
        nearest_neighbor_lower_bound(X, y, X, y, n_neighbors=0)
    with pytest.raises(ValueError, match="device='nonsense'"):
        nearest_neighbor_lower_bound(X, y, X, y, device="nonsense")
    with pytest.raises(ValueError, match="eps must be finite and >= 0; got -1"):
        nearest_neighbor_lower_bound(X, y, X, y).certified(-1)
    with pytest.raises(TypeError, match="eps must be a real number"):
        nearest_neighbor_lower_bound(X, y, X, y).certified("big")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_neighbors", [1, 4])
def test_cuda_equals_cpu(n_neighbors, dtype):
    X_train, y_train, X, y = problems(np.random.default_rng(7), "random", 2000, 300)
    rule = as_nearest_neighbor_rule(KNeighborsClassifier(n_neighbors).fit(X_train, y_train))
    queries = rule.embed(X)
    for norm in (1, 2, np.inf):
        budget = ThreatModel(norm).resolve(X.shape[1])
        cpu = lower_bound(rule, queries, y, budget, torch.device("cpu"), torch.float64)
        cuda = lower_bound(rule, queries, y, budget, torch.device("cuda"), dtype)
        np.testing.assert_allclose(cuda, cpu, rtol=1e-6, atol=1e-9)
