"""The search of a run: batches, projection, prediction, and shorter perturbations."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from skrobust.attacks._problem import AttackProblem, Counts, Victim
from skrobust.attacks._result import AttackResult
from skrobust.threat_model import FeatureBudget
from skrobust.utils._frames import Table
from skrobust.utils._parallel import Progress, run_parts

__all__ = ["Search", "boundary_search", "budgets_in_turn", "take_back", "verified"]

# halvings of a perturbation that is longer than it has to be
_HALVINGS = 24
# groups of whole numbers and categories that are taken back one after the other
_TAKEN_BACK = 16


class Best:
    """The best point of each row so far: one that works, of the smallest size."""

    def __init__(self, raw: np.ndarray):
        self.points, self.size = raw.copy(), np.zeros(len(raw))
        self.success = np.zeros(len(raw), dtype=bool)

    def update(self, rows: Any, points: np.ndarray, success: np.ndarray, size: np.ndarray) -> None:
        """Keep points of some rows; where none works yet, the last one.

        Where two points that work are equally far up to rounding, keep the first: the size of a
        batch changes the last bit of a distance.
        """
        nearer = size < self.size[rows] * (1 - 1e-12)
        better = ~self.success[rows] | (success & nearer)
        kept = rows[better]
        self.points[kept], self.size[kept] = points[better], size[better]
        self.success[kept] = success[better]


class Search:
    """A run on a classifier: its state between batches."""

    def __init__(self, attack: Any, victim: Victim, budget: FeatureBudget, correct: Any):
        n, raw = len(correct), victim.table.clean
        self.attack, self.correct, self.best = attack, correct, Best(raw)
        self.problem = AttackProblem(
            victim=victim,
            budget=budget,
            rows=np.arange(n),
            n_rows=n,
            eps=np.zeros(n),
            noise=attack._row_noise(raw),
            counts=Counts(n_queries=n),  # the clean points
        )
        self.n_tries, self.n_passes = np.zeros(n, dtype=int), 0
        self.notes: dict[str, np.ndarray] = {}

    def run(self, eps: float, restart: int) -> None:
        """Attack the rows that withstood so far; all, where the smallest perturbation counts."""
        for budget in budgets_in_turn(self.problem.budget):
            self.n_passes += 1
            left = self.correct & (self.attack.minimum_norm | ~self.best.success)
            rows = np.flatnonzero(left)
            if eps == 0 or len(rows) == 0:
                self.n_tries[rows] += 1
            else:
                self._attack_within(budget, eps, restart, rows)

    def _attack_within(
        self, budget: FeatureBudget, eps: float, restart: int, rows: np.ndarray
    ) -> None:
        """Attack rows in batches, and keep what is better."""
        attack, whole, n = self.attack, budget is self.problem.budget, len(self.correct)
        progress = Progress(len(rows), attack.verbose, f"{type(attack).__name__}, eps={eps:g}")

        def keep(batch: tuple[np.ndarray, Best, dict[str, np.ndarray], Counts]) -> None:
            rows, best, notes, counts = batch
            self.best.update(rows, best.points, best.success, best.size)
            self.n_tries[rows] += 1
            for name, values in notes.items():
                noted = self.notes.setdefault(name, np.zeros(n, values.dtype))
                if whole:  # diagnostics are those of all that may move
                    noted[rows] |= values
            self.problem.counts.add(counts)
            progress.advance(len(rows))

        everything = replace(self.problem, eps=np.full(n, eps), restart=restart)
        size = attack.batch_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        run_parts(partial(attack_batch, attack, everything, budget), parts, attack.n_jobs, keep)

    def result(self, eps: float) -> AttackResult:
        """Return the best points, each checked independently of the attack."""
        problem, best = self.problem, self.best
        reached = ~self.correct | best.success | (self.n_tries >= self.n_passes)
        return AttackResult(
            X_adv=verified(problem.victim.table, problem.budget, best.points, eps),
            success=best.success,
            perturbation_norm=best.size,
            n_queries=problem.counts.n_queries,
            n_gradient_calls=problem.counts.n_gradient_calls,
            correct=self.correct,
            predicted=problem.victim.predict(best.points, problem.rows),
            diagnostics={"reached": reached, **self.notes},
        )


def attack_batch(
    attack: Any, everything: AttackProblem, searched: FeatureBudget, rows: np.ndarray
) -> tuple[np.ndarray, Best, dict[str, np.ndarray], Counts]:
    """Attack some rows within `searched`, project what comes back, and ask the victim."""
    problem = everything.take(rows)
    raw, budget, eps, n = problem.raw, problem.budget, float(problem.eps[0]), len(rows)
    narrowed = replace(problem, budget=searched)
    if attack.fills_batches:
        narrowed = narrowed.filled(attack.batch_size)
    best = Best(raw)
    # candidates: (n_candidates, n or more, n_features)
    for candidate in attack._candidates(narrowed):
        tried = problem.project(candidate[:n], np.inf if attack.minimum_norm else eps)
        works = problem.is_adversarial(tried)
        if attack.minimum_norm:
            tried = boundary_search(problem, tried, works)
        # whole numbers and categories that need not change go back, and leave more for the rest
        if budget.discrete.any():
            tried = take_back(problem, tried, works, budget.discrete)
            if attack.minimum_norm:
                moved = np.where(budget.discrete, tried, raw)
                tried = boundary_search(problem, tried, works, start=moved)
        # a perturbation that exceeds the budget does not count
        if attack.minimum_norm:
            works &= budget.size(tried - raw) <= eps
            tried[~works] = raw[~works]
        best.update(np.arange(n), tried, works, budget.size(tried - raw))
    notes = {name: values[:n] for name, values in narrowed.notes.items()}
    return rows, best, notes, problem.counts


def budgets_in_turn(budget: FeatureBudget) -> Iterator[FeatureBudget]:
    """Yield the budgets that are searched one after the other; the last is the whole one.

    Whole numbers and categories move by jumps, which an attack may take without need, and for
    which it has less left for the rest: first they stay where they are. So an adversary who may
    change them too is not weaker than one who may not.

    Parameters
    ----------
    budget : FeatureBudget
    """
    discrete = budget.discrete
    if discrete.any() and (budget.scale[~discrete] > 0).any():
        yield replace(budget, scale=np.where(discrete, 0.0, budget.scale))
    yield budget


def verified(table: Table, budget: FeatureBudget, points: np.ndarray, eps: float) -> Any:
    """Return points in the container of the table, checked independently of the attack.

    What is handed back is checked, not what was meant.
    """
    X_adv = table.rebuild(points)
    again = table.reread(X_adv).clean
    satisfied = budget.satisfied(table.clean, again, eps)
    if not satisfied.all():  # never seen; a defect of the projection
        raise RuntimeError(f"{int((~satisfied).sum())} points break the threat model.")
    return X_adv


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
