"""Settings of the whole suite: property tests draw the same examples in every run, and have no time limit."""

import importlib.util

import pytest
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture
def without_cmaes(monkeypatch):
    """The optional package behind method "cma" is not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "cmaes" else find_spec(name, *a))
