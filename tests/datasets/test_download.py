"""The downloader against a server that behaves badly."""

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from skrobust.datasets._download import DataHome, RemoteFile

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


def remote(*urls):
    return RemoteFile("data.bin", urls, MD5)


def home(folder, **options):
    return DataHome(folder, delay=0, **options)


@pytest.fixture
def url(server):
    server.files["/data.bin"] = CONTENT
    return f"{server.url}/data.bin"


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the data set "set"."""
    folder = tmp_path / "skrobust" / "set"
    folder.mkdir(parents=True)
    return folder


def test_a_download_is_kept(server, url, tmp_path):
    path = home(tmp_path).fetch(remote(url), "new")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "skrobust" / "new").iterdir()] == ["data.bin"]
    assert home(tmp_path, download_if_missing=False).fetch(remote(url), "new") == path
    assert len(server.requests) == 1


@pytest.mark.filterwarnings("ignore:Retry downloading")
def test_a_cut_download_is_tried_again(server, url, tmp_path):
    server.cuts = [300_000, 200_000]
    assert home(tmp_path).fetch(remote(url), "set").read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_nothing_is_left_of_a_cut_download(server, url, tmp_path, folder):
    server.cuts = [300_000]
    with pytest.raises(OSError, match="got only 300000 out of 1024000 bytes"):
        home(tmp_path, n_retries=0).fetch(remote(url), "set")
    assert list(folder.iterdir()) == []
    assert home(tmp_path).fetch(remote(url), "set").read_bytes() == CONTENT


def test_a_wrong_download_is_removed(server, url, tmp_path, folder):
    server.files["/data.bin"] = b"something else"
    found = hashlib.md5(b"something else").hexdigest()
    with pytest.raises(OSError, match=f"has the MD5 checksum {found}; expected {MD5}"):
        home(tmp_path).fetch(remote(url), "set")
    assert list(folder.iterdir()) == []
    assert len(server.requests) == 1


def test_a_wrong_file_is_reported_and_kept(url, tmp_path, folder):
    (folder / "data.bin").write_bytes(b"by hand")
    with pytest.raises(OSError, match=f"expected {MD5}. Delete it"):
        home(tmp_path).fetch(remote(url), "set")
    assert (folder / "data.bin").read_bytes() == b"by hand"


def test_mirrors_are_tried_in_turn(server, url, closed_port, tmp_path):
    server.files["/wrong"] = b"wrong"
    server.status["/gone"] = 404
    mirrors = [f"{closed_port}/data.bin", f"{server.url}/gone", f"{server.url}/wrong", url]
    assert home(tmp_path, n_retries=0).fetch(remote(*mirrors), "set").read_bytes() == CONTENT
    assert server.requests == ["/gone", "/wrong", "/data.bin"]


def test_retries_are_counted(server, url, tmp_path):
    server.status["/data.bin"] = 503
    with pytest.warns(UserWarning, match="Retry downloading"), pytest.raises(OSError, match="503"):
        home(tmp_path, n_retries=2).fetch(remote(url), "set")
    assert len(server.requests) == 3


@pytest.mark.filterwarnings("ignore:Retry downloading")
def test_offline_says_what_to_do(closed_port, tmp_path, folder):
    file = remote(f"{closed_port}/a", f"{closed_port}/b")
    with pytest.raises(OSError, match=r"data\.bin could not be downloaded") as caught:
        home(tmp_path, n_retries=1).fetch(file, "set")
    message = str(caught.value)
    assert all(message.count(url) == 2 for url in file.urls)
    assert f"put the file into {folder}" in message
    with pytest.raises(OSError, match="download_if_missing=False") as caught:
        home(tmp_path, download_if_missing=False).fetch(file, "set")
    assert str(folder) in str(caught.value)


def test_two_at_once(url, tmp_path, folder):
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        paths = list(pool.map(lambda _: home(tmp_path).fetch(remote(url), "set"), range(8)))
    assert {p.read_bytes() == CONTENT for p in paths} == {True}
    assert [p.name for p in folder.iterdir()] == ["data.bin"]
