"""The HTML view of an estimator links to its page, where the documentation has an address."""

from importlib import import_module

import pytest
from estimators import ESTIMATORS
from sklearn.utils import estimator_html_repr

from skrobust import RobustMahalanobis
from skrobust.utils import _estimator


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("SKROBUST_DOCS", "https://docs.example.org/")


@pytest.mark.parametrize(
    "kind", dict.fromkeys(type(e) for e in ESTIMATORS), ids=lambda kind: kind.__name__
)
def test_links_are_the_pages_of_the_reference(home, kind):
    link = kind()._get_doc_link()
    prefix, name = "https://docs.example.org/reference/generated/", kind.__name__
    assert link.startswith(prefix)
    module = link.removeprefix(prefix).removesuffix(f".{name}.html")
    assert getattr(import_module(module), name) is kind


def test_the_view_holds_the_link(home):
    view = estimator_html_repr(RobustMahalanobis())
    assert "reference/generated/skrobust.metric_learning.RobustMahalanobis.html" in view
    assert "Documentation for RobustMahalanobis" in view


def test_no_link_without_an_address(monkeypatch):
    monkeypatch.delenv("SKROBUST_DOCS", raising=False)
    monkeypatch.setattr(_estimator, "_published", lambda: "")
    assert RobustMahalanobis()._get_doc_link() == ""
    assert "Documentation for RobustMahalanobis" not in estimator_html_repr(RobustMahalanobis())


def test_the_address_of_the_metadata(monkeypatch):
    class Metadata:
        def get_all(self, key):
            return ["Homepage, https://example.org", "Documentation, https://example.org/docs"]

    monkeypatch.delenv("SKROBUST_DOCS", raising=False)
    monkeypatch.setattr(_estimator, "metadata", lambda name: Metadata())
    _estimator._published.cache_clear()
    try:
        link = RobustMahalanobis()._get_doc_link()
    finally:
        _estimator._published.cache_clear()
    assert link.startswith("https://example.org/docs/reference/")


def test_a_class_of_someone_else_has_no_page_here(home):
    class Own(RobustMahalanobis):
        pass

    assert Own.__module__ != RobustMahalanobis.__module__
    assert Own()._get_doc_link() == ""
