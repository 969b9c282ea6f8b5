"""Parameters of parts, named with a prefix and two underscores, as in skorch."""

import inspect
from typing import Any, Self

__all__ = ["PrefixedParams", "without_kwargs"]

_PREFIXES = (
    "callbacks__",
    "compile__",
    "iterator_train__",
    "iterator_valid__",
    "loss__",
    "miner__",
    "module__",
    "optimizer__",
)

# what is called otherwise elsewhere
_MEANT = {
    "criterion": "loss",
    "epochs": "max_iter",
    "lr": "learning_rate",
    "max_epochs": "max_iter",
}


class PrefixedParams:
    """`get_params` and `set_params` with parameters that are not in the signature."""

    def _set_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Set the keyword arguments of ``__init__`` that are not in its signature."""
        wrong = [name for name in kwargs if not name.startswith(_PREFIXES)]
        if wrong:
            meant = [f"{_MEANT[name]} for {name}" for name in wrong if name in _MEANT]
            hint = f" Use {', '.join(meant)}." if meant else ""
            raise TypeError(
                f"{type(self).__name__} got unexpected parameters {wrong}; others than those of "
                f"the signature must begin with one of {', '.join(_PREFIXES)}.{hint}"
            )
        self.__dict__.update(kwargs)

    def params_for(self, prefix: str) -> dict[str, Any]:
        """Return the parameters with a prefix, without it."""
        found = vars(self).items()
        return {name[len(prefix) :]: value for name, value in found if name.startswith(prefix)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those with prefixes included.

        Parameters
        ----------
        deep : bool, default=True
            With those of components.
        """
        params: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]
        found = vars(self).items()
        return params | {name: value for name, value in found if name.startswith(_PREFIXES)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those with prefixes included.

        Parameters
        ----------
        **params : dict
        """
        own = {name: value for name, value in params.items() if name.startswith(_PREFIXES)}
        others = {name: value for name, value in params.items() if name not in own}
        super().set_params(**others)  # type: ignore[misc]
        self.__dict__.update(own)
        return self


def without_kwargs(kind: type) -> inspect.Signature:
    """Return the signature of a class without ``**kwargs``.

    Tools that try every parameter of a signature would take that for a name.
    """
    signature = inspect.signature(kind)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return signature.replace(parameters=kept)
