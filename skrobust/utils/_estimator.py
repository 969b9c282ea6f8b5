"""The base of the package's estimators: scikit-learn's, with our version and our pages."""

import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from itertools import takewhile
from typing import Any

from sklearn.base import BaseEstimator as SklearnEstimator
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skrobust._version import __version__
from skrobust.utils._warnings import warn

__all__ = ["BaseEstimator", "Packaged", "fit_unless_frozen", "is_newer", "warn_if_newer"]

_KEY = "_skrobust_version"


class Packaged:
    """What the package adds to scikit-learn's base: its version, and links to its pages.

    Pickles, joblib dumps and skops files say which version wrote them. The HTML view of an
    estimator links to its page of the documentation at the address in the environment variable
    SKROBUST_DOCS, else at that of the package's metadata.
    """

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return state | {_KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        warn_if_newer(f"this {type(self).__name__}", state.get(_KEY, __version__))
        state = {k: v for k, v in state.items() if k != _KEY}
        super().__setstate__(state)  # type: ignore[misc]

    def _get_doc_link(self) -> str:
        """Return the address of the page of the class; "" where none is known."""
        own = type(self)
        home = os.environ.get("SKROBUST_DOCS") or _published()
        public = list(takewhile(lambda part: part[0] != "_", own.__module__.split(".")))
        if not home or public[:1] != ["skrobust"]:
            return ""
        # a page is at the package, wherever in it the class is
        page = ".".join([*public[:2], own.__name__])
        return f"{home.rstrip('/')}/reference/generated/{page}.html"


class BaseEstimator(Packaged, SklearnEstimator):
    """Scikit-learn's base, with what the package adds."""


def fit_unless_frozen(estimator: Any, *data: Any) -> Any:
    """Return a clone fitted on data, or the estimator itself where it is frozen.

    Parameters
    ----------
    estimator : estimator
        A FrozenEstimator has to be fitted.
    *data : array-like
        X, or X and y.
    """
    if isinstance(estimator, FrozenEstimator):
        check_is_fitted(estimator)
        return estimator
    return clone(estimator).fit(*data)


@cache
def _published() -> str:
    """Return the address of the documentation in the package's metadata; "" without one."""
    try:
        urls = metadata("skrobust").get_all("Project-URL") or []
    except PackageNotFoundError:  # a checkout on the path
        return ""
    pairs = (url.partition(",") for url in urls)
    return next((url.strip() for name, _, url in pairs if name == "Documentation"), "")


def is_newer(version: str) -> bool:
    """Return whether a version is newer than this one, by its numbers.

    Parameters
    ----------
    version : str
        Such as "1.2.0.dev3".
    """
    return _numbers(version) > _numbers(__version__)


def warn_if_newer(what: str, version: str) -> None:
    """Warn if something on disk was written by a newer version.

    Parameters
    ----------
    what : str
        What was read, for the message.
    version : str
        The one that wrote it.
    """
    if is_newer(version):
        warn(
            f"{what} was written by skrobust {version}, newer than {__version__}; what it does "
            "may differ."
        )


def _numbers(version: str) -> list[int]:
    released = re.match(r"[\d.]*", str(version))
    return [int(n) for n in (released.group() if released else "").split(".") if n]
