r"""Move both points of a pair: the distance has no side that stays.

With D = ‖f(a') − f(b')‖, both a' and b' within the threat model,

    D is raised where a and b belong together,    and lowered where they do not.

Where an embedding is used through templates (a face and the one on file), one side stays; in
clustering both may change.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state, column_or_1d

from skrobust.attacks._result import EmbeddingAttackResult
from skrobust.attacks.embeddings._base import EmbeddingAttack, EmbeddingProblem, Gallery
from skrobust.threat_model import ThreatModel
from skrobust.utils._fitted_table import read_table
from skrobust.utils._frames import Table
from skrobust.utils._sklearn import safe_indexing

__all__ = ["PairAttack", "PairAttackResult"]


@dataclass(frozen=True, eq=False)
class PairAttackResult:
    """Pairs before and after an attack.

    Attributes
    ----------
    first_adv, second_adv : array or data frame of shape (n_pairs, ...)
        Each point satisfies the threat model.
    distance, distance_adv : ndarray of shape (n_pairs,)
        ‖f(a) − f(b)‖₂ of the clean and of the perturbed points, by the public `transform`.
    perturbation_norm : ndarray of shape (n_pairs, 2)
    """

    first_adv: Any
    second_adv: Any
    distance: np.ndarray
    distance_adv: np.ndarray
    perturbation_norm: np.ndarray


class PairAttack(EmbeddingAttack):
    """Attack the distances of pairs, from both sides.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What may be changed in each point, and how far; None is ``ThreatModel()``.
    max_iter : int, default=32
        Steps.
    step_size : float, default=0.25
        First step as a share of the budget; it falls to 0.
    gradient : {"exact", "nes"}, default="exact"
        "nes" estimates it from `transform` alone.
    n_evaluations : int, default=30
        Pairs of points of an estimate.
    batch_size : int, default=64
        Pairs that are attacked together.
    random_state : int, RandomState or None, default=None
        For the start, and for who is paired with whom in a
        :class:`~skrobust.attacks.ClusteringAttack`.

    Notes
    -----
    In a :class:`~skrobust.attacks.ClusteringAttack` the points are paired at random: each is
    pulled toward a point of another group that comes to meet it, or pushed away from one of its
    own.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import PairAttack
    >>> scaler = StandardScaler(with_std=False).fit([[0.0], [4.0]])
    >>> attack = PairAttack(threat_model=ThreatModel(eps=0.5), random_state=0)
    >>> attack.run(scaler, [[0.0], [0.0]], [[1.0], [3.0]], [True, False]).distance_adv.round(3)
    array([2., 2.])
    """

    normalizes, in_pairs = False, True

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        max_iter: int = 32,
        step_size: float = 0.25,
        gradient: str = "exact",
        n_evaluations: int = 30,
        batch_size: int = 64,
        random_state: Any = None,
    ):
        self.threat_model = threat_model
        self.max_iter = max_iter
        self.step_size = step_size
        self.gradient = gradient
        self.n_evaluations = n_evaluations
        self.batch_size = batch_size
        self.random_state = random_state

    def run(self, estimator: Any, first: Any, second: Any, together: Any) -> PairAttackResult:
        """Attack pairs of points.

        Parameters
        ----------
        estimator : fitted transformer
        first, second : array-like or data frame of shape (n_pairs, ...)
            The points of each pair.
        together : array-like of shape (n_pairs,) of bool
            Whether they belong together: then their distance is raised.

        Returns
        -------
        PairAttackResult

        Raises
        ------
        TypeError
            If the estimator has no `transform`, or no gradients are known.
        ValueError
            If a parameter or the data are not supported; the message names it.
        """
        self._check_run(estimator)
        together = column_or_1d(together)
        if not np.isin(together, (0, 1)).all():
            raise ValueError(f"together must be True or False for each pair; got {together!r}.")
        both = _interleaved(first, second)
        n = len(together)
        if len(both) != 2 * n:
            raise ValueError(
                f"first, second and together must be equally many; got {len(both) // 2} pairs and "
                f"{n} values."
            )
        signs = np.repeat(np.where(together.astype(bool), 1, -1), 2)
        model = ThreatModel.of(self.threat_model)
        moved = self._attack(estimator, both, signs, model, Gallery())
        clean, adversarial = (
            np.linalg.norm(z[0::2] - z[1::2], axis=1)
            for z in (moved.embedding, moved.embedding_adv)
        )
        return PairAttackResult(
            first_adv=safe_indexing(moved.X_adv, np.arange(0, 2 * n, 2)),
            second_adv=safe_indexing(moved.X_adv, np.arange(1, 2 * n, 2)),
            distance=clean,
            distance_adv=adversarial,
            perturbation_norm=moved.perturbation_norm.reshape(n, 2),
        )

    def _attack_groups(
        self, estimator: Any, X: Any, groups: np.ndarray, model: ThreatModel, gallery: Gallery
    ) -> EmbeddingAttackResult:
        """Pair points at random, and attack the pairs."""
        table = Table.of(X)
        n = len(table)
        if n < 2:
            raise ValueError("PairAttack needs at least two points to pair; got 1.")
        order = check_random_state(self.random_state).permutation(n)
        if n % 2:  # the last one is paired with a point that has a partner already
            order = np.append(order, order[0])
        signs = np.repeat(np.where(groups[order[0::2]] == groups[order[1::2]], 1, -1), 2)
        paired = table.rebuild(table.values[order], order)
        moved = self._attack(estimator, paired, signs, model, Gallery())
        place = np.empty(n, dtype=int)
        place[order[:n]] = np.arange(n)
        points = Table.of(moved.X_adv).values[place]
        return replace(
            moved,
            X_adv=table.rebuild(points, np.arange(n)),
            embedding=moved.embedding[place],
            embedding_adv=moved.embedding_adv[place],
            value=moved.value[place],
            perturbation_norm=moved.perturbation_norm[place],
            diagnostics={"zero_gradient": moved.diagnostics["zero_gradient"][place]},
        )

    def _select_targets(self, problem: EmbeddingProblem) -> torch.Tensor:
        return torch.from_numpy(np.asarray(problem.labels, dtype=np.float64))  # signs

    def _value(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return targets * self._report(z, targets)

    def _report(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # the small number gives points that are equal a direction
        difference = z[0::2] - z[1::2] + 1e-12
        return torch.linalg.vector_norm(difference, dim=1).repeat_interleave(2)


def _interleaved(first: Any, second: Any) -> Any:
    """Return the points of all pairs, one after the other, in the container of the given ones."""
    one, two = read_table(first), read_table(second)
    if one.names != two.names or np.shape(one.given)[1:] != np.shape(two.given)[1:]:
        raise ValueError(
            "first and second must have the same features, in the same order; got "
            f"{one.names or np.shape(one.given)[1:]} and {two.names or np.shape(two.given)[1:]}."
        )
    n = len(one)
    if len(two) != n:
        raise ValueError(f"first and second must be equally many; got {n} and {len(two)}.")
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    if hasattr(first, "columns") and not hasattr(first, "iloc"):
        import polars

        second = polars.DataFrame(second, schema=first.columns)
        return polars.concat([first, second], how="vertical_relaxed")[order]
    if hasattr(first, "columns"):
        import pandas as pd

        return pd.concat([first, pd.DataFrame(second, columns=list(first.columns))]).iloc[order]
    return np.concatenate([np.asarray(one.given), np.asarray(two.given)])[order]
