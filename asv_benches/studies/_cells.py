"""Cells of a study: one line of JSON for each (data set, method, seed), made once.

Cells are kept in ``studies/cells``, or in the folder in ``SKROBUST_STUDIES``.
"""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FOLDER", "read_cells", "run_cells", "spread"]

FOLDER = Path(os.environ.get("SKROBUST_STUDIES", Path(__file__).parent / "cells"))


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Return the records of a study that exist, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_cells(
    name: str,
    path: Path,
    data: list[str],
    methods: list[str],
    seeds: list[int],
    unseeded: tuple[str, ...] = (),
) -> int:
    """Make the missing cells of a study, each in a process of its own; return how many failed.

    Methods without randomness, `unseeded`, are run with the first seed only.
    """
    n_failed = 0
    for one in product(data, methods, seeds):
        if one[1].partition("+")[0] in unseeded and one[2] != seeds[0]:
            continue
        # read again each time: another run may be adding to them
        if one in {(c["data"], c["method"], c["seed"]) for c in read_cells(path)}:
            continue
        started = time.perf_counter()
        command = [sys.executable, "-m", "studies", name, "cell", *map(str, one)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            n_failed += 1
            print(f"{one} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(done.stdout)
        print(f"{one}  {time.perf_counter() - started:.0f} s", flush=True)
    return n_failed


def spread(values: Any, digits: int) -> str:
    """Return the mean, with half the range where there are several values."""
    values = np.asarray(values)
    half = (values.max() - values.min()) / 2
    return f"{values.mean():.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")
