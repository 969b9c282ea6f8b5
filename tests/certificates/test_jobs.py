"""Certificates over joblib: the same results, with progress, and kept at an interrupt."""

import numpy as np
import pytest
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from oracles import problems
from sklearn import config_context
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.utils import _parallel

X_TRAIN, Y_TRAIN, X, Y = problems(np.random.default_rng(0), "random", 300, 150)


def model(n_neighbors):
    knn = KNeighborsClassifier(n_neighbors)
    return make_pipeline(StandardScaler(), knn).fit(X_TRAIN, Y_TRAIN)


def certificates(n_jobs):
    exact = exact_nearest_neighbor_radius
    return [
        certify_nearest_neighbors(model(1), X, Y, n_jobs=n_jobs),
        certify_nearest_neighbors(model(3), X[Y != 0], Y[Y != 0], n_jobs=n_jobs, target=0),
        exact(model(1), X, Y, n_jobs=n_jobs),
        exact(model(3), X, Y, n_jobs=n_jobs, max_nodes=20),
    ]


def check_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for name in ("radius", "status", "upper", "perturbation", "adversarial_label"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def serial():
    # small batches, so that there is something to deal out
    with config_context(working_memory=0.2):
        return certificates(None)


class AtTheEnd(ThreadingBackend):
    """A backend that cannot hand results over one by one, like those of others."""

    supports_return_generator = False


@pytest.mark.parametrize("backend", ["threading", "loky", "at the end"])
def test_jobs_give_the_same_results(backend, serial):
    register_parallel_backend("at the end", AtTheEnd)
    with config_context(working_memory=0.2), parallel_config(backend):
        check_same(certificates(2), serial)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_local_dask_cluster_gives_the_same_results(serial):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        config_context(working_memory=0.2),
        parallel_config("dask"),
    ):
        check_same(certificates(2), serial)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_results(serial):
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with config_context(working_memory=0.2), parallel_config("ray"):
            found = exact_nearest_neighbor_radius(model(1), X, Y, n_jobs=2)
        check_same([found], serial[2:3])
    finally:
        ray.shutdown()


def test_progress(capsys):
    certify_nearest_neighbors(model(1), X, Y)
    assert capsys.readouterr().out == ""
    with config_context(working_memory=0.2):
        exact_nearest_neighbor_radius(model(3), X, Y, max_nodes=0, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("exact radii: 150 of 150 points, ")
    assert sum(line.startswith("lower bound: ") for line in lines) >= 3
    certify_nearest_neighbors(model(1), X, Y, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_an_interrupt_keeps_what_is_proved(n_neighbors, monkeypatch):
    whole = exact_nearest_neighbor_radius(model(n_neighbors), X, Y, max_nodes=5)
    calls = []
    # in the loop over the parts of the lower bound, or of the cells
    original = _parallel.run_parts

    def interrupted(function, parts, n_jobs, keep):
        def stop(part):
            calls.append(part)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return function(part)

        return original(stop, parts, n_jobs, keep)

    monkeypatch.setattr("skrobust.utils._parallel.run_parts", interrupted)
    with config_context(working_memory=0.2), pytest.warns(UserWarning, match="Interrupted"):
        found = exact_nearest_neighbor_radius(model(n_neighbors), X, Y, max_nodes=5)
    missing = found.status == "interrupted"
    assert 0 < missing.sum() < len(X)
    assert (found.radius[missing] == 0).all()
    assert not found.correct[missing].any()
    assert not found.certified(0)[missing].any()
    assert (found.radius[~missing] <= whole.radius[~missing] * (1 + 1e-9)).all()
    assert (found.radius[~missing] > 0).any()


def test_bad_jobs():
    for certify in (certify_nearest_neighbors, exact_nearest_neighbor_radius):
        with pytest.raises(TypeError, match="n_jobs must be an integer or None; got '2'"):
            certify(model(1), X, Y, n_jobs="2")
        with pytest.raises(ValueError, match="n_jobs must not be 0"):
            certify(model(1), X, Y, n_jobs=0)
