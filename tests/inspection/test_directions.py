import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from skrobust import ThreatModel
from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.inspection import certified_directions

X, Y = load_iris(return_X_y=True)


@pytest.mark.slow
@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_shares_by_direction(exact, n_neighbors):
    knn = KNeighborsClassifier(n_neighbors).fit(X[::2], Y[::2])
    names = np.array(["x", "y", "z"])
    named = KNeighborsClassifier(n_neighbors).fit(X[::2], names[Y[::2]])
    rest, y = X[1::2], Y[1::2]
    classes, share = certified_directions(knn, rest, y, 0.3, exact=exact)
    np.testing.assert_array_equal(classes, [0, 1, 2])
    again, same = certified_directions(named, rest, names[y], 0.3, exact=exact)
    np.testing.assert_array_equal(again, names)
    np.testing.assert_allclose(same, share)
    certify = exact_nearest_neighbor_radius if exact else certify_nearest_neighbors
    found = certify(knn, rest, y)
    for s in range(3):
        assert share[s, s] == pytest.approx(found.certified(0.3)[y == s].mean())
        # a single direction is no easier than all of them
        assert (share[s] >= share[s, s]).all()
    # setosa lies beside versicolor, not virginica
    assert share[1, 2] < share[1, 0]
    # an attack in that direction succeeds where nothing is proved
    one = exact_nearest_neighbor_radius(knn, rest[y == 1], y[y == 1], target=2)
    attacked = 1 - (one.upper <= 0.3).mean()
    assert share[1, 2] <= attacked + 1e-9
    none = certified_directions(knn, rest, y, 5.0, threat_model=ThreatModel(mutable=[]))[1]
    np.testing.assert_allclose(none, knn.score(rest, y), atol=0.1)


def test_bad_input():
    knn = KNeighborsClassifier(1).fit(X, Y)
    with pytest.raises(ValueError, match="eps must be finite and >= 0"):
        certified_directions(knn, X, Y, -1)
    with (
        pytest.warns(UserWarning, match="none of the classes"),
        pytest.raises(ValueError, match="target must be one of the classes"),
    ):
        certified_directions(knn, X, Y + 7, 0.1)
