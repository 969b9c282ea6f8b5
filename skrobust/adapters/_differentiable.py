"""From a fitted scikit-learn object to differentiable scores or a differentiable embedding."""

from collections.abc import Callable
from copy import copy
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._affine import AffineMap, NotAffineError
from skrobust.adapters._fold import as_nearest_neighbor_rule
from skrobust.adapters._scores import (
    AffineScores,
    CentroidScores,
    ModuleScores,
    NeighborScores,
    NetworkScores,
    Scores,
)
from skrobust.adapters._steps import active_steps, affine_map, step_map
from skrobust.utils._sklearn import BaseSearchCV

__all__ = [
    "NotDifferentiableError",
    "check_gradient",
    "differentiable_embedding",
    "differentiable_scores",
]

Embedding = Callable[[torch.Tensor], torch.Tensor]


class NotDifferentiableError(TypeError):
    """No gradients are known for an estimator."""


@singledispatch
def differentiable_scores(estimator: Any) -> Scores:
    """Return class scores of a fitted classifier that can be differentiated by raw features.

    Parameters
    ----------
    estimator : fitted classifier
        A linear model, `NearestCentroid`, k-NN (by a surrogate), `MLPClassifier`, a skorch net, a
        :class:`skrobust.adapters.TorchClassifier`, any of them behind affine or differentiable
        steps in a Pipeline, in a search or frozen. A type with a method
        ``_differentiable_scores()``, or one registered with ``differentiable_scores.register``,
        works as well.

    Returns
    -------
    Scores

    Raises
    ------
    NotDifferentiableError
        If no gradients are known; the message says what to use instead.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import torch
    >>> from sklearn.neighbors import NearestCentroid
    >>> from skrobust.adapters import differentiable_scores
    >>> model = NearestCentroid().fit([[-1.0], [1.0], [1.0], [3.0]], [0, 0, 1, 1])
    >>> differentiable_scores(model)(torch.tensor([[0.5]], dtype=torch.float64))
    tensor([[-0.2500, -2.2500]], dtype=torch.float64)
    """
    if hasattr(estimator, "_differentiable_scores"):
        return estimator._differentiable_scores()
    unknown = as_nearest_neighbor_rule.dispatch(object)
    registered = as_nearest_neighbor_rule.dispatch(type(estimator)) is not unknown
    if registered or hasattr(estimator, "_as_nearest_neighbor_rule"):
        return _neighbor_scores(estimator)
    if isinstance(getattr(estimator, "module_", None), torch.nn.Module):  # a skorch net
        return ModuleScores(estimator.module_, estimator.classes_)
    raise NotDifferentiableError(
        f"{type(estimator).__name__} has no gradients that are known; use a black-box attack "
        "such as HopSkipJump, or register its scores with "
        "skrobust.adapters.differentiable_scores.register."
    )


@differentiable_scores.register(LinearClassifierMixin)
@differentiable_scores.register(LinearDiscriminantAnalysis)
@differentiable_scores.register(LinearSVC)
def _(estimator: Any) -> Scores:
    check_is_fitted(estimator)
    coef = estimator.coef_
    coef = coef.toarray() if hasattr(coef, "toarray") else coef
    return AffineScores(coef, estimator.intercept_, estimator.classes_)


@differentiable_scores.register
def _(estimator: SVC) -> Scores:
    check_is_fitted(estimator)
    if estimator.kernel != "linear" or len(estimator.classes_) != 2:
        raise NotDifferentiableError(
            f"SVC(kernel={estimator.kernel!r}) with {len(estimator.classes_)} classes has no "
            "gradients that are known; a linear one for two classes has, LinearSVC for more."
        )
    return AffineScores(estimator.coef_, estimator.intercept_, estimator.classes_)


@differentiable_scores.register
def _(estimator: NearestCentroid) -> Scores:
    check_is_fitted(estimator)
    priors = getattr(estimator, "priors", "uniform")
    if estimator.metric != "euclidean" or not isinstance(priors, str) or priors != "uniform":
        raise NotDifferentiableError(
            f"NearestCentroid(metric={estimator.metric!r}, priors={priors!r}) has no gradients "
            "that are known; use metric='euclidean' with priors='uniform'."
        )
    return CentroidScores(estimator.centroids_, estimator.classes_)


@differentiable_scores.register
def _(estimator: KNeighborsClassifier) -> Scores:
    return _neighbor_scores(_voting(estimator))


def _voting(estimator: Any) -> Any:
    """Return a k-NN classifier whose neighbours have equal weights.

    The surrogate knows no others; whether what it finds works, the victim's own `predict` says.
    """
    if not isinstance(estimator, KNeighborsClassifier) or estimator.weights in ("uniform", None):
        return estimator
    voting = copy(estimator)
    voting.weights = "uniform"
    return voting


def _neighbor_scores(estimator: Any) -> Scores:
    try:
        return NeighborScores(as_nearest_neighbor_rule(estimator))
    except (NotAffineError, NotFittedError):
        raise
    except TypeError as error:  # it predicts in its own way
        raise NotDifferentiableError(
            f"{error} Without gradients, use a black-box attack such as HopSkipJump."
        ) from error
    except ValueError as error:
        raise NotDifferentiableError(
            f"{estimator!r} has no gradients that are known: the surrogate of a vote is for the "
            "Euclidean or a Mahalanobis metric on dense data. Use an attack without gradients, "
            "such as HopSkipJump, or a TransferAttack from a surrogate."
        ) from error


