"""Make random reports and look for what they raise: ``python tests/fuzz/reports.py -h``.

An hour on one core: ``python tests/fuzz/reports.py --minutes 60 --log reports.log``.
A finding is repeated by its seed: ``python tests/fuzz/reports.py --seed 123 --count 1``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

if __name__ == "__main__":
    from fuzz_reports import one_report
    from fuzz_run import main

    sys.exit(main(one_report) > 0)
