"""Settings of the whole suite: property tests draw the same examples in every run, and have no time limit."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture
def without_cmaes(monkeypatch):
    """The optional package that method "cma" needs for Integer and Choice parameters is not installed."""
    monkeypatch.setitem(sys.modules, "cmaes", None)
