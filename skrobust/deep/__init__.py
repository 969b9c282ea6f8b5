"""Deep embeddings trained adversarially, on skorch."""

from skrobust.deep._adversarial_deep_metric import AdversarialDeepMetric
from skrobust.deep._batch_norm_bank import add_branches, branches_of, route
from skrobust.deep._modules import MLP, ConvNet
from skrobust.deep.lipschitz import (
    CertifiedMarginLoss,
    LayerBound,
    LipschitzBound,
    LipschitzConvNet,
    LipschitzMLP,
    MaxMin,
    OrthogonalLinear,
    RescaledConv2d,
    UnitBall,
    layer_bound,
    lipschitz_bound,
)
from skrobust.deep.strategies import (
    AdversarialStrategy,
    AdversarialTraining,
    AntiCollapseTriplet,
    EmbeddingShiftTraining,
    EnsembleAdversarialTraining,
    GradientDiversity,
    HardnessManipulation,
    MDProp,
    StandardTraining,
    Training,
    TrainingStep,
)

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
