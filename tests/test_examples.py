"""The examples: one loader of their data, and pictures that are whole."""

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import cut_off
from sklearn.utils import Bunch

EXAMPLES = Path(__file__).parents[1] / "examples"
# those that take half a minute or less; SKROBUST_ALL_EXAMPLES=1 runs the others as well
SHORT = ("plot_false_defence.py", "plot_robust_mahalanobis.py", "plot_spam_filter.py")
CHOSEN = SHORT if "SKROBUST_ALL_EXAMPLES" not in os.environ else sorted(EXAMPLES.glob("plot_*.py"))

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="they are not beside the tests")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN, ids=lambda name: Path(name).stem)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_cut_off_in_a_picture(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert figures
    for figure in figures:
        assert cut_off(figure) < 0.02


def test_the_spam_examples_take_the_loader_of_the_package(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    X = np.arange(3 * 57.0).reshape(3, 57)[[0, 1, 1, 2]]
    given = Bunch(data=X, target=np.array([0, 1, 1, 0]), target_names=["ham", "spam"])
    sys.modules.pop("_spambase", None)
    monkeypatch.setattr("skrobust.datasets.fetch_spambase", lambda: given)
    import _spambase

    frame, spam = _spambase.load()
    np.testing.assert_array_equal(frame.to_numpy(), X[[0, 1, 3]])
    assert list(frame.columns) == _spambase.NAMES
    assert spam.tolist() == [False, True, False]
    sys.modules.pop("_spambase", None)
