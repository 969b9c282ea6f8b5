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
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skrobust.metric_learning._adam import AdamSolver
from skrobust.metric_learning._checks import check_classes, check_neighbors
from skrobust.metric_learning._cvxpy import CvxpySolver
from skrobust.metric_learning._init import initial_components
from skrobust.metric_learning._mahalanobis import MahalanobisMixin
from skrobust.metric_learning._problem import MetricProblem, ValidationSet, split_anchors
from skrobust.metric_learning._projected import ProjectedSolver
from skrobust.metric_learning._solver import Solver
from skrobust.objectives import CertificateObjective, MetricObjective, TripletObjective
from skrobust.threat_model import ThreatModel
from skrobust.utils._callback_context import CallbackContext
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import CallbackSupportMixin, Interval, StrOptions, fit_context
from skrobust.utils._torch import as_tensor, make_generator, resolve_device
from skrobust.utils._warnings import warn

__all__ = ["RobustMahalanobis"]

_OBJECTIVES: dict[str, type[MetricObjective]] = {
    "certificate": CertificateObjective,
    "triplet": TripletObjective,
}
_SOLVERS: dict[str, type[Solver]] = {
    "adam": AdamSolver,
    "projected": ProjectedSolver,
    "cvxpy": CvxpySolver,
}


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
    target_radius : float, default=None
        The radius that is cared for, > 0, in the units of the threat model's budget: margins
        beyond it count no more. None is the mean radius; the convex solvers then take the median
        radius under the initial metric, or half, a quarter or an eighth of it where M = 0 is best
        for it. A shortcut; see Notes.
    n_neighbors : int, default=None
        K of the k-NN that will be used; None is 1. A shortcut; see Notes.
    threat_model : ThreatModel, default=None
        The adversary that the metric is learned for: norm, scales, mutable features, in the
        units of `X`. Its budget and bounds are not used. None is ℓ₂ on all features. A shortcut;
        see Notes.
    solver : {"auto", "adam", "projected", "cvxpy"} or solver object, default="auto"
        "adam" follows gradients of G (:class:`~skrobust.metric_learning.AdamSolver`); "projected"
        (:class:`~skrobust.metric_learning.ProjectedSolver`) and "cvxpy"
        (:class:`~skrobust.metric_learning.CvxpySolver`) solve a convex program in M at the target
        radius, on triplets that are mined a few times, and prove how near its optimum they are.
        "auto" is "adam" for an objective with a gradient, because it had the larger radii on every
        data set that was tried, else "projected". Batches, step sizes and tolerances are
        parameters of a solver object: ``solver=AdamSolver(learning_rate=1e-2)``.
    max_iter : int, default=None
        Adam's epochs, or rounds of a convex solver, at most; None is 50, or 6. A shortcut; see
        Notes.
    n_candidates : int, default=None
        Nearest points of the same and of other classes that an anchor's margin looks at. None
        is 9 + K.
    validation_fraction : float, default=0.2
        Share of the training points, in [0, 1), at most 2,048, that are no anchors but judge the
        iterates by their mean certified radius and clean error. Of those that gain nine tenths
        of the largest gain in radius over the start, and whose clean error is the lowest, up to
        its standard error, the one with the largest radius is kept. The start is an iterate too,
        and no other's clean error may be more than 0.0025 above the start's. 0 judges by the loss.
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

    Objective and solver have the parameters of what they do. `target_radius`, `n_neighbors` and
    `threat_model` are shortcuts to those of the objective, `max_iter` to that of Adam or to
    `n_rounds` of a convex solver: a value replaces the component's own for the fit, None leaves
    it. All others are reached through the object, in a search as ``objective__temperature`` or
    ``solver__learning_rate``.

    The paper's settings are ``RobustMahalanobis(objective="triplet", validation_fraction=0,
    solver=AdamSolver(epoch_size=None, max_iter=1000, n_iter_no_change=1000))``.

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
        "target_radius": [Interval(Real, 0, None, closed="neither"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "threat_model": [ThreatModel, None],
        "solver": [StrOptions({"auto", *_SOLVERS}), Solver],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
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
        target_radius: float | None = None,
        n_neighbors: int | None = None,
        threat_model: ThreatModel | None = None,
        solver: Any = "auto",
        max_iter: int | None = None,
        n_candidates: int | None = None,
        validation_fraction: float = 0.2,
        warm_start: bool = False,
        device: str = "auto",
        verbose: int = 0,
        callback: Callable[[int, float, np.ndarray], bool | None] | None = None,
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.init = init
        self.objective = objective
        self.target_radius = target_radius
        self.n_neighbors = n_neighbors
        self.threat_model = threat_model
        self.solver = solver
        self.max_iter = max_iter
        self.n_candidates = n_candidates
        self.validation_fraction = validation_fraction
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
        solver.check(objective)
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
        steps = CallbackContext(self, *given, solver.n_steps)

        def on_epoch_end(number: int, best: Callable[[], np.ndarray]) -> bool:
            return steps.step(
                lambda: {"components_": best(), "classes_": classes, "n_iter_": number}
            )

        result = solver.solve(
            MetricProblem(
                objective=objective,
                parameters=as_tensor(components, device),
                X=centered,
                class_slices=class_slices,
                anchors=anchors,
                validation=ValidationSet(centered, class_slices, held_out, n_candidates, objective)
                if len(held_out)
                else None,
                n_candidates=n_candidates,
                generator=generator,
                verbose=int(self.verbose),
                callback=self.callback,
                on_epoch_end=on_epoch_end,
            )
        )
        if result.warning:
            warn(result.warning, ConvergenceWarning)
        self.components_ = result.parameters
        self.loss_curve_ = result.loss_curve
        self.validation_curve_ = result.validation_curve
        self.solver_result_ = result.info | {"status": result.status}
        self.n_iter_ = len(result.loss_curve)
        self.classes_ = classes
        steps.end()
        return self

    def _objective(self) -> MetricObjective:
        """Return the objective, with the shortcuts that are given in place of its own."""
        named = isinstance(self.objective, str)
        objective = _OBJECTIVES[self.objective]() if named else clone(self.objective)
        for name in ("target_radius", "n_neighbors", "threat_model"):
            # the fit itself reads them, whether or not the objective's __init__ has them
            if getattr(self, name) is not None:
                setattr(objective, name, getattr(self, name))
        return objective

    def _solver(self, objective: MetricObjective) -> Solver:
        name = self.solver
        if name == "auto":
            name = "adam" if hasattr(objective, "value") else "projected"
        solver = _SOLVERS[name]() if isinstance(name, str) else clone(name)
        if self.max_iter is not None:
            solver.set_params(**{solver.steps_parameter: self.max_iter})
        return solver

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
        if solver.changes_rank:
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
