"""The worst of several attacks, point by point."""

from typing import Any, ClassVar

import numpy as np

from skrobust.attacks._base import BaseAttack
from skrobust.attacks._result import AttackResult
from skrobust.attacks.classifiers._apgd import APGD
from skrobust.attacks.classifiers._noise import NoiseAttack
from skrobust.threat_model import ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._sklearn import BaseComposition

__all__ = ["WorstCase"]


class WorstCase(BaseComposition, BaseAttack):
    """The smallest perturbation that any of several attacks finds for a point.

    Parameters
    ----------
    estimator : classifier, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``KNeighborsClassifier(1)``.
    attacks : list of (name, attack) tuples, default=None
        None is APGD with four restarts, and noise. Their own `estimator` is not used, and they
        have no `threat_model` of their own, or the same.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.

    Attributes
    ----------
    estimator_ : classifier
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import FGSM, NoiseAttack, WorstCase
    >>> knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [2.0, 0.0]], [0, 1])
    >>> attacks = [("noise", NoiseAttack(random_state=0)), ("fgsm", FGSM())]
    >>> worst = WorstCase(attacks=attacks, threat_model=ThreatModel(eps=0.6))
    >>> worst.run(knn, [[0.5, 0.3]], [0]).success
    array([ True])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"attacks": [list, None]}

    def __init__(
        self,
        estimator: Any = None,
        attacks: list[tuple[str, BaseAttack]] | None = None,
        *,
        threat_model: ThreatModel | None = None,
    ):
        self.estimator = estimator
        self.attacks = attacks
        self.threat_model = threat_model

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the attacks as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether parameters of nested objects are among them.
        """
        return self._get_params("attacks", deep=deep)

    def set_params(self, **params: Any) -> Any:
        """Set parameters; those of an attack as ``name__parameter``.

        Parameters
        ----------
        **params : dict
        """
        return self._set_params("attacks", **params)

    def _each(self) -> list[tuple[str, BaseAttack]]:
        if self.attacks is None:
            return [
                ("apgd", APGD(n_restarts=4, random_state=0)),
                ("noise", NoiseAttack(random_state=0)),
            ]
        for pair in self.attacks:
            if not isinstance(pair, tuple) or not isinstance(pair[-1], BaseAttack):
                raise TypeError(f"attacks must hold pairs (name, attack); got {pair!r}.")
        if not self.attacks:
            raise ValueError("attacks must hold at least one attack; got none.")
        return list(self.attacks)

    @property
    def white_box(self) -> bool:
        """Whether one of the attacks looks into the victim."""
        return any(attack.white_box for _, attack in self._each())

    def _parts(self) -> list[tuple[str, Any]]:
        return [(f"attacks: {name!r}", attack) for name, attack in self._each()]

    def _attack(self, estimator: Any, X: Any, y: Any, eps: Any, model: ThreatModel) -> AttackResult:
        table = read_table(X, estimator)
        self._check_parts(estimator, table, model)
        results = [attack._attack(estimator, X, y, eps, model) for _, attack in self._each()]
        norms = np.array([result.minimal_norm for result in results])
        best = np.where(np.isfinite(norms).any(axis=0), norms.argmin(axis=0), 0)

        def of_best(arrays: list[np.ndarray]) -> np.ndarray:
            """Return the rows of arrays, one for each attack, of the best attack."""
            return np.array(arrays)[best, np.arange(len(best))]

        reached = [result.diagnostics["reached"] for result in results]
        diagnostics = {
            "reached": np.all(reached, axis=0),
            "attack": np.array([name for name, _ in self._each()])[best],
        }
        blind = [r.diagnostics.get("zero_gradient") for r in results]
        if known := [mask for mask in blind if mask is not None]:
            diagnostics["zero_gradient"] = np.any(known, axis=0)
        return AttackResult(
            X_adv=table.rebuild(of_best([table.reread(r.X_adv).clean for r in results])),
            success=of_best([result.success for result in results]),
            perturbation_norm=of_best([result.perturbation_norm for result in results]),
            n_queries=sum(result.n_queries for result in results),
            n_gradient_calls=sum(result.n_gradient_calls for result in results),
            correct=results[0].correct,
            predicted=of_best([result.predicted for result in results]),
            diagnostics=diagnostics,
        )
