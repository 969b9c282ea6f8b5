"""Fit one learner of metric-learn, in an environment that has it; studies.metric calls this.

python _peer_metrics.py NAME data.npz result.npz
"""

import sys
import time
import warnings

import metric_learn
import numpy as np

LEARNERS = {
    "LMNN": lambda seed: metric_learn.LMNN(n_neighbors=3, max_iter=200, random_state=seed),
    "LFDA": lambda seed: metric_learn.LFDA(),
    "ITML": lambda seed: metric_learn.ITML_Supervised(random_state=seed),
    "LSML": lambda seed: metric_learn.LSML_Supervised(random_state=seed),
    "MMC": lambda seed: metric_learn.MMC_Supervised(random_state=seed),
    "MLKR": lambda seed: metric_learn.MLKR(max_iter=50, random_state=seed),
    "RCA": lambda seed: metric_learn.RCA_Supervised(random_state=seed),
    "SDML": lambda seed: metric_learn.SDML_Supervised(random_state=seed),
}


def main(name, data, result):
    with np.load(data) as arrays:
        X, y, seed = arrays["X"], arrays["y"], int(arrays["seed"])
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    learner = LEARNERS[name](seed).fit(X, y)
    np.savez(result, G=learner.components_, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
