r"""Poison a clustering by a few points, with nothing but the clusters that come back.

The victims are the points of one cluster that are nearest to the center of another. With δ their
perturbations inside the threat model and C the clusters of all points, a genetic search lowers

    s( C(X), C(X + δ) )  +  λ ‖δ‖₀ / (n d) · ‖δ‖_p / ε ,

s the adjusted mutual information: few entries, moved little, change the clusters of many. The
clustering is a black box that is fitted anew for every candidate. Children are crossed from two
parents that are drawn by rank, entries are mutated at random, and some are set back to 0; the best
stays.

Idea: Cinà, Torcinovich and Pelillo, *A black-box adversarial attack for poisoning clustering*,
Pattern Recognition 2022. The first candidates here are also drawn toward points of the other
cluster.
"""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.utils import check_random_state, column_or_1d

from skrobust.attacks._base import Attack
from skrobust.attacks._problem import resolve_budget, resolve_eps
from skrobust.attacks._result import EmbeddingAttackResult
from skrobust.attacks._search import verified
from skrobust.attacks.clusters._parts import ClusteringAttackResult, ClusteringParts
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import Table, names_missed_once
from skrobust.utils._sklearn import Interval
from skrobust.utils._warnings import warn

__all__ = ["ClusterPoisoning"]


