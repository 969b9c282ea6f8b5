"""Nothing crosses a certificate: random problems against an adversary, from seeds.

The long search is ``python tests/fuzz/certificates.py --minutes 60``.
"""

import pytest
from fuzz_certificates import one_problem
from fuzz_run import Tally


def search(seeds):
    tally = Tally()
    for seed in seeds:
        one_problem(seed, tally)
    assert tally.findings == []
    return tally.counts


@pytest.mark.parametrize("start", [0, 10, 20, 30])
def test_nothing_crosses_a_certificate(start):
    counts = search(range(start, start + 10))
    assert counts["certificates"] >= 3
    assert counts["attempts"] >= 5_000


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 400, 50))
def test_nothing_crosses_many_certificates(start):
    counts = search(range(start, start + 50))
    assert counts["certificates"] >= 20
