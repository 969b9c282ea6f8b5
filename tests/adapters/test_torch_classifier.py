"""A torch module as a classifier of scikit-learn."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import load_digits
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dict_unchanged,
    check_no_attributes_set_in_init,
    check_set_params,
)

from skrobust import ThreatModel
from skrobust.adapters import NotDifferentiableError, TorchClassifier
from skrobust.attacks import (
    PGD,
    EmbeddingShift,
    HopSkipJump,
    MinimumNormAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.inspection import robustness_report


def network(n_inputs=4, n_outputs=3, seed=0, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.BatchNorm1d(n_inputs),
            torch.nn.Linear(n_inputs, 16),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(16, n_outputs),
        ).to(dtype)


def fresh(**params):
    params = {"max_iter": 40, "learning_rate": 0.02, "batch_size": 64, "random_state": 0} | params
    return TorchClassifier(params.pop("module", network()), **params)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def test_it_is_fitted_cloned_searched_and_scored(iris):
    X, y = iris
    names = np.array(["c", "a", "b"])[y]
    estimator = fresh()
    before = {k: v.clone() for k, v in estimator.module.state_dict().items()}
    fitted = clone(estimator).fit(X, names)
    assert is_classifier(fitted)
    assert fitted.score(X, names) > 0.9
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    for name, value in estimator.module.state_dict().items():
        assert torch.equal(value, before[name])
    np.testing.assert_array_equal(
        fitted.decision_function(X), fresh().fit(X, names).decision_function(X)
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    assert cross_val_score(estimator, X, y, cv=3).min() > 0.8
    search = GridSearchCV(estimator, {"learning_rate": [1e-9, 0.02]}, cv=3).fit(X, y)
    assert search.best_params_ == {"learning_rate": 0.02}
    given = fresh(classes=["c", "a", "b"]).fit(X, names)
    assert (given.predict(X) == names).mean() > 0.9


def test_training_leaves_the_global_generator_alone(iris):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fresh(max_iter=1).fit(*iris)
    assert torch.equal(torch.rand(2), expected)


def test_a_trained_module_predicts_at_once_and_stays_frozen(iris):
    X, y = iris
    trained = TorchClassifier(fresh().fit(X, y).module_, classes=range(3))
    frozen = FrozenEstimator(trained).fit(X[:3], y[:3])
    np.testing.assert_array_equal(frozen.predict(X), trained.predict(X))
    assert not hasattr(trained, "module_")


def test_it_is_smoothed_transferred_and_attacked(iris):
    X, y = iris
    X = StandardScaler().fit_transform(X)
    smoothed = RandomizedSmoothingClassifier(fresh(), sigma=0.2, n_samples=50, random_state=0)
    assert smoothed.fit(X, y).score(X[::5], y[::5]) > 0.8
    trained = TorchClassifier(fresh().fit(X, y).module_, classes=range(3))
    whole = RandomizedSmoothingClassifier(
        FrozenEstimator(trained), sigma=0.2, n_samples=50, random_state=0
    ).fit(X, y)
    assert whole.certify(X[::10], y[::10]).radius.max() > 0
    threat = ThreatModel(2, 0.8)
    knn = KNeighborsClassifier(5).fit(X, y)
    for surrogate in (trained, FrozenEstimator(trained)):
        attack = TransferAttack(surrogate=surrogate, threat_model=threat, random_state=0)
        assert attack.run(knn, X, y).success.mean() > 0.1
    learnt = TransferAttack(knn, surrogate=fresh(), threat_model=threat, random_state=0).fit(X, y)
    assert learnt.surrogate_.score(X, y) > 0.9
    behind = make_pipeline(StandardScaler(), fresh()).fit(X, y)
    assert PGD(threat_model=threat, random_state=0).run(behind, X, y).success.mean() > 0.1
    assert PGD(fresh(), threat_model=threat, random_state=0).fit(X, y).transform(X).shape == X.shape


def test_images_and_frames(iris):
    X, y = load_digits(return_X_y=True)
    X, y = X[:200] / 16, y[:200]
    flat = TorchClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        input_shape=(1, 8, 8),
        learning_rate=0.02,
        random_state=0,
    )
    images = clone(flat).set_params(input_shape=None).fit(X.reshape(-1, 1, 8, 8), y)
    np.testing.assert_array_equal(images.predict(X.reshape(-1, 1, 8, 8)), flat.fit(X, y).predict(X))
    frame = pd.DataFrame(iris[0], columns=list("abcd"))
    fitted = fresh(max_iter=3).fit(frame, iris[1])
    assert fitted.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[list("bacd")])


def test_checks_of_scikit_learn():
    """Those that fit the numbers of features and classes of a module."""
    check_no_attributes_set_in_init("TorchClassifier", fresh())
    check_set_params("TorchClassifier", fresh())
    check_dict_unchanged("TorchClassifier", fresh(module=network(3, 3), max_iter=1))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"module": "net"}, ValueError, "module"),
        ({"module": network(4, 5)}, ValueError, "one score for each of the 3 classes; got 5"),
        ({"classes": [0, 1]}, ValueError, "y must hold labels of classes"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"learning_rate": 1e30}, ValueError, "smaller learning_rate"),
    ],
)
def test_bad_parameters(iris, change, error, match):
    with pytest.raises(error, match=match):
        fresh().set_params(**change).fit(*iris)


def test_what_is_not_there_is_named(iris):
    with pytest.raises(NotFittedError, match="call fit, or give the classes"):
        fresh().predict(iris[0])
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module; got str"):
        TorchClassifier("net", [0, 1]).predict(iris[0])
    with pytest.raises(ValueError, match="one score for each of the 4 classes; got 3"):
        TorchClassifier(network(), range(4)).predict(iris[0])
    with pytest.raises(ValueError, match="two classes or more"):
        fresh().fit(iris[0], np.zeros(150))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_other_precision(iris, dtype):
    X, y = iris
    trained = fresh().fit(X, y).module_.to(dtype)
    victim = TorchClassifier(trained, range(3))
    assert victim.score(X, y) > 0.85
    attack = PGD(threat_model=ThreatModel(2, 1.0), max_iter=10, random_state=0)
    assert attack.run(victim, X, y).success.mean() > 0.2


class Left(torch.nn.Module):
    """A module whose outputs have no gradient by its inputs, for one reason or another."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, network()

    def forward(self, x):
        if self.how == "detach":
            x = x.detach()
        elif self.how == "numpy":
            x = torch.from_numpy(x.numpy().copy())
        elif self.how == "no_grad":
            with torch.no_grad():
                x = 2 * x
        elif self.how == "argmax":
            return torch.nn.functional.one_hot(self.layer(x).argmax(1), 3).float()
        return self.layer(x)


