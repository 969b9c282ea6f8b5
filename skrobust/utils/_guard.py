"""Whether an object does what is known of its type.

What is known of a type, registered or by the method of a protocol, is not known of a subclass, or
an instance, that replaces one of the type's methods. The protocols of own classes:

- ``_as_nearest_neighbor_rule() -> NearestNeighborRule``, of classifiers and clusterers;
- ``_as_pipeline()``, of those that predict as a pipeline of their parts does;
- ``_affine_map() -> (A, b)`` and ``_lipschitz_map() -> LipschitzMap or None``, of transformers;
- ``_differentiable_scores()`` and ``_differentiable_embedding()``;
- ``_certify(X, y, *, threat_model, method, **options) -> Certificate``, of classifiers with a
  proof of their own;
- ``_certify_movement(X, outputs, reach, status, target) -> Certificate``, of transformers that
  bound how far their outputs move.
"""

from collections.abc import Callable
from functools import singledispatch, wraps
from inspect import getattr_static
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from functools import _SingleDispatchCallable

__all__ = ["guarded_dispatch", "is_exactly_known", "protocol_method", "refuse_overrides"]

T = TypeVar("T")

# what neither scikit-learn nor we use to predict or to transform
_HARMLESS = ("fit", "_fit", "partial_fit", "score", "set_", "_repr_", "_sklearn_")
_HARMLESS_NAMES = {
    "_parameter_constraints",
    "get_params",
    "get_feature_names_out",
    "get_metadata_routing",
    "_get_metadata_request",
    "_get_param_names",
    "_get_doc_link",
    "_estimator_type",
    "_abc_impl",
    "_run_search",
    "inverse_transform",
}
_SPECIAL = {"__call__", "__getattribute__", "__getattr__"}
_TRUSTED = {"sklearn", "skrobust"}
# of values inside fitted estimators that have no say in what they do
_DATA = {"builtins", "numpy", "scipy", "pandas", "polars", "random", "joblib"}


def protocol_method(estimator: Any, protocol: str, *used: str) -> Callable[..., Any] | None:
    """Return the method of a protocol that an object has; None without one.

    Parameters
    ----------
    estimator : object
    protocol : str
        The method's name.
    *used : str
        Methods that it speaks of; an object that replaces them is refused, see
        :func:`refuse_overrides`.
    """
    for known in type(estimator).__mro__:
        if protocol in vars(known):
            refuse_overrides(estimator, known, used, f"give it a method {protocol}()")
            return getattr(estimator, protocol)
    return None


def refuse_overrides(
    estimator: Any,
    known: type,
    used: tuple[str, ...],
    teach: str,
    error: type[Exception] = TypeError,
) -> None:
    """Raise where an object replaces a method of the class that is known.

    A subclass that adds methods, or is fitted in its own way, is fine; so are those of
    scikit-learn and of this package.

    Parameters
    ----------
    estimator : object
    known : type
        A class that it inherits from.
    used : tuple of str
        The methods that matter, also where the class finds them elsewhere: "predict",
        "transform".
    teach : str
        What to do about it, for the message.
    error : type, default=TypeError
        What is raised.
    """
    below = [c for c in type(estimator).__mro__ if c not in known.__mro__ and not _trusted(c)]
    defined = {*used}.union(*(vars(c) for c in known.__mro__))
    defined -= getattr(known, "__abstractmethods__", frozenset())  # there to be written
    replaced = [name for c in below for name in vars(c) if name in defined]
    for name in getattr(estimator, "__dict__", {}):
        # a value in the place of a class's value replaces no method
        shadowed = getattr_static(type(estimator), name, refuse_overrides)
        if name in defined and hasattr(shadowed, "__get__"):
            replaced.append(name)
    for name in filter(_matters, replaced):
        raise error(
            f"{type(estimator).__name__} overrides {known.__name__}.{name}, so nothing is known of "
            f"what it does; {teach}."
        )


def guarded_dispatch(
    protocol: str,
    used: str,
    error: type[Exception] = TypeError,
    check: Callable[[Any, Any], Any] | None = None,
) -> "Callable[[Callable[..., T]], _SingleDispatchCallable[T]]":
    """Return a decorator: ``singledispatch`` for objects that do what is known of their type.

    What is known is that of the first of its classes that is registered, or has the method of the
    protocol, which the decorated function calls.

    Parameters
    ----------
    protocol : str
        Method by which a class says what it is.
    used : str
        The method that matters, "predict" or "transform".
    error : type, default=TypeError
        Raised for an object that overrides a method, see :func:`refuse_overrides`.
    check : callable (result, estimator) -> None, default=None
        Raises where a result makes no sense.
    """

    def decorate(function: Callable[..., T]) -> "_SingleDispatchCallable[T]":
        dispatch = singledispatch(function)
        teach = (
            f"give it a method {protocol}(), or register it with "
            f"skrobust.adapters.{function.__name__}.register"
        )

        def known_of(estimator: Any) -> T:
            registered = set(dispatch.registry) - {object}
            for known in type(estimator).__mro__:
                if known in registered or protocol in vars(known):
                    refuse_overrides(estimator, known, (used,), teach, error)
                    return dispatch.dispatch(known if known in registered else object)(estimator)
            # what is registered for an abstract class, if anything
            return dispatch(estimator)

        @wraps(function)
        def call(estimator: Any) -> T:
            result = known_of(estimator)
            if check is not None:
                check(result, estimator)
            return result

        for name in ("register", "dispatch", "registry", "_clear_cache"):
            setattr(call, name, getattr(dispatch, name))
        return cast("_SingleDispatchCallable[T]", call)

    return decorate


def is_exactly_known(value: Any) -> bool:
    """Return whether an object is made of classes and functions of scikit-learn's and ours only.

    Parameters
    ----------
    value : object
        A fitted estimator; what it holds is looked at too.
    """
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, (list, tuple, set, frozenset)):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, MethodType):
            waiting += [one.__self__, one.__func__]
        elif _trusted(one if isinstance(one, (type, FunctionType)) else type(one)):
            waiting += getattr(one, "__dict__", {}).values()
        elif callable(one) or type(one).__module__.split(".")[0] not in _DATA:
            return False
    return True


def _trusted(named: Any) -> bool:
    return str(named.__module__).split(".")[0] in _TRUSTED


def _matters(name: str) -> bool:
    if name.startswith("__"):
        return name in _SPECIAL
    return name not in _HARMLESS_NAMES and not name.startswith(_HARMLESS)
