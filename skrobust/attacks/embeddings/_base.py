"""The base of the attacks on embeddings: what a transformer says of a point, without labels."""

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
)
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.attacks._base import (
    check_fitted,
    model_or_default,
    needed_eps,
    read_table,
    refuse_model_as_estimator,
    resolve_budget,
    training_model,
)
from skrobust.attacks._hints import HintsAtThreatModel
from skrobust.attacks._search import budgets_in_turn, verified
from skrobust.attacks.embeddings._view import EmbeddingView
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._frames import names_missed_once
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._sklearn import HasMethods, Interval, StrOptions, fit_context

__all__ = [
    "BLIND",
    "BaseEmbeddingAttack",
    "EmbeddingAttackResult",
    "EmbeddingRows",
    "check_transformer",
    "unit",
]


BLIND = "the first gradient is 0"  # how the warning begins
_MANY = 0.05


@dataclass(frozen=True, eq=False)
class EmbeddingAttackResult:
    """Perturbed points, and where the transformer's own `transform` puts them.

    Attributes
    ----------
    X_adv : array or data frame of shape (n_samples, ...)
        Each row satisfies the threat model: that is checked apart from the attack.
    embedding, embedding_adv : ndarray of shape (n_samples, n_components)
        Of the clean and of the perturbed points, by the public `transform`.
    value : ndarray of shape (n_samples,)
        What the attack reports, from these embeddings; see there.
    perturbation_norm : ndarray of shape (n_samples,)
        ``‖δ / s‖_p``.
    n_queries : int
        Rows that the transformer was asked to transform.
    n_gradient_calls : int
        Rows whose gradient was computed.
    diagnostics : dict
        "zero_gradient": mask of the points where the first gradient was 0 though the value could
        be raised.
    """

    X_adv: Any
    embedding: np.ndarray
    embedding_adv: np.ndarray
    value: np.ndarray
    perturbation_norm: np.ndarray
    n_queries: int
    n_gradient_calls: int
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"EmbeddingAttackResult({len(self.value)} points, mean value "
            f"{float(self.value.mean()):.4g}; {self.n_queries} queries)"
        )


@dataclass(eq=False)
class EmbeddingRows:
    """Some rows, and what an attack on them refers to.

    Attributes
    ----------
    clean : Tensor of shape (n, n_components)
        Embeddings of the clean points; of unit norm where the attack normalises.
    gallery : Tensor of shape (n_gallery, n_components)
        Items that they are compared with.
    own : ndarray of shape (n,)
        The row's own place in the gallery; -1 where it is not in it.
    labels, gallery_labels : ndarray or None
    noise : RowNoise
    """

    clean: torch.Tensor
    gallery: torch.Tensor
    own: np.ndarray
    labels: np.ndarray | None
    gallery_labels: np.ndarray | None
    noise: RowNoise


