"""Attacks against victims whose smallest perturbation is known."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from shared_data import load_digits
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from skrobust import AdversarialDeepMetric, RobustMahalanobis, ThreatModel
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingNoise,
    ExactNeighborAttack,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.certificates import exact_nearest_neighbor_radius
from skrobust.inspection import robustness_report

NORMS = [1, 2, np.inf]
DUAL = {1: np.inf, 2: 2, np.inf: 1}
WITHIN_BUDGET = [FGSM(), PGD(random_state=0), APGD(random_state=0), NoiseAttack(random_state=0)]
SMALLEST = [
    MinimumNormAttack(random_state=0),
    HopSkipJump(random_state=0),
    ExactNeighborAttack(),
    GreedyNeighborAttack(),
    NeighborDirectionAttack(),
]


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, y


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    return X[:1200], y[:1200], X[1200:1240], y[1200:1240]


def linear_minimum(model, X, norm):
    """The distance of each point to the nearest decision boundary of its prediction."""
    coef, intercept = model.coef_, model.intercept_
    if len(coef) == 1:
        coef, intercept = np.vstack([0 * coef, coef]), np.r_[0, intercept]
    scores = X @ coef.T + intercept
    top = scores.argmax(1)
    gap = scores[np.arange(len(X)), top][:, None] - scores
    size = np.linalg.norm(coef[top][:, None] - coef, ord=DUAL[norm], axis=2)
    distance = np.divide(gap, size, out=np.full(gap.shape, np.inf), where=size > 0)
    return distance.min(1)


LINEAR = [LogisticRegression(max_iter=5000), LinearSVC(max_iter=100000)]


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", LINEAR, ids=repr)
@pytest.mark.parametrize("scaled", [False, True])
def test_linear_models_minimum(iris, norm, model, scaled):
    X, y = iris
    victim = clone(model).fit(X, y)
    X, y = X[::3], y[::3]
    scale = np.array([1.0, 2.0, 0.5, 1.0]) if scaled else np.ones(4)
    threat = ThreatModel(norm, feature_scale=scale)
    unit = clone(victim)
    unit.__dict__.update(victim.__dict__)
    unit.coef_, shown = victim.coef_ * scale, X / scale
    right = victim.predict(X) == y
    minimum = linear_minimum(unit, shown, norm)[right]
    hop = HopSkipJump(random_state=0, max_iter=15, n_restarts=4, starting_points=X)
    for attack in (MinimumNormAttack(random_state=0), hop):
        found = attack.set_params(threat_model=threat).run(victim, X, y)
        ratio = found.minimal_norm[right] / minimum
        assert ratio.max() <= 1.25, type(attack).__name__
        assert ratio.min() >= 1 - 1e-6
        assert (found.predicted[found.success] != y[found.success]).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_within_a_budget_find_what_there_is_in_linear_models(iris, norm):
    X, y = iris
    victim = LogisticRegression(max_iter=5000).fit(X, y)
    right = victim.predict(X) == y
    minimum = linear_minimum(victim, X, norm)
    for attack in (PGD(random_state=0, n_restarts=2), APGD(random_state=0, n_restarts=2)):
        for row in np.flatnonzero(right)[::15]:
            attack.set_params(threat_model=ThreatModel(norm, 1.01 * minimum[row]))
            assert attack.run(victim, X[row : row + 1], y[row : row + 1]).success[0]
            attack.set_params(threat_model=ThreatModel(norm, 0.999 * minimum[row]))
            assert not attack.run(victim, X[row : row + 1], y[row : row + 1]).success[0]


@pytest.fixture(scope="module", params=NORMS)
def neighbors(request, digits):
    X_train, y_train, X, y = digits
    victim = KNeighborsClassifier(1).fit(X_train, y_train)
    exact = exact_nearest_neighbor_radius(victim, X, y, threat_model=ThreatModel(request.param))
    return victim, request.param, exact


@pytest.mark.parametrize(
    ("attack", "worst"),
    [
        pytest.param(MinimumNormAttack(random_state=0), 1.25, marks=pytest.mark.slow),
        (ExactNeighborAttack(), 1 + 1e-6),
        (GreedyNeighborAttack(), 1.25),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_1nn_minimum(digits, neighbors, attack, worst):
    _, _, X, y = digits
    victim, norm, exact = neighbors
    right = exact.correct
    found = attack.set_params(threat_model=ThreatModel(norm)).run(victim, X, y)
    ratio = found.minimal_norm[right] / exact.upper[right]
    assert ratio.max() <= worst
    assert (found.minimal_norm[right] >= exact.radius[right]).all()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [PGD(n_restarts=8), APGD(n_restarts=8)], ids=repr)
def test_1nn_flips_within_a_tenth_of_the_minimum(digits, neighbors, attack):
    _, _, X, y = digits
    victim, norm, exact = neighbors
    attack = clone(attack).set_params(random_state=0, batch_size=1)
    rows = np.flatnonzero(exact.correct)
    flipped = []
    for row in rows:
        attack.set_params(threat_model=ThreatModel(norm, 1.1 * exact.upper[row]))
        flipped.append(attack.run(victim, X[row : row + 1], y[row : row + 1]).success[0])
    assert np.mean(flipped) >= 0.95


@pytest.mark.slow
def test_black_box_and_straight_attacks_on_1nn_are_above_the_minimum(digits, neighbors):
    X_train, _, X, y = digits
    victim, norm, exact = neighbors
    right = exact.correct
    hop = HopSkipJump(random_state=0, starting_points=X_train, max_iter=15)
    straight = NeighborDirectionAttack()
    for attack, median in ((hop, 1.4), (straight, 3.0)):
        found = attack.set_params(threat_model=ThreatModel(norm)).run(victim, X, y)
        ratio = found.minimal_norm[right] / exact.upper[right]
        assert found.success[right].all()
        assert ratio.min() >= 1 - 1e-6
        assert np.median(ratio) <= median


@pytest.mark.parametrize("K", [3, 5])
def test_greedy_neighbors_for_more_than_one(iris, K):
    X, y = iris
    victim = KNeighborsClassifier(K).fit(X[::2], y[::2])
    found = GreedyNeighborAttack(threat_model=ThreatModel()).run(victim, X[1::6], y[1::6])
    exact = exact_nearest_neighbor_radius(victim, X[1::6], y[1::6])
    right = exact.correct
    assert found.success[right].all()
    ratio = found.minimal_norm[right] / exact.upper[right]
    assert ratio.min() >= 1 - 1e-3
    assert np.median(ratio) <= 1.25


VICTIMS = [
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(MinMaxScaler(), KNeighborsClassifier(3)),
    make_pipeline(MinMaxScaler(), RobustMahalanobis(random_state=0), KNeighborsClassifier(1)),
    NearestCentroid(),
    make_pipeline(StandardScaler(), MLPClassifier((20,), random_state=0, max_iter=2000)),
]


@pytest.fixture(scope="module", params=VICTIMS, ids=lambda v: str(v).replace("\n", ""))
def victim(request, iris):
    X, y = iris
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(request.param).fit(X[::2], y[::2])


@pytest.mark.parametrize("attack", WITHIN_BUDGET, ids=lambda a: type(a).__name__)
def test_victims_predict_again_in_raw_features(iris, victim, attack):
    X, y = iris
    threat = ThreatModel(np.inf, 0.7, mutable=[0, 2, 3], bounds=(0, 8))
    found = clone(attack).set_params(threat_model=threat).run(victim, X[1::2], y[1::2])
    np.testing.assert_array_equal(found.predicted, victim.predict(found.X_adv))
    right = victim.predict(X[1::2]) == y[1::2]
    np.testing.assert_array_equal(found.correct, right)
    np.testing.assert_array_equal(found.success, right & (found.predicted != y[1::2]))
    delta = found.X_adv - X[1::2]
    assert (delta[:, 1] == 0).all()
    assert np.abs(delta).max() <= 0.7
    assert (delta[~right] == 0).all()
    if attack.uses_gradients:
        assert found.success.any()
        assert found.n_gradient_calls > 0


def test_one_run_makes_a_curve(iris):
    X, y = iris
    victim = KNeighborsClassifier(1).fit(X[::2], y[::2])
    budgets = [0.1, 0.3, 0.6, 1.0]
    found = PGD(threat_model=ThreatModel(), n_restarts=2, random_state=0).run(
        victim, X[1::2], y[1::2], eps=budgets
    )
    curve = found.robust_accuracy(budgets)
    exact = exact_nearest_neighbor_radius(victim, X[1::2], y[1::2])
    truth = [float((exact.correct & (exact.radius > eps)).mean()) for eps in budgets]
    assert (curve >= np.array(truth) - 1e-12).all()
    assert (curve - truth).max() <= 0.05
    assert (np.diff(curve) <= 0).all()


@pytest.mark.parametrize("attack", WITHIN_BUDGET + SMALLEST, ids=lambda a: type(a).__name__)
def test_a_row_does_not_depend_on_its_batch(digits, attack):
    X_train, y_train, X, y = digits
    victim = KNeighborsClassifier(1).fit(X_train[:200], y_train[:200])
    attack = clone(attack).set_params(threat_model=ThreatModel(2, 0.8), batch_size=16)
    if "max_iter" in attack.get_params():
        attack.set_params(max_iter=3)
    if isinstance(attack, MinimumNormAttack):
        attack.set_params(attack=PGD(max_iter=5, n_restarts=2))
    whole = attack.run(victim, X[:40], y[:40])
    order = np.random.default_rng(0).permutation(40)[:23]
    part = attack.run(victim, X[order], y[order])
    np.testing.assert_array_equal(part.X_adv, whole.X_adv[order])
    np.testing.assert_array_equal(part.success, whole.success[order])


@pytest.mark.slow
def test_the_number_of_jobs_does_not_matter(digits):
    X_train, y_train, X, y = digits
    victim = KNeighborsClassifier(1).fit(X_train[:200], y_train[:200])
    attack = PGD(threat_model=ThreatModel(2, 0.8), batch_size=8, random_state=0, max_iter=5)
    one = attack.run(victim, X[:30], y[:30])
    two = attack.set_params(n_jobs=2).run(victim, X[:30], y[:30])
    np.testing.assert_array_equal(one.X_adv, two.X_adv)
    assert (one.n_queries, one.n_gradient_calls) == (two.n_queries, two.n_gradient_calls)


@pytest.mark.parametrize("attack", WITHIN_BUDGET + SMALLEST, ids=lambda a: type(a).__name__)
def test_no_budget_returns_the_points_themselves(iris, attack):
    X, y = iris
    victim = KNeighborsClassifier(1).fit(X[::2], y[::2])
    found = clone(attack).set_params(threat_model=ThreatModel(2, 0.0)).run(victim, X, y)
    np.testing.assert_array_equal(found.X_adv, X)
    assert not found.success.any()
    assert found.robust_accuracy(0.0) == victim.score(X, y)


def test_transform_attacks_predictions_and_labels_come_by_routing(iris):
    X, y = iris
    attack = PGD(
        FrozenEstimator(KNeighborsClassifier(5).fit(X[::2], y[::2])),
        threat_model=ThreatModel(2, 0.6),
        random_state=0,
    ).fit(X)
    wrong = attack.estimator_.predict(X) != y
    assert wrong.any()
    moved = attack.transform(X)
    given = attack.transform(X, labels=y)
    assert (given[wrong] == X[wrong]).all()  # these are wrong already
    assert (moved[wrong] != X[wrong]).any()
    with sklearn.config_context(enable_metadata_routing=True):
        attack.set_transform_request(labels=True)
        pipe = make_pipeline(StandardScaler(with_mean=False, with_std=False), attack).fit(X, y)
        np.testing.assert_array_equal(pipe.transform(X, labels=y), given)


@pytest.mark.slow
def test_frames_keep_their_columns_and_types():
    rng = np.random.default_rng(0)
    n = 200
    X = pd.DataFrame(
        {
            "amount": rng.exponential(size=n),
            "country": rng.choice(["de", "fr"], n),
            "visits": rng.poisson(5, n),
            "age": rng.integers(18, 80, n),
        },
        index=np.arange(n) + 1000,
    )
    y = np.where(X["amount"] + 0.3 * X["visits"] > 2.4, "fraud", "fine")
    encode = make_column_transformer(
        (OneHotEncoder(), ["country"]), (StandardScaler(), ["amount", "visits", "age"])
    )
    forest = make_pipeline(encode, RandomForestClassifier(30, random_state=0)).fit(X, y)
    threat = ThreatModel(
        np.inf,
        1.0,
        feature_scale={"visits": 3.0},
        mutable=["amount", "visits"],
        integers=["visits"],
        increasing=["visits"],
        bounds={"amount": (0, np.inf)},
    )
    for attack in (
        HopSkipJump(max_iter=2, n_evaluations=10, random_state=0),
        NoiseAttack(random_state=0),
        TransferAttack(surrogate=forest, attack=NoiseAttack(), random_state=0),
    ):
        found = attack.set_params(threat_model=threat).run(forest, X, y)
        assert found.success.any()
        assert list(found.X_adv.columns) == list(X.columns)
        assert (found.X_adv.index == X.index).all()
        assert found.X_adv["visits"].dtype == X["visits"].dtype
        pd.testing.assert_frame_equal(found.X_adv[["country", "age"]], X[["country", "age"]])
        assert (found.X_adv["visits"] >= X["visits"]).all()
        assert (found.X_adv["amount"] >= 0).all()
        np.testing.assert_array_equal(found.predicted, forest.predict(found.X_adv))
    moved = HopSkipJump(forest, threat_model=threat, max_iter=2, random_state=0).fit(X, y)
    assert isinstance(moved.transform(X), pd.DataFrame)


def test_set_output(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    attack = FGSM(threat_model=ThreatModel(2, 0.5)).set_output(transform="pandas").fit(frame, y)
    assert list(attack.transform(frame).columns) == list("abcd")
    assert list(attack.get_feature_names_out()) == list("abcd")


def test_single_precision_stays_so(iris):
    X, y = iris
    X = X.astype(np.float32)
    victim = KNeighborsClassifier(1).fit(X[::2], y[::2])
    threat = ThreatModel(np.inf, 0.3)
    found = PGD(threat_model=threat, random_state=0).run(victim, X, y)
    assert found.X_adv.dtype == np.float32
    assert np.abs(found.X_adv.astype(float) - X.astype(float)).max() <= 0.3
    assert found.success.any()


def test_worst_case_is_the_best_of_each(iris):
    X, y = iris
    victim = KNeighborsClassifier(1).fit(X[::2], y[::2])
    threat = ThreatModel(2, 0.5)
    parts = [("fgsm", FGSM()), ("greedy", GreedyNeighborAttack(n_candidates=2))]
    worst = WorstCase(attacks=parts, threat_model=threat)
    found = worst.run(victim, X, y)
    single = [
        attack.set_params(threat_model=threat).run(victim, X, y).minimal_norm for _, attack in parts
    ]
    np.testing.assert_array_equal(found.minimal_norm, np.minimum(*single))
    worst.set_params(greedy__n_candidates=5)
    assert worst.get_params()["greedy"].n_candidates == 5


def test_transfer_needs_less_than_it_gets(iris):
    X, y = iris
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    surrogate = LogisticRegression(max_iter=5000).fit(X, y)
    attack = TransferAttack(surrogate=surrogate, threat_model=ThreatModel(2, 1.5), random_state=0)
    assert attack.run(forest, X, y).success.mean() > 0.2
    fitted = attack.set_params(estimator=forest).fit(X, y)
    assert fitted.surrogate_ is not surrogate
    assert fitted.transform(X).shape == X.shape


class Uneven(PGD):
    """Gives one point a row in its first restart, and two in the next, as PGD may."""

    def _perturb(self, problem):
        found = super()._perturb(problem).reshape(-1, *problem.raw.shape)[-1]
        return np.stack([found, problem.raw]) if problem.restart else found


@pytest.mark.parametrize("kind", [TransferAttack, MinimumNormAttack])
def test_restarts_of_an_inner_attack_may_differ_in_candidates(iris, kind):
    X, y = iris
    model = LogisticRegression(max_iter=5000).fit(X, y)
    attack = kind(attack=Uneven(n_restarts=2, max_iter=2), threat_model=ThreatModel(2, 1.0))
    if kind is TransferAttack:
        attack.set_params(surrogate=model)
    assert attack.run(model, X, y).success.any()


@pytest.mark.parametrize("attack", [PGD(), HopSkipJump(), ExactNeighborAttack()])
def test_wrong_victims_and_data(iris, attack):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(NotFittedError):
        attack.run(KNeighborsClassifier(1), X, y)
    with pytest.raises(TypeError, match="regressor LinearRegression"):
        attack.run(LinearRegression().fit(X, y), X, y)
    with pytest.raises(TypeError, match="StandardScaler is a transformer"):
        attack.run(StandardScaler().fit(X), X, y)
    with pytest.raises(TypeError, match="neither predict nor transform"):
        attack.run(object(), X, y)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        attack.run(knn, sparse.csr_matrix(X), y)
    with pytest.raises(ValueError, match="eps must be finite and >= 0; got -1"):
        attack.run(knn, X, y, eps=-1)
    with pytest.raises(ValueError, match="eps must be finite"):
        clone(attack).set_params(threat_model=ThreatModel(eps=np.nan)).run(knn, X, y)
    with pytest.raises(ValueError, match="lower <= upper"):
        clone(attack).set_params(threat_model=ThreatModel(eps=1, bounds=(1, 0))).run(knn, X, y)
    with pytest.raises(ValueError, match=r"mutable as a mask must have shape \(4,\)"):
        clone(attack).set_params(threat_model=ThreatModel(eps=1, mutable=[True])).run(knn, X, y)
    with pytest.raises(ValueError, match="both must be text, or both numbers"):
        attack.run(knn, X, y.astype(str))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        attack.run(knn, X, y[:-1])


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_default_budget_moves_all_features_by_a_tenth_of_their_deviation(iris, norm):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X, y)
    scale = np.array([1.0, 2.0, 0.5, 1.0])
    threat = ThreatModel(norm, feature_scale=scale, mutable=[0, 1, 2])
    eps = np.linalg.norm((0.1 * X.std(axis=0) / scale)[:3], ord=norm)
    explicit = clone(threat).set_params(eps=eps)
    for attack in (NoiseAttack(random_state=0), EmbeddingNoise(random_state=0)):
        victim, labels = (knn, y) if isinstance(attack, NoiseAttack) else (PCA(2).fit(X), None)
        default, given = (
            clone(attack).set_params(threat_model=model).run(victim, X, labels)
            for model in (threat, explicit)
        )
        np.testing.assert_allclose(default.X_adv, given.X_adv, rtol=1e-12)
    fitted = PGD(threat_model=threat).fit(X, y)  # the training points' budget, for any points
    assert fitted.threat_model_.eps == pytest.approx(eps)
    assert fitted.transform(X[:1]).shape == (1, 4)
    eps = NoiseAttack().fit(X, y).threat_model_.eps
    assert eps == pytest.approx(0.1 * np.linalg.norm(X.std(0)))
    with pytest.raises(ValueError, match="no eps, and the points have no spread"):
        PGD().run(knn, X[:1], y[:1])
    assert PGD(threat_model=ThreatModel(mutable=[])).run(knn, X[:1], y[:1]).success.sum() == 0
    assert ExactNeighborAttack().run(knn, X[:1], y[:1]).success.all()  # needs no budget


def test_missing_gradients_are_named(iris):
    X, y = iris
    with pytest.raises(TypeError, match="use a black-box attack such as HopSkipJump"):
        PGD().run(RandomForestClassifier(5).fit(X, y), X, y)


def test_a_constant_feature_and_bounds_of_the_training_points(iris):
    X, y = iris
    X = np.hstack([X, np.full((len(X), 1), 7.0)])
    threat = ThreatModel(np.inf, 1.0, bounds="data", outside="extend")
    attack = PGD(make_pipeline(StandardScaler(), KNeighborsClassifier(1)), threat_model=threat)
    moved = attack.set_params(random_state=0).fit(X[::2], y[::2]).transform(X[1::2])
    assert (moved[:, 4] == 7).all()
    assert (moved != X[1::2]).any()


def test_an_interrupt_keeps_what_there_is(iris, monkeypatch):
    X, y = iris
    victim = KNeighborsClassifier(1).fit(X, y)
    attack = PGD(threat_model=ThreatModel(2, 2.0), batch_size=50, random_state=0)
    perturb, calls = PGD._perturb, []

    def interrupted(self, problem):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return perturb(self, problem)

    monkeypatch.setattr(PGD, "_perturb", interrupted)
    with pytest.warns(UserWarning, match="Interrupted"):
        found = attack.run(victim, X, y)
    assert found.success[:50].any()
    assert not found.diagnostics["reached"][50:].any()


def test_progress_is_printed(iris, capsys):
    X, y = iris
    threat = ThreatModel(eps=0.1)
    NoiseAttack(verbose=1, threat_model=threat).run(KNeighborsClassifier(1).fit(X, y), X, y)
    assert "NoiseAttack, eps=0.1: 150 of 150 points" in capsys.readouterr().out


class Threshold:
    """Predicts 1 where the first column is below 100."""

    def predict(self, X):
        return (np.asarray(X["a"]).astype(float) < 100).astype(int)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.int64])
def test_columns_of_short_types_do_not_wrap_around(dtype):
    frame = pd.DataFrame({"a": np.array([1, 1, 0]).astype(dtype), "b": [0.0, 1.0, 2.0]})
    frame["big"] = np.array([2**53 + 1] * 3)
    threat = ThreatModel(np.inf, 2.0, mutable=["a"], integers=["a"])
    found = NoiseAttack(threat_model=threat, random_state=0).run(
        Threshold(), frame, np.ones(3, int)
    )
    assert not found.success.any()
    moved = found.X_adv["a"].astype(float) - frame["a"].astype(float)
    assert moved.abs().max() <= 2
    assert (found.X_adv["big"] == 2**53 + 1).all()
    if dtype is bool:
        assert found.X_adv["a"].dtype == bool


def test_columns_that_are_not_numbers():
    frame = pd.DataFrame(
        {
            "a": np.linspace(1, 10, 12),
            "kind": pd.Categorical([1, 2, 3] * 4),
            "word": list("uv" * 6),
        }
    )
    y = (frame["a"] > 5).astype(int).to_numpy()
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), ("passthrough", ["a"]))
    forest = make_pipeline(encode, RandomForestClassifier(10, random_state=0)).fit(frame, y)
    threat = ThreatModel(2, 3.0, bounds=(1, 10))
    found = NoiseAttack(threat_model=threat, random_state=0).run(forest, frame, y)
    pd.testing.assert_frame_equal(found.X_adv[["kind", "word"]], frame[["kind", "word"]])
    assert found.success.any()
    doubled = pd.DataFrame(np.zeros((3, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="columns of different names"):
        NoiseAttack().run(forest, doubled, [0, 0, 0])


def test_two_classes_in_single_precision_by_every_loss(iris):
    X, y = iris
    X, y = X[50:].astype(np.float32), y[50:]
    victim = MLPClassifier((8,), random_state=0, max_iter=50, tol=1.0).fit(X, y)
    shares = [
        PGD(threat_model=ThreatModel(2, 0.7), loss=loss).run(victim, X, y).success.mean()
        for loss in ("margin", "cross_entropy", "dlr")
    ]
    assert min(shares) >= 0.9 * max(shares)


def test_attacks_in_attacks(iris):
    X, y = iris
    tree = RandomForestClassifier(5, random_state=0).fit(X, y)
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(TypeError, match="one by gradients within a budget"):
        MinimumNormAttack(attack=NoiseAttack()).run(knn, X, y)
    with pytest.raises(TypeError, match="must be a single attack"):
        TransferAttack(surrogate=knn, attack=WorstCase()).run(tree, X, y)
    attack = clone(TransferAttack(surrogate=knn))
    with pytest.raises(NotFittedError, match="has to be in a FrozenEstimator"):
        attack.run(tree, X, y)
    clone(TransferAttack(surrogate=FrozenEstimator(knn))).run(tree, X, y)


def test_threat_models_of_inner_attacks_are_not_dropped(iris):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X, y)
    inner = PGD(threat_model=ThreatModel(eps=2.0))
    outer = [
        WorstCase(attacks=[("p", PGD(threat_model=ThreatModel(1, eps=2.0)))]),
        TransferAttack(surrogate=knn, attack=inner, threat_model=ThreatModel(np.inf, eps=2.0)),
        MinimumNormAttack(attack=inner, threat_model=ThreatModel(feature_scale=[1, 2, 3, 4])),
    ]
    for attack in outer:
        with pytest.raises(ValueError, match="has a threat_model of its own"):
            attack.run(knn, X, y)
    # the same but for the budget and the spelling
    same = ThreatModel(2.0, eps=0.1, mutable=[0, 1, 2, 3], bounds=(-np.inf, np.inf))
    worst = WorstCase(attacks=[("p", inner)], threat_model=same)
    worst.run(knn, X, y)
    nested = [("t", TransferAttack(surrogate=FrozenEstimator(knn), attack=clone(inner)))]
    WorstCase(attacks=nested, threat_model=same).run(knn, X, y)
    nested[0][1].set_params(attack__threat_model=ThreatModel(np.inf))
    with pytest.raises(ValueError, match="TransferAttack does not use"):
        WorstCase(attacks=nested, threat_model=same).run(knn, X, y)
    robustness_report(knn, X, y, eps=0.1, attacks={"w": worst, "p": inner}, certify=False)
    with pytest.raises(ValueError, match=r"attacks\['p'\] has a threat_model of its own"):
        robustness_report(knn, X, y, eps=0.1, threat_model=ThreatModel(1), attacks={"p": inner})
    data = ThreatModel(eps=0.5, bounds="data", outside="extend")
    WorstCase(knn, [("p", PGD(threat_model=data))], threat_model=data).fit(X, y).transform(X)
    with pytest.raises(TypeError, match="threat_model of attacks: 'p' must be a ThreatModel"):
        WorstCase(attacks=[("p", PGD(threat_model="linf"))]).run(knn, X, y)
    with pytest.raises(TypeError, match=r"did you mean attacks="):
        WorstCase([("p", inner)]).run(knn, X, y)


class Odd(PGD):
    """Returns what it is told to."""

    found = None

    def _perturb(self, problem):
        return self.found


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (None, TypeError, r"Odd\._perturb must return an ndarray; got NoneType"),
        (np.zeros((3, 3)), ValueError, r"of shape \(\d+, 4\), or of several such; got \(3, 3\)"),
    ],
)
def test_what_an_attack_of_your_own_returns_is_checked(iris, found, error, message):
    X, y = iris
    attack = Odd()
    attack.found = found
    with pytest.raises(error, match=message):
        attack.run(KNeighborsClassifier(1).fit(X, y), X, y)


def test_images_go_through_a_network_in_a_pipeline():
    rng = np.random.default_rng(0)
    images, labels = rng.random((60, 1, 8, 8)), np.arange(60) % 3
    metric = AdversarialDeepMetric(max_iter=1, random_state=0)
    model = make_pipeline(metric, KNeighborsClassifier(1)).fit(images[::2], labels[::2])
    for attack in (PGD(max_iter=2), NoiseAttack()):
        attack.set_params(threat_model=ThreatModel(eps=0.5), random_state=0)
        assert attack.run(model, images, labels).X_adv.shape == images.shape


def test_the_number_of_features_is_told_before_the_threat_model(iris):
    X, y = iris
    attack = PGD(threat_model=ThreatModel(eps=1.0, feature_scale=[1, 2, 3, 4]))
    with pytest.raises(ValueError, match="X has 3 features, but KNeighborsClassifier is expecting"):
        attack.run(KNeighborsClassifier(1).fit(X, y), X[:, :3], y)


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_to_move(iris, norm):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    threat = ThreatModel(norm, 5.0, mutable=[False] * 4)
    for attack in (PGD(), GreedyNeighborAttack(), NeighborDirectionAttack(), NoiseAttack()):
        found = attack.set_params(threat_model=threat).run(knn, X[1::2], y[1::2])
        np.testing.assert_array_equal(found.X_adv, X[1::2])
        assert not found.success.any()


def test_labels_in_fit_transform(iris):
    X, y = iris
    attack = PGD(KNeighborsClassifier(5), threat_model=ThreatModel(2, 0.6), random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        attack.set_transform_request(labels=True)
        pipe = make_pipeline(StandardScaler(with_mean=False, with_std=False), attack)
        found = pipe.fit_transform(X, y, labels=y)
    np.testing.assert_array_equal(found, attack.fit(X, y).transform(X, labels=y))
