"""The estimator: scikit-learn's protocols, skorch's features, errors before training starts."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.samplers import MPerClassSampler
from shared_data import load_digits
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, LRScheduler, ProgressBar, TensorBoard
from torch import nn
from training import digits_metric as metric

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import EmbeddingShift
from skrobust.deep import (
    MLP,
    AdversarialStrategy,
    AdversarialTraining,
    ConvNet,
    EmbeddingShiftTraining,
    MDProp,
    branches_of,
)
from skrobust.scorers import robust_recall_scorer

X, y = load_digits(n_class=5, return_X_y=True)
X_train, y_train, X_test, y_test = X[::2], y[::2], X[1::2], y[1::2]
EPS = ThreatModel(np.inf, 1.0, bounds=(0.0, 16.0))


@pytest.fixture(scope="module")
def fitted():
    return metric(max_iter=4).fit(X_train, y_train)


def test_it_learns(fitted):
    Z = fitted.transform(X_test)
    assert Z.shape == (len(X_test), 64)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)
    assert fitted.score(X_test, y_test) > 0.95
    assert fitted.n_iter_ == len(fitted.loss_curve_) == len(fitted.history_) == 4
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


def test_a_row_is_embedded_alike_alone_and_with_others(fitted):
    together = fitted.transform(X_test[:130])
    alone = np.vstack([fitted.transform(row[None]) for row in X_test[:130:7]])
    np.testing.assert_array_equal(alone, together[::7])


@pytest.mark.parametrize("training", [None, MDProp(EPS), AdversarialTraining(EPS, max_iter=2)])
def test_the_same_seed_gives_the_same_weights_and_no_global_state_changes(training):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    one = metric(training=training, module__dropout=0.3, module=MLP, image_shape=None)
    first = one.fit(X_train, y_train).transform(X_test)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    np.testing.assert_array_equal(clone(one).fit(X_train, y_train).transform(X_test), first)
    other = clone(one).set_params(random_state=1).fit(X_train, y_train).transform(X_test)
    assert not np.array_equal(other, first)


def test_pairs(fitted):
    u, v = X_test[:6], X_test[6:12]
    expected = np.linalg.norm(fitted.transform(u) - fitted.transform(v), axis=1)
    np.testing.assert_allclose(fitted.pair_distance(u, v), expected, rtol=1e-5)
    np.testing.assert_allclose(fitted.pair_distance(np.stack([u, v], 1)), expected, rtol=1e-5)
    np.testing.assert_allclose(fitted.pair_score(u, v), -expected, rtol=1e-5)
    with pytest.raises(ValueError, match="same number of points"):
        fitted.pair_distance(u, v[:2])
    with pytest.raises(ValueError, match=r"\(n_pairs, 2, n_features\)"):
        fitted.pair_distance(u)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_types_of_input(dtype, fitted):
    own = metric(max_iter=4).fit(X_train.astype(dtype), y_train)
    np.testing.assert_array_equal(own.transform(X_test.astype(dtype)), fitted.transform(X_test))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 1)])
def test_shapes_of_images(shape, fitted):
    images = X_train.reshape(-1, *shape)
    own = metric(image_shape=None, max_iter=4).fit(images, y_train)
    assert isinstance(own.module_.backbone, ConvNet)
    np.testing.assert_array_equal(
        own.transform(X_test.reshape(-1, *shape)), fitted.transform(X_test)
    )
    with pytest.raises(ValueError, match=r"features|rows of shape"):
        own.transform(X_test[:, :32].reshape(-1, 4, 8))


def test_tables_get_a_perceptron_and_names_stay():
    frame = load_iris(as_frame=True)
    own = AdversarialDeepMetric(
        embedding_dim=3,
        max_iter=3,
        random_state=0,
        training=EmbeddingShiftTraining(
            ThreatModel(np.inf, 0.2, mutable=["petal length (cm)"]), max_iter=2
        ),
    ).set_output(transform="pandas")
    embedded = own.fit(frame.data, frame.target).transform(frame.data)
    assert isinstance(own.module_.backbone, MLP)
    assert list(embedded.columns) == [f"adversarialdeepmetric{i}" for i in range(3)]
    assert list(own.feature_names_in_) == list(frame.data.columns)
    with pytest.raises(ValueError, match="feature names"):
        own.transform(frame.data.rename(columns={"petal length (cm)": "other"}))


def test_without_the_norm():
    Z = metric(normalize=False).fit(X_train, y_train).transform(X_test)
    assert np.linalg.norm(Z, axis=1).std() > 0.01


@pytest.mark.parametrize("loss", ["proxy_anchor", "triplet", "contrastive", "arcface"])
def test_losses_by_name(loss):
    assert metric(loss=loss).fit(X_train, y_train).score(X_test, y_test) > 0.8


def test_losses_as_objects_and_classes():
    given = losses.ContrastiveLoss(neg_margin=0.3)
    own = metric(loss=given).fit(X_train, y_train)
    assert own.criterion_.loss is not given
    own = metric(loss=losses.ProxyAnchorLoss, loss__alpha=16).fit(X_train, y_train)
    assert own.criterion_.loss.proxies.shape == (5, 64)
    assert own.criterion_.loss.alpha == 16
    # proxies are learned with the network, at a rate of their own
    rate = [("*proxies", {"lr": 0.5})]
    fast = metric(loss="proxy_anchor", optimizer__param_groups=rate).fit(X_train, y_train)
    assert [g["highest_lr"] for g in fast.net_.optimizer_.param_groups] == [0.5, 2e-3]


class Own(nn.Module):
    """A network that names what it wants to know."""

    def __init__(self, input_shape, embedding_dim, width=4):
        super().__init__()
        self.seen = input_shape
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, width),
            nn.BatchNorm1d(width),
            nn.Linear(width, embedding_dim),
        )

    def forward(self, x):
        return self.layers(x)


def test_own_modules():
    own = metric(module=Own, module__width=6, embedding_dim=3).fit(X_train, y_train)
    assert own.module_.backbone.seen == (1, 8, 8)
    assert own.module_.backbone.layers[1].out_features == 6
    assert own.embedding_dim_ == 3
    given = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    before = given[1].weight.clone()
    own = metric(module=given).fit(X_train, y_train)
    assert own.embedding_dim_ == 5
    assert torch.equal(given[1].weight, before)  # the user's object is not trained
    assert clone(own).module is not given


def test_grid_search_over_module_and_training():
    search = GridSearchCV(
        metric(training=AdversarialTraining(EPS, max_iter=1), max_iter=1),
        {
            "module__channels": [(4, 8), (8,)],
            "training__max_iter": [1, 2],
            "training__threat_model__eps": [0.5],
        },
        cv=2,
        error_score="raise",
    ).fit(X_train[:200], y_train[:200])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.training_.threat_model.eps == 0.5
    assert set(search.best_params_) >= {"module__channels", "training__max_iter"}


def test_cross_validated_robust_recall():
    X, y = load_digits(return_X_y=True)
    wide = ThreatModel(np.inf, 3.0, bounds=(0.0, 16.0))
    attack = EmbeddingShift(threat_model=wide, max_iter=5, random_state=0)
    plain, robust = (
        cross_val_score(
            metric(training=training, max_iter=6),
            X[:900],
            y[:900],
            cv=2,
            scoring=robust_recall_scorer(attack),
            error_score="raise",
        ).mean()
        for training in (None, EmbeddingShiftTraining(wide, max_iter=3))
    )
    assert robust > plain + 0.1


def test_in_a_pipeline():
    pipe = make_pipeline(StandardScaler(), metric(), KNeighborsClassifier(1))
    pipe.set_params(adversarialdeepmetric__module__channels=(4, 8))
    assert pipe.fit(X_train, y_train).score(X_test, y_test) > 0.8
    blocks = pipe[1].module_.backbone.blocks
    assert blocks[0].out_channels == 4


def test_pickle_keeps_everything():
    own = metric(training=MDProp(EPS), n_iter_no_change=3, validation_fraction=0.2)
    own.fit(X_train, y_train)
    again = pickle.loads(pickle.dumps(own))
    np.testing.assert_array_equal(again.transform(X_test), own.transform(X_test))
    assert again.module_ is again.net_.module_
    assert again.history_ == own.history_
    again.partial_fit(X_train, y_train)
    assert again.n_iter_ == own.n_iter_ + 1


def test_partial_fit_goes_on():
    own = metric()
    for _ in range(3):
        own.partial_fit(X_train, y_train)
    assert own.n_iter_ == 3
    assert own.score(X_test, y_test) > 0.8
    first = own.transform(X_test)
    again = metric()
    for _ in range(3):
        again.partial_fit(X_train, y_train)
    np.testing.assert_array_equal(again.transform(X_test), first)


def weights(own):
    return torch.cat([p.detach().flatten() for p in own.module_.parameters()])


def test_partial_fit_goes_on_after_fit():
    own = metric().fit(X_train, y_train)
    before = weights(own)
    own.partial_fit(X_train, y_train)
    assert (weights(own) - before).abs().max() > 1e-3  # the end of the schedule is not its rate
    assert own.n_iter_ == 3


def test_partial_fit_after_classes_were_held_out():
    own = metric(loss="proxy_anchor", validation_fraction=0.4, validate_on="classes")
    own.fit(X_train, y_train)
    trained = np.flatnonzero(own._state.codes < 3)
    some = np.isin(y_train, trained)
    proxies = own.criterion_.loss.proxies.detach().clone()
    score = own.score(X_train[some], y_train[some])
    own.partial_fit(X_train[some], y_train[some])
    assert own.score(X_train[some], y_train[some]) >= score - 0.05
    now = own.criterion_.loss.proxies.detach()
    nearest = torch.nn.functional.cosine_similarity(proxies[:, None], now, dim=2).argmax(1)
    assert nearest.tolist() == [0, 1, 2]  # each proxy is still that of its class
    with pytest.raises(ValueError, match="classes that were held out for validation"):
        own.partial_fit(X_train, y_train)
    pairs = metric(validation_fraction=0.4, validate_on="classes").fit(X_train, y_train)
    pairs.partial_fit(X_train, y_train)  # no proxies, no matter


def test_bounds_of_the_data_grow_with_partial_fit():
    budget = ThreatModel(np.inf, 1.0, bounds="data")
    own = metric(training=AdversarialTraining(budget, max_iter=1)).partial_fit(X_train, y_train)
    own.partial_fit(1.5 * X_train, y_train)


def test_a_fit_that_fails_leaves_what_was_fitted(fitted):
    own = pickle.loads(pickle.dumps(fitted))
    expected = own.transform(X_test)
    for params, data in [
        ({}, X_train[:, :10]),
        ({"training": MDProp(ThreatModel(2, -1.0))}, X_train),
    ]:
        with pytest.raises(ValueError, match=r"image_shape=|eps must be finite"):
            own.set_params(**params).fit(data, y_train)
        np.testing.assert_array_equal(own.transform(X_test), expected)
        again = pickle.loads(pickle.dumps(own))
        np.testing.assert_array_equal(again.transform(X_test), expected)
    fresh = metric(training=MDProp(ThreatModel(2, -1.0)))
    with pytest.raises(ValueError, match="eps must be finite"):
        fresh.partial_fit(X_train, y_train)
    fresh.set_params(training=None).partial_fit(X_train, y_train)


def test_held_out_rows_are_not_in_the_statistics():
    own = metric(validation_fraction=0.4, validate_on="classes", image_shape=None)
    own.fit(X_train, y_train)
    trained = np.isin(y_train, np.flatnonzero(own._state.codes < 3))
    np.testing.assert_allclose(own.module_.mean, X_train[trained].mean(0), rtol=1e-5)


def test_the_fitted_module_is_in_evaluation_mode(fitted):
    assert not fitted.module_.training
    assert not any(part.training for part in fitted.module_.modules())


def test_fit_inside_no_grad_and_inference_mode(fitted):
    with torch.no_grad():
        own = metric(max_iter=4).fit(X_train, y_train)
    np.testing.assert_array_equal(own.transform(X_test), fitted.transform(X_test))
    with torch.inference_mode():
        own = metric(max_iter=4).fit(X_train, y_train)
    np.testing.assert_array_equal(own.transform(X_test), fitted.transform(X_test))


def test_samplers_of_the_library_are_reproducible():
    def sampler(labels):
        return MPerClassSampler(labels, 4, batch_size=20, length_before_new_iter=100)

    np.random.seed(3)  # noqa: NPY002
    one = metric(iterator_train__sampler=sampler, iterator_train__batch_size=20)
    first = one.fit(X_train, y_train).transform(X_test)
    expected = np.random.RandomState(3).rand(2)
    np.testing.assert_array_equal(np.random.rand(2), expected)  # noqa: NPY002
    np.testing.assert_array_equal(one.fit(X_train, y_train).transform(X_test), first)


def test_numbers_that_float32_cannot_tell_apart_warn():
    with pytest.warns(UserWarning, match="feature 0 of X has values up to"):
        AdversarialDeepMetric(max_iter=1).fit(X_train[:, 20:24] + 1.7e9, y_train)


class Fickle(nn.Module):
    """Wrong in training mode only."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.layers = kind, nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        z = self.layers(x)
        if not self.training:
            return z
        return (z, z) if self.kind == "tuple" else z * float("nan")


