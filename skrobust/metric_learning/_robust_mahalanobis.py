r"""A Mahalanobis metric whose nearest neighbours are certifiably robust.

    min_G  1/n Σ_x  ℓ( ε̃( randnear⁺(x), randnear⁻(x), x ; GᵀG ) ),

where ε̃ is the certified margin of a triplet (see ``skrobust.objectives``).

Source: Wang, Liu, Yi, Jiang, Hsieh, *Provably Robust Metric Learning*, NeurIPS 2020,
arXiv:2006.07024.
"""

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skrobust.metric_learning._adam import AdamSolver, Objective, SolverResult
from skrobust.metric_learning._init import initial_components
from skrobust.metric_learning._mahalanobis import MahalanobisMixin
from skrobust.objectives import LOSSES, TripletObjective
from skrobust.utils._sklearn import Interval, StrOptions, fit_context
from skrobust.utils._torch import as_tensor, make_generator, resolve_device

__all__ = ["RobustMahalanobis"]


class RobustMahalanobis(MahalanobisMixin, BaseEstimator):
    """Mahalanobis metric learned to enlarge certified nearest-neighbour radii.

    It maximises a lower bound on the smallest ℓ₂ perturbation of a point that changes its
    nearest-neighbour class, over a linear map G with metric M = GᵀG [1]_. Put it in front of
    a ``KNeighborsClassifier``; ``skrobust.scorers`` certify the pipeline.

    Scale the features first: G starts at the identity and an adversary's budget is the same
    for every feature.

    Parameters
    ----------
    n_components : int, default=None
        Rows of G. None keeps what `init` gives: all features for "identity",
        min(n_samples, n_features) for "pca", n_classes − 1 for "lda", an array's rows.
    init : {"identity", "pca", "lda"} or array-like of shape (n_components, n_features), \
default="identity"
        The start. "identity" with fewer components keeps only the first features; prefer
        "pca" there.
    objective : "triplet" or object, default="triplet"
        What is minimised: "triplet", the paper's objective with `loss` and `margin`, or an
        object with the method ``value`` of
        :class:`~skrobust.objectives.TripletObjective` (then `loss` and `margin` are not used).
    loss : {"negative", "hinge", "exponential", "logistic"}, default="negative"
        Loss of a triplet's margin t: −t, max(margin − t, 0), exp(−t) or log(1 + exp(−t)).
    margin : float, default=1.0
        The hinge's margin, ≥ 0, in the units of X.
    n_candidates : int, default=10
        A triplet is drawn among this many nearest points of the same and of other classes.
    batch_size : int, default=64
        Points a step; None takes all at once (memory grows with it).
    max_iter : int, default=300
        Epochs at most.
    learning_rate : float, default=1e-3
        Adam's step size.
    tol : float, default=1e-3
        An epoch improves if its loss falls below the best one by ``tol * |best loss|``.
    n_iter_no_change : int, default=30
        Stop after this many epochs without improvement.
    warm_start : bool, default=False
        Start from `components_` of the last fit.
    device : str, default="auto"
        "auto" (CUDA where present), "cpu", "cuda" or "cuda:N".
    verbose : int, default=0
        Print a line every `verbose` epochs.
    callback : callable, default=None
        ``callback(n_iter, loss, components)`` after each epoch, with a copy of G; a true
        result ends the fit.
    random_state : int, RandomState instance or None, default=None
        Draws the triplets and the batches. The same on every device.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        G after the epoch with the lowest loss. Float32 for float32 input, else float64.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        The objective after each epoch, estimated on fresh triplets of all training points.
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen in `fit`, where X has string names.

    Notes
    -----
    Memory is linear in the number of samples. Points alone in their class serve as
    neighbours of others only. Ctrl-C ends a fit with a warning and keeps the best epoch.

    References
    ----------
    .. [1] Wang, Liu, Yi, Jiang, Hsieh, "Provably Robust Metric Learning", NeurIPS 2020,
       arXiv:2006.07024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skrobust import RobustMahalanobis
    >>> from skrobust.scorers import certified_accuracy
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(
    ...     MinMaxScaler(), RobustMahalanobis(random_state=0), KNeighborsClassifier(3)
    ... )
    >>> bool(certified_accuracy(model.fit(X, y), X, y, eps=0.1) > 0.8)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions({"identity", "pca", "lda"}), "array-like"],
        "objective": [StrOptions({"triplet"}), BaseEstimator],
        "loss": [StrOptions(set(LOSSES))],
        "margin": [Interval(Real, 0, None, closed="left")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
        "verbose": ["verbose"],
        "callback": [callable, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: Any = "identity",
        objective: Any = "triplet",
        loss: str = "negative",
        margin: float = 1.0,
        n_candidates: int = 10,
        batch_size: int | None = 64,
        max_iter: int = 300,
        learning_rate: float = 1e-3,
        tol: float = 1e-3,
        n_iter_no_change: int = 30,
        warm_start: bool = False,
        device: str = "auto",
        verbose: int = 0,
        callback: Callable[[int, float, np.ndarray], bool | None] | None = None,
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.init = init
        self.objective = objective
        self.loss = loss
        self.margin = margin
        self.n_candidates = n_candidates
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.callback = callback
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Learn the metric.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training points.
        y : array-like of shape (n_samples,)
            Class labels: at least two classes, at least one with two points.

        Returns
        -------
        RobustMahalanobis
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter is not as described.
        """
        device = resolve_device(self.device)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        classes, encoded = np.unique(y, return_inverse=True)
        counts = np.bincount(encoded)
        if len(classes) < 2:
            raise ValueError(
                f"y must hold at least 2 classes; got 1 class, {classes[0]!r}: there is nothing "
                "to be told apart."
            )
        if counts.max() < 2:
            raise ValueError(
                "y must hold at least one class with 2 or more points; every class has 1."
            )
        random_state = check_random_state(self.random_state)
        components = self._start(X, encoded, random_state)

        order = np.argsort(encoded, kind="stable")
        ends = np.cumsum(counts)
        class_slices = [slice(int(e - c), int(e)) for e, c in zip(ends, counts, strict=True)]
        # the metric does not see a shift, the rounding of distances does
        centered = (X - X.mean(axis=0, dtype=np.float64).astype(X.dtype))[order]
        solver = AdamSolver(
            n_candidates=self.n_candidates,
            batch_size=len(X) if self.batch_size is None else self.batch_size,
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            verbose=int(self.verbose),
            callback=self.callback,
        )
        result = solver.solve(
            self._objective(),
            as_tensor(components, device),
            as_tensor(centered, device),
            class_slices,
            make_generator(random_state),
        )
        self._check_result(result)
        self.components_ = result.components
        self.loss_curve_ = result.loss_curve
        self.n_iter_ = len(result.loss_curve)
        self.classes_ = classes
        return self

    def _objective(self) -> Objective:
        if isinstance(self.objective, str):
            return TripletObjective(loss=self.loss, margin=self.margin)
        return self.objective

    def _start(
        self, X: np.ndarray, y: np.ndarray, random_state: np.random.RandomState
    ) -> np.ndarray:
        if not (self.warm_start and hasattr(self, "components_")):
            return initial_components(self.init, self.n_components, X, y, random_state)
        n_components = self.n_components or self.components_.shape[0]
        if self.components_.shape != (n_components, X.shape[1]):
            raise ValueError(
                f"warm_start=True needs components_ of shape {(n_components, X.shape[1])}; the "
                f"last fit has {self.components_.shape}. Use warm_start=False."
            )
        return self.components_.astype(X.dtype)

    def _check_result(self, result: SolverResult) -> None:
        n_iter = len(result.loss_curve)
        if result.status == "not_finite":
            remedy = f"Scale X, or lower learning_rate={self.learning_rate!r}."
            if n_iter == 0:
                raise ValueError(f"The loss is not finite in the first epoch. {remedy}")
            message = (
                f"The loss is not finite after {n_iter} epochs; the best one is kept. {remedy}"
            )
        elif result.status == "interrupted":
            message = f"Interrupted after {n_iter} epochs; the best one is kept."
        elif result.status == "max_iter":
            message = (
                f"Not converged after max_iter={self.max_iter} epochs; the best one is kept. "
                "Raise max_iter, or tol."
            )
        else:
            return
        warnings.warn(message, ConvergenceWarning, stacklevel=3)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
