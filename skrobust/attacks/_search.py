"""A run of an attack: batches, projection, asking the victim, what was found for each row."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.utils import check_random_state

from skrobust.attacks._problem import AttackProblem, Victim
from skrobust.attacks._result import AttackResult
from skrobust.threat_model import FeatureBudget
from skrobust.utils._frames import Table
from skrobust.utils._parallel import Progress, run_parts
from skrobust.utils._row_noise import RowNoise

__all__ = ["Search", "boundary_search", "budgets_in_turn", "take_back", "verified"]

# halvings of a perturbation that is longer than it has to be
_HALVINGS = 24
# groups of whole numbers and categories that are taken back one after the other
_TAKEN_BACK = 16


class Attack(Protocol):
    """What a run needs of an attack."""

    minimum_norm: Any
    fills_batches: Any
    batch_size: int
    n_jobs: int | None
    verbose: int
    random_state: Any

    def _perturb(self, problem: AttackProblem) -> np.ndarray: ...


class Found(NamedTuple):
    """What was found for some rows; arrays over these rows."""

    rows: np.ndarray
    points: np.ndarray
    success: np.ndarray
    size: np.ndarray
    notes: dict[str, np.ndarray]
    n_queries: int
    n_gradient_calls: int


class Search:
    """The state of a run: what was found for each row so far."""

    def __init__(self, attack: Attack, victim: Victim, budget: FeatureBudget, correct: np.ndarray):
        self.attack_, self.victim, self.budget, self.correct = attack, victim, budget, correct
        n = len(correct)
        self.raw = victim.table.clean
        self.points = self.raw.copy()
        self.success = np.zeros(n, dtype=bool)
        self.size = np.zeros(n)
        self.tries = np.zeros(n, dtype=int)
        self.notes: dict[str, np.ndarray] = {}
        seed = check_random_state(attack.random_state).randint(np.iinfo(np.int32).max)
        self.noise = RowNoise(int(seed), self.raw)
        self.wanted = 0

    def attack(self, eps: float, restart: int) -> None:
        """Attack the rows that withstood so far; all, where the smallest perturbation counts."""
        for budget in budgets_in_turn(self.budget):
            self._attack_within(budget, eps, restart)

    def _attack_within(self, budget: FeatureBudget, eps: float, restart: int) -> None:
        rows = np.flatnonzero(self.correct & (self.attack_.minimum_norm | ~self.success))
        self.wanted += 1
        if eps == 0 or len(rows) == 0:
            self.tries[rows] += 1
            return
        attack = self.attack_
        progress = Progress(len(rows), attack.verbose, f"{type(attack).__name__}, eps={eps:g}")

        def keep(found: Found) -> None:
            before = self.success[found.rows]
            better = ~before | (found.success & (found.size < self.size[found.rows]))
            kept = found.rows[better]
            self.points[kept], self.size[kept] = found.points[better], found.size[better]
            self.success[kept] = found.success[better]
            self.tries[found.rows] += 1
            for name, values in found.notes.items():
                whole = self.notes.setdefault(name, np.zeros(len(self.correct), values.dtype))
                if budget is self.budget:  # what is told of a row is told of all that may move
                    whole[found.rows] |= values
            # counted once, wherever it was done
            self.victim.n_queries += found.n_queries
            self.victim.n_gradient_calls += found.n_gradient_calls
            progress.advance(len(found.rows))

        work = partial(
            _attack_rows, attack, self.victim, self.budget, budget, self.noise, eps, restart
        )
        parts = list(_batches(rows, attack.batch_size))
        run_parts(work, parts, attack.n_jobs, keep)

    def result(self, eps: float) -> AttackResult:
        """Check every row apart from the attack, and return what was found."""
        X_adv = verified(self.victim.table, self.budget, self.points, eps)
        return AttackResult(
            X_adv=X_adv,
            success=self.success,
            perturbation_norm=self.size,
            n_queries=self.victim.n_queries,
            n_gradient_calls=self.victim.n_gradient_calls,
            correct=self.correct,
            predicted=self.victim.predict(self.points, np.arange(len(self.points))),
            diagnostics={
                "reached": ~self.correct | self.success | (self.tries >= self.wanted),
                **self.notes,
            },
        )


def budgets_in_turn(budget: FeatureBudget) -> list[FeatureBudget]:
    """Return the budgets that are searched one after the other; the last is the whole one.

    Whole numbers and categories move by jumps, which an attack may take without need, and for
    which it has less left for the rest: first they stay where they are. So an adversary who may
    change them too is not weaker than one who may not.

    Parameters
    ----------
    budget : FeatureBudget
    """
    discrete = budget.discrete
    if not discrete.any() or not (budget.scale[~discrete] > 0).any():
        return [budget]
    return [replace(budget, scale=np.where(discrete, 0.0, budget.scale)), budget]


def perturb(attack: Attack, problem: AttackProblem) -> np.ndarray:
    """Return the candidates of an attack for one batch, shape (n_candidates, n, n_features).

    Parameters
    ----------
    attack : attack
        Its `_perturb` gives one point a row, or several; how many may differ between restarts.
    problem : AttackProblem

    Raises
    ------
    TypeError, ValueError
        What it gives is no such array.
    """
    found, kind = attack._perturb(problem), type(attack).__name__
    if not isinstance(found, np.ndarray):
        raise TypeError(f"{kind}._perturb must return an ndarray; got {type(found).__name__}.")
    shape = problem.raw.shape
    if found.shape[-2:] != shape or found.ndim not in (2, 3):
        raise ValueError(
            f"{kind}._perturb must return an array of shape {shape}, or of several such; got "
            f"{found.shape}."
        )
    return found[None] if found.ndim == 2 else found


def _attack_rows(
    attack: Attack,
    victim: Victim,
    budget: FeatureBudget,
    searched: FeatureBudget,
    noise: RowNoise,
    eps: float,
    restart: int,
    rows: np.ndarray,
) -> Found:
    """Attack one batch within `searched`, project what comes back, and ask the victim."""
    before = victim.n_queries, victim.n_gradient_calls
    n = len(rows)
    filled = rows
    if attack.fills_batches:
        filled = np.concatenate([rows, np.repeat(rows[-1:], attack.batch_size - n)])
    problem = AttackProblem(
        victim, searched, filled, n, np.full(len(filled), eps), noise.take(filled), restart
    )
    candidates = perturb(attack, problem)
    inner = AttackProblem(victim, budget, rows, n, np.full(n, eps), noise.take(rows), restart)
    points, success = inner.raw.copy(), np.zeros(n, dtype=bool)
    size = np.zeros(n)
    for candidate in candidates:
        tried = candidate[:n]
        tried = inner.project(tried, np.inf if attack.minimum_norm else eps)
        works = inner.is_adversarial(tried)
        if attack.minimum_norm:
            tried = boundary_search(inner, tried, works)
        if budget.discrete.any():
            tried = take_back(inner, tried, works, budget.discrete)
            if attack.minimum_norm:  # the other features, with what is left of these
                held = np.where(budget.discrete, tried, inner.raw)
                tried = boundary_search(inner, tried, works, start=held)
        if attack.minimum_norm:
            works &= budget.size(tried - inner.raw) <= eps
            tried[~works] = inner.raw[~works]
        length = budget.size(tried - inner.raw)
        better = (works & (~success | (length < size))) | (~success & ~works)
        points[better], size[better] = tried[better], length[better]
        success |= works
    after = victim.n_queries, victim.n_gradient_calls
    victim.n_queries, victim.n_gradient_calls = before
    return Found(
        rows,
        points,
        success,
        size,
        {name: values[:n] for name, values in problem.notes.items()},
        after[0] - before[0],
        after[1] - before[1],
    )


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
        Of these; of a group all or none.

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
    found = points.copy()
    for some in [np.arange(len(moves)), *parts]:
        columns = np.concatenate([moves[k] for k in some])
        which = np.flatnonzero(works & (found[:, columns] != raw[:, columns]).any(axis=1))
        if len(which) == 0:
            continue
        tried = found[which]
        tried[:, columns] = raw[np.ix_(which, columns)]
        kept = problem.is_adversarial(tried, which)
        found[which[kept]] = tried[kept]
    return found


def verified(table: Table, budget: FeatureBudget, points: np.ndarray, eps: float) -> Any:
    """Return points in the container of the table, checked apart from the attack.

    What is handed back is checked, not what was meant.
    """
    X_adv = table.rebuild(points)
    again = table.reread(X_adv).clean
    satisfied = budget.satisfied(table.clean, again, eps)
    if not satisfied.all():  # never seen; a defect of the projection
        raise RuntimeError(f"{int((~satisfied).sum())} points break the threat model.")
    return X_adv


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
    single = problem.victim.table.single
    for _ in range(halvings):
        middle = (low + high) / 2
        tried = problem.budget.project(raw, origin + middle * delta, np.inf, single)
        flipped = problem.is_adversarial(tried, which)
        shorter = problem.budget.size(tried - raw) <= problem.budget.size(best[which] - raw)
        kept = flipped & shorter
        best[which[kept]] = tried[kept]
        low = np.where(flipped[:, None], low, middle)
        high = np.where(flipped[:, None], middle, high)
    return best


def _batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