class Careless(AdversarialStrategy):
    """A strategy that forgets what it has to return."""

    def __init__(self, kind=None):
        super().__init__()
        self.kind = kind

    def loss(self, step):
        if self.kind is None:
            return super().loss(step)
        moved = step.attack(step.x, lambda z: z.square().sum(1), self)
        z = step.embed(moved)
        loss = step.criterion(z, step.y)
        return {
            "alone": loss,
            "twice": (loss, torch.cat([z, z])),
            "right": (loss, z),
            "number": (1.0, z),
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (None, r"Careless must have a method loss\(step\)"),
        ("alone", "must return the loss and an embedding"),
        ("twice", "embedding of each of the 125 rows; got 250"),
        ("number", r"must return a scalar tensor with gradients as the loss; got 1\.0"),
    ],
)
def test_strategies_of_ones_own(kind, match):
    with pytest.raises(ValueError, match=match):
        metric(training=Careless(kind)).fit(X_train, y_train)
    metric(training=Careless("right")).fit(X_train, y_train)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"module": Fickle, "module__kind": "tuple", "normalize": False}, "do not fit together"),
        ({"module": Fickle, "module__kind": "nan"}, "embeddings hold NaN"),
        ({"loss": nn.CrossEntropyLoss}, "do not fit together"),
        ({"loss": losses.ArcFaceLoss(2, 64)}, "num_classes=2, and the data have 5 classes"),
        ({"loss": losses.SoftTripleLoss, "loss__num_classes": 2}, "num_classes=2, and the data"),
    ],
)
def test_what_the_first_batch_shows(params, match):
    with pytest.raises(ValueError, match=match):
        metric(**params).fit(X_train, y_train)


