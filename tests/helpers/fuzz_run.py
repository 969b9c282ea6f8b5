"""The loop of the searches in tests/fuzz: time limits, faults, counts, a log."""

import argparse
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

__all__ = ["Tally", "TooLongError", "fault", "main", "time_limit"]

_SLOW = 10  # seconds of processor time that are worth a line in the log


class TooLongError(Exception):
    """A computation took more processor time than it was given."""


@contextmanager
def time_limit(seconds):
    """Raise `TooLongError` after some seconds of processor time; no warnings meanwhile."""

    def stop(*_):
        raise TooLongError(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fault(error):
    """Return where a raw error comes from; None for a refusal, which the package words itself.

    A refusal is a ValueError or TypeError that the package raises, or scikit-learn's validation.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1].filename
    ours = "/skrobust/" in last
    checked = "sklearn/utils" in last or last.endswith(("sklearn/base.py", "_param_validation.py"))
    if isinstance(error, (ValueError, TypeError)) and (ours or checked):
        return None
    here = [frame for frame in frames if "/skrobust/" in frame.filename] or frames
    return f"{Path(here[-1].filename).name}:{here[-1].lineno} {here[-1].name}"


def short(message, length=110):
    """Return a message without its numbers, so that like ones are counted together."""
    return re.sub(r"\[[^\]]*\]|[-+]?\d[\d.e+-]*", "#", str(message).split("\n")[0])[:length]


class Tally:
    """Counts of what a search did, and its log."""

    def __init__(self, log=None):
        self.counts, self.refusals, self.findings = Counter(), Counter(), []
        self.kinds, self.found_kinds = Counter(), Counter()
        self.log = None if log is None else Path(log)

    def say(self, line):
        """Write a line to the log."""
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def find(self, what, seed, kinds, detail):
        """Record a finding: one line with all that reproduces it."""
        line = f"{what.upper()} seed={seed} {kinds} {detail}"
        self.findings.append(line)
        self.counts[what] += 1
        for name, value in kinds.items():
            self.found_kinds[f"{what}: {name}={value}"] += 1
        self.say(line)

    def summary(self):
        """Return the counts as text."""
        lines = ["", "counts: " + ", ".join(f"{k}={v}" for k, v in sorted(self.counts.items()))]
        lines += [f"  {n:6d} problems with {kind}" for kind, n in sorted(self.kinds.items())]
        lines.append("refusals:")
        lines += [f"  {n:6d} {message}" for message, n in self.refusals.most_common(60)]
        lines.append("findings by kind:")
        lines += [f"  {n:6d} {kind}" for kind, n in self.found_kinds.most_common(60)]
        return "\n".join(lines)


def main(one, argv=None):
    """Run ``one(seed, tally)`` over seeds, from the command line.

    Parameters
    ----------
    one : callable
    argv : list of str, default=None
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most so long")
    parser.add_argument("--count", type=int, default=10**9, help="at most so many problems")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; resume at a later one")
    parser.add_argument("--log", default=None, help="file that findings are appended to")
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tally, start, seed = Tally(given.log), time.monotonic(), given.seed
    tally.say(f"start seed={given.seed} minutes={given.minutes}")
    last = start
    while seed < given.seed + given.count and time.monotonic() < start + 60 * given.minutes:
        found, before = len(tally.findings), time.process_time()
        one(seed, tally)
        took = time.process_time() - before
        if took > _SLOW:
            tally.counts["slow"] += 1
            tally.say(f"slow seed={seed} took {took:.1f} s")
        for line in tally.findings[found:]:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        seed += 1
        if time.monotonic() > last + 60:
            last = time.monotonic()
            passed = (last - start) / 60
            tally.say(f"at {passed:.1f} min: next seed {seed}, {dict(tally.counts)}")
    passed = (time.monotonic() - start) / 60
    end = f"end: {seed - given.seed} seeds in {passed:.1f} min; next --seed {seed}"
    text = tally.summary() + "\n" + end
    tally.say(text)
    sys.stdout.write(text + "\n")
    return len(tally.findings)
