"""One problem of the search for crossings: certify, check what must hold, attack."""

import numpy as np
from fuzz_adversary import attack
from fuzz_problems import draw_problem
from fuzz_run import TooLongError, fault, short, time_limit

__all__ = ["one_problem"]

STATUS = (
    "certified", "exact", "misclassified", "numerical_tie", "uncertified", "unreachable",
    "interrupted", "abstained", "probabilistic",
)  # fmt: skip
_SECONDS = 60  # of processor time for one problem; most take less than one


def one_problem(seed, tally):
    """Certify and attack the problem of a seed, and count what happened."""
    tally.counts["seeds"] += 1
    try:
        with time_limit(_SECONDS):
            problem = draw_problem(seed)
    except TooLongError:
        tally.counts["models too slow"] += 1
        return
    except Exception as error:  # the model, not a certificate
        tally.counts["models that do not fit"] += 1
        tally.refusals[f"model: {type(error).__name__}: {short(error)}"] += 1
        return
    for name in ("data", "rule", "method"):
        tally.kinds[f"{name}={problem.kinds[name]}"] += 1
    stage = "certify"
    try:
        with time_limit(_SECONDS):
            rows = np.arange(len(problem.clean))
            certificate = problem.certify(problem.clean, rows)
            tally.counts["certificates"] += 1
            tally.counts["points"] += len(rows)
            tally.counts["certified points"] += int((certificate.radius > 0).sum())
            for what, detail in _invariants(problem, certificate):
                tally.find(what, seed, problem.kinds, detail)
            stage = "attack"
            rng = np.random.default_rng([10, seed])
            crossings, tried = attack(problem, certificate, rng)
            tally.counts["attempts"] += tried
            for crossing in crossings:
                tally.find("crossing", seed, problem.kinds, crossing)
            stage = "company"
            for what, detail in _company(problem, certificate, rng):
                tally.find(what, seed, problem.kinds, detail)
    except TooLongError:
        tally.find("hang", seed, problem.kinds, stage)
    except Exception as error:
        where = fault(error)
        if where is None and stage == "certify":
            tally.counts["refused"] += 1
            tally.refusals[f"{type(error).__name__}: {short(error)}"] += 1
        else:
            tally.find(
                "crash",
                seed,
                problem.kinds,
                f"{stage}: {type(error).__name__} at {where}: {short(error, 200)}",
            )


def _invariants(problem, certificate):
    """Yield what is wrong with a certificate by itself."""
    radius, status = np.asarray(certificate.radius), np.asarray(certificate.status)
    if len(radius) != len(problem.clean):
        yield "invariant", f"{len(radius)} radii of {len(problem.clean)} points"
        return
    if np.isnan(radius).any() or (radius < 0).any():
        yield "invariant", f"radii {radius}"
    if not np.isin(status, STATUS).all():
        yield "invariant", f"status {set(status)}"
    if (radius[status == "misclassified"] > 0).any():
        yield "invariant", "a misclassified point has a radius"
    upper = certificate.upper
    if upper is not None and (upper < radius).any():
        yield "invariant", f"upper {upper} < radius {radius}"
    if problem.by_row:
        return
    predicted = np.asarray(problem.predict(problem.columns.build(problem.clean)))
    if problem.y is None:
        if (status == "misclassified").any():
            yield "invariant", "predictions themselves are misclassified"
    else:
        right = predicted == problem.y
        wrong = right != np.asarray(certificate.correct)
        if wrong.any():
            yield "invariant", f"correct is not predict == y in rows {np.flatnonzero(wrong)}"


def _company(problem, certificate, rng):
    """Yield radii that depend on the other rows, or on the order of the columns."""
    if problem.by_row:
        return
    radius = np.asarray(certificate.radius)
    row = int(rng.integers(0, len(radius)))
    # in float32 the model's own steps differ with the number of rows, by its rounding
    tolerance = 1e-2 if "float32" in problem.columns.dtypes else 1e-5
    alone = problem.certify(problem.clean[[row]], np.array([row])).radius[0]
    if not _close(alone, radius[row], tolerance):
        yield "company", f"row {row} has {alone!r} alone, {radius[row]!r} in company"
    order = problem.permutation
    if order is None or problem.allowed.integer.any() or problem.allowed.groups:
        return
    permuted = problem.columns.permuted(order)
    rows = np.arange(len(radius))
    try:
        same = problem.predict(permuted.build(problem.clean[:, order]))
        before = problem.predict(problem.columns.build(problem.clean))
    except Exception:
        return
    if not np.array_equal(same, before):
        return  # a model that goes by position
    try:
        again = problem.certify(problem.clean, rows, order).radius
    except (TypeError, ValueError):
        return
    if not all(_close(u, v, tolerance) for u, v in zip(again, radius, strict=True)):
        yield "columns", f"order {order.tolist()}: {again.tolist()} in place of {radius.tolist()}"


def _close(u, v, tolerance):
    return u == v or abs(u - v) <= tolerance * max(abs(u), abs(v))
