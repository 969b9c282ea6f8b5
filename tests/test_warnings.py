"""That names of features are missing is said once in a call."""

import threading
import warnings

import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import RobustMahalanobis, ThreatModel, certify
from skrobust.attacks import (
    PGD,
    ClusteringAttack,
    ClusterPoisoning,
    EmbeddingNoise,
    HopSkipJump,
    NoiseAttack,
)
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.inspection import certified_directions, robustness_report
from skrobust.scorers import certified_accuracy_scorer, robust_accuracy_scorer
from skrobust.utils._frames import names_missed_once

MODEL = ThreatModel("inf", eps=0.3)
QUICK = {"max_iter": 2, "random_state": 0, "threat_model": MODEL}
CALLS = {
    "certify": certify,
    "lower bound": certify_nearest_neighbors,
    "exact": exact_nearest_neighbor_radius,
    "pgd": PGD(**QUICK).run,
    "hop skip jump": HopSkipJump(**QUICK).run,
    "noise": NoiseAttack(**QUICK).run,
    "report": lambda *given: robustness_report(*given, eps=[0.1]),
    "certified score": lambda *given: certified_accuracy_scorer(eps=0.1)(*given),
    "directions": lambda *given: certified_directions(*given, 0.1),
    "robust score": lambda *given: robust_accuracy_scorer(NoiseAttack(**QUICK), eps=0.1)(*given),
    "embedding": lambda model, X, y: EmbeddingNoise(threat_model=MODEL).run(model[0], X, y),
}


@pytest.fixture(scope="module")
def victim():
    X, y = load_iris(return_X_y=True, as_frame=True)
    steps = (RobustMahalanobis(max_iter=2, random_state=0), KNeighborsClassifier(1))
    return make_pipeline(*steps).fit(X[::2], y[::2]), X[1::10], y[1::10]


@pytest.mark.parametrize("name", CALLS)
def test_an_array_after_a_frame_is_warned_of_once(victim, name):
    model, X, y = victim
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        CALLS[name](model, X.to_numpy(), y)
    told = [str(warning.message) for warning in said]
    assert len(told) == 1
    assert told[0].startswith("X does not have valid feature names, but RobustMahalanobis was")


@pytest.mark.parametrize(
    "attack",
    [
        ClusteringAttack(EmbeddingNoise(threat_model=MODEL), random_state=0),
        ClusterPoisoning(MODEL, population=4, max_iter=2, random_state=0),
    ],
)
def test_attacks_on_clusters_warn_once(victim, attack):
    _, X, y = victim
    clusters = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(X)
    with pytest.warns(UserWarning, match="X does not have valid feature names") as said:
        attack.run(clusters, X.to_numpy(), y)
    assert len(said) == 1


def test_a_frame_after_an_array_is_warned_of_once(victim):
    _, X, y = victim
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X.to_numpy(), y)
    with pytest.warns(UserWarning, match="X has feature names, but StandardScaler") as said:
        CALLS["pgd"](model, X, y)
    assert len(said) == 1


def test_filters_decide_first(victim):
    model, X, y = victim
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        certify(model, X.to_numpy(), y)
    with pytest.raises(UserWarning, match="X does not have valid feature names"):
        certify(model, X.to_numpy(), y)


def test_other_warnings_stay_and_what_shows_them_is_put_back():
    before = warnings.showwarning

    lost = "X does not have valid feature names, but A was fitted with feature names"

    @names_missed_once()
    def talk(*texts):
        for text in texts:
            warnings.warn(text, UserWarning, stacklevel=2)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        talk(lost, "b", lost, "b")
        talk(lost)
    assert [str(warning.message) for warning in said] == [lost, "b", "b", lost]
    shown = []
    thread = threading.Thread(
        target=names_missed_once()(lambda: shown.append(warnings.showwarning)), daemon=True
    )
    thread.start()
    thread.join()
    assert shown == [before]
    assert warnings.showwarning is before
