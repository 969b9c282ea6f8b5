"""The pages of the docs: their code runs, their links lead somewhere, and every page is reached."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [
    path
    for path in [ROOT / "README.md", CONTRIBUTING, *DOC.rglob("*.md")]
    if not {"_build", "changes", "auto_examples", "reference"} & set(path.parts)
    and path.name != "whats_new.md"
]

pytestmark = pytest.mark.skipif(not DOC.exists(), reason="the docs are not beside the tests")


def name(path):
    return str(path.relative_to(ROOT))


def blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.S | re.M)


# what an old release of a library has not
NEEDS = {"doc/guide/watch.md": "sklearn.callback"}
# what needs data of the reader's
NEEDS_DATA = {"doc/guarantees.md", "doc/clustering.md", "doc/datasets.md"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in PAGES if blocks(p) and name(p) not in NEEDS_DATA], ids=name
)
@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_page_runs(path, tmp_path, monkeypatch, capsys):
    if name(path) in NEEDS:
        pytest.importorskip(NEEDS[name(path)])
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": name(path)}
    for code in blocks(path):
        exec(compile(code, name(path), "exec"), scope)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("#"):
            continue
        found = (path.parent / target.split("#")[0]).exists()
        assert found, f"{name(path)} links to {target}"


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in DOC.rglob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(), re.S):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    target = re.sub(r".*<(.*)>", r"\1", line.strip())
                    listed.add((path.parent / f"{target}.md").resolve())
    pages = {p.resolve() for p in PAGES if DOC in p.parents and p.name != "index.md"}
    assert pages <= listed, {str(p.relative_to(DOC)) for p in pages - listed}


def test_the_layout_is_that_of_the_packages():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| `(\w+\.py)` \|$", CONTRIBUTING.read_text(), re.M)
    package = ROOT / "skrobust"
    there = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {name for name, _, _ in rows} == there
    for own, text, first in rows:
        assert (package / own / first).exists(), f"{own}/{first}"
        families = {path.parent.name for path in (package / own).glob("*/__init__.py")}
        assert families == set(re.findall(r"`(\w+)/`", text)), own


def test_files_that_contributing_names_exist():
    text = CONTRIBUTING.read_text()
    for path in re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text):
        if not path.endswith("_name.py"):
            roots = (ROOT, ROOT / "skrobust", *(ROOT / "skrobust").iterdir())
            assert any((root / path).exists() for root in roots), path
