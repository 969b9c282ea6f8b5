r"""A Mahalanobis metric whose nearest neighbours are certifiably robust.

    min_G  1/n Σ_x  ℓ( t(x; GᵀG) ),

where t is a certified margin of x: the k-NN bound itself over the nearest candidates
(``objective="certificate"``), or that of a random triplet (``"triplet"``, the paper); see
``skrobust.objectives``. Part of the training points is held out to judge the iterates.

Source: Wang, Liu, Yi, Jiang, Hsieh, *Provably Robust Metric Learning*, NeurIPS 2020,
arXiv:2006.07024; the certificate objective, the solvers and the held-out points are ours.
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skrobust.metric_learning._adam import AdamSolver
from skrobust.metric_learning._checks import check_classes, check_neighbors, check_result
from skrobust.metric_learning._cvxpy import CvxpySolver
from skrobust.metric_learning._init import initial_components
from skrobust.metric_learning._mahalanobis import MahalanobisMixin
from skrobust.metric_learning._problem import (
    FitProblem,
    Solver,
    ValidationSet,
    split_anchors,
)
from skrobust.metric_learning._projected import ProjectedSolver
from skrobust.metric_learning._rounds import ConvexSolver
from skrobust.objectives import LOSSES, CertificateObjective, MetricObjective, TripletObjective
from skrobust.threat_model import ThreatModel
from skrobust.utils._callback_context import CallbackContext
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import CallbackSupportMixin, Interval, StrOptions, fit_context
from skrobust.utils._torch import as_tensor, make_generator, resolve_device

__all__ = ["RobustMahalanobis"]

_OBJECTIVES: dict[str, type[MetricObjective]] = {
    "certificate": CertificateObjective,
    "triplet": TripletObjective,
}
_CONVEX: dict[str, type[ConvexSolver]] = {"projected": ProjectedSolver, "cvxpy": CvxpySolver}


class RobustMahalanobis(MahalanobisMixin, CallbackSupportMixin, BaseEstimator):
    """Mahalanobis metric learned to enlarge certified nearest-neighbour radii.

    It maximises a lower bound on the smallest perturbation of a point that changes its
    nearest-neighbour class, over a linear map G with metric M = GᵀG [1]_. Put it in front of
    a ``KNeighborsClassifier``; ``skrobust.scorers`` certify the pipeline.

    Scale the features first: G starts at the identity and, without a threat model, an
    adversary's budget is the same for every feature.

    Parameters
    ----------
    n_components : int, default=None
        Rows of G. None keeps what `init` gives: all features for "identity",
        min(n_samples, n_features) for "pca", n_classes − 1 for "lda", an array's rows. Convex
        solvers keep M in the span of these rows, and G has as many rows as M needs.
    init : {"identity", "pca", "lda"} or array-like of shape (n_components, n_features), \
