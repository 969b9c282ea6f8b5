"""The tables: what becomes of OpenML's answer, and of the files that are kept."""

from urllib.error import URLError

import numpy as np
import pytest
from shared_data import load_digits
from sklearn.utils import Bunch

from skrobust.datasets import (
    _openml,
    fetch_dna,
    fetch_optdigits,
    fetch_pendigits,
    fetch_satimage,
    fetch_spambase,
    fetch_splice,
)
from skrobust.datasets._catalogue import SOURCES

SPLIT = {
    "pendigits": (fetch_pendigits, 32, SOURCES["pendigits"].counts, "0123456789", 16),
    "optdigits": (fetch_optdigits, 28, SOURCES["optdigits"].counts, "0123456789", 64),
    "dna": (fetch_dna, 40670, SOURCES["dna"].counts, "123", 180),
}


@pytest.fixture
def openml(monkeypatch):
    """Answer instead of OpenML; the calls are kept."""
    calls = []

    def answer(bunch):
        def fetch_openml(**given):
            calls.append(given)
            if isinstance(bunch, Exception):
                raise bunch
            return bunch

        monkeypatch.setattr(_openml, "fetch_openml", fetch_openml)
        return calls

    return answer


def table(n_features, target, **others):
    X = np.random.default_rng(0).integers(0, 17, (len(target), n_features)).astype(float)
    return Bunch(
        data=X,
        target=np.asarray(target, dtype=object),
        feature_names=[f"f{i}" for i in range(n_features)],
        **others,
    )


def official(parts, codes):
    return np.concatenate([np.repeat(list(codes), count) for count in parts])


@pytest.mark.parametrize("name", SPLIT)
def test_split_tables(openml, tmp_path, name):
    fetch, data_id, parts, codes, d = SPLIT[name]
    answer = table(d, official(parts, codes))
    calls = openml(answer)
    sizes = [sum(count) for count in parts]
    bunch = fetch(data_home=tmp_path, n_retries=2, delay=0.5)
    assert (calls[0]["data_id"], calls[0]["n_retries"], calls[0]["delay"]) == (data_id, 2, 0.5)
    np.testing.assert_array_equal(bunch.data, answer.data)
    np.testing.assert_array_equal(bunch.is_train, np.arange(sum(sizes)) < sizes[0])
    assert "CC BY 4.0" in bunch.DESCR
    test = fetch(data_home=tmp_path, subset="test", download_if_missing=False)
    assert len(calls) == 1  # read from the file that was written
    np.testing.assert_array_equal(test.data, answer.data[sizes[0] :])
    np.testing.assert_array_equal(np.bincount(test.target), parts[1])
    assert not test.is_train.any()
    assert len(fetch(data_home=tmp_path, subset="train", return_X_y=True)[0]) == sizes[0]
    if name == "optdigits":
        assert test.images.shape == (1797, 8, 8)
        assert test.data.dtype == np.uint8
    if name == "dna":
        assert bunch.target_names == ["ei", "ie", "n"]


def test_another_order_has_no_parts(openml, tmp_path):
    fetch, _, parts, codes, d = SPLIT["dna"]
    openml(table(d, np.sort(official(parts, codes))))
    assert "is_train" not in fetch(data_home=tmp_path)
    with pytest.raises(ValueError, match="subset must be 'all', because the rows of dna"):
        fetch(data_home=tmp_path, subset="train")


def test_satimage(openml, tmp_path):
    openml(table(36, ["1.", "7.", "2.", "1."]))
    bunch = fetch_satimage(data_home=tmp_path)
    assert bunch.target_names == ["red soil", "cotton crop", "very damp grey soil"]
    np.testing.assert_array_equal(bunch.target, [0, 2, 1, 0])


def test_spambase(openml, tmp_path):
    openml(table(57, [1.0, 0.0, 1.0]))
    bunch = fetch_spambase(data_home=tmp_path)
    assert bunch.target_names == ["ham", "spam"]
    np.testing.assert_array_equal(bunch.target, [1, 0, 1])
    assert fetch_spambase(data_home=tmp_path).feature_names[3] == "f3"
    pytest.importorskip("pandas")
    X, y = fetch_spambase(data_home=tmp_path, as_frame=True, return_X_y=True)
    assert list(X.columns[:2]) == ["f0", "f1"]
    assert y.tolist() == [1, 0, 1]


