"""The one loop of all certificates: batches of points over jobs, with progress and interrupts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from skrobust.utils._parallel import Progress, run_parts, split_evenly

__all__ = ["Job", "run_job"]


class Job(ABC):
    """A computation over many points, solved in batches, also in other processes.

    A subclass holds what all batches need, and is picklable. What it prepares for them is a
    ``cached_property``, which another process prepares again instead of receiving it.

    Attributes
    ----------
    what : str
        What is computed, for lines of progress.
    """

    what: ClassVar[str]

    @abstractmethod
    def solve(self, rows: np.ndarray) -> Any:
        """Return the results of one batch of points.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Positions of the points.
        """

    def __call__(self, batches: list[np.ndarray]) -> list[tuple[np.ndarray, Any]]:
        """Return ``(rows, result)`` of each batch."""
        return [(rows, self.solve(rows)) for rows in batches]

    def __getstate__(self) -> dict[str, Any]:
        cls = type(self)
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(getattr(cls, name, None), cached_property)
        }


def run_job(
    job: Job,
    batches: Sequence[np.ndarray],
    n_points: int,
    keep: Callable[[np.ndarray, Any], None],
    n_jobs: int | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Solve batches one after another, or over joblib, and hand their results to `keep`.

    An interrupt (Ctrl-C) ends the loop with a warning; what was kept remains.

    Parameters
    ----------
    job : Job
    batches : sequence of ndarray
        The points of each batch; points in no batch count as reached.
    n_points : int
        How many points there are.
    keep : callable
        Called with ``(rows, result)`` of each batch, in this process.
    n_jobs : int or None, default=None
        For joblib, with whatever backend is active; results do not depend on it.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Returns
    -------
    ndarray of shape (n_points,) of bool
        Which points were reached.
    """
    done = np.ones(n_points, dtype=bool)
    done[np.concatenate([*batches, np.empty(0, dtype=int)])] = False
    progress = Progress(n_points, verbose, job.what)
    progress.advance(int(done.sum()))

    def keep_all(results: list[tuple[np.ndarray, Any]]) -> None:
        for rows, result in results:
            keep(rows, result)
            done[rows] = True
            progress.advance(len(rows))

    run_parts(job, split_evenly(batches, n_jobs), n_jobs, keep_all)
    return done
