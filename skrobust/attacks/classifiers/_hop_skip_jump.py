r"""HopSkipJump: an attack that sees nothing but predicted labels.

From a point at the boundary, the gradient of the decision is estimated from predictions at
random points around it,

    g = 1/B Σ_b (φ_b − mean φ) u_b,     φ_b = ±1: does x + δ u_b flip?,

a step along g (its signs in ℓ∞) is halved until it flips, and the point is drawn back to the
boundary: by bisection of the radius of the ball around the clean point onto which it is projected,
which is the straight line in ℓ₂ and sparsifies in ℓ₁ (Chen, Jordan and Wainwright,
*HopSkipJumpAttack: a query-efficient decision-based attack*, IEEE S&P 2020, algorithm 2; the form
for ℓ₁ is ours).
"""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch

from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem, Victim
from skrobust.attacks._search import take_back
from skrobust.numerics import project_ball
from skrobust.threat_model import ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import Table
from skrobust.utils._sklearn import Interval

__all__ = ["HopSkipJump"]

_WIDENINGS = 60
_HALVINGS = 60
_KEPT = 1000
_NUMBERS = 2_000_000  # in memory at once


class HopSkipJump(BaseAttack):
    """A small perturbation by predictions alone, in ℓ₁, ℓ₂ or ℓ∞.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``. Any classifier with `predict`.
    threat_model : ThreatModel, default=None
        What may be changed; None is ``ThreatModel()``. Larger perturbations than its `eps` do not
        count; None there is no limit.
    max_iter : int, default=30
        Steps.
    n_evaluations : int, default=100
        Predictions of the first estimate; the t-th takes √t times as many.
    n_starts : int, default=25
        Predictions that look for a first adversarial point, before noise is widened.
    starting_points : array-like of shape (n_points, n_features), default=None
        Points to start from: the nearest of each other label, then the other ones, among the
        `n_starts` nearest and as many farther points. None takes up to 1,000 training points
        after :meth:`fit`; :meth:`run` without a fit starts from noise.
    n_restarts : int, default=1
        Tries, the next one from the next starting point; the best counts.
    batch_size : int, default=128
        Rows that are attacked together.
    random_state : int, RandomState or None, default=None
        For the random points; the same for a row in whatever batch it comes.
    n_jobs : int, default=None
        Jobs for joblib.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    starting_points_ : ndarray of shape (n_points, n_features)
    n_iter_ : int
        Steps that a run makes at most: `max_iter`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import HopSkipJump
    >>> tree = DecisionTreeClassifier(random_state=0).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> attack = HopSkipJump(threat_model=ThreatModel(), random_state=0)
    >>> attack.run(tree, [[0.5, 0.0]], [0]).perturbation_norm.round(2)
    array([0.5])
    """

    minimum_norm = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_evaluations": [Interval(Integral, 2, None, closed="left")],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "starting_points": ["array-like", None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        max_iter: int = 30,
        n_evaluations: int = 100,
        n_starts: int = 25,
        starting_points: Any = None,
        n_restarts: int = 1,
        batch_size: int = 128,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.threat_model = threat_model
        self.max_iter = max_iter
        self.n_evaluations = n_evaluations
        self.n_starts = n_starts
        self.starting_points = starting_points
        self.n_restarts = n_restarts
        self.batch_size = batch_size
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _fit_more(self, X: Any, y: Any) -> None:
        points = read_table(X, self.estimator_).clean
        if len(points) > _KEPT:
            points = points[np.linspace(0, len(points) - 1, _KEPT).astype(int)]
        self.starting_points_ = points

    def _starting_points(self, table: Table) -> np.ndarray | None:
        n_features = len(table.numeric)
        if self.starting_points is not None:
            points = Table.of(self.starting_points, table.names).clean
            if points.shape[1:] != (n_features,):
                raise ValueError(
                    f"starting_points must have {n_features} features; got {points.shape[1:]}."
                )
            return points
        kept = getattr(self, "starting_points_", None)
        return kept if kept is not None and kept.shape[1] == n_features else None

    def _prepare(self, victim: Victim) -> None:
        self._starting_points(victim.table)

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        best, works = self._start(problem)
        which = np.flatnonzero(works)
        if len(which):
            movable = problem.budget.scale > 0
            best = take_back(problem, best, works, movable)
            best[which] = _Walk(self, problem, which).run(best[which])
        return best

    def _start(self, problem: AttackProblem) -> tuple[np.ndarray, np.ndarray]:
        """Return adversarial points, shape (n, n_features), and the mask of rows that have one."""
        best, done = problem.raw.copy(), np.zeros(len(problem.raw), dtype=bool)
        points = self._starting_points(problem.victim.table)
        if points is not None:
            for t in range(len(best)):
                start = self._among(problem, points, t)
                if start is not None:
                    best[t], done[t] = start, True
        # wider and wider noise where no point serves
        for k in range(self.n_starts + _WIDENINGS):
            left = np.flatnonzero(~done)
            if len(left) == 0:
                break
            tried = self._noise(problem, left, k)
            works = problem.is_adversarial(tried, left)
            best[left[works]], done[left[works]] = tried[works], True
        return best, done

    def _among(self, problem: AttackProblem, points: np.ndarray, t: int) -> np.ndarray | None:
        """Return an adversarial point for row t among starting points, None without one."""
        unit = np.where(problem.budget.scale > 0, problem.budget.scale, 1.0)
        near = np.argsort((((points - problem.raw[t]) / unit) ** 2).sum(1), kind="stable")
        # near ones first; the far ones are of use where all near ones have the label
        far = np.linspace(0, len(near) - 1, self.n_starts).astype(int)
        tried = np.concatenate([near[: self.n_starts], near[far]])
        row = np.full(len(tried), t)
        projected = problem.project(points[tried], which=row)  # (2 · n_starts, n_features)
        labels = problem.predict(projected, row)
        works = np.flatnonzero(labels != problem.y[t])
        if len(works) == 0:
            return None
        # the nearest of each label, then the others
        first = np.sort(np.unique(labels[works], return_index=True)[1])
        works = works[np.r_[first, np.setdiff1d(np.arange(len(works)), first)]]
        return projected[works[problem.restart % len(works)]]

    def _noise(self, problem: AttackProblem, left: np.ndarray, k: int) -> np.ndarray:
        """Return the k-th random points for some rows, shape (n_left, n_features)."""
        raw, scale, noise = problem.raw[left], problem.budget.scale, problem.noise.take(left)
        d, stream = raw.shape[1], 1000 * (problem.restart + 1) + k
        # evenly between the ends of a feature that has two, else around the row
        low, high = problem.budget.box(raw)
        boxed = np.isfinite(low) & np.isfinite(high)
        spread = np.where(boxed, high - low, 0.0)
        inside = np.where(boxed, low, 0.0) + spread * noise.uniform(d, stream)
        size = np.linalg.norm(raw, axis=1, keepdims=True) / np.sqrt(d) + 1e-3
        free = raw + 2.0 ** (k / 4 - 3) * size * scale * noise.normal(d, stream)
        return problem.project(np.where(boxed, inside, free), which=left)


