"""Attacks, scorers and reports on a deep metric, alone and in a pipeline."""

import numpy as np
import pytest
import torch
from shared_data import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.adapters import (
    NotDifferentiableError,
    differentiable_embedding,
    differentiable_scores,
)
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingShift,
    EmbeddingTargets,
    HopSkipJump,
    MinimumNormAttack,
    RankingAttack,
)
from skrobust.deep import EmbeddingShiftTraining
from skrobust.inspection import ranking_report, robustness_report
from skrobust.scorers import robust_accuracy_scorer, robust_recall_scorer

X, y = load_digits(n_class=5, return_X_y=True)
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1:161:2], y[1:161:2]
EPS = ThreatModel(np.inf, 3.0, bounds=(0.0, 16.0))


@pytest.fixture(scope="module")
def metric():
    return AdversarialDeepMetric(image_shape=(8, 8), max_iter=4, random_state=0).fit(
        X_train, y_train
    )


@pytest.fixture(scope="module")
def pipe():
    pipe = make_pipeline(
        MinMaxScaler(),
        AdversarialDeepMetric(image_shape=(8, 8), max_iter=4, random_state=0),
        KNeighborsClassifier(1),
    )
    return pipe.fit(X_train, y_train)


def test_the_embedding_is_that_of_transform(metric):
    embed = differentiable_embedding(metric)
    x = torch.from_numpy(X_test).requires_grad_()
    z = embed(x)
    np.testing.assert_allclose(z.detach(), metric.transform(X_test), atol=1e-6)
    assert z.dtype == torch.float64
    (gradient,) = torch.autograd.grad(z.square().sum(0)[0], x)
    h = 1e-2
    moved = X_test + h * np.eye(64)[20]
    slope = (metric.transform(moved)[:, 0] ** 2 - metric.transform(X_test)[:, 0] ** 2) / h
    found = gradient[:, 20].numpy()
    assert np.corrcoef(slope, found)[0, 1] > 0.95
    embed(torch.from_numpy(X_test.reshape(-1, 8, 8)))  # images too


@pytest.mark.parametrize(
    "attack",
    [
        EmbeddingShift(threat_model=EPS, max_iter=10, random_state=0),
        EmbeddingTargets(threat_model=EPS, max_iter=10, random_state=0),
        EmbeddingTargets(threat_model=EPS, n_targets=5, max_iter=10, random_state=0),
        *(
            RankingAttack(kind=kind, threat_model=EPS, max_iter=10, random_state=0)
            for kind in ("CA+", "QA-", "LTM", "GTM", "GTT")
        ),
    ],
    ids=repr,
)
def test_attacks_on_embeddings_do_more_than_noise(attack, metric):
    found = attack.run(metric, X_test, y_test)
    assert (np.abs(np.asarray(found.X_adv) - X_test) <= 3.0).all()
    np.testing.assert_allclose(found.embedding_adv, metric.transform(found.X_adv), rtol=1e-6)
    rng = np.random.default_rng(0)
    noise = metric.transform(np.clip(X_test + rng.choice([-3.0, 3.0], X_test.shape), 0, 16))
    clean = found.embedding
    far = np.linalg.norm(found.embedding_adv - clean, axis=1).mean()
    assert far > 1.5 * np.linalg.norm(noise - clean, axis=1).mean()


def test_attacks_on_images(metric):
    images = X_test.reshape(-1, 8, 8)
    own = AdversarialDeepMetric(max_iter=4, random_state=0)
    own.fit(X_train.reshape(-1, 8, 8), y_train)
    attack = EmbeddingShift(threat_model=EPS, max_iter=3, random_state=0)
    found = attack.run(own, images)
    assert found.X_adv.shape == images.shape
    flat = attack.run(metric, X_test)
    np.testing.assert_allclose(found.X_adv.reshape(-1, 64), flat.X_adv, atol=1e-12)


@pytest.mark.parametrize(
    "attack",
    [FGSM(), PGD(max_iter=10, n_restarts=2, random_state=0), APGD(max_iter=10, random_state=0)],
    ids=repr,
)
@pytest.mark.parametrize("last", [KNeighborsClassifier(3), LogisticRegression(), NearestCentroid()])
def test_attacks_by_gradients_go_through_the_pipeline(attack, last, pipe):
    victim = make_pipeline(FrozenEstimator(pipe[:-1]), last).fit(X_train, y_train)
    found = attack.set_params(threat_model=EPS).run(victim, X_test, y_test)
    assert found.robust_accuracy(3.0) < found.correct.mean() - 0.3
    np.testing.assert_array_equal(found.predicted, victim.predict(found.X_adv))


def test_smallest_perturbations_and_black_boxes(pipe):
    smallest = MinimumNormAttack(
        attack=PGD(max_iter=10, random_state=0), threat_model=ThreatModel(2), random_state=0
    ).run(pipe, X_test[:10], y_test[:10])
    blind = HopSkipJump(threat_model=ThreatModel(2), max_iter=3, random_state=0).run(
        pipe, X_test[:10], y_test[:10]
    )
    both = smallest.success & blind.success
    assert both.any()
    assert (smallest.perturbation_norm[both] < blind.perturbation_norm[both] * 1.5).all()


def test_scorers(metric, pipe):
    attack = EmbeddingShift(threat_model=EPS, max_iter=5, random_state=0)
    assert robust_recall_scorer(attack)(metric, X_test, y_test) < 0.85
    score = robust_accuracy_scorer(PGD(threat_model=EPS, max_iter=5, random_state=0), eps=3.0)
    assert score(pipe, X_test, y_test) < 0.7


def test_ranking_report_prefers_the_defended_one(metric):
    defended = AdversarialDeepMetric(
        image_shape=(8, 8),
        training=EmbeddingShiftTraining(EPS, max_iter=3),
        max_iter=8,
        random_state=0,
    ).fit(X_train, y_train)
    reports = [
        ranking_report(each, X_test, y_test, threat_model=EPS, max_iter=5)
        for each in (metric, defended)
    ]
    assert reports[1].score > reports[0].score + 5
    assert all(report.recall > 0.9 for report in reports)


def test_report_of_a_pipeline_says_that_nothing_is_proved(pipe):
    report = robustness_report(
        pipe, X_test[:30], y_test[:30], threat_model=EPS, eps=[1.0, 3.0], random_state=0
    )
    assert report.certified is None
    assert report.worst[1] < report.worst[0] <= 1


def test_steps_that_are_not_differentiable_are_named(pipe):
    victim = make_pipeline(PolynomialFeatures(), KNeighborsClassifier()).fit(X_train, y_train)
    with pytest.raises(NotDifferentiableError, match=r"PolynomialFeatures.*differentiable steps"):
        differentiable_scores(victim)
