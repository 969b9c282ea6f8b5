"""Threat models: rows of zeros in one-hot groups; series in files."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from examples import examples
from skrobust import ThreatModel
from skrobust.attacks import PGD, HopSkipJump
from skrobust.certificates import certify_nearest_neighbors

NAMES = ["a", "b", "c"]
MODELS_WITH_SERIES = [
    lambda s: {"feature_scale": s([1.0, 2.0, 3.0], NAMES)},
    lambda s: {"feature_scale": s([1.0, 2.0, 3.0], ["c", "b", "a"])},
    lambda s: {"feature_scale": s([1.0, 2.0, 3.0], [0, 1, 2])},
    lambda s: {"mutable": s([True, False, True], ["c", "a", "b"])},
    lambda s: {"mutable": pd.Index(["a", "c"])},
    lambda s: {"increasing": pd.Index([0, 2]), "integers": s([True, False, False], NAMES)},
    lambda s: {"bounds": (s([-1.0, -2.0, 0.0], NAMES), 5.0)},
    lambda s: {"bounds": [-9.0, s([1.0, 2.0, 3.0], ["b", "a", "c"])]},
    lambda s: {"one_hot": [pd.Index(["a", "b"])]},
    lambda s: {"feature_scale": s([1, 2, 3], NAMES).astype("Int64")},
    lambda s: {"feature_scale": pl.Series([1.0, 2.0, 3.0])},
]


@pytest.mark.parametrize("place", range(len(MODELS_WITH_SERIES)))
def test_a_model_with_series_is_saved_and_loaded(place):
    """By skops, which knows no data frames, and by pickle; also inside an attack."""
    io_ = pytest.importorskip("skops.io")
    given = MODELS_WITH_SERIES[place](lambda values, index: pd.Series(values, index=index))
    model = ThreatModel(2, eps=1.0, **given)
    expected = model.resolve(3, NAMES)
    data = io_.dumps(PGD(threat_model=model))
    names = io_.get_untrusted_types(data=data)
    assert all(name.startswith("skrobust.") for name in names), names
    loaded = io_.loads(data, trusted=names).threat_model
    for again in (loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model), clone(model)):
        assert again.resolve(3, NAMES).same_as(expected)
        assert {k: type(v) for k, v in again.get_params().items() if isinstance(v, pd.Series)} == {
            k: type(v) for k, v in given.items() if isinstance(v, pd.Series)
        }


@examples(20)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from([1, 2, np.inf]))
def test_rows_of_zeros_in_a_group_stay_zeros(seed, norm):
    """A category that the encoder dropped or did not know: the other features move, it does not."""
    rng = np.random.default_rng(seed)
    model = ThreatModel(norm, eps=2.0, one_hot=[[0, 1, 2], [4, 5]])
    budget = model.resolve(7)
    raw = rng.standard_normal((12, 7))
    for group in budget.groups:
        raw[:, group] = np.eye(len(group) + 1)[rng.integers(0, len(group) + 1, 12), 1:]
    budget.check_inside(raw)
    points = budget.project(raw, raw + 3 * rng.standard_normal(raw.shape), 2.0)
    assert budget.satisfied(raw, points, 2.0).all()
    for group in budget.groups:
        empty = ~raw[:, group].any(axis=1)
        assert (points[empty][:, group] == 0).all()
        assert (points[~empty][:, group].sum(axis=1) == 1).all()
        # neither may such a row choose, nor may another one let go
        wrong = raw.copy()
        wrong[:, group] = np.where(empty[:, None], np.eye(len(group))[0], 0.0)
        assert not budget.satisfied(raw, wrong, 1e9).any()
    assert (points != raw).any()
    with pytest.raises(ValueError, match="of which at most one is 1"):
        budget.check_inside(np.ones((1, 7)))


@pytest.mark.parametrize("drop", ["first", None])
def test_attacks_and_certificates_on_encoded_categories(drop):
    """`drop="first"`, and a category that was not seen in training, end no run."""
    rng = np.random.default_rng(0)
    job = np.array(["clerk", "nurse", "smith"])[rng.integers(0, 3, 60)]
    age = rng.standard_normal(60) + (job == "nurse")
    y = (age + 0.5 * rng.standard_normal(60) > 0.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the unknown category
        encoder = OneHotEncoder(drop=drop, handle_unknown="ignore", sparse_output=False)
        encoder.fit(job[:, None])
        unseen = encoder.transform([["baker"]])
    X = np.c_[age, encoder.transform(job[:, None])]
    columns = list(range(1, X.shape[1]))
    test = np.r_[X[:20], np.c_[0.1, unseen]]
    truth = np.r_[y[:20], 0]
    model = ThreatModel(1, eps=1.0, one_hot=[columns])
    knn = KNeighborsClassifier(3).fit(X, y)
    found = HopSkipJump(max_iter=3, n_evaluations=20, threat_model=model, random_state=0).run(
        knn, test, truth
    )
    zeros = ~test[:, 1:].any(axis=1)
    assert zeros.sum() == (1 if drop is None else 1 + (job[:20] == "clerk").sum())
    assert (found.X_adv[zeros][:, 1:] == 0).all()
    proved = certify_nearest_neighbors(knn, test, truth, threat_model=model)
    assert (proved.radius <= found.minimal_norm).all()


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_a_category_changes_as_a_whole_where_the_model_drops_a_column_of_it(norm):
    rng = np.random.default_rng(0)
    job = rng.integers(0, 3, 60)
    X, y = np.c_[0.1 * rng.standard_normal(60), np.eye(3)[job]], (job == 2).astype(int)
    kept = make_column_transformer(("passthrough", [0, 2, 3]))
    model = make_pipeline(kept, KNeighborsClassifier(1)).fit(X, y)
    threat = ThreatModel(norm, one_hot=[[1, 2, 3]])
    found = certify_nearest_neighbors(model, X, y, threat_model=threat)
    for category in np.eye(3):
        moved = np.c_[X[:, 0], np.tile(category, (60, 1))]
        size = np.linalg.norm(moved - X, ord=norm, axis=1)
        assert (found.radius[model.predict(moved) != y] <= size[model.predict(moved) != y]).all()
