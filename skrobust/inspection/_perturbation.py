"""What an attack did, as a picture: images side by side, or the features of a table."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skrobust.attacks import AttackResult, EmbeddingAttackResult, resolve_budget
from skrobust.inspection._pyplot import pyplot
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import Table

__all__ = ["PerturbationDisplay"]

_CHANNELS = (1, 3)


@dataclass(eq=False, repr=False)
class PerturbationDisplay:
    """Perturbations of some points, as images or by feature.

    Make it by :meth:`from_result`.

    Parameters
    ----------
    clean, perturbed : ndarray of shape (n_samples, n_features)
        Points before and after.
    labels : ndarray of shape (n_samples, 2) of str
        What is written of each point before and after.
    names : list of str of shape (n_features,)
        The features.
    image_shape : tuple of int or None
        (rows, columns), (rows, columns, channels) or (channels, rows, columns) of an image, with 1
        or 3 channels; None draws bars by feature.
    scale : ndarray of shape (n_features,), default=None
        Changes are drawn divided by it, so that features of other units can be compared; None is
        1.
    unit : str, default=""
        The name of that scale, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import PGD
    >>> from skrobust.inspection import PerturbationDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    >>> result = PGD(threat_model=ThreatModel(eps=1.0), random_state=0).run(knn, X[1::2], y[1::2])
    >>> PerturbationDisplay.from_result(X[1::2], y[1::2], result).clean.shape
    (4, 4)
    """

    clean: np.ndarray
    perturbed: np.ndarray
    labels: np.ndarray
    names: list[str]
    image_shape: tuple[int, ...] | None = None
    scale: np.ndarray | None = None
    unit: str = ""

    @classmethod
    def from_result(
        cls,
        X: Any,
        y: Any,
        result: AttackResult | EmbeddingAttackResult,
        *,
        rows: Any = None,
        image_shape: tuple[int, ...] | None = None,
        threat_model: ThreatModel | None = None,
    ) -> Self:
        """Draw points that an attack changed.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features) or (n_samples, ...)
            The clean points that were attacked.
        y : array-like of shape (n_samples,) or None
            Their labels; None writes their positions.
        result : AttackResult or EmbeddingAttackResult
            For an embedding the value that the attack reports is written below a point.
        rows : array-like of int, default=None
            Which points; None takes the first four that the attack succeeded on, or of an
            embedding the first four.
        image_shape : tuple of int, default=None
            (rows, columns), (rows, columns, channels) or (channels, rows, columns), with 1 or 3
            channels. None is the shape of a row of X where that has two or three dimensions, else
            bars are drawn by feature.
        threat_model : ThreatModel, default=None
            That of the attack: bars are changes in its scales. None divides them by the standard
            deviations of X.

        Returns
        -------
        PerturbationDisplay
        """
        success = getattr(result, "success", np.ones(len(result.perturbation_norm), dtype=bool))
        chosen = np.flatnonzero(success)[:4] if rows is None else np.atleast_1d(rows)
        if len(chosen) == 0:
            raise ValueError("rows must name points to draw; the attack succeeded on none.")
        clean, perturbed = Table.of(X), Table.of(result.X_adv)
        shape = np.shape(X)[1:] if image_shape is None and np.ndim(X) > 2 else image_shape
        if shape is not None:
            shape = _check_image_shape(tuple(shape), clean.values.shape[1])
        scale, unit = _scale(clean, threat_model)
        names = clean.names or [f"x{k}" for k in range(clean.values.shape[1])]
        numeric = clean.numeric
        return cls(
            clean.values[chosen][:, numeric],
            perturbed.values[chosen][:, numeric],
            _labels(y, result, chosen),
            [name for name, kept in zip(names, numeric, strict=True) if kept],
            shape,
            scale[numeric],
            unit,
        ).plot()

    def plot(self, n_features: int = 10) -> Self:
        """Draw a row of panels for each point: before, after and the change; or bars.

        Parameters
        ----------
        n_features : int, default=10
            Bars: the features that move most, in their scales.

        Returns
        -------
        PerturbationDisplay
        """
        if self.image_shape is None:
            self._plot_bars(n_features)
        else:
            self._plot_images(self.image_shape)
        return self

    def _plot_bars(self, n_features: int) -> None:
        n = len(self.clean)
        width = 2.8 + 0.08 * max(map(len, self.names))  # inches, of a panel and its names
        figure, axes = pyplot().subplots(
            1, n, figsize=(width * n, 3.2), squeeze=False, layout="constrained"
        )
        change = self.perturbed - self.clean
        change = change if self.scale is None else change / self.scale
        for ax, delta, label in zip(axes[0], change, self.labels, strict=True):
            most = np.argsort(-np.abs(delta), kind="stable")[:n_features][::-1]
            ax.barh([self.names[k] for k in most], delta[most], color="#1d5f94")
            ax.axvline(0, color="#55616d", linewidth=0.8)
            ax.set(title=f"{label[0]} → {label[1]}", xlabel=f"change{self.unit}")
        self.figure_, self.axes_ = figure, axes

    def _plot_images(self, shape: tuple[int, ...]) -> None:
        n = len(self.clean)
        figure, axes = pyplot().subplots(
            3, n, figsize=(1.7 * n, 5.2), squeeze=False, layout="constrained"
        )
        change = self.perturbed - self.clean
        largest = float(np.abs(change).max()) or 1.0
        shown = _range(self.clean, self.perturbed, len(shape) == 3)
        panels = [
            ("clean", self.clean, "gray_r", shown),
            ("change", change, "RdBu_r", (-largest, largest)),
            ("perturbed", self.perturbed, "gray_r", shown),
        ]
        for row, (name, values, cmap, (low, high)) in enumerate(panels):
            axes[row, 0].set_ylabel(name)
            for ax, value in zip(axes[row], values, strict=True):
                # colours are drawn as they are, from 0 to 1; the map is for tables
                image = (_channels_last(value.reshape(shape)) - low) / (high - low)
                ax.imshow(image.clip(0, 1), cmap=cmap, vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
        for column, (before, after) in enumerate(self.labels):
            axes[0, column].set_title(before)
            axes[2, column].set_xlabel(f"→ {after}")
        self.figure_, self.axes_ = figure, axes


def _labels(y: Any, result: Any, chosen: np.ndarray) -> np.ndarray:
    """Return what is written of each point before and after."""
    before = chosen if y is None else np.asarray(y)[chosen]
    if hasattr(result, "predicted"):
        after = [str(label) for label in result.predicted[chosen]]
    else:
        after = [f"value {value:.3g}" for value in result.value[chosen]]
    return np.column_stack([[str(label) for label in before], after])


def _scale(clean: Any, threat_model: ThreatModel | None) -> tuple[np.ndarray, str]:
    """Return what changes are divided by, and its name; 1 for features that cannot change."""
    if threat_model is None:
        scale, unit = np.std(clean.values, axis=0), " (standard deviations)"
    else:
        scale, unit = resolve_budget(threat_model, clean).scale, " (scales of the threat model)"
    return np.where(scale > 0, scale, 1.0), unit


def _check_image_shape(shape: tuple[int, ...], n_pixels: int) -> tuple[int, ...]:
    colors = len(shape) == 3 and (shape[-1] in _CHANNELS or shape[0] in _CHANNELS)
    if np.prod(shape) != n_pixels or not (len(shape) == 2 or colors):
        raise ValueError(
            f"image_shape must have {n_pixels} pixels, as (rows, columns), or (rows, columns, "
            f"channels) or (channels, rows, columns) with 1 or 3 channels; got {shape!r}."
        )
    return shape


def _channels_last(image: np.ndarray) -> np.ndarray:
    """Return an image of one channel as a table, others with the channels last."""
    if image.ndim == 3 and image.shape[-1] not in _CHANNELS:
        image = np.moveaxis(image, 0, -1)
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def _range(clean: np.ndarray, perturbed: np.ndarray, colors: bool) -> tuple[float, float]:
    """Return which values are drawn as the ends: of clean points, for colours of a usual range."""
    seen = np.stack([clean, perturbed]) if colors else clean
    low, high = float(seen.min()), float(seen.max())
    for top in (1.0, 255.0):
        if colors and low >= 0 and high <= top:
            return 0.0, top
    return low, high if high > low else low + 1.0
