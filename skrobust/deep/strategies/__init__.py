"""Training strategies, one a file."""

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
    "AdversarialStrategy",
    "AdversarialTraining",
    "AntiCollapseTriplet",
    "EmbeddingShiftTraining",
    "EnsembleAdversarialTraining",
    "GradientDiversity",
    "HardnessManipulation",
    "MDProp",
    "StandardTraining",
    "Training",
    "TrainingStep",
]
