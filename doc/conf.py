"""Sphinx configuration: Markdown pages, an API reference made of api.md, a gallery."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import skrobust

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))

project = "skrobust"
author = "The skrobust developers"
version = release = skrobust.__version__
copyright = author

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
html_theme = "pydata_sphinx_theme"
html_title = "skrobust"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "icon_links": [],
}
html_show_sourcelink = False
exclude_patterns = ["_build", "changes"]
templates_path = ["_templates"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# recipes that are included have headings of the third level below a title
suppress_warnings = ["config.cache", "myst.header"]

autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"_spambase",
    "plot_gallery": os.environ.get("SKROBUST_GALLERY", "1") == "1",
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
}


def _home(module: str, name: str) -> str:
    """Return where a name is defined, with a dot at the end; constants are at home anywhere."""
    found = getattr(importlib.import_module(module), name)
    return f"{getattr(found, '__module__', None) or module}."


def write_reference() -> None:
    """Make a page for each section of api.md, the list that the tests hold complete."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    pages = []
    for section in re.split(r"^## ", (HERE / "api.md").read_text(), flags=re.M)[1:]:
        module, _, body = section.partition("\n")
        names = [
            name
            for line in body.splitlines()
            if line.startswith("* ")
            for name in re.findall(r"`(\w+)`", line.split(":")[0])
        ]
        module = module.strip()
        if module == "skrobust":  # where they are at home
            homes = skrobust._PUBLIC
            public = {n: homes[n].removeprefix("skrobust.") for n in names if n in homes}
            names = [n if home.startswith("_") else f"{home}.{n}" for n, home in public.items()]
        else:  # what another package re-exports has its page there
            names = [n for n in names if _home(module, n).startswith(f"{module}.")]
        lines = [module, "=" * len(module), "", f".. currentmodule:: {module}", ""]
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names]
        page = folder / f"{module}.rst"
        text = "\n".join(lines) + "\n"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
        pages.append(page.stem)
    index = ["API reference", "=============", "", ".. toctree::", "   :maxdepth: 1", ""]
    (folder / "index.rst").write_text("\n".join([*index, *(f"   {p}" for p in pages)]) + "\n")


def write_changelog() -> None:
    """Render the fragments of doc/changes by towncrier, which are not released yet."""
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", release],
        cwd=HERE.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    (HERE / "whats_new.md").write_text(f"# What's new\n\n{done.stdout}")


def without_labels(app, what, name, obj, options, lines) -> None:
    """Drop references to labels of scikit-learn's own pages from docstrings that are inherited."""
    for k, line in enumerate(lines):
        lines[k] = re.sub(r":ref:`([^<`]+?)\s*<[^>`]*>`", r"\1", line)


def links_to_tables(app, docname, source) -> None:
    """Let links to the tables of the studies lead to files: they are Markdown, but no pages."""
    source[0] = re.sub(r"(\]\(|\]: )(\.\./asv_benches/)", r"\1path:\2", source[0])


def setup(app) -> None:
    """Connect what changes docstrings and pages."""
    app.connect("autodoc-process-docstring", without_labels)
    app.connect("source-read", links_to_tables)


write_reference()
write_changelog()
