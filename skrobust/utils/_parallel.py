"""Run parts of a long computation, in this process or over joblib, with progress."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from skrobust.utils._warnings import warn

__all__ = ["Job", "Progress", "check_n_jobs", "run_job", "run_parts", "split_evenly"]

_SECONDS = 2.0


class Progress:
    """Lines that say how far a computation is.

    Parameters
    ----------
    total : int
        How many points there are.
    verbose : int
        0 is silent, 1 prints a line every two seconds or so, 2 one for each part.
    what : str
        What is done to a point.
    """

    def __init__(self, total: int, verbose: int, what: str):
        self.total, self.verbose, self.what = total, verbose, what
        self.done = 0
        self.started = self.last = time.perf_counter()

    def advance(self, n: int) -> None:
        """Note that `n` more points are done."""
        self.done += n
        now = time.perf_counter()
        if self.verbose and (
            self.verbose > 1 or self.done >= self.total or now - self.last >= _SECONDS
        ):
            self.last = now
            print(  # noqa: T201
                f"{self.what}: {self.done:,} of {self.total:,} points, {now - self.started:.1f} s"
            )


def split_evenly(parts: Sequence[Any], n_jobs: int | None) -> list[list[Any]]:
    """Deal parts to as many hands as there are jobs, one to each where there is one job only."""
    n_hands = effective_n_jobs(n_jobs)
    if n_hands == 1:
        return [[part] for part in parts]
    return [list(parts[k::n_hands]) for k in range(min(n_hands, len(parts)))]


def check_n_jobs(n_jobs: Any) -> None:
    """Raise an error unless `n_jobs` is None or an integer other than 0."""
    if n_jobs is None:
        return
    if type(n_jobs) is bool or not isinstance(n_jobs, Integral):
        raise TypeError(f"n_jobs must be an integer or None; got {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0; None or 1 is a single job, -1 all cores.")


class SizedTask:
    """A function and its data, as an argument that tells its size.

    A dask cluster puts large arguments on its workers in turn, and each task where its argument
    is: with one object for each part the parts are spread, and none waits for another.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + _array_bytes(self.function, 5)


def _array_bytes(value: Any, depth: int) -> int:
    """Return the bytes of the arrays in an object, a few levels deep."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if depth == 0:
        return 0
    if isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    return sum(_array_bytes(part, depth - 1) for part in inner)


def _call(sent: SizedTask, part: Any) -> Any:
    return sent.function(part)


def run_parts(
    function: Callable[[Any], Any],
    parts: Sequence[Any],
    n_jobs: int | None,
    keep: Callable[[Any], None],
) -> None:
    """Call ``keep(function(part))`` for each part, in their order.

    An interrupt (Ctrl-C) ends it with a warning: what was kept remains.

    Parameters
    ----------
    function : callable
        Picklable.
    parts : sequence
    n_jobs : int or None
        For joblib, with whatever backend is active.
    keep : callable
        Called in this process.
    """
    try:
        if effective_n_jobs(n_jobs) == 1 or len(parts) == 1:
            for part in parts:
                keep(function(part))
        else:
            # those that cannot hand results over one by one hand them over at the end
            streams = getattr(get_active_backend()[0], "supports_return_generator", False)
            run = Parallel(n_jobs=n_jobs, return_as="generator" if streams else "list")
            for result in run(delayed(_call)(SizedTask(function), part) for part in parts):
                keep(result)
    except KeyboardInterrupt:
        warn("Interrupted: points that were not reached yet are left out.")


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
