"""Steps of the training strategies in plain steps, and images a second on a GPU."""

import numpy as np
import torch

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    ConvNet,
    EmbeddingShiftTraining,
    EnsembleAdversarialTraining,
    MDProp,
    StandardTraining,
)

from .common import SMOKE, seconds

EPS = ThreatModel(np.inf, 0.1, bounds=(0.0, 1.0))
# name: (strategy, plain steps that it may cost)
STRATEGIES = {
    "skorch and ours, plain": (StandardTraining(), 1.10),
    "adversarial, T = 1": (AdversarialTraining(EPS, max_iter=1), 1.15 * 2),
    "adversarial, T = 3": (AdversarialTraining(EPS, max_iter=3), 1.15 * 4),
    "adversarial, T = 7": (AdversarialTraining(EPS, max_iter=7), 1.15 * 8),
    "embedding shift, T = 3": (EmbeddingShiftTraining(EPS, max_iter=3), 1.15 * 4),
    "MP'', T = 1": (MDProp(EPS), 1.15 * 3.4),
    "MP'', T = 3": (MDProp(EPS, max_iter=3), 1.15 * 5.4),
    # M (T + M): every member is attacked, and trains on the examples of all
    "EAT, M = 3, T = 1": (EnsembleAdversarialTraining(EPS, max_iter=1), 1.15 * 3 * 4),
    "EAT, M = 3, T = 3": (EnsembleAdversarialTraining(EPS, max_iter=3), 1.15 * 3 * 6),
    "EAT, M = 3, T = 3, no split": (
        EnsembleAdversarialTraining(EPS, max_iter=3, split="none"),
        1.15 * 3 * 6,
    ),
}


def bare(metric, X, y, batch_size):
    """Return a function that trains a copy of the model for an epoch, without anything else."""
    model, criterion = metric.module_, metric.criterion_
    device = next(model.parameters()).device
    parameters = [*model.parameters(), *criterion.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    m = batch_size // len(np.unique(y))
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(y == c) for c in np.unique(y)]

    def epoch():
        model.train()
        n = len(y) // batch_size
        for _ in range(n):
            rows = np.concatenate([rng.choice(some, m, replace=False) for some in members])
            x = metric.layout_.to_module(torch.from_numpy(X[rows])).to(device)
            labels = torch.from_numpy(y[rows]).to(device)
            optimizer.zero_grad()
            loss = criterion(model(x), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        return n

    return epoch


def trained(strategy, X, y, batch_size, device):
    """Return a metric that has made one epoch, and whose next ones can be timed."""
    return AdversarialDeepMetric(
        training=strategy,
        image_shape=(28, 28),
        batch_size=batch_size,
        samples_per_class=batch_size // 8,
        learning_rate=1e-4,
        schedule=None,
        precision="full",
        device=device,
        random_state=0,
    ).partial_fit(X, y)


def cost(name, batch_size=128, device="cpu", epochs=1 if SMOKE else 5):
    """Return the median ratio of an epoch to that of a bare loop, before and after it."""
    rng = np.random.default_rng(0)
    n = batch_size * (2 if SMOKE else 12)
    y = np.arange(n) % 8
    X = rng.random((n, 28 * 28), dtype=np.float32)
    metric = trained(STRATEGIES[name][0], X, y, batch_size, device)
    plain = trained(StandardTraining(), X, y, batch_size, device)
    reference = bare(plain, X, y, batch_size)
    ratios = []

    def timed(function):
        def whole():
            function()
            if device == "cuda":
                torch.cuda.synchronize()

        return seconds(whole)

    timed(reference)
    for _ in range(epochs):
        before = timed(reference)
        own = timed(lambda: metric.partial_fit(X, y))
        ratios.append(2 * own / (before + timed(reference)))
    return float(np.median(ratios))


def layout_cost(steps=2 if SMOKE else 30):
    """Return the median ratio of a step with channels last to one with channels first."""
    x = torch.rand(128, 1, 28, 28)
    last = ConvNet((1, 28, 28), 64)
    first = ConvNet((1, 28, 28), 64).to(memory_format=torch.contiguous_format)

    def step(net):
        return seconds(lambda: net(x).square().sum().backward())

    for net in (last, first):
        step(net)
    return float(np.median([step(last) / step(first) for _ in range(steps)]))


class StepCost:
    """An epoch of a strategy over one of a bare PyTorch loop, batch 128."""

    timeout = 1800
    unit = "plain steps"
    params = list(STRATEGIES)
    param_names = ("strategy",)

    def track_plain_steps(self, name):
        torch.set_num_threads(1)
        return cost(name)


class ChannelsLast:
    """Forward and backward of the default network over the same with channels first, batch 128."""

    unit = "ratio"

    def track_ratio(self):
        torch.set_num_threads(1)
        return layout_cost()


class ResNetOnCuda:
    """Images a second of training ResNets at 224 × 224, in full and mixed precision."""

    timeout = 1800
    unit = "images/s"
    params = (["resnet18", "resnet50"], ["full", "mixed"], ["plain", "MP''"])
    param_names = ("network", "precision", "training")

    def setup(self, network, precision, training):
        if not torch.cuda.is_available():
            raise NotImplementedError("needs a CUDA device")
        try:
            import torchvision  # noqa: F401
        except ImportError as error:
            raise NotImplementedError("needs torchvision") from error

    def track_images_per_second(self, network, precision, training):
        from torchvision import models

        n = 256 if SMOKE else 2560
        y = np.arange(n) % 32
        X = np.random.default_rng(0).integers(0, 256, (n, 3, 224, 224), dtype=np.uint8)
        metric = AdversarialDeepMetric(
            getattr(models, network),
            module__num_classes=128,
            training=MDProp(ThreatModel(np.inf, 2.0)) if training == "MP''" else None,
            batch_size=128,
            precision=precision,
            device="cuda",
            random_state=0,
        ).partial_fit(X, y)

        def epoch():
            metric.partial_fit(X, y)
            torch.cuda.synchronize()

        return n / seconds(epoch)
