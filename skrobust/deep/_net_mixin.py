"""What a deep metric takes from the net that trained it."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skrobust.deep._embedding_mixin import EmbeddingMixin
from skrobust.deep._modules import duplicate
from skrobust.deep._net import MetricNet
from skrobust.deep.lipschitz._bound import LipschitzBound, lipschitz_bound
from skrobust.deep.lipschitz._layers import plain

__all__ = ["NetMixin"]


class NetMixin(EmbeddingMixin):
    """An embedding whose ``module_`` is that of a net, ``net_``; loaded ones have no net."""

    net_: MetricNet
    criterion_: nn.Module
    n_iter_: int
    lipschitz_: LipschitzBound | None
    _built_with: dict[str, Any]

    def _finish(self) -> None:
        """Take from the net what the fitted estimator has."""
        net = self.net_
        self.module_, self.criterion_ = self._inference_module(), net.criterion_
        self.lipschitz_ = None if self._built_with["lipschitz"] is None else self._bound()
        self.__dict__.update(self._progress())
        if net.interrupted:
            warnings.warn(
                f"the training was interrupted after {self.n_iter_} whole epochs; what was "
                "learned is kept.",
                UserWarning,
                stacklevel=5,
            )
        if net.diverged:
            advice = f"Use a smaller learning_rate than {net.lr}, or check the loss."
            if self.n_iter_ == 0:
                raise ValueError(f"{net.diverged} Nothing was learned. {advice}")
            warnings.warn(
                f"{net.diverged} The best weights of the {self.n_iter_} whole epochs before are "
                f"kept. {advice}",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _progress(self) -> dict[str, Any]:
        """Return the attributes that say how the training went."""
        history = [
            {
                k: v.item() if isinstance(v, np.generic) else v
                for k, v in row.items()
                if k != "batches"
            }
            for row in self.net_.history
        ]
        curve = [row["train_loss"] for row in history if "train_loss" in row]
        return {"history_": history, "loss_curve_": curve, "n_iter_": len(curve)}

    def _so_far(self) -> dict[str, Any]:
        """Return the attributes of an estimator whose training ends here, as copies."""
        module = duplicate(self._inference_module())
        # without the net, which goes on
        found: dict[str, Any] = {"module_": module, "net_": None}
        found["criterion_"] = duplicate(self.net_.criterion_)
        if self._built_with["lipschitz"] is not None:
            found["lipschitz_"] = lipschitz_bound(module, self.layout_.input_shape)
        return found | self._progress()

    def _inference_module(self) -> nn.Module:
        """Return what embeds: the net's module, or its copy with bounded weights."""
        module = self.net_.bare_module.eval()
        return module if self._built_with["lipschitz"] is None else plain(module)

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
            self.module_, self.criterion_ = self._inference_module(), self.net_.criterion_
