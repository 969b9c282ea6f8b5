"""Random noise as a control."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import KernelPCA
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import EmbeddingNoise, EmbeddingShift

X, y = load_iris(return_X_y=True)
SCALER = StandardScaler().fit(X)


def run(norm=2, estimator=SCALER, **params):
    model = ThreatModel(norm, 0.5, mutable=[0, 2, 3])
    return EmbeddingNoise(threat_model=model, random_state=0, **params).run(estimator, X)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_surface_uses_the_budget(norm):
    found = run(norm)
    np.testing.assert_allclose(found.perturbation_norm, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(found.X_adv[:, 1], X[:, 1])
    moved = (found.X_adv - X)[:, [0, 2, 3]]
    if norm == np.inf:
        np.testing.assert_allclose(np.abs(moved), 0.5)
    assert (np.abs(moved.mean(0)) < 4 * moved.std(0) / np.sqrt(150)).all()  # no direction
    np.testing.assert_allclose(
        found.value, np.linalg.norm(SCALER.transform(found.X_adv) - SCALER.transform(X), axis=1)
    )


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_uniform_noise_is_inside(norm):
    found = run(norm, distribution="uniform")
    assert found.perturbation_norm.max() <= 0.5
    # the norm of a point of the d-dimensional ball is r with P(r <= t) = (t / eps)^d
    inside = (found.perturbation_norm < 0.5 * 0.5 ** (1 / 3)).mean()
    assert abs(inside - 0.5) < 4 * 0.5 / np.sqrt(150)


def test_an_attack_does_more_and_noise_asks_for_nothing():
    model = ThreatModel(2, 0.5)
    shift = EmbeddingShift(threat_model=model, random_state=0).run(SCALER, X).value
    noise = EmbeddingNoise(threat_model=model, random_state=0).run(SCALER, X)
    assert (shift >= noise.value).all()
    assert noise.n_gradient_calls == 0
    kernel = KernelPCA(3, kernel="rbf").fit(X)
    assert run(estimator=kernel).value.max() > 0


def test_a_row_gets_the_same_noise_in_any_batch():
    whole = run(batch_size=7).X_adv
    alone = EmbeddingNoise(threat_model=ThreatModel(2, 0.5, mutable=[0, 2, 3]), random_state=0)
    np.testing.assert_array_equal(alone.run(SCALER, X[40:50]).X_adv, whole[40:50])


def test_bad_parameters():
    with pytest.raises(ValueError, match="'distribution' parameter"):
        run(distribution="normal")
    with pytest.raises(ValueError, match="no spread"):
        EmbeddingNoise().run(SCALER, X[[0, 0]])
