"""The version: that of the installed package, which comes from git tags."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("skrobust")
except PackageNotFoundError:  # a checkout on the path
    __version__ = "0+unknown"
