import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import load_digits
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import skrobust.inspection._report as report_module
from skrobust import AdversarialDeepMetric, RobustMahalanobis, ThreatModel, certify
from skrobust.adapters import TorchClassifier
from skrobust.attacks import APGD, HopSkipJump, NoiseAttack, WorstCase
from skrobust.certificates import (
    RandomizedSmoothingClassifier,
    exact_nearest_neighbor_radius,
)
from skrobust.inspection import SoundnessError, robustness_report

FAST = {
    "apgd": APGD(max_iter=10, random_state=0),
    "hop": HopSkipJump(max_iter=3, n_evaluations=20, random_state=0),
    "noise": NoiseAttack(random_state=0, max_iter=5),
}


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, y


def flags(report):
    return {finding.name for finding in report.health if finding.flagged}


def check_sandwich(model, X, y, eps):
    report = robustness_report(model, X, y, eps=eps, random_state=0)
    exact = exact_nearest_neighbor_radius(model, X, y)
    truth = np.array([(exact.correct & (exact.upper > value)).mean() for value in report.eps])
    assert (report.certified <= truth).all()
    assert (truth <= report.worst + 1e-12).all()
    for curve in report.robust_accuracy.values():
        assert (report.worst <= curve + 1e-12).all()
        assert (curve <= report.clean_accuracy).all()
    np.testing.assert_allclose(report.robust_accuracy["nearest neighbors"], truth, atol=1e-12)
    assert report.healthy, str(report)
    return report


def sandwich_model():
    return make_pipeline(
        MinMaxScaler(), RobustMahalanobis(random_state=0, max_iter=5), KNeighborsClassifier(1)
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_certificate_exact_and_attacks_are_in_order():
    X, y = load_digits(return_X_y=True)
    model = sandwich_model().fit(X[:500], y[:500])
    report = check_sandwich(model, X[500:540], y[500:540], [1, 4, 8])
    frame = report.to_frame()
    assert list(frame.index) == [1, 4, 8]
    assert list(frame.columns)[-2:] == ["worst attack (upper bound)", "certified (lower bound)"]
    assert "MinMaxScaler → RobustMahalanobis → KNeighborsClassifier" in str(report)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_on_pendigits(load_shared):
    X, X_test, y, y_test = load_shared("pendigits")
    model = sandwich_model().fit(X[:2000], y[:2000])
    check_sandwich(model, X_test[:60], y_test[:60], [5, 10, 20, 40])


def test_the_page_holds_everything_and_needs_nothing(iris):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    attacks = {"<script>": FAST["apgd"], "noise": FAST["noise"]}
    report = robustness_report(knn, X[1::5], y[1::5], eps=[0.1, 0.4], attacks=attacks)
    page = report._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert page.count("<polyline") == 2
    for finding in report.health:
        assert finding.name in page


def test_an_unsound_certificate_is_found(iris, monkeypatch):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    certify = report_module.certify

    def too_large(*args, **kwargs):
        found = certify(*args, **kwargs)
        return dataclasses.replace(found, radius=found.radius * 1.01)

    monkeypatch.setattr(report_module, "certify", too_large)
    with pytest.raises(SoundnessError, match=r"is certified up to .* changed it by"):
        robustness_report(knn, X[1::5], y[1::5], eps=0.1)


def test_smoothed_classifiers_have_a_probabilistic_side(iris):
    X, y = iris
    smooth = RandomizedSmoothingClassifier(
        KNeighborsClassifier(5), sigma=0.3, n_samples=200, random_state=0
    ).fit(X[::2], y[::2])
    attacks = {"noise": NoiseAttack(random_state=0)}
    report = robustness_report(smooth, X[1::5], y[1::5], eps=[0.1, 0.3], attacks=attacks)
    assert set(report.certificate.status) <= {"probabilistic", "abstained", "misclassified"}
    assert any("probability 0.999" in note for note in report.notes)
    other = robustness_report(
        smooth, X[1::5], y[1::5], eps=0.1, attacks=attacks, threat_model=ThreatModel(np.inf)
    )
    assert other.certificate is None
    assert any("not the one that the noise was made for" in note for note in other.notes)


def test_a_probabilistic_radius_above_an_attack_is_noted_not_raised(iris, monkeypatch):
    X, y = iris
    smooth = RandomizedSmoothingClassifier(n_samples=100, random_state=0).fit(X[::2], y[::2])
    certify = report_module.certify

    def too_large(*args, **kwargs):
        found = certify(*args, **kwargs)
        return dataclasses.replace(found, radius=found.radius * 100)

    monkeypatch.setattr(report_module, "certify", too_large)
    attacks = {"noise": NoiseAttack(random_state=0)}
    report = robustness_report(smooth, X[1::5], y[1::5], eps=3.0, attacks=attacks)
    assert any("radii are above the perturbation" in note for note in report.notes)


def test_networks_with_a_bound_are_certified_in_the_report(iris):
    X, y = iris
    model = make_pipeline(
        AdversarialDeepMetric(lipschitz="orthogonal", max_iter=3, random_state=0),
        KNeighborsClassifier(1),
    ).fit(X[::2], y[::2])
    report = robustness_report(model, X[1::5], y[1::5], eps=[0.05, 0.2])
    assert "Lipschitz" in report.certificate.method
    assert (report.certified <= report.worst).all()


class Masked(torch.nn.Module):
    """A network behind a rounding of its input: its gradient is 0 everywhere."""

    def __init__(self, model):
        super().__init__()
        self.weights = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.tensor(W)) for W in model.coefs_]
        )
        self.biases = [torch.tensor(b) for b in model.intercepts_]

    def forward(self, x):
        x = torch.round(x * 50) / 50
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = (x if k == 0 else torch.relu(x)) @ W + b
        return x


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_masked_gradients_are_flagged(iris):
    X, y = iris
    network = MLPClassifier((16,), random_state=0, max_iter=500).fit(X, y)
    honest = robustness_report(network, X[::3], y[::3], eps=[0.2, 1.0], attacks=FAST)
    assert honest.healthy, str(honest)
    masked = TorchClassifier(Masked(network), network.classes_)
    report = robustness_report(masked, X[::3], y[::3], eps=[0.2, 1.0], attacks=FAST)
    assert {
        "zero gradients",
        "black box against white box",
        "robust accuracy reaches zero",
    } <= flags(report)
    assert report.certified is None
    assert any("no certificate" in note for note in report.notes)