def test_splice(openml, tmp_path):
    letters = ["G", "T", "N", "A", "C"]
    answer = table(60, ["EI", "N", "IE", "N"])
    answer.data = answer.data % 5
    answer.data[answer.data == 2] = 0
    answer.data[1, 7] = 2  # an uncertain nucleotide
    answer.data[0, :4] = [0, 1, 3, 4]
    answer.categories = dict.fromkeys(answer.feature_names, letters)
    answer.data = np.hstack([np.arange(4.0)[:, None], answer.data])
    answer.feature_names = ["Instance_name", *answer.feature_names]
    openml(answer)
    bunch = fetch_splice(data_home=tmp_path)
    assert bunch.data.shape == (3, 60)
    np.testing.assert_array_equal(bunch.data[0, :4], [3, 4, 1, 2])
    np.testing.assert_array_equal(bunch.target, [1, 1, 0])
    assert bunch.target_names == ["N", "junction"]
    three = fetch_splice(data_home=tmp_path, binary=False)
    assert three.target_names == ["EI", "IE", "N"]
    np.testing.assert_array_equal(three.target, [0, 1, 2])


def test_offline(openml, tmp_path):
    openml(URLError("no route"))
    with pytest.raises(OSError, match="spambase could not be downloaded") as caught:
        fetch_spambase(data_home=tmp_path)
    path = tmp_path / "skrobust" / "spambase" / "spambase.npz"
    for part in ("https://www.openml.org/d/44: no route", str(path)):
        assert part in str(caught.value)
    with pytest.raises(OSError, match="download_if_missing=False"):
        fetch_spambase(data_home=tmp_path, download_if_missing=False)


def test_a_changed_table_is_refused(openml, tmp_path):
    openml(table(58, ["0", "1"]))
    with pytest.raises(ValueError, match="data set 44 must hold rows of 57 features"):
        fetch_spambase(data_home=tmp_path)
    assert not (tmp_path / "skrobust" / "spambase").exists()


def test_damaged_files(tmp_path):
    folder = tmp_path / "skrobust" / "spambase"
    folder.mkdir(parents=True)
    path = folder / "spambase.npz"
    pickled = {"X": np.zeros((2, 57)), "y": np.zeros(2, int), "classes": np.array(["0"], object)}
    for write in (
        lambda: path.write_bytes(b"nothing"),
        lambda: path.write_bytes(b""),
        lambda: np.savez(path, X=np.zeros((2, 57))),
        lambda: np.savez(path, **pickled),
        lambda: np.savez(path, X=np.zeros((2, 57)), y=[0, 5], classes=["0", "1"]),
        lambda: np.savez(path, X=np.zeros((2, 57)), y=[0], classes=["0", "1"]),
    ):
        write()
        with pytest.raises(ValueError, match=r"spambase\.npz cannot be read"):
            fetch_spambase(data_home=tmp_path)
    np.savez(path, X=np.zeros((2, 58)), y=[0, 1], classes=["0", "1"])
    with pytest.raises(ValueError, match="must hold rows of 57 features"):
        fetch_spambase(data_home=tmp_path)


@pytest.mark.parametrize("name", SPLIT)
def test_subset_is_checked_first(name, tmp_path):
    with pytest.raises(ValueError, match=r"subset must be one of .'train', 'test', 'all'.; got 1"):
        SPLIT[name][0](subset=1, data_home=tmp_path)


@pytest.mark.parametrize("name", SPLIT)
def test_the_counts_are_those_of_real_data(load_shared, name):
    _, _, parts, _, _ = SPLIT[name]
    _, _, y_train, y_test = load_shared(name)
    np.testing.assert_array_equal(np.bincount(y_train), parts[0])
    np.testing.assert_array_equal(np.bincount(y_test), parts[1])


def test_optdigits_end_in_load_digits():
    np.testing.assert_array_equal(np.bincount(load_digits().target), SOURCES["optdigits"].counts[1])
