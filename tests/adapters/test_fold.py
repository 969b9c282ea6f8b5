"""Folding of pipelines into one nearest-neighbour rule."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from skrobust import RobustMahalanobis, ThreatModel, certify
from skrobust.adapters import (
    AffineFunction,
    AffineMap,
    NotAffineError,
    affine_map,
    as_nearest_neighbor_rule,
)
from skrobust.attacks import PGD
from skrobust.metric_learning import AdamSolver

X, Y = load_wine(return_X_y=True)


def double(X):
    return 2 * X - 1


STEPS = {
    "StandardScaler": StandardScaler(),
    "StandardScaler, no mean": StandardScaler(with_mean=False),
    "StandardScaler, no std": StandardScaler(with_std=False),
    "MinMaxScaler": MinMaxScaler((-1, 3)),
    "MaxAbsScaler": MaxAbsScaler(),
    "RobustScaler": RobustScaler(),
    "RobustScaler, no centering": RobustScaler(with_centering=False),
    "RobustScaler, no scaling": RobustScaler(with_scaling=False),
    "PCA": PCA(4),
    "PCA, whitened": PCA(4, whiten=True),
    "IncrementalPCA": IncrementalPCA(4),
    "TruncatedSVD": TruncatedSVD(4),
    "FastICA": FastICA(4, random_state=0, whiten="unit-variance"),
    "NCA": NeighborhoodComponentsAnalysis(3, max_iter=5, random_state=0),
    "LDA": LinearDiscriminantAnalysis(),
    "LDA, eigen": LinearDiscriminantAnalysis(solver="eigen", n_components=1),
    "SelectKBest": SelectKBest(k=5),
    "VarianceThreshold": VarianceThreshold(0.01),
    "GaussianRandomProjection": GaussianRandomProjection(4, random_state=0),
    "SparseRandomProjection": SparseRandomProjection(4, random_state=0),
    "passthrough": "passthrough",
    "FunctionTransformer": FunctionTransformer(),
    "declared": FunctionTransformer(AffineFunction(double)),
    "frozen": FrozenEstimator(StandardScaler().fit(X)),
    "nested": make_pipeline(StandardScaler(), PCA(5), PCA(3, whiten=True)),
    "union": FeatureUnion([("pca", PCA(2)), ("all", "passthrough"), ("no", "drop")]),
    "columns": ColumnTransformer(
        [("a", StandardScaler(), [3, 1]), ("b", "passthrough", slice(4, 7)), ("c", "drop", [0])],
        remainder=MinMaxScaler(),
    ),
    "columns twice": ColumnTransformer(
        [("a", "passthrough", [0, 0, 2]), ("b", StandardScaler(), [2, 5])]
    ),
    "union, dropped first": FeatureUnion([("no", "drop"), ("pca", PCA(2))]),
    "FastICA, not whitened": make_pipeline(
        PCA(4, whiten=True), FastICA(whiten=False, random_state=0)
    ),
    "RobustMahalanobis": RobustMahalanobis(
        4, init="pca", solver=AdamSolver(tol=0.1, n_iter_no_change=2), random_state=0
    ),
}


@pytest.mark.filterwarnings("ignore:FastICA did not converge")
@pytest.mark.parametrize(
    ("matrix", "offset"), [(np.ones(3), None), (np.eye(3), np.ones(2)), (np.eye(3), 1.0)]
)
def test_shapes_of_a_map(matrix, offset):
    with pytest.raises(ValueError, match=r"of shape \(n_outputs, n_inputs\) and offset"):
        AffineMap(matrix, offset)


class Nearest(ClassifierMixin, BaseEstimator):
    """A foreign classifier that is a nearest-neighbour rule."""

    def fit(self, X, y):
        self.knn_ = KNeighborsClassifier(1).fit(X, y)
        self.classes_ = self.knn_.classes_
        return self

    def predict(self, X):
        return self.knn_.predict(X)


def test_a_registered_rule_has_certificates_and_gradients():
    as_nearest_neighbor_rule.register(Nearest, lambda own: as_nearest_neighbor_rule(own.knn_))
    X, y = load_iris(return_X_y=True)
    own = make_pipeline(StandardScaler(), Nearest()).fit(X[::2], y[::2])
    knn = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X[::2], y[::2])
    attack = PGD(threat_model=ThreatModel(eps=1.0), max_iter=5, random_state=0)
    found, expected = (attack.run(one, X[1::2], y[1::2]) for one in (own, knn))
    np.testing.assert_array_equal(found.X_adv, expected.X_adv)
    radius = certify(own, X[1::2], y[1::2]).radius
    np.testing.assert_array_equal(radius, certify(knn, X[1::2], y[1::2]).radius)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("scaled", [False, True])
def test_the_folded_rule_predicts_what_the_pipeline_predicts(name, scaled):
    steps = [MaxAbsScaler(), STEPS[name]] if scaled else [STEPS[name]]
    model = make_pipeline(*steps, KNeighborsClassifier(5)).fit(X, Y)
    rule = as_nearest_neighbor_rule(model)
    rng = np.random.default_rng(0)
    points = X[rng.permutation(len(X))[:60]] + rng.standard_normal((60, X.shape[1])) * X.std(0) / 5
    np.testing.assert_array_equal(rule.predict(points), model.predict(points))
    # distances in the folded space are those of the pipeline's own embedding
    expected = model[:-1].transform(points)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    A = np.eye(X.shape[1]) if rule.matrix is None else rule.matrix
    b = expected[0] - A @ points[0]
    scale = 1e-9 * (1 + np.abs(A) @ np.abs(points).max(0))
    assert (np.abs(points @ A.T + b - expected) <= scale).all()
    # and the bound on the embedding's rounding holds against extended precision
    queries = rule.embed(points)
    error = rule.embedding_error(queries)
    exact = points.astype(np.longdouble)
    for step in rule.maps:
        exact = exact @ step.matrix.T.astype(np.longdouble) + step.offset
    assert (np.linalg.norm(queries.points - exact, axis=1) <= error + 1e-300).all()


@pytest.mark.parametrize(
    "step",
    [
        MinMaxScaler(clip=True),
        Normalizer(),
        PolynomialFeatures(2),
        QuantileTransformer(n_quantiles=20),
        FunctionTransformer(np.log1p),
        FunctionTransformer(AffineFunction(np.log1p)),
        FunctionTransformer(AffineFunction(np.abs)),
        ColumnTransformer([("bad", Normalizer(), [0, 1]), ("good", StandardScaler(), [2])]),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning")
def test_what_is_not_affine_is_named(step):
    model = Pipeline(
        [("scale", StandardScaler()), ("culprit", step), ("knn", KNeighborsClassifier())]
    )
    if isinstance(step, FunctionTransformer):
        model.set_params(scale=MinMaxScaler())
    model.fit(X, Y)
    with pytest.raises(NotAffineError, match="culprit") as caught:
        as_nearest_neighbor_rule(model)
    if isinstance(step, ColumnTransformer):
        assert "'bad'" in str(caught.value)


class Clipping(StandardScaler):
    """A subclass that does not keep its parent's promise."""

    def transform(self, X):
        return np.clip(super().transform(X), -3, 3)


