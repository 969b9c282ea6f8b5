"""Certified accuracy against eps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skrobust.certificates import certify
from skrobust.inspection._pyplot import axes_or_new, norm_sign
from skrobust.metrics import certified_accuracy_score
from skrobust.threat_model import ThreatModel
from skrobust.utils._validation import check_eps

__all__ = ["CertifiedAccuracyDisplay"]

_UNIT = "ℓ₂, in the units of X"


@dataclass(eq=False, repr=False)
class CertifiedAccuracyDisplay:
    """Certified accuracy of one or several classifiers as a function of the budget.

    Make it by :meth:`from_estimator` or :meth:`from_radii`.

    Parameters
    ----------
    eps : ndarray of shape (n_eps,)
        Budgets, in the units of X.
    certified_accuracy : ndarray of shape (n_curves, n_eps)
        A lower bound on robust accuracy; at eps = 0 the clean accuracy.
    names : sequence of str of length n_curves
        The curves' labels.
    unit : str, default="ℓ₂, in the units of X"
        What `eps` is measured in, for the label of the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn last.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : list of matplotlib Artist
        The curves.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.inspection import CertifiedAccuracyDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = {f"{k}-NN": KNeighborsClassifier(k).fit(X[::2], y[::2]) for k in (1, 5)}
    >>> display = CertifiedAccuracyDisplay.from_estimator(knn, X[1::2], y[1::2])
    >>> display.certified_accuracy.shape
    (2, 101)
    """

    eps: np.ndarray
    certified_accuracy: np.ndarray
    names: Sequence[str]
    unit: str = _UNIT

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        threat_model: ThreatModel | None = None,
        eps: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Certify fitted classifiers on the same points and draw their curves.

        Parameters
        ----------
        estimator : fitted classifier, or mapping of str to fitted classifier
            One, or several with their names.
        X : array-like of shape (n_samples, n_features)
            Points to certify.
        y : array-like of shape (n_samples,)
            True labels.
        threat_model : ThreatModel, default=None
            Norm, scales and mutable features of the adversary; None is ℓ₂ on all features.
        eps : array-like of shape (n_eps,), default=None
            Budgets; None takes 101 from 0 to the largest finite radius.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        CertifiedAccuracyDisplay
        """
        several = estimator if isinstance(estimator, Mapping) else {_name(estimator): estimator}
        radii = {}
        for name, one in several.items():
            certificate = certify(one, X, y, threat_model=threat_model, method="fast")
            radii[name] = certificate.radius, certificate.correct
        return cls.from_radii(
            radii,
            unit=_unit(threat_model),
            eps=eps,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_radii(
        cls,
        radii: Mapping[str, tuple[Any, Any]],
        *,
        unit: str = _UNIT,
        eps: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw curves from radii that are known already.

        Parameters
        ----------
        radii : mapping of str to (radius, correct)
            For each curve, certified radii and the mask of right predictions, both of shape
            (n_samples,).
        unit : str, default="ℓ₂, in the units of X"
            What radii are measured in, for the label of the axis.
        eps : array-like of shape (n_eps,), default=None
            Budgets; None takes 101 from 0 to the largest finite radius.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        CertifiedAccuracyDisplay
        """
        if not radii:
            raise ValueError("radii must have at least one curve; got none.")
        if eps is None:
            finite = [np.asarray(radius)[np.isfinite(radius)] for radius, _ in radii.values()]
            largest = max((float(values.max()) for values in finite if len(values)), default=0.0)
            eps = np.linspace(0, largest or 1.0, 101)
        budgets = np.sort(check_eps(eps))
        curves = [certified_accuracy_score(*pair, budgets) for pair in radii.values()]
        return cls(budgets, np.array(curves), list(radii), unit).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        CertifiedAccuracyDisplay
        """
        ax = axes_or_new(ax)
        self.lines_ = [
            ax.plot(self.eps, curve, **{"label": name, "drawstyle": "steps-pre", **kwargs})[0]
            for name, curve in zip(self.names, self.certified_accuracy, strict=True)
        ]
        ax.set(
            xlabel=f"eps ({self.unit})",
            ylabel="certified accuracy (lower bound)",
            xlim=(0, self.eps[-1]),
            ylim=(0, 1),
        )
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _unit(model: ThreatModel | None) -> str:
    if model is None:
        return _UNIT
    scaled = model.feature_scale is not None
    return f"{norm_sign(model.norm)}, in the units of " + ("feature_scale" if scaled else "X")


def _name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(estimator if steps is None else steps[-1][1]).__name__
