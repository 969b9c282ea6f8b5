"""What an adversarial step costs, and what skorch and our code add to a bare PyTorch loop.

    python deep_cost.py [--device cuda] [--batch 128] [--epochs 3]

In plain steps: forward, backward and optimizer step of the same module, loss and batch in a bare
PyTorch loop. The loops take turns, epoch by epoch, and the median of the ratios is printed, with
what the issue of the training strategies allows.
"""

import argparse
import itertools
import time

import numpy as np
import torch
from benchmarks.common import SMOKE

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import (
    AdversarialTraining,
    EmbeddingShiftTraining,
    MDProp,
    StandardTraining,
)

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


def seconds_of(function, device):
    """Return the seconds of a call, the device's work included."""
    started = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1 if SMOKE else 5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    n = given.batch * (2 if SMOKE else 12)
    y = np.arange(n) % 8
    X = rng.random((n, 28 * 28), dtype=np.float32)
    fits = {}
    for name, (strategy, _) in STRATEGIES.items():
        fits[name] = AdversarialDeepMetric(
            training=strategy,
            image_shape=(28, 28),
            batch_size=given.batch,
            samples_per_class=given.batch // 8,
            learning_rate=1e-4,
            schedule=None,
            precision="full",
            device=given.device,
            random_state=0,
        ).partial_fit(X, y)
    plain = AdversarialDeepMetric(
        image_shape=(28, 28), batch_size=given.batch, precision="full", device=given.device
    )
    reference = bare(plain.partial_fit(X, y), X, y, given.batch)
    reference()
    ratios = {name: [] for name in fits}
    for _, (name, metric) in itertools.product(range(given.epochs), fits.items()):
        before = seconds_of(reference, given.device)
        own = seconds_of(lambda metric=metric: metric.partial_fit(X, y), given.device)
        after = seconds_of(reference, given.device)
        ratios[name].append(2 * own / (before + after))
    print(f"| batch {given.batch}, {given.device} | plain steps | allowed |\n|---|---|---|")
    for name, (_, allowed) in STRATEGIES.items():
        print(f"| {name} | {np.median(ratios[name]):.2f} | {allowed:.2f} |")


if __name__ == "__main__":
    main()