def test_partial_fit_with_batches_of_some_classes():
    own = metric(loss="proxy_anchor")
    some = y_train < 3
    own.partial_fit(X_train[some], y_train[some], classes=np.arange(5))
    own.partial_fit(X_train[~some], y_train[~some])
    assert own.criterion_.loss.proxies.shape[0] == 5
    other = metric().partial_fit(X_train[some], y_train[some])
    with pytest.raises(ValueError, match=r"got \[3 4\], and the classes are \[0 1 2\]"):
        other.partial_fit(X_train[~some], y_train[~some])
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        other.partial_fit(X_train[some], y_train[some], classes=[0, 1])


class Counting(Callback):
    """Count epochs; fitted attributes only."""

    def __init__(self, more=0):
        self.more = more

    def on_train_begin(self, net, **kwargs):
        self.n_ = self.more

    def on_epoch_end(self, net, **kwargs):
        self.n_ += 1


def test_callbacks_of_skorch():
    given = Counting()
    own = metric(
        schedule=None,
        callbacks=[
            ("count", given),
            ("rate", LRScheduler(policy="StepLR", step_size=1, gamma=0.5)),
        ],
        callbacks__count__more=10,
    ).fit(X_train, y_train)
    assert dict(own.net_.callbacks_)["count"].n_ == 12
    assert not hasattr(given, "n_")  # the user's object is copied
    assert own.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(2e-3 / 4)


