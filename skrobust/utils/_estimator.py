"""The base of the package's estimators: scikit-learn's, with our version in what is pickled."""

import re
import warnings
from typing import Any

from sklearn.base import BaseEstimator as SklearnEstimator

from skrobust._version import __version__

__all__ = ["BaseEstimator", "VersionedState", "is_newer"]

_KEY = "_skrobust_version"


class VersionedState:
    """Pickles, joblib dumps and skops files that say which version wrote them."""

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return state | {_KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        version = state.get(_KEY, __version__)
        if is_newer(version):
            warnings.warn(
                f"this {type(self).__name__} was written by skrobust {version}, newer than "
                f"{__version__}; what it does may differ.",
                UserWarning,
                stacklevel=2,
            )
        state = {k: v for k, v in state.items() if k != _KEY}
        super().__setstate__(state)  # type: ignore[misc]


class BaseEstimator(VersionedState, SklearnEstimator):
    """Scikit-learn's base, with our version in what is pickled."""


def is_newer(version: str) -> bool:
    """Return whether a version is newer than this one, by its numbers.

    Parameters
    ----------
    version : str
        Such as "1.2.0.dev3".
    """
    return _numbers(version) > _numbers(__version__)


def _numbers(version: str) -> list[int]:
    released = re.match(r"[\d.]*", str(version))
    return [int(n) for n in (released.group() if released else "").split(".") if n]
