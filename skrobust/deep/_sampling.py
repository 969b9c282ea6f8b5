"""Batches with m points of each of a few classes."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

__all__ = ["ClassBatches", "check_batch"]


def check_batch(batch_size: int, samples_per_class: int) -> None:
    """Raise where a batch cannot hold the points of two classes."""
    if batch_size < 2 * samples_per_class:
        raise ValueError(
            f"batch_size={batch_size} must hold samples_per_class={samples_per_class} points of "
            f"at least two classes: use batch_size >= {2 * samples_per_class}."
        )


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
        check_batch(batch_size, samples_per_class)
        order = np.argsort(labels, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
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
            # mixed, so that any part of a batch holds most classes
            yield rng.permutation(batch).tolist()
