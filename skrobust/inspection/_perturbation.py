"""What an attack did, as a picture: images side by side, or the features of a table."""

from typing import Any, Self

import numpy as np

from skrobust.attacks import AttackResult
from skrobust.inspection._pyplot import pyplot
from skrobust.utils._frames import Table

__all__ = ["PerturbationDisplay"]


class PerturbationDisplay:
    """Perturbations of some points, as images or by feature.

    Make it by :meth:`from_result`.

    Parameters
    ----------
    clean, perturbed : ndarray of shape (n_samples, n_features)
        Points before and after.
    labels : ndarray of shape (n_samples, 2)
        What was predicted before and after.
    names : list of str of shape (n_features,)
        The features.
    image_shape : tuple of int or None
        Rows and columns of an image; None draws bars by feature.

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
    >>> found = PGD(threat_model=ThreatModel(eps=1.0), random_state=0).run(knn, X[1::2], y[1::2])
    >>> PerturbationDisplay.from_result(X[1::2], y[1::2], found).clean.shape
    (4, 4)
    """

    def __init__(
        self,
        clean: np.ndarray,
        perturbed: np.ndarray,
        labels: np.ndarray,
        names: list[str],
        image_shape: tuple[int, int] | None = None,
    ):
        self.clean = clean
        self.perturbed = perturbed
        self.labels = labels
        self.names = names
        self.image_shape = image_shape

    @classmethod
    def from_result(
        cls,
        X: Any,
        y: Any,
        result: AttackResult,
        *,
        rows: Any = None,
        image_shape: tuple[int, int] | None = None,
    ) -> Self:
        """Draw points that an attack changed.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            The clean points that were attacked.
        y : array-like of shape (n_samples,)
            Their labels.
        result : AttackResult
        rows : array-like of int, default=None
            Which points; None takes the first four that the attack succeeded on.
        image_shape : tuple of int, default=None
            Rows and columns, where a point is a grey image; None draws bars by feature.

        Returns
        -------
        PerturbationDisplay
        """
        chosen = np.flatnonzero(result.success)[:4] if rows is None else np.atleast_1d(rows)
        if len(chosen) == 0:
            raise ValueError("rows must name points to draw; the attack succeeded on none.")
        clean, perturbed = Table.of(X), Table.of(result.X_adv)
        if image_shape is not None and np.prod(image_shape) != clean.values.shape[1]:
            raise ValueError(
                f"image_shape must hold {clean.values.shape[1]} pixels; got {image_shape!r}."
            )
        names = clean.names or [f"x{k}" for k in range(clean.values.shape[1])]
        labels = np.column_stack([np.asarray(y)[chosen], result.predicted[chosen]])
        return cls(
            clean.values[chosen][:, clean.numeric],
            perturbed.values[chosen][:, clean.numeric],
            labels,
            [name for name, kept in zip(names, clean.numeric, strict=True) if kept],
            image_shape,
        ).plot()

    def plot(self, n_features: int = 10) -> Self:
        """Draw a row of panels for each point: before, after and the change; or bars.

        Parameters
        ----------
        n_features : int, default=10
            Bars: the features that move most.

        Returns
        -------
        PerturbationDisplay
        """
        plt = pyplot()
        n = len(self.clean)
        if self.image_shape is None:
            figure, axes = plt.subplots(1, n, figsize=(3.4 * n, 3.2), squeeze=False)
            for ax, delta, label in zip(
                axes[0], self.perturbed - self.clean, self.labels, strict=True
            ):
                most = np.argsort(-np.abs(delta), kind="stable")[:n_features][::-1]
                ax.barh([self.names[k] for k in most], delta[most], color="#1d5f94")
                ax.axvline(0, color="#55616d", linewidth=0.8)
                ax.set(title=f"{label[0]} → {label[1]}", xlabel="change")
        else:
            figure, axes = plt.subplots(3, n, figsize=(1.7 * n, 5.2), squeeze=False)
            change = self.perturbed - self.clean
            largest = float(np.abs(change).max()) or 1.0
            low, high = float(self.clean.min()), float(self.clean.max())
            for column in range(n):
                for row, (image, style) in enumerate(
                    (
                        (self.clean, {"cmap": "gray_r", "vmin": low, "vmax": high}),
                        (change, {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}),
                        (self.perturbed, {"cmap": "gray_r", "vmin": low, "vmax": high}),
                    )
                ):
                    ax = axes[row, column]
                    ax.imshow(image[column].reshape(self.image_shape), **style)
                    ax.set(xticks=[], yticks=[])
                axes[0, column].set_title(str(self.labels[column, 0]))
                axes[2, column].set_xlabel(f"→ {self.labels[column, 1]}")
            for row, name in enumerate(("clean", "change", "perturbed")):
                axes[row, 0].set_ylabel(name)
        figure.tight_layout()
        self.figure_, self.axes_ = figure, axes
        return self
