r"""The convex program at a target radius r, its dual, and the proof of a solution.

"x is nearer to i than to j after every perturbation of size r" reads, for a triplet t,

    D_j − D_i ≥ 2 r ‖s ∘ M (x_i − x_j)‖_q,

affine ≥ convex in M. With u = x_i − x_j and e = (x − x_i) + (x − x_j), D_j − D_i = uᵀ M e, and

    P(M) = Σ_t c_t [ 1 + 2 r ‖s ∘ M u_t‖_q − u_tᵀ M e_t ]₊ + λ R(M),        R = tr M or ‖M‖_F²,

is minimised over M ≽ 0. The hinge is a maximum over α ∈ [0, c] and the norm one over a dual ball,
so that with ‖w_t‖_p ≤ α_t ≤ c_t and

    Q(α, w) = sym Σ_t ( 2 r (s ∘ w_t) − α_t e_t ) u_tᵀ

every (α, w) gives a lower bound of P,

    R = tr:   Σ α   where λ I + Q ≽ 0;     else scaled down by λ / −λ_min(Q) until it is so,
    R = F²:   Σ α − ‖[−Q]₊‖_F² / (4 λ).

Lengths are divided by a unit h, the root of the median squared distance to a negative, so that the
program looks the same however the data are scaled. M is kept in a basis:
M = Bᵀ N B / h² with B of shape (k, n_features) and orthonormal rows, N ≽ 0. Where
the differences of an ℓ₂ problem without scales span less than B does, a basis of their span loses
nothing: M shrunk to it has the same D_j − D_i and no larger norm, trace or ‖·‖_F. (Directions in
which the differences are a ten-millionth of the largest are taken for none.)

Source of the constraint: the margin of Wang et al. 2020 (``triplet_margin``), at a fixed radius.
"""

from dataclasses import dataclass, replace

import torch

from skrobust.objectives._base import Triplets

__all__ = ["PENALTIES", "TargetRadiusProgram"]

PENALTIES = ("trace", "frobenius")
# eigenvalues of N below this share of the largest are none
_RANK = 1e-9
_DUAL = {1.0: torch.inf, 2.0: 2.0, torch.inf: 1.0}


