"""Random numbers that belong to a row: the same whatever batch or order the row comes in.

Each number is a hash (the finaliser of splitmix64, Steele, Lea and Flood 2014) of the seed, the
row's values, a stream and a position.
"""

import numpy as np

__all__ = ["RowNoise"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class RowNoise:
    """Random numbers keyed by a seed and the values of rows.

    Parameters
    ----------
    seed : int
    X : ndarray of shape (n_samples, n_features), float64
        Rows; equal rows get equal numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.utils._row_noise import RowNoise
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> alone, both = RowNoise(0, X[1:]), RowNoise(0, X)
    >>> bool((alone.uniform(3) == both.uniform(3)[1:]).all())
    True
    """

    def __init__(self, seed: int, X: np.ndarray):
        self.seed = seed
        # + 0.0 makes −0.0 the 0.0 that it equals; NaN (not a number at all) has one pattern too
        bits = np.ascontiguousarray(np.nan_to_num(X) + 0.0, dtype=np.float64).view(np.uint64)
        with np.errstate(over="ignore"):
            place = np.arange(1, bits.shape[1] + 1, dtype=np.uint64) * _GOLDEN
            self._keys = _mix(_mix(bits + place).sum(axis=1, dtype=np.uint64) + np.uint64(seed))

    def uniform(self, width: int, stream: int = 0) -> np.ndarray:
        """Return numbers in [0, 1) of shape (n_samples, width), others for each stream."""
        with np.errstate(over="ignore"):
            start = _mix(self._keys + np.uint64(stream + 1) * np.uint64(0xD1B54A32D192ED03))
            place = np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN
            return (_mix(start[:, None] + place) >> np.uint64(11)) * 2.0**-53

    def normal(self, width: int, stream: int = 0) -> np.ndarray:
        """Return standard normal numbers of shape (n_samples, width) (Box and Muller)."""
        half = -(-width // 2)
        drawn = self.uniform(2 * half, stream)
        radius = np.sqrt(-2 * np.log1p(-drawn[:, :half]))
        angle = 2 * np.pi * drawn[:, half:]
        return np.hstack([radius * np.cos(angle), radius * np.sin(angle)])[:, :width]

    def in_ball(self, width: int, norm: float, stream: int = 0) -> np.ndarray:
        """Return points spread evenly over the unit ball of a norm, shape (n_samples, width)."""
        if norm == np.inf:
            return 2 * self.uniform(width, stream) - 1
        if norm == 2:
            draw = self.normal(width, stream)
        else:  # Laplace
            draw = self.uniform(width, stream) - 0.5
            draw = np.sign(draw) * -np.log1p(-2 * np.abs(draw) * (1 - 1e-16))
        size = np.linalg.norm(draw, ord=norm, axis=1, keepdims=True)
        depth = self.uniform(1, stream + 1_000_003) ** (1 / max(width, 1))
        return draw / np.maximum(size, 1e-300) * depth

    def take(self, rows: np.ndarray) -> "RowNoise":
        """Return the noise of some of the rows."""
        some = object.__new__(RowNoise)
        some.seed, some._keys = self.seed, self._keys[rows]
        return some


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
