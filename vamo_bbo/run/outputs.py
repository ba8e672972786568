"""Checks of what a user's functions return: a wrong shape or type is an error that says what was returned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.backends import to_host

__all__ = ["NOT_SCALAR", "OutputError", "gradient", "losses", "number", "pair", "rows", "scalar"]

NOT_SCALAR = "The user-provided objective function must return a scalar value."
"""The sentence scipy raises, so that a user's search finds the same answers."""


class OutputError(OptionError):
    """A user's function returned something of the wrong shape or type: raised at x0, a failed evaluation later."""


def _real(name: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise OutputError(f"{name} must return real numbers, got an array of dtype {array.dtype}.")


def scalar(value: Any) -> float:
    """Return ``value`` as a float; arrays of size 1 count as scalars, as in scipy, and so do fractions and decimals.

    Raises
    ------
    OutputError
        It is not one real number.

    Examples
    --------
    >>> import numpy as np
    >>> scalar(np.array([[2.5]]))
    2.5
    """
    if isinstance(value, (int, float)):
        return float(value)
    try:
        array = to_host(value)
    except ValueError:  # a tuple or list of unlike parts
        raise OutputError(f"{NOT_SCALAR} It returned {_describe(value, None)}.") from None
    if array.size == 1:
        one = array.reshape(())[()]
        if array.dtype.kind in "biuf" or (array.dtype.kind == "O" and hasattr(one, "__float__")):
            return float(one)
    raise OutputError(f"{NOT_SCALAR} It returned {_describe(value, array)}.")


def _describe(value: Any, array: Array | None) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}; with a gradient in it, pass jac=True"
    if array is None:
        return f"a {type(value).__name__}"
    if array.ndim:
        return f"an array of shape {array.shape} and dtype {array.dtype}"
    return f"{value!r} of type {type(value).__name__}"


def number(value: Any) -> float:
    """Return what an objective has answered as a float, NaN where it is no single number.

    Examples
    --------
    >>> import numpy as np
    >>> number(np.array([2.0])), number([1, 2]), number("text")
    (2.0, nan, nan)
    """
    try:
        return float(np.real(np.asarray(value).reshape(-1)[0])) if np.size(value) == 1 else math.nan
    except (TypeError, ValueError):
        return math.nan


def pair(value: Any) -> tuple[Any, Any]:
    """Return the value and the gradient that a function with ``jac=True`` has returned.

    Raises
    ------
    OutputError
        It is not such a pair.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise OutputError(f"fun (jac=True) must return (value, gradient), got {type(value).__name__}.")
    return value[0], value[1]


def losses(value: Any, count: int) -> FloatArray | float:
    """Return per-sample losses, shape (count,), or the batch mean as a float.

    A scalar is a batch mean. An array of one element is per-sample if one sample was asked for.

    Raises
    ------
    OutputError
        The length is not the number of samples, or the dtype is not real.
    """
    if type(value) is float:
        return value
    array = to_host(value)
    _real("FiniteSum: losses", array)
    if array.ndim == 0:
        return float(array[()])
    if array.shape != (count,):
        raise OutputError(
            f"FiniteSum: losses must return one value per sample, shape ({count},), or the batch mean as a float; "
            f"got shape {array.shape}."
        )
    return array.astype(np.float64)  # a copy: nothing of the caller's is kept


def gradient(name: str, value: Any, size: int, dtype: Any, xp: Any = np) -> Array:
    """Return a copy of a gradient as a (size,) array of ``dtype`` in the namespace ``xp``.

    Raises
    ------
    OutputError
        The shape is not (size,), or the dtype is complex or not numeric.
    """
    if xp is np and type(value) is np.ndarray and value.dtype == dtype and value.shape == (size,):
        return value.copy()  # as it should be: nothing is left to check
    array = xp.asarray(value)
    _real(name, array)
    if array.shape != (size,) and not (size == 1 and array.size == 1):
        raise OutputError(f"{name} must return a gradient of shape ({size},), got shape {array.shape}.")
    copy: Array = xp.array(array, dtype=dtype).reshape(size)
    return copy


def rows(value: Any, count: int) -> list[float]:
    """Return the values of a vectorized call as ``count`` floats.

    Raises
    ------
    OutputError
        The shape is not (count,) or (count, 1), or the dtype is not real.
    """
    array = to_host(value)
    _real("fun (vectorized=True)", array)
    if array.shape not in ((count,), (count, 1)):
        raise OutputError(
            f"fun (vectorized=True) was given {count} points as rows and must return shape ({count},), "
            f"got shape {array.shape}."
        )
    return [float(v) for v in array.reshape(count)]


def trouble(value: float) -> str | None:
    """Return the one-line name of a value that cannot be used, or None.

    Examples
    --------
    >>> trouble(1.0), trouble(float("nan"))
    (None, 'the objective returned nan')
    """
    return None if math.isfinite(value) else f"the objective returned {value}"
