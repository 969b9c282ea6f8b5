"""What is certified is what an object does: overrides, maps that end, state that changed."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_data import load_digits
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import (
    BallTree,
    KDTree,
    KNeighborsClassifier,
    NearestCentroid,
    NearestNeighbors,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, RobustScaler, StandardScaler

from examples import examples
from skrobust import AdversarialClustering, RobustMahalanobis, ThreatModel, certify
from skrobust.adapters import AffineFunction, NotAffineError, affine_map, as_nearest_neighbor_rule
from skrobust.certificates import (
    CenterSmoothing,
    RandomizedSmoothingClassifier,
    SoundnessError,
    certify_nearest_neighbors,
    certify_retrieval,
    exact_nearest_neighbor_radius,
)
from skrobust.certificates.nearest_neighbor._exact_1nn import ExactRadii
from skrobust.deep import AdversarialDeepMetric, LipschitzMLP
from skrobust.deep.lipschitz._bound import LayerBound, layer_bound
from skrobust.inspection import robustness_report
from skrobust.neighbors import (
    AdversarialPruning,
    RobustKNeighborsClassifier,
    RobustPrototypeClassifier,
    WilsonEditing,
)
from skrobust.utils._guard import is_exactly_known

X, Y = load_iris(return_X_y=True)
X_BINARY, Y_BINARY = X[50:], Y[50:]


def deep():
    return AdversarialDeepMetric(
        LipschitzMLP, lipschitz="orthogonal", embedding_dim=3, max_iter=1, random_state=0
    )


# estimator, and the methods of which each decides about its predictions
CLASSIFIERS = {
    "knn": (lambda: KNeighborsClassifier(1), ["predict", "predict_proba", "kneighbors"]),
    "robust knn": (lambda: RobustKNeighborsClassifier(1), ["predict", "predict_proba"]),
    "centroid": (NearestCentroid, ["predict"]),
    "kmeans": (lambda: KMeans(3, n_init=1, random_state=0), ["predict"]),
    "wilson": (lambda: WilsonEditing(KNeighborsClassifier(1)), ["predict"]),
    "pruning": (lambda: AdversarialPruning(KNeighborsClassifier(1), radius=0.1), ["predict"]),
    "prototypes": (lambda: RobustPrototypeClassifier(3, max_iter=1), ["predict"]),
    "clustering": (
        lambda: AdversarialClustering(n_clusters=3, random_state=0),
        ["predict", "_embed"],
    ),
    "pipeline": (lambda: make_pipeline(StandardScaler(), KNeighborsClassifier(1)), ["predict"]),
    "search": (lambda: GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1]}), ["predict"]),
    "frozen": (lambda: FrozenEstimator(KNeighborsClassifier(1).fit(X, Y)), ["predict"]),
}
CASES = [(name, method) for name, (_, methods) in CLASSIFIERS.items() for method in methods]


def fitted(name):
    made = CLASSIFIERS[name][0]()
    if isinstance(made, RobustPrototypeClassifier):
        made.set_params(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made.fit(X, Y)


def with_methods(estimator, **methods):
    """Make an object one of a subclass of its class."""
    cls = type(estimator)
    estimator.__class__ = type(f"Own{cls.__name__}", (cls,), {"__module__": __name__, **methods})
    return estimator


def wrapped(estimator, how):
    return {
        "alone": lambda e: e,
        "pipeline": lambda e: make_pipeline("passthrough", e),
        "frozen": FrozenEstimator,
        "pipelines": lambda e: make_pipeline(make_pipeline("passthrough"), make_pipeline(e)),
    }[how](estimator)


@pytest.mark.parametrize("how", ["alone", "pipeline", "frozen", "pipelines"])
@pytest.mark.parametrize(("name", "method"), CASES)
@pytest.mark.parametrize("where", ["subclass", "instance"])
def test_what_replaces_a_method_is_not_certified_as_its_parent(name, method, where, how):
    estimator = fitted(name)

    def other(self, *args, **kwargs):
        raise AssertionError("nothing is known of this")

    if where == "subclass":
        with_methods(estimator, **{method: other})
    else:
        setattr(estimator, method, other)
    with pytest.raises(TypeError, match=rf"overrides .*\.{method}, so nothing is known"):
        certify(wrapped(estimator, how), X[:5])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_adds_methods_or_fits_in_its_own_way_is_its_parent(name):
    expected = certify(fitted(name), X[:5])
    own = {"explain_it": lambda self: 1, "fit": lambda self, X, y=None: self, "score": len}
    found = certify(with_methods(fitted(name), **own), X[:5])
    np.testing.assert_array_equal(found.radius, expected.radius)


STEPS = {
    "standard": StandardScaler,
    "minmax": MinMaxScaler,
    "pca": lambda: PCA(2),
    "select": lambda: SelectKBest(k=2),
    "metric": lambda: RobustMahalanobis(max_iter=2, random_state=0),
    "function": lambda: FunctionTransformer(AffineFunction(np.negative)),
    "pipeline": lambda: make_pipeline(StandardScaler()),
    "frozen": lambda: FrozenEstimator(StandardScaler().fit(X)),
    "deep": deep,
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("where", ["subclass", "instance"])
def test_a_step_that_replaces_transform_is_unknown(name, where):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = X.astype(np.float32) if name == "deep" else X
        model = make_pipeline(STEPS[name](), KNeighborsClassifier(1)).fit(data, Y)

    def other(self, X):
        return np.clip(type(step).__mro__[1].transform(self, X), -1e9, 1e9)

    step = model[0]
    if where == "subclass":
        with_methods(step, transform=other)
    else:
        inner = step.transform
        step.transform = lambda X: np.clip(inner(X), -1e9, 1e9)
    with pytest.raises((TypeError, NotAffineError), match=r"overrides .*\.transform"):
        certify(model, data[:5])


def test_what_says_what_it_is_is_known():
    class Doubled(StandardScaler):
        def transform(self, X):
            return 2 * super().transform(X)

        def _affine_map(self):
            return 2 * np.diag(1 / self.scale_), -2 * self.mean_ / self.scale_

    class Nearest(KNeighborsClassifier):
        def predict(self, X):
            return KNeighborsClassifier(1).fit(self._fit_X, self.classes_[self._y]).predict(X)

        def _as_nearest_neighbor_rule(self):
            return as_nearest_neighbor_rule(
                KNeighborsClassifier(1).fit(self._fit_X, self.classes_[self._y])
            )

    model = make_pipeline(Doubled(), Nearest()).fit(X, Y)
    plain = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(X, Y)
    radius = [certify(one, X[:20]).radius for one in (model, plain)]
    np.testing.assert_allclose(*radius, rtol=1e-6)
    assert not is_exactly_known(model)
    assert is_exactly_known(plain)
    assert is_exactly_known(GridSearchCV(plain, {"kneighborsclassifier__n_neighbors": [1]}))


def test_smoothed_estimators_that_predict_in_their_own_way():
    class Own(RandomizedSmoothingClassifier):
        def predict(self, X):
            return 0 * super().predict(X)

    class OwnCenter(CenterSmoothing):
        def transform(self, X):
            return 0 * super().transform(X)

    model = Own(KNeighborsClassifier(1), n_samples=50, random_state=0).fit(X, Y)
    with pytest.raises(TypeError, match=r"overrides RandomizedSmoothingClassifier\.predict"):
        certify(model, X[:3], Y[:3])
    center = OwnCenter(PCA(2), n_samples=20, n_certify=50, random_state=0)
    with pytest.raises(TypeError, match=r"overrides CenterSmoothing\.transform"):
        certify(make_pipeline(center, KNeighborsClassifier(1)).fit(X, Y), X[:3])
    with pytest.raises(TypeError, match=r"overrides CenterSmoothing\.transform"):
        certify_retrieval(center.fit(X), X[:60], Y[:60])


# predictions


class Liar(BaseEstimator):
    """Says that it is 1-NN; predicts 1 − y where a feature is beyond a limit."""

    def __init__(self, limit):
        self.limit = limit

    def fit(self, X, y):
        self.inner_ = KNeighborsClassifier(1).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        found = self.inner_.predict(X)
        beyond = np.asarray(X)[:, 0] > self.limit
        return np.where(beyond, self.classes_[0] + self.classes_[-1] - found, found)

    def _as_nearest_neighbor_rule(self):
        return as_nearest_neighbor_rule(self.inner_)


@pytest.mark.parametrize("prove", [certify_nearest_neighbors, exact_nearest_neighbor_radius])
def test_predictions_are_compared_with_the_rule_on_every_row(prove):
    model = Liar(np.sort(X_BINARY[:, 0])[-2]).fit(X_BINARY, Y_BINARY)  # one row is beyond
    with pytest.raises((ValueError, SoundnessError), match=r"does not predict|changes its"):
        prove(model, X_BINARY, Y_BINARY)


@given(limit=st.floats(0.05, 0.95), seed=st.integers(0, 100))
@examples(10)
def test_no_liar_is_certified_beyond_what_it_predicts(limit, seed):
    rng = np.random.default_rng(seed)
    X = np.r_[rng.normal(0, 1, (30, 1)), rng.normal(6, 1, (30, 1))]
    y = np.repeat([0, 1], 30)
    # between the clean points of class 0 and the border: clean predictions tell nothing
    border = (X[y == 0].max() + X[y == 1].min()) / 2
    model = Liar(X[y == 0].max() + limit * (border - X[y == 0].max())).fit(X[y == 0], y[y == 0])
    model.inner_.fit(X, y)
    model.classes_ = np.array([0, 1])
    with pytest.raises((ValueError, SoundnessError), match=r"does not predict|changes its"):
        certify(model, X[y == 0], y[y == 0], method="fast")


# maps


class Clip(TransformerMixin, BaseEstimator):
    """Says that it passes X on."""

    def __init__(self, limit=3.0):
        self.limit = limit

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X):
        return np.clip(X, -self.limit, self.limit)

    def _affine_map(self):
        return np.eye(self.n_features_in_), np.zeros(self.n_features_in_)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e7])
@pytest.mark.parametrize("behind", [[], [PCA(3)]], ids=["first", "behind PCA"])
def test_a_map_that_ends_inside_a_certified_region_is_found(norm, unit, behind):
    rng = np.random.default_rng(0)
    data = unit * np.r_[rng.normal(0, 1, (40, 4)), rng.normal([9, 0, 0, 0], 1, (40, 4))]
    y = np.repeat([0, 1], 40)
    front = Pipeline([*((f"s{k}", step) for k, step in enumerate(behind)), ("end", "passthrough")])
    inputs = front.fit_transform(data) if behind else data
    clip = np.abs(inputs).max() * 1.05  # no training point, no query is beyond

    def beyond(x):
        return np.where(np.abs(x) > clip, np.sign(x) * clip, x)

    class Ends(Clip):
        def transform(self, X):
            return beyond(X)

    model = make_pipeline(*behind, Ends(), KNeighborsClassifier(1)).fit(data, y)
    with pytest.raises(NotAffineError, match=r"Ends|ends"):
        certify(model, data, y, threat_model=ThreatModel(norm), method="fast")


def test_a_clip_beyond_three_sigma_is_found():
    model = make_pipeline(StandardScaler(), FunctionTransformer(AffineFunction(Beyond(3.5))))
    model = make_pipeline(model, KNeighborsClassifier(1)).fit(X, Y)
    with pytest.raises(NotAffineError):
        certify(model, X, Y)


class Beyond:
    """Clips, but not the points of the probes."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, X):
        return X if len(X) in (1, 4, 12) else np.clip(X, -self.limit, self.limit)


