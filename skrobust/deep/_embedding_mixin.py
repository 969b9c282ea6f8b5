"""What a fitted deep metric offers: embeddings, distances, gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skrobust.adapters import LipschitzMap
from skrobust.deep._batch_norm_bank import CLEAN, branches_of, route
from skrobust.deep._data import InputLayout, check_rows
from skrobust.deep._modules import precision_of
from skrobust.deep.lipschitz._bound import lipschitz_bound
from skrobust.metrics import recall_at_k
from skrobust.utils._pairs import check_paired, split_pairs
from skrobust.utils._torch import eval_mode

__all__ = ["Branch", "EmbeddingMixin"]

_CHUNK_CPU, _CHUNK_CUDA = 64, 512


class EmbeddingMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Methods of an estimator whose ``module_`` embeds what ``layout_`` hands it."""

    module_: nn.Module
    layout_: InputLayout
    embedding_dim_: int

    def transform(self, X: Any) -> np.ndarray:
        """Embed points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            As they were at `fit`.

        Returns
        -------
        ndarray of shape (n_samples, `embedding_dim_`), float32
            Rows have norm 1 unless ``normalize=False``. With `lipschitz` they are float64 and have
            norm at most 1.
        """
        check_is_fitted(self)
        return self._embed(check_rows(self, X, self.layout_))

    def pair_distance(self, X: Any, Y: Any = None) -> np.ndarray:
        """Return the learned distance of each pair.

        Parameters
        ----------
        X : array-like of shape (n_pairs, ...), or (n_pairs, 2, ...)
            The first points; or, where `Y` is not given, both points of every pair.
        Y : array-like of shape (n_pairs, ...), default=None
            The second points.

        Returns
        -------
        ndarray of shape (n_pairs,)
            The Euclidean distance of the embeddings, smaller is more alike.

        Raises
        ------
        ValueError
            If the shapes do not match.
        """
        check_is_fitted(self)
        first, second = split_pairs(X, Y)
        first, second = (check_rows(self, rows, self.layout_) for rows in (first, second))
        check_paired(first, second)
        u, v = (self._embed(rows).astype(np.float64) for rows in (first, second))
        return np.linalg.norm(u - v, axis=1)

    def pair_score(self, X: Any, Y: Any = None) -> np.ndarray:
        """Return minus :meth:`pair_distance`: larger is more alike."""
        return -self.pair_distance(X, Y)

    def score(self, X: Any, y: Any) -> float:
        """Return Recall@1: the share of points whose nearest other point has their label.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
        """
        return float(recall_at_k(self.transform(X), y))

    def branch(self, name: str) -> "Branch":
        """Return the embedding through another branch of the batch norms.

        Parameters
        ----------
        name : str
            ``"clean"`` is what :meth:`transform` uses; :class:`~skrobust.deep.MDProp` adds
            ``"single"`` and ``"multi"``.

        Returns
        -------
        Branch
            With a method `transform`; attacks on embeddings take it.

        Raises
        ------
        ValueError
            If the network has no such branch.
        """
        check_is_fitted(self)
        known = (CLEAN, *branches_of(self.module_))
        if name not in known:
            raise ValueError(f"branch must be one of {list(known)}; got {name!r}.")
        return Branch(self, name)

    @property
    def _n_features_out(self) -> int:
        return self.embedding_dim_

    @property
    def _device(self) -> torch.device:
        first = next(self.module_.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def _dtype(self) -> torch.dtype:
        """What rows are handed over in; a network in half precision converts them itself."""
        wide = precision_of(self.module_) == torch.float64
        return torch.float64 if wide else torch.float32

    def _embed(self, rows: Any) -> np.ndarray:
        """Return embeddings, by chunks of one size: a row's result is that of a chunk anywhere."""
        device = self._device
        default = _CHUNK_CUDA if device.type == "cuda" else _CHUNK_CPU
        size = int(getattr(self, "iterator_valid__batch_size", default))
        wide = self._dtype == torch.float64
        dtype = np.float64 if wide else np.float32
        embeddings = np.empty((len(rows), self.embedding_dim_), dtype=dtype)
        with torch.inference_mode(), eval_mode(self.module_):
            for start in range(0, len(rows), size):
                # a frame's rows may not be written to, and torch warns of that
                chunk = np.require(rows[start : start + size], dtype, ["C", "W"])
                n = len(chunk)
                if n < size:
                    chunk = np.concatenate([chunk, np.repeat(chunk[-1:], size - n, axis=0)])
                x = self.layout_.to_module(torch.from_numpy(chunk))
                # a copy: a module that works in place would change X
                z = self.module_(x.to(device, copy=True))[:n]
                embeddings[start : start + n] = (z if wide else z.float()).cpu().numpy()
        return embeddings

    def _lipschitz_map(self) -> LipschitzMap | None:
        """Return how far embeddings can move; None where nothing is known."""
        check_is_fitted(self)
        if getattr(self, "lipschitz_", None) is None:
            return None
        if self._dtype != torch.float64:
            raise ValueError(
                f"module_ must compute in float64, for which its rounding is known; it is in "
                f"{self._dtype}."
            )
        # of the network as it is now: a stored bound would not notice what changed since
        bound = lipschitz_bound(self.module_, self.layout_.input_shape)
        return LipschitzMap(bound.lipschitz, bound.rounding)

    def _differentiable_embedding(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function from points to embeddings, with gradients."""
        check_is_fitted(self)
        module, layout, device, dtype = self.module_, self.layout_, self._device, self._dtype

        def embed(x: torch.Tensor) -> torch.Tensor:
            rows = layout.to_module(x.to(device, dtype, copy=True))
            with eval_mode(module):
                return module(rows).to(x)

        return embed


@dataclass(frozen=True)
class Branch:
    """A fitted deep metric, seen through one branch of its batch norms.

    Parameters
    ----------
    metric : AdversarialDeepMetric
        Fitted.
    name : str
        Name of the branch.
    """

    metric: EmbeddingMixin
    name: str

    def transform(self, X: Any) -> np.ndarray:
        """Embed points; see :meth:`AdversarialDeepMetric.transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        with route(self.metric.module_, self.name):
            return self.metric.transform(X)

    def _differentiable_embedding(self) -> Callable[[torch.Tensor], torch.Tensor]:
        embed = self.metric._differentiable_embedding()

        def through(x: torch.Tensor) -> torch.Tensor:
            with route(self.metric.module_, self.name):
                return embed(x)

        return through
