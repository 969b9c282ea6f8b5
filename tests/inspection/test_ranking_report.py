import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skrobust import ThreatModel
from skrobust.attacks import EmbeddingMargin, EmbeddingShift, EmbeddingTargets, RankingAttack
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


class Network:
    """A smooth embedding on the unit sphere, perhaps behind a defence that hides gradients."""

    def __init__(self, X, kind="honest"):
        rng = np.random.default_rng(0)
        self.kind = kind
        self.mean = torch.from_numpy(X.mean(axis=0))
        self.first = torch.from_numpy(rng.standard_normal((X.shape[1], 16)))
        self.last = torch.from_numpy(rng.standard_normal((16, 3)))

    def defended(self, x):
        if self.kind == "rounds":
            return torch.round(20 * x) / 20
        if self.kind == "wrong way":  # the right value, with the slope of another one
            return x.detach() - 1e-3 * (x - x.detach()) * torch.tensor([1.0, 1.0, 0.0, 1.0])
        if self.kind == "nan":
            return x + 0 * torch.sqrt((x - x).abs())
        return x

    def _differentiable_embedding(self):
        def embed(x):
            z = torch.tanh((self.defended(x) - self.mean) @ self.first) @ self.last
            return torch.nn.functional.normalize(z, dim=1)

        return embed

    def transform(self, X):
        return self._differentiable_embedding()(torch.tensor(np.asarray(X))).numpy()


def flags(found):
    return {finding.name for finding in found.health if finding.flagged}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("honest", set()),
        ("rounds", {"zero gradients", "noise against attacks", "embeddings leave their class"}),
        ("nan", {"zero gradients", "noise against attacks"}),
        ("wrong way", {"noise against attacks"}),
    ],
)
@pytest.mark.parametrize("norm", [2, np.inf])
def test_a_score_that_gradients_did_not_see_is_flagged(data, kind, expected, norm):
    """A defence that hides gradients has a high score, and is not praised for it."""
    model = ThreatModel(norm, eps=0.1)
    found = ranking_report(Network(data[0], kind), *data, threat_model=model, max_iter=8)
    assert expected <= flags(found), str(found)
    assert found.healthy == (kind == "honest"), str(found)
    for finding in found.health:
        assert str(finding) in str(found)


@pytest.mark.parametrize("kind", ["rounds", "nan"])
@pytest.mark.parametrize(
    "attack",
    [
        EmbeddingShift(random_state=0),
        EmbeddingTargets(random_state=0),
        EmbeddingMargin(random_state=0),
        *(RankingAttack(kind=kind, random_state=0) for kind in ("QA+", "CA+", "LTM")),
    ],
    ids=str,
)
def test_a_blind_attack_warns(data, attack, kind):
    attack = clone(attack).set_params(max_iter=2)
    attack.run(Network(data[0]), *data)
    with pytest.warns(UserWarning, match="the first gradient is 0 for .* blind there"):
        attack.run(Network(data[0], kind), *data)


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
    assert "collapse" in flags(collapsed)


def test_embeddings_of_other_norms_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="must give embeddings of norm 1; got norms from"):
        ranking_report(StandardScaler().fit(X), X, y, threat_model=ThreatModel(eps=0.1))
    pipe = make_pipeline(StandardScaler(), Normalizer()).fit(X)
    with pytest.raises(TypeError, match="gradient='nes'"):
        ranking_report(pipe, X, y, threat_model=ThreatModel(eps=0.1))
