"""Docstrings: examples run, every public name has parameters and returns described."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import skrobust

PACKAGES = sorted(m.name for m in pkgutil.iter_modules(skrobust.__path__) if m.ispkg)
MODULES = sorted(m.name for m in pkgutil.walk_packages(skrobust.__path__, "skrobust."))


def public_objects():
    for package in PACKAGES:
        module = importlib.import_module(f"skrobust.{package}")
        for name in getattr(module, "__all__", []):
            yield f"{package}.{name}", getattr(module, name)
    for name in skrobust.threat_model.__all__:
        yield f"threat_model.{name}", getattr(skrobust.threat_model, name)


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.failed == 0


def test_the_examples_are_found():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(module) for module in MODULES]
    examples = [t for m in modules for t in finder.find(m, module=m) if t.examples]
    assert len(examples) >= 10


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings_name_every_parameter(name):
    thing = PUBLIC[name]
    if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, Exception)):
        return
    text = inspect.getdoc(thing) or ""
    assert len(text.splitlines()) >= 1
    assert text.split("\n")[0].endswith(".")
    text = text.replace("*", "")
    parameters = set(inspect.signature(thing).parameters) - {"args", "kwargs", "self"}
    for parameter in parameters:
        assert f"\n{parameter}" in text or f", {parameter}" in text, f"{parameter} is not described"


def test_the_api_list_is_complete():
    path = Path(__file__).parents[1] / "doc" / "api.md"
    if not path.exists():
        pytest.skip("the docs are not beside the tests")
    text = path.read_text()
    missing = [name for name in PUBLIC if f"`{name.split('.')[1]}`" not in text]
    assert missing == []
