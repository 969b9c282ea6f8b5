"""Random threat models with points, and their definition written out again."""

import numpy as np
from hypothesis import strategies as st

from skrobust import ThreatModel


@st.composite
def models(draw):
    """Return a threat model, clean points that satisfy it, and wild ones."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n, d = 12, draw(st.integers(4, 8))
    raw = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 3, d)
    kind = rng.choice(["real", "integer", "increasing"], d)
    raw[:, kind == "integer"] = np.rint(raw[:, kind == "integer"])
    groups = []
    if draw(st.booleans()):
        raw[:, :3] = np.eye(3)[rng.integers(0, 3, n)]
        kind[:3] = "real"
        groups = [[0, 1, 2]]
    mutable = rng.random(d) < 0.8
    if groups:
        mutable[:3] = draw(st.booleans())
    bounds, outside = None, "error"
    if draw(st.booleans()):
        lower, upper = raw.min(0), raw.max(0)
        if draw(st.booleans()):
            outside = "extend"
            lower, upper = lower + 0.2 * (upper - lower), upper - 0.2 * (upper - lower)
        bounds = (lower, upper)
    model = ThreatModel(
        norm=draw(st.sampled_from([1, 2, np.inf])),
        feature_scale=10.0 ** rng.uniform(-2, 2, d),
        mutable=mutable,
        bounds=bounds,
        outside=outside,
        increasing=kind == "increasing",
        integers=kind == "integer",
        one_hot=groups or None,
    )
    wild = raw + rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 3, d)
    return model, raw, wild, float(10.0 ** rng.uniform(-3, 3))


def check_by_hand(model, raw, points, eps):
    """Every line of the definition, written out again."""
    budget = model.resolve(raw.shape[1])
    delta = points - raw
    movable = np.asarray(model.mutable)
    assert (delta[:, ~movable] == 0).all()
    scaled = delta[:, movable] / np.asarray(model.feature_scale)[movable]
    if movable.any():
        # another order of the sum than the package's: its last bits may differ
        room = 1 + points.shape[1] * np.finfo(float).eps
        assert (np.linalg.norm(scaled, ord=model.norm, axis=1) <= eps * room).all()
    assert (delta[:, model.increasing] >= 0).all()
    whole = points[:, model.integers]
    assert (np.rint(whole) == whole).all()
    if model.bounds is not None:
        lower, upper = model.bounds
        moved = delta != 0
        low, high = np.broadcast_arrays(lower, points)[0], np.broadcast_arrays(upper, points)[0]
        if model.outside == "extend":
            low, high = np.minimum(low, raw), np.maximum(high, raw)
        assert (points >= low)[moved].all()
        assert (points <= high)[moved].all()
    for group in model.one_hot or []:
        assert (points[:, group].sum(1) == 1).all()
        assert np.isin(points[:, group], [0, 1]).all()
    assert budget.satisfied(raw, points, eps).all()
