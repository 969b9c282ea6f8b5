r"""Verification: whether the two items of a pair are alike.

A pair is accepted where its score is at least a threshold t. With genuine (alike) and impostor
pairs,

    TAR(t) = share of genuine pairs accepted,       FAR(t) = share of impostor pairs accepted,

the equal error rate is where 1 − TAR = FAR, and TAR@FAR=a is the largest TAR with FAR ≤ a. Areas
under the ROC curve are scikit-learn's ``roc_auc_score(alike, score)``.
"""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.utils._weights import weight_or_ones

__all__ = ["equal_error_rate", "tar_at_far", "verification_threshold"]


def equal_error_rate(alike: Any, score: Any, *, sample_weight: Any = None) -> float:
    """Error where as many genuine pairs are refused as impostors are accepted.

    Parameters
    ----------
    alike : array-like of bool of shape (n_pairs,)
        Which pairs are genuine.
    score : array-like of shape (n_pairs,)
        Larger is more alike: `pair_score` of a metric.
    sample_weight : array-like of shape (n_pairs,), default=None
        How much each pair counts, ≥ 0; None counts all alike.

    Returns
    -------
    float
        Between two thresholds, by linear interpolation.

    Examples
    --------
    >>> from skrobust.metrics import equal_error_rate
    >>> equal_error_rate([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    0.5
    """
    _, tar, far = _rates(alike, score, sample_weight)
    miss = 1 - tar
    place = int(np.argmax(far >= miss))  # at the last threshold all pairs are accepted
    if place == 0:
        return float(far[0])
    step = (miss[place - 1] - far[place - 1]) - (miss[place] - far[place])
    share = (miss[place - 1] - far[place - 1]) / step
    return float(far[place - 1] + share * (far[place] - far[place - 1]))


def tar_at_far(alike: Any, score: Any, far: float, *, sample_weight: Any = None) -> float:
    """Largest share of genuine pairs accepted while at most `far` of the impostors are.

    Parameters
    ----------
    alike : array-like of bool of shape (n_pairs,)
        Which pairs are genuine.
    score : array-like of shape (n_pairs,)
        Larger is more alike.
    far : float
        In [0, 1].
    sample_weight : array-like of shape (n_pairs,), default=None
        How much each pair counts, ≥ 0; None counts all alike.

    Returns
    -------
    float

    Examples
    --------
    >>> from skrobust.metrics import tar_at_far
    >>> tar_at_far([True, True, False, False], [0.9, 0.4, 0.6, 0.1], far=0.0)
    0.5
    """
    _, tar, false_accepts = _rates(alike, score, sample_weight)
    return float(tar[false_accepts <= _share(far)].max())


def verification_threshold(
    alike: Any, score: Any, far: float, *, sample_weight: Any = None
) -> float:
    """Smallest threshold at which at most `far` of the impostors are accepted.

    Calibrated on scores under attack it is right against that attack, where one from clean pairs
    is not.

    Parameters
    ----------
    alike : array-like of bool of shape (n_pairs,)
        Which pairs are genuine.
    score : array-like of shape (n_pairs,)
        Larger is more alike; a pair is accepted where it is at least the threshold.
    far : float
        In [0, 1].
    sample_weight : array-like of shape (n_pairs,), default=None
        How much each pair counts, ≥ 0; None counts all alike.

    Returns
    -------
    float
        inf where every threshold among the scores accepts too many.

    Examples
    --------
    >>> from skrobust.metrics import verification_threshold
    >>> verification_threshold([True, True, False, False], [0.9, 0.4, 0.6, 0.1], far=0.5)
    0.4
    """
    thresholds, _, false_accepts = _rates(alike, score, sample_weight)
    return float(thresholds[false_accepts <= _share(far)].min())


def _share(far: Any) -> float:
    if not isinstance(far, Real) or not 0 <= float(far) <= 1:
        raise ValueError(f"far must be in [0, 1]; got {far!r}.")
    return float(far)


def _rates(alike: Any, score: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return falling thresholds, inf first, with TAR and FAR at each."""
    alike, score = column_or_1d(alike).astype(bool), column_or_1d(score).astype(np.float64)
    check_consistent_length(alike, score)
    if np.isnan(score).any():
        raise ValueError("score must not have NaN.")
    weight = weight_or_ones(sample_weight, len(alike))
    counted = weight > 0
    alike, score, weight = alike[counted], score[counted], weight[counted]
    if alike.all() or not alike.any():
        raise ValueError("alike must have genuine and impostor pairs; got only one kind.")
    order = np.argsort(-score, kind="stable")
    score, alike, weight = score[order], alike[order], weight[order]
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
    genuine, impostor = (weight * alike).cumsum(), (weight * ~alike).cumsum()
    tar, far = genuine[last] / genuine[-1], impostor[last] / impostor[-1]
    return np.r_[np.inf, score[last]], np.r_[0.0, tar], np.r_[0.0, far]