class Vouching(Clipping):
    """One that says it does."""

    def _affine_map(self):
        return np.diag(1 / self.scale_), -self.mean_ / self.scale_


def test_a_subclass_that_is_not_affine_is_found():
    model = make_pipeline(Clipping(), KNeighborsClassifier()).fit(X, Y)
    with pytest.raises(NotAffineError, match=r"'clipping'.*overrides StandardScaler.transform"):
        as_nearest_neighbor_rule(model)
    model = make_pipeline(Vouching(), KNeighborsClassifier()).fit(X, Y)
    with pytest.raises(NotAffineError, match=r"'vouching'.*not the affine map"):
        as_nearest_neighbor_rule(model)


class Shift(TransformerMixin, BaseEstimator):
    """A transformer that nobody knows."""

    def fit(self, X, y=None):
        self.shift_ = np.mean(X, axis=0)
        return self

    def transform(self, X):
        return X - self.shift_


def test_a_new_step_can_be_registered():
    model = make_pipeline(Shift(), KNeighborsClassifier()).fit(X, Y)
    with pytest.raises(NotAffineError, match=r"'shift'.*affine_map\.register"):
        as_nearest_neighbor_rule(model)

    class Known(Shift):
        def _affine_map(self):
            return np.eye(len(self.shift_)), -self.shift_

    model = make_pipeline(Known(), KNeighborsClassifier()).fit(X, Y)
    np.testing.assert_array_equal(as_nearest_neighbor_rule(model).predict(X), model.predict(X))


