"""`import skrobust` is light: nothing heavy is loaded until it is used."""

import subprocess
import sys

HEAVY = ("torch", "cvxpy", "faiss", "skorch", "sklearn", "scipy", "pandas", "matplotlib")


def loaded_by(statement):
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing_heavy():
    assert loaded_by("import skrobust; skrobust.__version__; dir(skrobust)") == set()


def test_the_linear_part_loads_no_deep_libraries():
    found = loaded_by("from skrobust import RobustMahalanobis; import skrobust.certificates")
    assert {"torch", "sklearn"} <= found
    assert not {"skorch", "cvxpy", "faiss", "matplotlib"} & found


def test_submodules_are_reached_by_attribute():
    assert loaded_by("import skrobust; skrobust.certify, skrobust.scorers") >= {"sklearn"}
