import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import ThreatModel, certify
from skrobust.attacks import PGD
from skrobust.certificates import certify_nearest_neighbors

NAMES = ["age", "income", "sex"]


def test_everything_resolves_to_arrays():
    model = ThreatModel(
        np.inf,
        feature_scale={"income": 10.0},
        mutable=["income", "age"],
        bounds={"age": (0, 120), "income": (0, np.inf)},
    )
    budget = clone(model).resolve(3, NAMES)
    assert budget.norm == np.inf
    assert budget.dual == 1
    assert budget.bounded
    np.testing.assert_array_equal(budget.scale, [1, 10, 0])
    np.testing.assert_array_equal(budget.lower, [0, 0, -np.inf])
    np.testing.assert_array_equal(budget.upper, [120, np.inf, np.inf])
    delta = np.array([[3.0, 20, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(budget.size(delta), [3, 0, np.inf])


@pytest.mark.parametrize("mutable", [[True, False, True], [0, 2], [0, -1], ["age", "sex"]])
def test_spellings_of_mutable(mutable):
    budget = ThreatModel(1, mutable=mutable).resolve(3, NAMES)
    np.testing.assert_array_equal(budget.scale, [1, 0, 1])
    assert not budget.bounded
    assert budget.size(np.array([[1.0, 0, -2]]))[0] == 3


def test_a_series_goes_by_its_index():
    order = ["sex", "age", "income"]
    scale = pd.Series([3.0, 1.0, 2.0], index=order)
    mutable = pd.Series([False, True, True], index=order)
    upper = pd.Series([30.0, 10.0, 20.0], index=order)
    model = ThreatModel(feature_scale=scale, mutable=mutable, bounds=(-upper, upper))
    budget = model.resolve(3, NAMES)
    np.testing.assert_array_equal(budget.scale, [1, 2, 0])
    np.testing.assert_array_equal(budget.upper, [10, 20, 30])
    np.testing.assert_array_equal(budget.lower, [-10, -20, -30])
    # without names of the features, or with a numbered index, the order is theirs
    np.testing.assert_array_equal(ThreatModel(feature_scale=scale).resolve(3).scale, [3, 1, 2])
    numbered = ThreatModel(feature_scale=pd.Series([3.0, 1.0, 2.0]))
    np.testing.assert_array_equal(numbered.resolve(3, NAMES).scale, [3, 1, 2])
    named = ThreatModel(mutable=pd.Series(["age", "sex"])).resolve(3, NAMES)
    np.testing.assert_array_equal(named.scale, [1, 0, 1])
    with pytest.raises(ValueError, match=r"feature_scale must have one value .* 'age' is in"):
        ThreatModel(feature_scale=scale.rename({"age": "height"})).resolve(3, NAMES)
    with pytest.raises(ValueError, match="'income' is in one of them only"):
        ThreatModel(feature_scale=scale.drop("income")).resolve(3, NAMES)


def test_a_mask_of_zeros_and_ones_is_not_taken_for_positions():
    with pytest.raises(ValueError, match=r"mutable must hold each position once; got \[1, 0, 1"):
        ThreatModel(mutable=[1, 0, 1]).resolve(3)
    with pytest.raises(ValueError, match="each position once"):
        ThreatModel(mutable=[2, -1]).resolve(3)


def test_nothing_mutable():
    budget = ThreatModel(mutable=[]).resolve(3)
    np.testing.assert_array_equal(budget.scale, 0)
    np.testing.assert_array_equal(budget.size(np.array([[0.0, 0, 0], [1, 0, 0]])), [0, np.inf])


def test_scalars_and_vectors():
    budget = ThreatModel(bounds=(0, [1, 2, 3]), feature_scale=[1, 2, 3]).resolve(3)
    np.testing.assert_array_equal(budget.lower, 0)
    np.testing.assert_array_equal(budget.upper, budget.scale)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"norm": 3}, ValueError, "norm must be 1, 2 or inf; got 3"),
        ({"norm": "l3"}, ValueError, "norm must be 1, 2 or inf; got 'l3'"),
        ({"eps": -1}, ValueError, "eps must be finite and >= 0; got -1"),
        ({"eps": np.nan}, ValueError, "eps must be finite"),
        ({"feature_scale": [1, 2]}, ValueError, r"feature_scale must have shape \(3,\)"),
        (
            {"feature_scale": [1, 0, 1]},
            ValueError,
            "feature_scale must lie between 1e-100 and",
        ),
        ({"feature_scale": [1, np.inf, 1]}, ValueError, "feature_scale must lie between"),
        ({"feature_scale": {"height": 1}}, ValueError, "'height', which is not among"),
        ({"mutable": [True, False]}, ValueError, r"mutable as a mask must have shape \(3,\)"),
        ({"mutable": [3]}, ValueError, "positions below 3"),
        ({"mutable": [0.5]}, TypeError, "mask, positions or names"),
        ({"mutable": ["height"]}, ValueError, "'height', which is not among"),
        ({"bounds": (1, 0)}, ValueError, "lower <= upper"),
        ({"bounds": (np.nan, 0)}, ValueError, "lower <= upper"),
        ({"bounds": (0, [1, 2])}, ValueError, r"bounds\[1\] must have shape \(3,\)"),
        ({"bounds": (0, 1, 2)}, ValueError, "pair"),
        ({"bounds": {"height": (0, 1)}}, ValueError, "'height', which is not among"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        ThreatModel(**parameters).resolve(3, NAMES)


def test_names_need_a_data_frame_and_points_lie_inside_their_bounds():
    with pytest.raises(ValueError, match="the data have no feature names"):
        ThreatModel(mutable=["age"]).resolve(3)
    X = pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=NAMES)
    knn = KNeighborsClassifier(1).fit(X, [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"X\[0, 1\] is 1.0, outside \[2.0, 9.0\]"):
        certify_nearest_neighbors(
            knn, X, [0, 0, 1, 1], threat_model=ThreatModel(bounds={"income": (2, 9)})
        )
    everything = certify_nearest_neighbors(knn, X, [0, 0, 1, 1]).radius
    some = certify_nearest_neighbors(
        knn, X, [0, 0, 1, 1], threat_model=ThreatModel(mutable=["sex", "age"])
    ).radius
    assert (some > everything).all()


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_size_of_a_row_does_not_depend_on_its_batch(norm):
    """Not in the last bit: else a point that was projected alone breaks the model in company."""
    deltas = np.random.default_rng(0).standard_normal((300, 31))
    for mutable in (None, np.arange(31) != 4):
        budget = ThreatModel(norm, mutable=mutable).resolve(31, None)
        moved = deltas if mutable is None else deltas * mutable
        together = budget.size(moved)
        alone = [budget.size(row[None])[0] for row in moved]
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(budget.size(np.asfortranarray(moved)), together)
        np.testing.assert_array_equal(budget.size(moved[::-1])[::-1], together)


def test_a_series_leaves_out_what_cannot_move():
    """As the deviations of a frame do: text has none, whether the pipeline drops it or not."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    numbers = list(X.columns)
    frame = X.assign(word="x")[["word", *numbers[::-1]]]
    scaled = ColumnTransformer([("numbers", StandardScaler(), numbers)])
    model = make_pipeline(scaled, KNeighborsClassifier(1)).fit(frame[::2], y[::2])
    deviation = frame.std(numeric_only=True)
    upper = frame.max(numeric_only=True) + 1.0
    by_name = ThreatModel("inf", 0.5, feature_scale=deviation, bounds=(-upper, upper))
    plain = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X[::2], y[::2])
    expected = certify(plain, X[1::20], y[1::20], threat_model=by_name).radius
    for some in (frame, frame.drop(columns="word"), X.assign(other="y")):
        found = certify(model, some[1::20], y[1::20], threat_model=by_name)
        np.testing.assert_allclose(found.radius, expected)
        PGD(threat_model=by_name, max_iter=2).run(model, some[1::20], y[1::20])
    short = ThreatModel(feature_scale=deviation.drop("petal length (cm)"))
    with pytest.raises(ValueError, match=r"'petal length \(cm\)' is in one .* feature_scale.to_d"):
        certify(model, frame[1::20], y[1::20], threat_model=short)
