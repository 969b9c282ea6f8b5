"""Attacks beside those of other packages, on the same models, in the same run.

    python -m studies attack_parity [images] [rows]     (500 40)

Needs an environment with torchattacks, foolbox and adversarial-robustness-toolbox. Part 1: PGD in
ℓ∞ on a small convolutional network on MNIST, equal steps and step size, cross-entropy, started at
the clean point: robust accuracy, and CPU time, that of a step from runs of one and of two times as
many. Part 2: HopSkipJump in ℓ₂ on 5-NN and on a random
forest on pendigits, about as many queries each: median norms over the points that are right, and
CPU time.
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from benchmarks.common import SMOKE
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel
from skrobust.adapters import TorchClassifier
from skrobust.attacks import PGD, HopSkipJump
from skrobust.datasets import fetch_mnist, fetch_pendigits

EPS, STEPS = 0.1, 40
REPEATS = 1 if SMOKE else 5


def network():
    """Train a small network for an epoch or two, and return it with test images."""
    data = fetch_mnist()
    X = torch.as_tensor(data.images[:, None] / 255, dtype=torch.float32)
    y, train = torch.as_tensor(data.target), data.is_train
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1, stride=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, padding=1, stride=2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 49, 10),
        )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    rows = torch.as_tensor(np.flatnonzero(train)[: 1000 if SMOKE else 20000])
    for _ in range(2):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval(), X[~train], y[~train]


def best_of(function):
    """Return the result and the least CPU time of a few calls."""
    times = []
    for _ in range(REPEATS):
        # of all threads: other programs on the machine do not count
        started = time.process_time()
        found = function()
        times.append(time.process_time() - started)
    return found, min(times)


def gradients(n_images):
    import foolbox
    import torchattacks

    model, X, y = network()
    X, y = X[:n_images], y[:n_images]
    rate = EPS / 4
    victim = TorchClassifier(model, np.arange(10))
    X_np, y_np = X.numpy(), y.numpy()
    inputs = ThreatModel(np.inf, EPS, bounds=(0, 1))

    def ours(steps):
        attack = PGD(
            threat_model=inputs,
            max_iter=steps,
            step_size=rate / EPS,
            loss="cross_entropy",
            batch_size=n_images,
        )
        return attack.run(victim, X_np, y_np).X_adv

    def torchattacks_pgd(steps):
        attack = torchattacks.PGD(model, eps=EPS, alpha=rate, steps=steps, random_start=False)
        return attack(X, y).numpy()

    def foolbox_pgd(steps):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfPGD(abs_stepsize=rate, steps=steps, random_start=False)
        return attack(wrapped, X, y, epsilons=EPS)[1].numpy()

    print(f"PGD, {n_images} images, clean accuracy {(victim.predict(X_np) == y_np).mean():.3f}")
    print("| package | robust accuracy | CPU ms a step | CPU ms once |")
    print("|---|---|---|---|")
    for name, attack in (
        ("skrobust", ours),
        ("torchattacks", torchattacks_pgd),
        ("foolbox", foolbox_pgd),
    ):
        found, seconds = best_of(partial(attack, STEPS))
        _, twice = best_of(partial(attack, 2 * STEPS))
        assert np.abs(found - X_np).max() <= EPS + 1e-6
        accuracy = (victim.predict(found) == y_np).mean()
        step, once = (twice - seconds) / STEPS, 2 * seconds - twice
        print(f"| {name} | {accuracy:.3f} | {1000 * step:.1f} | {1000 * once:.0f} |", flush=True)


class Counting:
    """A classifier for the peer that counts what it is asked."""

    def __init__(self, model):
        self.model, self.n_queries = model, 0

    def __call__(self, X):
        self.n_queries += len(X)
        return np.eye(len(self.model.classes_))[self.model.predict(X)]


def decisions(n_rows):
    from art.attacks.evasion import HopSkipJump as Peer
    from art.estimators.classification import BlackBoxClassifier

    data = fetch_pendigits()
    X, y, train = data.data.astype(np.float32) / 100, data.target, data.is_train
    X_train, y_train, X, y = (
        X[train][:3000],
        y[train][:3000],
        X[~train][:n_rows],
        y[~train][:n_rows],
    )
    print(f"\nHopSkipJump, {n_rows} points")
    print("| victim | package | median norm | queries a point | CPU s |")
    print("|---|---|---|---|---|")
    for model in (KNeighborsClassifier(5), RandomForestClassifier(50, random_state=0)):
        model.fit(X_train, y_train)
        right = model.predict(X) == y
        rows = X[right]
        counting = Counting(model)
        wrapped = BlackBoxClassifier(counting, (16,), 10, clip_values=(0, 1))
        # its own random numbers are global ones
        np.random.seed(0)  # noqa: NPY002
        steps = 3 if SMOKE else 20
        peer = Peer(wrapped, norm=2, max_iter=steps, max_eval=1000, init_eval=50, verbose=False)
        started = time.process_time()
        moved = peer.generate(rows)
        seconds = time.process_time() - started
        flipped = model.predict(moved) != y[right]
        norms = np.where(flipped, np.linalg.norm(moved - rows, axis=1), np.inf)
        asked = counting.n_queries / len(rows)
        name = type(model).__name__
        print(
            f"| {name} | ART | {np.median(norms):.4f} | {asked:.0f} | {seconds:.1f} |", flush=True
        )
        ours = HopSkipJump(
            threat_model=ThreatModel(2, bounds=(0, 1)),
            max_iter=steps,
            n_evaluations=45,
            random_state=0,
        )
        started = time.process_time()
        found = ours.run(model, rows, y[right])
        seconds = time.process_time() - started
        print(
            f"| {name} | skrobust | {np.median(found.minimal_norm):.4f} "
            f"| {found.n_queries / len(rows):.0f} | {seconds:.1f} |",
            flush=True,
        )


def main(n_images=20 if SMOKE else 500, n_rows=3 if SMOKE else 40):
    """Print both tables."""
    warnings.simplefilter("ignore")
    gradients(int(n_images))
    decisions(int(n_rows))
