"""Random reports raise no `SoundnessError` and nothing raw, from seeds.

Two thousand of them are ``python tests/fuzz/reports.py --count 2000 --minutes 120``.
"""

import pytest
from fuzz_reports import one_report
from fuzz_run import Tally


def make(seeds):
    tally = Tally()
    for seed in seeds:
        one_report(seed, tally)
    assert tally.findings == []
    return tally.counts


def test_reports_are_sound():
    counts = make(range(10))
    assert counts["reports"] >= 5
    assert counts["with a certificate"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 300, 50))
def test_many_reports_are_sound(start):
    assert make(range(start, start + 50))["reports"] >= 25
