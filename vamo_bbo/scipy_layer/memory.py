"""What a deterministic objective has answered, so that a method can be ended and later go on where it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vamo_bbo._typing import Array

__all__ = ["Memory", "number"]


def number(value: Any) -> float:
    """Return what an objective has answered as a float, NaN where it is no single number.

    Examples
    --------
    >>> number(np.array([2.0])), number([1, 2])
    (2.0, nan)
    """
    return float(np.real(np.asarray(value).reshape(-1)[0])) if np.size(value) == 1 else math.nan


class Memory:
    """The value told at every point.

    scipy's methods cannot be halted, only ended. One that is started again from the same point is told the same
    values, and so goes the same way, at no cost, until it asks for something new.

    Attributes
    ----------
    closed : bool
        Nothing new is kept: points of many variables, each recalled at most once, would only take memory.
    retracing : bool
        Nothing new has been asked for since :meth:`restart`.
    lowest : float
        The lowest value told since then.
    gradients : list of ((d,) array, (d,) array)
        Points and what differences gave there, in the order of the evaluations.

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
        self.gradients: list[tuple[Array, Array]] = []
        self.closed = False
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
        if not self.closed:
            self._told[np.asarray(x).tobytes()] = value
        self._see(value)

    def keep_difference(self, x: Array, value: float, legs: list[Array], values: list[Any]) -> None:
        """Keep the gradient at x from points that differ from it in one coordinate each, if these are all of them."""
        if self.closed:
            return
        steps = np.array([np.asarray(leg) - x for leg in legs])
        moved = steps != 0.0
        if steps.shape != (x.size, x.size) or not (moved.sum(axis=1) == 1).all() or not moved.any(axis=0).all():
            return
        gradient = np.zeros(x.size)
        gradient[moved.argmax(axis=1)] = (np.array([number(one) for one in values]) - value) / steps[moved]
        self.gradients.append((x.copy(), gradient))

    def _see(self, value: Any) -> None:
        self.lowest = min(self.lowest, number(value))
