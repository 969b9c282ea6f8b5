r"""A deep embedding that is trained adversarially.

    min_f  E[ L( f(x'), y ) ],

with f a network, L a metric loss and x' what a training strategy makes of a batch: clean rows,
adversarial ones, or both. A skorch net does the training.
"""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import Tags
from skorch.callbacks import Callback
from torch import nn

from skrobust.deep._adversary import training_adversary
from skrobust.deep._batches import MetricDataset, split_rows
from skrobust.deep._callbacks import CallbackBridge
from skrobust.deep._data import TrainingState, compute_moments, read_training_data
from skrobust.deep._embedding_mixin import EmbeddingMixin
from skrobust.deep._losses import LOSSES, MINERS, make_criterion
from skrobust.deep._modules import build_model, check_output
from skrobust.deep._net import MetricNet, TrainingContext, make_net
from skrobust.deep._parameters import (
    PrefixedParams,
    check_parameters,
    unchanged_on_error,
    without_kwargs,
)
from skrobust.deep._persistence import (
    Checkpoint,
    PersistenceMixin,
    built_with,
    look_for_checkpoint,
)
from skrobust.deep.lipschitz._bound import lipschitz_bound
from skrobust.deep.strategies._base import AdversarialStrategy, StandardTraining, Training
from skrobust.utils._callback_context import CallbackContext
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
)
from skrobust.utils._torch import draw_seed, isolated_rng

__all__ = ["AdversarialDeepMetric"]


