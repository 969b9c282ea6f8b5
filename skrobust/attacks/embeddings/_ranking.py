r"""Attacks on rankings of embeddings on the unit sphere.

With d the distance, x' the perturbed item, c chosen items and g all items of the gallery, each kind
lowers a loss:

    CA±    mean_{q, g} [±(d(q, x') − d(q, g))]₊      x' as a candidate goes up or down for queries q
    QA±    mean_{c, g} [±(d(x', c) − d(x', g))]₊     x' as a query raises or lowers candidates c
    LTM    [max_{other class} d − min_{own class} d]₊
    GTM    d(x', nearest item of another class)
    GTT    QA− on the item that was first
    order  Σ_{i<j} [d_i − d_j]₊ over the first items in a new order

(Zhou, Niu, Wang, Zhang and Hua, *Adversarial ranking attack and defense*, ECCV 2020; Zhou and
Patel, CVPR 2022; Zhou et al., *Practical relative order attack*, ICCV 2021).
"""

from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau

from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, EmbeddingProblem
from skrobust.attacks.embeddings._targets import draw, others, same_class
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["KINDS", "RankingAttack"]

KINDS = ("CA+", "CA-", "QA+", "QA-", "LTM", "GTM", "GTT", "order")
_TOP = 0.01  # items that are pushed down come from the first per cent


class _Targets(NamedTuple):
    """What the rows of a batch refer to."""

    gallery: torch.Tensor
    allowed: torch.Tensor  # (n, n_gallery): not the row itself
    items: torch.Tensor  # (n, m): positions in the gallery
    same: torch.Tensor | None  # (n, n_gallery): of the row's class


