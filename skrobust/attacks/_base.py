"""The base of the attacks: parameters, the victim's fit, batches, projection, the result."""

import inspect
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
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
from sklearn.utils import Tags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.attacks._problem import AttackProblem, Victim, resolve_budget, resolve_eps
from skrobust.attacks._result import AttackResult
from skrobust.attacks._search import Search
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator, fit_unless_frozen
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import Table, names_missed_once
from skrobust.utils._parallel import check_n_jobs
from skrobust.utils._row_noise import RowNoise
from skrobust.utils._sklearn import HasMethods, Interval, fit_context
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_eps, check_kind_of_labels

__all__ = [
    "Attack",
    "AttackTransformer",
    "BaseAttack",
    "check_same_threat_model",
]

_POSITIVE = [Interval(Integral, 1, None, closed="left")]
_OF_THREAT_MODEL = {*ThreatModel._get_param_names(), "epsilon"}


class Attack(BaseEstimator):
    """What all attacks share: parameters and random numbers.

    A subclass lists the constraints of its own parameters only; those of the parameters that
    several attacks have are here. A constructor that gets ``eps`` and the like says where they
    belong.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "threat_model": [ThreatModel, None],
        "max_iter": _POSITIVE,
        "n_restarts": _POSITIVE,
        "n_evaluations": _POSITIVE,
        "batch_size": _POSITIVE,
        "device": [str],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    # whether it looks for the smallest perturbation, and so needs no budget
    minimum_norm: ClassVar[bool] = False

    # for attacks that have no such parameter
    threat_model: ThreatModel | None = None
    n_restarts: int = 1
    batch_size: int = 128
    device: str = "cpu"
    random_state: Any = None
    n_jobs: int | None = None
    verbose: int = 0

    def __init_subclass__(cls, **params: Any) -> None:
        super().__init_subclass__(**params)
        if "__init__" not in vars(cls):
            return
        own = vars(cls).get("_parameter_constraints", {})
        known = super(cls, cls)._parameter_constraints | own
        names = inspect.signature(cls.__init__).parameters
        cls._parameter_constraints = {name: known[name] for name in names if name in known}
        cls.__init__ = _hinting(cls.__init__)  # type: ignore[method-assign]

    def _check_victim(self, estimator: Any) -> None:
        """Raise a TypeError for what cannot be attacked in this way."""

    def _check_run(self, estimator: Any) -> None:
        """Check the parameters, and the fitted victim of a run."""
        self._check_parameters()
        self._check_victim(estimator)
        if hasattr(estimator, "fit") and hasattr(estimator, "__sklearn_tags__"):
            check_is_fitted(estimator)

    def _check_parameters(self) -> None:
        """Raise where a parameter is not as described."""
        given = getattr(self, "estimator", None)
        if isinstance(given, ThreatModel | list):
            meant = "threat_model" if isinstance(given, ThreatModel) else "attacks"
            raise TypeError(
                f"estimator of {type(self).__name__} is a {type(given).__name__}; did you mean "
                f"{meant}=…?"
            )
        self._validate_params()

    def _row_noise(self, raw: np.ndarray) -> RowNoise:
        """Return random numbers that belong to the rows, of shape (n, n_features)."""
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return RowNoise(int(seed), raw)


def _hinting(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that says where parameters of the threat model belong."""
    known = inspect.signature(init).parameters
    elsewhere = _OF_THREAT_MODEL - set(known) if "threat_model" in known else set()

    @wraps(init)
    def hinting(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name in elsewhere:
                own = type(self).__name__
                spelt = "eps" if name == "epsilon" else name
                raise TypeError(
                    f"{own} has no parameter {name!r}: it belongs to the threat model, "
                    f"{own}(threat_model=ThreatModel({spelt}={params[name]!r}))."
                )
        init(self, *args, **params)

    return hinting


class AttackTransformer(MetaEstimatorMixin, OneToOneFeatureMixin, TransformerMixin, Attack):
    """An attack as a transformer, which fits a victim and perturbs points against it.

    A subclass says what the victim is (`_default_victim`, `_check_victim`), what a run is
    (`run`), and how `transform` attacks the fitted victim (`_attack_fitted`).
    """

    # whether fit_transform attacks the labels that it fits the victim to
    transforms_own_labels: ClassVar[bool] = False

    estimator: Any = None

    @abstractmethod
    def _default_victim(self) -> Any:
        """Return the victim for ``estimator=None``, not fitted."""

    @abstractmethod
    def _attack_fitted(self, X: Any, labels: Any) -> Any:
        """Return the result of an attack on the fitted victim; `labels` may be None."""

    def _requires_y(self) -> bool:
        """Return whether `fit` needs labels."""
        return False

    def _fit_more(self, X: Any, y: Any) -> None:
        """Keep what the attack needs of the training points."""

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone of the victim, unless it is frozen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training points of the victim. Bounds ``"data"`` of the threat model are read here.
        y : array-like of shape (n_samples,)
            Labels, where the victim or the attack needs them.

        Returns
        -------
        self : object
            Itself, fitted.
        """
        victim = self._default_victim() if self.estimator is None else self.estimator
        frozen = isinstance(victim, FrozenEstimator)
        if frozen:
            check_is_fitted(victim)
        table = read_table(X, victim if frozen else None)
        validate_data(self, X, reset=True, skip_check_array=True)
        self._check_victim(victim)
        if y is None and self._requires_y():
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        model = ThreatModel.of(self.threat_model)
        if isinstance(model.bounds, str) and model.bounds == "data":
            model = model.with_bounds_of(X)
        budget = model.resolve(**table.layout)
        if not self.minimum_norm:
            model = clone(model).set_params(eps=resolve_eps(model, budget, table))
        self.threat_model_ = model
        self.estimator_ = fit_unless_frozen(victim, X, y)
        if hasattr(self, "max_iter"):  # scikit-learn wants it where there is a max_iter
            self.n_iter_ = self.max_iter
        self._fit_more(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None, labels: Any = None) -> Any:
        """Fit to data, then perturb them.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            As in :meth:`fit`. Attacks on embeddings take them for `labels` too.
        labels : array-like of shape (n_samples,), default=None
            As in :meth:`transform`.

        Returns
        -------
        array or data frame of shape (n_samples, n_features)
        """
        if labels is None and self.transforms_own_labels:
            labels = y
        return self.fit(X, y).transform(X, labels)

    def transform(self, X: Any, labels: Any = None) -> Any:
        """Perturb points against the fitted victim.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        labels : array-like of shape (n_samples,), default=None
            For a classifier, labels to attack in place of its predictions; for an embedding,
            labels that some attacks choose by. In a Pipeline they come by metadata routing
            (``set_transform_request(labels=True)``).

        Returns
        -------
        array or data frame of shape (n_samples, n_features)
            In the container of `X`.
        """
        check_is_fitted(self)
        read_table(X, self.estimator_)
        validate_data(self, X, reset=False, skip_check_array=True)
        return self._attack_fitted(X, labels).X_adv

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._requires_y()
        return tags


class BaseAttack(AttackTransformer):
    """Base of the attacks on classifiers.

    A subclass writes :meth:`_perturb`. Everything else is here: parameters are checked, rows
    are split into batches, what comes back is projected onto the threat model, and the victim's
    own `predict` says whether it works.

    Attributes
    ----------
    minimum_norm : bool
        Whether the class, like the next three, looks for the smallest perturbation, and so
        needs no budget.
    uses_gradients : bool
        Whether the victim's scores are differentiated.
    uses_training_points : bool
        Whether the points of a nearest-neighbour rule are used.
    fills_batches : bool
        Whether batches are filled up to a fixed size, so that the rounding of a row's result
        does not depend on the rows that it comes with.
    """

    uses_gradients: ClassVar[bool] = False
    uses_training_points: ClassVar[bool] = False
    fills_batches: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Attack._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), None],
    }

    @abstractmethod
    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        """Return perturbed rows, shape (n, n_features), or candidates (n_candidates, n, ...).

        They need not satisfy the threat model, nor work: the caller sees to both.
        """

    def _prepare(self, victim: Victim) -> None:
        """Check what is particular to an attack, before any work is done."""

    def _parts(self) -> list[tuple[str, Any]]:
        """Return the attacks inside this one, with their names."""
        return []

    @property
    def white_box(self) -> bool:
        """Whether it looks into the victim: at its gradients or its training points."""
        return self.uses_gradients or self.uses_training_points

    def _default_victim(self) -> Any:
        return KNeighborsClassifier(1)

    def _requires_y(self) -> bool:
        return not isinstance(self.estimator, FrozenEstimator)

    def _check_victim(self, estimator: Any) -> None:
        """Refuse what has no classes to change."""
        kind = type(estimator).__name__
        if not hasattr(estimator, "predict"):
            what = "a transformer: use EmbeddingShift or another attack on embeddings"
            if not hasattr(estimator, "transform"):
                what = "an object with neither predict nor transform"
            raise TypeError(f"estimator must have a method predict; {kind} is {what}.")
        if not hasattr(estimator, "__sklearn_tags__"):
            return  # anything with predict may be attacked
        if is_regressor(estimator):
            raise TypeError(
                f"estimator must be a classifier; got the regressor {kind}, whose predictions "
                "have no classes to change."
            )
        if not is_classifier(estimator) and hasattr(estimator, "fit_predict"):
            raise TypeError(f"estimator must be a classifier; got the clusterer {kind}.")

    def _attack_fitted(self, X: Any, labels: Any) -> AttackResult:
        labels = self.estimator_.predict(X) if labels is None else labels
        return self._attack(self.estimator_, X, labels, None, self.threat_model_)

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
            Budgets in place of the threat model's. With several, a point is attacked at the next
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
        self._check_run(estimator)
        return self._attack(estimator, X, y, eps, ThreatModel.of(self.threat_model))

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
                f"{clean.shape} from {type(estimator).__name__}. With several outputs attack one: "
                "fit a classifier on that column of y."
            )
        budget = resolve_budget(model, table)
        if eps is None and not (self.minimum_norm and model.eps is None):
            eps = resolve_eps(model, budget, table)
        budgets = self._budgets(eps)
        budget.check_inside(table.clean)
        check_kind_of_labels(y, clean)
        victim = Victim(estimator, table, y, model, self.device)
        self._prepare(victim)
        self._check_parts(estimator, table, model)
        correct = clean == y
        if self.uses_gradients and correct.any():
            _ = victim.scores  # an error comes before any work
        search = Search(self, victim, budget, correct)
        for budget_eps in budgets:
            for restart in range(self.n_restarts):
                search.run(float(budget_eps), restart)
        return search.result(float(budgets[-1]))

    def _check_parts(self, estimator: Any, table: Table, model: ThreatModel) -> None:
        for name, attack in self._parts():
            inner = getattr(attack, "threat_model", None)
            check_same_threat_model(inner, model, table, estimator, name, type(self).__name__)

    def _budgets(self, eps: Any) -> np.ndarray:
        if eps is None:  # of an attack of minimum norm
            return np.array([np.inf])
        budgets = np.unique(check_eps(eps))
        return budgets[-1:] if self.minimum_norm else budgets

    def _candidates(self, problem: AttackProblem) -> np.ndarray:
        """Return what `_perturb` gives, checked, of shape (n_candidates, n, n_features).

        How many candidates there are may differ between restarts.
        """
        points, kind = self._perturb(problem), type(self).__name__
        if not isinstance(points, np.ndarray):
            raise TypeError(f"{kind}._perturb must return an ndarray; got {type(points).__name__}.")
        shape = problem.raw.shape
        if points.shape[-2:] != shape or points.ndim not in (2, 3) or not len(points):
            raise ValueError(
                f"{kind}._perturb must return an array of shape {shape}, or of several such; got "
                f"{points.shape}."
            )
        return points.reshape(-1, *shape)


def check_same_threat_model(
    inner: Any, threat_model: ThreatModel, X: Any, estimator: Any, name: str, owner: str
) -> None:
    """Raise where an inner attack has a threat model of its own that is not the owner's.

    Budgets may differ: the owner's is used. Bounds ``"data"`` are those that the owner has.

    Parameters
    ----------
    inner : ThreatModel or None
        The inner attack's.
    threat_model : ThreatModel
        The owner's.
    X : array-like or data frame of shape (n_samples, ...)
    estimator : fitted estimator
        The victim, for which both are resolved.
    name, owner : str
        Names of the two in the message.

    Raises
    ------
    TypeError, ValueError
        If `inner` is no threat model, or another one.
    """
    if inner is None:
        return
    if not isinstance(inner, ThreatModel):
        raise TypeError(f"threat_model of {name} must be a ThreatModel or None; got {inner!r}.")
    if isinstance(inner.bounds, str) and inner.bounds == "data":
        inner = clone(inner).set_params(bounds=threat_model.bounds)
    table = read_table(X, estimator)
    if not resolve_budget(inner, table).same_as(resolve_budget(threat_model, table)):
        raise ValueError(
            f"{name} has a threat_model of its own, {inner!r}, which {owner} does not use; give "
            f"threat_model to {owner}."
        )
