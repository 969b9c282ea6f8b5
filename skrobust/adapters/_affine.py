"""An affine map, and a declaration that a function is one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skrobust.utils._floating_point import DOUBLE

__all__ = ["AffineFunction", "AffineMap", "NotAffineError"]

# roundings of one result beyond the length of its sum, on the safe side
_EXTRA_OPERATIONS = 16


class NotAffineError(ValueError):
    """A step is not an affine map of its input, or is not known to be one."""


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map ``x ↦ A x + b``, and what the rounding of a program that computes it scales with.

    A program's result differs from ``A x + b`` by at most
    ``operations · u · (absolute |x| + magnitude)``, u its unit roundoff.

    Parameters
    ----------
    matrix : ndarray of shape (n_outputs, n_inputs)
        A.
    offset : ndarray of shape (n_outputs,), default=None
        b; None for 0.
    absolute : ndarray of shape (n_outputs, n_inputs), default=None
        At least ``|A|``: for a product, the product of the factors' absolute values.
    magnitude : ndarray of shape (n_outputs,), default=None
        At least ``|b|``: for ``C (x − m)`` it is ``|C| |m|``.
    operations : int, default=None
        Roundings of one result; None counts a single matrix product.
    unit : float, default=2**-53
        Unit roundoff u of the program, where the data do not say: 2**-24 for one that
        computes in float32 inside.
    """

    matrix: np.ndarray
    offset: np.ndarray = None  # type: ignore[assignment]
    absolute: np.ndarray = None  # type: ignore[assignment]
    magnitude: np.ndarray = None  # type: ignore[assignment]
    operations: int = None  # type: ignore[assignment]
    unit: float = DOUBLE

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        offset = np.zeros(matrix.shape[:1]) if self.offset is None else np.asarray(self.offset)
        if matrix.ndim != 2 or offset.shape != (len(matrix),):
            raise ValueError(
                "matrix must be of shape (n_outputs, n_inputs) and offset (n_outputs,); got "
                f"{matrix.shape} and {offset.shape}."
            )
        derived = {
            "matrix": matrix,
            "offset": offset.astype(np.float64),
            "absolute": np.abs(matrix) if self.absolute is None else self.absolute,
            "magnitude": np.abs(offset) if self.magnitude is None else self.magnitude,
            "operations": self.operations or matrix.shape[1] + _EXTRA_OPERATIONS,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @classmethod
    def centered(cls, matrix: Any, center: Any) -> "AffineMap":
        """Return ``x ↦ A (x − center)``."""
        matrix = np.asarray(matrix, dtype=np.float64)
        center = np.asarray(center, dtype=np.float64)
        return cls(matrix, -matrix @ center, magnitude=np.abs(matrix) @ np.abs(center))

    @classmethod
    def identity(cls, n_features: int) -> "AffineMap":
        """Return ``x ↦ x``."""
        return cls(np.eye(n_features))

    @classmethod
    def stacked(
        cls, blocks: Iterable[tuple["AffineMap", np.ndarray, slice]], n_outputs: int, n_inputs: int
    ) -> "AffineMap":
        """Return the map that sends some inputs to some outputs by each block.

        Parameters
        ----------
        blocks : iterable of (AffineMap, input positions, output slice)
        n_outputs, n_inputs : int
        """
        matrix, offset = np.zeros((n_outputs, n_inputs)), np.zeros(n_outputs)
        absolute, magnitude, operations = matrix.copy(), offset.copy(), 1
        unit = DOUBLE
        for block, inputs, outputs in blocks:
            # adds up where an input is listed twice
            selection = np.zeros((len(inputs), n_inputs))
            selection[np.arange(len(inputs)), inputs] = 1
            matrix[outputs], offset[outputs] = block.matrix @ selection, block.offset
            absolute[outputs], magnitude[outputs] = block.absolute @ selection, block.magnitude
            operations, unit = max(operations, block.operations), max(unit, block.unit)
        return cls(matrix, offset, absolute, magnitude, operations, unit)

    def then(self, other: "AffineMap") -> "AffineMap":
        """Return the map that applies `self` first and `other` to its result."""
        return AffineMap(
            other.matrix @ self.matrix,
            other.matrix @ self.offset + other.offset,
            other.absolute @ self.absolute,
            other.absolute @ self.magnitude + other.magnitude,
            self.operations + other.operations,
            max(self.unit, other.unit),
        )

    def holds(self, before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
        """Return where `after` is ``A x + b`` up to a share of ``absolute |x| + magnitude``.

        Parameters
        ----------
        before, after : ndarray of shape (n_samples, n_inputs), (n_samples, n_outputs)
        share : float

        Returns
        -------
        ndarray of shape (n_samples, n_outputs) of bool
        """
        size = np.abs(before) @ self.absolute.T + self.magnitude
        return np.abs(after - (before @ self.matrix.T + self.offset)) <= share * size + 1e-300

    def check(self, before: np.ndarray, after: np.ndarray, unit: float, name: str) -> None:
        """Raise where what a program made of some points is not ``A x + b`` up to rounding.

        Parameters
        ----------
        before, after : ndarray of shape (n_samples, n_inputs), (n_samples, n_outputs)
        unit : float
            Unit roundoff of the data.
        name : str
            Of the program.

        Raises
        ------
        NotAffineError
        """
        wrong = ~self.holds(before, after, 2 * self.operations * max(unit, self.unit))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise NotAffineError(
                f"{name} does not treat X as the affine map that is known of it: row {row} gets "
                f"{after[row, column]:.6g} as value {column} in the place of "
                f"{before[row] @ self.matrix[column] + self.offset[column]:.6g}."
            )


class AffineFunction:
    """A declaration, for ``FunctionTransformer``, that a function of rows is affine.

    Parameters
    ----------
    func : callable
        Maps an array of shape (n_samples, n_features) to (n_samples, n_outputs), row by
        row, as ``A x + b``. The map is read by probing and confirmed on further probes. It
        is given whole numbers as float64, since sums of integers may wrap around.

    Examples
    --------
    >>> import numpy as np

    from skrobust.utils._floating_point import DOUBLE
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skrobust.adapters import AffineFunction, affine_map
    >>> step = FunctionTransformer(AffineFunction(np.negative)).fit([[1.0]])
    >>> affine_map(step).matrix
    array([[-1.]])
    """

    def __init__(self, func: Callable[..., Any]):
        self.func = func

    def __call__(self, X: Any, **kwargs: Any) -> Any:
        """Return ``func(X, **kwargs)``, whole numbers in float64."""
        if hasattr(X, "columns") and hasattr(X, "astype"):
            whole = [name for name, dtype in X.dtypes.items() if dtype.kind in ("i", "u", "b")]
            X = X.astype(dict.fromkeys(whole, np.float64))
        elif getattr(getattr(X, "dtype", None), "kind", None) in ("i", "u", "b"):
            X = X.astype(np.float64)
        return self.func(X, **kwargs)

    def __repr__(self) -> str:
        return f"AffineFunction({getattr(self.func, '__name__', self.func)!s})"
