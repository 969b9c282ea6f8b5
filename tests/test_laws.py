"""Laws that hold for every container, model, attack and certificate."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from frames import CONTAINERS, MODELS, NAMES, SLOWER, as_numbers, by_name, points
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder

from examples import examples
from skrobust import AdversarialDeepMetric, ThreatModel, certify
from skrobust.adapters import NotAffineError, NotDifferentiableError, TorchClassifier
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    EmbeddingShift,
    ExactNeighborAttack,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
    WorstCase,
)
from skrobust.certificates import RandomizedSmoothingClassifier, nearest_neighbor_lower_bound
from skrobust.inspection import robustness_report
from skrobust.scorers import certified_accuracy_scorer, robust_accuracy_scorer
from skrobust.utils._frames import Table

pytestmark = [
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
]

ATTACKS = {
    "fgsm": FGSM(batch_size=16),
    "pgd": PGD(max_iter=5, batch_size=16, random_state=0),
    "apgd": APGD(max_iter=5, batch_size=16, random_state=0),
    "minimum norm": MinimumNormAttack(attack=PGD(max_iter=3), max_iter=1, random_state=0),
    "hop skip jump": HopSkipJump(max_iter=1, n_evaluations=5, n_starts=2, random_state=0),
    "noise": NoiseAttack(max_iter=5, random_state=0),
    "exact": ExactNeighborAttack(),
    "greedy": GreedyNeighborAttack(n_candidates=2),
    "direction": NeighborDirectionAttack(n_candidates=2),
    "worst": WorstCase(
        attacks=[
            ("pgd", PGD(max_iter=3, random_state=0)),
            ("noise", NoiseAttack(max_iter=3, random_state=0)),
        ]
    ),
}

QUICK, LONG = examples(2), settings(max_examples=100)


@st.composite
def threats(draw, by=("position", "name", "series")):
    """Return the same threat model spelt by position, by name, or by a pandas Series."""
    scale = np.array(draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=4, max_size=4)))
    mutable = np.array(draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    bounded = draw(st.booleans())
    low, high = np.full(4, -50.0), np.array([50.0, 40.0, 30.0, 20.0])
    spelt = draw(st.sampled_from(by))
    norm = draw(st.sampled_from([1, 2, np.inf]))
    if spelt == "position":
        what = {"feature_scale": scale, "mutable": mutable, "bounds": (low, high)}
    elif spelt == "series":
        order = np.array(draw(st.permutations(range(4))))
        names = np.array(NAMES)[order]
        what = {
            "feature_scale": pd.Series(scale[order], names),
            "mutable": pd.Series(mutable[order], names),
            "bounds": (pd.Series(low[order], names), pd.Series(high[order], names)),
        }
    else:
        ends = zip(low.tolist(), high.tolist(), strict=True)
        what = {
            "feature_scale": dict(zip(NAMES, scale.tolist(), strict=True)),
            "mutable": [name for name, free in zip(NAMES, mutable, strict=True) if free],
            "bounds": dict(zip(NAMES, ends, strict=True)),
        }
    if not bounded:
        del what["bounds"]
    return ThreatModel(norm, eps=1.0, **what)


def outcome(task, model, X, y, threat):
    """Return what a task says, as arrays that do not depend on the container."""
    if task == "certify":
        found = certify(model, X, y, threat_model=threat, method="fast")
        return found.radius, found.status
    if task == "certify exactly":
        found = certify(model, X, y, threat_model=threat)
        return found.radius, found.upper if found.upper is not None else found.radius
    found = clone(ATTACKS[task]).set_params(threat_model=threat).run(model, X, y)
    np.testing.assert_array_equal(np.asarray(model.predict(found.X_adv)), found.predicted)
    return found.success, found.perturbation_norm, found.predicted


def outcomes(task, model, clean, y, threat, others):
    """Compare what a task says of points with what it says of the same in other forms."""
    try:
        expected = outcome(task, model, clean, y, threat)
    except (NotDifferentiableError, NotAffineError, TypeError):  # not for this model
        return
    except ValueError as error:  # what is refused, such as smoothing behind steps, stays so
        for other in others:
            with pytest.raises(ValueError, match=re.escape(str(error))):
                outcome(task, model, other, y, threat)
        return
    for other in others:
        found = outcome(task, model, other, y, threat)
        for one, two in zip(expected, found, strict=True):
            if one.dtype.kind == "f":
                np.testing.assert_allclose(two, one, rtol=1e-9)
            else:
                np.testing.assert_array_equal(two, one)


TASKS = [*ATTACKS, "certify", "certify exactly"]
QUICK_TASKS = ["pgd", "noise", "direction", "certify", "certify exactly"]


def order_case(task, seed, name, threat, order, with_more):
    X, y = points(seed)
    frame = pd.DataFrame(X, columns=NAMES)
    model = clone(MODELS[name]).fit(frame[::2], y[::2])
    clean, labels = frame[1::2], y[1::2]
    more = clean.assign(word="x", extra=np.nan, number=1.5) if with_more else clean
    moved = more[[*np.array(list(more.columns))[np.argsort(order[: more.shape[1]])]]]
    polar = CONTAINERS["polars"](clean)
    outcomes(
        task, model, clean, labels, threat, [moved, polar[list(np.array(NAMES)[order[order < 4]])]]
    )


ORDER = {
    "seed": st.integers(0, 50),
    "name": st.sampled_from(["columns", "columns, logistic"]),
    "threat": threats(),
    "order": st.permutations(range(7)).map(np.array),
    "with_more": st.booleans(),
}


@pytest.mark.parametrize("task", QUICK_TASKS)
@QUICK
@given(**ORDER)
def test_the_order_of_columns_and_columns_that_are_not_used_change_nothing(task, **case):
    """A 1: positions of a threat model are those of the model's own features."""
    order_case(task, **case)