class AdversarialDeepMetric(
    PersistenceMixin, EmbeddingMixin, PrefixedParams, CallbackSupportMixin, BaseEstimator
):
    """Deep embedding trained with a metric loss and an adversary.

    `transform` gives embeddings whose Euclidean distances are the learned metric; put it in
    front of k-NN, retrieval or clustering. Training runs in a skorch net, ``net_``.

    Parameters
    ----------
    module : torch.nn.Module class or object, default=None
        The network. None is :class:`~skrobust.deep.MLP` for tables, and
        :class:`~skrobust.deep.ConvNet` for images. A class gets `input_shape` and
        `embedding_dim` where its constructor names them, and ``module__…``. An object is
        copied, with its weights, and never changed. It maps (n, n_features) or
        (n, channels, height, width) to (n, embedding_dim).
    embedding_dim : int, default=None
        Dimensions of the embedding. None is what an object, or a class with a default of its own,
        gives, and 64 for others.
    normalize : bool, default=True
        Divide embeddings by their norm.
    lipschitz : {"orthogonal"} or None, default=None
        "orthogonal" makes a network whose outputs move by no more than a known multiple of its
        inputs, so that a k-NN or prototype classifier behind it is certified
        (:func:`skrobust.certify`). The default networks are then
        :class:`~skrobust.deep.LipschitzMLP` and :class:`~skrobust.deep.LipschitzConvNet`; of a
        `module` the layers have to be known to :func:`~skrobust.deep.lipschitz_bound`.
        `normalize` moves embeddings into the unit ball, z / max(1, ‖z‖), and `standardize` has one
        scale for all features. Use a loss of distances, such as "certified_margin". The trained
        ``module_`` computes in float64.
    loss : {"multi_similarity", "proxy_anchor", "triplet", "contrastive", "arcface", \
"certified_margin"}, class or object, default="multi_similarity"
        A loss of pytorch-metric-learning, or :class:`~skrobust.deep.CertifiedMarginLoss`, with
        ``loss__…``; a loss with proxies gets its sizes from the data.
    miner : {"auto", "multi_similarity", "semihard", "hard"}, class, object or None, default="auto"
        Which pairs or triplets of a batch the loss looks at, with ``miner__…``. "auto" is
        "multi_similarity" for the loss of that name, "semihard" for "triplet", else None: all.
    training : training strategy, default=None
        How a batch becomes a loss; None is :class:`~skrobust.deep.StandardTraining`. The others
        have a `threat_model`.
    optimizer : torch.optim.Optimizer class, default=None
        With ``optimizer__…``; None is ``torch.optim.AdamW``. Proxies of the loss are among its
        parameters: ``optimizer__param_groups=[("*proxies", {"lr": 0.1})]`` (``"*W"`` for
        "arcface").
    learning_rate : float, default=2e-3
        The highest one of the schedule; ``optimizer__lr`` takes precedence.
    schedule : {"one_cycle"} or None, default="one_cycle"
        Up and down again over `max_iter` epochs, or over those that are added, or constant. For
        others use skorch's ``LRScheduler`` as a callback, with None here.
    max_iter : int, default=20
        Epochs of `fit`; in one, as many batches are drawn as make up the training points.
    batch_size : int, default=128
        Rows of a batch, before a strategy adds to them.
    samples_per_class : int, default=4
        Points of each class in a batch, at least; with few classes there are more. A class that
        has fewer is repeated.
    image_shape : tuple of int, default=None
        Shape of an image, (height, width), (channels, height, width) or (height, width,
        channels), where the rows of X are flat.
    channels_last : bool, default=None
        Whether images with three axes are (height, width, channels), not (channels, height,
        width). None reads it from the shape: two equal axes are height and width, and 1, 3 or 4 is
        a number of channels. It warns where only sizes say so, and raises where nothing does.
    standardize : bool, default=True
        Subtract the mean of the training points and divide by their standard deviation, of each
        feature or each channel, inside the module. The network sees X as it is otherwise.
    validation_fraction : float, default=0.0
        Share of the points, or of the classes, in [0, 1), whose Recall@1 is recorded after each
        epoch as ``valid_recall``.
    validate_on : {"points", "classes"}, default="points"
        Points of all classes, or all points of some classes that are not trained on.
    n_iter_no_change : int, default=None
        Stop after so many epochs in which ``valid_recall`` did not improve, and keep the best
        weights. None trains for `max_iter` epochs.
    callbacks : list of skorch callbacks, default=None
        As in skorch: objects, classes or pairs (name, callback), with ``callbacks__…``. They are
        copied.
    checkpoint : path-like, default=None
        A file that is written after each epoch.
    resume : bool, default=False
        Go on from `checkpoint`, if it is there; the result is that of a training that was not
        interrupted. A larger `max_iter` adds epochs to a training that is finished, in a further
        cycle of the learning rate.
    device : str, default="auto"
        "auto" (CUDA where present), "cpu", "cuda" or "cuda:N".
    precision : {"auto", "full", "mixed"}, default="auto"
        "mixed" computes the network in bfloat16 where that is safe; "auto" does so on CUDA.
    compile : bool, default=False
        Compile the module by ``torch.compile``, with ``compile__…``.
    accelerator : accelerate.Accelerator or bool, default=None
        Train in the processes that ``accelerate launch`` started. True makes one.
    verbose : int, default=0
        1 prints a line an epoch. For a progress bar use skorch's
        ``ProgressBar(batches_per_epoch="count")``.
    random_state : int, RandomState or None, default=None
        For weights, batches and the adversary. Global random states of torch, NumPy and Python
        are left as they were; None draws a seed from NumPy's.
    **kwargs : dict
        Parameters with the prefixes ``module__``, ``loss__``, ``miner__``, ``optimizer__``,
        ``iterator_train__``, ``iterator_valid__``, ``callbacks__`` and ``compile__``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained model: rows in the shape of `layout_` in, embeddings out; in evaluation mode.
    net_ : skorch.NeuralNet
    criterion_ : torch.nn.Module
        Loss and miner.
    training_ : training strategy
        These three are absent after :meth:`load`.
    layout_ : InputLayout
        How a row of X becomes an input of the module.
    embedding_dim_ : int
    lipschitz_ : LipschitzBound or None
        Bounds of the whole model, from raw features to embeddings, layer by layer.
    classes_ : ndarray of shape (n_classes,)
    history_ : list of dict
        One an epoch: losses, seconds, recall of the validation.
    loss_curve_ : list of float
        Training loss of each epoch.
    n_iter_ : int
        Epochs done.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where the columns of X had names.

    See Also
    --------
    skrobust.RobustMahalanobis : A linear metric with certificates.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import AdversarialDeepMetric, ThreatModel
    >>> from skrobust.deep import EmbeddingShiftTraining
    >>> X, y = load_digits(n_class=4, return_X_y=True)
    >>> metric = AdversarialDeepMetric(
    ...     image_shape=(8, 8),
    ...     training=EmbeddingShiftTraining(ThreatModel(float("inf"), 1.0), max_iter=3),
    ...     max_iter=3,
    ...     random_state=0,
    ... ).fit(X[::2], y[::2])
    >>> metric.transform(X[1::2]).shape
    (360, 64)
    >>> bool(metric.score(X[1::2], y[1::2]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "module": [nn.Module, type, callable, None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), None],
        "normalize": ["boolean"],
        "lipschitz": [StrOptions({"orthogonal"}), None],
        "loss": [StrOptions(set(LOSSES)), callable],
        "miner": [StrOptions({"auto", *MINERS}), callable, None],
        "training": [Training, None],
        "optimizer": [callable, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"one_cycle"}), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 4, None, closed="left")],
        "samples_per_class": [Interval(Integral, 2, None, closed="left")],
        "image_shape": [tuple, list, None],
        "channels_last": ["boolean", None],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "validate_on": [StrOptions({"points", "classes"})],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, PathLike, None],
        "resume": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"auto", "full", "mixed"})],
        "compile": ["boolean"],
        "accelerator": [HasMethods(["prepare", "reduce"]), "boolean", None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    net_: MetricNet
    criterion_: nn.Module
    n_iter_: int
    _state: TrainingState

    def __init__(
        self,
        module: Any = None,
        *,
        embedding_dim: int | None = None,
        normalize: bool = True,
        lipschitz: str | None = None,
        loss: Any = "multi_similarity",
        miner: Any = "auto",
        training: Training | None = None,
        optimizer: Any = None,
        learning_rate: float = 2e-3,
        schedule: str | None = "one_cycle",
        max_iter: int = 20,
        batch_size: int = 128,
        samples_per_class: int = 4,
        image_shape: Any = None,
        channels_last: bool | None = None,
        standardize: bool = True,
        validation_fraction: float = 0.0,
        validate_on: str = "points",
        n_iter_no_change: int | None = None,
        callbacks: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        accelerator: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        **kwargs: Any,
    ):
        self.module = module
        self.embedding_dim = embedding_dim
        self.normalize = normalize
        self.lipschitz = lipschitz
        self.loss = loss
        self.miner = miner
        self.training = training
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.samples_per_class = samples_per_class
        self.image_shape = image_shape
        self.channels_last = channels_last
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.validate_on = validate_on
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.resume = resume
        self.device = device
        self.precision = precision
        self.compile = compile
        self.accelerator = accelerator
        self.verbose = verbose
        self.random_state = random_state
        self._set_kwargs(kwargs)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training points: a table, flat images with `image_shape`, images, or the
            :class:`~skrobust.datasets.LazyImages` of a folder. Integers and float64 are cast,
            a batch at a time.
        y : array-like of shape (n_samples,)
            Class labels: at least two classes, at least two points of each. They are needed.

        Returns
        -------
        AdversarialDeepMetric
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If the data or a parameter is not as described, before training starts.

        Warns
        -----
        UserWarning
            If the training was interrupted; what was learned until then is kept.
        """
        device = check_parameters(self)
        steps = CallbackContext(self, X, y, self.max_iter)

        def results_so_far() -> dict[str, Any]:
            # of an estimator whose training ends here: copies, because the net goes on
            return self.net_.results(self.layout_.input_shape, copies=True) | {"net_": None}

        with unchanged_on_error(self):
            X, y, self.layout_, self.classes_ = read_training_data(self, X, y)
            described, state = look_for_checkpoint(self, X, y, device)
            seed = draw_seed(self.random_state)
            seed = seed if state is None else state["seed"]
            train, valid = split_rows(
                y, self.validation_fraction, self.validate_on, np.random.RandomState(seed)
            )
            bridge = CallbackBridge(lambda: steps.step(results_so_far))
            callbacks: list[tuple[str, Callback]] = [("bridge", bridge)]
            if self.checkpoint is not None:
                own = Checkpoint(self.checkpoint, described, seed, state)
                callbacks.insert(0, ("checkpoint", own))
            with isolated_rng(seed, device):
                self._initialize(X, train, y[train], seed, device)
                self._train(X, y, train, valid, seed, callbacks)
            if bridge.n_calls < self.n_iter_ and not bridge.ended:  # another one ended the training
                steps.step(results_so_far)
        steps.end()
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train for one epoch, from where the last call ended.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), default=None
            All labels that will come; None takes those of the first call. The learning rate
            is constant, and nothing is held out.

        Returns
        -------
        AdversarialDeepMetric
            Itself, trained further.
        """
        first = not hasattr(self, "module_")
        if not first and getattr(self, "net_", None) is None:
            raise ValueError(
                "an estimator that was loaded cannot be trained further: files of `save` hold no "
                "optimizer. Use fit, or a checkpoint."
            )
        if not (first or classes is None or np.array_equal(np.unique(classes), self.classes_)):
            raise ValueError(
                f"classes must be those of the first call, {self.classes_}; got {classes}."
            )
        device = check_parameters(self)
        with unchanged_on_error(self):
            known = (None, classes) if first else (self.layout_, self.classes_)
            X, y, self.layout_, self.classes_ = read_training_data(self, X, y, *known)
            rows = np.arange(len(y))
            seed = draw_seed(self.random_state) if first else self._state.seed + self.n_iter_
            with isolated_rng(seed, device):
                if first:
                    self._initialize(X, rows, np.arange(len(self.classes_)), seed, device)
                elif isinstance(self.training_, AdversarialStrategy):
                    moments = self._state.moments.widened(X)
                    self._state = replace(self._state, moments=moments)
                held_out = self._state.codes[y].max() >= self._state.n_trained
                if held_out and any(True for _ in self.criterion_.parameters()):
                    raise ValueError(
                        f"y holds classes that were held out for validation; loss={self.loss!r} "
                        "learned nothing for them. Use validate_on='points', or fit again."
                    )
                self._train(X, y, rows, rows[:0], seed, epochs=1)
        return self

    def _initialize(
        self, X: Any, rows: np.ndarray, trained: np.ndarray, seed: int, device: torch.device
    ) -> None:
        """Make module, criterion and net for the training rows, and the labels of their classes."""
        moments = compute_moments(X, self.layout_, rows)
        moments.warn_of_lost_digits()
        self._state = TrainingState.of(seed, trained, len(self.classes_), moments)
        self._built_with = built_with(self)
        self.training_ = StandardTraining() if self.training is None else clone(self.training)
        model, size = build_model(self, self.training_, self.layout_, moments)
        self.embedding_dim_ = check_output(model, self.layout_, None)
        if self.lipschitz is not None:  # raises where a layer has no known bound
            lipschitz_bound(model, self.layout_.input_shape)
        criterion = self.training_.build_criterion(
            lambda: make_criterion(
                self.loss,
                self.miner,
                self._state.n_trained,
                size,
                self.params_for("loss__"),
                self.params_for("miner__"),
            )
        )
        self.net_ = make_net(self, model, criterion, device)

    def _train(
        self,
        X: Any,
        y: np.ndarray,
        train: np.ndarray,
        valid: np.ndarray,
        seed: int,
        callbacks: Sequence[tuple[str, Callback]] = (),
        epochs: int | None = None,
    ) -> None:
        """Train the net on some rows; `epochs` None goes on to `max_iter`."""
        net, strategy, y = self.net_, self.training_, self._state.codes[y]
        adversary = None
        if isinstance(strategy, AdversarialStrategy):
            adversary = training_adversary(
                strategy.threat_model,
                self.layout_,
                self._state.moments,
                getattr(self, "feature_names_in_", None),
                net.step_device,
                torch.Generator(net.step_device).manual_seed(seed + 1 + net.rank),
                X,
            )
        context = TrainingContext(
            strategy,
            adversary,
            seed,
            schedule=epochs is None,
            known_classes=self.validate_on == "points",
            validation=MetricDataset(X, y, self.layout_, valid) if len(valid) else None,
        )
        parts = strategy.assign(y[train], np.random.RandomState(seed))
        rows = MetricDataset(X, y, self.layout_, train, parts)
        net.train(rows, context, epochs, callbacks)
        for name, value in net.results(self.layout_.input_shape).items():
            setattr(self, name, value)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if state.get("net_") is not None:  # the net brings its modules to a device that is there
            state = {k: v for k, v in state.items() if k not in ("module_", "criterion_")}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if state.get("net_") is not None:
            self.module_, self.criterion_ = self.net_.inference_module(), self.net_.criterion_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"] if self.lipschitz is None else []
        return tags


AdversarialDeepMetric.__signature__ = without_kwargs(AdversarialDeepMetric)
