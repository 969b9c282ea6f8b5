"""What a fit refuses, and what it says of a result that is not what was asked for."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skrobust.metric_learning._problem import Solver, SolverResult
from skrobust.metric_learning._rounds import ConvexSolver

__all__ = ["check_classes", "check_neighbors", "check_result"]

_SPREAD = 100.0  # scales of features that differ more are named as a cause


def check_classes(classes: np.ndarray, counts: np.ndarray) -> None:
    """Raise where the classes leave nothing to be learned."""
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes; got 1 class, {classes.tolist()[0]!r}: there is "
            "nothing to be told apart."
        )
    if counts.max() < 2:
        raise ValueError("y must hold at least one class with 2 or more points; every class has 1.")


def check_neighbors(n_neighbors: int, n_candidates: int | None, counts: np.ndarray) -> None:
    """Raise where no anchor could have the candidates that K neighbours need."""
    positives, negatives = n_neighbors // 2 + 1, (n_neighbors + 1) // 2
    if n_candidates is not None and n_candidates < positives:
        raise ValueError(
            f"n_candidates must be at least {positives} for n_neighbors={n_neighbors}; got "
            f"{n_candidates}."
        )
    if not ((counts > positives) & (counts.sum() - counts >= negatives)).any():
        raise ValueError(
            f"n_neighbors={n_neighbors} needs a class with more than {positives} points, beside "
            f"{negatives} points of other classes; the classes have {counts.tolist()}."
        )


def check_result(result: SolverResult, solver: Solver) -> None:
    """Warn of a result that is not what was asked for; raise where there is none."""
    n_iter, info = len(result.loss_curve), result.info
    convex = isinstance(solver, ConvexSolver)
    if result.status == "not_finite":
        rate = getattr(solver, "learning_rate", None)
        remedy = f"Scale X, or lower learning_rate={rate!r}."
        if n_iter == 0:
            raise ValueError(f"The loss is not finite in the first epoch. {remedy}")
        message = f"The loss is not finite after {n_iter} epochs; the best one is kept. {remedy}"
    elif result.status == "vanished":
        message = (
            f"target_radius={info['target_radius']:.6g} is too large: it is proved that no "
            "metric does better than M = 0 by a thousandth (tr(M) = "
            f"{info['rounds'][-1]['trace']:.1e}). Lower target_radius, or the solver's "
            "regularization."
        )
        if n_iter == 0 and not info["radius_was_chosen"]:
            raise ValueError(message)
        what = "best round before" if info["best_round"] else "initial metric"
        message += f" The {what} is kept."
    elif result.status == "stalled":
        last = info["rounds"][-1]
        message = (
            f"The convex program does not converge: after {last['n_iter']} iterations its relative "
            f"duality gap is {last['gap']:.1e} (wanted: {solver.tol:.0e}), and hardly falls."  # type: ignore[attr-defined]
        )
        if last["spread"] > _SPREAD:
            message += (
                f" Features differ in scale by a factor of {last['spread']:.0e}: scale X first "
                "(StandardScaler)."
            )
        message += " What was found is judged as it is; solver='adam' may do better."
    elif result.status == "not_proved":
        message = (
            f"The relative duality gap is {info['gap']:.1e} (wanted: {solver.tol:.0e}; status "  # type: ignore[attr-defined]
            f"{info['solver_status']!r}): the metric may be far from the optimum. Give "
            "solver=ProjectedSolver(...) with a larger max_iter, tol or regularization, or "
            "CvxpySolver(...) with another backend."
        )
    elif result.status == "interrupted":
        message = f"Interrupted after {n_iter} epochs; the best one is kept."
    elif result.status == "start_is_best":
        remedy = "another target_radius or regularization" if convex else "a lower learning_rate"
        message = (
            "No metric that was tried is better than the initial one on the held-out training "
            f"points; the initial one is kept. Try {remedy}, or more points."
        )
    elif result.status == "max_iter":
        most = getattr(solver, "max_iter", None)
        message = (
            f"Not converged after max_iter={most} epochs; the best one is kept. "
            "Raise max_iter, or tol."
        )
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
