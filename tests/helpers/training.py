"""Quick deep metrics on digits, and single batches for training strategies."""

import numpy as np
import torch
from torch import nn

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import TrainingStep
from skrobust.deep._adversary import training_adversary
from skrobust.deep._data import InputLayout, compute_moments
from skrobust.deep._losses import make_criterion

__all__ = ["EPS", "Recorder", "digits_metric", "make_step"]

EPS = ThreatModel(np.inf, 0.1)


def digits_metric(**params):
    """Return an unfitted metric on digits that is trained in a second."""
    given = {"image_shape": (8, 8), "max_iter": 2, "random_state": 0, "device": "cpu"}
    return AdversarialDeepMetric(**given | params)


class Recorder(nn.Module):
    """A small network that keeps what it was given, and in which mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.calls = []

    def forward(self, x):
        self.calls.append((x.detach().clone(), self.training))
        return nn.functional.normalize(self.layers(x), dim=1)

    def seen(self, training):
        """Return the inputs of the calls in training mode, or of the others."""
        return [x for x, mode in self.calls if mode == training]


class LinearRecorder(Recorder):
    """The same with a single layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Linear(5, 3)


def make_step(strategy, loss="multi_similarity", n=16, make=Recorder):
    """Return a batch of `n` rows of four classes, as a strategy receives it.

    Parameters
    ----------
    make : callable
        Makes the network, from 5 features to 3.
    """
    torch.manual_seed(0)
    X, y = np.random.default_rng(0).random((n, 5)).astype(np.float32), np.arange(n) % 4
    layout = InputLayout.of((5,))
    adversary = training_adversary(
        getattr(strategy, "threat_model", None),
        layout,
        compute_moments(X, layout),
        None,
        torch.device("cpu"),
        torch.Generator().manual_seed(0),
        X,
    )
    module = strategy.build(make).train()
    criterion = strategy.build_criterion(lambda: make_criterion(loss, "auto", 4, 3, {}, {}))
    parts = strategy.assign(y, np.random.RandomState(0))
    return TrainingStep(
        module,
        module,
        criterion,
        torch.from_numpy(X),
        torch.from_numpy(y),
        adversary,
        None if parts is None else torch.from_numpy(parts),
    )
