"""What is guaranteed of classifiers of several kinds: the study of doc/guarantees.md.

    python -m studies guarantee run
    python -m studies guarantee table

ℓ₂, features scaled to [0, 1] on the training part, all
training points; errors on the whole test part and on the 1,000 points of
``shuffle(random_state=42)``. The radii of k-NN and of prototypes are exact. "Lipschitz" are
multi-layer perceptrons (512, 512) with 64 outputs; "smoothing" is around a convolutional network
that is trained with noise, of the first 500 of these points, with 10,000 draws each;
"adversarial": against adversaries that meet this noise, in a ball of 1.
"""

import time

import numpy as np
import torch
from benchmarks.common import SMOKE
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import shuffle
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler

from skrobust import AdversarialDeepMetric, RobustMahalanobis, certify
from skrobust.attacks import steepest
from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.deep import ConvNet
from skrobust.neighbors import AdversarialPruning, RobustPrototypeClassifier
from studies._cells import spread
from studies.metric import load

# radii that errors are told at; prototypes of a class, target radius, epochs, last temperature
SETTINGS = {
    "satimage": ((0.05, 0.1, 0.15, 0.2), 150, 0.15, 20, 0.2),
    "usps": ((0.5, 1.0, 1.5, 2.0), 200, 1.0, 20, 0.1),
    "mnist": ((0.5, 1.0, 1.5, 2.0), 300, 1.5, 10, 0.1),
    "fashion_mnist": ((0.25, 0.5, 1.0, 1.5), 300, 1.0, 10, 0.1),
}
SEEDS = (0, 1, 2)
DATA_SETS = tuple(SETTINGS)


def prototypes(name, seed, **params):
    """Return the classifier with the settings of a data set."""
    _, n_prototypes, target_radius, max_iter, temperature = SETTINGS[name]
    return RobustPrototypeClassifier(
        5 if SMOKE else n_prototypes,
        target_radius=target_radius,
        max_iter=2 if SMOKE else max_iter,
        temperature=(1.0, temperature),
        random_state=seed,
        **params,
    )


def spread_of(X):
    """Return the root mean square distance of points from their mean."""
    return float(np.sqrt(np.square(X - X.mean(0)).sum(1).mean()))


def network(name, seed, X, head):
    """Return a 1-Lipschitz network and what classifies its embeddings."""
    metric = AdversarialDeepMetric(
        lipschitz="orthogonal",
        embedding_dim=64,
        module__hidden=(512, 512),
        loss="certified_margin",
        loss__target_radius=SETTINGS[name][2] / spread_of(X),
        learning_rate=3e-3,
        optimizer__weight_decay=0.0,
        max_iter=1 if SMOKE else 10,
        random_state=seed,
        device="cpu",
    )
    return make_pipeline(metric, head)


class NoisyConvNet(ConvNet):
    """A convolutional classifier of grey images with noise while it trains."""

    def __init__(self, sigma):
        super().__init__((1, 28, 28), 10)
        self.sigma = sigma

    def forward(self, x):
        x = x.reshape(-1, 1, 28, 28)
        return super().forward(x + self.sigma * torch.randn_like(x) if self.training else x)


