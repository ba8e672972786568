"""Settings of the whole suite: property tests draw the same examples in every run, and have no time limit."""

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
