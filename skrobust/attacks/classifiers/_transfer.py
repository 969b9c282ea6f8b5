"""Transfer: an attack on one model, tried on another."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem, Counts, Victim, checked_scores
from skrobust.attacks.classifiers._pgd import PGD
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import Table, feature_names
from skrobust.utils._sklearn import BaseComposition, HasMethods

__all__ = ["TransferAttack"]


class TransferAttack(BaseAttack):
    """Perturbations that fool a surrogate, tried on the victim.

    What an adversary can do who cannot see the victim, but has a model of his own; and a way to
    use gradients against a victim that has none.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``. Any classifier with `predict`.
    surrogate : classifier, default=None
        The model that is attacked in its place. :meth:`fit` fits a clone of it; :meth:`run`
        without a fit needs a fitted one, in a ``FrozenEstimator`` where the attack is cloned (in
        scorers). None is ``KNeighborsClassifier(1)``.
    attack : attack, default=None
        How the surrogate is attacked; None is ``PGD(n_restarts=2)``. It has no `threat_model` of
        its own, or the same.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    batch_size : int, default=128
        Rows that are attacked together.
    random_state : int, RandomState or None, default=None
        For the attack's random starts.
    verbose : int, default=0
        1 prints a line every other second, 2 one for each batch.

    Attributes
    ----------
    estimator_, surrogate_ : classifier
        The fitted victim and the fitted surrogate.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import TransferAttack
    >>> X, y = [[0.0], [0.9], [1.1], [2.0]], [0, 0, 1, 1]
    >>> tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    >>> surrogate = LogisticRegression().fit(X, y)
    >>> attack = TransferAttack(surrogate=surrogate, threat_model=ThreatModel(eps=0.3))
    >>> attack.run(tree, [[0.8]], [0]).success
    array([ True])
    """

    fills_batches = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "surrogate": [HasMethods(["fit", "predict"]), None],
        "attack": [HasMethods(["run", "transform"]), None],
    }

    def __init__(
        self,
        estimator: Any = None,
        surrogate: Any = None,
        attack: Any = None,
        *,
        threat_model: ThreatModel | None = None,
        batch_size: int = 128,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.surrogate = surrogate
        self.attack = attack
        self.threat_model = threat_model
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    def _fit_more(self, X: Any, y: Any) -> None:
        model = KNeighborsClassifier(1) if self.surrogate is None else self.surrogate
        if y is None:
            check_is_fitted(model)
            self.surrogate_ = model
        else:
            self.surrogate_ = clone(model).fit(X, y)

    def _prepare(self, victim: Victim) -> None:
        fitted = _by_name(self._fitted_surrogate(), victim.table)
        if self._inner().uses_gradients:
            checked_scores(fitted, victim.table)  # an error comes before any work

    def _fitted_surrogate(self) -> Any:
        fitted = getattr(self, "surrogate_", self.surrogate)
        if fitted is None:
            raise ValueError("surrogate must be a fitted classifier for run without fit; got None.")
        try:
            check_is_fitted(fitted)
        except NotFittedError as error:
            raise NotFittedError(
                f"surrogate must be fitted for run without fit; got {fitted!r}. Where the attack "
                "is cloned (scorers, reports, searches), it has to be in a FrozenEstimator."
            ) from error
        inner = self._inner()
        if not isinstance(inner, BaseAttack) or isinstance(inner, TransferAttack | BaseComposition):
            raise TypeError(f"attack must be a single attack, such as PGD; got {inner!r}.")
        return fitted

    def _parts(self) -> list[tuple[str, Any]]:
        return [("attack", self._inner())]

    def _inner(self) -> BaseAttack:
        return PGD(n_restarts=2) if self.attack is None else self.attack

    def _perturb(self, problem: AttackProblem) -> np.ndarray:
        inner, victim = self._inner(), problem.victim
        model = _by_name(self._fitted_surrogate(), victim.table)
        surrogate = Victim(model, victim.table, victim.y, victim.threat_model, victim.device)
        # what the surrogate predicts is free, gradients are counted
        own = replace(problem, victim=surrogate, counts=Counts())
        tries = [inner._candidates(replace(own, restart=k)) for k in range(inner.n_restarts)]
        problem.counts.n_gradient_calls += own.counts.n_gradient_calls
        return np.concatenate(tries)


def _by_name(model: Any, table: Table) -> Any:
    """Return a surrogate that finds its features by name among those of the estimator."""
    names, given = feature_names(model), table.given
    if names is None or names == table.names == list(getattr(given, "columns", names)):
        return model
    if table.names is None:
        return model
    if missing := sorted(set(names) - set(table.names)):
        raise ValueError(
            f"surrogate must have features of the estimator only; it also has {missing}."
        )
    own: Any = names
    if hasattr(given, "columns"):
        given = given[list(table.names)]
    else:
        own = [list(table.names).index(name) for name in names]
    select = ColumnTransformer([("own", "passthrough", own)], verbose_feature_names_out=False)
    if hasattr(given, "columns"):
        select.set_output(transform="pandas" if hasattr(given, "iloc") else "polars")
    return Pipeline([("select", select.fit(given)), ("surrogate", model)])