@pytest.mark.slow
@LONG
@given(task=st.sampled_from(TASKS), **ORDER)
def test_the_order_of_columns_changes_nothing_at_length(task, **case):
    order_case(task, **case)


@examples(2)
@given(seed=st.integers(0, 50), threat=threats(), order=st.permutations(range(4)))
def test_the_order_of_columns_changes_no_report(seed, threat, order):
    X, y = points(seed)
    frame = pd.DataFrame(X, columns=NAMES)
    model = clone(MODELS["columns"]).fit(frame[::2], y[::2])
    attacks = {k: ATTACKS[k] for k in ("pgd", "noise", "greedy")}
    few = frame[1::4]
    moved = few[[NAMES[k] for k in order]].assign(word="x", number=2.0)
    one, two = (
        robustness_report(model, at, y[1::4], eps=[0.3, 1.0], threat_model=threat, attacks=attacks)
        for at in (few, moved)
    )
    np.testing.assert_array_equal(one.worst, two.worst)
    np.testing.assert_array_equal(one.certificate.radius, two.certificate.radius)
    np.testing.assert_array_equal(one.certified, two.certified)
    assert [f.flagged for f in one.health] == [f.flagged for f in two.health]
    assert any("'word', 'number'" in note for note in two.notes)


def drop_case(task, seed, last, threat):
    X, y = points(seed)
    frame = pd.DataFrame(X, columns=NAMES)
    wide = frame[["a", "b"]].assign(junk=1.0, word="x")[["word", "a", "junk", "b"]]
    wide = wide.assign(c=frame["c"], d=frame["d"])
    model = by_name((MODELS | SLOWER)[last]).fit(wide[::2], y[::2])
    clean, labels = wide[1::2], y[1::2]
    others = [
        clean.assign(junk=np.nan),
        clean.assign(junk="text"),
        clean.assign(word=2.0, junk=np.float32(7)),
        clean.drop(columns="junk"),
        clean.drop(columns=["word", "junk"]),
        CONTAINERS["polars"](clean.drop(columns="word")),
    ]
    outcomes(task, model, clean.assign(word="y"), labels, threat, others)


DROP = {
    "seed": st.integers(0, 50),
    "last": st.sampled_from(["knn", "logistic", "tree"]),
    "threat": threats(by=("name",)),
}


@pytest.mark.parametrize("task", QUICK_TASKS)
@QUICK
@given(**DROP)
def test_columns_that_are_dropped_change_nothing(task, **case):
    """A 2: there or not, text or NaN."""
    case["threat"].set_params(mutable=case["threat"].mutable or ["a"])
    drop_case(task, **case)


