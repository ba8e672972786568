"""Test functions with a closed form and a known minimum; formulas as in Surjanovic and Bingham's virtual library.

Where the gradient is short it is there too; the others are value-only problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from problems.problem import Array, Built, Function, Problem, Reference


def rosenbrock(x: Array) -> float:
    """Return sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2; minimum 0 at ones."""
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rosenbrock_gradient(x: Array) -> Array:
    """Return the gradient of :func:`rosenbrock`."""
    inner = x[1:] - x[:-1] ** 2
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    gradient[1:] += 200 * inner
    return gradient


def ellipsoid(x: Array) -> float:
    """Return sum 10^(6 i/(d-1)) x_i^2: condition number 10^6; minimum 0 at zero."""
    return float(_axes(x) @ x**2)


def ellipsoid_gradient(x: Array) -> Array:
    """Return the gradient of :func:`ellipsoid`."""
    return np.asarray(2 * _axes(x) * x)


def _axes(x: Array) -> Array:
    return np.asarray(10.0 ** (6 * np.arange(x.size) / max(x.size - 1, 1)))


def rastrigin(x: Array) -> float:
    """Return 10 d + sum x_i^2 - 10 cos(2 pi x_i): a grid of local minima; minimum 0 at zero."""
    return float(np.sum(10 + x**2 - 10 * np.cos(2 * np.pi * x)))


def rastrigin_gradient(x: Array) -> Array:
    """Return the gradient of :func:`rastrigin`."""
    return np.asarray(2 * x + 20 * np.pi * np.sin(2 * np.pi * x))


def ackley(x: Array) -> float:
    """Return Ackley's function: a narrow hole in a rough plain; minimum 0 at zero."""
    wave = np.exp(np.mean(np.cos(2 * np.pi * x)))
    return float(20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - wave)


def levy(x: Array) -> float:
    """Return Levy's function; minimum 0 at ones."""
    w = 1 + (x - 1) / 4
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
    return float(np.sin(np.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))


def styblinski_tang(x: Array) -> float:
    """Return sum (x^4 - 16 x^2 + 5 x) / 2; minimum -39.16616570 d at -2.903534."""
    return float(np.sum(x**4 - 16 * x**2 + 5 * x) / 2)


def styblinski_tang_gradient(x: Array) -> Array:
    """Return the gradient of :func:`styblinski_tang`."""
    return np.asarray((4 * x**3 - 32 * x + 5) / 2)


def beale(x: Array) -> float:
    """Return Beale's function of two variables; minimum 0 at (3, 0.5)."""
    return float(np.sum((np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.arange(1, 4))) ** 2))


def himmelblau(x: Array) -> float:
    """Return Himmelblau's function of two variables; four minima of 0, one at (3, 2)."""
    return float((x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2)


def powell_singular(x: Array) -> float:
    """Return Powell's singular function of four variables; minimum 0 at zero, where the Hessian is singular."""
    a, b, c, d = x
    return float((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4)


def griewank(x: Array) -> float:
    """Return Griewank's function; minimum 0 at zero."""
    return float(1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, x.size + 1)))))


class Classic(NamedTuple):
    """A function with its gradient or None, and what is known of it; scalars stand for all coordinates."""

    function: Function
    gradient: Callable[[Array], Array] | None
    dimensions: tuple[int, ...]
    start: float | tuple[float, ...]
    minimizer: float | tuple[float, ...]
    width: float
    minimum: float = 0.0
    local: bool = False


CLASSICS = {
    "rosenbrock": Classic(rosenbrock, rosenbrock_gradient, (2, 10, 100), -1.0, 1.0, 5.0),
    "ellipsoid": Classic(ellipsoid, ellipsoid_gradient, (10, 100), 1.0, 0.0, 5.0),
    "rastrigin": Classic(rastrigin, rastrigin_gradient, (2, 10), 3.3, 0.0, 5.12, 0.0, True),
    "ackley": Classic(ackley, None, (2, 10), 3.3, 0.0, 32.768, 0.0, True),
    "levy": Classic(levy, None, (2, 10), -4.0, 1.0, 10.0, 0.0, True),
    "griewank": Classic(griewank, None, (2, 10), 50.0, 0.0, 600.0, 0.0, True),
    "styblinski-tang": Classic(
        styblinski_tang, styblinski_tang_gradient, (2, 10), -1.0, -2.903534027771177, 5.0, -39.16616570377142
    ),
    "beale": Classic(beale, None, (2,), 1.0, (3.0, 0.5), 4.5),
    "himmelblau": Classic(himmelblau, None, (2,), 0.0, (3.0, 2.0), 5.0),
    "powell-singular": Classic(powell_singular, None, (4,), (3.0, -1.0, 0.0, 1.0), 0.0, 10.0),
}


def build(name: str, dimension: int) -> Built:
    """Return the function called ``name`` in that dimension, with its usual box."""
    classic = CLASSICS[name]
    x0 = np.broadcast_to(np.asarray(classic.start, dtype=float), (dimension,))
    box = np.tile([-classic.width, classic.width], (dimension, 1))
    return Built(classic.function, x0, gradient=classic.gradient, bounds=box)


def problems() -> Iterable[Problem]:
    """Return every function in every listed dimension."""
    for name, classic in CLASSICS.items():
        for dimension in classic.dimensions:
            summary = (classic.function.__doc__ or "").partition(".")[0].partition(";")[0].removeprefix("Return ")
            yield Problem(
                f"{name}-{dimension}",
                dimension,
                "value",
                f"{summary[0].upper()}{summary[1:]}.",
                partial(build, name, dimension),
                "10 us",
                "formula",
                Reference(classic.minimum * dimension, "formula", 1e-9, by_descent=not classic.local),
            )
