"""Wilson's editing with weights: copies of points, balance of classes, and who gets them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from examples import examples
from skrobust.neighbors import WilsonEditing

pytestmark = pytest.mark.filterwarnings(
    "ignore:Leave-one-out .* classifies no point right:UserWarning"
)


def overlapping(seed, n=60, n_classes=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.standard_normal((n, 2)) + y[:, None], y, rng


@examples(20)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([None, 1, 3, 8]), n_classes=st.integers(2, 4))
def test_whole_weights_are_copies(seed, k, n_classes):
    X, y, rng = overlapping(seed, n_classes=n_classes)
    weight = rng.integers(0, 4, 60)
    rows = np.repeat(np.arange(60), weight)
    weighted = WilsonEditing(n_neighbors=k).fit(X, y, sample_weight=weight)
    copied = WilsonEditing(n_neighbors=k).fit(X[rows], y[rows])
    assert weighted.n_neighbors_ == copied.n_neighbors_
    np.testing.assert_array_equal(weighted.sample_indices_, np.unique(rows[copied.sample_indices_]))
    np.testing.assert_array_equal(weighted.predict(X), copied.predict(X))
    plain = WilsonEditing(n_neighbors=k).fit(X, y)
    ones = WilsonEditing(n_neighbors=k).fit(X, y, np.ones(60))
    np.testing.assert_array_equal(ones.sample_indices_, plain.sample_indices_)


def test_small_weights_ask_more_neighbors():
    """An eighth of a copy each: 24 points have 3 votes."""
    X, y, _ = overlapping(0)
    found = WilsonEditing(n_neighbors=3).fit(X, y, np.full(60, 0.125))
    near = [np.argsort(np.linalg.norm(X - x, axis=1)) for x in X]
    votes = [np.bincount(y[order[1:25]], minlength=3) for order in near]
    expected = [i for i in range(60) if votes[i].argmax() == y[i]]
    np.testing.assert_array_equal(found.sample_indices_, expected)


def test_balance_keeps_the_rare_class():
    rng = np.random.default_rng(0)
    y = (np.arange(200) < 12).astype(int)
    X = rng.standard_normal((200, 2)) * np.where(y, 0.5, 1.5)[:, None] + y[:, None]
    recall = {}
    for name, weight in (("plain", None), ("balanced", compute_sample_weight("balanced", y))):
        model = WilsonEditing().fit(X, y, sample_weight=weight)
        recall[name] = recall_score(y, model.predict(X))
        kept = y[model.sample_indices_]
        if name == "balanced":
            assert kept.sum() == 12
            assert (kept == 0).sum() < 188
    assert recall["plain"] < 0.6 <= recall["balanced"]


def test_the_estimator_inside_gets_the_weights():
    X, y, rng = overlapping(1, n_classes=2)
    weight = rng.random(60) * 3
    model = WilsonEditing(LogisticRegression()).fit(X, y, sample_weight=weight)
    kept = model.sample_indices_
    expected = LogisticRegression().fit(X[kept], y[kept], weight[kept])
    np.testing.assert_allclose(model.estimator_.coef_, expected.coef_)
    assert np.isin(kept, np.flatnonzero(weight)).all()


def test_metadata_routing():
    X, y, rng = overlapping(2, n_classes=2)
    weight = rng.random(60) * 3
    with config_context(enable_metadata_routing=True):
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            WilsonEditing(LogisticRegression()).fit(X, y, sample_weight=weight)
        model = WilsonEditing(LogisticRegression().set_fit_request(sample_weight=True))
        inside = model.set_fit_request(sample_weight=True)
        found = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), inside).fit(
            X, y, sample_weight=weight
        )[-1]
    scaled = StandardScaler().fit_transform(X)
    expected = WilsonEditing(LogisticRegression()).fit(scaled, y, sample_weight=weight)
    np.testing.assert_array_equal(found.sample_indices_, expected.sample_indices_)
    np.testing.assert_allclose(found.estimator_.coef_, expected.estimator_.coef_)


def test_wrong_weights_are_named():
    X, y, _ = overlapping(0)
    with pytest.raises(ValueError, match=r"n_neighbors=5 must be less than sample_weight.sum\(\)"):
        WilsonEditing(n_neighbors=5).fit(X, y, np.full(60, 0.05))
    with pytest.raises(ValueError, match=r"sample_weight must have shape"):
        WilsonEditing().fit(X, y, np.ones(59))
