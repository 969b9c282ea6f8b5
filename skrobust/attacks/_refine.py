"""Smaller perturbations that still work: along the line to the clean point, feature by feature."""

import numpy as np

from skrobust.attacks._problem import AttackProblem

__all__ = ["boundary_search", "take_back"]

# halvings of a perturbation that is longer than it has to be
_HALVINGS = 24
# groups of whole numbers and categories that are taken back one after the other
_TAKEN_BACK = 16


def take_back(
    problem: AttackProblem, points: np.ndarray, works: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Take back the moves of features that points can do without.

    All at once first, then one feature or one-hot group after the other (where there are many,
    several at a time).

    Parameters
    ----------
    problem : AttackProblem
    points : ndarray of shape (n, n_features)
        Perturbed rows, which satisfy the threat model.
    works : ndarray of shape (n,) of bool
        Which of them are predicted as the adversary wants, and stay so.
    features : ndarray of shape (n_features,) of bool
        Which features; of a group all or none.

    Returns
    -------
    ndarray of shape (n, n_features)
    """
    raw, single = problem.raw, features.copy()
    moves = [group for group in problem.budget.groups if features[group].all()]
    for group in moves:
        single[group] = False
    moves += [np.array([k]) for k in np.flatnonzero(single)]
    parts = np.array_split(np.arange(len(moves)), min(len(moves), _TAKEN_BACK))
    best = points.copy()
    for some in [np.arange(len(moves)), *parts]:
        columns = np.concatenate([moves[k] for k in some])
        which = np.flatnonzero(works & (best[:, columns] != raw[:, columns]).any(axis=1))
        if len(which) == 0:
            continue
        tried = best[which]
        tried[:, columns] = raw[np.ix_(which, columns)]
        kept = problem.is_adversarial(tried, which)
        best[which[kept]] = tried[kept]
    return best


def boundary_search(
    problem: AttackProblem,
    points: np.ndarray,
    works: np.ndarray,
    halvings: int = _HALVINGS,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Move points that work toward the clean ones as far as they still work, by bisection.

    Parameters
    ----------
    problem : AttackProblem
    points : ndarray of shape (n, n_features)
        Perturbed rows.
    works : ndarray of shape (n,) of bool
        Which of them are predicted as the adversary wants.
    halvings : int
    start : ndarray of shape (n, n_features), default=None
        Where to, in place of the clean points.

    Returns
    -------
    ndarray of shape (n, n_features)
    """
    best = points.copy()
    which = np.flatnonzero(works)
    if len(which) == 0:
        return best
    raw = problem.raw[which]
    origin = raw if start is None else start[which]
    delta = points[which] - origin
    low, high = np.zeros((len(which), 1)), np.ones((len(which), 1))
    for _ in range(halvings):
        # the middle of each segment, where its point is adversarial: the new end
        middle = (low + high) / 2
        tried = problem.project(origin + middle * delta, which=which)
        flipped = problem.is_adversarial(tried, which)
        shorter = problem.budget.size(tried - raw) <= problem.budget.size(best[which] - raw)
        kept = flipped & shorter
        best[which[kept]] = tried[kept]
        low = np.where(flipped[:, None], low, middle)
        high = np.where(flipped[:, None], middle, high)
    return best
