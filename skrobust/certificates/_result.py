"""What a certificate returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skrobust.utils._validation import check_one_eps

__all__ = ["Certificate"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """Certified radii of a set of points.

    Attributes
    ----------
    radius : ndarray of shape (n_samples,)
        No perturbation of a norm up to this changes a right prediction; in the units of X
        (over the threat model's scales).
        0 where the prediction is wrong, ``inf`` where no perturbation can change it.
    status : ndarray of shape (n_samples,) of str
        - "certified": right, with a positive radius;
        - "misclassified": wrong on the clean point;
        - "numerical_tie": right, but the nearest point of another class is as near as the
          nearest one of its own up to rounding (1-NN);
        - "uncertified": right, but this bound proves nothing (K > 1);
        - "exact": right, and `upper` agrees with `radius` up to the tolerance asked for;
        - "unreachable": nothing can change the prediction.
    bound : str
        "lower": the true radius is at least `radius`. "interval": it lies between `radius`
        and `upper`.
    norm : float
        Norm of the perturbations: 1, 2 or inf.
    method : str
        How it was proved.
    upper : ndarray of shape (n_samples,) or None
        Norms of adversarial examples, upper bounds on the true radii: 0 where the clean
        prediction is wrong, inf where no example was found.
    perturbation : ndarray of shape (n_samples, n_features) or None
        The perturbations of norm `upper`, in the units of X; 0 where there is none.
    attained : ndarray of shape (n_samples,) or None
        What the victim predicts for the perturbed points; for the clean point where there is
        no perturbation.
    """

    radius: np.ndarray
    status: np.ndarray
    bound: str = "lower"
    norm: float = 2.0
    method: str = "nearest-neighbor lower bound"
    upper: np.ndarray | None = None
    perturbation: np.ndarray | None = None
    attained: np.ndarray | None = None

    @property
    def correct(self) -> np.ndarray:
        """Mask of the points that the victim predicts right when they are clean."""
        return self.status != "misclassified"

    def certified(self, eps: Any) -> np.ndarray:
        """Return the mask of points that are right at every perturbation of norm ≤ `eps`.

        Parameters
        ----------
        eps : float
            Finite, ≥ 0, in the units of X. At 0 this is the mask of right predictions.
        """
        return self.correct & (self.radius >= check_one_eps(eps))