class ClusterPoisoning(Attack):
    """Move a few points so that others change their clusters: a genetic search.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    share : float, default=0.05
        Share of all points, in (0, 1], that are moved; at most those of one cluster.
    clusters : tuple of two labels, default=None
        Whose points are moved, and toward whose center; None takes the two whose centers are
        nearest to each other, from the larger one.
    population : int, default=20
        Candidates.
    max_iter : int, default=30
        Generations; each clusters all points once for every candidate.
    crossover : float, default=0.85
        Probability that a child has two parents.
    mutation : float, default=0.05
        Probability that an entry is drawn anew.
    zero : float, default=0.01
        Probability that an entry is set back.
    penalty : float, default=0.1
        λ.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line for each generation.

    Notes
    -----
    A clusterer that is not seeded changes by itself, which the search takes for success: give it
    a `random_state`, and compare with :func:`skrobust.scorers.reseeding_floor`.
    ``KeyboardInterrupt`` ends the search with the best candidate so far.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ClusterPoisoning
    >>> X, y = load_iris(return_X_y=True)
    >>> clusters = KMeans(3, n_init=1, random_state=0).fit(X)
    >>> poison = ClusterPoisoning(ThreatModel(eps=2.0), share=0.1, max_iter=5, random_state=0)
    >>> found = poison.run(clusters, X, y)
    >>> int(found.touched.sum())
    15
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "share": [Interval(Real, 0, 1, closed="right")],
        "clusters": [tuple, list, None],
        "population": [Interval(Integral, 2, None, closed="left")],
        "crossover": [Interval(Real, 0, 1, closed="both")],
        "mutation": [Interval(Real, 0, 1, closed="both")],
        "zero": [Interval(Real, 0, 1, closed="both")],
        "penalty": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        share: float = 0.05,
        clusters: Any = None,
        population: int = 20,
        max_iter: int = 30,
        crossover: float = 0.85,
        mutation: float = 0.05,
        zero: float = 0.01,
        penalty: float = 0.1,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.threat_model = threat_model
        self.share = share
        self.clusters = clusters
        self.population = population
        self.max_iter = max_iter
        self.crossover = crossover
        self.mutation = mutation
        self.zero = zero
        self.penalty = penalty
        self.random_state = random_state
        self.verbose = verbose

    @names_missed_once()
    def run(self, estimator: Any, X: Any, y: Any = None) -> ClusteringAttackResult:
        """Poison a fitted clustering.

        Parameters
        ----------
        estimator : fitted clusterer
            As of :meth:`skrobust.attacks.ClusteringAttack.run`; neither gradients nor `predict`
            are needed.
        X : array-like or data frame of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            True labels, for the scores alone; None scores against the clusters of the clean
            points.

        Returns
        -------
        ClusteringAttackResult
            ``found.diagnostics["fitness"]`` has what was minimised, of the best candidate after
            each generation.

        Raises
        ------
        TypeError
            If the estimator is no clusterer.
        ValueError
            If a parameter is not as described, or there is only one cluster.
        """
        self._validate_params()
        parts = ClusteringParts.of(estimator)
        table = read_table(X, parts.embedding)
        model = ThreatModel.of(self.threat_model)
        budget = resolve_budget(model, table)
        eps = resolve_eps(model, budget, table)
        truth = None if y is None else column_or_1d(y)
        if truth is not None and len(truth) != len(table):
            raise ValueError(f"y must have {len(table)} labels; got {len(truth)}.")
        raw = table.clean
        budget.check_inside(raw)
        Z = np.asarray(parts.embedding.transform(X), dtype=np.float64)
        labels = parts.cluster(Z)
        rows, others = self._victims(Z, labels)
        problem = _Problem(parts, table, budget, eps, self.penalty, labels, rows)
        best, history = self._search(problem, raw[others])
        X_adv = problem.everyone(best)
        Z_adv = np.asarray(parts.embedding.transform(X_adv), dtype=np.float64)
        victims = table.reread(table.rebuild(table.values[rows], rows))
        moved = EmbeddingAttackResult(
            X_adv=verified(victims, budget, best, eps),
            embedding=Z[rows],
            embedding_adv=Z_adv[rows],
            value=np.linalg.norm(Z_adv[rows] - Z[rows], axis=1),
            perturbation_norm=budget.size(best - problem.clean),
            n_queries=problem.n_queries,
            n_gradient_calls=0,
            diagnostics={"fitness": history},
        )
        touched = np.isin(np.arange(len(raw)), rows)
        truth = labels if truth is None else truth
        return ClusteringAttackResult.of(X_adv, touched, labels, parts.cluster(Z_adv), truth, moved)

    def _search(self, problem: "_Problem", others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the best candidate, and its fitness after each generation."""
        random_state = check_random_state(self.random_state)
        clean, eps, scale = problem.clean, problem.eps, problem.budget.scale
        # half of the first candidates are random, half go toward points of the other cluster
        start = random_state.uniform(-1, 1, (self.population, *clean.shape)) * eps * scale
        toward = random_state.choice(len(others), (self.population // 2, len(clean)))
        start[: len(toward)] = others[toward] - clean
        history: list[float] = []
        best = clean
        try:
            # the clean points are one of them, so that nothing gets worse
            candidates = problem.project(clean + np.concatenate([start[1:], 0 * start[:1]]))
            values = problem.fitness(candidates)
            for generation in range(self.max_iter):
                children = self._children(candidates, problem, values, random_state)
                candidates = np.concatenate([candidates, children])
                values = np.concatenate([values, problem.fitness(children)])
                kept = np.argsort(values, kind="stable")[: self.population]
                candidates, values = candidates[kept], values[kept]
                best = candidates[0]
                history.append(float(values[0]))
                if self.verbose:
                    print(  # noqa: T201
                        f"generation {generation + 1}/{self.max_iter}  {values[0]:.4f}"
                    )
        except KeyboardInterrupt:
            warn(
                f"interrupted after {len(history)} generations; the best candidate so far is "
                "returned."
            )
        return best, np.array(history)

    def _victims(self, Z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that are moved, and those of the other cluster."""
        names = np.unique(labels[labels >= 0])  # -1 is noise
        if len(names) < 2:
            raise ValueError(
                f"the clustering must have at least two clusters to be poisoned; got {len(names)}."
            )
        centers = np.stack([Z[labels == name].mean(axis=0) for name in names])
        if self.clusters is None:
            distance = np.linalg.norm(centers[:, None] - centers, axis=2)
            np.fill_diagonal(distance, np.inf)
            pair = list(np.unravel_index(distance.argmin(), distance.shape))
            pair.sort(key=lambda c: -(labels == names[c]).sum())
        else:
            given = list(self.clusters)
            known = all(np.ndim(name) == 0 and name in names for name in given)
            if len(given) != 2 or not known or given[0] == given[1]:
                raise ValueError(
                    f"clusters must be two different labels of {names.tolist()}; got "
                    f"{self.clusters!r}."
                )
            pair = [int(np.flatnonzero(names == name)[0]) for name in self.clusters]
        source, target = (np.flatnonzero(labels == names[c]) for c in pair)
        n = min(max(1, round(self.share * len(Z))), len(source))
        near = np.linalg.norm(Z[source] - centers[pair[1]], axis=1)
        return np.sort(source[np.argsort(near, kind="stable")[:n]]), target

    def _children(
        self,
        candidates: np.ndarray,
        problem: "_Problem",
        values: np.ndarray,
        random_state: np.random.RandomState,
    ) -> np.ndarray:
        """Return crossed and mutated candidates, as many as there are."""
        rank = np.empty(len(values))
        rank[np.argsort(values, kind="stable")] = np.arange(len(values), 0, -1)
        parents = random_state.choice(len(values), (2, len(values)), p=rank / rank.sum())
        one, two = candidates[parents[0]], candidates[parents[1]]
        clean, draw = problem.clean, random_state.uniform
        crossed = draw(size=(len(one), 1, 1)) < self.crossover
        children = np.where(crossed & (draw(size=one.shape) < 0.5), two, one)
        drawn = clean + draw(-1, 1, one.shape) * problem.eps * problem.budget.scale
        children = np.where(draw(size=one.shape) < self.mutation, drawn, children)
        children = np.where(draw(size=one.shape) < self.zero, clean, children)
        return problem.project(children)


@dataclass(eq=False)
class _Problem:
    """What is minimised over the rows that may be moved."""

    parts: ClusteringParts
    table: Table
    budget: FeatureBudget
    eps: float
    penalty: float
    labels: np.ndarray
    rows: np.ndarray
    n_queries: int = 0

    @property
    def clean(self) -> np.ndarray:
        """The rows as they are, shape (n, n_features)."""
        return self.table.clean[self.rows]

    def project(self, candidates: np.ndarray) -> np.ndarray:
        """Return candidates, of shape (n_candidates, n, n_features), inside the threat model."""
        clean = self.clean
        return np.stack(
            [self.budget.project(clean, rows, self.eps, self.table.single) for rows in candidates]
        )

    def everyone(self, rows: np.ndarray) -> Any:
        """Return all points, these rows in the place of the clean ones."""
        points = self.table.values.copy()
        points[self.rows] = rows
        return self.table.rebuild(points, np.arange(len(points)))

    def fitness(self, candidates: np.ndarray) -> np.ndarray:
        """Return what is minimised, for each candidate."""
        clean, values = self.clean, []
        for rows in candidates:
            labels = self.parts.cluster(self.parts.embedding.transform(self.everyone(rows)))
            self.n_queries += len(self.table)
            same = adjusted_mutual_info_score(self.labels, labels)
            moved = (rows != clean).sum() / self.table.values.size
            size = self.budget.size(rows - clean).max() / self.eps if self.eps > 0 else 0.0
            values.append(same + self.penalty * moved * size)
        return np.array(values)
