"""One way to warn: at the line of the user's that led to it."""

import sys
import warnings

__all__ = ["warn"]

_LIBRARIES = {"contextlib", "joblib", "skrobust", "sklearn", "skorch", "torch"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, at the nearest line outside of the package and of the libraries that call it.

    Parameters
    ----------
    message : str
    category : type of Warning, default=UserWarning
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
