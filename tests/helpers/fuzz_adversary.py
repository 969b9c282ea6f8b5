"""The adversary of the searches in tests/fuzz: it tries to change predictions inside radii.

Every candidate is rounded to the column's type, towards the clean point; the model's own `predict`
decides, and what flips counts only if it lies inside the radius in rational arithmetic.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Crossing", "attack"]

# shares of a radius: near it to all digits, and well inside
SHARES = np.array([1.0, *(1 - 10.0 ** -np.arange(1.0, 14)), 1 - 1e-15, 0.5, 0.1, 1e-3])
# sizes that are tried where nothing is said to change the prediction
FOR_EVER = 10.0 ** np.array([0, 1, 3, 6, 9, 12, 16, 30, 70, 130, 152, 200])
JITTER = 6  # attempts with a little noise for each direction
_CHUNK = 20_000
_CALLS = 12  # more calls of `predict` where it refuses some of the points


@dataclass(frozen=True)
class Crossing:
    """A perturbation inside a certified radius that changes the prediction.

    `share` is its size over the radius; its size where the radius is infinite.
    """

    row: int
    radius: float
    share: float
    how: str
    predicted: object
    point: tuple

    def __str__(self):
        return (
            f"row={self.row} radius={self.radius!r} share={self.share!r} how={self.how!r} "
            f"predicted={self.predicted!r} point={list(self.point)!r}"
        )


def attack(problem, certificate, rng):
    """Return the crossings of a certificate (one a row), and the number of attempts.

    Parameters
    ----------
    problem : Problem
    certificate : Certificate
    rng : Generator
    """
    search = _Search(problem, certificate, rng)
    if len(search.rows) and search.movable.any():
        search.sweep(search.directions(certificate))
        search.boundary()
    return list(search.crossings.values()), search.tried


class _Search:
    """The certified rows of a problem; η are perturbations over the scales, x + s ∘ η."""

    def __init__(self, problem, certificate, rng):
        self.problem, self.rng = problem, rng
        radius = np.asarray(certificate.radius, dtype=float)
        self.rows = np.flatnonzero((radius > 0) & np.asarray(certificate.correct))
        self.radius, self.clean = radius[self.rows], problem.clean[self.rows]
        allowed = problem.allowed
        self.norm, self.movable = allowed.norm, allowed.scale > 0
        self.unit = np.where(self.movable, allowed.scale, 1.0)
        self.lower, self.upper = allowed.box(self.clean)
        self.crossings, self.tried = {}, 0
        self.labels = self._labels() if len(self.rows) else self.rows

    def _labels(self):
        if self.problem.y is not None:
            return np.asarray(self.problem.y)[self.rows]
        return np.asarray(self.predict(np.arange(len(self.rows)), self.clean))

    def predict(self, owner, points):
        """Return the model's own predictions of points that belong to some rows."""
        predict, build = self.problem.predict, self.problem.columns.build
        if not self.problem.by_row:
            return np.asarray(predict(build(points)))
        return predict(build(points), self.rows[owner])

    # -- directions ----------------------------------------------------------------------------

    def directions(self, certificate):
        """Return (owner, η, how) of every direction that is worth a try."""
        found = []
        geometry = self._geometry()
        for k in range(len(self.rows)):
            for how, eta in self._of_row(k, certificate):
                found.append((k, eta, how))
            if geometry is not None:
                for how, eta in self._white_box(k, *geometry):
                    found.append((k, eta, how))
        return found

    def _of_row(self, k, certificate):
        d, rng = self.clean.shape[1], self.rng
        if certificate.perturbation is not None:
            delta = np.asarray(certificate.perturbation[self.rows[k]], dtype=float)
            yield "exact search", (delta / self.unit)[None]
        train = self.problem.train
        moves = (train - self.clean[k]) / self.unit
        gap = np.abs(moves)[:, self.movable].sum(axis=1)
        near = np.argsort(np.nan_to_num(gap, nan=np.inf))
        own = self.problem.train_labels[near] == self.labels[k]
        some = moves[np.concatenate([near[~own][:4], near[own][:2]])]
        yield "training points", np.vstack([some, -some[-2:]])
        eye = np.eye(d)[self.movable]
        eye = eye[rng.permutation(len(eye))[:6]]
        yield "coordinates", np.vstack([eye, -eye])
        spread = rng.standard_normal((4, d))
        yield "random", np.vstack([spread, np.sign(rng.standard_normal((4, d)))])

    def _geometry(self):
        """Return A, points, labels and z of the rows as the package sees the model, or None."""
        try:
            from skrobust.adapters import as_nearest_neighbor_rule

            rule = as_nearest_neighbor_rule(self.problem.model)
            A = np.eye(rule.n_features_in) if rule.matrix is None else rule.matrix
            Z = rule.embed(self.problem.columns.build(self.clean)).points
        except Exception:
            return None
        return None if A.shape[1] != self.clean.shape[1] else (A, rule.points, rule.labels, Z)

    def _white_box(self, k, A, points, labels, Z):
        squared = ((points - Z[k]) ** 2).sum(axis=1)
        near = np.argsort(np.nan_to_num(squared, nan=np.inf))
        mine = labels[near] == labels[near[0]]
        own, other = near[mine][:3], near[~mine][:4]
        if len(other):
            pairs = (points[other][:, None] - points[own][None]).reshape(-1, points.shape[1])
            yield "pairs of neighbours", self._steepest(pairs @ A)
        B = A * np.where(self.movable, self.unit, 0.0)
        size = np.abs(B).max()
        if not np.isfinite(size) or size == 0:
            return
        try:
            _, _, Vt = np.linalg.svd(B / size)
            inverse = np.linalg.pinv(B / size) / size
        except np.linalg.LinAlgError:
            return
        onto = (points[np.concatenate([own, other])] - Z[k]) @ inverse.T
        yield "onto a neighbour", onto
        null = Vt[-min(3, len(Vt)) :]
        yield "null space", np.vstack([null, -null])
        # onto a neighbour's embedding, and far along the null space beside it
        lengths = np.linalg.norm(onto, ord=self.norm, axis=1, keepdims=True)
        along = null[self.rng.integers(0, len(null), len(onto))]
        factor = 10.0 ** self.rng.uniform(-1, 6, (len(onto), 1))
        yield "neighbour and null space", onto + factor * lengths * along
        if np.isfinite(self.radius[k]):
            room = np.maximum(self.radius[k] - lengths, 0)
            both = [onto + sign * s * room * null[-1] for s in (0.3, 0.9) for sign in (-1, 1)]
            yield "= onto and null space", np.vstack([onto, *both])

    def _steepest(self, w):
        """Return η of which w · (s ∘ η) grows most for its norm."""
        g = w * np.where(self.movable, self.unit, 0.0)
        g = g / np.maximum(np.abs(g).max(axis=1, keepdims=True), 1e-300)
        if self.norm == np.inf:
            return np.sign(g)
        if self.norm == 1:
            top = np.abs(g) == np.abs(g).max(axis=1, keepdims=True)
            return np.where(top & (np.cumsum(top, axis=1) == 1), np.sign(g), 0.0)
        return g

    # -- attempts ------------------------------------------------------------------------------

    def sweep(self, directions):
        """Try directions at many sizes, and some with a little noise."""
        owners, etas, hows = [], [], []
        for k, eta, how in directions:
            eta = np.where(self.movable, np.asarray(eta, dtype=float), 0.0)
            if not how.startswith("="):
                eta = self._sizes(k, eta)
            owners.append(np.full(len(eta), k))
            etas.append(eta)
            hows.extend([how] * len(eta))
        self.try_all(np.concatenate(owners), np.vstack(etas), np.array(hows))

    def _sizes(self, k, eta):
        """Return directions at sizes up to the radius, with jitter."""
        largest = np.abs(eta).max(axis=1, keepdims=True, initial=0)
        keep = (largest[:, 0] > 0) & np.isfinite(largest[:, 0])
        eta = eta[keep] / largest[keep]
        if not len(eta):
            return eta
        eta = eta / np.linalg.norm(eta, ord=self.norm, axis=1, keepdims=True)
        if np.isfinite(self.radius[k]):
            sizes = self.radius[k] * SHARES
        else:
            here = max(1.0, float(np.abs(self.problem.train / self.unit).max()))
            sizes = np.concatenate([FOR_EVER, FOR_EVER[:6] * min(here, 1e100)])
        found = (sizes[:, None, None] * eta).reshape(-1, eta.shape[1])
        some = found[self.rng.integers(0, len(found), JITTER * len(eta))]
        width = 10.0 ** -self.rng.uniform(1, 15, (len(some), 1))
        width = width * np.abs(some).max(axis=1, keepdims=True)
        noisy = some + width * self.rng.standard_normal(some.shape)
        return np.vstack([found, self._shrunk(np.full(len(noisy), k), noisy)])

    def _shrunk(self, owner, eta):
        """Scale rows down to the radius where they are longer."""
        eta = np.where(self.movable, eta, 0.0)
        largest = np.maximum(np.abs(eta).max(axis=1, keepdims=True), 1e-300)
        length = largest * np.linalg.norm(eta / largest, ord=self.norm, axis=1, keepdims=True)
        limit = self.radius[owner][:, None] * (1 - 1e-15)
        return np.where(length > limit, eta * (limit / length), eta)

    def points(self, owner, eta):
        """Return points of the container's type, inside the box."""
        clean, lower, upper = self.clean[owner], self.lower[owner], self.upper[owner]
        allowed = self.problem.allowed
        delta = np.where(self.movable, self.unit * eta, 0.0)
        points = clean + delta
        longer = np.abs(points.astype(np.longdouble) - clean) > np.abs(delta)
        points = np.where(longer, np.nextafter(points, clean), points)
        points = np.where(np.isfinite(points), points, clean)
        points = np.clip(points, lower, upper)
        points = np.where(allowed.integer, clean + np.trunc(points - clean), points)
        for group in allowed.groups:
            chosen = points[:, group].argmax(axis=1)
            some = self.rng.random(len(points)) < 0.5
            chosen[some] = self.rng.integers(0, len(group), int(some.sum()))
            movable = bool(self.movable[group].all())
            points[:, group] = np.eye(len(group))[chosen] if movable else clean[:, group]
        return self.problem.columns.cast(points, clean)

    def flipped(self, owner, points):
        """Return which predictions are what the adversary wants; what raises is none."""
        wanted = np.zeros(len(points), dtype=bool)
        # by size: what `predict` refuses as too large does not take the others with it
        order = np.argsort(np.abs(points).max(axis=1, initial=0), kind="stable")
        parts = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
        for _ in range(_CALLS + len(parts)):
            if not parts:
                break
            part = parts.pop(0)
            try:
                found = self.predict(owner[part], points[part])
            except Exception:
                half = len(part) // 2
                parts += [part[:half], part[half:]] if half else []
                continue
            self.tried += len(part)
            target = self.problem.target
            wanted[part] = found != self.labels[owner[part]] if target is None else found == target
        return wanted

    def try_all(self, owner, eta, how):
        """Attempt perturbations; remember the first crossing of each row."""
        keep = np.isfinite(eta).all(axis=1) & ~np.isin(self.rows[owner], list(self.crossings))
        owner, how = owner[keep], how[keep]
        points = self.points(owner, eta[keep])
        for i in np.flatnonzero(self.flipped(owner, points)):
            k = int(owner[i])
            row = int(self.rows[k])
            if row in self.crossings:
                continue
            if not self.problem.allowed.holds(self.clean[k], points[i], self.radius[k]):
                continue
            moved = (points[i] - self.clean[k]) / self.unit
            largest = np.abs(moved).max()
            size = float(largest * np.linalg.norm(moved / largest, ord=self.norm))
            self.crossings[row] = Crossing(
                row,
                float(self.radius[k]),
                size / float(self.radius[k]) if np.isfinite(self.radius[k]) else size,
                str(how[i]),
                self.predict(owner[i : i + 1], points[i : i + 1])[0],
                tuple(float(value) for value in points[i]),
            )

    def boundary(self):
        """Bisect to the boundary from afar, and look for nearer points along it."""
        owners, ends = [], []
        for k in np.flatnonzero(np.isfinite(self.radius)):
            moves = (self.problem.train - self.clean[k]) / self.unit
            some = moves[self.rng.permutation(len(moves))[:5]]
            factor = self.radius[k] * 10.0 ** self.rng.uniform(0, 3, (5, 1))
            far = factor * self.rng.standard_normal((5, len(self.unit)))
            ends.append(np.vstack([some, some * self.rng.uniform(1, 4, (len(some), 1)), far]))
            owners.append(np.full(len(ends[-1]), k))
        if not ends:
            return
        owner, eta = np.concatenate(owners), np.where(self.movable, np.vstack(ends), 0.0)
        for _ in range(3):
            keep = np.isfinite(eta).all(axis=1)
            owner, eta = owner[keep], eta[keep]
            keep = self.flipped(owner, self.points(owner, eta))
            owner, eta = self._bisected(owner[keep], eta[keep])
            if not len(eta):
                return
            self.try_all(owner, self._shrunk(owner, eta), np.full(len(eta), "boundary"))
            self.sweep([(k, eta[owner == k][:3], "along the boundary") for k in np.unique(owner)])
            owner, eta = self._refined(owner, eta)

    def _bisected(self, owner, eta):
        low, high = np.zeros((len(eta), 1)), np.ones((len(eta), 1))
        for _ in range(25 if len(eta) else 0):
            middle = (low + high) / 2
            flipped = self.flipped(owner, self.points(owner, eta * middle))[:, None]
            low, high = np.where(flipped, low, middle), np.where(flipped, middle, high)
        eta = eta * high
        order = np.argsort(np.linalg.norm(eta, ord=self.norm, axis=1))
        return owner[order], eta[order]

    def _refined(self, owner, eta):
        """Return the two nearest of each row, and points around them."""
        owners, etas = [], []
        for k in np.unique(owner):
            best = eta[owner == k][:2]
            drawn = best[self.rng.integers(0, len(best), 12)]
            noise = self.rng.standard_normal(drawn.shape)
            width = 10.0 ** -self.rng.uniform(0, 2, (12, 1)) * np.abs(drawn).max(axis=1)[:, None]
            etas.append(np.vstack([best, np.where(self.movable, drawn + width * noise, 0.0)]))
            owners.append(np.full(len(etas[-1]), k))
        return np.concatenate(owners), np.vstack(etas)
