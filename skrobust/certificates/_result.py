"""What a certificate returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skrobust.utils._validation import check_one_eps

__all__ = ["Certificate", "SoundnessError"]

_STATUSES = (
    "certified",
    "misclassified",
    "numerical_tie",
    "uncertified",
    "exact",
    "probabilistic",
    "abstained",
    "unreachable",
    "interrupted",
)


class SoundnessError(RuntimeError):
    """A certificate is larger than a successful perturbation: one of them is wrong."""


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """Certified radii of a set of points.

    Attributes
    ----------
    radius : ndarray of shape (n_samples,)
        No perturbation of a norm up to this changes a right prediction; in the units of X
        (over the threat model's scales).
        0 where the prediction is wrong, ``inf`` where no point of the threat model changes it.
    status : ndarray of shape (n_samples,) of str
        - "certified": right, with a positive radius;
        - "misclassified": wrong on the clean point;
        - "numerical_tie": right, but the nearest point of another class is as near as the
          nearest one of its own up to rounding (1-NN);
        - "uncertified": right, but this bound proves nothing (K > 1);
        - "exact": right, and `upper` agrees with `radius` up to the relative tolerance;
        - "probabilistic": right, with a radius that holds with the probability that `method`
          says (randomized smoothing);
        - "abstained": nothing is proved, at 0 either: the draws tell too little of a smoothed
          prediction, or the gallery may move too far (retrieval);
        - "unreachable": right, and no point of the threat model changes the prediction;
        - "interrupted": right or wrong, but not reached before an interrupt.
    bound : str
        "lower": the true radius is at least `radius`. "interval": it lies between `radius`
        and `upper`.
    norm : float
        Norm of the perturbations: 1, 2 or inf.
    method : str
        How it was proved.
    upper : ndarray of shape (n_samples,) or None
        Norms of adversarial examples, upper bounds on the true radii: 0 where the clean
        prediction is wrong already (and is the target, where there is one), inf where no example
        is known.
    perturbation : ndarray of shape (n_samples, n_features) or None
        The perturbations of norm `upper`, in the units of X; 0 where there is none.
    adversarial_label : ndarray of shape (n_samples,) or None
        What the victim predicts for the perturbed points; for the clean point where there is
        no perturbation.
    scale : ndarray of shape (n_features,) or None
        The threat model's scales, 0 for immutable features.
    feature_names : ndarray of shape (n_features,) or None
        Names of the raw features, where the victim knows them.
    target : object
        The class that the adversary wants; None for any change.
    """

    radius: np.ndarray
    status: np.ndarray
    bound: str = "lower"
    norm: float = 2.0
    method: str = "nearest-neighbor lower bound"
    upper: np.ndarray | None = None
    perturbation: np.ndarray | None = None
    adversarial_label: np.ndarray | None = None
    scale: np.ndarray | None = None
    feature_names: np.ndarray | None = None
    target: Any = None

    def __post_init__(self) -> None:
        shapes = np.shape(self.radius), np.shape(self.status)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ValueError(
                f"radius and status must both be of shape (n_samples,); got {shapes[0]} and "
                f"{shapes[1]}."
            )
        if not (np.asarray(self.radius) >= 0).all():
            raise ValueError("radius must be >= 0 and not NaN everywhere.")
        if unknown := sorted({*np.asarray(self.status).tolist()} - {*_STATUSES}):
            raise ValueError(f"status must be among {list(_STATUSES)}; got {unknown}.")

    def __repr__(self) -> str:
        names, counts = np.unique(self.status, return_counts=True)
        statuses = ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True))
        middle = f"{np.median(self.radius):.4g}" if len(self.radius) else "none"
        return (
            f"Certificate({self.method}; bound={self.bound!r}, norm={self.norm:g}; {statuses}; "
            f"median radius {middle})"
        )

    @property
    def correct(self) -> np.ndarray:
        """Mask of the points that are known to be predicted right when they are clean."""
        return ~np.isin(self.status, ("abstained", "misclassified", "interrupted"))

    def certified(self, eps: Any) -> np.ndarray:
        """Return the mask of points that are right at every perturbation of norm ≤ `eps`.

        Parameters
        ----------
        eps : float
            Finite, ≥ 0, in the units of X. At 0 this is the mask of right predictions.
        """
        return self.correct & (self.radius >= check_one_eps(eps))

    def explain(self, row: int) -> list[tuple[str, float]]:
        """Return which features the perturbation of a point moves, and how far.

        Parameters
        ----------
        row : int
            Position of the point.

        Returns
        -------
        list of (name, change)
            In the units of X; first what moves most against its scale in the threat model.
            Features without names are called x0, x1, …; empty where there is no perturbation.

        Raises
        ------
        ValueError
            If the certificate has no perturbations (a lower bound).

        Examples
        --------
        >>> import pandas as pd
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from skrobust.certificates import exact_nearest_neighbor_radius
        >>> X = pd.DataFrame({"age": [30.0, 30.0], "income": [1.0, 5.0]})
        >>> knn = KNeighborsClassifier(1).fit(X, ["no", "yes"])
        >>> found = exact_nearest_neighbor_radius(knn, X[:1], ["no"])
        >>> [(name, round(change, 4)) for name, change in found.explain(0)]
        [('income', 2.0)]
        """
        if self.perturbation is None or self.scale is None:
            raise ValueError(
                f"explain needs perturbations, which this result of {self.method!r} does not hold; "
                "use exact_nearest_neighbor_radius, not in batches."
            )
        delta = self.perturbation[row]
        names = self.feature_names
        if names is None:
            names = np.array([f"x{k}" for k in range(len(delta))])
        share = np.abs(delta) / np.where(self.scale > 0, self.scale, 1.0)
        order = np.argsort(-share, kind="stable")
        return [(str(names[k]), float(delta[k])) for k in order if delta[k] != 0]
