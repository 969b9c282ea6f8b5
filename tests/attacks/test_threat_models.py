"""Attacks on random threat models: what they return satisfies them, and certificates hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from threat_models import check_by_hand, models

from examples import examples
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingShift,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
)
from skrobust.certificates import certify_nearest_neighbors

ATTACKS = [
    FGSM(batch_size=16),
    PGD(max_iter=5, n_restarts=2, batch_size=16, random_state=0),
    APGD(max_iter=5, batch_size=16, random_state=0),
    MinimumNormAttack(attack=PGD(max_iter=5), max_iter=2, batch_size=16, random_state=0),
    HopSkipJump(max_iter=2, n_evaluations=5, n_starts=5, random_state=0),
    NoiseAttack(max_iter=3, random_state=0),
    GreedyNeighborAttack(n_candidates=2),
    NeighborDirectionAttack(n_candidates=2),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
@examples(6)
@given(case=models(), K=st.sampled_from([1, 3]))
def test_every_row_satisfies_the_model_and_no_certificate_is_crossed(attack, case, K):
    model, raw, wild, eps = case
    y = np.arange(len(raw)) % 2
    knn = KNeighborsClassifier(K).fit(raw + 0.1 * (wild - raw), y)
    model.set_params(eps=eps)
    found = attack.set_params(threat_model=model).run(knn, raw, y)
    check_by_hand(model, raw, found.X_adv, eps)
    np.testing.assert_array_equal(found.predicted, knn.predict(found.X_adv))
    proved = certify_nearest_neighbors(knn, raw, y, threat_model=model)
    assert (found.minimal_norm >= proved.radius)[proved.correct].all()


@examples(6)
@given(case=models())
def test_attacks_on_embeddings_satisfy_it_too(case):
    model, raw, _, eps = case
    attack = EmbeddingShift(max_iter=4, batch_size=16, random_state=0)
    attack.set_params(threat_model=model.set_params(eps=eps))
    moved = attack.fit(raw).run(attack.estimator_, raw).X_adv
    check_by_hand(model, raw, moved, eps)
