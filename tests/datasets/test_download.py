"""The downloader against a server that behaves badly."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from skrobust.datasets._download import RemoteFile, fetch_file

CONTENT = bytes(range(256)) * 4000
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def remote(*urls, checksum=MD5):
    return RemoteFile("data.bin", urls, checksum)


@pytest.fixture
def url(server):
    server.files["/data.bin"] = CONTENT
    return f"{server.url}/data.bin"


@pytest.mark.parametrize("checksum", [MD5, SHA256], ids=["md5", "sha256"])
def test_a_download_is_kept(server, url, tmp_path, checksum):
    folder = tmp_path / "new" / "folder"
    path = fetch_file(remote(url, checksum=checksum), folder)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["data.bin"]
    assert fetch_file(remote(url, checksum=checksum), folder, download_if_missing=False) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_a_cut_download_is_continued(server, url, tmp_path, ranges):
    server.ranges, server.cuts = ranges, [300_000, 200_000]
    assert fetch_file(remote(url), tmp_path, delay=0).read_bytes() == CONTENT
    have = [None, "bytes=300000-", f"bytes={500_000 if ranges else 200_000}-"]
    assert [asked for _, asked in server.requests] == have


def test_the_next_call_continues(server, url, tmp_path):
    server.cuts = [300_000]
    with pytest.raises(OSError, match="cut after 300000 of 1024000 bytes"):
        fetch_file(remote(url), tmp_path, n_retries=0)
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin.part"]
    assert fetch_file(remote(url), tmp_path, n_retries=0).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=300000-"
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 5])
def test_a_stale_part_is_begun_anew(url, tmp_path, size):
    (tmp_path / "data.bin.part").write_bytes(b"x" * size)
    assert fetch_file(remote(url), tmp_path, n_retries=0).read_bytes() == CONTENT


def test_a_complete_part_is_used(url, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert fetch_file(remote(url), tmp_path, n_retries=0).read_bytes() == CONTENT


def test_a_wrong_download_is_removed(server, url, tmp_path):
    server.files["/data.bin"] = b"something else"
    found = hashlib.md5(b"something else").hexdigest()
    with pytest.raises(OSError, match=f"has the checksum md5:{found}; expected {MD5}"):
        fetch_file(remote(url), tmp_path, delay=0)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_a_wrong_file_is_reported_and_kept(url, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"by hand")
    with pytest.raises(OSError, match=f"expected {MD5}. Delete it"):
        fetch_file(remote(url), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"by hand"


def test_mirrors_are_tried_in_turn(server, url, closed_port, tmp_path):
    server.files["/wrong"] = b"wrong"
    server.status["/gone"] = 404
    mirrors = [f"{closed_port}/data.bin", f"{server.url}/gone", f"{server.url}/wrong", url]
    assert fetch_file(remote(*mirrors), tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/data.bin"]


def test_a_mirror_continues_what_another_began(server, url, tmp_path):
    server.files["/other"], server.cuts = CONTENT, [100]
    fetch_file(remote(f"{server.url}/other", url), tmp_path, n_retries=0)
    assert server.requests == [("/other", None), ("/data.bin", "bytes=100-")]


@pytest.mark.parametrize(("code", "asked"), [(404, 1), (503, 3), (429, 3)])
def test_only_passing_errors_are_asked_again(server, url, tmp_path, code, asked):
    server.status["/data.bin"] = code
    with pytest.raises(OSError, match=f"HTTP {code}"):
        fetch_file(remote(url), tmp_path, n_retries=2, delay=0)
    assert len(server.requests) == asked


def test_offline_says_what_to_do(closed_port, tmp_path):
    file = remote(f"{closed_port}/a", f"{closed_port}/b")
    with pytest.raises(OSError, match=r"data\.bin could not be downloaded") as caught:
        fetch_file(file, tmp_path, n_retries=1, delay=0)
    message = str(caught.value)
    assert all(url in message for url in file.urls)
    assert f"put the file into {tmp_path}" in message
    with pytest.raises(OSError, match="download_if_missing=False") as caught:
        fetch_file(file, tmp_path, download_if_missing=False)
    assert str(tmp_path) in str(caught.value)


def test_only_the_web_is_asked(server, tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(OSError, match="is not http or https"):
        fetch_file(remote(f"file://{tmp_path}/secret"), tmp_path)


def test_two_at_once(url, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch_file(remote(url), tmp_path), range(8)))
    assert {p.read_bytes() == CONTENT for p in paths} == {True}
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]