class Writer:
    """What a SummaryWriter of TensorBoard is asked for."""

    def __init__(self):
        self.seen = []

    def add_scalar(self, tag, scalar_value, global_step):
        self.seen.append((tag, global_step))

    def close(self):
        """Nothing."""


def test_tensorboard_and_progress_bar(capsys):
    own = metric(
        callbacks=[("board", TensorBoard(Writer())), ProgressBar()], validation_fraction=0.2
    ).fit(X_train, y_train)
    seen = dict(own.net_.callbacks_)["board"].writer.seen
    assert ("Loss/train_loss", 2) in seen
    assert any("valid_recall" in tag for tag, _ in seen)
    assert "%|" in "".join(capsys.readouterr())


def test_verbose_prints_a_line_an_epoch(capsys):
    metric(verbose=1, validation_fraction=0.2).fit(X_train, y_train)
    printed = capsys.readouterr().out
    assert "valid_recall" in printed
    assert "train_loss" in printed
    metric().fit(X_train, y_train)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("by", ["points", "classes"])
@pytest.mark.parametrize("loss", ["multi_similarity", "proxy_anchor"])
def test_validation_recall_is_recorded(by, loss):
    own = metric(validation_fraction=0.4, validate_on=by, loss=loss).fit(X_train, y_train)
    recalls = [row["valid_recall"] for row in own.history_]
    assert len(recalls) == 2
    assert all(0 <= recall <= 1 for recall in recalls)
    if loss == "proxy_anchor":
        assert own.criterion_.loss.proxies.shape[0] == (3 if by == "classes" else 5)
    assert list(own.classes_) == [0, 1, 2, 3, 4]


