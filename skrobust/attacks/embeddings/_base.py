r"""The base of the attacks on embeddings: where a transformer puts a point.

With the embedding z = f(x), a value v(z) is raised by the projected ascent of all attacks, from a
random start. The gradient is that of torch or, for a transformer that has none, the estimate of
natural evolution strategies from antithetic pairs of points (Ilyas, Engstrom, Athalye and Lin,
ICML 2018),

    g = 1/(2 σ P) Σ_p [ v(x + σ s ∘ u_p) − v(x − σ s ∘ u_p) ] u_p.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.utils import column_or_1d

from skrobust.adapters import check_gradient, differentiable_embedding
from skrobust.attacks._ascent import BestIterate, ascend
from skrobust.attacks._base import Attack, AttackTransformer
from skrobust.attacks._problem import (
    AttackProblem,
    Counts,
    ScaledRows,
    Victim,
    resolve_budget,
    resolve_eps,
)
from skrobust.attacks._result import EmbeddingAttackResult
from skrobust.attacks._search import budgets_in_turn, verified
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import names_missed_once
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._sklearn import HasMethods, Interval, StrOptions
from skrobust.utils._warnings import warn

__all__ = [
    "BaseEmbeddingAttack",
    "BlindAttackWarning",
    "EmbeddingAttack",
    "EmbeddingProblem",
    "Gallery",
    "unit",
]

_MANY = 0.05
_START, _WIDTH = 0.1, 0.05  # of the budget: the random start, and the estimate's differences


class BlindAttackWarning(UserWarning):
    """The gradient that an attack follows is 0 for many points, and it does nothing there."""


class Gallery(NamedTuple):
    """What rows are compared with.

    Attributes
    ----------
    items : Tensor of shape (n_gallery, n_components) or None
        Embeddings; None is those of the rows themselves.
    labels : ndarray of shape (n_gallery,) or None
    of_rows : bool
        Whether the items are the rows themselves, and so each row is one of them.
    """

    items: Any = None
    labels: np.ndarray | None = None
    of_rows: bool = False


class EmbeddingVictim(Victim):
    """A fitted transformer, and the rows at which it is attacked."""

    def transform(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings of perturbed rows by the public `transform`, shape (n, k)."""
        z = self.estimator.transform(self.table.rebuild(points, rows))
        z = z.toarray() if hasattr(z, "toarray") else z
        return np.asarray(z, dtype=np.float64).reshape(len(rows), -1)

    @cached_property
    def embed(self) -> Any:
        """The embedding as a function of tensors of flat rows; an error where none is known."""
        embedding, shape = differentiable_embedding(self.estimator), self.table.row_shape
        first = torch.from_numpy(self.table.clean[:1].reshape(1, *shape))
        check_gradient(embedding, first, self.estimator)
        if len(shape) == 1:
            return embedding
        return lambda x: embedding(x.reshape(len(x), *shape))