@pytest.mark.slow
@LONG
@given(
    task=st.sampled_from(TASKS),
    **DROP | {"last": st.sampled_from(["knn", "logistic", "tree", *SLOWER])},
)
def test_columns_that_are_dropped_change_nothing_at_length(task, **case):
    case["threat"].set_params(mutable=case["threat"].mutable or ["a"])
    drop_case(task, **case)


def test_certify_proves_without_the_columns_that_are_dropped():
    X, y = points(0)
    frame = pd.DataFrame(X, columns=NAMES)
    model = by_name(KNeighborsClassifier(1)).fit(frame.assign(word="x"), y)
    alone = by_name(KNeighborsClassifier(1)).fit(frame, y)
    for method in ("fast", "exact"):
        expected = certify(alone, frame[:8] + 0.1, y[:8], method=method).radius
        for X_new in (frame[:8] + 0.1, (frame[:8] + 0.1).assign(word=["a", None] * 4)):
            found = certify(model, X_new, y[:8], method=method).radius
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"lacks the features \['d'\]"):
        certify(model, frame.drop(columns="d"), y)
    with pytest.raises(ValueError, match=r"others in \['d'\]"):
        certify(model, frame.assign(d="x"), y)
    with pytest.raises(ValueError, match="NaN or infinity in feature 3"):
        certify(model, frame.assign(d=np.nan), y)


def test_arrays_are_not_certified_in_another_order_of_the_columns():
    X, y = points(0)
    frame = pd.DataFrame(X, columns=NAMES)
    found = nearest_neighbor_lower_bound(frame[::2], y[::2], frame[1::2], y[1::2])
    assert list(found.feature_names) == NAMES
    with pytest.raises(ValueError, match="in their order"):
        nearest_neighbor_lower_bound(frame[::2], y[::2], frame[NAMES[::-1]][1::2], y[1::2])


def dtype_case(task, seed, name, container, threat):
    X, y = points(seed)
    frame = pd.DataFrame(X, columns=NAMES)
    model = clone((MODELS | SLOWER)[name]).fit(frame[::2], y[::2])
    clean = frame[1::2].reset_index(drop=True)
    other = CONTAINERS[container](clean)
    if "array" in container and "columns" in name:
        return  # a model that takes columns by name takes no arrays
    try:
        model.predict(other)
    except (TypeError, ValueError):
        return  # the model itself does not take it: text in polars, for some
    outcomes(task, model, clean, y[1::2], threat, [other])


DTYPES = {
    "seed": st.integers(0, 50),
    "name": st.sampled_from(list(MODELS)),
    "container": st.sampled_from(list(CONTAINERS)),
    "threat": threats(),
}


@pytest.mark.parametrize("task", QUICK_TASKS)
@QUICK
@given(**DTYPES)
def test_the_type_of_a_column_of_numbers_changes_nothing(task, **case):
    """A 4: object, Decimal, nullable, text that the model converts."""
    dtype_case(task, **case)


@pytest.mark.slow
@LONG
@given(task=st.sampled_from(TASKS), **DTYPES | {"name": st.sampled_from([*MODELS, *SLOWER])})
def test_the_type_of_a_column_of_numbers_changes_nothing_at_length(task, **case):
    dtype_case(task, **case)


def test_numbers_as_text_that_are_categories_do_not_move():
    X, y = points(1)
    frame = pd.DataFrame(X, columns=NAMES).assign(code=[str(k % 3) for k in range(len(X))])
    model = clone(MODELS["columns, logistic"])
    steps = model.steps[0][1]
    steps.set_params(
        transformers=[*steps.transformers, ("e", OneHotEncoder(handle_unknown="ignore"), ["code"])]
    )
    model.fit(frame, y)
    attack = ATTACKS["hop skip jump"]
    found = clone(attack).set_params(threat_model=ThreatModel(eps=3.0)).run(model, frame, y)
    assert found.success.any()
    assert found.X_adv["code"].equals(frame["code"])
    report = robustness_report(
        model, frame, y, eps=0.5, attacks={"n": ATTACKS["noise"]}, certify=False
    )
    assert any("'code'" in note for note in report.notes)


