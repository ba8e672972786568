"""``method="auto"``: which methods are run on which problem, and in which order."""

from vamo_bbo.auto.run import run_auto

__all__ = ["run_auto"]