class BaseEmbeddingAttack(
    HintsAtThreatModel, MetaEstimatorMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Base of the attacks on embeddings.

    A subclass writes :meth:`_select_targets` (what a row is moved toward or away from) and
    :meth:`_value` (what is raised).
    """

    normalizes: ClassVar[bool] = True
    ceiling: ClassVar[float] = np.inf  # where the value cannot be raised, and has no gradient

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "transform"]), None],
        "threat_model": [ThreatModel, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "gradient": [StrOptions({"exact", "nes"})],
        "n_evaluations": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    estimator: Any
    threat_model: ThreatModel | None
    max_iter: int
    step_size: float
    gradient: str
    n_evaluations: int
    batch_size: int
    random_state: Any

    @abstractmethod
    def _select_targets(self, rows: EmbeddingRows) -> Any:
        """Return what the value of these rows refers to."""

    @abstractmethod
    def _value(self, z: torch.Tensor, chosen: Any) -> torch.Tensor:
        """Return what is raised, shape (n,), for embeddings of shape (n, n_components)."""

    def _report(self, z: torch.Tensor, chosen: Any) -> torch.Tensor:
        """Return what is reported of the perturbed rows, shape (n,)."""
        return self._value(z, chosen)

    def _noise(self, seed: int, raw: np.ndarray) -> RowNoise:
        """Return random numbers that belong to the rows."""
        return RowNoise(seed, raw)

    def _move(
        self, view: EmbeddingView, rows: np.ndarray, chosen: Any, noise: RowNoise, n_meant: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return perturbed rows, and where the first gradient was 0; `n_meant` rows count."""
        return view.ascend(rows, chosen, noise, n_meant)

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone of the transformer, unless it is frozen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training points; :meth:`transform` compares with them.
        y : array-like of shape (n_samples,), default=None
            Labels, where the transformer or the attack needs them.

        Returns
        -------
        BaseEmbeddingAttack
            Itself, fitted.
        """
        victim = PCA() if self.estimator is None else self.estimator
        frozen = isinstance(victim, FrozenEstimator)
        if frozen:
            check_is_fitted(victim)
        table = read_table(X, victim if frozen else None)
        validate_data(self, X, reset=True, skip_check_array=True)
        self.threat_model_ = training_model(self.threat_model, X, table)
        self.estimator_ = victim if frozen else clone(victim).fit(X, y)
        self.gallery_ = np.asarray(self.estimator_.transform(X), dtype=np.float64)
        self.gallery_labels_ = None if y is None else column_or_1d(y)
        self.n_iter_ = self.max_iter
        return self

    def fit_transform(self, X: Any, y: Any = None, labels: Any = None) -> Any:
        """Fit to data, then perturb them; their labels are `y` unless others are given.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            As of :meth:`fit`.
        labels : array-like of shape (n_samples,), default=None
            As of :meth:`transform`.

        Returns
        -------
        array or data frame of shape (n_samples, n_features)
        """
        return self.fit(X, y).transform(X, y if labels is None else labels)

    def transform(self, X: Any, labels: Any = None) -> Any:
        """Perturb points against the fitted transformer and its training points.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        labels : array-like of shape (n_samples,), default=None
            For the attacks that choose by them; in a Pipeline they come by metadata routing.

        Returns
        -------
        array or data frame of shape (n_samples, n_features)
            In the container of `X`.
        """
        check_is_fitted(self)
        read_table(X, self.estimator_)
        validate_data(self, X, reset=False, skip_check_array=True)
        found = self._attack(
            self.estimator_,
            X,
            None if labels is None else column_or_1d(labels),
            self.threat_model_,
            self.gallery_,
            self.gallery_labels_,
        )
        return found.X_adv

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
        refuse_model_as_estimator(self)
        self._validate_params()
        check_transformer(estimator)
        labels = None if y is None else column_or_1d(y)
        model = model_or_default(self.threat_model)
        return self._attack(estimator, X, labels, model, None, labels)

    @names_missed_once()
    def _attack(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray | None,
        model: ThreatModel,
        gallery: np.ndarray | None,
        gallery_labels: np.ndarray | None,
    ) -> EmbeddingAttackResult:
        table = read_table(X, estimator)
        eps = needed_eps(model)
        if y is not None and len(y) != len(table):
            raise ValueError(f"y must have {len(table)} labels; got {len(y)}.")
        budget = resolve_budget(model, table, estimator)
        view = EmbeddingView(self, estimator, table, budget, eps)
        raw = view.raw
        budget.check_inside(raw)
        clean = view.transform(raw, np.arange(len(raw)))
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        noise = self._noise(seed, raw)
        points = raw.copy()
        value = np.zeros(len(raw))
        zero = np.zeros(len(raw), dtype=bool)
        embedded = clean.copy()
        items = self._normalize(torch.from_numpy(clean if gallery is None else gallery))
        for start in range(0, len(raw), self.batch_size):
            some = np.arange(start, min(start + self.batch_size, len(raw)))
            # filled up, so that rounding does not depend on the rows that come along
            filled = np.resize(some, self.batch_size) if len(some) < self.batch_size else some
            rows = EmbeddingRows(
                clean=self._normalize(torch.from_numpy(clean[filled])),
                gallery=items,
                own=filled if gallery is None else np.full(len(filled), -1),
                labels=None if y is None else y[filled],
                gallery_labels=gallery_labels,
                noise=noise.take(filled),
            )
            chosen = self._select_targets(rows)
            at, none = clean[filled], zero[filled]
            if eps > 0:
                moved, at, none = self._best(view, filled, chosen, rows.noise, len(some))
                points[some] = moved[: len(some)]
            zero[some], embedded[some] = none[: len(some)], at[: len(some)]
            reported = self._report(self._normalize(torch.from_numpy(at)), chosen)
            value[some] = reported.numpy()[: len(some)]
        if (blind := float(zero.mean())) > _MANY and (budget.scale > 0).any():
            warnings.warn(
                f"{BLIND} for {blind:.1%} of the points, and the attack is blind there: "
                "look for rounding, saturation or a step that is not differentiable, and do not "
                "take what it finds for robustness. gradient='nes' does without gradients.",
                UserWarning,
                stacklevel=4,
            )
        return EmbeddingAttackResult(
            X_adv=verified(table, budget, points, eps),
            embedding=clean,
            embedding_adv=embedded,
            value=value,
            perturbation_norm=budget.size(points - raw),
            n_queries=view.n_queries,
            n_gradient_calls=view.n_gradient_calls,
            diagnostics={"zero_gradient": zero},
        )

    def _best(
        self, view: EmbeddingView, rows: np.ndarray, chosen: Any, noise: RowNoise, n_meant: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return perturbed rows, their embeddings, and where the first gradient was 0.

        Of what was found with whole numbers and categories held and with all that may move.
        """
        raw, single = view.raw[rows], view.table.single
        found = []
        for searched in budgets_in_turn(view.budget):
            view.searched = searched
            moved, zero = self._move(view, rows, chosen, noise, n_meant)
            points = view.budget.project(raw, moved, view.eps, single)
            at = view.transform(points, rows)
            value = self._value(self._normalize(torch.from_numpy(at)), chosen).numpy()
            found.append((points, at, value))
        points, at, value = found[-1]  # the whole budget's, unless the other is better
        held = (found[0][2] > value)[:, None]
        return np.where(held, found[0][0], points), np.where(held, found[0][1], at), zero

    def _normalize(self, z: torch.Tensor) -> torch.Tensor:
        """Return embeddings as the attack compares them."""
        return unit(z) if self.normalizes else z


def check_transformer(estimator: Any) -> None:
    """Raise where an object has no `transform`, or is not fitted."""
    if not hasattr(estimator, "transform"):
        raise TypeError(f"estimator must have a method transform; got {type(estimator).__name__}.")
    check_fitted(estimator)


def unit(z: torch.Tensor) -> torch.Tensor:
    """Return rows of norm 1; a row of zeros stays one."""
    return torch.nn.functional.normalize(z, dim=1)
