"""A few learned prototypes a class, under a learned metric, with exact certificates."""

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.adapters import NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.certificates import Certificate, certify
from skrobust.metric_learning import AdamSolver, MahalanobisMixin, Solver, SolverResult
from skrobust.neighbors._prototype_training import PrototypeProblem, prototype_problem
from skrobust.numerics import row_batches
from skrobust.threat_model import ThreatModel
from skrobust.utils._callback_context import CallbackContext
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._floating_point import check_size
from skrobust.utils._frames import names_missed_once
from skrobust.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    fit_context,
    knn_training_data,
)
from skrobust.utils._torch import as_tensor, resolve_device, to_numpy
from skrobust.utils._validation import check_temperature
from skrobust.utils._warnings import warn

__all__ = ["RobustPrototypeClassifier"]

_FEWEST, _MOST = 10, 320  # prototypes a class that "auto" tries
_MOST_COMPONENTS = 128
_WORTH = 0.01  # what twice as many have to add to the held-out radius, a share of it
_JUDGES = 4096  # held-out points at most
_CLEAR = 1e-12  # relative difference that makes one squared distance the smallest
_SMALLEST, _LARGEST = 1e-300, 1e300  # squared distances whose sums and quotients are finite


class RobustPrototypeClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Nearest prototype under a learned metric, trained for its certified radius.

    The class of a point is that of the nearest of a few prototypes. These and the metric are
    trained on the certified 1-NN bound itself, from the k-means centers of each class. The
    classifier is a nearest-neighbour rule: all certificates, attacks and scorers take it, and with
    so few points the exact radius costs next to nothing.

    Parameters
    ----------
    n_prototypes : int or "auto", default=100
        Prototypes a class, at most; fewer where it has fewer different points. "auto" doubles from
        10 to 320, and stops when the mean bound on held-out points gains less than 1 %.
    learn_metric : bool, default=True
        Whether G is trained too; else distances are Euclidean.
    n_components : int, default=None
        Rows of G: the leading principal directions at the start. None is min(n_features, 128),
        or n_features without a learned metric.
    target_radius : float, default=None
        The radius that is cared for, > 0, in the units of the threat model's budget; None is the
        median bound of the training points at the start.
    threat_model : ThreatModel, default=None
        The adversary that it is trained and certified for: norm, scales, mutable features; None
        is ℓ₂ on all features.
    temperature : float or (float, float), default=(1.0, 0.1)
        First and last of the smoothed bound, in units of a batch's median bound. A lower last
        one gains clean accuracy, and certifies less beyond the target radius.
    validation_fraction : float, default=0.1
        Share of the training points, in [0, 1), at most 4,096, that are not trained on but judge
        the iterates, as in :class:`~skrobust.RobustMahalanobis`; 0 judges by the training points.
    max_iter : int, default=20
        Epochs.
    solver : AdamSolver, default=None
        Batches and step sizes; None is ``AdamSolver(batch_size=256, epoch_size=65536)``. Its
        `learning_rate` is that of G; prototypes make five times as long steps, in units of the
        standard deviation of X. `max_iter` replaces its own.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto".
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line for each epoch.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes_total, n_features)
    prototype_labels_ : ndarray of shape (n_prototypes_total,)
        Their classes.
    components_ : ndarray of shape (n_components, n_features)
        G.
    target_radius_ : float
    classes_ : ndarray of shape (n_classes,)
    loss_curve_ : list of float
        The mean hinge of each epoch, on the way.
    validation_curve_ : list of float
        Mean bound of the held-out points after each epoch, each at most the target radius, and 0
        where wrong.
    n_iter_ : int
        Epochs that were made.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust.neighbors import RobustPrototypeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RobustPrototypeClassifier(5, random_state=0).fit(X[::2], y[::2])
    >>> model.prototypes_.shape
    (15, 4)
    >>> bool(model.certify(X[1::2], y[1::2]).radius.mean() > 0.3)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_prototypes": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learn_metric": ["boolean"],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "target_radius": [Interval(Real, 0, None, closed="neither"), None],
        "threat_model": [ThreatModel, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "solver": [Solver, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_prototypes: int | str = 100,
        *,
        learn_metric: bool = True,
        n_components: int | None = None,
        target_radius: float | None = None,
        threat_model: ThreatModel | None = None,
        temperature: float | tuple[float, float] = (1.0, 0.1),
        validation_fraction: float = 0.1,
        max_iter: int = 20,
        solver: Solver | None = None,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.n_prototypes = n_prototypes
        self.learn_metric = learn_metric
        self.n_components = n_components
        self.target_radius = target_radius
        self.threat_model = threat_model
        self.temperature = temperature
        self.validation_fraction = validation_fraction
        self.max_iter = max_iter
        self.solver = solver
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Train prototypes and metric.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        RobustPrototypeClassifier
            Itself, fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are not supported; the message names it.

        Warns
        -----
        ConvergenceWarning
            If the fit was interrupted; the best iterate so far is kept.
        """
        temperature = check_temperature(self.temperature)
        device = resolve_device(self.device)
        given = X, y
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        check_size(X)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        names = getattr(self, "feature_names_in_", None)
        budget = ThreatModel.of(self.threat_model).resolve(X.shape[1], names)
        random_state = check_random_state(self.random_state)
        # where zero is, and the unit, do not change what is learned
        center = X.mean(axis=0, dtype=np.float64)
        unit = float(np.sqrt(X.var(axis=0, dtype=np.float64).mean())) or 1.0
        values = (X - center) / unit
        held_out = self._held_out(encoded, random_state)
        rest = ~held_out
        judges = held_out if held_out.any() else rest
        steps = CallbackContext(
            self, *given, None if self.n_prototypes == "auto" else self.max_iter
        )

        def fitted(problem: PrototypeProblem, parameters: np.ndarray) -> dict[str, Any]:
            prototypes, components = problem.points.split(as_tensor(parameters, device))
            own = {
                "prototypes_": to_numpy(prototypes).astype(np.float64) * unit + center,
                "prototype_labels_": self.classes_[to_numpy(problem.points.objective.labels)],
                "components_": to_numpy(components).astype(np.float64),
            }
            return own | {"_rule": self._make_rule(own, X.dtype, names)}

        make_problem = partial(
            prototype_problem,
            values[rest],
            encoded[rest],
            (values[judges], encoded[judges]),
            self._directions(values[rest]),
            learn_metric=self.learn_metric,
            temperature=temperature,
            budget=budget,
            device=device,
            seed=int(random_state.randint(2**31 - 1)),
            verbose=self.verbose,
            on_epoch_end=lambda *iterate: steps.step(lambda: fitted(*iterate)),
        )
        problem, result = self._solve(make_problem, unit)
        if result.warning and result.status != "start_is_best":
            warn(result.warning, ConvergenceWarning)
        for name, value in fitted(problem, result.parameters).items():
            setattr(self, name, value)
        self.target_radius_ = problem.points.objective.target_radius * unit
        self.loss_curve_ = [loss * unit for loss in result.loss_curve]
        self.validation_curve_ = [radius * unit for radius in result.validation_curve]
        self.n_iter_ = len(result.loss_curve)
        steps.end()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of the nearest prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._rule.predict(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return how much nearer the prototypes of each class are than those of the others.

        ``(d_other − d_c) / (d_other + d_c)``, with d_c the squared distance to the nearest
        prototype of class c and d_other that to the nearest of any other class: between −1 and 1,
        largest for the class that :meth:`predict` returns. It ranks points; it is no certified
        radius, which :meth:`certify` returns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes that of ``classes_[1]``.
        """
        squared = self._squared_distances(X)
        if squared.shape[1] == 1:
            return np.ones_like(squared)
        nearest = np.sort(squared, axis=1)
        is_first = squared == nearest[:, :1]
        other = np.where(is_first, nearest[:, 1:2], nearest[:, :1])
        scores = (other - squared) / (other + squared)
        return scores[:, 1] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the classes' shares in proportion to ``1 / d_c``, d_c as in `decision_function`.

        They are not calibrated: :class:`~sklearn.calibration.CalibratedClassifierCV` does that.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        squared = self._squared_distances(X)
        share = squared.min(axis=1, keepdims=True) / squared
        return share / share.sum(axis=1, keepdims=True)

    @names_missed_once()
    def certify(self, X: Any, y: Any = None, **kwargs: Any) -> Certificate:
        """Return the radius of each prediction, as :func:`skrobust.certify` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            True labels; points that are predicted wrong have radius 0. None certifies the
            predictions themselves.
        **kwargs : dict
            Passed to :func:`skrobust.certify`.

        Returns
        -------
        Certificate
        """
        check_is_fitted(self)
        given = {"threat_model": self.threat_model, "device": self.device} | kwargs
        return certify(self, X, y, **given)

    def _as_nearest_neighbor_rule(self) -> NearestNeighborRule:
        check_is_fitted(self)
        return as_nearest_neighbor_rule(self._rule)

    def _squared_distances(self, X: Any) -> np.ndarray:
        """Return the squared distance, > 0, to the nearest prototype of each class.

        `predict` decides what rounding does not: its class is the nearest by a clear difference.
        """
        said = self.predict(X)
        predicted = np.searchsorted(self.classes_, said)
        Z = np.asarray(self._rule[0].transform(X), dtype=np.float64)
        stored = np.asarray(knn_training_data(self._rule[1])[0], dtype=np.float64)
        squared = np.empty((len(Z), len(self.classes_)))
        for part in row_batches(0, len(Z), 8 * len(stored)):
            distances = cdist(Z[part], stored, "sqeuclidean")
            for c, label in enumerate(self.classes_):
                squared[part, c] = distances[:, self.prototype_labels_ == label].min(axis=1)
        squared = np.clip(squared, _SMALLEST, _LARGEST)
        rows = np.arange(len(squared))
        own = squared[rows, predicted]
        squared = np.maximum(squared, own[:, None] * (1 + _CLEAR))
        squared[rows, predicted] = own
        return squared

    def _make_rule(self, own: dict[str, Any], dtype: Any, names: Any) -> Pipeline:
        """Return the nearest-neighbour rule as a Pipeline of a linear map and 1-NN."""
        linear = _Linear()
        linear.components_ = own["components_"]
        linear.n_features_in_ = self.n_features_in_
        if names is not None:
            linear.feature_names_in_ = names
        stored = own["prototypes_"].astype(dtype) @ own["components_"].T.astype(dtype)
        nearest = KNeighborsClassifier(1, algorithm="brute").fit(stored, own["prototype_labels_"])
        return Pipeline([("metric", linear), ("nearest", nearest)])

    def _solve(
        self, make_problem: Callable[..., PrototypeProblem], unit: float
    ) -> tuple[PrototypeProblem, SolverResult]:
        """Train; with "auto" with more and more prototypes, as long as that pays."""
        solver = AdamSolver(256, 65536) if self.solver is None else clone(self.solver)
        solver.set_params(**{solver.steps_parameter: self.max_iter})
        target = None if self.target_radius is None else self.target_radius / unit

        def solve(n_prototypes: int, target: float | None) -> tuple[PrototypeProblem, SolverResult]:
            problem = make_problem(n_prototypes=n_prototypes, target_radius=target)
            solver.check(problem.points.objective)
            return problem, solver.solve(problem)

        if self.n_prototypes != "auto":
            return solve(int(self.n_prototypes), target)
        n = _FEWEST
        problem, best = solve(n, target)
        largest = int(problem.points.y.bincount().max())
        while n < min(_MOST, largest) and best.status not in ("interrupted", "callback"):
            n *= 2
            # the same radius for all, so that they can be compared
            larger, more = solve(n, problem.points.objective.target_radius)
            if more.score <= best.score * (1 + _WORTH):
                break
            problem, best = larger, more
        return problem, best

    def _held_out(self, y: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        """Return the mask of held-out points: a share of each class, which keeps some."""
        share = min(self.validation_fraction, _JUDGES / len(y))
        held_out = np.zeros(len(y), dtype=bool)
        for c in np.unique(y):
            rows = random_state.permutation(np.flatnonzero(y == c))
            held_out[rows[: int(share * len(rows))]] = True
        return held_out

    def _directions(self, X: np.ndarray) -> np.ndarray:
        """Return G at the start: orthonormal rows, the leading principal directions first."""
        n_features = X.shape[1]
        most = n_features if not self.learn_metric else min(n_features, _MOST_COMPONENTS)
        n = most if self.n_components is None else self.n_components
        if n > n_features:
            raise ValueError(
                f"n_components={n} must be at most the number of features; got "
                f"n_features={n_features}."
            )
        if n == n_features:
            return np.eye(n)
        _, vectors = np.linalg.eigh(X.T @ X)
        return vectors[:, ::-1][:, :n].T.copy()


class _Linear(MahalanobisMixin, BaseEstimator):
    """The linear map of a metric that is known."""

    components_: np.ndarray
    n_features_in_: int
    feature_names_in_: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Map points; that names are missing is what the classifier around it warns of."""
        if hasattr(X, "columns"):
            return super().transform(X)
        X = check_array(X, dtype=[np.float64, np.float32])
        return X @ self.components_.T.astype(X.dtype, copy=False)
