"""Attacks on the predictions of any classifier."""

from skrobust.attacks.classifiers._apgd import APGD
from skrobust.attacks.classifiers._hop_skip_jump import HopSkipJump
from skrobust.attacks.classifiers._minimum_norm import MinimumNormAttack
from skrobust.attacks.classifiers._noise import NoiseAttack
from skrobust.attacks.classifiers._pgd import FGSM, PGD
from skrobust.attacks.classifiers._transfer import TransferAttack
from skrobust.attacks.classifiers._worst_case import WorstCase

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "HopSkipJump",
    "MinimumNormAttack",
    "NoiseAttack",
    "TransferAttack",
    "WorstCase",
]
