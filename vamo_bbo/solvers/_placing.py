"""The points of a round: how many there may be, and where they say most about a quadratic.

One after the other takes the place where the quadratic is the least certain, given those before it: the uncertainty of
a regression depends on where values are taken, not on what they are. That is the greedy way to the largest determinant
of the information (V. V. Fedorov, Theory of optimal experiments, 1972, chapter 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import FloatArray

__all__ = ["check_points", "in_unit_ball", "well_placed"]

FREE = 100.0
"""Prior variance of the constant and of the slope, relative to that of the Hessian: they are seen first."""
_LEAST_NOISE = 1e-6
"""Variance of a value, relative to that of the Hessian, below which a matrix of many values has no root."""


def check_points(solver: str, n_points: Any) -> None:
    """Raise OptionError unless ``n_points`` is a number of points that a round can have."""
    if isinstance(n_points, bool) or not isinstance(n_points, int | np.integer) or n_points < 1:
        raise OptionError(f"{solver}: n_points must be a whole number >= 1, got {n_points!r}.")


def in_unit_ball(generator: np.random.Generator, count: int, d: int) -> FloatArray:
    """Return random points of the unit ball, (count, d)."""
    drawn: FloatArray = generator.standard_normal((count, d))
    drawn *= generator.random((count, 1)) ** (1.0 / d) / np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def well_placed(known: FloatArray, spread: FloatArray, drawn: FloatArray, count: int, ratio: float) -> list[int]:
    """Return which candidates to evaluate together.

    Parameters
    ----------
    known : (n, d) array, n >= 1
        Points whose values are known, or will be.
    spread : (n,) array
        Variances of these values, in units of that of a value close to the origin.
    drawn : (m, d) array, m >= count
        Candidates.
    count : int
        How many are wanted.
    ratio : float
        Prior variance of the Hessian, in the same units.

    Examples
    --------
    >>> known, drawn = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.5, 0.0], [0.0, 1.0], [0.0, 0.9]])
    >>> well_placed(known, np.ones(2), drawn, 1, 1.0)
    [1]
    """
    ratio = min(ratio, 1.0 / _LEAST_NOISE)
    root = np.linalg.cholesky(_kernel(known, known, ratio) + np.diag(spread))
    seen = np.linalg.solve(root, _kernel(known, drawn, ratio))
    covariance = _kernel(drawn, drawn, ratio) - seen.T @ seen
    chosen: list[int] = []
    for _ in range(count):
        uncertain = np.diag(covariance).copy()
        uncertain[chosen] = -np.inf
        k = int(np.argmax(uncertain))
        chosen.append(k)
        column = covariance[:, k] / np.sqrt(max(float(covariance[k, k]), 0.0) + 1.0)
        covariance -= np.outer(column, column)
    return chosen


def _kernel(a: FloatArray, b: FloatArray, ratio: float) -> FloatArray:
    inner = a @ b.T
    kernel: FloatArray = ratio * (FREE * (1.0 + inner) + 0.5 * inner**2)
    return kernel
