"""What a deterministic objective has answered, so that a method can be ended and later go on where it was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from vamo_bbo._typing import Array

__all__ = ["Memory", "number"]


def number(value: Any) -> float:
    """Return what an objective has answered as a float, NaN where it is no single number.

    Examples
    --------
    >>> number(np.array([2.0])), number([1, 2]), number("text")
    (2.0, nan, nan)
    """
    try:
        return float(np.real(np.asarray(value).reshape(-1)[0])) if np.size(value) == 1 else math.nan
    except (TypeError, ValueError):
        return math.nan


class Memory:
    """The value told at every point.

    scipy's methods cannot be halted, only ended. One that is started again from the same point is told the same
    values, and so goes the same way, at no cost, until it asks for something new.

    Attributes
    ----------
    retracing : bool
        Nothing new has been asked for since :meth:`restart`.
    lowest : float
        The lowest value told since then.

    Examples
    --------
    >>> memory = Memory()
    >>> memory.keep(np.ones(2), 3.0)
    >>> memory.restart()
    >>> memory.recall(np.ones(2)), memory.recall(np.zeros(2)), memory.lowest, memory.retracing
    (3.0, None, 3.0, True)
    """

    def __init__(self) -> None:
        self._told: dict[bytes, Any] = {}
        self.restart()

    def restart(self) -> None:
        """Begin a run of a method."""
        self.retracing, self.lowest = True, math.inf

    def recall(self, x: Array) -> Any:
        """Return what was told at x (d,), None where nothing was."""
        told = self._told.get(np.asarray(x).tobytes())
        if told is not None:
            self._see(told)
        return told

    def keep(self, x: Array, value: Any) -> None:
        """Keep a new value at x (d,)."""
        self.retracing = False
        self._told[np.asarray(x).tobytes()] = value
        self._see(value)

    def hear(self, values: Iterable[float]) -> None:
        """Take new values of points that nobody will ask for again."""
        self.retracing = False
        for value in values:
            self._see(value)

    def _see(self, value: Any) -> None:
        self.lowest = min(self.lowest, number(value))
