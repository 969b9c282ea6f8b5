"""Files from the network, by scikit-learn's own downloader, checked and kept in a data home."""

import hashlib
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

from sklearn.datasets import fetch_file, get_data_home

from skrobust.datasets._checks import check_non_negative
from skrobust.utils._validation import check_count

__all__ = ["DataHome", "RemoteFile"]


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network.

    Attributes
    ----------
    name : str
        Its name on the disk.
    urls : tuple of str
        Mirrors, in the order in which they are tried.
    md5 : str
        Its checksum, in hexadecimal.
    """

    name: str
    urls: tuple[str, ...]
    md5: str


@dataclass(frozen=True)
class DataHome:
    """A folder of data sets and the options of the downloads into it.

    Parameters
    ----------
    data_home : str, path-like or None
        As in scikit-learn; a data set NAME lies in ``data_home/skrobust/NAME``.
    download_if_missing : bool
    n_retries : int
        How often each mirror is tried again, ≥ 0.
    delay : float
        Seconds before, ≥ 0.

    Raises
    ------
    TypeError, ValueError
        If `n_retries` or `delay` is not as described.
    """

    data_home: Any = None
    download_if_missing: bool = True
    n_retries: int = 3
    delay: float = 1.0

    def __post_init__(self) -> None:
        check_count(self.n_retries, 0, name="n_retries")
        check_non_negative("delay", self.delay)

    def folder(self, name: str) -> Path:
        """Return the folder of a data set, which need not exist."""
        return Path(get_data_home(self.data_home)) / "skrobust" / name

    def fetch(self, file: RemoteFile, name: str) -> Path:
        """Return the path of a file of a data set, downloaded if it is not there yet.

        Raises
        ------
        OSError
            If the file cannot be had, or has another checksum. A wrong download is removed, a
            wrong file that was there before is not.
        """
        path = self.folder(name) / file.name
        if not path.exists():
            self._download(file, path)
        checksum = _md5(path)
        if checksum != file.md5:
            raise OSError(
                f"{path} has the MD5 checksum {checksum}; expected {file.md5}. Delete it to "
                "download it again."
            )
        return path

    def _download(self, file: RemoteFile, path: Path) -> None:
        """Try the mirrors in turn, into a file of this process that is renamed when it is right."""
        urls = "".join(f"\n  {url}" for url in file.urls)
        by_hand = f"To do it by hand, put the file into {path.parent}; it is at{urls}"
        if not self.download_if_missing:
            raise OSError(f"{path} is missing, and download_if_missing=False. {by_hand}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{file.name}.{uuid4().hex}.part")
        failures = ""
        for url in file.urls:
            try:
                fetch_file(
                    url,
                    folder=part.parent,
                    local_filename=part.name,
                    n_retries=int(self.n_retries),
                    delay=float(self.delay),
                )
                checksum = _md5(part)
                if checksum == file.md5:
                    os.replace(part, path)
                    return
                reason = f"has the MD5 checksum {checksum}; expected {file.md5}"
            except (OSError, HTTPException) as error:
                reason = str(error)
            finally:
                part.unlink(missing_ok=True)
            failures += f"\n  {url}: {reason}"
        raise OSError(f"{file.name} could not be downloaded. Tried:{failures}\n{by_hand}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