def test_each_column_keeps_its_own_precision():
    """S 10: float32 beside float64, where float32 is coarse for the latter."""
    rng = np.random.default_rng(0)
    late = 1e9 + rng.random(60)
    frame = pd.DataFrame({"a": rng.random(60).astype(np.float32), "late": late})
    y = (late - 1e9 + frame["a"] > 1).astype(int).to_numpy()
    knn = KNeighborsClassifier(1).fit(frame[::2], y[::2])
    found = certify(knn, frame[1::2], y[1::2])
    reached = np.isfinite(found.upper) & found.correct & (found.radius > 0)
    assert (found.upper <= 1.01 * found.radius)[reached].all()
    moved = PGD(threat_model=ThreatModel(eps=0.5), random_state=0).run(knn, frame[1::2], y[1::2])
    assert moved.success.any()
    assert list(moved.X_adv.dtypes) == [np.float32, np.float64]


def frozen_copy(X):
    """Return X read-only, and a function that checks that nothing changed."""
    before = copy.deepcopy(X)
    if isinstance(X, np.ndarray):
        X.flags.writeable = False

    def check():
        if isinstance(X, np.ndarray):
            np.testing.assert_array_equal(X, before)
        else:
            assert X.equals(before)

    return X, check


@pytest.mark.parametrize("container", ["array", "pandas", "nullable", "polars"])
@pytest.mark.parametrize("task", [*TASKS, "report", "scorers", "smoothing"])
def test_nothing_that_was_given_is_changed(task, container):
    """A 5: read-only input works, and every argument is as it was."""
    X, y = points(3)
    frame = pd.DataFrame(X, columns=NAMES)
    frame["c"] = (frame["c"] > 0).astype(float)
    if container == "pandas":
        frame["d"] = frame["d"] > 0
    low, high, whole = np.full(4, -99.0), np.full(4, 99.0), np.array([0, 0, 1, 0], dtype=bool)
    scale, free = np.array([1.0, 2.0, 1.0, 1.0]), np.array([1, 1, 1, 1], dtype=bool)
    if "exact" in task:
        whole = np.zeros(4, dtype=bool)
        frame["d"] = frame["d"].astype(float)
    pairs = [frozen_copy(a) for a in (low, high, whole, scale, free, y)]
    X, check = frozen_copy(CONTAINERS[container](frame))
    pairs.append((X, check))
    y = pairs[5][0]
    threat = ThreatModel(
        2, 1.0, bounds=(low, high), integers=whole, feature_scale=scale, mutable=free
    )
    model = KNeighborsClassifier(1).fit(X[::2], y[::2])
    state = copy.deepcopy(vars(model))
    if task == "report":
        robustness_report(
            model, X, y, eps=0.5, threat_model=threat, attacks={"n": ATTACKS["noise"]}
        )
    elif task == "scorers":
        certified_accuracy_scorer(0.1, threat_model=threat)(model, X, y)
        noise = clone(ATTACKS["noise"]).set_params(threat_model=threat)
        robust_accuracy_scorer(noise, 0.1)(model, X, y)
    elif task == "smoothing":
        smooth = RandomizedSmoothingClassifier(n_samples=20, threat_model=threat, random_state=0)
        smooth.fit(X, y).certify(X, y)
    else:
        outcome(task, model, X, y, threat)
        if task in ATTACKS:
            attack = clone(ATTACKS[task]).set_params(threat_model=threat, estimator=model)
            attack.fit_transform(X, y)
    for _, unchanged in pairs:
        unchanged()
    for key, value in vars(model).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, state[key])


class InPlace(torch.nn.Module):
    """Works in place on what it is given."""

    def __init__(self, n_features=4, n_outputs=2):
        super().__init__()
        self.inner = torch.nn.Linear(n_features, n_outputs)

    def forward(self, x):
        x = torch.nn.functional.relu(x.add_(1.0), inplace=True)
        return self.inner(x)


