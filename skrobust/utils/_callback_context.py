"""The steps of a fit, passed to scikit-learn's callbacks."""

from collections.abc import Callable
from typing import Any

from skrobust.utils._sklearn import CallbackSupportMixin

__all__ = ["CallbackContext"]


class CallbackContext:
    """The steps of a fit, passed to the callbacks that were set on an estimator.

    Made at the start of `fit`, in which :func:`fit_context` takes the callbacks down again.
    Without callbacks, or with a scikit-learn that knows none, nothing happens.

    Parameters
    ----------
    estimator : CallbackSupportMixin
    X, y : array-like
        What `fit` was given.
    n_steps : int or None
        The most that there can be; None where it is not known.
    """

    def __init__(self, estimator: CallbackSupportMixin, X: Any, y: Any, n_steps: int | None):
        start = getattr(estimator, "_init_callback_context", None)
        self._context: Any = None if start is None else start(max_subtasks=n_steps)
        self._given = {"estimator": estimator, "X": X, "y": y}
        if self._context is not None:
            self._context.call_on_fit_task_begin(**self._given)

    def step(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """Call back after a step; return whether a callback wants the fit to end.

        Parameters
        ----------
        fitted : callable
            Returns the fitted attributes that an estimator has that stops here; called only
            if a callback needs them.
        """
        if self._context is None:
            return False
        step = self._context.subcontext(task_name="epoch")
        step.call_on_fit_task_begin(**self._given)
        return bool(step.call_on_fit_task_end(**self._given, reconstruction_attributes=fitted))

    def end(self) -> None:
        """Call back after the fit."""
        if self._context is not None:
            self._context.call_on_fit_task_end(**self._given, reconstruction_attributes=dict)
