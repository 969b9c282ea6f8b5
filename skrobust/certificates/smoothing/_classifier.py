r"""Randomized smoothing: a proof, up to a small probability, around any classifier.

The smoothed classifier g says what the base classifier f says most often of x + σ s ∘ u with u
standard normal. If the class c has probability at least p > 1/2 there, then

    g(x + δ) = c    for all    ‖δ / s‖₂ < R = σ Φ⁻¹(p).

p is estimated: `n_selection` draws choose c, and `n_samples` new ones count it. The one-sided
Clopper–Pearson bound at level 1 − α is below the true p with probability at least 1 − α, and so R,
for each point, holds with at least this probability over the draws.

Source: Cohen, Rosenfeld and Kolter, *Certified adversarial robustness via randomized smoothing*,
ICML 2019, theorem 1 and its algorithm.
"""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from scipy import stats
from sklearn.base import (
    ClassifierMixin,
    MetaEstimatorMixin,
    is_clusterer,
    is_regressor,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skrobust.certificates._result import Certificate
from skrobust.certificates.smoothing._base import CONSTRAINTS, SmoothedEstimator, proportion_bound
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import fit_unless_frozen
from skrobust.utils._frames import Table
from skrobust.utils._parallel import Job, check_n_jobs, run_job
from skrobust.utils._sklearn import HasMethods, Interval, fit_context
from skrobust.utils._validation import check_abstain_label, check_labels
from skrobust.utils._warnings import warn

__all__ = ["RandomizedSmoothingClassifier"]


class RandomizedSmoothingClassifier(MetaEstimatorMixin, ClassifierMixin, SmoothedEstimator):
    """Smooth any classifier by Gaussian noise, and certify what comes out, with high probability.

    The guarantee is for the smoothed classifier, not for the one inside; it is probabilistic, and
    its certificate says so. A base classifier that does not know noise abstains often: train it
    on noisy points (`n_augment`).

    Parameters
    ----------
    estimator : classifier, default=None
        Fitted as a clone, unless in a ``FrozenEstimator``. None is ``KNeighborsClassifier()``.
    sigma : float, default=0.25
        σ, > 0, in the units of X (over the threat model's scales). It caps the radius: with n
        samples that all agree R = σ Φ⁻¹(α^(1/n)).
    n_samples : int, default=1000
        Draws for the certificate of a point.
    n_selection : int, default=100
        Draws that choose its class; `predict` makes these alone.
    alpha : float, default=0.001
        α, in (0, 1): probability with which a radius may be wrong.
    n_augment : int, default=0
        Noisy copies of each training point that the clone is fitted on, besides the points.
    threat_model : ThreatModel, default=None
        Scales and mutable features of an ℓ₂ adversary; None moves all features alike.
    batch_size : int, default=4096
        Noisy points that are predicted together.
    random_state : int, RandomState or None, default=None
        For the noise; the same for a row in whatever batch it comes.
    n_jobs : int, default=None
        Jobs for joblib, for certificates.
    verbose : int, default=0
        1 prints a line every other second.

    Attributes
    ----------
    estimator_ : classifier
        The fitted base classifier.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skrobust.certificates import RandomizedSmoothingClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomizedSmoothingClassifier(SVC(), sigma=0.5, random_state=0).fit(X, y)
    >>> found = model.certify(X[:2], y[:2])
    >>> found.status
    array(['probabilistic', 'probabilistic'], dtype='<U13')
    >>> bool((found.radius > 0.5).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_selection": [Interval(Integral, 1, None, closed="left")],
        "n_augment": [Interval(Integral, 0, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        sigma: float = 0.25,
        n_samples: int = 1000,
        n_selection: int = 100,
        alpha: float = 0.001,
        n_augment: int = 0,
        threat_model: ThreatModel | None = None,
        batch_size: int = 4096,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.sigma = sigma
        self.n_samples = n_samples
        self.n_selection = n_selection
        self.alpha = alpha
        self.n_augment = n_augment
        self.threat_model = threat_model
        self.batch_size = batch_size
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Fit a clone of the classifier, unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Noise is added to the numbers that the threat model lets change. Columns of text
            and the like stay as they are, and so do those left out of `mutable`, where NaN is
            for the classifier to take.
        y : array-like of shape (n_samples,)

        Returns
        -------
        RandomizedSmoothingClassifier
            Itself, fitted.
        """
        check_n_jobs(self.n_jobs)
        base = KNeighborsClassifier() if self.estimator is None else self.estimator
        if hasattr(base, "__sklearn_tags__") and (is_regressor(base) or is_clusterer(base)):
            raise TypeError(
                f"estimator must be a classifier, whose predictions can be counted; got "
                f"{type(base).__name__}."
            )
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        table = self._first_read(X)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(table, labels)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        self._draw_seed()
        rows = np.tile(np.arange(len(labels)), 1 + self.n_augment)
        self.estimator_ = fit_unless_frozen(base, self._augmented(table, rows), labels[rows])
        self.classes_ = np.unique(getattr(self.estimator_, "classes_", labels))
        return self

    def _augmented(self, table: Table, rows: np.ndarray) -> Any:
        """Return the training points, and noisy copies of them."""
        flat, rng = table.clean, np.random.default_rng(self._seed)
        copies = [flat] + [
            flat + self.sigma * self._scale * rng.standard_normal(flat.shape)
            for _ in range(self.n_augment)
        ]
        return table.rebuild(np.concatenate(copies), rows)

    def predict(self, X: Any) -> np.ndarray:
        """Return what the base classifier says most often of noisy copies, of `n_selection`.

        A certificate is not about this prediction, but about the vote of all noisy copies, of which
        these draws are a sample: near a tie they may elect another class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.classes_[self._selection(self._read(X)).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the shares of the classes among the draws that choose, as :meth:`predict` does.

        Estimates from `n_selection` draws, without a guarantee: that of :meth:`certify` is for
        the class that the smoothed classifier says.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        check_is_fitted(self)
        votes = self._selection(self._read(X)).astype(np.float64)
        votes[votes.sum(axis=1) == 0] = 1.0  # where the base says none of the classes
        return votes / votes.sum(axis=1, keepdims=True)

    def certify(self, X: Any, y: Any = None) -> Certificate:
        """Certify the vote of all noisy copies: the class that more than half of the noise gives.

        Inside the radius this vote stays, with probability 1 − α over the draws. A single
        :meth:`predict`, of `n_selection` draws, may differ from it.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            True labels; points that are predicted wrong have radius 0. None certifies the
            predictions themselves.

        Returns
        -------
        Certificate
            With status "probabilistic", "misclassified", or "abstained" where the draws do not
            prove that one class has more than half of the probability.

        Warns
        -----
        UserWarning
            If `n_samples` is too small to prove anything: at most log₂(1 / α).
        """
        check_is_fitted(self)
        points = self._read(X)
        truth = None if y is None else column_or_1d(y)
        if truth is not None:
            check_consistent_length(points, truth)
            check_labels(truth, self.classes_)
        if smoothed_radius(np.array([self.n_samples]), self.n_samples, self.alpha, 1.0)[0] == 0:
            warn(
                f"n_samples={self.n_samples} draws prove nothing at alpha={self.alpha:g}, even if "
                "all agree: every point abstains. Use n_samples >= "
                f"{int(np.log2(1 / self.alpha)) + 1}."
            )
        radius = np.zeros(len(points))
        status = np.full(len(points), "interrupted", dtype="<U13")

        def keep(rows: np.ndarray, proof: tuple[np.ndarray, np.ndarray]) -> None:
            chosen, bound = proof
            wrong = np.zeros(len(rows), bool)
            if truth is not None:
                wrong = self.classes_[chosen] != truth[rows]
            status[rows] = np.where(bound > 0, "probabilistic", "abstained")
            status[rows[wrong]] = "misclassified"
            radius[rows] = np.where(wrong, 0.0, bound)

        parts = self._parts(len(points), self.n_selection)
        run_job(_VoteJob(self, points), parts, len(points), keep, self.n_jobs, self.verbose)
        return self._probable(radius, status, "randomized smoothing")

    def _certify(
        self, X: Any, y: Any, *, threat_model: ThreatModel | None, method: str, **options: Any
    ) -> Certificate:
        """Certify for `skrobust.certify`, whose parameters are those of other proofs."""
        if method in ("exact", "bound"):
            raise ValueError(
                f"method={method!r} is for nearest-neighbour rules; a smoothed classifier has "
                "method='smoothing'."
            )
        if threat_model is not None:
            raise ValueError(
                "threat_model must be None here: that of RandomizedSmoothingClassifier decided "
                "about its noise."
            )
        if options:
            raise TypeError(f"smoothing has no options; got {sorted(options)}.")
        return self.certify(X, y)

    def predict_or_abstain(self, X: Any, *, abstain_label: Any) -> np.ndarray:
        """Predict where the class of the smoothed classifier is known with probability 1 − α.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        abstain_label : label
            Returned elsewhere; none of the classes, and of their kind (a number, or text).

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        check_abstain_label(abstain_label, self.classes_)
        votes = self._selection(self._read(X))
        labels = self.classes_[votes.argmax(axis=1)]
        ordered = np.sort(np.c_[np.zeros_like(votes[:, :1]), votes], axis=1)
        first, second = ordered[:, -1], ordered[:, -2]
        # how likely so clear a vote is where both classes are equally likely
        known = 2 * stats.binom.sf(first - 1, first + second, 0.5) <= self.alpha
        kind = np.result_type(labels.dtype, np.asarray(abstain_label).dtype)
        return np.where(known, labels.astype(kind), abstain_label)

    def _certify_rows(self, table: Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return chosen classes, and radii that hold with probability 1 − α; 0 is none."""
        chosen = self._votes(table, rows, self.n_selection, 0).argmax(axis=1)
        votes = self._votes(table, rows, self.n_samples, 1)[np.arange(len(rows)), chosen]
        return chosen, smoothed_radius(votes, self.n_samples, self.alpha, self.sigma)

    def _selection(self, points: Table) -> np.ndarray:
        """Return the votes that choose classes, shape (n_points, n_classes)."""
        return np.concatenate(
            [
                self._votes(points, rows, self.n_selection, 0)
                for rows in self._parts(len(points), self.n_selection)
            ]
        )

    def _votes(self, table: Table, rows: np.ndarray, n: int, stage: int) -> np.ndarray:
        """Return how often each class is said of n noisy copies, shape (n_points, n_classes)."""
        votes = np.zeros((len(rows), len(self.classes_)), dtype=np.int64)
        for some, noisy in self._copies(table, rows, n, stage):
            said = np.asarray(self.estimator_.predict(noisy)).reshape(len(rows), some)
            for c, name in enumerate(self.classes_):  # what is none of them does not count
                votes[:, c] += (said == name).sum(axis=1)
        return votes


class _VoteJob(Job):
    """Chosen classes and radii of points."""

    what = "smoothed"

    def __init__(self, smoothed: RandomizedSmoothingClassifier, points: Table):
        self.smoothed, self.points = smoothed, points

    def solve(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.smoothed._certify_rows(self.points, rows)


def smoothed_radius(votes: np.ndarray, n: int, alpha: float, sigma: float) -> np.ndarray:
    """Return R of classes that were said `votes` times of n, 0 where nothing is proved.

    Parameters
    ----------
    votes : ndarray of shape (n_points,), int
    n : int
    alpha : float
    sigma : float
    """
    p = proportion_bound(votes, n, alpha)
    return np.where(p > 0.5, sigma * stats.norm.ppf(p) * (1 - 1e-9), 0.0)