def test_retrieval_and_networks_try_their_steps_too():
    data = (X - X.mean(axis=0)) / X.std(axis=0)
    with pytest.raises(NotAffineError, match="Clip"):
        certify_retrieval(Pipeline([("c", Far(1.01 * np.abs(data).max()))]).fit(data), data, Y)


class Far(Clip):
    def transform(self, X):
        # as affine as it says where probes are, far from the data
        ends = np.abs(X) < 25
        return np.where(ends, np.clip(X, -self.limit, self.limit), X) if len(X) > 12 else X


# state


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
def test_points_that_were_changed_in_place(algorithm):
    for dtype in (np.float32, np.float64):
        data = np.array(X, dtype=dtype)
        knn = KNeighborsClassifier(1, algorithm=algorithm).fit(data, Y)
        certify(knn, X[:5])
        data *= 100  # scikit-learn keeps the array, and a tree its nodes
        with pytest.raises(ValueError, match="changed in place after fit"):
            certify(knn, X[:5] * 100)


@pytest.mark.parametrize(
    "given",
    [
        lambda: NearestNeighbors(metric="manhattan", algorithm="kd_tree").fit(X),
        lambda: NearestNeighbors(metric="chebyshev", algorithm="ball_tree").fit(X),
        lambda: KDTree(X, metric="manhattan"),
        lambda: BallTree(X, metric="chebyshev"),
    ],
)
def test_trees_of_another_metric(given):
    knn = KNeighborsClassifier(1).fit(given(), Y)
    with pytest.raises(ValueError, match="search tree with another metric"):
        as_nearest_neighbor_rule(knn)


