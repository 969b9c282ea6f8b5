"""Search for perturbations that cross a certificate: ``python tests/fuzz/certificates.py -h``.

An hour on one core: ``python tests/fuzz/certificates.py --minutes 60 --log crossings.log``.
A finding is repeated by its seed: ``python tests/fuzz/certificates.py --seed 123 --count 1``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

if __name__ == "__main__":
    from fuzz_certificates import one_problem
    from fuzz_run import main

    sys.exit(main(one_problem) > 0)
