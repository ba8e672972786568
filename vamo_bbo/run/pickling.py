"""Pickles that also hold lambdas and notebook functions, where cloudpickle is installed."""

from __future__ import annotations

import pickle
from typing import Any

from vamo_bbo._errors import OptionError

__all__ = ["dumps", "loads"]


def dumps(value: Any) -> bytes:
    """Return the pickle of ``value``.

    cloudpickle is preferred: it sends functions of ``__main__``, lambdas and closures by value.

    Raises
    ------
    OptionError
        It cannot be pickled.
    """
    try:
        import cloudpickle
    except ImportError:
        cloudpickle = pickle
    try:
        blob: bytes = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        hint = "" if cloudpickle is not pickle else " (with the cloudpickle package, lambdas and closures can be)"
        raise OptionError(
            f"The objective cannot be sent to a worker process: {error}{hint}. Use workers=1 or a thread pool."
        ) from error
    return blob


def loads(blob: bytes) -> Any:
    """Return the value of a pickle made by :func:`dumps`."""
    return pickle.loads(blob)
