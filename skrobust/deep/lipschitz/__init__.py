"""Networks with a Lipschitz constant, and its bounds."""

from skrobust.deep.lipschitz._bound import (
    LayerBound,
    LipschitzBound,
    layer_bound,
    lipschitz_bound,
)
from skrobust.deep.lipschitz._certified_margin_loss import CertifiedMarginLoss
from skrobust.deep.lipschitz._layers import (
    LipschitzConvNet,
    LipschitzMLP,
    MaxMin,
    OrthogonalLinear,
    RescaledConv2d,
    UnitBall,
)

__all__ = [
    "CertifiedMarginLoss",
    "LayerBound",
    "LipschitzBound",
    "LipschitzConvNet",
    "LipschitzMLP",
    "MaxMin",
    "OrthogonalLinear",
    "RescaledConv2d",
    "UnitBall",
    "layer_bound",
    "lipschitz_bound",
]