class _Walk:
    """Steps along the boundary, of all rows at once, in units of the threat model."""

    def __init__(self, attack: HopSkipJump, problem: AttackProblem, which: np.ndarray):
        self.attack, self.problem, self.which = attack, problem, which
        self.raw, budget = problem.raw[which], problem.budget
        self.norm, self.movable = budget.norm, budget.scale > 0
        self.unit = np.where(self.movable, budget.scale, 1.0)
        self.box = budget.scaled_box(self.raw)
        self.d = max(int(self.movable.sum()), 1)
        # as published: the width of the boundary that is resolved
        self.theta = self.d ** (-1.5 if self.norm == 2 else -2.0)
        self.noise = problem.noise.take(which)
        self.stream = 10_000_000 * (problem.restart + 1)

    def run(self, points: np.ndarray) -> np.ndarray:
        """Walk from adversarial points, and return the nearest of the points on the way."""
        eta = self._to_boundary((points - self.raw) / self.unit * self.movable)
        best = eta.copy()
        for t in range(1, self.attack.max_iter + 1):
            # the direction of the decision, from points within `width`, shape (n,)
            length = self._length(eta)
            width = (np.sqrt(self.d) if self.norm == 2 else self.d) * self.theta * length
            if t == 1:
                width = 0.1 * length
            direction = self._gradient(eta, width, t)
            # a step along it, halved until it flips
            step = length / np.sqrt(t)
            moved, flipped = eta, np.zeros(len(eta), dtype=bool)
            for _ in range(30):
                tried = self._settled(self._clip(eta + step[:, None] * direction))
                works = self._flips(tried) & ~flipped
                moved = np.where(works[:, None], tried, moved)
                flipped |= works
                if flipped.all():
                    break
                step = np.where(flipped, step, step / 2)
            # back to the boundary, which may be nearer or farther than before
            eta = self._to_boundary(moved)
            better = self._length(eta) < self._length(best)
            best[better] = eta[better]
        return self.raw + self.unit * best

    def _gradient(self, eta: np.ndarray, width: np.ndarray, t: int) -> np.ndarray:
        """Estimate the direction in which the decision grows, of norm 1."""
        (n, d), B = eta.shape, int(self.attack.n_evaluations * np.sqrt(t))
        total, weighted, plain = np.zeros(n), np.zeros_like(eta), np.zeros_like(eta)
        block = max(1, _NUMBERS // (self.attack.batch_size * d))
        for first in range(0, B, block):
            # k random directions u, shape (n, k, d), as far as the box lets them go
            k = min(block, B - first)
            stream = self.stream + 100_000 * t + first
            u = self.noise.normal(k * d, stream).reshape(n, k, d) * self.movable
            u /= np.maximum(np.linalg.norm(u, axis=2, keepdims=True), 1e-300)
            at = self._clip((eta + width[:, None] * u.swapaxes(0, 1)).reshape(k * n, d), k)
            u = ((at.reshape(k, n, d) - eta) / np.maximum(width[:, None], 1e-300)).swapaxes(0, 1)
            # φ, shape (n, k): whether each flips
            phi = np.where(self._flips(at, k), 1.0, -1.0).reshape(k, n).T
            total += phi.sum(1)
            weighted += np.einsum("nk,nkd->nd", phi, u)
            plain += u.sum(1)
        # the mean is taken off, unless all flip or none does
        mean = (total / B)[:, None]
        g = np.where(np.abs(mean) == 1, mean * plain, weighted - mean * plain)
        if self.norm == np.inf:
            return np.sign(g)
        return g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-300)

    def _to_boundary(self, eta: np.ndarray) -> np.ndarray:
        """Draw adversarial points in: the smallest ball onto which they project and still flip."""
        low, high = np.zeros(len(eta)), self._length(eta)
        best = eta.copy()
        tolerance = np.maximum(min(self.theta, 1e-3), 1e-9)
        for _ in range(_HALVINGS):
            open_ = high - low > tolerance * high
            if not open_.any():
                break
            middle = (low + high) / 2
            tried = self._settled(self._project(eta, middle))
            # whole numbers may lie outside of a ball that is smaller than their steps
            works = self._flips(tried) & (self._length(tried) <= middle * (1 + 1e-9))
            best = np.where((works & open_)[:, None], tried, best)
            low = np.where(open_ & ~works, middle, low)
            high = np.where(open_ & works, middle, high)
        return best

    def _project(self, eta: np.ndarray, radius: np.ndarray) -> np.ndarray:
        return project_ball(torch.from_numpy(eta), torch.from_numpy(radius), self.norm).numpy()

    def _clip(self, eta: np.ndarray, times: int = 1) -> np.ndarray:
        low, high = (np.tile(end, (times, 1)) for end in self.box)
        return np.clip(eta, low, high)

    def _points(self, eta: np.ndarray, times: int = 1) -> np.ndarray:
        """Return points to predict; `eta` may hold several of each row, one row after the other."""
        points = np.tile(self.raw, (times, 1)) + self.unit * eta
        if not self.problem.budget.discrete.any():
            return points
        return self.problem.project(points, which=np.tile(self.which, times))

    def _settled(self, eta: np.ndarray) -> np.ndarray:
        """Return where the victim predicts, which is elsewhere if some features are discrete."""
        if not self.problem.budget.discrete.any():
            return eta
        return (self._points(eta) - self.raw) / self.unit

    def _length(self, eta: np.ndarray) -> np.ndarray:
        return np.linalg.norm(eta, ord=self.norm, axis=1)

    def _flips(self, eta: np.ndarray, times: int = 1) -> np.ndarray:
        return self.problem.is_adversarial(self._points(eta, times), np.tile(self.which, times))