@pytest.mark.parametrize("given", [KDTree, BallTree, lambda X: NearestNeighbors().fit(X)])
def test_trees_of_the_same_metric(given):
    knn = KNeighborsClassifier(1).fit(given(X), Y)
    plain = KNeighborsClassifier(1).fit(X, Y)
    expected = certify(plain, X[:9])
    np.testing.assert_allclose(certify(knn, X[:9]).radius, expected.radius)


@pytest.mark.parametrize("value", [0, -1, 2.0, None, "two"])
@pytest.mark.parametrize("how", ["alone", "pipeline"])
def test_numbers_of_neighbours_that_make_no_sense(value, how):
    knn = KNeighborsClassifier(3).fit(X, Y).set_params(n_neighbors=value)
    with pytest.raises(ValueError, match=r"n_neighbors of KNeighborsClassifier must be an integer"):
        certify(wrapped(knn, how), X[:5], Y[:5])


def test_other_attributes_that_make_no_sense():
    knn = KNeighborsClassifier(3).fit(X, Y)
    knn.classes_ = knn.classes_[::-1]
    with pytest.raises(ValueError, match=r"classes_ of .* must be sorted"):
        certify(knn, X[:5], Y[:5])
    knn.classes_ = np.array([0, 1])
    with pytest.raises(ValueError, match="do not fit together"):
        certify(knn, X[:5], Y[:5])