class AdversarialNet(NeuralNetClassifier):
    """Trained on points that two steps in the ℓ₂ ball of 1 move against the noisy network.

    Every step meets new noise: adversarial training of the smoothed classifier (Salman et al.,
    NeurIPS 2019) with one draw.
    """

    def train_step_single(self, batch, **params):
        X, y = batch[0].to(self.device), batch[1].to(self.device)
        delta = torch.zeros_like(X)
        for _ in range(2):
            delta.requires_grad_()
            loss = self.get_loss(self.infer(X + delta), y)
            (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = torch.renorm(delta + steepest(gradient, 2.0), 2, 0, 1.0)
        return super().train_step_single((X + delta, y), **params)


def smoothed(sigma, seed, trainer=NeuralNetClassifier):
    """Return a smoothed convolutional network."""
    epochs = 1 if SMOKE else 10
    net = trainer(
        NoisyConvNet,
        module__sigma=sigma,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs=epochs,
        batch_size=128,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[
            LRScheduler(
                torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs, step_every="epoch"
            )
        ],
        verbose=0,
    )
    return RandomizedSmoothingClassifier(
        net, sigma=sigma, n_samples=100 if SMOKE else 10_000, random_state=seed
    )


# name: from a data set's name, a seed and the training points to a classifier
METHODS = {
    "1-NN": lambda name, seed, X: KNeighborsClassifier(1),
    "1-NN, pruned": lambda name, seed, X: AdversarialPruning(
        KNeighborsClassifier(1), radius=SETTINGS[name][2]
    ),
    "RobustMahalanobis": lambda name, seed, X: make_pipeline(
        RobustMahalanobis(random_state=seed), KNeighborsClassifier(1)
    ),
    "prototypes": lambda name, seed, X: prototypes(name, seed),
    "prototypes, Euclidean": lambda name, seed, X: prototypes(name, seed, learn_metric=False),
    "prototypes, auto": lambda name, seed, X: prototypes(name, seed).set_params(
        n_prototypes="auto"
    ),
    "Lipschitz, centroids": lambda name, seed, X: network(name, seed, X, NearestCentroid()),
    "Lipschitz, prototypes": lambda name, seed, X: network(
        name,
        seed,
        X,
        RobustPrototypeClassifier(
            10, target_radius=SETTINGS[name][2] / spread_of(X), max_iter=5, random_state=seed
        ),
    ),
    "Lipschitz, 1-NN": lambda name, seed, X: network(name, seed, X, KNeighborsClassifier(1)),
    "smoothing .25": lambda name, seed, X: smoothed(0.25, seed),
    "smoothing .5": lambda name, seed, X: smoothed(0.5, seed),
    "smoothing .5, adversarial": lambda name, seed, X: smoothed(0.5, seed, AdversarialNet),
    "smoothing 1, adversarial": lambda name, seed, X: smoothed(1.0, seed, AdversarialNet),
}


def stored(model, X):
    """Return how many points the classifier compares with."""
    if isinstance(model, RandomizedSmoothingClassifier):
        return 0
    last = model[-1] if isinstance(model, Pipeline) else model
    names = ("prototypes_", "centroids_", "sample_indices_")
    return len(next((getattr(last, name) for name in names if hasattr(last, name)), X))


def cell(name, method, seed):
    """Fit, certify, and return a record."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = load(name)
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    torch.manual_seed(seed)  # of the networks that are smoothed
    model = METHODS[method](name, seed, X)
    some = shuffle(np.arange(len(y_test)), random_state=42)[:1000]
    smooth = method.startswith("smoothing")
    if smooth:
        some = some[:500]
        X_test, y_test, some = X_test[some], y_test[some], np.arange(len(some))
    started = time.perf_counter()
    model.fit(X, y)
    fitted = time.perf_counter()
    found = certify(model, X_test, y_test, method="fast" if method == "Lipschitz, 1-NN" else "auto")
    seconds = time.perf_counter() - fitted

    def errors(rows):
        radius = found.radius[rows]
        return [float(1 - found.correct[rows].mean())] + [
            float((radius < r).mean()) for r in SETTINGS[name][0]
        ]

    return {
        "data": name,
        "method": method,
        "seed": seed,
        "fit_seconds": fitted - started,
        "certify_seconds": seconds,
        "stored": stored(model, X),
        "errors": errors(np.arange(len(y_test))),
        "errors_1000": errors(some),
        "mean_radius": float(found.radius.mean()),
    }


def table(cells):
    """Print a table for each data set, mean ± half the range over seeds."""
    for name, (radii, *_) in SETTINGS.items():
        some = [c for c in cells if c["data"] == name]
        if not some:
            continue
        print(f"\n### {name}\n")
        print(
            f"| method | clean | {' | '.join(f'at {r}' for r in radii)} | "
            f"{' | '.join(f'{r} (1,000)' for r in ('clean', *radii))} | fit, s | certify, s | "
            "points | seeds |"
        )
        print("|---|" + "---|" * (2 * len(radii) + 6))
        for method in METHODS:
            found = [c for c in some if c["method"] == method]
            if found:
                points = f"{found[0]['stored']:,}" if found[0]["stored"] else "–"
                columns = np.array([c["errors"] + c["errors_1000"] for c in found]).T
                shown = " | ".join(spread(column, 3) for column in columns)
                seconds = [
                    np.median([c[k] for c in found]) for k in ("fit_seconds", "certify_seconds")
                ]
                print(
                    f"| {method} | {shown} | {seconds[0]:.0f} | {seconds[1]:.0f} | "
                    f"{points} | {len(found)} |"
                )
