"""The direction of imports, beyond what import-linter's layers say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skrobust

ROOT = Path(skrobust.__file__).parent
MODULES = sorted(p for p in ROOT.rglob("_*.py") if p.name not in ("__init__.py", "_version.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_does_not_import_its_own_package(path):
    package = ".".join(("skrobust", *path.relative_to(ROOT).parts[:-1]))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module != package
        elif isinstance(node, ast.Import):
            assert package not in [alias.name for alias in node.names]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_modules_are_private(path):
    """What another package needs is exported by its package; `utils` is for all."""
    own = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        root, *parts = str(node.module).split(".")
        if root != "skrobust" or not parts or parts[0] in (own, "utils", "_version"):
            continue
        private = any(part.startswith("_") for part in parts[1:])
        private |= any(alias.name.startswith("_") for alias in node.names)
        assert not private, f"{own} imports {node.module}"


def test_importing_the_package_does_not_load_torch():
    code = (
        "import sys, skrobust; print(sorted({'torch', 'faiss', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_resolve():
    for name in dir(skrobust):
        assert getattr(skrobust, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = skrobust.nonsense


def test_openmp_runtimes_get_along():
    """Torch, faiss and scikit-learn compute in one process, in any order, with two threads."""
    code = """
import numpy as np
X = np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
from sklearn.neighbors import NearestNeighbors
def by_sklearn():
    return NearestNeighbors(n_neighbors=2, algorithm="brute").fit(X).kneighbors(X)[1][:, 1]
first = by_sklearn()
import faiss, torch
torch.set_num_threads(2); faiss.omp_set_num_threads(2)
T = torch.from_numpy(X)
for _ in range(3):
    D = (T * T).sum(1) - 2 * T @ T.T
    D.fill_diagonal_(torch.inf)
    assert (D.argmin(1).numpy() == first).mean() > .999
    assert (faiss.knn(X, X, 2)[1][:, 1] == first).mean() > .999
    assert (by_sklearn() == first).all()
print("fine")
"""
    pytest.importorskip("faiss")
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert found.stdout.strip() == "fine", found.stderr