class RankingAttack(BaseEmbeddingAttack):
    """Change who is near whom in an embedding on the unit sphere.

    Parameters
    ----------
    estimator : transformer, default=None
        The victim of :meth:`transform`: fitted as a clone, unless in a ``FrozenEstimator``. None
        is ``PCA()``. Its embeddings are normalised.
    kind : {"CA+", "CA-", "QA+", "QA-", "LTM", "GTM", "GTT", "order"}, default="QA+"
        What is changed; "LTM" and "GTM" need labels.
    threat_model : ThreatModel, default=None
        What may be changed, and how far; None is ``ThreatModel()``.
    n_items : int, default=1
        Queries of CA, candidates of QA: random ones for +, random ones of the nearest per cent
        for −. For "order", the number of items whose order is changed, at least 2.
    max_iter : int, default=32
        Steps.
    step_size : float, default=0.25
        First step as a share of the budget; it falls to 0.
    gradient : {"exact", "nes"}, default="exact"
        "nes" estimates it from `transform` alone.
    n_evaluations : int, default=30
        Pairs of points of an estimate.
    batch_size : int, default=128
        Rows that are attacked together.
    random_state : int, RandomState or None, default=None
        For the items and the random start.

    Attributes
    ----------
    estimator_ : transformer
        The fitted victim.
    threat_model_ : ThreatModel
        With bounds that were read from the training points.
    gallery_ : ndarray of shape (n_samples, n_components)
        Embeddings of the training points.
    n_iter_ : int
        Steps that are made: `max_iter`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Notes
    -----
    The value that is reported, against the clean gallery: CA and QA the mean percentile rank (0 is
    first, 100 last); LTM and GTM whether the first item is of the row's class; GTT whether the
    item that was first is among the first four; order Kendall's τ of the wanted and the actual
    order, 0 where all these items are equally far.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import RankingAttack
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = RankingAttack(kind="QA+", threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> found = attack.run(StandardScaler().fit(X), X)
    >>> bool(found.value.mean() < 25)
    True
    """

    ceiling = 0.0  # all losses are at least 0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kind": [StrOptions(set(KINDS))],
        "n_items": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        kind: str = "QA+",
        *,
        threat_model: ThreatModel | None = None,
        n_items: int = 1,
        max_iter: int = 32,
        step_size: float = 0.25,
        gradient: str = "exact",
        n_evaluations: int = 30,
        batch_size: int = 128,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.kind = kind
        self.threat_model = threat_model
        self.n_items = n_items
        self.max_iter = max_iter
        self.step_size = step_size
        self.gradient = gradient
        self.n_evaluations = n_evaluations
        self.batch_size = batch_size
        self.random_state = random_state

    def _select_targets(self, problem: EmbeddingProblem) -> _Targets:
        allowed, same = others(problem), None
        if self.kind in ("LTM", "GTM"):
            same = same_class(problem, f"kind={self.kind!r}")
        D = torch.cdist(problem.clean, problem.gallery.items).masked_fill(
            ~torch.from_numpy(allowed), torch.inf
        )
        order = D.argsort(dim=1, stable=True).numpy()
        n_others = int(allowed.sum(axis=1).min())
        if self.kind in ("CA+", "QA+"):
            items = draw(allowed, self.n_items, problem.noise)
        elif self.kind in ("CA-", "QA-"):
            top = max(self.n_items, round(_TOP * n_others))
            near = np.zeros_like(allowed)
            np.put_along_axis(near, order[:, :top], True, axis=1)
            items = draw(near & allowed, self.n_items, problem.noise)
        elif self.kind == "order":
            m = max(self.n_items, 2)
            if n_others < m:
                raise ValueError(f"X must hold more than {m} points for kind='order'.")
            shuffled = problem.noise.uniform(m, 9).argsort(axis=1)
            items = np.take_along_axis(order[:, :m], shuffled, 1)
        else:
            items = order[:, :1]
        return _Targets(
            problem.gallery.items,
            torch.from_numpy(allowed),
            torch.from_numpy(np.ascontiguousarray(items)),
            None if same is None else torch.from_numpy(same),
        )

    def _compared(self, D: torch.Tensor, targets: _Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances to the items, shape (n, m, 1), and what they are compared with.

        The latter, of shape (n, m or 1, n_gallery), are the items' own distances where the row is
        their candidate, else the distances of the row, `D`, of shape (n, n_gallery).
        """
        mine = D.gather(1, targets.items)[..., None]
        if not self.kind.startswith("CA"):
            return mine, D[:, None]
        queries = targets.gallery[targets.items].flatten(0, 1)  # (n · m, n_components)
        return mine, _distances(queries, targets.gallery).view(*mine.shape[:2], -1)

    def _value(self, z: torch.Tensor, targets: _Targets) -> torch.Tensor:
        D = _distances(z, targets.gallery)  # (n, n_gallery)
        if self.kind == "order":
            mine = D.gather(1, targets.items)
            i, j = torch.triu_indices(mine.shape[1], mine.shape[1], 1)
            return -(mine[:, i] - mine[:, j]).clamp_min(0).sum(1)
        if targets.same is None:
            mine, theirs = self._compared(D, targets)
            sign = 1.0 if self.kind.endswith("+") else -1.0
            return -(sign * (mine - theirs)).clamp_min(0).mean((1, 2))
        own = targets.allowed & targets.same
        other = targets.allowed & ~targets.same
        if self.kind == "GTM":
            return -D.masked_fill(~other, torch.inf).amin(1).clamp_max(2.0)
        far = D.masked_fill(~other, -torch.inf).amax(1).clamp_min(0.0)
        near = D.masked_fill(~own, torch.inf).amin(1).clamp_max(2.0)
        return -(far - near).clamp_min(0)

    def _report(self, z: torch.Tensor, targets: _Targets) -> torch.Tensor:
        D = _distances(z, targets.gallery).masked_fill(~targets.allowed, torch.inf)
        if self.kind == "order":
            reached = D.gather(1, targets.items).numpy()
            wanted = np.arange(reached.shape[1])
            tau = [float(kendalltau(row, wanted)[0]) for row in reached]
            return torch.tensor(tau).nan_to_num(0.0)  # equal distances have no order
        if targets.same is not None:
            first = D.argmin(1, keepdim=True)
            return (targets.allowed & targets.same).gather(1, first)[:, 0].double()
        mine, theirs = self._compared(D, targets)
        nearer = theirs < mine  # (n, m, n_gallery)
        if self.kind == "GTT":
            return (nearer.sum(2)[:, 0] < 4).double()
        if self.kind.startswith("CA"):
            item = torch.arange(len(targets.gallery))
            nearer &= targets.allowed[:, None] & (item != targets.items[..., None])
        n = targets.allowed.sum(1, keepdim=True) - 1
        return 100 * (nearer.sum(2) / n.clamp_min(1)).double().mean(1)


def _distances(z: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    """Return distances on the unit sphere; their square root has a finite slope at 0."""
    return (2 - 2 * z @ gallery.T).clamp_min(1e-12).sqrt()
