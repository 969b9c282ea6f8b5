"""Wilson's editing against leaving each point out in a loop."""

from itertools import combinations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skrobust.adapters import as_nearest_neighbor_rule
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.neighbors import RobustKNeighborsClassifier, WilsonEditing
from skrobust.scorers import certified_accuracy, certified_accuracy_scorer

X, Y = load_iris(return_X_y=True)


def overlapping(n_classes, n_samples=90, seed=0, n_features=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % n_classes
    points = rng.standard_normal((n_samples, n_features))
    points[:, 0] += 1.5 * y
    return points, y


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 4, 11, 20])
@pytest.mark.parametrize("n_features", [3, 20])
def test_keeps_what_the_others_classify_right(n_classes, n_neighbors, n_features):
    points, y = overlapping(n_classes, n_features=n_features, seed=n_neighbors)
    expected, tied = [], 0
    for i in range(len(points)):
        distance = np.linalg.norm(points - points[i], axis=1)
        distance[i] = np.inf
        votes = np.bincount(y[np.argsort(distance)[:n_neighbors]])
        tied += (votes == votes.max()).sum() > 1
        if votes.argmax() == y[i]:
            expected.append(i)
    found = WilsonEditing(n_neighbors=n_neighbors).fit(points, y)
    np.testing.assert_array_equal(found.sample_indices_, expected)
    assert 0 < len(expected) < len(points)
    assert tied > 0 or n_neighbors % 2


def test_votes_as_the_classifier_does():
    names = np.array(["b", "a", "c"])
    points, y = overlapping(3, 60)
    everything = np.arange(60)
    expected = []
    for i in everything:
        rest = everything != i
        knn = KNeighborsClassifier(4).fit(points[rest], names[y[rest]])
        if knn.predict(points[[i]])[0] == names[y[i]]:
            expected.append(i)
    found = WilsonEditing(n_neighbors=4).fit(points, names[y])
    np.testing.assert_array_equal(found.sample_indices_, expected)
    assert found.classes_.tolist() == ["a", "b", "c"]


def possible_winners(distance, y, n_neighbors):
    """Return every class that wins for some choice among points at the same distance."""
    last = np.sort(distance)[n_neighbors - 1]
    sure, edge = y[distance < last], y[distance == last]
    choices = combinations(edge, n_neighbors - len(sure))
    return {np.bincount(np.append(sure, choice)).argmax() for choice in map(list, choices)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_neighbors", [1, 3, 4])
@pytest.mark.filterwarnings("ignore:Leave-one-out")
def test_equal_distances_and_duplicates(seed, n_neighbors):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (60, 2)).astype(float)
    y = np.clip(points[:, 0] - (rng.random(60) < 0.3), 0, 2).astype(int)
    kept = set(WilsonEditing(n_neighbors=n_neighbors).fit(points, y).sample_indices_)
    settled = 0
    for i in range(len(points)):
        others = np.arange(len(points)) != i
        distance = np.linalg.norm(points[others] - points[i], axis=1)
        possible = possible_winners(distance, y[others], n_neighbors)
        # of a class that would vanish all points stay
        assert i not in kept or y[i] in possible or set(np.flatnonzero(y == y[i])) <= kept
        assert i in kept or possible != {y[i]}
        settled += len(possible) == 1
    assert settled > 5


def test_a_point_is_left_out_by_its_row():
    # two labels at one place: each point is outvoted by its duplicate, never saved by itself
    points = np.array([[0.0], [0.0], [5.0], [5.1], [9.0], [9.1]])
    found = WilsonEditing(n_neighbors=1).fit(points, [0, 1, 0, 0, 1, 1])
    assert found.sample_indices_.tolist() == [2, 3, 4, 5]
    # more duplicates than neighbours, so that a search does not return the point itself
    points = np.zeros((30, 2))
    points[25:] = 3
    y = np.r_[np.zeros(25), np.ones(5)]
    assert len(WilsonEditing(n_neighbors=2).fit(points, y).sample_indices_) == 30


def test_batches_and_jobs_do_not_matter():
    points, y = overlapping(4, 3000)
    expected = WilsonEditing(n_neighbors=50).fit(points, y).sample_indices_
    with config_context(working_memory=1):
        found = WilsonEditing(n_neighbors=50, n_jobs=2).fit(points, y).sample_indices_
    np.testing.assert_array_equal(found, expected)


def test_default_number_of_neighbors():
    assert WilsonEditing().fit(X, Y).n_neighbors_ == 11
    assert WilsonEditing().fit(X[:8], Y[:8]).n_neighbors_ == 7
    with pytest.raises(ValueError, match="n_neighbors=1 must be less than n_samples=1"):
        WilsonEditing().fit(X[:1], Y[:1])


def test_a_class_does_not_vanish():
    points = np.array([[0.0], [0.1], [0.2], [0.3], [0.16], [7.0], [7.1]])
    y = np.array(["many"] * 4 + ["few"] + ["far"] * 2)
    with pytest.warns(UserWarning, match=r"no point right in the classes \['few'\]") as caught:
        found = WilsonEditing(n_neighbors=1).fit(points, y)
    assert caught[0].filename == __file__
    assert found.sample_indices_.tolist() == [0, 3, 4, 5, 6]
    assert found.classes_.tolist() == ["far", "few", "many"]


def test_predictions_are_those_of_the_estimator_on_the_kept_points():
    points, y = overlapping(3)
    found = WilsonEditing(LogisticRegression(C=0.1), n_neighbors=5).fit(points, y)
    kept = found.sample_indices_
    expected = LogisticRegression(C=0.1).fit(points[kept], y[kept])
    np.testing.assert_array_equal(found.predict(points), expected.predict(points))
    np.testing.assert_array_equal(found.predict_proba(points), expected.predict_proba(points))
    assert found.score(points, y) == expected.score(points, y)
    assert found.estimator.C == 0.1
    assert not hasattr(found.estimator, "coef_")
    assert not hasattr(WilsonEditing(RidgeClassifier()).fit(points, y), "predict_proba")
    assert hasattr(WilsonEditing(), "predict_proba")
    with pytest.raises(TypeError, match="LogisticRegression is not a nearest-neighbour"):
        as_nearest_neighbor_rule(found)


