r"""Points inside the regions that were certified, and what the victim does with them.

A certificate follows from what is known of a victim: steps that are affine maps, a rule. Both are
compared with what its steps and its `predict` do where it matters, across the certified regions:

- each step gets, for each of its inputs, the largest and the smallest value that any certified
  perturbation reaches: what clips, saturates or wraps around shows there;
- `predict` gets points moved by up to their radius, at random and towards other classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skrobust.adapters import NearestNeighborRule
from skrobust.threat_model import FeatureBudget
from skrobust.utils._floating_point import round_inside
from skrobust.utils._frames import Table

__all__ = ["Region", "refuse_difference"]

_SIZES = np.array([1 - 1e-6, 0.5])  # shares of the radius
_FAR = 1e6  # sizes of X, beyond which no infinite radius is tried


@dataclass(frozen=True, eq=False)
class Region:
    """Perturbed points as a victim gets them.

    Attributes
    ----------
    rule : NearestNeighborRule
    table : Table
        Clean points, in the container in which they were given.
    budget : FeatureBudget
    """

    rule: NearestNeighborRule
    table: Table
    budget: FeatureBudget

    @property
    def raw(self) -> np.ndarray:
        """Clean points, of shape (n_samples, n_features)."""
        return self.table.clean

    def move(self, rows: np.ndarray, deltas: np.ndarray) -> tuple[Any, np.ndarray]:
        """Perturb some points.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        deltas : ndarray of shape (n, n_features)

        Returns
        -------
        points : array-like of shape (n, ...)
            Of the kind of X, in its precision and inside the bounds.
        moved : ndarray of shape (n, n_features)
            How far they really moved.
        """
        raw = self.raw[rows]
        lower, upper = self.budget.box(raw)
        points = np.clip(raw + deltas, lower, upper)
        points = np.where(deltas == 0, raw, round_inside(points, lower, upper, self.table.single))
        moved = points - raw
        # to the last bit: X + moved stays inside the bounds
        for _ in range(4):
            outside = (raw + moved < lower) | (raw + moved > upper)
            moved[outside] = np.nextafter(moved[outside], 0.0)
        return self.table.rebuild(points, rows), moved

    def check_maps(self, radius: np.ndarray) -> None:
        """Raise a NotAffineError where a step is not its map at the ends of what is certified.

        Parameters
        ----------
        radius : ndarray of shape (n_samples,)
        """
        rows = np.flatnonzero(radius > 0)
        if not self.rule.steps or not len(rows):
            return
        radius = self._finite(radius)[rows]
        matrix = np.eye(self.raw.shape[1])
        for step in self.rule.maps:
            gains, directions = self._steepest(matrix)
            values, reach = self.raw[rows] @ matrix.T, np.outer(radius, gains)
            at = np.r_[(values + reach).argmax(axis=0), (values - reach).argmin(axis=0)]
            deltas = radius[at, None] * np.r_[directions, -directions]
            self.rule.embed(self.move(rows[at], deltas)[0])
            matrix = step.matrix @ matrix

    def samples(
        self, rows: np.ndarray, labels: np.ndarray, radius: np.ndarray, rounds: int
    ) -> Iterator[np.ndarray]:
        """Yield perturbations, of shape (n, n_features), of up to the rows' radii.

        Parameters
        ----------
        rows : ndarray of shape (n,)
        labels : ndarray of shape (n,)
            Class indices of the rows.
        radius : ndarray of shape (n_samples,)
        rounds : int
            How many of each row.
        """
        rng = np.random.default_rng(0)
        radius = self._finite(radius)[rows]
        for k in range(rounds):
            turn = np.arange(len(rows)) + k
            toward = rng.standard_normal((len(rows), self.raw.shape[1]))
            others = turn % 2 == 0
            if others.any():
                toward[others] = self._to_others(rows[others], labels[others], rng, toward[others])
            toward[:, self.budget.scale == 0] = 0
            size = self.budget.size(toward)
            share = _SIZES[turn // 2 % 2] * radius / np.where(size > 0, size, np.inf)
            yield share[:, None] * toward

    def _to_others(
        self, rows: np.ndarray, labels: np.ndarray, rng: Any, otherwise: np.ndarray
    ) -> np.ndarray:
        """Return directions in which random training points of other classes come nearer."""
        chosen = rng.integers(len(self.rule.points), size=(4, len(rows)))
        other = self.rule.labels[chosen] != labels
        found = other.any(axis=0)
        points = self.rule.points[chosen[other.argmax(axis=0), np.arange(len(rows))]]
        matrix = self.rule.matrix
        if matrix is None:
            return np.where(found[:, None], points - self.raw[rows], otherwise)
        nearer = (points - self.rule.embed(self.move(rows, 0 * otherwise)[0]).points) @ matrix
        return np.where(found[:, None], nearer, otherwise)

    def _finite(self, radius: np.ndarray) -> np.ndarray:
        """Return the radii, those that are infinite or out of all proportion cut off."""
        largest = _FAR * (1 + np.abs(self.raw).max(initial=0))
        return np.minimum(radius, largest / max(self.budget.scale.max(initial=0), 1e-100))

    def _steepest(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how much a unit of budget moves each output, and the perturbations that do."""
        scale, p = self.budget.scale, self.budget.norm
        slopes = matrix * scale
        gains = np.linalg.norm(slopes, ord=self.budget.dual, axis=1)
        if p == np.inf:
            directions = np.sign(slopes)
        elif p == 2:
            directions = slopes / np.where(gains > 0, gains, 1)[:, None]
        else:
            steepest = np.abs(slopes).argmax(axis=1)[:, None]
            directions = np.zeros_like(slopes)
            signs = np.sign(np.take_along_axis(slopes, steepest, axis=1))
            np.put_along_axis(directions, steepest, signs, axis=1)
        return gains, directions * scale


def refuse_difference(
    estimator: Any, rows: np.ndarray, wrong: np.ndarray, moved: np.ndarray
) -> None:
    """Raise a ValueError where a victim predicts otherwise than what is proved of it.

    A proof allows for rounding, so that one difference is enough: the proof is of something else.

    Parameters
    ----------
    estimator : object
        The victim.
    rows : ndarray of shape (n,)
    wrong : ndarray of shape (n,) of bool
        Where it predicts otherwise.
    moved : ndarray of shape (n, n_features)
        How far the points were moved.
    """
    if not wrong.any():
        return
    k = int(np.flatnonzero(wrong)[0])
    where = "moved inside its certified region" if moved[k].any() else "as it is"
    raise ValueError(
        f"{type(estimator).__name__} does not predict what is proved of the nearest-neighbour rule "
        f"that it is known as: row {rows[k]}, {where}; {int(wrong.sum())} rows differ. Nothing is "
        "certified. Either a part of it predicts or transforms in its own way, or was changed "
        "after fit; or all of it is scikit-learn's and as it was fitted: then the proof is wrong, "
        "please report it."
    )