@pytest.mark.parametrize("told", [None, "x", (np.eye(3),), (np.eye(2), np.zeros(2))])
def test_a_step_that_says_no_map_of_its_features(told):
    class Unclear(Shift):
        def fit(self, X, y=None):
            self.n_features_in_ = np.shape(X)[1]
            return super().fit(X)

        def _affine_map(self):
            return told

    model = make_pipeline(Unclear(), KNeighborsClassifier()).fit(X, Y)
    with pytest.raises(TypeError, match=r"_affine_map\(\) of Unclear must return a pair \(A, b\)"):
        as_nearest_neighbor_rule(model)


def test_columns_of_a_data_frame_by_name():
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    names = list(frame.columns)
    columns = ColumnTransformer(
        [
            ("text", StandardScaler(), names[3:1:-1]),
            ("mask", MinMaxScaler(), [name.endswith("error") for name in names]),
            ("call", "passthrough", lambda X: [X.columns[0]]),
            ("slice", PCA(2), slice(names[20], names[24])),
        ]
    )
    for output in ("default", "pandas"):
        model = make_pipeline(columns, StandardScaler(), KNeighborsClassifier(3))
        model.set_output(transform=output).fit(frame, target)
        rule = as_nearest_neighbor_rule(model)
        np.testing.assert_array_equal(rule.predict(frame[:100]), model.predict(frame[:100]))
        # columns are found by name
        shuffled = frame[names[::-1]][:50]
        np.testing.assert_array_equal(rule.predict(shuffled), rule.predict(frame[:50]))


def test_text_columns_are_refused_clearly():
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": list("xyxy")})
    columns = ColumnTransformer([("n", StandardScaler(), ["a"]), ("c", OneHotEncoder(), ["b"])])
    model = make_pipeline(columns, KNeighborsClassifier(1)).fit(frame, [0, 0, 1, 1])
    with pytest.raises(NotAffineError, match=r"'c'.*OneHotEncoder"):
        as_nearest_neighbor_rule(model)


def with_metric(M, algorithm="brute"):
    return make_pipeline(
        StandardScaler(),
        KNeighborsClassifier(3, algorithm=algorithm, metric="mahalanobis", metric_params={"VI": M}),
    )


def test_mahalanobis_metric():
    data, target = load_iris(return_X_y=True)
    G = np.random.default_rng(0).standard_normal((4, 4))
    model = with_metric(G.T @ G).fit(data, target)
    rule = as_nearest_neighbor_rule(model)
    np.testing.assert_array_equal(rule.predict(data), model.predict(data))
    V = np.cov(data.T)
    by_covariance = KNeighborsClassifier(metric="mahalanobis", metric_params={"V": V})
    by_covariance.fit(data, target)
    rule = as_nearest_neighbor_rule(by_covariance)
    np.testing.assert_array_equal(rule.predict(data), by_covariance.predict(data))


@pytest.mark.parametrize("algorithm", ["brute", "ball_tree", "auto"])
def test_refuses_a_mahalanobis_matrix_that_rounding_can_make_negative(algorithm):
    data, target = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    G, skew = rng.standard_normal((1, 4)), rng.standard_normal((4, 4))
    Q = np.linalg.qr(skew)[0]
    for M in (G.T @ G, np.zeros((4, 4)), (Q * [1, 1, 1, 1e-15]) @ Q.T):
        model = with_metric((M + M.T) / 2, algorithm).fit(data, target)
        with pytest.raises(ValueError, match=r"positive definite.*as a step"):
            as_nearest_neighbor_rule(model)
    model = with_metric(np.eye(4) + 0.1 * np.triu(np.ones((4, 4)), 1), algorithm).fit(data, target)
    with pytest.raises(ValueError, match="must be symmetric"):
        as_nearest_neighbor_rule(model)


def needs_a_frame(X):
    return X[["a"]]


