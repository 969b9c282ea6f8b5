"""Networks with a Lipschitz constant, and its bounds."""

from skrobust.deep.lipschitz._bound import (
    LayerBound,
    LipschitzBound,
    layer_bound,
    lipschitz_bound,
)
from skrobust.deep.lipschitz._certified_margin_loss import CertifiedMarginLoss
from skrobust.deep.lipschitz._layers import MaxMin, OrthogonalLinear, RescaledConv2d, UnitBall
from skrobust.deep.lipschitz._modules import LipschitzConvNet, LipschitzMLP

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
