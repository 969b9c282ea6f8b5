"""Rows of X as batches: what to validate on, the data set, m points of each of some classes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset, Sampler

from skrobust.deep._data import InputLayout

__all__ = ["ClassBatches", "CollateSamples", "MetricDataset", "collate", "split_rows"]


def split_rows(
    y: np.ndarray, fraction: float, by: str, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the rows to train on, and of those for validation.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        0, 1, …
    fraction : float
        Share of the points or classes to validate on; 0 for none.
    by : {"points", "classes"}
    random_state : RandomState

    Raises
    ------
    ValueError
        If too little is left to train on, or to judge by.
    """
    rows = np.arange(len(y))
    if fraction == 0:
        return rows, rows[:0]
    n_classes = int(y.max()) + 1
    if by == "classes":
        n = round(fraction * n_classes)
        if not 2 <= n <= n_classes - 2:
            raise ValueError(
                f"validation_fraction={fraction} of {n_classes} classes is {n}; at least two "
                "are needed for validation, and two for training."
            )
        held = np.isin(y, random_state.permutation(n_classes)[:n])
        return rows[~held], rows[held]
    try:
        train, valid = train_test_split(
            rows, test_size=fraction, stratify=y, random_state=random_state
        )
    except ValueError as error:
        raise ValueError(
            f"validation_fraction={fraction} cannot be taken of {len(y)} points of {n_classes} "
            f"classes: {error}"
        ) from error
    if (np.bincount(y[train], minlength=n_classes) < 2).any() or len(valid) < 2:
        raise ValueError(
            f"validation_fraction={fraction} leaves fewer than two points of a class to train "
            "on, or fewer than two for validation; use a smaller one, or more points."
        )
    if np.bincount(y[valid]).max() < 2:
        raise ValueError(
            f"validation_fraction={fraction} of {len(y)} points of {n_classes} classes holds out "
            "one point of each class: none has a partner. Use a larger fraction, or "
            "validate_on='classes'."
        )
    return np.sort(train), np.sort(valid)


class Batch(tuple[torch.Tensor, torch.Tensor]):
    """Inputs and labels, and what a strategy has assigned to the rows."""

    parts: torch.Tensor | None = None


class MetricDataset(Dataset[Any]):
    """Rows of X and their labels, cast a batch at a time.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Anything that an array of positions can be taken from: X may be larger than memory.
    y : ndarray of shape (n_samples,), int64
    layout : InputLayout
    rows : ndarray of int, default=None
        The positions that belong to the data set; None for all.
    parts : ndarray of shape (n_rows,), default=None
        A number for each of these, which comes with the batches.
    """

    def __init__(
        self, X: Any, y: np.ndarray, layout: InputLayout, rows: Any = None, parts: Any = None
    ):
        self.X, self.y, self.layout, self.parts = X, y, layout, parts
        self.rows = np.arange(len(y)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.__getitems__([place])
        return x[0], y[0]

    def __getitems__(self, places: Any) -> Batch:
        places = np.asarray(places)
        if places.size and not -len(self) <= places.min() <= places.max() < len(self):
            raise ValueError(
                f"iterator_train__sampler gives position {places.max()} of {len(self)} training "
                "rows; give a callable, which gets their labels and makes a sampler."
            )
        rows = self.rows[places]
        x = torch.from_numpy(np.ascontiguousarray(self.X[rows], dtype=np.float32))
        batch = Batch((self.layout.to_module(x), torch.from_numpy(self.y[rows])))
        if self.parts is not None:
            batch.parts = torch.from_numpy(self.parts[places])
        return batch

    @property
    def labels(self) -> np.ndarray:
        """Labels of the rows."""
        return self.y[self.rows]


def collate(batch: Any) -> Any:
    """Return a batch that the data set made as a whole as it is, and samples as a batch."""
    return torch.utils.data.default_collate(batch) if isinstance(batch, list) else batch


@dataclass(frozen=True)
class CollateSamples:
    """A ``collate_fn`` of the user's, which gets a list of pairs (x, y), as it would from torch.

    Attributes
    ----------
    collate : callable
    """

    collate: Callable[[list[Any]], Any]

    def __call__(self, batch: Any) -> Any:
        """Return the collated batch."""
        return self.collate(batch if isinstance(batch, list) else list(zip(*batch, strict=True)))


class ClassBatches(Sampler[list[int]]):
    """Positions of batches with m points of each of k classes.

    k is as large as the batch allows; where there are fewer classes, each gets more points, up to
    the size of the largest. Classes are drawn anew for each batch, all alike; the points of a
    class come in random order, each once before any again; a class with fewer than m is
    repeated. An epoch depends on the seed and its number alone.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Integers.
    batch_size : int
        At least 2 m.
    samples_per_class : int
        m.
    seed : int
    epoch : int, default=0
        Number of the first epoch.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        samples_per_class: int,
        seed: int,
        epoch: int = 0,
    ):
        # positions of the rows of each class
        order = np.argsort(labels, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        # as many classes as fit into a batch; where all do, they share what room is left
        self.n_classes = min(len(self.members), batch_size // samples_per_class)
        largest = max(len(rows) for rows in self.members)
        room = min(batch_size // self.n_classes, largest)
        all_classes = self.n_classes == len(self.members)
        self.m = max(samples_per_class, room) if all_classes else samples_per_class
        self.length = max(1, len(labels) // (self.n_classes * self.m))
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.RandomState([self.seed, self.epoch])
        self.epoch += 1
        # what is left of a random order of each class; an empty queue gets another order
        queues: list[np.ndarray] = [rows[:0] for rows in self.members]
        for _ in range(self.length):
            batch: list[int] = []
            for c in rng.permutation(len(self.members))[: self.n_classes]:
                while len(queues[c]) < self.m:
                    fresh = rng.permutation(self.members[c])
                    again = np.isin(fresh, queues[c])  # not twice in a batch, if that can be
                    queues[c] = np.concatenate([queues[c], fresh[~again], fresh[again]])
                batch += queues[c][: self.m].tolist()
                queues[c] = queues[c][self.m :]
            # mixed, so that any part of a batch has most classes
            yield rng.permutation(batch).tolist()
