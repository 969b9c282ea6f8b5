"""Attempts to flip predictions inside certified radii."""

import numpy as np
from scipy.special import softmax


def random_directions(rng, shape, norm):
    """Rows of norm 1: half of them spread out, half along few features."""
    direction = rng.standard_normal(shape)
    sparse = rng.random(shape) < 3 / shape[1]
    sparse[np.arange(len(sparse)), rng.integers(0, shape[1], len(sparse))] = True
    direction = np.where(rng.random((shape[0], 1)) < 0.5, direction, direction * sparse)
    if norm == np.inf:
        direction = np.where(direction == 0, 0.0, np.sign(direction))
    return direction / np.linalg.norm(direction, ord=norm, axis=1, keepdims=True)


def soft_gradient(X_train, y_train, x, label, temperature):
    """Gradient of the log-odds that a soft k-NN gives to the other classes, Euclidean."""
    D = ((X_train - x) ** 2).sum(1)
    own = y_train == label
    pull = softmax(-D[~own] / temperature) @ X_train[~own]
    push = softmax(-D[own] / temperature) @ X_train[own]
    return pull - push


def flips(model, X_train, y_train, X, y, radius, perturbation, norm, n_attempts, seed=0):
    """Count flips among `n_attempts` points inside the radii.

    A third in random directions at 0.999 of the radius or anywhere below, a third along the
    gradient of a soft k-NN, a third along the given perturbation, scaled to 0.999 of the radius,
    with a little noise on all but one.

    Parameters
    ----------
    X_train, y_train : arrays
        In the space of X (Euclidean k-NN).
    perturbation : ndarray of shape (n_samples, n_features)
        Of the exact search.

    Returns
    -------
    n_flips, n_tried : int
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero((radius > 0) & np.isfinite(radius))
    each = -(-n_attempts // (3 * len(rows)))
    n_flips = n_tried = 0
    for row in rows:
        reach = 0.999 * radius[row]
        anywhere = random_directions(rng, (each, X.shape[1]), norm)
        anywhere *= np.where(rng.random((each, 1)) < 0.7, reach, reach * rng.random((each, 1)))
        unit = perturbation[row] / max(np.linalg.norm(perturbation[row], ord=norm), 1e-300)
        noise = 0.05 * random_directions(rng, (each, X.shape[1]), norm)
        noise[0] = 0
        along = unit + noise
        temperature = np.median(((X_train - X[row]) ** 2).sum(1)) * 10 ** rng.uniform(-4, 0)
        steps, x = [], X[row].copy()
        for _ in range(5):
            gradient = soft_gradient(X_train, y_train, x, y[row], temperature)
            if norm == np.inf:
                gradient = np.sign(gradient)
            gradient = gradient / max(np.linalg.norm(gradient, ord=norm), 1e-300)
            steps.append(gradient)
            x = X[row] + reach * gradient
        up = np.repeat(steps, -(-each // 5), axis=0)[:each]
        up = up + 0.1 * random_directions(rng, up.shape, norm)
        for block in (along, up):
            sizes = np.linalg.norm(block, ord=norm, axis=1, keepdims=True)
            block *= reach / np.maximum(sizes, 1e-300)
        tried = X[row] + np.vstack([anywhere, along, up])
        n_flips += int((model.predict(tried) != y[row]).sum())
        n_tried += len(tried)
    return n_flips, n_tried
