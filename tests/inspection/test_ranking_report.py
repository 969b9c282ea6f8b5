import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skrobust import ThreatModel
from skrobust.inspection import ranking_report


class UnitEmbedding:
    """A linear map onto the unit sphere."""

    def __init__(self, X, collapsed=False):
        self.scaler, self.collapsed = StandardScaler().fit(X), collapsed

    def transform(self, X):
        Z = self.scaler.transform(X)
        if self.collapsed:
            Z = 1e-6 * Z + [1, 0, 0, 0]
        return Z / np.linalg.norm(Z, axis=1, keepdims=True)


@pytest.fixture
def data():
    X, y = load_iris(return_X_y=True)
    return X[::2] + 0.01 * np.random.default_rng(0).standard_normal((75, 4)), y[::2]


def report(embedding, data, eps, max_iter=8):
    threat = ThreatModel(eps=eps)
    return ranking_report(embedding, *data, threat_model=threat, gradient="nes", max_iter=max_iter)


@pytest.mark.slow
def test_the_score_falls_with_the_budget(data):
    embedding = UnitEmbedding(data[0])
    found = [report(embedding, data, eps) for eps in (0.02, 0.3, 1.0)]
    assert found[0].score > found[1].score > found[2].score
    assert found[0].recall == found[2].recall
    assert set(found[0].results) == {
        *("CA+", "CA-", "QA+", "QA-", "TMA", "ES:D", "ES:R", "LTM", "GTM", "GTT")
    }
    assert "(clean)" in str(found[0])


def test_a_collapsed_embedding_hardly_moves(data):
    """What the score rewards, and why the recall stands beside it."""
    collapsed = report(UnitEmbedding(data[0], collapsed=True), data, 0.3, max_iter=3)
    assert collapsed.results["ES:D"] < 1e-3
    assert collapsed.results["TMA"] > 0.99


def test_embeddings_of_other_norms_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="must give embeddings of norm 1; got norms from"):
        ranking_report(StandardScaler().fit(X), X, y, threat_model=ThreatModel(eps=0.1))
    pipe = make_pipeline(StandardScaler(), Normalizer()).fit(X)
    with pytest.raises(TypeError, match="gradient='nes'"):
        ranking_report(pipe, X, y, threat_model=ThreatModel(eps=0.1))
