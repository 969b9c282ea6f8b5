"""Gaussian copies of rows, the same for a row in whatever batch it comes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from skrobust.certificates._request import model_or_l2
from skrobust.threat_model import ThreatModel
from skrobust.utils._row_noise import RowNoise

__all__ = ["NoisyInput", "noise_scale", "noisy_copies"]


class NoisyInput:
    """Reading and naming of the points that an estimator adds noise to."""

    def _read(self, X: Any) -> np.ndarray:
        self._validate_params()  # type: ignore[attr-defined]
        kinds = [np.float64, np.float32]
        return validate_data(self, X, dtype=kinds, allow_nd=True, reset=False)

    def _named(self, points: np.ndarray) -> Any:
        """Return points as the inner estimator takes them: with names where it knows some."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return points
        import pandas as pd

        return pd.DataFrame(points, columns=names)


def noisy_copies(
    points: np.ndarray, scale: np.ndarray, n: int, seed: int, stage: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Yield copies of all points with noise, some at a time, n of each in the end.

    Parameters
    ----------
    points : ndarray of shape (n_points, ...), float
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
    ndarray of shape (n_points, n_some, ...)
    """
    flat = points.reshape(len(points), -1)
    keys = RowNoise(seed, flat.astype(np.float64)).uniform(2, stage)
    streams = [
        np.random.Generator(np.random.SFC64((key * 2.0**52).astype(np.uint64).tolist()))
        for key in keys
    ]
    done = 0
    while done < n:
        some = min(n - done, max(1, batch_size // len(points)))
        noise = np.stack([s.standard_normal((some, flat.shape[1]), flat.dtype) for s in streams])
        # in float64: in float32 a large value would swallow its noise before it is rounded
        noisy = flat[:, None].astype(np.float64) + noise * scale
        yield noisy.astype(flat.dtype).reshape(len(points), some, *points.shape[1:])
        done += some


def noise_scale(
    model: ThreatModel | None, points: np.ndarray, names: np.ndarray | None
) -> np.ndarray:
    """Return the scales of an ℓ₂ adversary, of shape (n_values,).

    Parameters
    ----------
    model : ThreatModel or None
        None moves all features alike.
    points : ndarray of shape (n_points, ...)
    names : ndarray or None
        Of the features.
    """
    budget = model_or_l2(model).resolve(int(np.prod(points.shape[1:])), names)
    if budget.norm != 2:
        raise ValueError(f"threat_model must have norm=2 for smoothing; got norm={budget.norm:g}.")
    return budget.scale