@differentiable_scores.register
def _(estimator: MLPClassifier) -> Scores:
    check_is_fitted(estimator)
    activations: dict[str, Embedding] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "logistic": torch.sigmoid,
        "identity": lambda x: x,
    }
    layers = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    return NetworkScores(layers, activations[estimator.activation], estimator.classes_)


@differentiable_scores.register
def _(estimator: Pipeline) -> Scores:
    check_is_fitted(estimator)
    name, last = estimator.steps[-1]
    scores = differentiable_scores(last)
    if isinstance(scores, NeighborScores):
        voting = _voting(last)
        whole = Pipeline([*estimator.steps[:-1], (name, voting)])
        try:
            return _neighbor_scores(estimator if voting is last else whole)
        except NotAffineError:
            pass  # a step may be differentiable without being affine
    for name, step in reversed(active_steps(estimator.steps[:-1])):
        try:
            scores = scores.before(step_map(name, step))
        except NotAffineError as error:
            scores = scores.behind(_embedding_of_step(step, error))
    return scores


def _embedding_of_step(step: Any, error: NotAffineError) -> Embedding:
    try:
        return differentiable_embedding(step)
    except NotDifferentiableError:
        raise NotDifferentiableError(
            f"{error} Attacks by gradients need affine or differentiable steps; use a black-box "
            "attack such as HopSkipJump."
        ) from error


@differentiable_scores.register
def _(estimator: BaseSearchCV) -> Scores:
    check_is_fitted(estimator)
    if not hasattr(estimator, "best_estimator_"):
        raise ValueError(f"{type(estimator).__name__} must be fitted with refit; got refit=False.")
    return differentiable_scores(estimator.best_estimator_)


@differentiable_scores.register
def _(estimator: FrozenEstimator) -> Scores:
    return differentiable_scores(estimator.estimator)


@singledispatch
def differentiable_embedding(estimator: Any) -> Embedding:
    """Return the map of a fitted transformer, as a function of torch tensors.

    Parameters
    ----------
    estimator : fitted transformer
        An affine one (see :func:`affine_map`), alone or in a Pipeline; a torch module or a
        skorch net whose output is the embedding. A type with a method
        ``_differentiable_embedding()``, or one registered, works as well.

    Returns
    -------
    callable (Tensor of shape (n, n_features)) -> Tensor of shape (n, n_components)

    Raises
    ------
    NotDifferentiableError
        If no gradients are known.
    """
    if hasattr(estimator, "_differentiable_embedding"):
        return estimator._differentiable_embedding()
    module = getattr(estimator, "module_", None)
    if isinstance(module, torch.nn.Module):
        return _module_embedding(module)
    try:
        return _affine_embedding(affine_map(estimator))
    except NotAffineError as error:
        raise NotDifferentiableError(f"{error} Or use gradient='nes', which needs none.") from error


@differentiable_embedding.register
def _(estimator: torch.nn.Module) -> Embedding:
    return _module_embedding(estimator)


@differentiable_embedding.register
def _(estimator: FrozenEstimator) -> Embedding:
    return differentiable_embedding(estimator.estimator)


@differentiable_embedding.register
def _(estimator: Pipeline) -> Embedding:
    check_is_fitted(estimator)
    parts = [differentiable_embedding(step) for _, step in active_steps(estimator.steps)]

    def embed(x: torch.Tensor) -> torch.Tensor:
        for part in parts:
            x = part(x)
        return x

    return embed


def check_gradient(function: Embedding, x: torch.Tensor, estimator: Any) -> None:
    """Raise where a function of raw points cannot be differentiated by them.

    Parameters
    ----------
    function : callable (Tensor of shape (n, ...)) -> Tensor
        Scores or an embedding.
    x : Tensor of shape (n, ...)
        A point or a few, in the type of the function.
    estimator : object
        Whose function it is, for the message.

    Raises
    ------
    NotDifferentiableError
        If the output does not depend on the input by operations that torch can differentiate.
    """
    hint = (
        "use an attack without gradients, such as HopSkipJump (gradient='nes' for an embedding), "
        "or a TransferAttack from a surrogate."
    )
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        try:
            # a view of it, for what works in place
            output = function(x.view_as(x))
            torch.autograd.grad(output.sum(), x)
        except RuntimeError as error:
            with torch.no_grad():
                function(x.detach())  # an error of another kind speaks for itself
            raise NotDifferentiableError(
                f"{type(estimator).__name__} has no gradients: its module detaches its input, or "
                f"leaves torch on the way; {hint}"
            ) from error


def _affine_embedding(step: AffineMap) -> Embedding:
    matrix = torch.from_numpy(np.array(step.matrix.T))
    offset = torch.from_numpy(np.array(step.offset))
    return lambda x: x @ matrix.to(x) + offset.to(x)


def _module_embedding(module: torch.nn.Module) -> Embedding:
    scores = ModuleScores(module, [])
    return lambda x: scores.outputs(x.to(scores.dtype)).to(x)
