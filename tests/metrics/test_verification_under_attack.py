"""Pairs under attack: an impostor moves his item toward the other one's."""

import numpy as np
from shared_data import load_digits

from skrobust import RobustMahalanobis, ThreatModel
from skrobust.attacks import EmbeddingTargets
from skrobust.metrics import equal_error_rate, tar_at_far, verification_threshold


def pairs(X, y, seed, n=300):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(y), (2, n))
    return X[first], X[second], y[first] == y[second]


def test_a_threshold_calibrated_under_attack_holds_against_it():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    metric = RobustMahalanobis(random_state=0, max_iter=3).fit(X[:600], y[:600])
    attack = EmbeddingTargets(threat_model=ThreatModel(eps=1.0), random_state=0, max_iter=10)

    def attacked(a, b, alike):
        """Impostors come nearer; genuine pairs are left alone."""
        moved = b.copy()
        for row in np.flatnonzero(~alike)[:60]:
            # the only item to aim at is the other of the pair
            both = np.stack([b[row], a[row]])
            moved[row] = attack.run(metric, both).X_adv[0]
        kept = alike | (np.cumsum(~alike) <= 60)
        return metric.pair_score(np.stack([a, moved], axis=1))[kept], alike[kept], kept

    a, b, alike = pairs(X[600:1200], y[600:1200], 0)
    score, shown, kept = attacked(a, b, alike)
    clean = metric.pair_score(np.stack([a, b], axis=1))[kept]
    assert equal_error_rate(shown, score) > equal_error_rate(shown, clean)
    assert tar_at_far(shown, score, 0.1) < tar_at_far(shown, clean, 0.1)
    naive = verification_threshold(shown, clean, 0.1)
    safe = verification_threshold(shown, score, 0.1)
    # on other pairs, attacked in the same way
    score, shown, _ = attacked(*pairs(X[1200:], y[1200:], 1))
    accepted = [(score[~shown] >= threshold).mean() for threshold in (naive, safe)]
    assert accepted[0] > 0.3
    assert accepted[1] < 0.2