class Times(torch.nn.Module):
    s = 1.0

    def forward(self, x):
        return self.s * x


@layer_bound.register
def _(layer: Times, shape):
    return LayerBound(abs(layer.s), absolute=abs(layer.s), operations=1)


def test_the_bound_is_that_of_the_network_that_predicts():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), Times())
    metric = AdversarialDeepMetric(module, lipschitz="orthogonal", max_iter=1, random_state=0)
    model = make_pipeline(metric, KNeighborsClassifier(1)).fit(X, Y)
    before = model[0]._lipschitz_map().lipschitz
    next(m for m in model[0].module_.modules() if isinstance(m, Times)).s = 10.0
    assert model[0]._lipschitz_map().lipschitz == pytest.approx(10 * before)


# what the entries are about besides


def test_pipelines_of_nothing_pass_through():
    plain = certify(KNeighborsClassifier(1).fit(X, Y), X[:9])
    for front in (make_pipeline("passthrough"), make_pipeline(make_pipeline("passthrough"), None)):
        model = make_pipeline(front, KNeighborsClassifier(1)).fit(X, Y)
        np.testing.assert_array_equal(certify(model, X[:9]).radius, plain.radius)


class Moody(Liar):
    """Decides ties by the batch, as rounding may."""

    def _as_nearest_neighbor_rule(self):
        return as_nearest_neighbor_rule(self.inner_)

    def predict(self, X):
        found = self.inner_.predict(X)
        tie = np.asarray(X)[:, 0] == 0.5
        return np.where(tie, self.classes_[len(X) % 2], found)


