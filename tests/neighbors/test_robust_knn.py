"""The k-NN classifier that carries its proof."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skrobust import ThreatModel, certify
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.neighbors import RobustKNeighborsClassifier
from skrobust.scorers import certified_accuracy_scorer

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("n_neighbors", [1, 3, 4])
def test_predicts_and_certifies_as_the_plain_classifier_does(n_neighbors):
    plain = KNeighborsClassifier(n_neighbors).fit(X[::2], Y[::2])
    robust = RobustKNeighborsClassifier(n_neighbors).fit(X[::2], Y[::2])
    rest, y = X[1::2], Y[1::2]
    np.testing.assert_array_equal(robust.predict(rest), plain.predict(rest))
    expected = certify(plain, rest, y)  # the same call is the same proof
    assert expected.bound == ("interval" if n_neighbors == 1 else "lower")
    assert robust.certify(rest, y).method == expected.method
    np.testing.assert_array_equal(robust.certify(rest, y).radius, expected.radius)
    np.testing.assert_array_equal(robust.certify(rest, y).status, expected.status)
    labels, radius = robust.predict_with_radius(rest)
    right = labels == y
    np.testing.assert_array_equal(radius[right], expected.radius[right])
    # a wrong prediction has a radius as a prediction, none as a right one
    assert (expected.radius[~right] == 0).all()
    assert (~right).any()
    assert (robust.certify(rest).status != "misclassified").all()


def test_threat_model_and_exact_method():
    threat = ThreatModel(np.inf, mutable=[2, 3])
    exact = RobustKNeighborsClassifier(1, threat_model=threat, method="exact").fit(X[::2], Y[::2])
    plain = KNeighborsClassifier(1).fit(X[::2], Y[::2])
    found = exact.certify(X[1::8], Y[1::8])
    expected = exact_nearest_neighbor_radius(plain, X[1::8], Y[1::8], threat_model=threat)
    np.testing.assert_array_equal(found.radius, expected.radius)
    assert found.bound == "interval"
    one_way = exact.certify(X[:100:8], Y[:100:8], target=2)
    assert one_way.target == 2
    anywhere = exact.certify(X[:100:8], Y[:100:8])
    assert (one_way.radius >= anywhere.radius * (1 - 1e-9)).all()


def test_abstains_below_the_radius():
    knn = RobustKNeighborsClassifier(3).fit(X[::2], Y[::2])
    labels, radius = knn.predict_with_radius(X[1::2])
    cut = float(np.median(radius))
    found = knn.predict_or_abstain(X[1::2], cut, abstain_label=-1)
    np.testing.assert_array_equal(found == -1, radius < cut)
    np.testing.assert_array_equal(found[radius >= cut], labels[radius >= cut])
    assert 0.2 < (found == -1).mean() < 0.8
    names = np.array(["setosa", "versicolor", "virginica"])
    text = RobustKNeighborsClassifier(3).fit(X[::2], names[Y[::2]])
    said = text.predict_or_abstain(X[1::2], cut, abstain_label="not sure about this")
    np.testing.assert_array_equal(said == "not sure about this", radius < cut)
    with pytest.raises(ValueError, match="abstain_label=1 must not be one of the classes"):
        knn.predict_or_abstain(X, 0.1, abstain_label=1)
    with pytest.raises(ValueError, match="abstain_label must be of the kind of the classes"):
        knn.predict_or_abstain(X, 0.1, abstain_label="unknown")
    with pytest.raises(ValueError, match="radius must be finite and >= 0; got -1"):
        knn.predict_or_abstain(X, -1, abstain_label=-1)


def test_in_a_pipeline_a_search_and_on_frames():
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(MinMaxScaler(), RobustKNeighborsClassifier())
    search = GridSearchCV(
        model,
        {"robustkneighborsclassifier__n_neighbors": [1, 5]},
        scoring=certified_accuracy_scorer(1e-4),
        cv=2,
    ).fit(frame, target)
    assert search.best_score_ > 0
    certificate = certify_nearest_neighbors(search, frame[:20], target[:20])
    assert (certificate.radius > 0).any()
    knn = RobustKNeighborsClassifier(1, method="exact").fit(frame, target)
    name, change = knn.certify(frame[:1]).explain(0)[0]
    assert name in frame.columns
    assert change != 0


def test_bad_input():
    with pytest.raises(NotFittedError):
        RobustKNeighborsClassifier().certify(X)
    with pytest.raises(NotFittedError):
        RobustKNeighborsClassifier().predict_with_radius(X)
    with pytest.raises(ValueError, match="'metric' parameter"):
        RobustKNeighborsClassifier(metric="cosine").fit(X, Y)
    with pytest.raises(ValueError, match="'method' parameter"):
        RobustKNeighborsClassifier(method="best").fit(X, Y)
    with pytest.raises(ValueError, match="metric='mahalanobis' needs metric_params="):
        RobustKNeighborsClassifier(metric="mahalanobis").fit(X, Y)
    with pytest.raises(ValueError, match="'threat_model' parameter"):
        RobustKNeighborsClassifier(threat_model=3).fit(X, Y)
    for params in ({"V": np.eye(4)}, {"VI": np.eye(4), "w": 1}):
        with pytest.raises(ValueError, match="metric='mahalanobis' needs metric_params="):
            RobustKNeighborsClassifier(metric="mahalanobis", metric_params=params).fit(X, Y)
    for inverse in (np.eye(3), np.eye(4).tolist()):
        with pytest.raises(ValueError, match=r"metric_params\['VI'\] must be an array of shape"):
            RobustKNeighborsClassifier(
                metric="mahalanobis", metric_params={"VI": inverse}, algorithm="brute"
            ).fit(X, Y)
    with pytest.raises(ValueError, match="metric_params must be None for metric='euclidean'"):
        RobustKNeighborsClassifier(metric_params={"VI": np.eye(4)}).fit(X, Y)
    with pytest.raises(ValueError, match="device='tpu'"):
        RobustKNeighborsClassifier(device="tpu").fit(X, Y)
    with pytest.raises(ValueError, match=r"y must have shape \(n_samples,\); got \(150, 2\)"):
        RobustKNeighborsClassifier().fit(X, np.column_stack([Y, Y]))
    M = np.diag([1.0, 4, 1, 1])
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples"):
        RobustKNeighborsClassifier(
            200, metric="mahalanobis", metric_params={"VI": M}, algorithm="brute"
        ).fit(X, Y).predict(X)


def test_mahalanobis_metric():
    M = np.diag([1.0, 4, 1, 1])
    knn = RobustKNeighborsClassifier(
        1, metric="mahalanobis", metric_params={"VI": M}, algorithm="brute"
    ).fit(X[::2], Y[::2])
    scaled = KNeighborsClassifier(1).fit(X[::2] * [1, 2, 1, 1], Y[::2])
    threat = ThreatModel(feature_scale=[1, 2, 1, 1])
    expected = certify(scaled, X[1::2] * [1, 2, 1, 1], Y[1::2], threat_model=threat)
    np.testing.assert_allclose(knn.certify(X[1::2], Y[1::2]).radius, expected.radius, rtol=1e-6)
    assert clone(knn).metric_params is not None
