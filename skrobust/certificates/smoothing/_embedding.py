r"""Smoothing of an embedding: its output is the centre of half of its noisy outputs.

For an embedding f and noise δ ~ N(0, σ² diag(s)²), let c(x) be that one of n outputs f(x + δ) whose
⌈n/2⌉-th nearest output, itself included, is nearest. For ‖(x′ − x) / s‖₂ ≤ ε,

    ‖c(x′) − c(x)‖₂ ≤ 3 R    where    P[ ‖f(x + δ) − c(x)‖ ≤ R ] ≥ p = Φ( Φ⁻¹(q) + ε/σ ),

with probability 1 − α/2 over the draws at x′, q being the smallest share with
P[Bin(n, q) > n/2] ≥ 1 − α/2. By the lemma of Neyman and Pearson the ball of radius R about c(x) has
a share q of the outputs at x′ at least, and so more than half of n draws. Then a ball of radius R
holds half of them, so that the one about c(x′) has a radius of at most 2 R; both hold more than n
draws together, so they share one. That p is reached is known with probability 1 − α/2 from m new
draws at x (binomial bounds).

Kumar and Goldstein, *Center smoothing: certified robustness for networks with structured outputs*,
NeurIPS 2021, with Hoeffding's bounds and another draw at x′ in the place of the binomial ones
here.
"""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
)
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from skrobust.certificates._result import Certificate
from skrobust.certificates.smoothing._base import CONSTRAINTS, SmoothedEstimator, proportion_bound
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import fit_unless_frozen
from skrobust.utils._frames import Table
from skrobust.utils._parallel import Progress
from skrobust.utils._sklearn import HasMethods, Interval, fit_context
from skrobust.utils._validation import check_one_eps
from skrobust.utils._warnings import warn

__all__ = ["CenterSmoothing"]

# distances are computed in float64
_SLACK = 1 + 1e-9


