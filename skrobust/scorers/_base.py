"""What all scorers share: weights of samples, metadata routing, balance over classes."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.utils import column_or_1d
from sklearn.utils.metadata_routing import MetadataRequest

from skrobust.utils._validation import check_eps
from skrobust.utils._weights import balanced_weight, check_weight, weight_or_ones

__all__ = ["RobustnessScorer", "by_class", "check_budgets", "point_weight", "shares_by_eps"]


class RobustnessScorer:
    """Base class: a callable ``(estimator, X, y, sample_weight=None)`` that takes weights.

    Scikit-learn hands weights to it as to its own scorers: with metadata routing those that
    :meth:`set_score_request` requested, without it those of a search's `fit`.
    """

    _requested: Any = None

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Say whether weights are wanted; needs ``enable_metadata_routing=True``.

        Parameters
        ----------
        sample_weight : bool, str or None
            True requests them, False does not, a text requests them by another name; with None
            it is an error to pass some.

        Returns
        -------
        callable
            Itself.

        Raises
        ------
        RuntimeError
            If metadata routing is off.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._requested = sample_weight
        self.get_metadata_routing()  # raises where it is none of these
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the request of weights, as scikit-learn's routers read it."""
        request = MetadataRequest(owner=type(self).__name__)
        request.score.add_request(param="sample_weight", alias=self._requested)
        return request

    def _accept_sample_weight(self) -> bool:
        # searches ask, where metadata routing is off
        return True


def point_weight(y: Any, sample_weight: Any, balanced: bool = False) -> np.ndarray | None:
    """Return the weights of a mean over points, None for equal ones.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None
    balanced : bool, default=False
        Whether all classes together count the same.
    """
    weight = check_weight(sample_weight, len(y))
    return balanced_weight(y, weight) if balanced else weight


def check_budgets(eps: Any) -> tuple[float, ...]:
    """Return budgets, no two of which have the same name in a dict of scores."""
    budgets = tuple(check_eps(eps).tolist())
    if len({f"{value:g}" for value in budgets}) < len(budgets):
        raise ValueError(f"eps must not have a value twice (six digits count); got {budgets}.")
    return budgets


def shares_by_eps(
    name: str, eps: Sequence[float], shares: Callable[[Sequence[float]], Any]
) -> dict[str, float]:
    """Return the shares of several budgets, by ``"<name>@<eps>"``.

    Parameters
    ----------
    name : str
    eps : sequence of float
    shares : callable ``(eps) -> array-like of shape (n_eps,)``
    """
    pairs = zip(eps, shares(eps), strict=True)
    return {f"{name}@{one:g}": float(share) for one, share in pairs}


def by_class(
    estimator: Any,
    y: Any,
    sample_weight: Any,
    scores: Callable[[np.ndarray | None], dict[str, float]],
) -> dict[str, float]:
    """Return the scores of each class, by ``"<score>[<label>]"``; NaN without points.

    Parameters
    ----------
    estimator : object
        Its `classes_`, where it has some, and those of `y` are looked at: so that the folds of a
        cross-validation have the same keys.
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None
    scores : callable ``(weight) -> dict``
        Scores of the points under some weights.
    """
    labels = column_or_1d(y)
    weight = weight_or_ones(sample_weight, len(labels))
    known = np.asarray(getattr(estimator, "classes_", labels))
    by_label = {}
    for label in sorted({*known.tolist(), *labels.tolist()}):
        own = np.where(labels == label, weight, 0.0)
        some = own.any()
        for name, score in scores(own if some else None).items():
            by_label[f"{name}[{label}]"] = score if some else float("nan")
    return by_label
