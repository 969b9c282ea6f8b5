"""Files from the network: checked, resumed after a cut, and safe with several processes.

A process downloads into a part of its own and renames it when its checksum is right. What a failed
download leaves is renamed to ``NAME.part``; the next one takes it over, by a rename too, and asks
for the rest. Only http and https are followed, and nothing that is downloaded is executed.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

__all__ = ["RemoteFile", "fetch_file"]

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without an answer
_PASSING = (408, 425, 429)  # 4xx that may go away


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network.

    Attributes
    ----------
    name : str
        Its name on the disk.
    urls : tuple of str
        Mirrors, http or https, in the order in which they are tried.
    checksum : str
        ``"md5:..."`` or ``"sha256:..."``, in hexadecimal.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str


class _FailedError(Exception):
    """One mirror failed; `final` where it makes no sense to ask it again."""

    def __init__(self, reason: str, *, final: bool = False):
        super().__init__(reason)
        self.final = final


def fetch_file(
    file: RemoteFile,
    folder: Path,
    *,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Path:
    """Return the path of a file in a folder, downloaded if it is not there yet.

    Parameters
    ----------
    file : RemoteFile
    folder : Path
        Made if needed.
    download_if_missing : bool, default=True
        False raises instead of downloading.
    n_retries : int, default=3
        How often all mirrors are tried again.
    delay : float, default=1.0
        Seconds before each further round.

    Raises
    ------
    OSError
        If the file cannot be had, or has another checksum. A wrong download is removed, a wrong
        file that was there before is not.
    """
    path = folder / file.name
    if path.exists():
        found = _checksum(path, file.checksum)
        if found != file.checksum:
            raise OSError(
                f"{path} has the checksum {found}; expected {file.checksum}. Delete it to download "
                "it again."
            )
        return path
    urls = "".join(f"\n  {url}" for url in file.urls)
    by_hand = f"To do it by hand, put the file into {folder}; it is at{urls}"
    if not download_if_missing:
        raise OSError(f"{file.name} is not in {folder}, and download_if_missing=False. {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    shared, part = folder / f"{file.name}.part", folder / f"{file.name}.{uuid4().hex}.part"
    with suppress(FileNotFoundError):
        os.rename(shared, part)  # only one process gets it
    try:
        failures = _try_mirrors(file, part, n_retries, delay)
        if failures is None:
            os.replace(part, path)
            return path
    finally:
        if part.exists():
            os.replace(part, shared)
    tried = "".join(f"\n  {url}: {reason}" for url, reason in failures.items())
    raise OSError(f"{file.name} could not be downloaded. Tried:{tried}\n{by_hand}")


def _try_mirrors(
    file: RemoteFile, part: Path, n_retries: int, delay: float
) -> dict[str, str] | None:
    """Download into the part; return why each mirror failed, or None for success."""
    urls, failures = list(file.urls), {}
    for attempt in range(n_retries + 1):
        if attempt:
            time.sleep(delay)
        for url in tuple(urls):
            try:
                _download(url, part, file.checksum)
                return None
            except _FailedError as failure:
                failures[url] = str(failure)
                if failure.final:
                    urls.remove(url)
        if not urls:
            break
    return failures


def _download(url: str, part: Path, checksum: str) -> None:
    """Complete the part and check it; a part that turns out wrong is begun anew, once."""
    while True:
        resumed = _stream(url, part)
        found = _checksum(part, checksum)
        if found == checksum:
            return
        part.unlink()
        if not resumed:
            raise _FailedError(f"has the checksum {found}; expected {checksum}", final=True)


def _stream(url: str, part: Path) -> bool:
    """Append what the part lacks; return whether it had a beginning."""
    have = part.stat().st_size if part.exists() else 0
    response = _open(url, have)
    if response is None:  # nothing follows what we have
        return True
    with response:
        resumed = have > 0 and response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _FailedError("answered with another range than the one asked for")
        length, written = response.headers.get("Content-Length"), 0
        with part.open("ab" if resumed else "wb") as file:  # a server may ignore the range
            for chunk in _chunks(response):
                file.write(chunk)
                written += len(chunk)
    if length is not None and str(written) != length.strip():
        raise _FailedError(f"the connection was cut after {written} of {length} bytes")
    return resumed


def _open(url: str, have: int) -> Any:
    """Return a response, or None where the server says that it has no more than `have` bytes."""
    _check_scheme(url)
    headers = {"User-Agent": "skrobust"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return None
        final = 400 <= error.code < 500 and error.code not in _PASSING
        raise _FailedError(f"HTTP {error.code} {error.reason}", final=final) from error
    except (URLError, HTTPException, OSError) as error:
        raise _FailedError(str(getattr(error, "reason", error))) from error
    try:
        _check_scheme(response.url)  # after redirections
    except _FailedError:
        response.close()
        raise
    return response


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _FailedError(f"the connection was cut: {error}") from error
        if not chunk:
            return
        yield chunk


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise _FailedError(f"{url} is not http or https", final=True)


def _checksum(path: Path, like: str) -> str:
    """Return the checksum of a file, by the algorithm that `like` begins with."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"