@dataclass(frozen=True, eq=False)
class TargetRadiusProgram:
    """Minimise P over N ≽ 0.

    Attributes
    ----------
    u, e : Tensor of shape (n_triplets, k)
        ``x_i − x_j`` and ``2x − x_i − x_j`` in the basis, over h.
    weight : Tensor of shape (n_triplets,)
        c, > 0.
    basis : Tensor of shape (k, n_features)
        B, with orthonormal rows.
    radius : float
        r over h.
    strength : float
        λ > 0.
    penalty : {"trace", "frobenius"}
        R.
    scale : Tensor of shape (n_features,) or None
        s.
    dual : {1, 2, inf}
        q.
    unit : float
        h.
    """

    u: torch.Tensor
    e: torch.Tensor
    weight: torch.Tensor
    basis: torch.Tensor
    radius: float
    strength: float
    penalty: str = "trace"
    scale: torch.Tensor | None = None
    dual: float = 2.0
    unit: float = 1.0

    @classmethod
    def of(
        cls,
        X: torch.Tensor,
        triplets: Triplets,
        weight: torch.Tensor,
        basis: torch.Tensor,
        *,
        radius: float,
        regularization: float,
        penalty: str = "trace",
        scale: torch.Tensor | None = None,
        dual: float = 2.0,
    ) -> "TargetRadiusProgram":
        """Build the program of triplets of `X`.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
        triplets : Triplets
        weight : Tensor of shape (n_triplets,)
        basis : Tensor of shape (k, n_features)
            Rows that span the metric; need not be orthonormal.
        radius : float
        regularization : float
            λ without units: the penalty of the multiple of the identity under which the median
            negative is at distance 1, as a share of the weights' sum.
        penalty : {"trace", "frobenius"}
        scale : Tensor of shape (n_features,), default=None
        dual : {1, 2, inf}, default=2
        """
        x, x_i, x_j = (X[index].double() for index in triplets)
        basis = _span(basis.double())
        u, e = (x_i - x_j) @ basis.T, (2 * x - x_i - x_j) @ basis.T
        if scale is None and dual == 2.0:
            span = _span(torch.cat([u, e]))
            u, e, basis = u @ span.T, e @ span.T, span @ basis
        to_j = (u + e) / 2
        unit = float((to_j * to_j).sum(1).median().sqrt())
        if not 0 < unit < float("inf"):
            raise ValueError(
                "X must have points of different classes that the initial metric separates, at "
                f"distances that do not overflow; the median distance is {unit}."
            )
        return cls(
            u=u / unit,
            e=e / unit,
            weight=weight.double(),
            basis=basis,
            radius=radius / unit,
            strength=regularization * float(weight.sum()) / u.shape[1],
            penalty=penalty,
            scale=None if scale is None else scale.double(),
            dual=dual,
            unit=unit,
        )

    def to(self, device: torch.device) -> "TargetRadiusProgram":
        """Return the program with its tensors on `device`."""
        names = ("u", "e", "weight", "basis", "scale")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{k: v.to(device) for k, v in tensors.items() if v is not None})

    @property
    def norm(self) -> float:
        """The exponent p of the adversary's norm."""
        return _DUAL[self.dual]

    @property
    def spread(self) -> float:
        """The largest over the smallest root mean square of a feature, to the negatives."""
        to_j = (self.u + self.e) / 2 @ self.basis
        size = torch.linalg.vector_norm(to_j, dim=0)
        return float(size.max() / size[size > 0].min())

    @property
    def plain(self) -> bool:
        """Whether the norm can be taken in the basis."""
        return self.scale is None and self.dual == 2.0

    def images(self, g: torch.Tensor) -> torch.Tensor:
        """Return s ∘ Bᵀ g of rows g; for plain ℓ₂, g itself, which has the same norm."""
        if self.plain:
            return g
        full = g @ self.basis
        return full if self.scale is None else full * self.scale

    def adjoint_images(self, w: torch.Tensor) -> torch.Tensor:
        """Return the adjoint of :meth:`images`."""
        if self.plain:
            return w
        return (w if self.scale is None else w * self.scale) @ self.basis.T

    def operator(self, N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return −(D_j − D_i), (n_triplets,), and 2 r s ∘ M u, (n_triplets, ...)."""
        g = self.u @ N
        return -(g * self.e).sum(1), 2 * self.radius * self.images(g)

    def adjoint(self, alpha: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Return Q(α, w), symmetric of shape (k, k)."""
        rows = 2 * self.radius * self.adjoint_images(w) - alpha[:, None] * self.e
        Q = rows.T @ self.u
        return (Q + Q.T) / 2

    def losses(self, N: torch.Tensor) -> torch.Tensor:
        """Return the hinges, (n_triplets,)."""
        gap, moved = self.operator(N)
        return (1 + torch.linalg.vector_norm(moved, ord=self.dual, dim=1) + gap).clamp_min(0)

    def value(self, N: torch.Tensor) -> float:
        """Return P of a positive semidefinite N."""
        size = torch.trace(N) if self.penalty == "trace" else (N * N).sum()
        return float(self.weight @ self.losses(N) + self.strength * size)

    @property
    def value_of_zero(self) -> float:
        """P of M = 0."""
        return float(self.weight.sum())

    def dual_value(self, alpha: torch.Tensor, w: torch.Tensor) -> float:
        """Return a lower bound of P's minimum that (α, w) proves, with ‖w‖_p ≤ α ≤ c."""
        least = torch.linalg.eigvalsh(self.adjoint(alpha, w))
        if self.penalty == "frobenius":
            excess = (-least).clamp_min(0)
            return float(alpha.sum() - (excess * excess).sum() / (4 * self.strength))
        share = min(1.0, self.strength / max(float(-least[0]), 1e-300))
        return share * float(alpha.sum())

    def components(self, N: torch.Tensor) -> torch.Tensor:
        """Return G of shape (rank, n_features) with GᵀG = Bᵀ N B / h², at least one row."""
        values, vectors = torch.linalg.eigh(N)
        values, vectors = values.flip(0), vectors.flip(1)
        rank = max(1, int((values > _RANK * values[0]).sum()))
        root = vectors[:, :rank] * values[:rank].clamp_min(0).sqrt()
        return root.T @ self.basis / self.unit


def _span(rows: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis, (rank, k), of the span of `rows`."""
    # first to size 1: the squares of what follows must not overflow
    size = rows.abs().max().clamp_min(1e-300)
    rows = rows / size
    _, values, vectors = torch.linalg.svd(rows.T @ rows)
    return vectors[values > values[0] * 1e-14] if float(values[0]) > 0 else vectors
