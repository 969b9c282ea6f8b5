"""The sandwich as a picture: what is proved and what attacks found, against the budget."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skrobust.inspection._pyplot import axes_or_new, norm_sign
from skrobust.inspection._report import RobustnessReport

__all__ = ["RobustnessCurveDisplay"]


@dataclass(eq=False, repr=False)
class RobustnessCurveDisplay:
    """Bounds on the robust accuracy of a classifier as a function of the budget.

    Make it by :meth:`from_report`.

    Parameters
    ----------
    eps : ndarray of shape (n_eps,)
        Budgets.
    attacks : dict of str to ndarray of shape (n_eps,)
        Accuracy under each attack: upper bounds.
    worst : ndarray of shape (n_eps,)
        Under the worst attack for each point.
    certified : ndarray of shape (n_eps,) or None
        A lower bound.
    norm : float, default=2
        For the label of the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn last.
    figure_ : matplotlib Figure
        The figure of `ax_`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.inspection import RobustnessCurveDisplay, robustness_report
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    >>> report = robustness_report(knn, X[1::10], y[1::10], eps=[0.2, 0.4])
    >>> RobustnessCurveDisplay.from_report(report).eps
    array([0. , 0.2, 0.4])
    """

    eps: np.ndarray
    attacks: dict[str, np.ndarray]
    worst: np.ndarray
    certified: np.ndarray | None
    norm: float = 2

    @classmethod
    def from_report(cls, report: RobustnessReport, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a report; the clean accuracy is that at budget 0.

        Parameters
        ----------
        report : RobustnessReport
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed on to ``Axes.plot`` for the curves of the attacks.

        Returns
        -------
        RobustnessCurveDisplay
        """
        front = report.eps[report.eps > 0]
        kept = report.eps > 0

        def curve(values: np.ndarray) -> np.ndarray:
            return np.r_[report.clean_accuracy, values[kept]]

        return cls(
            np.r_[0.0, front],
            {name: curve(values) for name, values in report.robust_accuracy.items()},
            curve(report.worst),
            None if report.certified is None else curve(report.certified),
            report.threat_model.norm,
        ).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the curves, and the gap between the bounds.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed on to ``Axes.plot`` for the curves of the attacks.

        Returns
        -------
        RobustnessCurveDisplay
        """
        ax = axes_or_new(ax)
        for name, values in self.attacks.items():
            style = {"label": name, "linewidth": 1, "linestyle": ":", **kwargs}
            ax.plot(self.eps, values, **style)
        ax.plot(self.eps, self.worst, color="#c2481f", label="worst attack (upper bound)")
        if self.certified is not None:
            # wider and below, so that both are seen where they are equal
            wide = {"linewidth": 4, "zorder": 1.5, "color": "#1d5f94"}
            ax.plot(self.eps, self.certified, label="certified (lower bound)", **wide)
            ax.fill_between(self.eps, self.certified, self.worst, color="#cfe0ee")
        ax.set(
            xlabel=f"eps ({norm_sign(self.norm)})",
            ylabel="robust accuracy",
            xlim=(0, self.eps[-1]),
            ylim=(0, 1.02),
        )
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
