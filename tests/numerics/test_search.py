import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from skrobust.numerics import nearest_by_class, row_batches


def sorted_problem(sizes, n_features=3, seed=0):
    ends = np.cumsum(sizes)
    Z = np.random.default_rng(seed).standard_normal((ends[-1], n_features))
    return Z, [slice(int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("memory", [1024, 1e-3])
@pytest.mark.parametrize("sizes", [(30, 40, 50), (1, 5, 80), (2, 2)])
def test_equals_scikit_learn(sizes, memory):
    Z, slices = sorted_problem(sizes)
    with config_context(working_memory=memory):
        found = nearest_by_class(torch.from_numpy(Z), slices, 10)
    rows = np.arange(len(Z))
    for part in slices:
        own, others = rows[part], np.delete(rows, rows[part])
        for row in own:
            same = own[own != row]
            k = min(10, len(same))
            assert found.n_positives[row] == k
            if k:
                search = NearestNeighbors(n_neighbors=k).fit(Z[same])
                expected = same[search.kneighbors(Z[[row]])[1][0]]
                np.testing.assert_array_equal(found.positives[row, :k], expected)
            k = min(10, len(others))
            assert found.n_negatives[row] == k
            search = NearestNeighbors(n_neighbors=k).fit(Z[others])
            expected = others[search.kneighbors(Z[[row]])[1][0]]
            np.testing.assert_array_equal(found.negatives[row, :k], expected)


def test_small_classes_get_no_candidate_of_the_wrong_class():
    """Duplicates and classes smaller than n_candidates."""
    Z, slices = sorted_problem((3, 4, 20))
    Z[:7] = Z[0]
    found = nearest_by_class(torch.from_numpy(Z), slices, 10)
    label = np.repeat([0, 1, 2], (3, 4, 20))
    for row in range(len(Z)):
        positives = found.positives[row, : found.n_positives[row]].numpy()
        negatives = found.negatives[row, : found.n_negatives[row]].numpy()
        assert (label[positives] == label[row]).all()
        assert row not in positives
        assert (label[negatives] != label[row]).all()
        assert len(set(positives)) == len(positives)


def test_row_batches_cover_the_range_within_memory():
    with config_context(working_memory=1):
        batches = list(row_batches(3, 1000, 2**17))
    assert [b.stop - b.start for b in batches[:-1]] == [8] * (len(batches) - 1)
    covered = np.concatenate([np.arange(b.start, b.stop) for b in batches])
    np.testing.assert_array_equal(covered, np.arange(3, 1000))
    assert list(row_batches(0, 2, 2**60)) == [slice(0, 1), slice(1, 2)]
    assert list(row_batches(4, 4, 1)) == []


def test_some_rows_only():
    rng = np.random.default_rng(0)
    Z = torch.from_numpy(rng.standard_normal((60, 3)))
    slices = [slice(0, 25), slice(25, 26), slice(26, 60)]
    rows = torch.tensor([50, 3, 25, 59, 0])
    full, some = nearest_by_class(Z, slices, 6), nearest_by_class(Z, slices, 6, rows)
    for one, other in zip(full, some, strict=True):
        assert torch.equal(one[rows], other[rows])
    rest = torch.ones(60, dtype=torch.bool)
    rest[rows] = False
    assert not some.n_positives[rest].any()
    assert torch.equal(some.negatives[rest], torch.arange(60)[rest][:, None].repeat(1, 6))