class Random:
    """A defence by randomness: now and then it says something else."""

    def __init__(self, model):
        self.model, self.rng = model, np.random.default_rng(0)

    def predict(self, X):
        found = self.model.predict(X)
        changed = self.rng.random(len(found)) < 0.2
        return np.where(changed, (found + 1) % 3, found)


def test_random_predictions_are_flagged(iris):
    X, y = iris
    model = Random(LogisticRegression(max_iter=2000).fit(X, y))
    report = robustness_report(model, X, y, eps=0.1, attacks={"noise": FAST["noise"]})
    assert "randomness" in flags(report)


def test_a_classifier_without_gradients(iris):
    X, y = iris
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    report = robustness_report(tree, X[::4], y[::4], eps=[0.1, 0.5])
    assert set(report.results) == {"hop skip jump", "noise"}
    assert any("no attack by gradients" in note for note in report.notes)
    assert report.worst[1] < report.clean_accuracy


def test_threat_models_are_handed_on(iris):
    X, y = iris
    knn = KNeighborsClassifier(3).fit(X[::2], y[::2])
    threat = ThreatModel(np.inf, mutable=[2, 3], bounds=(0, 8))
    report = robustness_report(knn, X[1::6], y[1::6], eps=[0.2], threat_model=threat, attacks=FAST)
    for found in report.results.values():
        assert (found.X_adv[:, :2] == X[1::6, :2]).all()
    assert report.certified[0] <= report.worst[0]


def test_wrong_parameters(iris):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(ValueError, match="eps must be finite and >= 0; got -1"):
        robustness_report(knn, X, y, eps=[-1])
    with pytest.raises(TypeError, match="must be an attack"):
        robustness_report(knn, X, y, eps=0.1, attacks={"x": "pgd"})
    with pytest.raises(ValueError, match="at least one attack"):
        robustness_report(knn, X, y, eps=0.1, attacks={})


def test_an_evaluation_without_gradients_that_could_have_them_is_flagged(iris):
    X, y = iris
    model = LogisticRegression(max_iter=2000).fit(X, y)
    only = robustness_report(model, X[::5], y[::5], eps=0.3, attacks={"n": FAST["noise"]})
    assert flags(only) == {"attacks by gradients"}
    worst = robustness_report(model, X[::5], y[::5], eps=0.3, attacks={"w": WorstCase()})
    assert worst.healthy, str(worst)
    assert "zero_gradient" in worst.results["w"].diagnostics