class CenterSmoothing(
    ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, SmoothedEstimator
):
    """Smooth any embedding by Gaussian noise, so that it is known how far it can move.

    The guarantee is for the smoothed embedding, and probabilistic. Behind it, in a Pipeline, a
    nearest-neighbour rule is certified by :func:`skrobust.certify`.

    Parameters
    ----------
    estimator : transformer, default=None
        The embedding. Fitted as a clone, unless in a ``FrozenEstimator``. None passes X on.
    sigma : float, default=0.25
        σ, > 0, in the units of X (over the threat model's scales).
    n_samples : int, default=300
        n: draws that make an output.
    n_certify : int, default=3000
        m: draws that tell how far it can move.
    alpha : float, default=0.001
        α, in (0, 1): probability with which a bound may be wrong. It is over the draws at a point
        and at the point it is moved to: for an adversary that does not know the seed.
    threat_model : ThreatModel, default=None
        Scales and mutable features of an ℓ₂ adversary; None moves all features alike.
    batch_size : int, default=4096
        Noisy points that are embedded together.
    random_state : int, RandomState or None, default=None
        For the noise; the same for a row in whatever batch it comes.
    verbose : int, default=0
        1 prints a line every other second.

    Attributes
    ----------
    estimator_ : transformer
        The fitted embedding.
    needed_share_ : float
        q.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skrobust.certificates import CenterSmoothing
    >>> X, y = load_iris(return_X_y=True)
    >>> smooth = CenterSmoothing(PCA(2), sigma=0.3, random_state=0).fit(X)
    >>> smooth.transform(X[:2]).shape
    (2, 2)
    >>> bool((smooth.movement_bound(X[:2], 0.1) < 3).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "estimator": [HasMethods(["fit", "transform"]), None],
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "n_certify": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        sigma: float = 0.25,
        n_samples: int = 300,
        n_certify: int = 3000,
        alpha: float = 0.001,
        threat_model: ThreatModel | None = None,
        batch_size: int = 4096,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.sigma = sigma
        self.n_samples = n_samples
        self.n_certify = n_certify
        self.alpha = alpha
        self.threat_model = threat_model
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone of the embedding, unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Numbers: noise is added to them.
        y : array-like of shape (n_samples,), default=None
            For embeddings that learn from labels.

        Returns
        -------
        CenterSmoothing
            Itself, fitted.
        """
        table = self._first_read(X)
        self._draw_seed()
        base = FunctionTransformer() if self.estimator is None else self.estimator
        given = (table.given,) if y is None else (table.given, y)
        self.estimator_ = fit_unless_frozen(base, *given)
        one = np.zeros(1, dtype=int)
        self._n_outputs = self._embed(table.rebuild(table.clean[one], one), 1, 1).shape[2]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed points: the centres c of their noisy outputs.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), float64
        """
        check_is_fitted(self)
        points = self._read(X)
        progress = Progress(len(points), self.verbose, "smoothed")
        centres = np.empty((len(points), self._n_outputs))
        for rows in self._parts(len(points), self.n_samples):
            drawn = self._draws(points, rows, self.n_samples, 0)
            centres[rows] = [_centre(outputs) for outputs in drawn]
            progress.advance(len(rows))
        return centres

    def movement_bound(self, X: Any, eps: float) -> np.ndarray:
        """Bound how far the outputs can move, each with probability 1 − α.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        eps : float
            Budget of the adversary, ≥ 0, in ℓ₂ over the threat model's scales.

        Returns
        -------
        ndarray of shape (n_samples,)
            3 R; inf where `n_certify` draws do not tell.
        """
        check_is_fitted(self)
        self._validate_params()
        eps = check_one_eps(eps)
        share = stats.norm.cdf(stats.norm.ppf(self.needed_share_) + eps / self.sigma)
        # so many draws inside a ball prove that it has the share
        k = int(stats.binom.isf(self.alpha / 2, self.n_certify, share)) + 1
        if k > self.n_certify or share == 1:
            warn(
                f"n_certify={self.n_certify} draws do not bound the movement at eps={eps:g} and "
                f"sigma={self.sigma:g}; use more, or a larger sigma."
            )
            return np.full(len(X), np.inf)
        return (
            3
            * _SLACK
            * np.sort(self._distances(X, np.asarray(self.transform(X))), axis=1)[:, k - 1]
        )

    def certified_radius(self, X: Any, reach: Any) -> np.ndarray:
        """Bound below the perturbations that move an output farther than it may.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        reach : array-like of shape (n_samples,)
            How far each output may move, ≥ 0; it must not depend on these draws.

        Returns
        -------
        ndarray of shape (n_samples,)
            Each with probability 1 − α; 0 where nothing is proved.
        """
        check_is_fitted(self)
        try:
            reach = np.broadcast_to(np.asarray(reach, dtype=np.float64), (len(X),))
        except ValueError as error:
            raise ValueError(
                f"reach must be a number, or one for each of {len(X)} points; got {reach!r}."
            ) from error
        if not (reach >= 0).all():
            raise ValueError(f"reach must be >= 0; got {reach[~(reach >= 0)][0]}.")
        return self._radius(X, np.asarray(self.transform(X)), reach)

    def _radius(self, X: Any, centres: np.ndarray, reach: np.ndarray) -> np.ndarray:
        q, m = self.needed_share_, self.n_certify
        if (self.alpha / 2) ** (1 / m) <= q:  # the bound of a share of 1
            warn(
                f"n_samples={self.n_samples} and n_certify={m} draws prove nothing at "
                f"alpha={self.alpha:g}, even if all agree: every point abstains. Use more of both."
            )
        inside = (3 * _SLACK * self._distances(X, centres) <= reach[:, None]).sum(axis=1)
        p = proportion_bound(inside, m, self.alpha / 2)
        radius = self.sigma * (stats.norm.ppf(p) - stats.norm.ppf(q)) * (1 - 1e-9)
        return np.where(np.isinf(reach), np.inf, np.where(p > q, radius, 0.0))

    def _certify_movement(
        self, X: Any, centres: np.ndarray, reach: np.ndarray, status: np.ndarray, target: Any = None
    ) -> Certificate:
        """Return radii of inputs for how far the centres may move, 0 where nothing is proved.

        Statuses that do not depend on the movement are kept.
        """
        radius = np.where(reach > 0, self._radius(X, centres, reach), 0.0)
        proved = np.where(radius > 0, "probabilistic", "abstained").astype("<U13")
        kept = np.isin(status, ("misclassified", "interrupted", "unreachable"))
        return self._probable(radius, np.where(kept, status, proved), "center smoothing", target)

    @property
    def needed_share_(self) -> float:
        """The share q of the outputs that a ball has to have."""
        check_is_fitted(self)
        return needed_share(self.n_samples, self.alpha / 2)

    def _distances(self, X: Any, centres: np.ndarray) -> np.ndarray:
        """Return distances of new outputs to the centres, shape (n_points, n_certify)."""
        points = self._read(X)
        distances = np.empty((len(points), self.n_certify))
        for rows in self._parts(len(points), self.n_certify):
            drawn = self._draws(points, rows, self.n_certify, 1)
            distances[rows] = np.linalg.norm(drawn - centres[rows, None], axis=2)
        return distances

    def _draws(self, table: Table, rows: np.ndarray, n: int, stage: int) -> np.ndarray:
        """Return noisy outputs, shape (n_points, n, n_outputs)."""
        parts = self._copies(table, rows, n, stage)
        embedded = [self._embed(noisy, len(rows), some) for some, noisy in parts]
        return np.concatenate(embedded, axis=1)

    def _embed(self, noisy: Any, n_points: int, some: int) -> np.ndarray:
        """Return the outputs of `some` copies of each point, shape (n_points, some, n_outputs)."""
        outputs = np.asarray(self.estimator_.transform(noisy), dtype=np.float64)
        return outputs.reshape(n_points, some, -1)

    @property
    def _n_features_out(self) -> int:
        return self._n_outputs


def needed_share(n: int, alpha: float) -> float:
    """Return a share q of outputs of which more than half of n draws are, but for α.

    Parameters
    ----------
    n : int
    alpha : float
    """
    half = n // 2  # Bin(n, q) > half but for α, on the safe side
    return min(float(proportion_bound(half, n, alpha, "upper")) * (1 + 1e-12), 1.0)


def _centre(outputs: np.ndarray) -> np.ndarray:
    """Return the output that has half of them within the smallest distance."""
    half = -(-len(outputs) // 2)
    distances = cdist(outputs, outputs)
    return outputs[np.partition(distances, half - 1, axis=1)[:, half - 1].argmin()]
