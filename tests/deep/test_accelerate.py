"""Training in two processes on the CPU."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from shared_data import load_digits

from skrobust import AdversarialDeepMetric

pytest.importorskip("accelerate")

SCRIPT = """
import json, sys
import numpy as np
from accelerate import Accelerator
from sklearn.datasets import load_digits
from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.deep import AdversarialTraining, EnsembleAdversarialTraining, MDProp

X, y = load_digits(n_class=4, return_X_y=True)
accelerator = Accelerator(cpu=True)
eps = ThreatModel(np.inf, 1.0)
found = {}
for name, params in {
    "plain": {},
    "mdprop": {"training": MDProp(eps)},
    "ensemble": {"training": EnsembleAdversarialTraining(eps, n_members=2, max_iter=1)},
    "proxies": {"loss": "proxy_anchor", "training": AdversarialTraining(eps, max_iter=2)},
}.items():
    metric = AdversarialDeepMetric(
        image_shape=(8, 8), max_iter=6, batch_size=64, random_state=0,
        accelerator=accelerator, **params
    ).fit(X[::2], y[::2])
    gathered = accelerator.gather(
        sum(p.detach().sum() for p in metric.module_.parameters())[None]
    )
    found[name] = {
        "processes": accelerator.num_processes,
        "weights": gathered.tolist(),
        "batches": metric.history_[0]["train_batch_count"],
        "recall": metric.score(X[1::2], y[1::2]),
        "wrapped": hasattr(metric.module_, "module"),
    }
if accelerator.is_main_process:
    json.dump(found, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_two_processes_learn_one_model(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    out = tmp_path / "found.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for found in json.loads(out.read_text()).values():
        assert found["processes"] == 2
        assert found["weights"][0] == found["weights"][1]
        assert found["batches"] == 3  # six batches of an epoch, three for each
        assert found["recall"] > 0.9
        assert not found["wrapped"]


def test_one_process_with_an_accelerator():
    X, y = load_digits(n_class=4, return_X_y=True)
    own = AdversarialDeepMetric(
        image_shape=(8, 8), max_iter=3, batch_size=64, random_state=0, accelerator=True
    ).fit(X[::2], y[::2])
    plain = AdversarialDeepMetric(
        image_shape=(8, 8), max_iter=3, batch_size=64, random_state=0, device="cpu"
    ).fit(X[::2], y[::2])
    np.testing.assert_allclose(own.transform(X), plain.transform(X), atol=1e-5)


def test_no_checkpoint_in_several_processes(tmp_path):
    X, y = load_digits(n_class=4, return_X_y=True)
    with pytest.raises(ValueError, match="checkpoint is for a single process"):
        AdversarialDeepMetric(
            image_shape=(8, 8), accelerator=True, checkpoint=tmp_path / "c"
        ).fit(X, y)  # fmt: skip