def test_certificates_see_the_kept_points_in_the_space_that_edits():
    steps = make_pipeline(StandardScaler(), NeighborhoodComponentsAnalysis(2, max_iter=5))
    embedded = steps.fit(X[::2], Y[::2]).transform(X[::2])
    editing = WilsonEditing(KNeighborsClassifier(3), n_neighbors=5)
    selected, labels = editing.fit_resample(embedded, Y[::2])
    model = make_pipeline(*steps, clone(editing)).fit(X[::2], Y[::2])
    np.testing.assert_array_equal(model[-1].sample_indices_, editing.sample_indices_)
    raw = clone(editing).fit(X[::2], Y[::2])
    assert raw.sample_indices_.tolist() != editing.sample_indices_.tolist()
    plain = make_pipeline(*steps, KNeighborsClassifier(3).fit(selected, labels))
    for edited, same in ((model, plain), (raw, raw.estimator_)):
        np.testing.assert_array_equal(edited.predict(X[1::2]), same.predict(X[1::2]))
        certificate = certify_nearest_neighbors(edited, X[1::2], Y[1::2])
        expected = certify_nearest_neighbors(same, X[1::2], Y[1::2])
        np.testing.assert_array_equal(certificate.radius, expected.radius)
        assert (certificate.radius > 0).mean() > 0.5


def test_exact_radii_frames_and_float32():
    frame, target = load_iris(return_X_y=True, as_frame=True)
    found = WilsonEditing(RobustKNeighborsClassifier(1)).fit(frame[::2], target[::2])
    exact = exact_nearest_neighbor_radius(found, frame[1::8], target[1::8])
    bound = certify_nearest_neighbors(found, frame[1::8], target[1::8])
    assert (bound.radius <= exact.radius).all()
    assert exact.explain(0)[0][0] in frame.columns
    assert found.feature_names_in_.tolist() == list(frame.columns)
    single = WilsonEditing().fit(X.astype(np.float32), Y)
    assert as_nearest_neighbor_rule(single).single


def test_resampling_keeps_the_kind_of_the_data():
    frame, target = load_iris(return_X_y=True, as_frame=True)
    editing = WilsonEditing(n_neighbors=5)
    selected, labels = editing.fit_resample(frame, target)
    pd.testing.assert_frame_equal(selected, frame.iloc[editing.sample_indices_])
    pd.testing.assert_series_equal(labels, target.iloc[editing.sample_indices_])
    assert editing.predict(frame).shape == (150,)
    array, plain = editing.fit_resample(X.tolist(), Y.tolist())
    np.testing.assert_array_equal(array, selected)
    np.testing.assert_array_equal(plain, labels)
    other, _ = editing.fit_resample(pl.DataFrame(frame), pl.Series(target))
    assert isinstance(other, pl.DataFrame)
    np.testing.assert_array_equal(other.to_numpy(), selected)


def test_in_a_search():
    points, y = overlapping(2, 200)
    model = make_pipeline(MinMaxScaler(), WilsonEditing(KNeighborsClassifier(1)))
    grid = {
        "wilsonediting__n_neighbors": [1, 15],
        "wilsonediting__estimator__n_neighbors": [1, 3],
    }
    scoring = certified_accuracy_scorer(0.5)
    search = GridSearchCV(model, grid, scoring=scoring, cv=3).fit(points, y)
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0
    assert certify_nearest_neighbors(search, points, y).radius.max() > 0


def test_bad_input():
    with pytest.raises(NotFittedError):
        WilsonEditing().predict(X)
    with pytest.raises(NotFittedError):
        certify_nearest_neighbors(WilsonEditing(), X, Y)
    with pytest.raises(ValueError, match=r"n_neighbors=150 must be less than n_samples=150"):
        WilsonEditing(n_neighbors=150).fit(X, Y)
    for bad in (0, 2.5, "all"):
        with pytest.raises(ValueError, match="'n_neighbors' parameter"):
            WilsonEditing(n_neighbors=bad).fit(X, Y)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        WilsonEditing(5).fit(X, Y)
    with pytest.raises(ValueError, match="'n_jobs' parameter"):
        WilsonEditing(n_jobs="many").fit(X, Y)
    with pytest.raises(ValueError, match="Unknown label type"):
        WilsonEditing().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="1d array"):
        WilsonEditing().fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match="X must stay below 1e"):
        WilsonEditing().fit(X * 1e150, Y)


def test_certified_error_falls():
    points, y = load_breast_cancer(return_X_y=True)
    points = MinMaxScaler().fit_transform(points)
    before, after = (
        certified_accuracy(knn.fit(points[::2], y[::2]), points[1::2], y[1::2], eps=0.2)
        for knn in (KNeighborsClassifier(1), WilsonEditing(n_neighbors=11))
    )
    # .535 and .641
    assert after > before + 0.08


def test_certified_error_falls_on_real_data(load_shared):
    train, test, y_train, y_test = load_shared("satimage")
    scaler = MinMaxScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    error = [
        1 - certified_accuracy(knn.fit(train, y_train), test, y_test, eps=0.15)
        for knn in (KNeighborsClassifier(1), WilsonEditing(n_neighbors=11))
    ]
    # of the lower bound: .667 and .456
    assert 0.62 < error[0] < 0.70
    assert 0.41 < error[1] < 0.49
