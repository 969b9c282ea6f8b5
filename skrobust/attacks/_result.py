"""What attacks return."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skrobust.metrics import robust_accuracy_score

__all__ = ["AttackResult", "EmbeddingAttackResult"]


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult:
    """Perturbed points, and what the victim's own `predict` says of them.

    Attributes
    ----------
    X_adv : array or data frame of shape (n_samples, ...)
        The perturbed points, in the container of `X`. Each satisfies the threat model: that is
        checked independently of the attack. Points that were wrong already are not moved.
    success : ndarray of shape (n_samples,) of bool
        Right when clean, and no longer when perturbed.
    perturbation_norm : ndarray of shape (n_samples,)
        ``‖δ / s‖_p`` of the perturbation, successful or not.
    n_queries : int
        Rows that the victim predicted.
    n_gradient_calls : int
        Rows whose gradient was computed.
    correct : ndarray of shape (n_samples,) of bool
        Right when clean.
    predicted : ndarray of shape (n_samples,)
        What the victim predicts for `X_adv`.
    diagnostics : dict of str to ndarray of shape (n_samples,) or float
        "reached": mask of the points that were attacked (or needed no attack) before an
        interrupt. "zero_gradient", where gradients were used: mask of the points where the first
        one was 0.
    """

    X_adv: Any
    success: np.ndarray
    perturbation_norm: np.ndarray
    n_queries: int
    n_gradient_calls: int
    correct: np.ndarray
    predicted: np.ndarray
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"AttackResult({len(self.success)} points: {int(self.correct.sum())} right when clean, "
            f"{int(self.success.sum())} of them changed; {self.n_queries} queries)"
        )

    @property
    def minimal_norm(self) -> np.ndarray:
        """An upper bound on the smallest perturbation that makes each point wrong.

        0 for a point that is wrong when clean, inf where the attack did not succeed.
        """
        norms = np.where(self.success, self.perturbation_norm, np.inf)
        return np.where(self.correct, norms, 0.0)

    def robust_accuracy(self, eps: Any) -> Any:
        """Share of points that are right, and stay right at norms up to `eps` in this attack.

        Parameters
        ----------
        eps : float or array-like of shape (n_eps,)
            Budgets. Beyond the one that was attacked the share is that at the largest one.

        Returns
        -------
        float, or ndarray of shape (n_eps,) for several budgets
            An upper bound on the truth.
        """
        return robust_accuracy_score(self.minimal_norm, self.correct, eps)


@dataclass(frozen=True, eq=False)
class EmbeddingAttackResult:
    """Perturbed points, and where the transformer's own `transform` puts them.

    Attributes
    ----------
    X_adv : array or data frame of shape (n_samples, ...)
        Each row satisfies the threat model: that is checked independently of the attack.
    embedding, embedding_adv : ndarray of shape (n_samples, n_components)
        The clean and the perturbed points as the public `transform` embeds them.
    value : ndarray of shape (n_samples,)
        What the attack reports, from these embeddings; see there.
    perturbation_norm : ndarray of shape (n_samples,)
        ``‖δ / s‖_p``.
    n_queries : int
        Rows that the transformer embedded.
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
