"""Every fitted estimator on disk and back: pickle, joblib, skops; altered files never run."""

import io
import pickle
import zipfile

import joblib
import numpy as np
import pytest
from estimators import ESTIMATORS
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialDeepMetric, RobustMahalanobis
from skrobust.neighbors import RobustKNeighborsClassifier
from skrobust.utils import _estimator

RNG = np.random.default_rng(0)
X, y = RNG.standard_normal((30, 3)), np.arange(30) % 3

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:Leave-one-out .* classifies no point right:UserWarning",
    "ignore:No point of the classes:UserWarning",
)


def holds_a_network(estimator):
    inner = [estimator, *estimator.get_params().values()]
    return any(isinstance(part, AdversarialDeepMetric) for part in inner)


def outputs(estimator):
    apply = "transform" if hasattr(estimator, "transform") else "predict"
    if not hasattr(estimator, apply):
        return estimator.labels_
    return getattr(estimator, apply)(X)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_joblib(estimator, tmp_path):
    fitted = clone(estimator).fit(X, y)
    joblib.dump(fitted, tmp_path / "one")
    np.testing.assert_array_equal(outputs(joblib.load(tmp_path / "one")), outputs(fitted))


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if not holds_a_network(e)], ids=repr)
def test_skops_with_known_types_trusted_alone(estimator):
    """Nothing but classes of the package and of scikit-learn has to be trusted."""
    io_ = pytest.importorskip("skops.io")
    fitted = clone(estimator).fit(X, y)
    data = io_.dumps(fitted)
    unknown = io_.get_untrusted_types(data=data)
    assert all(name.startswith(("skrobust.", "sklearn.")) for name in unknown), unknown
    np.testing.assert_array_equal(outputs(io_.loads(data, trusted=unknown)), outputs(fitted))
    with pytest.raises(TypeError, match=r"[Uu]ntrusted"):
        io_.loads(data, trusted=[])


def test_skops_of_a_pipeline():
    io_ = pytest.importorskip("skops.io")
    model = make_pipeline(
        StandardScaler(), RobustMahalanobis(random_state=0), RobustKNeighborsClassifier(3)
    ).fit(X, y)
    data = io_.dumps(model)
    again = io_.loads(data, trusted=io_.get_untrusted_types(data=data))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_altered_skops_files_raise():
    """Cut anywhere, or with a class that nobody trusts, a file raises and runs nothing."""
    io_ = pytest.importorskip("skops.io")
    data = io_.dumps(RobustMahalanobis(random_state=0).fit(X, y))
    trusted = io_.get_untrusted_types(data=data)
    for end in np.linspace(0, len(data) - 1, 25).astype(int):
        with pytest.raises(Exception):  # noqa: B017, PT011  (whatever zip or json raise)
            io_.loads(data[:end], trusted=trusted)
    source = zipfile.ZipFile(io.BytesIO(data))
    altered = io.BytesIO()
    with zipfile.ZipFile(altered, "w") as target:
        for name in source.namelist():
            text = source.read(name)
            if name == "schema.json":
                text = text.replace(b'"RobustMahalanobis"', b'"Popen"').replace(
                    b'"skrobust.metric_learning._robust_mahalanobis"', b'"subprocess"'
                )
            target.writestr(name, text)
    with pytest.raises(TypeError, match=r"subprocess\.Popen"):
        io_.loads(altered.getvalue(), trusted=trusted)


@pytest.mark.parametrize("seed", range(3))
def test_altered_safetensors_raise(tmp_path, seed):
    """Bytes changed at random: an error, unless the content is the same (white space)."""
    path = tmp_path / "net"
    metric = AdversarialDeepMetric(max_iter=1, random_state=0).fit(X, y)
    metric.save(path)
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(seed)
    n_same = 0
    for k in range(60):
        broken = bytearray(data)
        start, end = (0, header) if k % 2 else (header, len(data))
        broken[rng.integers(start, end)] ^= rng.integers(1, 256)
        path.write_bytes(bytes(broken))
        try:
            loaded = AdversarialDeepMetric.load(path)
        except (ValueError, OSError):
            continue
        n_same += 1
        np.testing.assert_array_equal(loaded.transform(X), metric.transform(X))
    assert n_same <= 3
    for end in np.linspace(0, len(data) - 1, 15).astype(int):
        path.write_bytes(data[:end])
        with pytest.raises((ValueError, OSError)):
            AdversarialDeepMetric.load(path)


def test_what_a_newer_version_wrote_warns(monkeypatch):
    for estimator in (RobustMahalanobis(random_state=0), RobustKNeighborsClassifier()):
        fitted = estimator.fit(X, y)
        monkeypatch.setattr(_estimator, "__version__", "99.1")
        data = pickle.dumps(fitted)
        monkeypatch.undo()
        with pytest.warns(UserWarning, match=r"was written by skrobust 99\.1, newer than"):
            again = pickle.loads(data)
        np.testing.assert_array_equal(outputs(again), outputs(fitted))
        assert "_skrobust_version" not in vars(again)


@pytest.mark.parametrize(
    ("version", "newer"), [("0.0.9", False), ("99", True), ("0.1.0.dev7", False), ("odd", False)]
)
def test_versions_compare_by_their_numbers(monkeypatch, version, newer):
    monkeypatch.setattr(_estimator, "__version__", "0.1.0.dev0")
    assert _estimator.is_newer(version) is newer
