"""Adversarial pruning against brute force, integer programs and the promise of its radius."""

import tracemalloc
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import LinearConstraint, milp
from scipy.spatial.distance import cdist
from shared_data import load_digits
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skrobust.adapters import as_nearest_neighbor_rule
from skrobust.certificates import (
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
    nearest_neighbor_lower_bound,
)
from skrobust.neighbors import AdversarialPruning
from skrobust.scorers import certified_accuracy_scorer

X, Y = load_iris(return_X_y=True)

classes_may_vanish = pytest.mark.filterwarnings("ignore:No point of the classes")


def conflicts(points, y, radius):
    """Return the matrix of pairs of different classes that are too near."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    return (distance < 2 * radius) & (y[:, None] != y[None])


def fewest(graph):
    """Return the size of the smallest vertex cover, by trying all."""
    i, j = np.nonzero(np.triu(graph))
    for size in range(len(graph)):
        for chosen in combinations(range(len(graph)), size):
            inside = np.isin(np.arange(len(graph)), chosen)
            if (inside[i] | inside[j]).all():
                return size
    raise AssertionError


def cover_program(graph, *, integral):
    """Return the optimum of the covering program, by HiGHS."""
    i, j = np.nonzero(np.triu(graph))
    rows = np.zeros((len(i), len(graph)))
    rows[np.arange(len(i)), i] = rows[np.arange(len(i)), j] = 1
    found = milp(
        np.ones(len(graph)),
        constraints=LinearConstraint(rows, lb=1),
        bounds=(0, 1),
        integrality=np.full(len(graph), int(integral)),
    )
    return found.fun


def as_points(graph):
    """Return points, labels and the radius whose conflicts are the edges of a graph."""
    n = len(graph)
    # squared distances: 2 − 1/n along edges, 2 elsewhere
    points, radius = np.linalg.cholesky(np.eye(n) + graph / (2 * n)), np.sqrt(2 - 0.5 / n) / 2
    return points, np.array([f"class {i:02}" for i in range(n)]), radius


def check_pruning(pruning, graph, y):
    """Check what holds for every pruning of a graph of conflicts; return how many were removed."""
    kept = np.isin(np.arange(len(graph)), pruning.sample_indices_)
    assert not graph[np.ix_(kept, kept)].any()
    # nothing could be put back
    assert graph[np.ix_(~kept, kept)].any(axis=1).all()
    assert pruning.n_removed_ == (~kept).sum() <= 2 * pruning.n_removed_lower_bound_
    assert pruning.exact_ is (pruning.n_removed_ == pruning.n_removed_lower_bound_)
    assert pruning.n_removed_lower_bound_ >= cover_program(graph, integral=False) - 1e-6
    assert pruning.classes_.tolist() == np.unique(y[kept]).tolist()
    return pruning.n_removed_


@classes_may_vanish
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("radius", [0.1, 0.2, 0.4])
def test_two_classes_lose_the_fewest_points(seed, radius):
    rng = np.random.default_rng(seed)
    points, y = rng.random((12, 2)), rng.integers(0, 2, 12)
    graph = conflicts(points, y, radius)
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    assert check_pruning(pruning, graph, y) == fewest(graph)
    assert pruning.exact_


@classes_may_vanish
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("balance", [0.5, 0.9])
def test_two_classes_against_an_integer_program(seed, balance):
    rng = np.random.default_rng(seed)
    points, y = rng.random((150, 3)), (rng.random(150) > balance).astype(int)
    points = np.r_[points, points[:10]]
    y = np.r_[y, 1 - y[:10]]
    for radius in (0.05, 0.1):
        graph = conflicts(points, y, radius)
        pruning = AdversarialPruning(radius=radius).fit(points, y)
        removed = check_pruning(pruning, graph, y)
        assert removed == round(cover_program(graph, integral=True)) > 9
        assert pruning.exact_


@classes_may_vanish
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n_classes", [3, 5])
@pytest.mark.parametrize("radius", [0.1, 0.2, 0.4])
def test_more_classes_lose_twice_the_fewest_at_most(seed, n_classes, radius):
    rng = np.random.default_rng(seed)
    points, y = rng.random((12, 2)), rng.integers(0, n_classes, 12)
    graph = conflicts(points, y, radius)
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    optimum = fewest(graph)
    assert pruning.n_removed_lower_bound_ <= optimum
    assert optimum <= check_pruning(pruning, graph, y) <= 2 * optimum


@classes_may_vanish
@pytest.mark.filterwarnings("ignore:The number of unique classes")
@pytest.mark.parametrize("density", [0.05, 0.15, 0.4, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_any_graph_of_conflicts(density, seed):
    draws = np.random.default_rng(seed).random((40, 40)) < density
    graph = np.triu(draws, 1) | np.triu(draws, 1).T
    points, y, radius = as_points(graph)
    np.testing.assert_array_equal(conflicts(points, y, radius), graph)
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    removed = check_pruning(pruning, graph, y)
    optimum = round(cover_program(graph, integral=True))
    assert pruning.n_removed_lower_bound_ <= optimum <= removed <= 2 * optimum


def cycle(n):
    graph = np.roll(np.eye(n, dtype=bool), 1, axis=1)
    return graph | graph.T


@classes_may_vanish
@pytest.mark.parametrize(
    ("graph", "optimum", "lower"),
    [
        (cycle(3), 2, 2),
        (cycle(5), 3, 3),
        (cycle(7), 4, 4),
        (cycle(8), 4, 4),
        (np.ones((4, 4), dtype=bool) & ~np.eye(4, dtype=bool), 3, 2),
        (np.kron(np.eye(2, dtype=int), cycle(3)).astype(bool), 4, 4),
        (np.zeros((3, 3), dtype=bool), 0, 0),
    ],
    ids=["triangle", "5-cycle", "7-cycle", "8-cycle", "K4", "two triangles", "none"],
)
def test_graphs_with_known_covers(graph, optimum, lower):
    points, y, radius = as_points(graph)
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    assert check_pruning(pruning, graph, y) == optimum
    assert pruning.n_removed_lower_bound_ == lower


@pytest.mark.parametrize("shift", [0, 1e6])
@pytest.mark.parametrize("n_features", [None, 5])
def test_kept_classes_are_apart(shift, n_features):
    points, y = load_digits(return_X_y=True)
    points = points[:, 20 : 20 + n_features] if n_features else points
    points = points / 7 + shift
    radius = 1.9 if n_features is None else 0.12
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    kept = pruning.sample_indices_
    assert 10 < pruning.n_removed_ < len(points) - 10
    nearest = min(
        np.linalg.norm(points[kept][y[kept] != label] - point, axis=1).min()
        for point, label in zip(points[kept], y[kept], strict=True)
    )
    assert nearest >= 2 * radius


@classes_may_vanish
def test_distances_of_exactly_two_radii_are_far_enough():
    points, y = np.arange(10.0)[:, None] * 3, np.arange(10) % 2
    assert AdversarialPruning(radius=1.5).fit(points, y).n_removed_ == 0
    assert AdversarialPruning(radius=np.nextafter(1.5, 2)).fit(points, y).n_removed_ == 5
    # differences decide where products of far points would have lost them
    points = points * 1e-6 + 1e3
    gap = np.diff(points[:, 0]).min()
    assert AdversarialPruning(radius=gap / 2).fit(points, y).n_removed_ == 0
    gap = np.diff(points[:, 0]).max()
    assert AdversarialPruning(radius=gap / 2 * (1 + 1e-9)).fit(points, y).n_removed_ == 5


def test_duplicates_and_radius_zero():
    points = np.array([[0.0], [0.0], [0.0], [4.0], [8.0]])
    y = np.array(["b", "a", "b", "a", "b"])
    pruning = AdversarialPruning(radius=1e-12).fit(points, y)
    assert pruning.sample_indices_.tolist() == [0, 2, 3, 4]
    assert len(AdversarialPruning(radius=0).fit(points, y).sample_indices_) == 5
    assert len(AdversarialPruning().fit(X, np.zeros(150)).sample_indices_) == 150


@pytest.mark.parametrize(("radius", "data"), [(0.3, "iris"), (0.15, "cancer")])
def test_kept_points_are_certified_at_the_radius(radius, data):
    points, y = X, Y
    if data == "cancer":
        points, y = load_breast_cancer(return_X_y=True)
        points = MinMaxScaler().fit_transform(points)
    pruning = AdversarialPruning(radius=radius).fit(points, y)
    kept, labels = pruning.fit_resample(points, y)
    assert 0 < pruning.n_removed_ == len(points) - len(kept)
    bound = certify_nearest_neighbors(pruning, kept, labels)
    by_arrays = nearest_neighbor_lower_bound(kept, labels, kept, labels)
    exact = exact_nearest_neighbor_radius(pruning, kept[::10], labels[::10])
    for certificate in (bound, by_arrays, exact):
        assert (certificate.radius >= radius * (1 - 1e-9)).all()
    before = certify_nearest_neighbors(KNeighborsClassifier(1).fit(points, y), kept, labels)
    assert before.radius.min() < radius


def test_behind_a_pipeline():
    model = make_pipeline(StandardScaler(), AdversarialPruning(radius=0.3)).fit(X[::2], Y[::2])
    embedded = model[:-1].transform(X[::2])
    alone = AdversarialPruning(radius=0.3).fit(embedded, Y[::2])
    kept = alone.sample_indices_
    np.testing.assert_array_equal(model[-1].sample_indices_, kept)
    plain = make_pipeline(model[0], KNeighborsClassifier(1).fit(embedded[kept], Y[::2][kept]))
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    found = certify_nearest_neighbors(model, X, Y)
    np.testing.assert_array_equal(found.radius, certify_nearest_neighbors(plain, X, Y).radius)
    # the promise before the step: the radius over the largest stretch of the step
    stretch = np.linalg.norm(as_nearest_neighbor_rule(model).matrix, 2)
    assert (found.radius[::2][kept] >= 0.3 / stretch * (1 - 1e-9)).all()


def test_a_class_that_vanishes_is_named():
    points = np.array([[0.0], [0.5], [0.25], [7.0], [7.1]])
    y = np.array(["many", "many", "few", "far", "far"])
    with pytest.warns(UserWarning, match=r"classes \['few'\] is left at radius=1.5") as caught:
        pruning = AdversarialPruning(radius=1.5).fit(points, y)
    assert caught[0].filename == __file__
    assert pruning.classes_.tolist() == ["far", "many"]
    assert pruning.predict_proba(points).shape == (5, 2)
    found = certify_nearest_neighbors(pruning, points, y)
    assert found.status.tolist() == ["certified"] * 2 + ["misclassified"] + ["certified"] * 2
    # all of one class may be what is left: then nothing changes a prediction
    with pytest.warns(UserWarning, match="left at radius=100"):
        pruning = AdversarialPruning(radius=100).fit(points[:3], y[:3])
    assert np.isinf(certify_nearest_neighbors(pruning, points[:2], y[:2]).radius).all()


def test_batches_jobs_and_order_do_not_matter():
    rng = np.random.default_rng(0)
    points, y = rng.random((1500, 3)), rng.integers(0, 3, 1500)
    pruning = AdversarialPruning(radius=0.03).fit(points, y)
    assert not pruning.exact_
    with config_context(working_memory=1):
        other = AdversarialPruning(radius=0.03, n_jobs=2).fit(points, y)
    np.testing.assert_array_equal(other.sample_indices_, pruning.sample_indices_)
    again = clone(pruning).fit(points, np.array(["c", "a", "b"])[y])
    np.testing.assert_array_equal(again.sample_indices_, pruning.sample_indices_)
    # the size for two classes is the optimum in every order of the rows
    order = rng.permutation(1500)
    first = AdversarialPruning(radius=0.03).fit(points, y > 0).n_removed_
    assert AdversarialPruning(radius=0.03).fit(points[order], y[order] > 0).n_removed_ == first


@pytest.mark.parametrize("n_features", [3, 30])
def test_near_points_of_the_same_class_take_no_memory(n_features):
    rng = np.random.default_rng(0)
    y = np.arange(6000) % 2
    points = rng.random((6000, n_features)) + 100 * y[:, None]
    points[:20] = points[1:21].copy()
    tracemalloc.start()
    pruning = AdversarialPruning(radius=20.0).fit(points, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # nine million pairs of the same class are near, sixty thousand are in conflict
    assert pruning.n_removed_ == 20
    assert peak < 45e6


def test_in_a_search_and_on_frames():
    frame, target = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(MinMaxScaler(), AdversarialPruning())
    grid = {"adversarialpruning__radius": [0.0, 0.12]}
    scoring = certified_accuracy_scorer(0.4)
    search = GridSearchCV(model, grid, scoring=scoring, cv=3).fit(frame, target)
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0
    pruning = AdversarialPruning(radius=0.3)
    selected, labels = pruning.fit_resample(frame, target)
    pd.testing.assert_frame_equal(selected, frame.iloc[pruning.sample_indices_])
    pd.testing.assert_series_equal(labels, target.iloc[pruning.sample_indices_])
    assert pruning.feature_names_in_.tolist() == list(frame.columns)
    assert as_nearest_neighbor_rule(pruning).feature_names.tolist() == list(frame.columns)


def test_bad_input():
    with pytest.raises(NotFittedError):
        AdversarialPruning().predict(X)
    with pytest.raises(NotFittedError):
        as_nearest_neighbor_rule(AdversarialPruning())
    for bad in (-0.1, np.inf, np.nan, "small", None):
        with pytest.raises(ValueError, match="'radius' parameter"):
            AdversarialPruning(radius=bad).fit(X, Y)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        AdversarialPruning(0.1).fit(X, Y)
    with pytest.raises(ValueError, match="Unknown label type"):
        AdversarialPruning().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="X must stay below 1e"):
        AdversarialPruning().fit(X * 1e150, Y)


def test_real_data(load_shared):
    train, _, y_train, _ = load_shared("satimage")
    train = MinMaxScaler().fit_transform(train)
    pruning = AdversarialPruning(radius=0.15)
    kept, labels = pruning.fit_resample(train, y_train)
    distance = cdist(kept, kept)
    assert distance[labels[:, None] != labels].min() >= 0.3 * (1 - 1e-12)
    assert pruning.n_removed_lower_bound_ <= pruning.n_removed_ <= 400


def test_numpy_numbers_as_radius():
    X, y = load_iris(return_X_y=True)
    found = AdversarialPruning(radius=np.float32(0.25)).fit(X, y)
    assert found.n_removed_ == AdversarialPruning(radius=0.25).fit(X, y).n_removed_
    with pytest.raises(ValueError, match="radius must be below"):
        AdversarialPruning(radius=1e141).fit(X, y)
