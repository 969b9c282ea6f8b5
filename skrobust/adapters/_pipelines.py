"""The parts of a fitted object: what is inside wrappers, and the steps of nested pipelines."""

from collections.abc import Callable
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skrobust.adapters._steps import active_steps
from skrobust.utils._guard import protocol_method, refuse_overrides
from skrobust.utils._sklearn import BaseSearchCV

__all__ = ["as_pipeline", "split_pipeline", "unwrap"]


def unwrap(estimator: Any) -> Any:
    """Return what is inside frozen and search objects.

    Parameters
    ----------
    estimator : fitted estimator

    Returns
    -------
    fitted estimator
        The one that is frozen, or the best one of a search.

    Raises
    ------
    TypeError
        If one of the wrappers predicts or transforms in its own way.
    sklearn.exceptions.NotFittedError
        If a search has no best estimator.
    """
    while isinstance(estimator, (FrozenEstimator, BaseSearchCV)):
        known = FrozenEstimator if isinstance(estimator, FrozenEstimator) else BaseSearchCV
        refuse_overrides(estimator, known, ("predict", "transform"), "use what is inside")
        inner = "estimator" if isinstance(estimator, FrozenEstimator) else "best_estimator_"
        if not hasattr(estimator, inner):
            raise NotFittedError(
                f"{type(estimator).__name__} must be fitted, with refit; got "
                f"refit={getattr(estimator, 'refit', None)!r}."
            )
        estimator = getattr(estimator, inner)
    return estimator


def as_pipeline(estimator: Any) -> Any:
    """Return the estimator or pipeline that does what a fitted object does.

    Parameters
    ----------
    estimator : fitted estimator
        A type with a method ``_as_pipeline()`` gives one that predicts the same; frozen and
        search objects are unwrapped.

    Returns
    -------
    fitted estimator
    """
    inside = unwrap(estimator)
    method = protocol_method(inside, "_as_pipeline", "predict")
    return inside if method is None else method()


def split_pipeline(
    estimator: Any, chosen: Callable[[Any], bool]
) -> tuple[list[tuple[str, Any]], Any, Any] | None:
    """Split a pipeline at its first step of a kind, which is not its last.

    Parameters
    ----------
    estimator : fitted estimator
        Pipelines inside it are part of it.
    chosen : callable (step) -> bool
        Whether a step is of that kind.

    Returns
    -------
    (list of (name, step), step, estimator) or None
        The steps before it, the step, what comes after it; None where no step is of the kind.
    """
    steps = _flat(as_pipeline(estimator))
    for k, (_, step) in enumerate(steps[:-1]):
        if chosen(as_pipeline(step)):
            rest = steps[k + 1 :]
            tail = rest[0][1] if len(rest) == 1 else Pipeline(rest)
            return steps[:k], as_pipeline(step), tail
    return None


def _flat(estimator: Any) -> list[tuple[str, Any]]:
    """Return the steps of a pipeline, those of pipelines inside it too."""
    if not isinstance(estimator, Pipeline):
        return [("estimator", estimator)]
    refuse_overrides(estimator, Pipeline, ("predict", "transform"), "use a Pipeline")
    flat = []
    for name, step in active_steps(estimator.steps):
        inside = as_pipeline(step)
        inner = _flat(inside) if isinstance(inside, Pipeline) else [(name, step)]
        flat += [(name if n == "estimator" else n, child) for n, child in inner]
    if len({name for name, _ in flat}) == len(flat):
        return flat
    # names of nested pipelines may meet
    return [(f"{k}_{name}", step) for k, (name, step) in enumerate(flat)]