def test_failing_probes_are_told_and_dropped_text_is_no_matter():
    frame = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": list("xyxy")})
    drops = ColumnTransformer([("keep", StandardScaler(), ["a"])])
    model = make_pipeline(drops, KNeighborsClassifier(1)).fit(frame, [0, 0, 1, 1])
    rule = as_nearest_neighbor_rule(model)
    np.testing.assert_array_equal(rule.embed(frame).raw, [[0, 0], [1, 0], [2, 0], [3, 0]])
    with pytest.raises(ValueError, match="numeric in every column that is not dropped"):
        rule.embed(frame[["b", "a"]].set_axis(["a", "b"], axis=1))
    step = FunctionTransformer(AffineFunction(needs_a_frame))
    model = Pipeline([("culprit", step), ("knn", KNeighborsClassifier(1))])
    model.fit(frame[["a"]].rename(columns={"a": "a"}), [0, 0, 1, 1])
    del model[0].feature_names_in_
    with pytest.raises(NotAffineError, match=r"'culprit'.*fails on numeric probes"):
        as_nearest_neighbor_rule(model)


class Contrary(KNeighborsClassifier):
    """Predicts something else."""

    def predict(self, X):
        return self.classes_[0] + 0 * super().predict(X)


class ContraryPipeline(Pipeline):
    def predict(self, X):
        return 1 - super().predict(X)


def test_own_predictions_are_not_guessed():
    with pytest.raises(TypeError, match=r"Contrary overrides KNeighborsClassifier\.predict"):
        as_nearest_neighbor_rule(make_pipeline(Contrary()).fit(X, Y))
    with pytest.raises(TypeError, match=r"ContraryPipeline overrides Pipeline\.predict"):
        as_nearest_neighbor_rule(ContraryPipeline([("knn", KNeighborsClassifier())]).fit(X, Y))
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1]}, refit=False).fit(X, Y)
    with pytest.raises(ValueError, match="refit=False"):
        as_nearest_neighbor_rule(search)


def test_searches_and_frozen_estimators():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
        {"kneighborsclassifier__n_neighbors": [1, 7]},
    ).fit(X, Y)
    assert as_nearest_neighbor_rule(search).n_neighbors in (1, 7)
    assert as_nearest_neighbor_rule(FrozenEstimator(search.best_estimator_)).n_features_in == 13


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (KNeighborsClassifier(metric="manhattan"), ValueError, "metric='manhattan'"),
        (KNeighborsClassifier(p=1), ValueError, "p=1"),
        (KNeighborsClassifier(weights="distance"), ValueError, "weights='distance'"),
        (KNeighborsClassifier(weights=lambda d: d), ValueError, "weights="),
        (LogisticRegression(max_iter=10000), TypeError, "LogisticRegression is not a nearest"),
    ],
    ids=["metric", "p", "weights", "callable", "no k-NN"],
)
def test_unsupported_victims(model, error, message):
    data, target = load_iris(return_X_y=True)
    with pytest.raises(error, match=message):
        as_nearest_neighbor_rule(model.fit(data, target))


def test_more_unsupported_victims():
    from scipy import sparse

    with pytest.raises(ValueError, match="sparse"):
        as_nearest_neighbor_rule(KNeighborsClassifier().fit(sparse.csr_array(X), Y))
    with pytest.raises(ValueError, match="several outputs"):
        as_nearest_neighbor_rule(KNeighborsClassifier().fit(X, np.stack([Y, Y], 1)))
    with pytest.raises(ValueError, match="positive definite"):
        as_nearest_neighbor_rule(
            KNeighborsClassifier(
                algorithm="brute", metric="mahalanobis", metric_params={"VI": -np.eye(13)}
            ).fit(X, Y)
        )
    with pytest.raises(NotFittedError):
        as_nearest_neighbor_rule(KNeighborsClassifier())
    with pytest.raises(NotFittedError):
        as_nearest_neighbor_rule(make_pipeline(StandardScaler(), KNeighborsClassifier()))
    half_fitted = make_pipeline(StandardScaler(), KNeighborsClassifier().fit(X, Y))
    with pytest.raises(NotFittedError):
        as_nearest_neighbor_rule(half_fitted)
    with pytest.raises(NotAffineError, match="Normalizer is not known"):
        affine_map(Normalizer().fit(X))