default="identity"
        The start. "identity" with fewer components keeps only the first features; prefer
        "pca" there.
    objective : {"certificate", "triplet"} or MetricObjective, default="certificate"
        What is minimised: the smoothed k-NN bound
        (:class:`~skrobust.objectives.CertificateObjective`), random triplets as in the paper
        (:class:`~skrobust.objectives.TripletObjective`), or an object of these or of your own.
    loss : {"negative", "hinge", "exponential", "logistic"}, default=None
        Loss of a margin t: −t, [target_radius − t]₊, exp(−t) or log(1 + exp(−t)); None leaves the
        objective's own, which is "hinge" with a target radius, else "negative". The convex
        solvers have the hinge only.
    target_radius : float, default=None
        The radius that is cared for, > 0, in the units of the threat model's budget: margins
        beyond it count no more. None leaves the objective's own, where None is the mean radius;
        the convex solvers then take the median radius under the initial metric, or half, a quarter
        or an eighth of it where M = 0 is best for it.
    n_neighbors : int, default=None
        K of the k-NN that will be used; None leaves the objective's own, 1.
    threat_model : ThreatModel, default=None
        The adversary that the metric is learned for: norm, scales, mutable features, in the
        units of `X`. Its budget and bounds are not used. None leaves the objective's own, ℓ₂ on
        all features.
    solver : {"auto", "adam", "projected", "cvxpy"} or solver object, default="auto"
        "adam" follows gradients of G; "projected" and "cvxpy" solve a convex program in M at
        the target radius, on triplets that are mined a few times, and prove how near its
        optimum they are. "auto" is "adam" for an objective with a gradient, because it had the
        larger radii on every data set that was tried, else "projected".
        :class:`~skrobust.metric_learning.ProjectedSolver` and
        :class:`~skrobust.metric_learning.CvxpySolver` have parameters of their own.
    n_candidates : int, default=None
        Nearest points of the same and of other classes that an anchor's margin looks at. None
        is 9 + K.
    validation_fraction : float, default=0.2
        Share of the training points, in [0, 1), at most 2,048, that are no anchors but judge the
        iterates by their mean certified radius and clean error. Of those that gain nine tenths
        of the largest gain in radius over the start, and whose clean error is the lowest, up to
        its standard error, the one with the largest radius is kept. The start is an iterate too,
        and no other's clean error may be more than 0.0025 above the start's. 0 judges by the loss.
    batch_size : int, default=64
        Points a step; None takes an epoch at once (memory grows with it). Adam only.
    epoch_size : int, default=4096
        Anchors an epoch, drawn anew; the neighbour search of an epoch is only for them. Few
        training points are gone through several times, to at least 16 steps. None takes every
        anchor once. Adam only.
    max_iter : int, default=50
        Epochs at most; the certificate's temperature falls over this many, and its end is the
        end of the schedule. Adam only.
    learning_rate : float, default=1e-3
        Adam's step size.
    tol : float, default=1e-4
        An epoch improves if what it is judged by is better by ``tol * |best|``. Adam only.
    n_iter_no_change : int, default=20
        Stop after this many epochs without improvement. Adam only.
    warm_start : bool, default=False
        Start from `components_` of the last fit.
    device : str, default="auto"
        "auto" (CUDA where present), "cpu", "cuda" or "cuda:N".
    verbose : int, default=0
        Print a line every `verbose` epochs, or every round of a convex solver.
    callback : callable, default=None
        ``callback(n_iter, loss, components)`` after each epoch or round, with a copy of G; a true
        result ends the fit.
    random_state : int, RandomState instance or None, default=None
        Draws the held-out points, the anchors, the triplets. The same on every device.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        G that was judged best. Float32 for float32 input, else float64.
    n_iter_ : int
        Epochs, or rounds, done.
    loss_curve_ : list of float
        The objective after each: with held-out points its mean on the way, without them an
        estimate on fresh triplets. Rounds of convex solvers: as a share of the loss of M = 0.
    validation_curve_ : list of float
        Mean radius of the held-out points after each, over their candidates, each at most the
        target radius: an estimate, no proof. Empty without them.
    solver_result_ : dict
        `status`; seconds of the neighbour search, the steps and the judging, and the
        `best_epoch`; for convex solvers `primal`, `dual` and relative `gap` of the round that is
        kept (None for the start), its number as `best_round`, and all `rounds`.
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in `fit`, where X has string names.

    Notes
    -----
    Memory is linear in the number of samples. Points alone in their class serve as
    neighbours of others only. Ctrl-C ends a fit with a warning and keeps the best iterate.

    The paper's settings are ``RobustMahalanobis(objective="triplet", validation_fraction=0,
    epoch_size=None, max_iter=1000, n_iter_no_change=1000)``.

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
        "objective": [StrOptions(set(_OBJECTIVES)), MetricObjective],
        "loss": [StrOptions(set(LOSSES)), None],
        "target_radius": [Interval(Real, 0, None, closed="neither"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "threat_model": [ThreatModel, None],
        "solver": [StrOptions({"auto", "adam", *_CONVEX}), AdamSolver, ConvexSolver],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "epoch_size": [Interval(Integral, 1, None, closed="left"), None],
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
        objective: Any = "certificate",
        loss: str | None = None,
        target_radius: float | None = None,
        n_neighbors: int | None = None,
        threat_model: ThreatModel | None = None,
        solver: Any = "auto",
        n_candidates: int | None = None,
        validation_fraction: float = 0.2,
        batch_size: int | None = 64,
        epoch_size: int | None = 4096,
        max_iter: int = 50,
        learning_rate: float = 1e-3,
        tol: float = 1e-4,
        n_iter_no_change: int = 20,
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
        self.target_radius = target_radius
        self.n_neighbors = n_neighbors
        self.threat_model = threat_model
        self.solver = solver
        self.n_candidates = n_candidates
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.epoch_size = epoch_size
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
            If the data or a parameter is not as described, or if a convex solver finds that
            M = 0 is best, because the target radius is too large.
        ImportError
            If the solver's backend is not installed.

        Warns
        -----
        ConvergenceWarning
            If the solver did not converge, or nothing was better than the start.
        """
        device = resolve_device(self.device)
        given = X, y
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        classes, encoded = np.unique(y, return_inverse=True)
        counts = np.bincount(encoded)
        check_classes(classes, counts)
        objective = self._objective().prepare(X.shape[1], getattr(self, "feature_names_in_", None))
        solver = self._solver(objective)
        if isinstance(solver, ConvexSolver) and objective.loss not in (None, "hinge"):
            raise ValueError(
                f"loss={objective.loss!r} is not for solver={self.solver!r}, which has the hinge "
                "only; use loss=None or solver='adam'."
            )
        random_state = check_random_state(self.random_state)
        components = self._start(X, encoded, random_state, solver)

        order = np.argsort(encoded, kind="stable")
        ends = np.cumsum(counts)
        class_slices = [slice(int(e - c), int(e)) for e, c in zip(ends, counts, strict=True)]
        # the metric does not see a shift, the rounding of distances does
        centered = as_tensor((X - X.mean(axis=0, dtype=np.float64).astype(X.dtype))[order], device)
        generator = make_generator(random_state)
        anchors, held_out = split_anchors(class_slices, self.validation_fraction, generator)
        check_neighbors(objective.n_neighbors, self.n_candidates, counts)
        n_candidates = min(self.n_candidates or 9 + objective.n_neighbors, len(X) - 1)
        n_steps = getattr(solver, "n_rounds", getattr(solver, "max_iter", None))
        steps = CallbackContext(self, *given, n_steps)

        def on_epoch_end(number: int, best: Callable[[], np.ndarray]) -> bool:
            return steps.step(
                lambda: {"components_": best(), "classes_": classes, "n_iter_": number}
            )

        result = solver.solve(
            FitProblem(
                objective=objective,
                components=as_tensor(components, device),
                X=centered,
                class_slices=class_slices,
                anchors=anchors,
                held_out=ValidationSet(centered, class_slices, held_out, n_candidates, objective)
                if len(held_out)
                else None,
                n_candidates=n_candidates,
                generator=generator,
                verbose=int(self.verbose),
                callback=self.callback,
                on_epoch_end=on_epoch_end,
            )
        )
        check_result(result, solver)
        self.components_ = result.components
        self.loss_curve_ = result.loss_curve
        self.validation_curve_ = result.validation_curve
        self.solver_result_ = result.info | {"status": result.status}
        self.n_iter_ = len(result.loss_curve)
        self.classes_ = classes
        steps.end()
        return self

    def _objective(self) -> MetricObjective:
        given = {
            name: getattr(self, name)
            for name in ("loss", "target_radius", "n_neighbors", "threat_model")
            if getattr(self, name) is not None
        }
        if isinstance(self.objective, str):
            return _OBJECTIVES[self.objective](**given)
        objective = clone(self.objective)
        if "loss" in given and "loss" not in objective.get_params(deep=False):
            raise ValueError(
                f"loss={self.loss!r} is not for objective={self.objective!r}, whose __init__ has "
                "no parameter loss; use loss=None."
            )
        # the others are read by the fit itself, whether or not __init__ has them
        for name, value in given.items():
            setattr(objective, name, value)
        return objective

    def _solver(self, objective: MetricObjective) -> Solver:
        name = self.solver
        if not isinstance(name, str):
            return name
        if name == "auto" and type(objective).value is MetricObjective.value:
            name = "projected"
        if name in _CONVEX:
            return _CONVEX[name]()
        return AdamSolver(
            batch_size=self.batch_size,
            epoch_size=self.epoch_size,
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
        )

    def _start(
        self,
        X: np.ndarray,
        y: np.ndarray,
        random_state: np.random.RandomState,
        solver: Solver,
    ) -> np.ndarray:
        if not (self.warm_start and hasattr(self, "components_")):
            return initial_components(self.init, self.n_components, X, y, random_state)
        n_components = self.n_components or self.components_.shape[0]
        if isinstance(solver, ConvexSolver):
            n_components = self.components_.shape[0]  # as many as M needed
        if self.components_.shape != (n_components, X.shape[1]):
            raise ValueError(
                f"warm_start=True needs components_ of shape {(n_components, X.shape[1])}; the "
                f"last fit has {self.components_.shape}. Use warm_start=False."
            )
        return self.components_.astype(X.dtype)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
