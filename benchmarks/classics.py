"""Fourteen classical unconstrained problems that cost microseconds: a quick stand-in for S2MPJ.

Sources: J. J. Moré, B. S. Garbow and K. E. Hillstrom, Testing unconstrained optimization software, ACM TOMS 7 (1981),
and textbook functions (ellipsoids, sums of absolute values and of fourth powers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PROBLEMS"]

Function = Callable[[Any], float]


def rosenbrock(x: Any) -> float:
    """Return Rosenbrock's function."""
    return float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def powell_singular(x: Any) -> float:
    """Return Powell's singular function."""
    return float((x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4)


def wood(x: Any) -> float:
    """Return Wood's function."""
    value = 100 * (x[0] ** 2 - x[1]) ** 2 + (x[0] - 1) ** 2 + (x[2] - 1) ** 2 + 90 * (x[2] ** 2 - x[3]) ** 2
    return float(value + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2) + 19.8 * (x[1] - 1) * (x[3] - 1))


def trid(x: Any) -> float:
    """Return the Trid function, shifted."""
    return float(20 + ((x - 1) ** 2).sum() - (x[1:] * x[:-1]).sum())


def ellipsoid(x: Any) -> float:
    """Return an ellipsoid of condition 1000, shifted by 1."""
    return float(1 + (10.0 ** np.linspace(0, 3, x.size) * (x - 1) ** 2).sum())


def quartic(x: Any) -> float:
    """Return a weighted sum of fourth powers."""
    return float((np.arange(1, x.size + 1) * (x - 0.5) ** 4).sum())


def beale(x: Any) -> float:
    """Return Beale's function."""
    return float(sum((c - x[0] * (1 - x[1] ** k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))))


def helix(x: Any) -> float:
    """Return Fletcher and Powell's helical valley."""
    turn = np.arctan2(x[1], x[0]) / (2 * np.pi)
    return float(100 * ((x[2] - 10 * turn) ** 2 + (np.hypot(x[0], x[1]) - 1) ** 2) + x[2] ** 2)


def broyden(x: Any) -> float:
    """Return Broyden's tridiagonal function."""
    z = np.concatenate([[0.0], x, [0.0]])
    return float((((3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1) ** 2).sum())


def exponentials(x: Any) -> float:
    """Return a sum of exponentials and squares."""
    return float(np.exp(np.clip(x, -50, 50)).sum() + (x**2).sum())


def absolute(x: Any) -> float:
    """Return a sum of absolute values with a little curvature."""
    return float(np.abs(x - 1).sum() + 0.1 * ((x - 1) ** 2).sum())


PROBLEMS: dict[str, tuple[Function, list[float]]] = {
    "rosenbrock2": (rosenbrock, [-1.2, 1.0]),
    "rosenbrock8": (rosenbrock, [-1.2, 1.0] * 4),
    "powell4": (powell_singular, [3.0, -1.0, 0.0, 1.0]),
    "wood4": (wood, [-3.0, -1.0, -3.0, -1.0]),
    "trid6": (trid, [0.0] * 6),
    "ellipsoid3": (ellipsoid, [-5.0] * 3),
    "ellipsoid10": (ellipsoid, [3.0] * 10),
    "quartic5": (quartic, [2.0] * 5),
    "beale2": (beale, [1.0, 1.0]),
    "helix3": (helix, [-1.0, 0.0, 0.0]),
    "broyden10": (broyden, [-1.0] * 10),
    "broyden20": (broyden, [-1.0] * 20),
    "exponentials8": (exponentials, [2.0] * 8),
    "absolute6": (absolute, [4.0] * 6),
}
"""Objective and start by name."""
