"""The units of the variables of ``method="auto"``: read off x0 and the box, believed where the objective agrees.

A resistance of 1000 and a capacitance of 1e-6 are of one size to who wrote them down, and of sizes that differ by 1e9
to a method whose first step or region is a ball. Nelder and Mead's first simplex, a share of each coordinate of x0, is
why their method still fits such curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.scipy_layer.objective import DIFFERENCE, Watched

__all__ = ["Coordinates", "Look", "agree", "find_units", "sizes_of", "steps_in"]

RATIO = 30.0
"""Sizes within this ratio of each other are left alone."""
AGREEMENT = 0.7
"""In units that are right, the logarithms of the sensitivities spread at most so much of what they spread without.

Starts that are random numbers have sizes that differ, too; there, the spread grows.
"""
STEP = 0.1
"""Share of a size by which a variable is changed under noise."""
NOISES = 3.0
"""A difference is seen if it is so many standard deviations of a value."""


class Look(NamedTuple):
    """What is known of an objective around x0.

    Attributes
    ----------
    value : float
        Of the objective at x0, NaN where nobody needs it.
    units : (d,) array or None
        Sizes of the variables, None where they are alike.
    slope : (d,) array or None
        The gradient by differences at x0, if one was taken.
    """

    value: float = math.nan
    units: Array | None = None
    slope: Array | None = None


def sizes_of(x0: Array, lower: Array | None, upper: Array | None) -> Array | None:
    r"""Return the sizes (d,) of the variables at a start within the bounds, None where they are alike.

    \|x0\|, else half the box, else the geometric mean of the other sizes.

    Examples
    --------
    >>> sizes_of(np.array([5.0, -1e3, 0.0]), np.array([0.0, -1e4, -1.0]), np.array([9.0, 1e4, 1.0]))
    array([   5., 1000.,    1.])
    """
    sizes = np.abs(x0.astype(np.float64))
    if lower is not None and upper is not None:
        half = (upper - lower) / 2.0
        sizes = np.where((sizes == 0.0) & np.isfinite(half), half, sizes)
    given = sizes > 0.0
    if given.sum() < 2 or np.ptp(np.log(sizes[given])) < np.log(RATIO):
        return None
    return np.asarray(np.where(given, sizes, np.exp(np.mean(np.log(sizes[given])))))


def steps_in(x0: Array, lower: Array, upper: Array) -> Array:
    """Return first steps (d,) in a box: a quarter of its width, three quarters of the way to a bound that is nearer.

    They are those of NLopt's local methods (S. G. Johnson, The NLopt nonlinear-optimization package, 2007): who bounds
    a rate of 0.5 by 0 and 1000 has chosen the start with more care than the bounds. 1 where a variable is fixed.

    Examples
    --------
    >>> steps_in(np.array([0.5, 0.0, 6.0]), np.array([0.0, 0.0, 6.0]), np.array([1000.0, 2.0, 6.0]))
    array([0.375, 0.5  , 1.   ])
    """
    x = x0.astype(np.float64)
    steps = 0.25 * (upper - lower)
    for room in (upper - x, x - lower):
        steps = np.where((room > 0.0) & (room < steps), 0.75 * room, steps)
    return np.where(upper > lower, steps, 1.0)


def agree(sizes: Array, gradient: Array, least: float = 0.0) -> bool:
    """Return whether changes by the same share of ``sizes`` (d,) move the objective more alike than equal changes.

    Parameters
    ----------
    sizes, gradient : (d,) arrays
        Of the variables, and of the objective at x0.
    least : float
        Products of the two that are not larger are not seen; most must be.
    """
    sensitivities = np.abs(gradient) * sizes
    seen = np.isfinite(sensitivities) & (sensitivities > least)
    if seen.sum() < max(2, sizes.size / 2):
        return False
    logs, units = np.log(sensitivities[seen]), np.log(sizes[seen])
    return float(np.std(logs)) <= AGREEMENT * float(np.std(logs - units))


def find_units(
    watched: Watched, x0: Array, args: tuple[Any, ...], noisy: bool = False
) -> tuple[Array | None, Array | None]:
    """Return the sizes (d,) of the variables, and the gradient by differences that it took to find out.

    The sizes are None where they are alike or the objective does not agree, the gradient where none was taken.

    Parameters
    ----------
    watched : Watched
        It has evaluated x0. Up to d values are spent.
    x0 : (d,) array
        The start, within the bounds, and the latest point.
    args : tuple
        Further arguments of the objective.
    noisy : bool
        Steps are a tenth of a size, and what is less than three times ``watched.noise`` is no difference.
    """
    sizes = sizes_of(x0, watched.lower, watched.upper)
    if sizes is None:
        return None, None
    share = STEP if noisy else DIFFERENCE
    gradient = watched.differences(x0, args, share * sizes)
    agreed = agree(sizes, gradient, NOISES * watched.noise / share if noisy else 0.0)
    return sizes if agreed else None, gradient


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Coordinates of a method of ours: those that are not fixed, each in a unit of its own."""

    x: Array
    free: Array
    scale: Array
    lower: Array
    upper: Array

    @classmethod
    def around(cls, x: Array, watched: Watched, size: float | Array, *, boxed: bool = True) -> Coordinates:
        """Return the coordinates of a method that starts at ``x``.

        The units are the widths of the box, and ``size`` where that is not finite, or everywhere unless ``boxed``.
        """
        lower = np.full(x.size, -np.inf) if watched.lower is None else watched.lower
        upper = np.full(x.size, np.inf) if watched.upper is None else watched.upper
        free = lower < upper
        wide = np.isfinite(lower) & np.isfinite(upper) & boxed
        scale = np.where(wide, upper - lower, size)[free]
        return cls(x, free, scale, lower, upper)

    def of(self, x: Array) -> Array:
        """Return points in the method's coordinates, (..., d) -> (..., k)."""
        inner: Array = x[..., self.free] / self.scale
        return inner

    def to_x(self, y: Array) -> Array:
        """Return the point of the problem."""
        x = self.x.copy()
        x[self.free] = (y * self.scale).clip(self.lower[self.free], self.upper[self.free])
        return x
