"""The fetchers of images: generated files, from a server or laid into the data home."""

import bz2
import gzip
import hashlib
import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skrobust.datasets import (
    _omniglot,
    fetch_fashion_mnist,
    fetch_mnist,
    fetch_omniglot,
    fetch_table,
    fetch_usps,
)
from skrobust.datasets._catalogue import SOURCES
from skrobust.datasets._download import RemoteFile
from skrobust.datasets._image_files import read_idx

FILES = [file.name for part in SOURCES["mnist"].files.values() for file in part]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_idx(tmp_path):
    path, array = tmp_path / "a.gz", np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path.write_bytes(idx(array))
    found = read_idx(path, (2, 3, 4))
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable
    with pytest.raises(ValueError, match=r"a\.gz cannot be read as idx: .* shape"):
        read_idx(path, (2, 4, 3))
    with pytest.raises(ValueError, match="bytes of shape"):
        read_idx(path, (24,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"\0"),
        idx(np.zeros((2, 3), np.uint8))[:-12],
        gzip.compress(struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"12345"),
        gzip.compress(struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"1234567"),
        gzip.compress(struct.pack(">HBB2I", 0, 13, 2, 2, 3) + b"123456"),
    ],
    ids=["empty", "text", "short", "cut", "few", "many", "floats"],
)
def test_damaged_idx(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz cannot be read as idx"):
        read_idx(tmp_path / "a.gz", (2, 3))


@pytest.fixture
def mnist(server, monkeypatch):
    """Serve a small MNIST, and a Fashion-MNIST of the same images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 28, 28), dtype=np.uint8)
    target = np.arange(9, dtype=np.uint8)
    parts = [idx(images[:6]), idx(target[:6]), idx(images[6:]), idx(target[6:])]
    server.files.update({f"/{n}": c for n, c in zip(FILES, parts, strict=True)})
    remote = [RemoteFile(n, (f"{server.url}/{n}",), md5(server.files[f"/{n}"])) for n in FILES]
    files = {"train": tuple(remote[:2]), "test": tuple(remote[2:])}
    for name in ("mnist", "fashion_mnist"):
        small = replace(SOURCES[name], files=files, sizes={"train": 6, "test": 3}, local=())
        monkeypatch.setitem(SOURCES, name, small)
    return images, target


@pytest.mark.parametrize("fetch", [fetch_mnist, fetch_fashion_mnist], ids=["mnist", "fashion"])
def test_mnist(mnist, server, tmp_path, fetch):
    images, target = mnist
    test = fetch(subset="test", data_home=tmp_path)
    assert len(server.requests) == 2  # the other part is not needed
    np.testing.assert_array_equal(test.images, images[6:])
    assert not test.is_train.any()
    bunch = fetch(data_home=tmp_path)
    np.testing.assert_array_equal(bunch.images, images)
    np.testing.assert_array_equal(bunch.data, images.reshape(9, 784))
    np.testing.assert_array_equal(bunch.target, target)
    np.testing.assert_array_equal(bunch.is_train, np.arange(9) < 6)
    assert bunch.data.dtype == np.uint8
    assert np.shares_memory(bunch.data, bunch.images)
    assert len(bunch.target_names) == 10
    assert bunch.feature_names[29] == "pixel_1_1"
    assert "Licence" in bunch.DESCR
    assert bunch.frame is None
    fetch(data_home=tmp_path, download_if_missing=False)
    assert len(server.requests) == 4


def test_pairs_and_frames(mnist, tmp_path):
    X, y = fetch_mnist(data_home=tmp_path, subset="train", return_X_y=True)
    assert (X.shape, y.shape, y.dtype) == ((6, 784), (6,), np.int64)
    pd = pytest.importorskip("pandas")
    frame, target = fetch_mnist(data_home=tmp_path, subset="train", return_X_y=True, as_frame=True)
    np.testing.assert_array_equal(frame.to_numpy(), X)
    assert isinstance(target, pd.Series)
    bunch = fetch_mnist(data_home=tmp_path, as_frame=True)
    assert bunch.frame.shape == (9, 785)
    assert bunch.frame.columns[-1] == "target"
    assert bunch.images.shape == (9, 28, 28)


def test_the_default_home(mnist, tmp_path, monkeypatch):
    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    fetch_mnist(subset="test")
    assert (tmp_path / "skrobust" / "mnist" / FILES[2]).exists()


def test_a_local_copy_is_found(mnist, server, tmp_path, monkeypatch):
    local = tmp_path / "debian"
    local.mkdir()
    for name in FILES:
        (local / name).write_bytes(server.files[f"/{name}"])
    here = replace(SOURCES["fashion_mnist"], local=(local,))
    monkeypatch.setitem(SOURCES, "fashion_mnist", here)
    bunch = fetch_fashion_mnist(data_home=tmp_path, download_if_missing=False)
    np.testing.assert_array_equal(bunch.images, mnist[0])
    assert server.requests == []


def test_own_files(mnist, server, tmp_path, monkeypatch):
    """A file in SKROBUST_DATA comes first, but not where a data home is given."""
    X, y, train = np.arange(24.0, dtype=np.float32).reshape(4, 2, 3), [0, 1, 1, 0], [1, 1, 0, 1]
    np.savez(tmp_path / "mine.npz", X=X, y=y, classes=["a", "b"], is_train=train)
    np.savez(tmp_path / "mnist.npz", X=X.reshape(4, 6), y=y, classes=["a", "b"])
    monkeypatch.setenv("SKROBUST_DATA", str(tmp_path))
    mine = fetch_table("mine", download_if_missing=False)
    np.testing.assert_array_equal(mine.data, X.reshape(4, 6))
    assert (mine.data.dtype, mine.images.shape) == (np.float64, (4, 2, 3))
    assert mine.feature_names[:2] == ["pixel_0_0", "pixel_0_1"]
    assert str(tmp_path) in mine.DESCR
    test = fetch_table("mine", subset="test")
    np.testing.assert_array_equal(test.target, [1])
    own = fetch_mnist()
    assert "images" not in own
    assert own.feature_names == ["x0", "x1", "x2", "x3", "x4", "x5"]
    with pytest.raises(ValueError, match="subset must be 'all', because the rows of mnist"):
        fetch_mnist(subset="train")
    assert server.requests == []
    assert fetch_mnist(data_home=tmp_path).data.shape == (9, 784)
    with pytest.raises(ValueError, match=r"name must be one of .*SKROBUST_DATA.*; got 'other'"):
        fetch_table("other")


def test_missing(mnist, tmp_path):
    with pytest.raises(OSError, match=r"train-images-idx3-ubyte\.gz is missing") as caught:
        fetch_mnist(data_home=tmp_path, download_if_missing=False)
    assert str(tmp_path / "skrobust" / "mnist") in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"subset": "validation"},
        {"subset": None},
        {"n_retries": -1},
        {"n_retries": 1.5},
        {"delay": -0.5},
        {"delay": "1"},
    ],
    ids=lambda given: str(*given.items()),
)
@pytest.mark.parametrize("fetch", [fetch_mnist, fetch_usps], ids=["mnist", "usps"])
def test_bad_parameters(fetch, given, tmp_path):
    (name, value), *_ = given.items()
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*; got {value!r}\.$"):
        fetch(data_home=tmp_path, **given)


def test_debian(load_shared, tmp_path):
    if not DEBIAN.exists():
        pytest.skip("dataset-fashion-mnist is not installed")
    bunch = fetch_fashion_mnist(data_home=tmp_path, download_if_missing=False)
    assert bunch.images.shape == (70000, 28, 28)
    assert bunch.is_train.sum() == 60000
    assert (np.bincount(bunch.target[:60000]) == 6000).all()
    X_train, X_test, y_train, y_test = load_shared("fashion_mnist")
    np.testing.assert_array_equal(bunch.target[bunch.is_train], y_train)
    np.testing.assert_array_equal(bunch.target[~bunch.is_train], y_test)
    np.testing.assert_array_equal(bunch.data[:1000], X_train[:1000])
    np.testing.assert_array_equal(bunch.data[~bunch.is_train], X_test)


def test_usps(server, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, digits = np.round(rng.uniform(-1, 1, (5, 256)), 3), np.array([6, 0, 9, 1, 1])
    parts = {}
    for name, rows in (("train", slice(3)), ("test", slice(3, 5))):
        lines = [
            " ".join([str(d + 1), *(f"{j + 1}:{v}" for j, v in enumerate(x))])
            for x, d in zip(X[rows], digits[rows], strict=True)
        ]
        content = bz2.compress("\n".join(lines).encode())
        file = SOURCES["usps"].files[name][0].name
        server.files[f"/{file}"] = content
        parts[name] = (RemoteFile(file, (f"{server.url}/{file}",), md5(content)),)
    monkeypatch.setitem(SOURCES, "usps", replace(SOURCES["usps"], files=parts))
    bunch = fetch_usps(data_home=tmp_path)
    np.testing.assert_array_equal(bunch.data, X)
    np.testing.assert_array_equal(bunch.images, X.reshape(5, 16, 16))
    np.testing.assert_array_equal(bunch.target, digits)
    np.testing.assert_array_equal(bunch.is_train, [True] * 3 + [False] * 2)
    assert fetch_usps(data_home=tmp_path, subset="test").data.shape == (2, 256)


@pytest.fixture
def omniglot(tmp_path, monkeypatch):
    """Lay two small archives into the data home; return what lays others."""
    Image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "skrobust" / "omniglot"
    folder.mkdir(parents=True)

    def png(ink):
        image = np.full((105, 105), True)
        image[:ink] = False
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()

    def lay(split, members):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        path = folder / f"images_{split}.zip"
        path.write_bytes(file.getvalue())
        remote = RemoteFile(path.name, (), md5(file.getvalue()))
        monkeypatch.setitem(_omniglot._SPLITS, split, remote)

    top = "images_background"
    lay(
        "background",
        {
            f"{top}/": b"",
            f"{top}/Latin/b/0002_01.png": png(0),
            f"{top}/Greek/a/0001_02.png": png(105),
            f"{top}/Greek/a/0001_01.png": png(0),
            f"__MACOSX/{top}/Greek/._a": b"",
        },
    )
    lay("evaluation", {"images_evaluation/Tagalog/c/0003_01.png": png(45)})
    return lay


def test_omniglot(omniglot, tmp_path):
    bunch = fetch_omniglot(data_home=tmp_path)
    assert bunch.target_names == ["Greek/a", "Latin/b", "Tagalog/c"]
    np.testing.assert_array_equal(bunch.target, [0, 0, 1, 2])
    np.testing.assert_array_equal(bunch.is_train, [True, True, True, False])
    assert bunch.images.shape == (4, 28, 28)
    assert bunch.data.dtype == np.uint8
    np.testing.assert_array_equal(bunch.data.mean(1)[:3], [255, 0, 255])
    whole = fetch_omniglot(data_home=tmp_path, subset="evaluation", image_size=None)
    assert whole.images.shape == (1, 105, 105)
    assert (whole.images[0, :45] == 0).all()
    assert (whole.images[0, 45:] == 255).all()
    assert whole.target_names == ["Tagalog/c"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../images_evaluation/Greek/a/1.png": b""}, "outside its folder"),
        ({"/etc/Greek/a/1.png": b""}, "outside its folder"),
        ({"images_evaluation/Greek/a/1.png": bytes(1 << 21)}, "of 2097152 bytes"),
        ({"other/Greek/a/1.png": b""}, "holds no drawings"),
    ],
    ids=["climbs", "absolute", "large", "none"],
)
def test_odd_archives(omniglot, tmp_path, members, message):
    omniglot("evaluation", members)
    with pytest.raises(ValueError, match=message):
        fetch_omniglot(data_home=tmp_path, subset="evaluation")


@pytest.mark.parametrize(
    "given", [{"subset": "train"}, {"image_size": 0}, {"image_size": (28, 28)}]
)
def test_omniglot_parameters(given, tmp_path):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(given))} must be"):
        fetch_omniglot(data_home=tmp_path, **given)
