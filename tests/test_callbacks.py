"""Scikit-learn's callbacks see the steps of a fit, and can end it."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from skrobust import AdversarialDeepMetric, RobustMahalanobis
from skrobust.neighbors import RobustPrototypeClassifier

callback = pytest.importorskip("sklearn.callback")

X, Y = load_iris(return_X_y=True, as_frame=True)

ITERATIVE = [
    RobustMahalanobis(max_iter=4, random_state=0),
    RobustPrototypeClassifier(2, max_iter=4, random_state=0),
    AdversarialDeepMetric(max_iter=4, batch_size=32, random_state=0),
    AdversarialDeepMetric(max_iter=4, batch_size=32, lipschitz="orthogonal", random_state=0),
]
DEPENDS = {
    RobustMahalanobis: ["components_"],
    RobustPrototypeClassifier: ["prototypes_", "components_"],
    AdversarialDeepMetric: ["loss_curve_"],
}


class Recorder:
    """Keeps what the hooks are called with, and stops after some steps."""

    def __init__(self, stop_after=np.inf):
        self.stop_after = stop_after
        self.events, self.fitted = [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        assert X is not None
        assert y is not None

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(context.task_name)
        self.fitted.append(fitted_estimator)
        return len(self.fitted) == self.stop_after


def output(estimator):
    """Return what a fitted estimator makes of the points."""
    if hasattr(estimator, "transform"):
        return np.asarray(estimator.transform(X))
    return estimator.predict(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ITERATIVE, ids=lambda e: type(e).__name__)
class TestSteps:
    def test_steps_are_told_and_change_nothing(self, clone_of, estimator):
        plain, told, recorder = clone_of(estimator).fit(X, Y), clone_of(estimator), Recorder()
        told.set_callbacks(recorder).fit(X, Y)
        assert recorder.events == ["setup", *["epoch"] * 4, "fit", "teardown"]
        np.testing.assert_array_equal(output(told), output(plain))
        for name in DEPENDS[type(estimator)]:
            np.testing.assert_array_equal(getattr(told, name), getattr(plain, name))

    def test_estimators_on_the_way_are_those_of_a_fit_that_stops_there(self, clone_of, estimator):
        recorder = Recorder()
        clone_of(estimator).set_callbacks(recorder).fit(X, Y)
        for n_steps in (1, 3):
            on_the_way = recorder.fitted[n_steps - 1]
            stopped = clone_of(estimator).set_callbacks(Recorder(n_steps)).fit(X, Y)
            np.testing.assert_array_equal(output(on_the_way), output(stopped))
            again = pickle.loads(pickle.dumps(on_the_way))
            np.testing.assert_array_equal(output(again), output(stopped))

    def test_a_callback_ends_the_fit(self, clone_of, estimator, recwarn):
        recorder = Recorder(stop_after=2)
        fitted = clone_of(estimator).set_callbacks(recorder).fit(X, Y)
        assert fitted.n_iter_ == 2
        assert recorder.events == ["setup", "epoch", "epoch", "fit", "teardown"]
        assert len(output(fitted)) == len(X)
        assert not [w for w in recwarn if "interrupted" in str(w.message)]

    def test_a_failed_fit_takes_callbacks_down(self, clone_of, estimator):
        recorder = Recorder()
        with pytest.raises(ValueError, match="NaN"):
            clone_of(estimator).set_callbacks(recorder).fit(X.assign(extra=np.nan), Y)
        # set up at all only where the fit began
        assert recorder.events in ([], ["setup", "teardown"])


@pytest.fixture
def clone_of():
    from sklearn.base import clone

    return clone


def test_more_and_more_prototypes_have_no_known_number_of_steps():
    recorder = Recorder(stop_after=3)
    model = RobustPrototypeClassifier("auto", max_iter=2, random_state=0)
    model.set_callbacks(recorder).fit(X, Y)
    assert recorder.events[-3:] == ["epoch", "fit", "teardown"]


def test_the_last_epoch_is_told_where_patience_ends_the_training():
    recorder = Recorder()
    metric = AdversarialDeepMetric(
        max_iter=30, n_iter_no_change=2, validation_fraction=0.3, batch_size=32, random_state=0
    )
    metric.set_callbacks(recorder).fit(X, Y)
    assert metric.n_iter_ < 30
    assert recorder.events == ["setup", *["epoch"] * metric.n_iter_, "fit", "teardown"]


class Normed(torch.nn.Module):
    """A module that cannot be copied deeply."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.utils.spectral_norm(torch.nn.Linear(4, 3))

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*")
def test_modules_that_hold_computed_tensors():
    recorder = Recorder()
    metric = AdversarialDeepMetric(Normed, max_iter=2, batch_size=32, random_state=0)
    metric.set_callbacks(recorder).fit(X, Y)
    assert len(output(recorder.fitted[0])) == len(X)


class Pickler(Recorder):
    """Writes the estimator down at each step."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.fitted.append(pickle.dumps(fitted_estimator))


def test_what_is_on_the_way_can_be_written_at_once():
    recorder = Pickler()
    metric = AdversarialDeepMetric(max_iter=2, batch_size=32, random_state=0)
    metric.set_callbacks(recorder).fit(X, Y)
    first, last = (output(pickle.loads(data)) for data in (recorder.fitted[0], recorder.fitted[-1]))
    np.testing.assert_array_equal(last, output(metric))
    assert not np.array_equal(first, last)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_are_monitored_in_a_search_over_a_pipeline():
    def accuracy(metric, points, labels):
        Z = np.asarray(metric.transform(points))
        return KNeighborsClassifier(1).fit(Z[::2], labels[::2]).score(Z[1::2], labels[1::2])

    monitor = callback.ScoringMonitor(scoring={"accuracy": accuracy})
    metric = RobustMahalanobis(max_iter=2, random_state=0).set_callbacks(monitor)
    pipeline = Pipeline([("metric", metric), ("knn", KNeighborsClassifier(1))])
    GridSearchCV(pipeline, {"knn__n_neighbors": [1, 3]}, cv=2).fit(X, Y)
    found = [score for log in monitor.get_logs("all") for score in log.data]
    # two parameters, two folds, the last fit; two epochs and the whole of each
    assert sum("accuracy" in row for row in found) == 5 * 3
    assert all(0.3 < row["accuracy"] <= 1 for row in found if "accuracy" in row)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_progress_bars_of_a_pipeline(capsys):
    pytest.importorskip("rich")
    pipeline = Pipeline(
        [("metric", RobustMahalanobis(max_iter=2, random_state=0)), ("knn", KNeighborsClassifier())]
    )
    with pytest.warns(UserWarning, match="KNeighborsClassifier does not support"):
        pipeline.set_callbacks(callback.ProgressBar()).fit(X, Y)
    assert "RobustMahalanobis" in capsys.readouterr().out