@pytest.mark.parametrize(
    ("fitted", "now"),
    [
        ({}, {"metric": "manhattan"}),
        ({}, {"p": 1}),
        ({"metric_params": {"p": 2}}, {"p": 1}),
        (
            {"metric": "mahalanobis", "metric_params": {"VI": np.eye(13)}},
            {"metric_params": {"VI": np.diag(np.arange(1.0, 14.0))}},
        ),
    ],
    ids=["metric", "p", "p twice", "VI"],
)
@pytest.mark.filterwarnings("ignore:Parameter p is found")
def test_a_metric_that_was_set_after_fit_is_refused(fitted, now):
    """scikit-learn's brute predictions follow what is set now, those of trees what was fitted."""
    knn = KNeighborsClassifier(1, algorithm="brute", **fitted).fit(X, Y)
    if "metric_params" not in fitted or "VI" in fitted["metric_params"]:
        as_nearest_neighbor_rule(knn)
    with pytest.raises(ValueError, match="fitted with another metric"):
        as_nearest_neighbor_rule(knn.set_params(**now))


@pytest.mark.parametrize("scaler", [MinMaxScaler, StandardScaler])
def test_float16_is_refused(scaler):
    """Scalers compute in it: 200 and 203 of 1,000 are on either side of a boundary at 200."""
    line = np.array([[0.0], [100.0], [300.0], [1000.0]])
    model = make_pipeline(scaler(), KNeighborsClassifier(1)).fit(line, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="got float16"):
        as_nearest_neighbor_rule(model).embed(np.array([[203.0]], dtype=np.float16))
    half = make_pipeline(MinMaxScaler(), KNeighborsClassifier(1))
    with pytest.raises(NotAffineError, match="was fitted on float16"):
        as_nearest_neighbor_rule(half.fit(line.astype(np.float16), [0, 0, 1, 1]))


@pytest.mark.parametrize("frame", [False, True])
def test_functions_of_whole_numbers_do_not_wrap_around(frame):
    pixels = np.arange(0, 250, 10, dtype=np.uint8)[:, None]
    if frame:
        pixels = pd.DataFrame(pixels, columns=["grey"])
    double = FunctionTransformer(AffineFunction(lambda Z: 2 * Z))
    model = make_pipeline(double, KNeighborsClassifier(1)).fit(pixels, np.arange(25) > 12)
    assert model.predict(pixels).sum() == 12
    rule = as_nearest_neighbor_rule(model)
    np.testing.assert_array_equal(rule.embed(pixels).points[:, 0], 20.0 * np.arange(25))


def test_a_map_that_fails_at_the_size_of_the_data_is_found():
    capped = FunctionTransformer(AffineFunction(lambda Z: np.minimum(Z, 1e6)))
    line = np.array([[0.0], [2e6], [3e6]])
    model = make_pipeline(capped, KNeighborsClassifier(1)).fit(line, [0, 1, 1])
    rule = as_nearest_neighbor_rule(model)
    assert rule.embed([[5e5]]).points[0, 0] == 5e5
    with pytest.raises(NotAffineError, match=r"row 1 gets 1e\+06 .* in the place of 2.5e\+06"):
        rule.embed([[0.0], [2.5e6]])


def test_a_rule_of_float32_data_is_sent_in_float32_and_comes_back_as_it_was():
    points = np.random.default_rng(0).standard_normal((200, 30))
    for X in (points, points.astype(np.float32)):
        rule = as_nearest_neighbor_rule(KNeighborsClassifier(1).fit(X, np.arange(200) % 2))
        queries = rule.embed(X[:50])
        for thing in (rule, queries):
            data = pickle.dumps(thing)
            again = pickle.loads(data)
            assert again.points.dtype == np.float64
            np.testing.assert_array_equal(again.points, thing.points)
        assert (len(pickle.dumps(rule)) < 0.7 * rule.points.nbytes) == (X.dtype == np.float32)


def test_a_registered_map_has_to_be_one():
    class Odd(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = np.shape(X)[1]
            return self

        def transform(self, X):
            return X

    affine_map.register(Odd)(lambda step: np.eye(2))
    X = np.random.default_rng(0).standard_normal((20, 2))
    model = make_pipeline(Odd(), KNeighborsClassifier(1)).fit(X, np.arange(20) % 2)
    with pytest.raises(TypeError, match=r"must return an AffineMap, .*; got ndarray"):
        as_nearest_neighbor_rule(model)