@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("n", [4, 5])
def test_a_prediction_is_never_misclassified(method, n):
    model = Moody(0).fit(np.array([[0.0], [1.0]]), [0, 1])
    rows = np.array([[0.5], *([[0.1]] * (n - 1))])
    found = certify(model, rows, method=method)
    assert found.status[0] == "numerical_tie"
    assert (found.status[1:] != "misclassified").all()


class Steep(torch.nn.Module):
    """Says less than it does."""

    def forward(self, x):
        return torch.sin(1000 * x)


@layer_bound.register
def _(layer: Steep, shape):
    return LayerBound()


def test_networks_are_tried_too():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), Steep())
    metric = AdversarialDeepMetric(module, lipschitz="orthogonal", max_iter=1, random_state=0)
    model = make_pipeline(metric, KNeighborsClassifier(1)).fit(X, Y)
    with pytest.raises(ValueError, match="does not predict what is proved"):
        certify(model, X, Y)


def test_what_is_exactly_known_is_confirmed_by_a_sample(monkeypatch):
    asked = []
    inner = KNeighborsClassifier.predict

    def counted(self, X):
        asked.append(len(X))
        return inner(self, X)

    knn = KNeighborsClassifier(3).fit(X, Y)
    expected = certify(knn, X, Y, method="fast")
    monkeypatch.setattr(KNeighborsClassifier, "predict", counted)
    monkeypatch.setattr("skrobust.certificates._problem._ALL", 0)
    monkeypatch.setattr("skrobust.certificates._problem._FEWEST", 5)
    found = certify(knn, X, Y, method="fast")
    np.testing.assert_array_equal(found.status, expected.status)
    assert asked == [5 + (expected.radius == 0).sum(), 5]


def test_sides_that_cross_raise():
    radii = ExactRadii(
        np.array([1.0, 2.0]), np.array([1.0, 1.5]), np.zeros((2, 1)), np.array([0, 0])
    )
    with pytest.raises(SoundnessError, match="point 7 is proved up to 2"):
        radii.settle(np.array([3, 7]))
    with pytest.raises(ValueError, match="all different"):
        certify_retrieval(StandardScaler().fit(X), X, np.arange(150))


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_report_of_what_predicts_in_its_own_way(method):
    knn = KNeighborsClassifier(3).fit(X, Y)
    inner = getattr(KNeighborsClassifier, method)
    with_methods(knn, **{method: lambda self, X: inner(self, X)})
    report = robustness_report(knn, X[::10], Y[::10], eps=[0.1])
    assert report.certificate is None
    assert any(
        "no certificate" in n and f"overrides KNeighborsClassifier.{method}" in n
        for n in report.notes
    )


def test_affine_functions_of_unknown_values_are_tried():
    assert affine_map(FunctionTransformer(AffineFunction(np.negative)).fit(X)).matrix[0, 0] == -1
    scaler = RobustScaler().fit(X)
    scaler.scale_ = scaler.scale_ * 2  # what is there is what counts
    assert affine_map(scaler).matrix[0, 0] == pytest.approx(1 / scaler.scale_[0])


@pytest.mark.slow
def test_a_guard_finds_nothing_in_models_as_they_are():
    data, y = load_digits(return_X_y=True)
    for dtype in (np.float32, np.float64):
        for algorithm in ("brute", "kd_tree", "ball_tree"):
            for K in (1, 3):
                knn = KNeighborsClassifier(K, algorithm=algorithm)
                model = make_pipeline(StandardScaler(), PCA(10), knn)
                model.fit(data[:1000].astype(dtype), y[:1000])
                for norm in (1, 2, np.inf):
                    some = data[1000:1200].astype(dtype)
                    certify(model, some, threat_model=ThreatModel(norm), method="fast")


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_one_row_is_tried_as_many_are(n_rows):
    twice = FunctionTransformer(AffineFunction(partial(np.multiply, 2.0)))
    model = make_pipeline(twice, KNeighborsClassifier(1)).fit(X[::2], Y[::2])
    alone = [certify(model, X[[row]]).radius[0] for row in range(1, 1 + n_rows)]
    np.testing.assert_allclose(alone, certify(model, X[1 : 1 + n_rows]).radius, rtol=1e-6)
