r"""What the victim's rounding may shift between two of its distances.

The victim finds u among the nearest and w not, although w is nearer, only if

    D_u − D_w ≤ τ,   τ = c (m + m_u)² + c (m + m_w)² + c′ (…)² + 4 E ‖z_u − z_w‖ + γ (D_u + D_w)
                         + e (√D_u + √D_w) + ω

anywhere in the ball of a given radius around x (see ``victims._rule`` for c, c′ and E; γ is the
rounding of our own float64 distances, ω what squares lose below the normal range). e is what a
ball tree may err in the distance from x to a ball: a share of ‖x − center‖ + radius ≤
‖x − m‖ + 3 R, with m the mean of all training points and R the distance of the farthest from it.
Proofs therefore relax every comparison by τ.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from skrobust.adapters import EmbeddedQueries, NearestNeighborRule
from skrobust.certificates.nearest_neighbor._training_set import TrainingSet
from skrobust.utils._torch import as_tensor, to_numpy

__all__ = ["Rounding"]


@dataclass(frozen=True, eq=False)
class Rounding:
    """Bounds of the rounding around some test points.

    Attributes
    ----------
    absolute, relative, growth, underflow : float
        c, c′, γ and ω.
    embedding_error : Tensor or ndarray of shape (n_rows,)
        E within each point's ball.
    magnitude : Tensor or ndarray of shape (n_rows,)
        m, the largest in the ball.
    moved : Tensor or ndarray of shape (n_rows,)
        How far the embedding moves in the ball.
    pruning : Tensor or ndarray of shape (n_rows,)
        e, the largest in the ball.
    """

    absolute: float
    relative: float
    growth: float
    underflow: float
    embedding_error: Any
    magnitude: Any
    moved: Any
    pruning: Any

    @classmethod
    def within(
        cls,
        radius: np.ndarray,
        rule: NearestNeighborRule,
        training: TrainingSet,
        queries: EmbeddedQueries,
    ) -> Self:
        """Bound the rounding where the points move by at most `radius`, of shape (n_rows,)."""
        absolute, relative = rule.distance_error(queries)
        error = rule.embedding_error(queries) + radius * training.error
        operations = training.Z64.shape[1] + 16
        smallest = np.finfo(np.float32 if relative > 0 else np.float64).tiny
        device = training.Z.device
        moved = training.stretch * radius
        pruning = np.zeros(len(radius))
        if rule.pruning > 0:
            center = np.linalg.norm(queries.points - to_numpy(training.center), axis=1)
            pruning = rule.pruning * (center + moved + 3 * training.size_Z) * (1 + 1e-6)
        return cls(
            absolute=absolute,
            relative=relative,
            growth=operations * 2.0**-53,
            underflow=operations * float(smallest),
            embedding_error=as_tensor(error, device),
            magnitude=as_tensor(queries.magnitudes + moved, device),
            moved=as_tensor(moved, device),
            pruning=as_tensor(pruning, device),
        )

    def as_numpy(self) -> Self:
        """Return the same with NumPy arrays."""
        return replace(
            self,
            embedding_error=to_numpy(self.embedding_error),
            magnitude=to_numpy(self.magnitude),
            moved=to_numpy(self.moved),
            pruning=to_numpy(self.pruning),
        )

    def tau(self, at: Any, m_u: Any, m_w: Any, D_u: Any, D_w: Any, between: Any) -> Any:
        """Return τ; the arguments broadcast, `at` holds rows."""
        m, moved = self.magnitude[at], self.moved[at]
        tau = self.absolute * ((m + m_u) ** 2 + (m + m_w) ** 2)
        d_u, d_w = D_u**0.5 + moved, D_w**0.5 + moved
        tau = tau + self.relative * (d_u**2 + d_w**2) + self.pruning[at] * (d_u + d_w)
        tau = tau + 4 * self.embedding_error[at] * between + self.growth * (D_u + D_w)
        return tau + self.underflow
