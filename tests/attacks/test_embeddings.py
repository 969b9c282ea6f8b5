"""Attacks on embeddings: closed forms on linear maps, and the ten numbers of the ranking score."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.attacks import EmbeddingShift, EmbeddingTargets, RankingAttack
from skrobust.metrics import recall_at_k


@pytest.fixture(scope="module")
def data():
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    return X + 0.01 * rng.standard_normal(X.shape), y


def run(attack, embedding, X, y=None, eps=0.5, **threat):
    attack.set_params(threat_model=ThreatModel(eps=eps, **threat), random_state=0)
    return attack.run(embedding, X, y)


@pytest.mark.parametrize("norm", [2, np.inf])
def test_the_shift_of_a_linear_map_is_its_norm(data, norm):
    """In ℓ₂ the largest shift is eps times the largest singular value; in ℓ∞ that of a vertex."""
    X, _ = data
    scaler = StandardScaler().fit(X)
    found = run(EmbeddingShift(max_iter=60), scaler, X, norm=norm)
    best = 0.5 / scaler.scale_.min() if norm == 2 else np.linalg.norm(0.5 / scaler.scale_)
    np.testing.assert_allclose(found.value, best, rtol=2e-2)
    assert found.value.max() <= best * (1 + 1e-9)
    again = np.linalg.norm(scaler.transform(found.X_adv) - scaler.transform(X), axis=1)
    np.testing.assert_allclose(found.value, again)
    assert found.perturbation_norm.max() <= 0.5


def test_one_step_counts(data):
    """In ℓ∞ one long step is at the vertex that is the largest shift of a diagonal map."""
    X, _ = data
    scaler = StandardScaler().fit(X)
    found = run(EmbeddingShift(max_iter=1, step_size=2.0), scaler, X, norm=np.inf)
    np.testing.assert_allclose(found.value, np.linalg.norm(0.5 / scaler.scale_))


def test_without_gradients_it_comes_near(data):
    X, _ = data
    scaler = StandardScaler().fit(X)
    exact = run(EmbeddingShift(), scaler, X[:20])
    nes = run(EmbeddingShift(gradient="nes"), scaler, X[:20])
    assert nes.value.mean() > 0.9 * exact.value.mean()
    assert nes.n_queries > exact.n_queries
    kernel = make_pipeline(StandardScaler(), RBFSampler(random_state=0)).fit(X)
    with pytest.raises(TypeError, match="not known to be affine"):
        run(EmbeddingShift(), kernel, X)
    shift = run(EmbeddingShift(gradient="nes", max_iter=5), kernel, X[:10])
    noise = run(EmbeddingShift(gradient="nes", max_iter=1, n_evaluations=1), kernel, X[:10])
    assert shift.value.mean() > noise.value.mean()


def test_the_threat_model_holds(data):
    X, _ = data
    frame = pd.DataFrame(X, columns=list("abcd"))
    pca = PCA(2).fit(frame)
    found = run(EmbeddingShift(), pca, frame, mutable=["a", "c"], bounds=(X.min(), X.max()))
    assert list(found.X_adv.columns) == list("abcd")
    assert (found.X_adv[["b", "d"]] == frame[["b", "d"]]).all().all()
    assert found.X_adv.to_numpy().max() <= X.max()


def test_targets(data):
    X, y = data
    embedding = StandardScaler().fit(X)
    one = run(EmbeddingTargets(), embedding, X, eps=2.0)
    several = run(EmbeddingTargets(n_targets=5), embedding, X, eps=2.0)
    assert one.value.mean() > several.value.mean()
    clean = run(EmbeddingTargets(), embedding, X, eps=0.0)
    assert one.value.mean() > clean.value.mean() + 0.3
    foreign = run(EmbeddingTargets(targets="other_class"), embedding, X, y, eps=2.0)
    recall = recall_at_k(embedding.transform(X), y, queries=foreign.embedding_adv)
    assert recall < recall_at_k(embedding.transform(X), y) - 0.3
    with pytest.raises(ValueError, match="y must be given for targets='other_class'"):
        run(EmbeddingTargets(targets="other_class"), embedding, X)


# kind, whether success lowers what is reported
@pytest.mark.parametrize(
    ("kind", "lowers"),
    [
        ("CA+", True),
        ("CA-", False),
        ("QA+", True),
        ("QA-", False),
        ("LTM", True),
        ("GTM", True),
        ("GTT", True),
        ("order", False),
    ],
)
def test_rankings_move_the_way_that_is_meant(data, kind, lowers):
    X, y = data
    embedding = StandardScaler().fit(X)
    attack = RankingAttack(kind=kind, n_items=3 if kind == "order" else 1)
    clean = run(attack, embedding, X, y, eps=0.0).value.mean()
    little = run(attack, embedding, X, y, eps=0.2).value.mean()
    much = run(attack, embedding, X, y, eps=1.0).value.mean()
    sign = 1 if lowers else -1
    assert sign * clean > sign * much
    assert sign * clean >= sign * little - 1e-9


def test_ranks_as_they_are_counted_one_by_one(data):
    X, _ = data
    embedding = StandardScaler().fit(X)
    Z = embedding.transform(X)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    attack = RankingAttack(kind="QA+", random_state=3, threat_model=ThreatModel(eps=0.5))
    seen = {}
    choose = attack._select_targets

    def remember(rows):
        seen["items"] = choose(rows).items.numpy()
        return choose(rows)

    attack._select_targets = remember
    found = attack.set_params(batch_size=len(X)).run(embedding, X)
    Q = found.embedding_adv / np.linalg.norm(found.embedding_adv, axis=1, keepdims=True)
    for row in range(0, len(X), 17):
        item = seen["items"][row, 0]
        assert item != row
        d = np.linalg.norm(Z - Q[row], axis=1)
        rank = sum(d[j] < d[item] for j in range(len(X)) if j != row)
        assert found.value[row] == pytest.approx(100 * rank / (len(X) - 2))


def test_a_learned_metric_and_a_module(data):
    X, y = data
    metric = RobustMahalanobis(random_state=0, max_iter=10).fit(X, y)
    # steps along the gradient find the largest singular vector as power iterations do
    found = run(EmbeddingShift(max_iter=400), metric, X[:30])
    best = 0.5 * np.linalg.norm(metric.components_, 2)
    np.testing.assert_allclose(found.value, best, rtol=5e-2)

    class Net:
        """As a skorch net looks to an attack."""

        def __init__(self):
            self.module_ = torch.nn.Linear(4, 1)
            self.initialized_ = True

        def fit(self, X, y=None):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def transform(self, X):
            with torch.no_grad():
                return self.module_(torch.as_tensor(X, dtype=torch.float32)).numpy()

    net = Net()
    found = run(EmbeddingShift(max_iter=60), net, X[:30])
    best = 0.5 * float(net.module_.weight.detach().norm())
    np.testing.assert_allclose(found.value, best, rtol=2e-2)


def test_rows_do_not_depend_on_their_batch(data):
    X, y = data
    attack = RankingAttack(
        FrozenEstimator(StandardScaler().fit(X)),
        kind="QA-",
        threat_model=ThreatModel(eps=0.4),
        batch_size=32,
        random_state=0,
    ).fit(X, y)
    whole = attack.transform(X)
    order = np.random.default_rng(0).permutation(len(X))[:50]
    np.testing.assert_array_equal(attack.transform(X[order]), whole[order])


@pytest.mark.parametrize("gradient", ["exact", "nes"])
@pytest.mark.parametrize("extra", [1.0, "text"])
def test_columns_that_the_embedding_does_not_use_do_not_move(extra, gradient):
    X = load_iris(as_frame=True).data
    embedding = make_column_transformer((StandardScaler(), list(X.columns))).fit(X)
    threat_model = ThreatModel(eps=0.4, feature_scale={X.columns[0]: 2.0})
    attack = EmbeddingShift(
        threat_model=threat_model, gradient=gradient, max_iter=2, n_evaluations=4, random_state=0
    )
    plain = attack.run(embedding, X[::10])
    wider = X.assign(more=extra)[["more", *X.columns[::-1]]]
    found = attack.run(embedding, wider[::10])
    np.testing.assert_array_equal(found.value, plain.value)
    pd.testing.assert_frame_equal(found.X_adv[X.columns], plain.X_adv)
    pd.testing.assert_series_equal(found.X_adv["more"], wider["more"][::10])


def test_wrong_parameters(data):
    X, y = data
    scaler = StandardScaler().fit(X)
    with pytest.raises(ValueError, match=r"no eps, and the points have no spread .* n_samples=1"):
        EmbeddingShift().run(scaler, X[:1])
    with pytest.raises(TypeError, match="must have a method transform; got dict"):
        EmbeddingShift().run({}, X)
    with pytest.raises(ValueError, match="y must be given for kind='LTM'"):
        RankingAttack(kind="LTM").run(scaler, X)
    with pytest.raises(ValueError, match="y must have 150 labels; got 3"):
        RankingAttack(kind="LTM").run(scaler, X, y[:3])


def test_labels_in_transform(data):
    X, y = data
    attack = RankingAttack(StandardScaler(), kind="LTM", threat_model=ThreatModel(eps=0.5))
    attack.set_params(random_state=0)
    np.testing.assert_array_equal(attack.fit_transform(X, y), attack.transform(X, labels=y))
    with pytest.raises(ValueError, match="y must be given"):
        attack.transform(X)
