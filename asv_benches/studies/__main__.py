"""Run a study or a measurement, in ``asv_benches/``::

    python -m studies                       # list them
    python -m studies NAME run [--data a,b] [--methods "a;b"] [--seeds 0,1,2]
    python -m studies NAME table            # of a study with cells
    python -m studies NAME [arguments]      # of a measurement

A study is a module with ``DATA_SETS``, ``METHODS``, ``SEEDS``, ``cell(data, method, seed)``, which
returns a record, and ``table(cells)``, which prints. A cell that exists is not made again: a run
that was stopped goes on where it was. A measurement is a module with ``main(*arguments)``.
"""

import argparse
import json
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from studies._cells import FOLDER, read_cells, run_cells


def main(name: str = "", *arguments: str) -> int:
    """Run one of the modules beside this one; return the exit status."""
    known = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    known = {one for one in known if not one.startswith("_")}
    if name not in known:
        print(__doc__, *sorted(known), sep="\n")
        return 2 if name else 0
    module = import_module(f"studies.{name}")
    if hasattr(module, "cell"):
        return study(name, module, *arguments)
    return int(module.main(*arguments) or 0)


def study(name: str, module: ModuleType, *arguments: str) -> int:
    """Run a study: make its cells, print its table, or print one cell."""
    if arguments[:1] == ("cell",):
        data, method, seed = arguments[1:]
        print(json.dumps(module.cell(data, method, int(seed))))
        return 0
    parser = argparse.ArgumentParser(prog=f"python -m studies {name}")
    parser.add_argument("task", choices=["run", "table"])
    parser.add_argument("--data", default=",".join(module.DATA_SETS))
    parser.add_argument("--methods", default=";".join(module.METHODS))
    parser.add_argument("--seeds", default=",".join(map(str, module.SEEDS)))
    given = parser.parse_args(arguments)
    path = FOLDER / f"{name}.jsonl"
    if given.task == "table":
        module.table(read_cells(path))
        return 0
    seeds = [int(seed) for seed in given.seeds.split(",")]
    chosen = given.data.split(","), given.methods.split(";"), seeds
    return int(run_cells(name, path, *chosen, getattr(module, "UNSEEDED", ())) > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