@pytest.mark.filterwarnings("ignore:X has feature names, but")
def test_names_of_either_side_and_columns_of_text(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    threat = ThreatModel(mutable=["a", "c"])
    few = {"apgd": FAST["apgd"]}
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    report = robustness_report(knn, frame[1::6], y[1::6], eps=0.3, threat_model=threat, attacks=few)
    assert report.certified[0] <= report.worst[0]
    named = make_pipeline(
        make_column_transformer((StandardScaler(), list("abcd"))), KNeighborsClassifier(1)
    )
    frame["word"] = "x"
    report = robustness_report(
        named.fit(frame[::2], y[::2]), frame[1::6], y[1::6], eps=0.3, threat_model=threat
    )
    assert report.certified is not None  # the pipeline drops the word
    assert report.healthy, str(report)


def test_wrong_attacks_and_threat_models(iris):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X, y)
    with pytest.raises(TypeError, match="attacks must be a mapping"):
        robustness_report(knn, X, y, eps=0.1, attacks=[FAST["noise"]])
    with pytest.raises(ValueError, match="attacks must have names other than"):
        robustness_report(knn, X, y, eps=0.1, attacks={"clean": FAST["noise"]})
    with pytest.raises(TypeError, match="threat_model must be a ThreatModel or None; got 'l2'"):
        robustness_report(knn, X, y, eps=0.1, threat_model="l2")


def sides(finding):
    return finding.name, finding.mark


def test_what_could_not_be_checked_is_no_pass(iris):
    """No green tick without a check: no gradients, no black box, no right point, one class."""
    X, y = iris
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    report = robustness_report(tree, X[::6], y[::6], eps=0.3, attacks={"noise": FAST["noise"]})
    assert ("attacks by gradients", "--") in map(sides, report.health)
    assert "[--] attacks by gradients: None ran" in str(report)
    page = report.to_html()
    assert "✓ attacks by gradients" not in page
    assert "– attacks by gradients" in page

    model = LogisticRegression(max_iter=2000).fit(X, y)
    wrong = (model.predict(X[::6]) + 1) % 3
    for labels, rows in ((wrong, X[::6]), (y[:6], X[:6])):
        found = robustness_report(model, rows, labels, eps=0.3, attacks={"a": FAST["apgd"]})
        marks = dict(map(sides, found.health))
        assert marks["black box against white box"] == "--"
        assert marks["robust accuracy reaches zero"] == "--"
    found = robustness_report(model, X[::6], wrong, eps=0.3, attacks=FAST)
    assert dict(map(sides, found.health))["zero gradients"] == "--"


def test_columns_of_text_are_named(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd")).assign(job="clerk", day="Monday")
    model = make_pipeline(
        make_column_transformer((StandardScaler(), list("abcd"))), KNeighborsClassifier(3)
    ).fit(frame, y)
    report = robustness_report(model, frame[::9], y[::9], eps=0.3, attacks={"n": FAST["noise"]})
    assert any("'job', 'day'" in note for note in report.notes)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(1),
        KNeighborsClassifier(4),
        NearestCentroid(),
    ],
    ids=["1-NN", "4-NN", "centroid"],
)
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_the_lower_bound_is_what_certify_proves(model):
    X, y = load_digits(return_X_y=True)
    model = clone(model).fit(X[:300], y[:300])
    few = {"noise": NoiseAttack(random_state=0, max_iter=2)}
    report = robustness_report(model, X[300:340], y[300:340], eps=[4, 6, 8], attacks=few)
    proved = certify(model, X[300:340], y[300:340])
    assert report.certificate.method == proved.method
    np.testing.assert_array_equal(report.certificate.radius, proved.radius)
    np.testing.assert_array_equal(
        report.certified, [proved.certified(eps).mean() for eps in report.eps]
    )


def test_the_page_grows_down_with_budgets_and_names_its_axes(iris):
    X, y = iris
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    budgets = np.linspace(0.1, 0.9, 9)
    report = robustness_report(knn, X[1::9], y[1::9], eps=budgets, attacks={"n": FAST["noise"]})
    page = report.to_html()
    assert page.count("<th") == 1 + len(report.to_frame().columns)
    assert page.count("<tr>") == 1 + len(budgets)
    assert ">eps</text>" in page
    assert ">accuracy</text>" in page


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    "model", [MLPClassifier(max_iter=5), RidgeClassifier(), GaussianNB(), KNeighborsClassifier(1)]
)
def test_a_model_of_one_class_is_reported(model, sign):
    X = np.random.default_rng(0).standard_normal((20, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(model).fit(X, np.ones(20))
        if hasattr(model, "intercepts_"):
            model.intercepts_[-1][:] = 9.0 * sign
        found = robustness_report(model, X[:6], np.ones(6), eps=[0.1])
    assert found.worst.tolist() == [1.0]
