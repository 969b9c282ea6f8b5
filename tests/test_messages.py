"""What a new user reads after a slip: the value, what is allowed, what would work."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skrobust import AdversarialDeepMetric, RobustMahalanobis, ThreatModel, certify
from skrobust.attacks import EmbeddingMargin, NoiseAttack


def test_a_single_point_is_told_how_to_be_a_row():
    X, y = load_iris(return_X_y=True, as_frame=True)
    for data, row in ((X, X.iloc[0]), (X.to_numpy(), X.to_numpy()[0])):
        knn = KNeighborsClassifier(1).fit(data, y)
        with pytest.raises(ValueError, match=r"got 1D array. A single point is X.reshape\(1, -1\)"):
            certify(knn, row, y[:1])


def test_an_open_end_of_bounds_is_told():
    with pytest.raises(ValueError, match=r"got \(None, 1\). An open end is -inf or inf"):
        ThreatModel(bounds=(None, 1)).resolve(3)


@pytest.mark.parametrize("label", [0, 1.0, "a"])
def test_messages_spell_labels_as_people_do(label):
    X = np.arange(8.0).reshape(4, 2)
    y = np.full(4, label)
    margin, scaler = EmbeddingMargin(threat_model=ThreatModel(eps=0.1)), StandardScaler().fit(X)
    for fit in (
        lambda: RobustMahalanobis().fit(X, y),
        lambda: AdversarialDeepMetric(max_iter=1).fit(X, y),
        lambda: margin.run(scaler, X, y),
    ):
        with pytest.raises(ValueError, match=r"y must") as caught:
            fit()
        assert repr(label) in str(caught.value)
        assert "np." not in str(caught.value)


def test_an_attack_without_labels_is_told_what_to_give():
    X, y = load_iris(return_X_y=True)
    knn = KNeighborsClassifier(1).fit(X, y)
    attack = NoiseAttack(threat_model=ThreatModel(eps=0.1))
    with pytest.raises(ValueError, match="y must hold the true labels; got None"):
        attack.run(knn, X, None)
