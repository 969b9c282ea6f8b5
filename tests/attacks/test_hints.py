"""What people type in a constructor, and where it belongs."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel, attacks, certify
from skrobust.adapters import NotDifferentiableError
from skrobust.attacks import (
    PGD,
    EmbeddingShift,
    HopSkipJump,
    NoiseAttack,
    RankingAttack,
    TransferAttack,
)
from skrobust.certificates import certify_retrieval
from skrobust.inspection import robustness_report

ATTACKS = [
    kind
    for kind in (getattr(attacks, name) for name in attacks.__all__)
    if inspect.isclass(kind)
    and not issubclass(kind, Warning)
    and "threat_model" in inspect.signature(kind).parameters
]


@pytest.mark.parametrize("kind", ATTACKS, ids=lambda kind: kind.__name__)
def test_parameters_of_the_threat_model_are_sent_there(kind):
    for name, value in {"eps": 0.1, "norm": 2, "mutable": [0], "bounds": (0, 1)}.items():
        with pytest.raises(TypeError, match=rf"threat_model=ThreatModel\({name}="):
            kind(**{name: value})
    with pytest.raises(TypeError, match=r"threat_model=ThreatModel\(eps=0\.1\)"):
        kind(epsilon=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        kind(step=0.1)
    attack = kind(threat_model=ThreatModel())
    assert set(attack.get_params(deep=False)) >= set(inspect.signature(kind).parameters)
    assert clone(attack).get_params(deep=False).keys() == attack.get_params(deep=False).keys()


@pytest.mark.parametrize(
    ("spelt", "norm"),
    [
        ("inf", np.inf),
        ("linf", np.inf),
        ("Linf", np.inf),
        ("l_inf", np.inf),
        (float("inf"), np.inf),
        ("l2", 2),
        ("L2", 2),
        ("2", 2),
        (2.0, 2),
        (np.float32(2), 2),
        ("l1", 1),
        (1, 1),
    ],
)
def test_norms_as_they_are_spelt(spelt, norm):
    X, y = load_iris(return_X_y=True)
    model = ThreatModel(spelt, 0.3)
    assert model.get_params()["norm"] is spelt
    assert model.resolve(4).norm == norm
    assert clone(model).resolve(4).same_as(ThreatModel(norm, 0.3).resolve(4))
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    found = NoiseAttack(threat_model=model, max_iter=2, random_state=0).run(knn, X, y)
    same = NoiseAttack(threat_model=ThreatModel(norm, 0.3), max_iter=2, random_state=0)
    np.testing.assert_array_equal(found.X_adv, same.run(knn, X, y).X_adv)


@pytest.mark.parametrize("norm", ["x", "", "l3", "ll2", 3, 0, -1, True, None, np.nan, [2]])
def test_norms_that_are_none(norm):
    with pytest.raises(ValueError, match="norm must be 1, 2 or inf; got"):
        ThreatModel(norm, 0.1).resolve(3)


@pytest.mark.parametrize("attack", [NoiseAttack(), PGD(), HopSkipJump()], ids=repr)
def test_several_outputs_are_refused(attack):
    X, y = load_iris(return_X_y=True)
    several = KNeighborsClassifier().fit(X, np.c_[y, y == 1])
    with pytest.raises(
        ValueError, match=r"one label for each row.*With several outputs attack one"
    ):
        attack.run(several, X, y)


@pytest.mark.parametrize("weights", ["distance", lambda d: 1 / (1 + d)])
def test_weighted_votes_have_the_gradients_of_a_surrogate(weights):
    """As strong as an attack by predictions, whose word counts."""
    X, y = load_iris(return_X_y=True)
    threat = ThreatModel(2, 0.8)
    for steps in ([], [StandardScaler()]):
        model = make_pipeline(*steps, KNeighborsClassifier(3, weights=weights)).fit(X[::2], y[::2])
        for victim in (model, model[-1]) if not steps else (model,):
            found = PGD(threat_model=threat, n_restarts=2, random_state=0).run(
                victim, X[1::2], y[1::2]
            )
            np.testing.assert_array_equal(found.predicted, victim.predict(found.X_adv))
            black = HopSkipJump(threat_model=threat, max_iter=5, n_evaluations=20, random_state=0)
            assert found.success.mean() > black.run(victim, X[1::2], y[1::2]).success.mean() - 0.06


@pytest.mark.parametrize(
    "victim",
    [
        KNeighborsClassifier(metric="manhattan"),
        KNeighborsClassifier(metric="cosine"),
        RadiusNeighborsClassifier(2.0),
        make_pipeline(StandardScaler(), KNeighborsClassifier(metric="chebyshev")),
    ],
    ids=repr,
)
def test_messages_of_attacks_speak_of_gradients(victim):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(NotDifferentiableError, match="HopSkipJump") as caught:
        PGD().run(victim.fit(X, y), X, y)
    assert "certif" not in str(caught.value)


def test_the_order_of_duplicates_is_a_number():
    X, _ = load_iris(return_X_y=True)
    attack = RankingAttack(
        kind="order", n_items=3, threat_model=ThreatModel(eps=0.1), max_iter=3, random_state=0
    )
    found = attack.run(PCA(2).fit(X), np.repeat(X[:5], 6, axis=0))
    assert np.isfinite(found.value).all()
    found = attack.run(PCA(2).fit(X), np.repeat(X[:1], 6, axis=0))
    np.testing.assert_array_equal(found.value, 0)


@pytest.mark.parametrize(
    "attack", ["NeighborDirectionAttack", "GreedyNeighborAttack", "ExactNeighborAttack"]
)
def test_attacks_by_neighbours_do_not_speak_of_certificates(attack):
    X, y = load_iris(return_X_y=True)
    knn = KNeighborsClassifier(weights="distance").fit(X, y)
    with pytest.raises(ValueError, match=r"weights='distance'\) is not supported: .*attacks"):
        getattr(attacks, attack)().run(knn, X[:2], y[:2])


@pytest.mark.parametrize(
    "use",
    [
        lambda model, X, y: certify(model, X, y),
        lambda model, X, y: certify_retrieval(model[:1], X, y),
        lambda model, X, y: PGD().run(model, X, y),
        lambda model, X, y: HopSkipJump(max_iter=1).run(model, X, y),
        lambda model, X, y: EmbeddingShift(max_iter=2).run(model[:1], X),
        lambda model, X, y: robustness_report(model, X, y, eps=[0.1, 0.2]),
    ],
)
def test_missing_names_are_missed_once(use):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3)).fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(model, X.to_numpy()[::30], y.to_numpy()[::30])
    names = [str(one.message) for one in caught if "feature names" in str(one.message)]
    assert names == [
        "X does not have valid feature names, but StandardScaler was fitted with feature names"
    ]


@pytest.mark.parametrize("inner", [PGD(max_iter=20), NoiseAttack()], ids=repr)
@pytest.mark.parametrize("kind", ["pandas", "wider", "polars", "array"])
def test_a_surrogate_finds_its_features_by_name(kind, inner):
    X, y = load_iris(return_X_y=True, as_frame=True)
    columns = make_column_transformer((StandardScaler(), list(X.columns)))
    victim = make_pipeline(
        StandardScaler() if kind == "array" else columns, KNeighborsClassifier(1)
    )
    victim.fit(X, y)
    given, labels = X[::5], y[::5]
    if kind == "wider":
        given = given.assign(more="text")[["more", *X.columns[::-1]]]
    elif kind == "array":
        given = given.to_numpy()
    elif kind == "polars":
        polars = pytest.importorskip("polars")
        given = polars.DataFrame(given.to_numpy(), schema=list(X.columns))

    def changed(order, rows):
        surrogate = LogisticRegression(max_iter=2000, tol=1e-8).fit(X[order], y)
        threat_model = ThreatModel(eps=0.8)
        attack = TransferAttack(
            surrogate=surrogate, attack=inner, threat_model=threat_model, random_state=0
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return attack.run(victim, rows, labels).success

    names = list(X.columns)
    np.testing.assert_array_equal(changed(names[::-1], given), changed(names, X[::5]))
    assert changed(names[::-1], given).any()


def test_a_surrogate_with_features_that_the_estimator_lacks():
    X, y = load_iris(return_X_y=True, as_frame=True)
    surrogate = LogisticRegression(max_iter=2000).fit(X.assign(more=1.0), y)
    with pytest.raises(ValueError, match=r"surrogate must have features .*also has \['more'\]"):
        TransferAttack(surrogate=surrogate).run(KNeighborsClassifier().fit(X, y), X, y)


def test_no_rows_to_certify():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="X must hold at least one point; got none"):
        certify(KNeighborsClassifier().fit(X, y), X[:0], y[:0])
