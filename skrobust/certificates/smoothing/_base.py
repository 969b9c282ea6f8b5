"""Gaussian copies of rows, the same for a row in whatever batch it comes.

Noise is added to the features that a threat model lets change; the others, numbers or not, stay
with their rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import Table
from skrobust.utils._row_noise import RowNoise

__all__ = ["NoisyInput", "noisy_copies"]


class NoisyInput:
    """Reading of the points that an estimator adds noise to."""

    def _first_read(self, X: Any) -> Table:
        """Read training points, and keep the scales of their noise."""
        table = self._table(X, reset=True)
        budget = ThreatModel.of(self.threat_model).resolve_for(table)  # type: ignore[attr-defined]
        if budget.norm != 2:
            raise ValueError(
                f"threat_model must have norm=2 for smoothing; got norm={budget.norm:g}."
            )
        self._scale = budget.scale
        return table

    def _read(self, X: Any) -> Table:
        """Read points to predict; what gets noise has to be finite."""
        self._validate_params()  # type: ignore[attr-defined]
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
            if not reset and names is not None:
                import pandas as pd

                X = pd.DataFrame(X, columns=names)  # as the inner estimator knows them
            return Table.of(X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        table = Table.of(X)
        check_array(table.clean, input_name="X")  # not empty
        return table


def noisy_copies(
    table: Table,
    rows: np.ndarray,
    scale: np.ndarray,
    n: int,
    seed: int,
    stage: int,
    batch_size: int,
) -> Iterator[tuple[int, Any]]:
    """Yield copies of some points with noise, some at a time, n of each in the end.

    Parameters
    ----------
    table : Table
    rows : ndarray of shape (n_points,)
        Positions of the points.
    scale : ndarray of shape (n_values,)
        Standard deviations of the noise.
    n : int
    seed : int
    stage : int
        Other stages have other noise.
    batch_size : int
        Copies at a time, of all points together, if that is not less than one each.

    Yields
    ------
    n_some : int
    copies : array or data frame of n_points · n_some rows
        All of the first point, then those of the next.
    """
    flat = table.clean[rows]
    single = bool(table.single.all())
    keys = RowNoise(seed, flat).uniform(2, stage)
    streams = [
        np.random.Generator(np.random.SFC64((key * 2.0**52).astype(np.uint64).tolist()))
        for key in keys
    ]
    done = 0
    while done < n:
        some = min(n - done, max(1, batch_size // len(flat)))
        kind = np.float32 if single else np.float64
        noise = np.stack([s.standard_normal((some, flat.shape[1]), kind) for s in streams])
        # in float64: in float32 a large value would swallow its noise before it is rounded
        noisy = flat[:, None] + noise * scale
        yield some, table.rebuild(noisy.reshape(-1, flat.shape[1]), np.repeat(rows, some))
        done += some
