"""What all attacks have in common: checks, batches, projection, and asking the victim again."""

from abc import abstractmethod
from contextlib import suppress
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import (
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import (
    Tags,
    check_array,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.attacks._hints import HintsAtThreatModel
from skrobust.attacks._problem import AttackProblem, Victim
from skrobust.attacks._result import AttackResult
from skrobust.attacks._search import Search
from skrobust.threat_model import FeatureBudget, ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._frames import Table, feature_names, names_missed_once
from skrobust.utils._parallel import check_n_jobs
from skrobust.utils._sklearn import HasMethods, Interval, dropped_features, fit_context
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_eps, check_kind_of_labels, check_one_eps

__all__ = [
    "BaseAttack",
    "check_fitted",
    "model_or_default",
    "needed_eps",
    "read_table",
    "resolve_budget",
    "training_model",
]


class BaseAttack(
    HintsAtThreatModel, MetaEstimatorMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Base of the attacks on classifiers.

    A subclass writes :meth:`_perturb`. Everything else is here: the parameters are checked, rows
    are dealt into batches, what comes back is projected onto the threat model, and the victim's
    own `predict` says whether it works.

    Attributes
    ----------
    minimum_norm : bool
        Of a class, like the next two: whether it looks for the smallest perturbation, and so
        needs no budget.
    uses_gradients : bool
        Whether the victim's scores are differentiated.
    fills_batches : bool
        Whether batches are filled up to a fixed size, so that the rounding of a row's result
        does not depend on the rows that it comes with.
    """

    minimum_norm: ClassVar[bool] = False
    uses_gradients: ClassVar[bool] = False
    fills_batches: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "threat_model": [ThreatModel, None],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    # defaults for what an attack has no use for
    estimator: Any = None
    threat_model: ThreatModel | None = None
    n_restarts: int = 1
    batch_size: int = 128
    device: str = "cpu"
    random_state: Any = None
    n_jobs: int | None = None
    verbose: int = 0

    @abstractmethod
    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        """Return perturbed rows, shape (n, n_features), or candidates (n_candidates, n, ...).

        They need not satisfy the threat model, nor work: the caller sees to both.
        """

    def _prepare(self, estimator: Any, table: Table) -> None:
        """Check what is particular to an attack, before any work is done."""

    def _parts(self) -> list[tuple[str, Any]]:
        """Return the attacks inside this one, with their names."""
        return []

    def _check_parts(self, estimator: Any, table: Table, model: ThreatModel) -> None:
        for name, attack in self._parts():
            inner = getattr(attack, "threat_model", None)
            check_same_model(inner, model, table, estimator, name, type(self).__name__)

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone of the victim, unless it is frozen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training points of the victim. Bounds ``"data"`` of the threat model are read here.
        y : array-like of shape (n_samples,)
            Labels; not needed where the victim is in a ``FrozenEstimator``.

        Returns
        -------
        BaseAttack
            Itself, fitted.
        """
        frozen = isinstance(self.estimator, FrozenEstimator)
        if frozen:
            check_is_fitted(self.estimator)
        table = read_table(X, self.estimator if frozen else None)
        validate_data(self, X, reset=True, skip_check_array=True)
        victim = KNeighborsClassifier(1) if self.estimator is None else self.estimator
        _refuse_other_kinds(victim)
        if not frozen and y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        self.threat_model_ = training_model(self.threat_model, X, table)
        self.estimator_ = victim if frozen else clone(victim).fit(X, y)
        if hasattr(self, "max_iter"):  # scikit-learn asks for it where there is a max_iter
            self.n_iter_ = self.max_iter
        self._fit_more(X, y)
        return self

    def _fit_more(self, X: Any, y: Any) -> None:
        """Keep what the attack needs of the training points."""

    def fit_transform(self, X: Any, y: Any = None, labels: Any = None) -> Any:
        """Fit to data, then perturb them: ``fit(X, y).transform(X, labels)``.

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
        return self.fit(X, y).transform(X, labels)

    def transform(self, X: Any, labels: Any = None) -> Any:
        """Perturb points against the victim's own predictions.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        labels : array-like of shape (n_samples,), default=None
            Labels to attack in place of the predictions; in a Pipeline they come by metadata
            routing (``set_transform_request(labels=True)``).

        Returns
        -------
        array or data frame of shape (n_samples, n_features)
            In the container of `X`.
        """
        check_is_fitted(self)
        read_table(X, self.estimator_)
        validate_data(self, X, reset=False, skip_check_array=True)
        if labels is None:
            labels = self.estimator_.predict(X)
        return self._attack(self.estimator_, X, labels, None, self.threat_model_).X_adv

    def run(self, estimator: Any, X: Any, y: Any, *, eps: Any = None) -> AttackResult:
        """Attack a fitted classifier, with true labels.

        Parameters
        ----------
        estimator : fitted classifier
            Anything with `predict`; the attack's own `estimator` is not used.
        X : array-like or data frame of shape (n_samples, n_features)
            Clean points, as the estimator's `predict` takes them.
        y : array-like of shape (n_samples,)
            True labels. Points that are wrong when clean are left alone.
        eps : float or array-like of shape (n_eps,), default=None
            Budgets in place of the threat model's. Of several, a point is attacked at the next
            larger one where it withstood, all within this one run.

        Returns
        -------
        AttackResult

        Raises
        ------
        TypeError
            If the estimator is no classifier, or X is sparse.
        ValueError
            If a parameter or the data are not supported; the message names it.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        refuse_model_as_estimator(self)
        self._validate_params()
        _refuse_other_kinds(estimator)
        check_fitted(estimator)
        return self._attack(estimator, X, y, eps, model_or_default(self.threat_model))

    # What follows is the same for every attack.

    @names_missed_once()
    def _attack(self, estimator: Any, X: Any, y: Any, eps: Any, model: ThreatModel) -> AttackResult:
        check_n_jobs(self.n_jobs)
        resolve_device(self.device)
        table = read_table(X, estimator)
        if y is None:
            raise ValueError(
                "y must hold the true labels; got None. With y=estimator.predict(X) the "
                "predictions themselves are attacked."
            )
        y = column_or_1d(y)
        check_consistent_length(table.values, y)
        clean = np.asarray(estimator.predict(X))
        if clean.shape != y.shape:
            raise ValueError(
                f"estimator must predict one label for each row, of shape {y.shape}; got "
                f"{clean.shape} from {type(estimator).__name__}. Of several outputs attack one: "
                "fit a classifier on that column of y."
            )
        budget = resolve_budget(model, table, estimator)
        budgets = self._budgets(eps, model)
        budget.check_inside(table.clean)
        victim = Victim(estimator, table, y, model, self.device)
        victim.n_queries += len(y)
        check_kind_of_labels(y, clean)
        self._prepare(estimator, table)
        self._check_parts(estimator, table, model)
        correct = clean == y
        if self.uses_gradients and correct.any():
            _ = victim.scores  # an error comes before any work
        search = Search(self, victim, budget, correct)
        for budget_eps in budgets:
            for restart in range(self.n_restarts):
                search.attack(float(budget_eps), restart)
        return search.result(float(budgets[-1]))

    def _budgets(self, eps: Any, model: ThreatModel) -> np.ndarray:
        if eps is None and model.eps is None:
            if not self.minimum_norm:
                raise ValueError(
                    f"eps must be given, to run or in the threat model: {type(self).__name__} "
                    "needs a budget; got None."
                )
            return np.array([np.inf])
        budgets = np.unique(check_eps(model.eps if eps is None else eps))
        return budgets[-1:] if self.minimum_norm else budgets

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = not isinstance(self.estimator, FrozenEstimator)
        return tags


def model_or_default(model: ThreatModel | None) -> ThreatModel:
    """Return the threat model of an attack; None is ℓ₂ with 0.1."""
    return ThreatModel(norm=2, eps=0.1) if model is None else model


def needed_eps(model: ThreatModel) -> float:
    """Return the budget of a threat model that has to have one."""
    if model.eps is None:
        raise ValueError("eps must be given in the threat model of this attack; got None.")
    return check_one_eps(model.eps)


def training_model(model: ThreatModel | None, X: Any, table: Table) -> ThreatModel:
    """Return the threat model of a fit, checked; bounds ``"data"`` are read from X."""
    found = model_or_default(model)
    if isinstance(found.bounds, str) and found.bounds == "data":
        found = found.with_bounds_of(X)
    found.resolve(**table.layout)
    return found


def resolve_budget(model: ThreatModel, table: Table, estimator: Any = None) -> FeatureBudget:
    """Resolve a threat model for a table.

    Columns that are not numbers do not move; those of True and False stay so.

    Parameters
    ----------
    model : ThreatModel
    table : Table
        Of :func:`read_table`.
    estimator : fitted estimator, default=None
        For what :func:`read_table` did not know of it.
    """
    if estimator is not None and table.names is None:
        table = Table.of(table.given, feature_names(estimator))
    return model.resolve_for(table).with_binary(table.binary & table.numeric)


def read_table(X: Any, estimator: Any = None) -> Table:
    """Return X as numbers, checked: dense, two dimensions or more, not empty.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, ...)
    estimator : fitted estimator, default=None
        What X is for: its features, in its order, are those of the table. Columns that it drops
        do not count as numbers; text does where it reads it as numbers.
    """
    names = feature_names(estimator)
    if not hasattr(X, "columns"):
        kinds = [np.float64, np.float32]
        X = check_array(X, dtype=kinds, allow_nd=True, ensure_all_finite=False, input_name="X")
        table = Table.of(X, names)
    else:
        table = Table.of(X, names)
        check_array(table.clean, input_name="X")
    dropped = dropped_features(estimator)
    if dropped is not None and len(dropped) == len(table.numeric):
        table = table.fixing(dropped)
    if estimator is not None and (table.spelled & table.numeric).any():
        table = table.fixing(table.spelled & ~_numbers_to(estimator, table))
    return table


def _numbers_to(estimator: Any, table: Table) -> np.ndarray:
    """Return which columns of numbers as text an estimator takes for numbers.

    To one that does not, another spelling of the same number is another word.
    """
    found = np.zeros(len(table.numeric), dtype=bool)
    for k in np.flatnonzero(table.spelled & table.numeric):
        with suppress(TypeError, ValueError):  # an unknown word
            other = _answer(estimator, table.respelled(int(k)))
            found[k] = np.array_equal(other, _answer(estimator, table.given))
    return found


def _answer(estimator: Any, X: Any) -> np.ndarray:
    """Return the most telling that an estimator says of X."""
    for method in ("predict_proba", "decision_function", "predict", "transform"):
        if hasattr(estimator, method):
            found = getattr(estimator, method)(X)
            return np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    raise TypeError(f"{type(estimator).__name__} has neither predict nor transform.")


def refuse_model_as_estimator(attack: Any) -> None:
    """Raise where something else was given in the first place, which is the estimator's."""
    given = getattr(attack, "estimator", None)
    if isinstance(given, ThreatModel | list):
        meant = "threat_model" if isinstance(given, ThreatModel) else "attacks"
        raise TypeError(
            f"estimator of {type(attack).__name__} is a {type(given).__name__}; did you mean "
            f"{meant}=…?"
        )


def check_same_model(
    inner: Any, model: ThreatModel, table: Table, estimator: Any, name: str, owner: str
) -> None:
    """Raise where an inner attack has a threat model of its own that is not the owner's.

    Budgets may differ: the owner's is used. Bounds ``"data"`` are those that the owner has.

    Parameters
    ----------
    inner : ThreatModel or None
        Of the inner attack.
    model : ThreatModel
        The owner's.
    table, estimator
        For which they are resolved.
    name, owner : str
        What the two are called in the message.
    """
    if inner is None:
        return
    if not isinstance(inner, ThreatModel):
        raise TypeError(f"threat_model of {name} must be a ThreatModel or None; got {inner!r}.")
    if isinstance(inner.bounds, str) and inner.bounds == "data":
        inner = clone(inner).set_params(bounds=model.bounds)
    if not resolve_budget(inner, table, estimator).same_as(resolve_budget(model, table, estimator)):
        raise ValueError(
            f"{name} has a threat_model of its own, {inner!r}, which {owner} does not use; give "
            f"threat_model to {owner}."
        )


def check_fitted(estimator: Any) -> None:
    """Raise NotFittedError for an estimator that is not fitted; other objects pass."""
    if hasattr(estimator, "fit") and hasattr(estimator, "__sklearn_tags__"):
        check_is_fitted(estimator)


def _refuse_other_kinds(estimator: Any) -> None:
    """Refuse what has no classes to change."""
    if not hasattr(estimator, "predict"):
        what = "a transformer: use EmbeddingShift or another attack on embeddings"
        if not hasattr(estimator, "transform"):
            what = "an object with neither predict nor transform"
        raise TypeError(
            f"estimator must have a method predict; {type(estimator).__name__} is {what}."
        )
    if not hasattr(estimator, "__sklearn_tags__"):
        return  # anything with predict is asked
    if is_regressor(estimator):
        raise TypeError(
            f"estimator must be a classifier; got the regressor {type(estimator).__name__}, whose "
            "predictions have no classes to change."
        )
    if not is_classifier(estimator) and hasattr(estimator, "fit_predict"):
        raise TypeError(
            f"estimator must be a classifier; got the clusterer {type(estimator).__name__}."
        )
