"""The exceptions of the package: one base class, four kinds of trouble."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VamoError(Exception):
    """Base class of every error that vamo_bbo raises on purpose."""


class OptionError(VamoError, ValueError):
    """An argument or option has a value that is not allowed.

    The message names the argument, the value it had and the values it may have.
    """


class CapabilityError(VamoError, ValueError):
    """A method needs something that the objective does not offer, such as a gradient."""


class StateError(VamoError, RuntimeError):
    """A solver state, a trial or a journal does not belong to what it is used with."""


class BackendUnavailable(VamoError, ImportError):
    """A compute backend was asked for that cannot run on this machine."""


class EvaluationError(VamoError, RuntimeError):
    """The objective failed and the run was told, or had no other choice, than to stop."""


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, else an empty string.

    Examples
    --------
    >>> close_matches("smothing", ["smoothing", "mixing"])
    "; did you mean 'smoothing'?"
    >>> close_matches("zzz", ["smoothing"])
    ''
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
