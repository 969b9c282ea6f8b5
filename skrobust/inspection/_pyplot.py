"""The one place that imports matplotlib, which is optional."""

from typing import Any

from skrobust.utils._validation import check_norm

__all__ = ["axes_or_new", "norm_sign", "pyplot"]


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``; the error says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('Displays need matplotlib: pip install "skrobust[plot]".') from error
    return plt


def axes_or_new(ax: Any) -> Any:
    """Return the axes that were given, or those of a new figure."""
    plt = pyplot()
    return plt.subplots()[1] if ax is None else ax


def norm_sign(norm: Any) -> str:
    """Return ℓ₁, ℓ₂ or ℓ∞ for a norm as a threat model takes it."""
    return {1.0: "ℓ₁", 2.0: "ℓ₂"}.get(check_norm(norm), "ℓ∞")
