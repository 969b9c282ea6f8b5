"""A fit that fails leaves the estimator as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["unchanged_on_error"]


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Restore an estimator's attributes if the ``with`` block raises; gradients are on inside.

    Parameters
    ----------
    estimator : object
    """
    before = dict(estimator.__dict__)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise
