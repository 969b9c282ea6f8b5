"""One random robustness report: classifiers, containers, threat models, attacks from a seed."""

from itertools import pairwise

import numpy as np
import pandas as pd
from fuzz_data import draw_columns, draw_data
from fuzz_models import draw_model
from fuzz_problems import draw_threat
from fuzz_run import TooLongError, fault, short, time_limit
from sklearn.base import is_clusterer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skrobust.adapters import as_nearest_neighbor_rule, differentiable_scores
from skrobust.attacks import (
    APGD,
    FGSM,
    PGD,
    ExactNeighborAttack,
    GreedyNeighborAttack,
    HopSkipJump,
    MinimumNormAttack,
    NeighborDirectionAttack,
    NoiseAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.inspection import SoundnessError, robustness_report

__all__ = ["one_report"]

_SECONDS = 60


class LogisticOfItsOwn(LogisticRegression):
    def predict(self, X):
        return super().predict(X)[::1]


def _classifier(rng, n):
    """Return the name and an unfitted classifier that is no neighbour rule."""
    some = {
        "logistic": LogisticRegression(max_iter=50),
        "scaled logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=50)),
        "own logistic": LogisticOfItsOwn(max_iter=20),
        "svc": SVC(kernel=str(rng.choice(["rbf", "linear", "poly"]))),
        "linear svc": LinearSVC(max_iter=50),
        "forest": RandomForestClassifier(3, max_depth=4, random_state=0),
        "tree": DecisionTreeClassifier(max_depth=3, random_state=0),
        "boosting": HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2),
        "mlp": MLPClassifier((4,), max_iter=5, random_state=0),
        "lda": LinearDiscriminantAnalysis(),
        "bayes": GaussianNB(),
        "vote": VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())]),
        "calibrated": CalibratedClassifierCV(GaussianNB(), cv=2),
        "smoothed": RandomizedSmoothingClassifier(
            GaussianNB(), sigma=0.3, n_samples=30, n_selection=10, random_state=0
        ),
    }
    name = str(rng.choice(list(some)))
    return name, some[name]


def _attacks(rng, estimator):
    """Return a few attacks with small budgets that apply, or None for those of the report."""
    if rng.random() < 0.2:
        return None
    noise = NoiseAttack(max_iter=3, random_state=0)
    hop = HopSkipJump(max_iter=2, n_evaluations=10, n_starts=5, random_state=0)
    some = {"noise": noise, "hop": hop, "worst": WorstCase(attacks=[("a", noise), ("b", hop)])}
    if _applies(as_nearest_neighbor_rule, estimator):
        some |= {"exact": ExactNeighborAttack(), "greedy": GreedyNeighborAttack()}
        some |= {"direction": NeighborDirectionAttack()}
    if _applies(differentiable_scores, estimator):
        pgd = PGD(max_iter=3, random_state=0)
        some |= {"pgd": pgd, "fgsm": FGSM(), "apgd": APGD(max_iter=4, n_restarts=2)}
        some |= {"minimum": MinimumNormAttack(attack=pgd, max_iter=3)}
        surrogate = FrozenEstimator(estimator)
        some |= {"transfer": TransferAttack(surrogate=surrogate, attack=pgd)}
    names = {str(name) for name in rng.choice(list(some), int(rng.integers(1, 4)))}
    return {name: some[name] for name in sorted(names)}


def _applies(view, estimator):
    try:
        view(estimator)
    except (TypeError, ValueError):
        return False
    return True


def _with_text(rng, frame, labels):
    """Return a frame with a column of text and one with missing values, and a model of it."""
    frame = frame.assign(town=rng.choice(["Ulm", "Bonn"], len(frame)))
    numbers = [name for name in frame.columns if name != "town"]
    front = ColumnTransformer(
        [("n", StandardScaler(), numbers), ("t", OneHotEncoder(sparse_output=False), ["town"])]
    )
    return frame, make_pipeline(front, DecisionTreeClassifier(max_depth=3)).fit(frame, labels)


def _draw(rng):
    """Return words, a fitted model, points, labels, threat model, eps and attacks."""
    kind, X, y = draw_data(rng)
    while kind in ("tiny", "huge") and rng.random() < 0.8:
        kind, X, y = draw_data(rng)
    X, y = X[:40], y[:40]
    columns = draw_columns(rng, kind, X)
    X = columns.cast(X)
    rows = rng.permutation(len(X))[: int(rng.integers(2, 6))]
    labels = np.array([f"class {k}" for k in range(int(y.max()) + 1)])[y]
    labels = labels if rng.random() < 0.2 else y
    words = {"data": kind, "container": columns.kind}
    threat, _, threat_words = draw_threat(rng, kind, X, X, columns)
    if rng.random() < 0.5:
        model = draw_model(rng, columns, X, y, labels)
        while is_clusterer(model.estimator):
            model = draw_model(rng, columns, X, y, labels)
        words |= {"steps": model.steps, "rule": model.rule, "wrapper": model.wrapper}
        words["change"] = model.change
        estimator, given = model.estimator, columns.build(X[rows])
    else:
        words["rule"], estimator = _classifier(rng, len(X))
        built, missing = columns.build(X), rng.random() < 0.5
        if words["rule"] == "boosting" and missing and not isinstance(built, pd.DataFrame):
            X[rng.random(X.shape) < 0.1] = np.nan
            columns, words["container"] = draw_columns(rng, kind, X), "with missing values"
            built = columns.build(X)
        if isinstance(built, pd.DataFrame) and rng.random() < 0.3:
            words["rule"] = "text"
            built, estimator = _with_text(rng, built, labels)
            given, threat, threat_words = built.iloc[rows], None, ["l2"]
        else:
            estimator.fit(built, labels)
            given = columns.build(X[rows])
    predicted = np.asarray(estimator.predict(given))
    truth = labels[rows] if rng.random() < 0.7 else predicted
    spread = np.nanmedian(np.abs(X - np.nanmedian(X, axis=0)), axis=0).max() or 1.0
    scale = 1.0 if threat is None else np.median(np.asarray(_scale(threat, X.shape[1])))
    eps = np.sort(spread / scale * 10.0 ** rng.uniform(-3, 1, int(rng.integers(1, 4))))
    words["threat"] = "+".join(threat_words)
    attacks = _attacks(rng, estimator)
    words["attacks"] = "own" if attacks is None else "+".join(attacks)
    prove = [True, "auto", "fast", "exact", False][int(rng.choice(5, p=[0.4, 0.3, 0.1, 0.1, 0.1]))]
    words["certify"] = str(prove)
    return words, estimator, given, truth, threat, eps, attacks, prove


def _scale(threat, d):
    scale = threat.feature_scale
    if scale is None:
        return np.ones(d)
    return list(scale.values()) if isinstance(scale, dict) else scale


def one_report(seed, tally):
    """Make the report of a seed, and count what happened."""
    tally.counts["seeds"] += 1
    try:
        with time_limit(_SECONDS):
            words, estimator, X, y, threat, eps, attacks, prove = _draw(
                np.random.default_rng([11, seed])
            )
    except TooLongError:
        tally.counts["models too slow"] += 1
        return
    except Exception as error:
        tally.counts["models that do not fit"] += 1
        tally.refusals[f"model: {type(error).__name__}: {short(error)}"] += 1
        return
    tally.kinds[f"rule={words['rule']}"] += 1
    try:
        with time_limit(_SECONDS):
            report = robustness_report(
                estimator, X, y, eps=eps, threat_model=threat, attacks=attacks, certify=prove
            )
            tally.counts["reports"] += 1
            tally.counts["points"] += len(y)
            tally.counts["with a certificate"] += report.certificate is not None
            str(report), report._repr_html_()
    except TooLongError as error:
        tally.find("hang", seed, words, error)
        return
    except SoundnessError as error:
        tally.find("soundness", seed, words, error)
        return
    except Exception as error:
        where = fault(error)
        if where is None:
            tally.counts["refused"] += 1
            tally.refusals[f"{type(error).__name__}: {short(error)}"] += 1
        else:
            tally.find("crash", seed, words, f"{type(error).__name__} at {where}: {short(error)}")
        return
    order = [report.certified, report.worst, np.full(len(eps), report.clean_accuracy)]
    known = [value for value in order if value is not None]
    if any((low > high + 1e-12).any() for low, high in pairwise(known)):
        tally.find("order", seed, words, known)