def test_modules_that_work_in_place_change_nothing():
    torch.manual_seed(0)
    X, y = points(4)
    X = X.astype(np.float32)
    before = X.copy()
    victim = TorchClassifier(InPlace(), [0, 1])
    first = victim.predict(X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(victim.predict(X), first)
    found = PGD(threat_model=ThreatModel(eps=1.0), random_state=0).run(victim, X, first)
    np.testing.assert_array_equal(victim.predict(found.X_adv), found.predicted)
    metric = AdversarialDeepMetric(InPlace(), max_iter=2, random_state=0).fit(X, y)
    Z = metric.transform(X)
    np.testing.assert_array_equal(metric.transform(X), Z)
    EmbeddingShift(max_iter=2, threat_model=ThreatModel(eps=0.5)).run(metric, X)
    np.testing.assert_array_equal(X, before)


@examples(5)
@given(
    seed=st.integers(0, 200),
    task=st.sampled_from(["certify", "certify exactly", "noise"]),
    name=st.sampled_from(["knn", "scaler"]),
    norm=st.sampled_from([1, 2, np.inf]),
)
def test_the_company_of_other_rows_changes_nothing(seed, task, name, norm):
    """S 9: what is said of a row is what is said of it alone."""
    X, y = points(seed)
    model = clone(MODELS[name]).fit(X[::2], y[::2])
    rows = X[1::2][:5]
    # some rows are in a corner of the box, and only grow
    corner = rows.max(axis=0)
    rows[0] = corner
    threat = ThreatModel(norm, 1.0, increasing=[0, 1, 2, 3], bounds=(-99.0, corner))
    labels = np.asarray(model.predict(rows))
    together = outcome(task, model, rows, labels, threat)
    for t in range(len(rows)):
        alone = outcome(task, model, rows[t : t + 1], labels[t : t + 1], threat)
        for one, two in zip(alone, together, strict=True):
            if one.dtype.kind == "f":
                np.testing.assert_allclose(two[t], one[0], rtol=1e-6)
            else:
                assert two[t] == one[0]


@pytest.mark.parametrize("polar", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_text_and_missing_values_in_columns_that_do_not_move(polar, missing):
    """25: attacks, reports and smoothing carry them along."""
    X, y = points(5, 60)
    frame = pd.DataFrame(X, columns=NAMES).assign(job=["clerk", "cook", "none"] * 20)
    model = clone(MODELS["columns, logistic"])
    model.steps[0][1].transformers.append(("e", OneHotEncoder(), ["job"]))
    mutable = ["a", "b"]
    if missing:
        frame["job"] = np.where(np.arange(60) % 7 == 0, np.nan, 1.0)
        model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5)
    X = CONTAINERS["polars"](frame) if polar else frame
    if polar and missing:
        pytest.skip("scikit-learn's boosting takes no nulls of polars")
    model.fit(X, y)
    threat = ThreatModel(eps=2.0, mutable=mutable)
    for name in ("hop skip jump", "noise"):
        found = clone(ATTACKS[name]).set_params(threat_model=threat).run(model, X, y)
        assert found.success.any()
        kept = pd.DataFrame({"job": list(found.X_adv["job"])})
        assert kept["job"].equals(pd.Series(list(frame["job"])))
    smooth = RandomizedSmoothingClassifier(
        model, n_samples=100, n_augment=1, threat_model=threat, random_state=0
    )
    assert (smooth.fit(X, y).certify(X, y).radius > 0).any()
    assert smooth.predict(X).shape == (60,)
    frozen = RandomizedSmoothingClassifier(
        FrozenEstimator(model), n_samples=100, threat_model=threat, random_state=0
    ).fit(X, y)
    assert (certify(frozen, X, y).radius > 0).any()
    robustness_report(model, X, y, eps=0.5, threat_model=threat, attacks={"n": ATTACKS["noise"]})
    if missing:
        with pytest.raises(ValueError, match="feature 'job' does"):
            NoiseAttack(threat_model=ThreatModel(eps=1.0)).run(model, X, y)


@pytest.mark.parametrize(
    "bounds", [[(0, 1), (0, 1)], ((0, 1), (0, 2)), [[0, 1], [2, 3]], [(-1, 1), (-2, 2)]]
)
def test_bounds_that_read_in_two_ways_are_refused(bounds):
    with pytest.raises(ValueError, match="ambiguous for two features"):
        ThreatModel(bounds=bounds).resolve(2)
    ends = tuple(np.array(bounds, dtype=float).T)
    ThreatModel(bounds=ends).resolve(2)
    ThreatModel(bounds=ends).resolve(2, ["a", "b"])


def test_bounds_that_read_in_one_way_are_kept():
    for bounds in [([0, 0], [1, 1]), ([0.0, -1.0], [1.0, 2.0]), (0, [1, 2]), ([0, 1], [2, 3])]:
        budget = ThreatModel(bounds=bounds).resolve(2)
        np.testing.assert_array_equal(budget.upper, np.broadcast_to(bounds[1], 2))


def test_bounds_of_a_frame_go_by_name():
    X, _ = points(0)
    frame = pd.DataFrame(X, columns=NAMES)
    model = ThreatModel().with_bounds_of(frame[NAMES[::-1]].assign(word="x"))
    budget = model.resolve(4, NAMES, unused_names=["word"])
    np.testing.assert_array_equal(budget.lower, X.min(0))
    np.testing.assert_array_equal(budget.upper, X.max(0))


def test_as_numbers():
    """The containers of these tests hold the same numbers."""
    X, _ = points(0)
    for make in CONTAINERS.values():
        np.testing.assert_array_equal(as_numbers(make(pd.DataFrame(X, columns=NAMES))), X)


@pytest.mark.parametrize("container", CONTAINERS)
@examples(5)
@given(
    seed=st.integers(0, 100),
    order=st.permutations(range(4)),
    rows=st.lists(st.integers(0, 19), min_size=1, max_size=6),
)
def test_rows_are_rebuilt_as_they_were_given(container, seed, order, rows):
    """Values, types and order of the columns; moved cells and no others are new."""
    X, _ = points(seed)
    given_ = CONTAINERS[container](pd.DataFrame(X, columns=NAMES))
    names = [NAMES[k] for k in order]
    table = Table.of(given_, names if hasattr(given_, "columns") else None)
    rows = np.array(rows)
    kept = table.rebuild(table.values[rows], rows)
    np.testing.assert_array_equal(as_numbers(kept), X[rows])
    moved = table.clean[rows].copy()
    moved[:, 1] += 0.125
    found = table.rebuild(moved, rows)
    np.testing.assert_array_equal(table.reread(found).clean, moved)
    if not hasattr(given_, "columns"):
        return
    assert list(found.columns) == NAMES
    assert list(map(str, kept.dtypes)) == list(map(str, given_.dtypes))
    still = [name for name in NAMES if name != names[1]]
    for name in still:
        assert list(found[name]) == [list(given_[name])[t] for t in rows]


def test_whole_numbers_flags_and_what_is_missing_are_rebuilt():
    frame = pd.DataFrame(
        {
            "flag": [True, False, True],
            "n": [1, 2**53 + 1, 3],
            "small": np.array([1, 2, 3], np.uint8),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "perhaps": pd.array([True, None, False], dtype="boolean"),
            "gap": [0.5, np.nan, 1.5],
            "kind": pd.Categorical(["x", "y", "x"]),
            "day": pd.to_datetime(["2020-01-01"] * 3),
        },
        index=[7, 5, 3],
    )
    table = Table.of(frame)
    assert table.fixed_columns == ["kind", "day"]
    assert table.binary.tolist() == [True, False, False, False, True, False, False, False]
    assert table.rebuild(table.clean).equals(frame)
    moved = table.clean + np.where(table.numeric, 1.0, 0.0)
    found = table.rebuild(moved[[2, 0]], np.array([2, 0]))
    assert list(found.index) == [3, 7]
    assert list(found["small"]) == [4, 2]
    assert list(found["maybe"]) == [4, 2]
    assert [str(found[name].dtype) for name in ("small", "maybe")] == ["uint8", "Int64"]
    assert list(found["kind"]) == ["x", "x"]
    moved = table.clean + np.where(table.numeric, 0.5, 0.0)
    found = table.rebuild(moved)
    assert np.isnan(found["gap"].iloc[1])
    assert found["small"].dtype == np.float64
