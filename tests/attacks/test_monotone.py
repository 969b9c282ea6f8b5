"""An adversary who may do more is never weaker: more columns, wider budgets, more tries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples import examples
from skrobust import ThreatModel
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingMargin,
    EmbeddingNoise,
    EmbeddingShift,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.inspection import robustness_report

BY_GRADIENTS = [
    FGSM(batch_size=32),
    PGD(max_iter=8, batch_size=32, n_restarts=2, random_state=0),
    APGD(max_iter=8, batch_size=32, random_state=0),
    MinimumNormAttack(attack=PGD(max_iter=5), max_iter=2, batch_size=32, random_state=0),
    WorstCase(
        attacks=[("apgd", APGD(max_iter=5, batch_size=32)), ("noise", NoiseAttack(random_state=0))]
    ),
]
BY_PREDICTIONS = [
    HopSkipJump(max_iter=4, n_evaluations=10, n_starts=10, random_state=0),
    NoiseAttack(max_iter=5, random_state=0),
    TransferAttack(attack=PGD(max_iter=5), batch_size=32, random_state=0),
]
OF_NEIGHBORS = [GreedyNeighborAttack(n_candidates=2), NeighborDirectionAttack(n_candidates=3)]
VICTIMS = {
    "1-nn": KNeighborsClassifier(1),
    "3-nn": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    "linear": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": RandomForestClassifier(5, random_state=0),
}
DISCRETE = {"flag": [4], "count": [5], "category": [6, 7, 8]}


def table(seed):
    """Two groups of points; then a flag, a count, three categories and noise that say nothing."""
    rng = np.random.default_rng(seed)
    n = 60
    y = np.arange(n) % 2
    X = rng.standard_normal((n, 4)) + 1.5 * y[:, None] * [1, 1, 0, 0]
    say_nothing = [
        rng.integers(0, 2, n),
        rng.integers(0, 9, n),
        np.eye(3)[rng.integers(0, 3, n)],
        rng.standard_normal(n),
    ]
    return np.c_[X, np.column_stack(say_nothing)], y


def model_of(norm, eps, columns, integers=(4, 5)):
    return ThreatModel(
        norm,
        eps,
        mutable=columns,
        integers=list(integers),
        one_hot=[[6, 7, 8]],
        bounds=([-9.0] * 4 + [0.0] * 5 + [-9.0], [9.0] * 4 + [1, 9, 1, 1, 1, 9.0]),
    )


def smallest(attack, victim, X, y, model):
    """What an attack finds within a model, run on its own."""
    attack = clone(attack)
    if isinstance(attack, TransferAttack):  # a surrogate of the same features
        attack.set_params(surrogate=KNeighborsClassifier(1).fit(X, y))
    found = attack.set_params(threat_model=model).run(victim, X[:30], y[:30])
    return np.where(found.minimal_norm <= model.eps, found.minimal_norm, np.inf)


CASES = (
    [(attack, name) for attack in BY_GRADIENTS for name in ("1-nn", "3-nn", "linear")]
    + [(attack, name) for attack in BY_PREDICTIONS for name in VICTIMS]
    + [(attack, name) for attack in OF_NEIGHBORS for name in ("1-nn", "3-nn")]
)
IDS = [f"{type(attack).__name__}-{name}" for attack, name in CASES]


@pytest.mark.parametrize(("attack", "name"), CASES, ids=IDS)
@examples(2)
@given(
    seed=st.integers(0, 1000),
    norm=st.sampled_from([1, 2, np.inf]),
    eps=st.sampled_from([0.5, 1.2, 3.0]),
    more=st.lists(st.sampled_from(list(DISCRETE)), min_size=1, unique=True),
)
def test_flags_counts_and_categories_that_may_move_help_no_victim(
    attack, name, seed, norm, eps, more
):
    """Point by point: what worked without them works with them, and costs no more."""
    X, y = table(seed)
    victim = clone(VICTIMS[name]).fit(X, y)
    columns = [0, 1, 2, 3]
    without = smallest(attack, victim, X, y, model_of(norm, eps, columns))
    columns = columns + [k for kind in more for k in DISCRETE[kind]]
    within = smallest(attack, victim, X, y, model_of(norm, eps, columns))
    if getattr(attack, "minimum_norm", False):
        assert (within <= without * (1 + 1e-9)).all()
    else:
        assert (np.isfinite(within) >= np.isfinite(without)).all()
    assert np.isfinite(within).sum() >= np.isfinite(without).sum()


# one step has no second chance, and noise is drawn evenly over whatever may move
SEARCHES = [
    (attack, name)
    for attack, name in CASES
    if not isinstance(attack, FGSM | NoiseAttack | TransferAttack) and name in ("1-nn", "forest")
]


@pytest.mark.parametrize(
    ("attack", "name"), SEARCHES, ids=[f"{type(a).__name__}-{name}" for a, name in SEARCHES]
)
def test_a_wider_model_makes_nobody_look_more_robust(attack, name):
    """Another search, with other steps: a point or two of thirty may be lost to it."""
    X, y = table(0)
    victim = clone(VICTIMS[name]).fit(X, y)

    def robust(eps, columns, integers=(4, 5)):
        model = model_of(2, eps, columns, integers)
        return np.isinf(smallest(attack, victim, X, y, model)).mean()

    columns = [0, 1, 2, 3, 5]
    narrow, flagged = robust(1.2, columns), robust(1.2, [*columns, 4])
    assert flagged <= narrow + 0.07
    assert robust(1.2, [*columns, 4, 9]) <= flagged + 0.07  # noise
    assert robust(2.0, [*columns, 4]) <= flagged + 0.07  # a larger budget
    assert robust(1.2, [*columns, 4], ()) <= flagged + 0.07  # parts of a whole number


@pytest.mark.parametrize("attack", [BY_GRADIENTS[0], BY_GRADIENTS[1], BY_GRADIENTS[2]], ids=repr)
def test_the_search_with_everything_held_costs_at_most_as_much_again(attack):
    """And nothing where nothing is discrete."""
    X, y = table(0)
    victim = KNeighborsClassifier(1).fit(X, y)
    attack = clone(attack)
    queries = []
    for columns in ([0, 1, 2, 3, 9], [0, 1, 2, 3, 4, 5, 9]):
        found = attack.set_params(threat_model=model_of(2, 0.3, columns)).run(victim, X, y)
        queries.append((found.n_queries, found.n_gradient_calls))
    assert queries[1][1] <= 2.2 * queries[0][1]
    assert queries[1][0] <= 2.5 * queries[0][0]


@pytest.mark.parametrize(
    "attack", [PGD(max_iter=4, random_state=0), HopSkipJump(n_evaluations=8, random_state=0)]
)
def test_more_tries_are_never_worse(attack):
    X, y = table(1)
    victim = KNeighborsClassifier(1).fit(X, y)
    attack = clone(attack)
    if isinstance(attack, HopSkipJump):
        attack.set_params(max_iter=2)
    before = np.full(30, np.inf)
    for n_restarts in (1, 2, 4):
        attack.set_params(n_restarts=n_restarts)
        now = smallest(attack, victim, X, y, model_of(2, 0.8, [0, 1, 2, 3, 4, 5]))
        better = now <= before if attack.minimum_norm else np.isfinite(now) >= np.isfinite(before)
        assert better.all()
        before = now


@pytest.mark.parametrize(
    "attack",
    [
        EmbeddingShift(max_iter=4, batch_size=32, random_state=0),
        EmbeddingShift(max_iter=2, batch_size=64, gradient="nes", n_evaluations=4, random_state=0),
        EmbeddingMargin(max_iter=4, batch_size=32, random_state=0),
        EmbeddingNoise(batch_size=32, random_state=0),
    ],
    ids=repr,
)
@examples(4)
@given(seed=st.integers(0, 1000), norm=st.sampled_from([1, 2, np.inf]))
def test_nor_do_they_help_an_embedding(attack, seed, norm):
    X, y = table(seed)
    victim = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    values = []
    for columns in ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7, 8]):
        attack = clone(attack).set_params(threat_model=model_of(norm, 1.2, columns))
        values.append(attack.run(victim, X, y).value)
    assert (values[1] >= values[0] - 1e-9).all()


def test_a_step_that_is_halved_ends():
    """Whole numbers that flip at any distance: the ball around the point is not halved forever."""
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    y = np.array([0, 1, 1, 0])
    victim = KNeighborsClassifier(1).fit(X, y)
    attack = HopSkipJump(max_iter=3, n_evaluations=10, random_state=0)
    for model in (ThreatModel(2, integers=[0, 1]), ThreatModel(np.inf, integers=[0, 1])):
        found = attack.set_params(threat_model=model).run(victim, X, y)
        assert found.n_queries < 4 * 3000
        np.testing.assert_array_equal(found.perturbation_norm, 1.0)


def test_the_attacks_of_a_report_are_as_strong_as_restarts():
    """One-hot groups that say something: a single try moves few points."""
    rng = np.random.default_rng(0)
    n = 120
    y = np.arange(n) % 3
    groups = [
        np.eye(4)[(y + rng.integers(0, 2, n)) % 4],
        np.eye(3)[(y + rng.integers(0, 2, n)) % 3],
    ]
    X = np.c_[rng.standard_normal((n, 2)) + y[:, None], *groups]
    threat = ThreatModel(2, one_hot=[[2, 3, 4, 5], [6, 7, 8]])
    victims = (KNeighborsClassifier(5), make_pipeline(StandardScaler(), LogisticRegression()))
    for victim in victims:
        victim.fit(X[::2], y[::2])
        report = robustness_report(
            victim, X[1::4], y[1::4], eps=1.5, threat_model=threat, certify=False
        )
        for attack in (PGD(n_restarts=4, random_state=0), APGD(n_restarts=4, random_state=0)):
            found = attack.set_params(threat_model=threat).run(victim, X[1::4], y[1::4], eps=1.5)
            assert report.worst[0] <= found.robust_accuracy(1.5) + 1 / 30