@dataclass(eq=False, kw_only=True)
class EmbeddingProblem(AttackProblem):
    """Some rows to perturb, and what they are compared with.

    Attributes
    ----------
    clean : Tensor of shape (n, n_components)
        Embeddings of the clean points; of unit norm where the attack normalises.
    gallery : Gallery
        Items that they are compared with.
    own : ndarray of shape (n,)
        The row's own place in the gallery; -1 where it is not in it.
    labels : ndarray of shape (n,) or None
    """

    victim: EmbeddingVictim
    clean: torch.Tensor
    gallery: Gallery

    @property
    def own(self) -> np.ndarray:
        """The row's own place in the gallery, shape (n,); -1 where it is not in it."""
        return self.rows if self.gallery.of_rows else np.full(len(self.rows), -1)

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the rows, shape (n,), None where they are not known."""
        return None if self.victim.y is None else self.y

    def take(self, which: np.ndarray) -> Self:
        """Return the problem of some of the rows, with counts of its own.

        Parameters
        ----------
        which : ndarray of int
        """
        return replace(super().take(which), clean=self.clean[which])

    def transform(self, points: np.ndarray) -> np.ndarray:
        """Return the embeddings of perturbed rows by the public `transform`, shape (n, k)."""
        self.counts.n_queries += self.n_rows
        return self.victim.transform(points, self.rows)

    @cached_property
    def scaled(self) -> ScaledRows:
        """The rows as tensors of float64."""
        return self._scaled(torch.float64, torch.device("cpu"))


class EmbeddingAttack(Attack):
    """What attacks on embeddings share, with a fitted victim.

    A subclass writes :meth:`_select_targets` (what a row is moved toward or away from) and
    :meth:`_value` (what is raised).
    """

    normalizes: ClassVar[bool] = True
    ceiling: ClassVar[float] = np.inf  # where the value cannot be raised, and has no gradient
    uses_gradients: ClassVar[bool] = True
    in_pairs: ClassVar[bool] = False  # whether each two rows are moved together

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Attack._parameter_constraints,
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "gradient": [StrOptions({"exact", "nes"})],
    }

    max_iter: int
    step_size: float
    gradient: str
    n_evaluations: int

    @abstractmethod
    def _select_targets(self, problem: EmbeddingProblem) -> Any:
        """Return what the value of these rows refers to."""

    @abstractmethod
    def _value(self, z: torch.Tensor, targets: Any) -> torch.Tensor:
        """Return what is raised, shape (n,), for embeddings of shape (n, n_components)."""

    def _report(self, z: torch.Tensor, targets: Any) -> torch.Tensor:
        """Return what is reported of the perturbed rows, shape (n,)."""
        return self._value(z, targets)

    def _normalize(self, z: torch.Tensor) -> torch.Tensor:
        """Return embeddings as the attack compares them."""
        return unit(z) if self.normalizes else z

    def _row_noise(self, raw: np.ndarray) -> RowNoise:
        # the two points of a pair may be equal, and must not move alike
        return super()._row_noise(np.c_[raw, np.arange(len(raw)) % 2] if self.in_pairs else raw)

    def _check_victim(self, estimator: Any) -> None:
        if not hasattr(estimator, "transform"):
            kind = type(estimator).__name__
            raise TypeError(f"estimator must have a method transform; got {kind}.")

    @names_missed_once()
    def _attack(
        self, estimator: Any, X: Any, y: Any, model: ThreatModel, gallery: Gallery
    ) -> EmbeddingAttackResult:
        """Attack rows of X; their own embeddings are the gallery where it has no items."""
        table = read_table(X, estimator)
        budget = resolve_budget(model, table)
        eps = resolve_eps(model, budget, table)
        if y is not None and len(y) != len(table):
            raise ValueError(f"y must have {len(table)} labels; got {len(y)}.")
        victim = EmbeddingVictim(estimator, table, y, model)
        problem, clean = self._problem(victim, budget, eps, gallery)
        points, embedded = problem.raw.copy(), clean.copy()
        value, zero = np.zeros(len(points)), np.zeros(len(points), dtype=bool)
        size = 2 * self.batch_size if self.in_pairs else self.batch_size
        for start in range(0, len(points), size):
            # filled up, so that rounding does not depend on the rows that come along
            rows = np.arange(start, min(start + size, len(points)))
            batch, n = problem.take(rows).filled(size), len(rows)
            targets = self._select_targets(batch)
            at = clean[batch.rows]  # (size, n_components), like all of the batch
            if eps > 0:
                moved, at, blind = self._best(batch, targets)
                points[rows], zero[rows] = moved[:n], blind[:n]
            embedded[rows] = at[:n]
            reported = self._report(self._normalize(torch.from_numpy(at)), targets)
            value[rows] = reported.numpy()[:n]
            problem.counts.add(batch.counts)
        if (share := float(zero.mean())) > _MANY and (problem.budget.scale > 0).any():
            warn(
                f"the first gradient is 0 for {share:.1%} of the points, and the attack is blind "
                "there: look for rounding, saturation or a step that is not differentiable, and "
                "do not take what it finds for robustness. gradient='nes' does without gradients.",
                BlindAttackWarning,
            )
        return EmbeddingAttackResult(
            X_adv=verified(table, problem.budget, points, eps),
            embedding=clean,
            embedding_adv=embedded,
            value=value,
            perturbation_norm=problem.budget.size(points - problem.raw),
            n_queries=problem.counts.n_queries,
            n_gradient_calls=problem.counts.n_gradient_calls,
            diagnostics={"zero_gradient": zero},
        )

    def _attack_groups(
        self, estimator: Any, X: Any, groups: np.ndarray, model: ThreatModel, gallery: Gallery
    ) -> EmbeddingAttackResult:
        """Attack points that belong to groups, as a ClusteringAttack does."""
        return self._attack(estimator, X, groups, model, gallery)

    def _problem(
        self, victim: EmbeddingVictim, budget: FeatureBudget, eps: float, gallery: Gallery
    ) -> tuple[EmbeddingProblem, np.ndarray]:
        """Return the problem of all rows, and their clean embeddings, shape (n, n_components)."""
        raw = victim.table.clean
        if self.uses_gradients and self.gradient == "exact":
            _ = victim.embed  # an error comes before any work
        budget.check_inside(raw)
        rows = np.arange(len(raw))
        clean = victim.transform(raw, rows)
        compared = self._normalize(torch.from_numpy(clean))
        if gallery.items is None:
            gallery = Gallery(compared, gallery.labels, of_rows=True)
        else:
            gallery = gallery._replace(items=self._normalize(torch.from_numpy(gallery.items)))
        problem = EmbeddingProblem(
            victim=victim,
            budget=budget,
            rows=rows,
            n_rows=len(rows),
            eps=np.full(len(rows), eps),
            noise=self._row_noise(raw),
            counts=Counts(n_queries=len(rows)),
            clean=compared,
            gallery=gallery,
        )
        return problem, clean

    def _best(
        self, problem: EmbeddingProblem, targets: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return perturbed rows, their embeddings, and where the first gradient was 0.

        The better ones of two: with whole numbers and categories as they are, and with all that
        may move.
        """
        tries = []
        for searched in budgets_in_turn(problem.budget):
            narrowed = replace(problem, budget=searched)
            points = problem.project(self._perturb(narrowed, targets), float(problem.eps[0]))
            at = problem.transform(points)
            value = self._value(self._normalize(torch.from_numpy(at)), targets).numpy()
            tries.append((points, at, value))
        points, at, value = tries[-1]  # the whole budget's, unless the other is better
        first = (tries[0][2] > value)[:, None]
        zero = narrowed.notes.get("zero_gradient", np.zeros(len(points), dtype=bool))
        return np.where(first, tries[0][0], points), np.where(first, tries[0][1], at), zero

    def _perturb(self, problem: EmbeddingProblem, targets: Any) -> np.ndarray:
        """Return perturbed rows, shape (n, n_features)."""
        rows, eps = problem.scaled, float(problem.eps[0])
        # at the clean point the gradient of a shift is undefined
        start = torch.from_numpy(problem.noise.in_ball(rows.raw.shape[1], rows.norm, 1))
        start = rows.project(torch.where(rows.scale > 0, _START * eps * start, 0))
        best = BestIterate(start)

        def slope(eta: torch.Tensor, t: int) -> torch.Tensor:
            value, gradient = self._slope(problem, targets, eta, t)
            problem.count_gradients()
            best.update(eta, value)
            if t == 0:
                # a row that cannot move, or has nothing to gain, is not a blind one
                meant = (eta != 0).any(1) & (value < self.ceiling)
                problem.notes["zero_gradient"] = (meant & (gradient == 0).all(1)).numpy()
            return gradient

        sizes = (self.step_size * eps * (1 - t / self.max_iter) for t in range(self.max_iter))
        last = ascend(rows, start, slope, sizes)
        with torch.no_grad():
            best.update(last, self._value_at(problem, targets, last))
        return problem.points(best.eta)

    def _value_at(self, problem: EmbeddingProblem, targets: Any, eta: torch.Tensor) -> torch.Tensor:
        """Return what is raised, shape (n,), at perturbed rows."""
        x = problem.scaled.points(eta)
        if self.gradient == "exact":
            z = problem.victim.embed(x)
        else:
            z = torch.from_numpy(problem.transform(x.numpy()))
        return self._value(self._normalize(z), targets)

    def _slope(
        self, problem: EmbeddingProblem, targets: Any, eta: torch.Tensor, t: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value, shape (n,), and its gradient or the estimate, of the shape of η."""
        if self.gradient == "exact":
            eta = eta.detach().requires_grad_()
            value = self._value_at(problem, targets, eta)
            (gradient,) = torch.autograd.grad(value.sum(), eta)
            return value.detach(), torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        width, gradient = _WIDTH * float(problem.eps[0]), torch.zeros_like(eta)
        for p in range(self.n_evaluations):
            stream = 10_000 + t * self.n_evaluations + p
            u = torch.from_numpy(problem.noise.normal(eta.shape[1], stream))
            u = torch.where(problem.scaled.scale > 0, u, 0)
            up, down = (
                self._value_at(problem, targets, eta + sign * width * u) for sign in (1, -1)
            )
            gradient += (up - down)[:, None] * u
        return self._value_at(problem, targets, eta), gradient / (2 * width * self.n_evaluations)


class BaseEmbeddingAttack(EmbeddingAttack, AttackTransformer):
    """Base of the attacks on embeddings.

    A subclass writes :meth:`_select_targets` (what a row is moved toward or away from) and
    :meth:`_value` (what is raised).
    """

    transforms_own_labels = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **EmbeddingAttack._parameter_constraints,
        "estimator": [HasMethods(["fit", "transform"]), None],
    }

    def _default_victim(self) -> Any:
        return PCA()

    def _fit_more(self, X: Any, y: Any) -> None:
        self.gallery_ = np.asarray(self.estimator_.transform(X), dtype=np.float64)
        self.gallery_labels_ = None if y is None else column_or_1d(y)

    def _attack_fitted(self, X: Any, labels: Any) -> EmbeddingAttackResult:
        labels = None if labels is None else column_or_1d(labels)
        gallery = Gallery(self.gallery_, self.gallery_labels_)
        return self._attack(self.estimator_, X, labels, self.threat_model_, gallery)

    def run(self, estimator: Any, X: Any, y: Any = None) -> EmbeddingAttackResult:
        """Attack a fitted transformer; the clean points are the gallery.

        Parameters
        ----------
        estimator : fitted transformer
            The attack's own `estimator` is not used.
        X : array-like or data frame of shape (n_samples, n_features)
            Clean points.
        y : array-like of shape (n_samples,), default=None
            Labels, for the attacks that choose by them.

        Returns
        -------
        EmbeddingAttackResult

        Raises
        ------
        TypeError
            If the estimator has no `transform`, or no gradients are known (``gradient="nes"``
            does without).
        ValueError
            If a parameter or the data are not supported; the message names it.
        """
        self._check_run(estimator)
        labels = None if y is None else column_or_1d(y)
        model = ThreatModel.of(self.threat_model)
        return self._attack(estimator, X, labels, model, Gallery(labels=labels))


def unit(z: torch.Tensor) -> torch.Tensor:
    """Return rows of norm 1; a row of zeros stays one."""
    return torch.nn.functional.normalize(z, dim=1)