def test_early_stopping_keeps_the_best_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = metric(
            max_iter=40,
            schedule=None,
            learning_rate=0.03,
            validation_fraction=0.3,
            n_iter_no_change=2,
        ).fit(X_train, y_train)
    recalls = [row["valid_recall"] for row in own.history_]
    assert own.n_iter_ < 40
    assert recalls[-1] <= max(recalls[:-2])
    from skrobust.deep._batches import split_rows

    _, valid = split_rows(y_train, 0.3, "points", np.random.RandomState(own._state.seed))
    assert own.score(X_train[valid], y_train[valid]) == pytest.approx(max(recalls))


class Interrupt(Callback):
    """A user who presses the keys in the second epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_an_interrupt_keeps_what_there_is():
    with pytest.warns(UserWarning, match="interrupted after 1 whole epochs"):
        own = metric(max_iter=5, callbacks=[Interrupt()]).fit(X_train, y_train)
    assert own.n_iter_ == 1
    assert own.score(X_test, y_test) > 0.5


def test_samplers_and_loaders_of_the_user():
    from torch.utils.data import SubsetRandomSampler

    def sampler(labels):
        return SubsetRandomSampler(np.flatnonzero(labels < 2).tolist())

    own = metric(iterator_train__sampler=sampler, iterator_train__batch_size=32)
    own.fit(X_train, y_train)
    assert own.history_[0]["train_batch_count"] == -(-(y_train < 2).sum() // 32)


def test_branches_of_the_batch_norms():
    own = metric(training=MDProp(EPS)).fit(X_train, y_train)
    assert branches_of(own.module_) == ("single", "multi")
    clean, single = own.branch("clean"), own.branch("single")
    np.testing.assert_array_equal(clean.transform(X_test), own.transform(X_test))
    assert not np.array_equal(single.transform(X_test), own.transform(X_test))
    np.testing.assert_array_equal(clean.transform(X_test), own.transform(X_test))
    attack = EmbeddingShift(threat_model=EPS, max_iter=3, random_state=0)
    found = attack.run(single, X_test[:50])
    np.testing.assert_allclose(found.embedding, single.transform(X_test[:50]), rtol=1e-6)
    with pytest.raises(ValueError, match="branch must be one of"):
        own.branch("other")


def test_compiled_in_place():
    own = metric(compile=True, compile__backend="eager").fit(X_train, y_train)
    plain = metric().fit(X_train, y_train)
    assert list(own.module_.state_dict()) == list(plain.module_.state_dict())
    np.testing.assert_allclose(own.transform(X_test), plain.transform(X_test), atol=1e-4)


def test_mixed_precision_on_the_cpu():
    own = metric(precision="mixed", training=MDProp(EPS), max_iter=4).fit(X_train, y_train)
    assert own.score(X_test, y_test) > 0.9
    assert next(own.module_.parameters()).dtype == torch.float32


def test_a_training_that_breaks_down_in_its_first_epoch():
    own = metric(learning_rate=1e30, optimizer=torch.optim.SGD, schedule=None)
    match = r"broke down in epoch 1: .* in batch 2: backbone\.blocks\.0\.weight is not finite"
    with pytest.raises(ValueError, match=match):
        own.fit(X_train, y_train)


BAD = [
    ({"image_shape": (8, 9)}, ValueError, "image_shape="),
    ({"batch_size": 6}, ValueError, "batch_size=6 must hold samples_per_class=4"),
    ({"embedding_dim": 0}, ValueError, "'embedding_dim' parameter"),
    ({"loss": "tripplet"}, ValueError, "'loss' parameter"),
    ({"miner": "tough"}, ValueError, "'miner' parameter"),
    ({"training": "mdprop"}, ValueError, "'training' parameter"),
    ({"training": MDProp(ThreatModel(2, -1.0))}, ValueError, "eps must be finite"),
    ({"training": MDProp(EPS, n_targets=0)}, ValueError, "'n_targets' parameter"),
    ({"training": MDProp(ThreatModel(2, 1.0, bounds=(0, 1)))}, ValueError, "bounds must hold"),
    ({"device": "tpu"}, ValueError, "device='tpu' is not"),
    ({"validation_fraction": 1.0}, ValueError, "'validation_fraction' parameter"),
    ({"n_iter_no_change": 3}, ValueError, "needs rows to judge by"),
    ({"resume": True}, ValueError, "resume=True needs a checkpoint"),
    ({"checkpoint": "/nowhere/at/all"}, ValueError, "checkpoint must be a file in a folder"),
    ({"module": nn.Linear, "module__in_features": 3}, TypeError, "cannot be made with"),
    ({"module": lambda: 3}, TypeError, "must make a torch.nn.Module"),
    ({"module": nn.Linear(3, 2)}, ValueError, "module refused an input"),
    ({"module": nn.Identity()}, ValueError, r"shape \(n, embedding_dim\)"),
    (
        {"module": nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), "embedding_dim": 4},
        ValueError,
        r"shape \(n, 4\) for n rows; got \(2, 5\)",
    ),
    ({"module": Own, "module__widht": 3}, TypeError, "cannot be made with"),
    ({"module": nn.Flatten(), "module__width": 3}, TypeError, "need a class"),
    ({"module": nn.Flatten(), "training": MDProp(EPS)}, ValueError, "shared_batch_norm=True"),
    ({"accelerator": "yes"}, TypeError, "'accelerator' parameter"),
    ({"callbacks__foo": None}, ValueError, "callbacks__foo is of no callback"),
    ({"callbacks": [3]}, TypeError, "callbacks must hold callbacks of skorch"),
    ({"callbacks": [LRScheduler()]}, ValueError, "sets the learning rate as well"),
    ({"module": ConvNet, "image_shape": None}, ValueError, "Flat images need image_shape"),
    ({"module": MLP}, ValueError, "MLP is for tables"),
    ({"compile__foo": 3}, ValueError, "compile__foo needs compile=True"),
    ({"optimizer__foo": 3}, TypeError, "cannot be made with .*optimizer__foo=3"),
    ({"optimizer__lr": -1.0}, ValueError, "cannot be made with .*optimizer__lr=-1.0"),
    ({"optimizer__param_groups": [("*proxies", {"lr": 1})]}, ValueError, "which fits none of"),
    ({"iterator_train__batch_size": 16}, ValueError, "batches of m points a class are set by"),
    ({"iterator_train__shuffle": True}, ValueError, "batches of m points a class are set by"),
    ({"iterator_train__sampler": "x"}, TypeError, "iterator_train__sampler must be a sampler"),
    ({"iterator_valid__batch_size": 0}, ValueError, "iterator_valid__batch_size must be"),
    ({"module": nn.Flatten}, ValueError, "module must have parameters to learn"),
    (
        {"training": AdversarialTraining(EPS, objective="trades", start=0.0)},
        ValueError,
        "start must be > 0 for objective='trades'",
    ),
]


@pytest.mark.parametrize(("params", "error", "match"), BAD)
def test_bad_parameters_are_told_before_training_starts(params, error, match, monkeypatch):
    monkeypatch.setattr("skrobust.deep._net.MetricNet.fit_loop", None)
    with pytest.raises(error, match=match):
        metric(**params).fit(X_train, y_train)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(ValueError, match="torch sees 0 CUDA devices"):
        metric(device="cuda").fit(X_train, y_train)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (np.where(X[3, 20] == X, np.nan, X), y), "contains NaN"),
        (lambda X, y: (np.where(X == 16, np.inf, X), y), "contains infinity"),
        (lambda X, y: (X * 1e300, y), "values that float32 can"),
        (lambda X, y: (X, np.where(np.arange(len(y)) == 3, 9, y)), "got 1 sample of 9"),
        (lambda X, y: (X, np.zeros(len(y), int)), "1 class"),
        (lambda X, y: (X, y + 0.5), "Unknown label type"),
        (lambda X, y: (X[:10], y), "inconsistent numbers of samples"),
        (lambda X, y: (X, None), "requires y to be passed"),
    ],
)
def test_bad_data(change, match):
    with pytest.raises(ValueError, match=match):
        metric().fit(*change(X_train.astype(float), y_train))


def test_unknown_parameters():
    with pytest.raises(TypeError, match=r"unexpected parameters \['los'\]"):
        AdversarialDeepMetric(los="triplet")
    with pytest.raises(TypeError, match="Use max_iter for epochs, learning_rate for lr"):
        AdversarialDeepMetric(epochs=3, lr=0.1)
    with pytest.raises(ValueError, match="Invalid parameter 'los'"):
        AdversarialDeepMetric().set_params(los="triplet")


def test_values_that_are_too_large_for_the_network(fitted):
    with pytest.raises(ValueError, match="values that float32 can hold"):
        fitted.transform(X_test * 1e300)


def test_not_fitted():
    for call in ("transform", "pair_distance", "save", "branch"):
        with pytest.raises(NotFittedError):
            getattr(metric(), call)(X_test)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("training", [None, MDProp(EPS), AdversarialTraining(EPS, max_iter=2)])
def test_on_cuda(precision, training):
    own = metric(device="cuda", precision=precision, training=training, max_iter=5)
    own.fit(X_train, y_train)
    assert next(own.module_.parameters()).is_cuda
    assert own.score(X_test, y_test) > 0.9
    again = pickle.loads(pickle.dumps(own))
    np.testing.assert_allclose(again.transform(X_test), own.transform(X_test), atol=1e-5)
