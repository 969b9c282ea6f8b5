"""Adversarially robust metric learning with scikit-learn's interface.

The public names are imported when they are first used, so that ``import skrobust``
does not load torch.
"""

import importlib
from typing import Any

from skrobust._version import __version__

_PUBLIC = {
    "AdversarialClustering": "skrobust.cluster",
    "AdversarialDeepMetric": "skrobust.deep",
    "RobustMahalanobis": "skrobust.metric_learning",
    "ThreatModel": "skrobust.threat_model",
    "certify": "skrobust.certificates",
    "certify_batches": "skrobust.certificates",
    "robustness_report": "skrobust.inspection",
}
_SUBMODULES = (
    "adapters",
    "attacks",
    "certificates",
    "cluster",
    "datasets",
    "deep",
    "inspection",
    "metric_learning",
    "metrics",
    "neighbors",
    "numerics",
    "objectives",
    "scorers",
    "threat_model",
    "utils",
)

__all__ = [
    "AdversarialClustering",
    "AdversarialDeepMetric",
    "RobustMahalanobis",
    "ThreatModel",
    "__version__",
    "certify",
    "certify_batches",
    "robustness_report",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"skrobust.{name}")
    raise AttributeError(f"module 'skrobust' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_SUBMODULES})
