"""Deep embeddings trained adversarially, on skorch."""

try:
    import pytorch_metric_learning  # noqa: F401
    import safetensors  # noqa: F401
    import skorch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"skrobust.deep needs the package {error.name}: pip install 'skrobust[deep]'."
    ) from error

from skrobust.deep._adversarial_deep_metric import AdversarialDeepMetric
from skrobust.deep._adversarial_training import AdversarialTraining
from skrobust.deep._anti_collapse_triplet import AntiCollapseTriplet
from skrobust.deep._batch_norm_bank import add_branches, branches_of, route
from skrobust.deep._certified_margin_loss import CertifiedMarginLoss
from skrobust.deep._embedding_shift_training import EmbeddingShiftTraining
from skrobust.deep._ensemble_adversarial_training import EnsembleAdversarialTraining
from skrobust.deep._gradient_diversity import GradientDiversity
from skrobust.deep._hardness_manipulation import HardnessManipulation
from skrobust.deep._lipschitz_bound import (
    LayerBound,
    LipschitzBound,
    layer_bound,
    lipschitz_bound,
)
from skrobust.deep._lipschitz_layers import MaxMin, OrthogonalLinear, RescaledConv2d, UnitBall
from skrobust.deep._lipschitz_modules import LipschitzConvNet, LipschitzMLP
from skrobust.deep._mdprop import MDProp
from skrobust.deep._modules import MLP, ConvNet
from skrobust.deep._standard_training import StandardTraining
from skrobust.deep._training import AdversarialStrategy, Training, TrainingStep

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
