"""Deep embeddings trained adversarially, on skorch."""

from skrobust.deep._adversarial_deep_metric import AdversarialDeepMetric
from skrobust.deep._batch_norm_bank import add_branches, branches_of, route
from skrobust.deep._modules import MLP, ConvNet
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
from skrobust.deep.strategies._adversarial import AdversarialTraining
from skrobust.deep.strategies._base import (
    AdversarialStrategy,
    StandardTraining,
    Training,
    TrainingStep,
)
from skrobust.deep.strategies._embedding_shift import EmbeddingShiftTraining
from skrobust.deep.strategies._ensemble_adversarial import EnsembleAdversarialTraining
from skrobust.deep.strategies._gradient_diversity import GradientDiversity
from skrobust.deep.strategies._hardness_manipulation import HardnessManipulation
from skrobust.deep.strategies._mdprop import MDProp
from skrobust.deep.strategies._triplets import AntiCollapseTriplet

__all__ = [
    "MLP",
    "AdversarialDeepMetric",
    "AdversarialStrategy",
    "AdversarialTraining",
    "AntiCollapseTriplet",
    "CertifiedMarginLoss",
    "ConvNet",
    "EmbeddingShiftTraining",
    "EnsembleAdversarialTraining",
    "GradientDiversity",
    "HardnessManipulation",
    "LayerBound",
    "LipschitzBound",
    "LipschitzConvNet",
    "LipschitzMLP",
    "MDProp",
    "MaxMin",
    "OrthogonalLinear",
    "RescaledConv2d",
    "StandardTraining",
    "Training",
    "TrainingStep",
    "UnitBall",
    "add_branches",
    "branches_of",
    "layer_bound",
    "lipschitz_bound",
    "route",
]
