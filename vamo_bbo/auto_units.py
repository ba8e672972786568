"""The units of the variables of ``method="auto"``: read off x0 and the box, believed where the objective agrees.

A resistance of 1000 and a capacitance of 1e-6 are of one size to who wrote them down, and of sizes that differ by 1e9
to a method whose first step or region is a ball. Nelder and Mead's first simplex, a share of each coordinate of x0, is
why their method still fits such curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.scipy_layer.objective import DIFFERENCE, Watched
from vamo_bbo.scipy_layer.stretched import Stretched

__all__ = ["agree", "find_units", "sizes_of", "slope_from"]

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


def find_units(watched: Watched, x0: Array, args: tuple[Any, ...], noisy: bool = False) -> Array | None:
    """Return the sizes (d,) of the variables, None where they are alike or the objective does not agree.

    Parameters
    ----------
    watched : Watched
        It has evaluated x0. Up to d values are spent, which a method that starts in these units need not pay again.
    x0 : (d,) array
        The start, within the bounds, and the latest point.
    args : tuple
        Further arguments of the objective.
    noisy : bool
        Steps are a tenth of a size, and what is less than three times ``watched.noise`` is no difference.
    """
    sizes = sizes_of(x0, watched.lower, watched.upper)
    if sizes is None:
        return None
    share = STEP if noisy else DIFFERENCE
    gradient = watched.differences(x0, args, share * sizes)
    return sizes if agree(sizes, gradient, NOISES * watched.noise / share if noisy else 0.0) else None


def slope_from(x: Array, units: Array | None) -> Any:
    """Return the method that descends by differences from x (d,), in ``units``."""
    return "L-BFGS-B" if units is None else Stretched("L-BFGS-B", x.astype(np.float64), units)
