"""Where the data lie, and how they are fetched: the parameters that all fetchers share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.datasets import get_data_home

from skrobust.datasets._checks import check_integer, check_non_negative
from skrobust.datasets._download import RemoteFile, fetch_file

__all__ = ["DataHome"]


@dataclass(frozen=True)
class DataHome:
    """A folder of data sets and the options of the downloads into it.

    Parameters
    ----------
    data_home : str, path-like or None
        As in scikit-learn; a data set NAME lies in ``data_home/skrobust/NAME``.
    download_if_missing : bool
    n_retries : int
        ≥ 0.
    delay : float
        Seconds, ≥ 0.

    Raises
    ------
    ValueError
        If `n_retries` or `delay` is not as described.
    """

    data_home: Any = None
    download_if_missing: bool = True
    n_retries: int = 3
    delay: float = 1.0

    def __post_init__(self) -> None:
        check_integer("n_retries", self.n_retries, 0)
        check_non_negative("delay", self.delay)

    def folder(self, name: str) -> Path:
        """Return the folder of a data set, which need not exist."""
        return Path(get_data_home(self.data_home)) / "skrobust" / name

    def fetch(self, file: RemoteFile, name: str) -> Path:
        """Return the path of a file of a data set; see :func:`fetch_file`."""
        return fetch_file(
            file,
            self.folder(name),
            download_if_missing=self.download_if_missing,
            n_retries=int(self.n_retries),
            delay=float(self.delay),
        )
