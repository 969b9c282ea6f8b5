r"""Attacks on a clustering: move points, cluster anew (or not), and see what became of the groups.

transductive   the adversary moves points, and all of them are clustered anew;
partial        the same, with a share ρ of the points: the others may change their clusters
although nobody touched them (spill-over);
inductive      the clusters stay, and moved points are assigned to them.
"""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state, column_or_1d

from skrobust.attacks.clusters._parts import ClusteringAttackResult, ClusteringParts
from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, Gallery
from skrobust.attacks.embeddings._pairs import PairAttack
from skrobust.attacks.embeddings._shift import EmbeddingShift
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._frames import Table, names_missed_once
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["ClusteringAttack"]


class ClusteringAttack(BaseEstimator):
    """Attack a fitted clustering through its embedding.

    Parameters
    ----------
    attack : attack on embeddings or PairAttack, default=None
        How points are moved, with a budget; None is ``EmbeddingShift()``.
    mode : {"transductive", "inductive"}, default="transductive"
        Whether all points are clustered anew.
    share : float, default=1.0
        ρ, share of the points that are moved, in (0, 1].
    groups : {"labels", "clusters"}, default="labels"
        What an attack that needs groups takes: the true labels, or the clusters of the clean
        points, which an adversary without labels can find out.
    random_state : int, RandomState or None, default=None
        Which points are moved.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ClusteringAttack, EmbeddingMargin
    >>> X, y = load_iris(return_X_y=True)
    >>> margin = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    >>> found = ClusteringAttack(margin, share=0.5, random_state=0).run(clusters, X, y)
    >>> bool(found.scores["all"]["nmi"] < found.scores["clean"]["nmi"])
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "attack": [BaseEmbeddingAttack, PairAttack, None],
        "mode": [StrOptions({"transductive", "inductive"})],
        "share": [Interval(Real, 0, 1, closed="right")],
        "groups": [StrOptions({"labels", "clusters"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        attack: BaseEmbeddingAttack | PairAttack | None = None,
        *,
        mode: str = "transductive",
        share: float = 1.0,
        groups: str = "labels",
        random_state: Any = None,
    ):
        self.attack = attack
        self.mode = mode
        self.share = share
        self.groups = groups
        self.random_state = random_state

    @names_missed_once()
    def run(self, estimator: Any, X: Any, y: Any) -> ClusteringAttackResult:
        """Attack a fitted clustering.

        Parameters
        ----------
        estimator : fitted clusterer
            Any of scikit-learn's, alone or last in a Pipeline whose other steps embed the points;
            or :class:`skrobust.AdversarialClustering`. In the transductive mode clones of it
            cluster the clean and the moved points; its embedding stays as it was fitted.
        X : array-like or data frame of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            True labels.

        Returns
        -------
        ClusteringAttackResult

        Raises
        ------
        TypeError
            If the estimator is no clusterer, or its embedding has no gradients that are known
            (an attack with ``gradient="nes"`` does without).
        ValueError
            If a parameter is not as described, or the mode needs a method `predict` that the
            clusterer does not have.
        """
        self._validate_params()
        if self.attack is not None:
            self.attack._check_parameters()
        parts = ClusteringParts.of(estimator)
        if self.mode == "inductive" and not hasattr(estimator, "predict"):
            raise ValueError(
                "mode='inductive' needs a clusterer with predict; "
                f"{type(parts.clusterer).__name__} has none: use mode='transductive'."
            )
        y = column_or_1d(y)
        table = Table.of(X)
        if len(y) != len(table):
            raise ValueError(f"y must have {len(table)} labels; got {len(y)}.")
        Z = parts.embedding.transform(X)
        labels = self._cluster(parts, X, Z)
        rows = np.arange(len(y))
        n = max(1, round(self.share * len(y)))
        chosen = np.sort(check_random_state(self.random_state).permutation(rows)[:n])
        touched = np.isin(rows, chosen)
        attack: Any = EmbeddingShift() if self.attack is None else clone(self.attack)
        groups = y if self.groups == "labels" else labels
        some = table.rebuild(table.values[chosen], chosen)
        # groups have the means of all points
        gallery = Gallery(np.asarray(Z, dtype=np.float64), groups)
        model = ThreatModel.of(attack.threat_model)
        moved = attack._attack_groups(parts.embedding, some, groups[chosen], model, gallery)
        points = table.values.copy()
        points[chosen] = Table.of(moved.X_adv).values
        X_adv = table.rebuild(points, rows)
        labels_adv = self._cluster(parts, X_adv)
        return ClusteringAttackResult.of(X_adv, touched, labels, labels_adv, y, moved)

    def _cluster(self, parts: ClusteringParts, X: Any, Z: Any = None) -> np.ndarray:
        """Return the clusters of points, or of their embeddings where these are known."""
        if self.mode == "inductive":
            return np.asarray(parts.estimator.predict(X))
        return parts.cluster(parts.embedding.transform(X) if Z is None else Z)