@pytest.mark.parametrize("how", ["detach", "numpy", "no_grad", "argmax"])
def test_a_module_without_gradients_is_named_before_any_work(iris, how):
    X = iris[0][::5]
    victim = TorchClassifier(Left(how), range(3))
    said = victim.predict(X)
    attacks = [PGD(), MinimumNormAttack(), WorstCase(), TransferAttack(surrogate=victim)]
    for attack in attacks:
        with pytest.raises(NotDifferentiableError, match="HopSkipJump"):
            attack.run(victim, X, said)

    class Embedding:
        module_ = Left(how)

        def transform(self, X):
            with torch.no_grad():
                return self.module_.eval()(torch.as_tensor(X, dtype=torch.float32)).numpy()

    with pytest.raises(NotDifferentiableError, match="gradient='nes'"):
        EmbeddingShift().run(Embedding(), X)
    report = robustness_report(
        victim, X, said, eps=0.5, attacks={"black box": HopSkipJump(max_iter=2, n_evaluations=5)}
    )
    assert not any("use APGD too" in finding.message for finding in report.health)


def test_the_report_goes_on_without_gradients(iris):
    X = iris[0][::10]
    victim = TorchClassifier(Left("detach"), range(3))
    report = robustness_report(victim, X, victim.predict(X), eps=0.5)
    assert "apgd" not in report.robust_accuracy
    assert any("no attack by gradients" in note for note in report.notes)


def test_every_part_keeps_its_own_mode(iris):
    X, _ = iris
    module = network()
    module.train()
    module[0].eval()
    modes = [part.training for part in module.modules()]
    victim = TorchClassifier(module, range(3))
    labels = victim.predict(X)
    PGD(threat_model=ThreatModel(2, 0.5), max_iter=2).run(victim, X, labels)
    assert [part.training for part in module.modules()] == modes


def test_a_module_that_works_in_place_changes_no_data(iris):
    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = network()

        def forward(self, x):
            return self.layer(x.mul_(2.0))

    X = iris[0].astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    victim = TorchClassifier(InPlace(), range(3))
    labels = victim.predict(X)
    found = PGD(threat_model=ThreatModel(2, 0.5), max_iter=3, random_state=0).run(victim, X, labels)
    np.testing.assert_array_equal(found.predicted, victim.predict(found.X_adv))
    np.testing.assert_array_equal(X, before)
    writeable = before.copy()
    np.testing.assert_array_equal(victim.predict(writeable), labels)
    np.testing.assert_array_equal(writeable, before)
