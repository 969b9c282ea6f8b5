"""Hints for parameters of the threat model that are given to an attack."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from skrobust.threat_model import ThreatModel

__all__ = ["HintsAtThreatModel"]

_THREAT_MODEL = {*ThreatModel._get_param_names(), "epsilon"}


class HintsAtThreatModel:
    """A mixin of attacks whose constructors say where ``eps`` and the like belong."""

    def __init_subclass__(cls, **params: Any) -> None:
        super().__init_subclass__(**params)
        if "__init__" in vars(cls):
            cls.__init__ = _hinting(cls.__init__)  # type: ignore[method-assign]


def _hinting(init: Callable[..., None]) -> Callable[..., None]:
    known = inspect.signature(init).parameters
    elsewhere = _THREAT_MODEL - set(known) if "threat_model" in known else set()

    @wraps(init)
    def hinting(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name in elsewhere:
                own = type(self).__name__
                spelt = "eps" if name == "epsilon" else name
                raise TypeError(
                    f"{own} has no parameter {name!r}: it belongs to the threat model, "
                    f"{own}(threat_model=ThreatModel({spelt}={params[name]!r}))."
                )
        init(self, *args, **params)

    return hinting
