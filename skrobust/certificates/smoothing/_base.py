"""What smoothed classifiers and embeddings share: their noise, and the proof's probabilities.

Copies of a row have the same noise in whatever batch the row comes. Noise is added to the features
that a threat model lets change; the others, numbers or not, stay with their rows.
"""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import stats
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from skrobust.certificates._result import Certificate
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._frames import Table, with_names
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._sklearn import Interval

__all__ = ["CONSTRAINTS", "SmoothedEstimator", "proportion_bound"]

CONSTRAINTS: dict[str, list[Any]] = {
    "sigma": [Interval(Real, 0, None, closed="neither")],
    "alpha": [Interval(Real, 0, 1, closed="neither")],
    "threat_model": [ThreatModel, None],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


class SmoothedEstimator(BaseEstimator):
    """Points with noise, read and drawn; the base of both kinds of smoothing."""

    sigma: float
    alpha: float
    threat_model: ThreatModel | None
    batch_size: int
    random_state: Any
    verbose: int

    def _first_read(self, X: Any) -> Table:
        """Read training points, and keep the scales of their noise."""
        table = self._table(X, reset=True)
        budget = ThreatModel.of(self.threat_model).resolve_for(table)
        if budget.norm != 2:
            raise ValueError(
                f"threat_model must have norm=2 for smoothing; got norm={budget.norm:g}."
            )
        self._scale = budget.scale
        return table

    def _draw_seed(self) -> None:
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _read(self, X: Any) -> Table:
        """Read points to predict; what gets noise has to be finite."""
        self._validate_params()
        table = self._table(X, reset=False)
        wrong = ~table.finite & (self._scale > 0)
        if wrong.any():
            raise ValueError(
                "X must hold finite numbers in features that get noise, no text, NaN or infinity; "
                f"feature {int(np.argmax(wrong))} does not."
            )
        return table

    def _table(self, X: Any, reset: bool) -> Table:
        names = getattr(self, "feature_names_in_", None)
        if not hasattr(X, "columns"):
            kinds = [np.float64, np.float32]
            X = validate_data(
                self, X, dtype=kinds, allow_nd=True, reset=reset, ensure_all_finite=False
            )
            # as the inner estimator knows them
            return Table.of(X if reset else with_names(X, names))
        validate_data(self, X, reset=reset, skip_check_array=True)
        table = Table.of(X)
        check_array(table.clean, input_name="X")  # not empty
        return table

    def _parts(self, n_points: int, n_copies: int) -> list[np.ndarray]:
        """Return the rows that are drawn together, so that their copies make about a batch."""
        most = max(1, self.batch_size // n_copies)
        return np.split(np.arange(n_points), range(most, n_points, most))

    def _copies(
        self, table: Table, rows: np.ndarray, n: int, stage: int
    ) -> Iterator[tuple[int, Any]]:
        """Yield copies of some points with noise, some at a time, n of each in the end.

        Parameters
        ----------
        table : Table
        rows : ndarray of shape (n_points,)
            Positions of the points.
        n : int
        stage : int
            Other stages have other noise.

        Yields
        ------
        some : int
            Copies of each point; of all points at most `batch_size`, if that is one each or more.
        copies : array or data frame of n_points · some rows
            All of the first point, then those of the next.
        """
        flat = table.clean[rows]
        kind: Any = np.float32 if table.single.all() else np.float64
        # a stream of random numbers for each row, which its values choose
        keys = RowNoise(self._seed, flat).uniform(2, stage)
        streams = [
            np.random.Generator(np.random.SFC64((key * 2.0**52).astype(np.uint64).tolist()))
            for key in keys
        ]
        scale, done = self.sigma * self._scale, 0
        while done < n:
            some = min(n - done, max(1, self.batch_size // len(flat)))
            # (n_points, some, n_features)
            noise = np.stack([s.standard_normal((some, flat.shape[1]), kind) for s in streams])
            # in float64: in float32 a large value would swallow its noise before it is rounded
            noisy = flat[:, None] + noise * scale
            yield some, table.rebuild(noisy.reshape(-1, flat.shape[1]), np.repeat(rows, some))
            done += some

    def _probable(
        self, radius: np.ndarray, status: np.ndarray, kind: str, target: Any = None
    ) -> Certificate:
        """Return a certificate whose radii hold with probability 1 − α each."""
        return Certificate(
            radius=radius,
            status=status,
            norm=2.0,
            method=f"{kind}, each radius with probability {1 - self.alpha:g}",
            scale=self._scale,
            feature_names=getattr(self, "feature_names_in_", None),
            target=target,
        )


def proportion_bound(count: Any, n: int, alpha: float, side: str = "lower") -> np.ndarray:
    """Bound the probability of what happened `count` times of n, but for α (Clopper and Pearson).

    Parameters
    ----------
    count : int or ndarray of int
    n : int
    alpha : float
        Probability with which the bound is wrong.
    side : {"lower", "upper"}, default="lower"

    Returns
    -------
    ndarray of the shape of `count`
        The p at which so many or more (fewer for "upper") have probability α.
    """
    count = np.asarray(count)
    if side == "upper":
        return np.where(count < n, stats.beta.isf(alpha, count + 1, np.maximum(n - count, 1)), 1.0)
    some = np.maximum(count, 1)
    return np.where(count > 0, stats.beta.ppf(alpha, some, n - some + 1), 0.0)
