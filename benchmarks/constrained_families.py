"""Seed-drawn constrained problems: twelve families of which a seed draws dimension, numbers and start.

:mod:`benchmarks.constrained` runs them. The functions take complex points, whose imaginary steps give the reference
exact derivatives; the solvers are given none. ``logarithms`` and ``mixture`` have no value outside of their
constraints or bounds. The designs are those of the literature on constrained engineering problems (S. S. Rao,
Engineering optimization, 4th edition, 2009; A. Kumar, G. Wu, M. Z. Ali, R. Mallipeddi, P. N. Suganthan and S. Das, A
test-suite of non-convex constrained optimization problems from the real-world, Swarm and Evolutionary Computation 56,
2020) with loads, prices and starts drawn, in units in which the objective is about 1 to 100.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FAMILIES", "SEEDS", "Drawn", "draw"]

SEEDS = {"fresh-development": range(3), "fresh-held-out": range(100, 102)}

Fun = Callable[[Any], Any]


class Drawn(NamedTuple):
    """A problem: minimize ``fun`` where ``low <= rows(x) <= high`` and ``lower <= x <= upper``.

    Attributes
    ----------
    fun, rows : callable
        Objective; constraints, (m,).
    low, high : (m,) arrays
        Limits of the rows.
    x0, lower, upper : (d,) arrays
        Start and bounds.
    """

    fun: Fun
    rows: Fun
    low: Any
    high: Any
    x0: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def _free(d: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(d, -np.inf), np.full(d, np.inf)


def _rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(rng.normal(size=(d, d)))[0])


def _bowl(rng: np.random.Generator, d: int, condition: float = 100.0) -> tuple[Fun, np.ndarray]:
    """Return a rotated quadratic, and its minimizer at a distance of 2 to 4 from 0."""
    axes, scales = _rotation(rng, d), condition ** rng.uniform(0.0, 1.0, d)
    lowest = rng.normal(size=d)
    lowest *= rng.uniform(2.0, 4.0) / np.linalg.norm(lowest)
    return lambda x: scales @ (axes @ (x - lowest)) ** 2 / np.sqrt(condition) + 1.0, lowest


def polytope(rng: np.random.Generator) -> Drawn:
    """Return a quadratic whose minimum is beyond some of 2 d planes; the start is feasible."""
    d = int(rng.integers(2, 11))
    fun, lowest = _bowl(rng, d)
    normals = rng.normal(size=(2 * d, d))
    normals *= np.sign(normals @ lowest)[:, None]
    high = rng.uniform(0.3, 1.2, 2 * d) * (normals @ lowest)
    return Drawn(fun, lambda x: normals @ x, -np.inf, high, np.zeros(d), *_free(d))


def ellipsoid(rng: np.random.Generator) -> Drawn:
    """Return a quadratic whose minimum is outside of a long ellipsoid; so is the start."""
    d = int(rng.integers(2, 11))
    fun, lowest = _bowl(rng, d)
    axes, scales = _rotation(rng, d), 30.0 ** rng.uniform(0.0, 1.0, d)
    high = rng.uniform(0.05, 0.3) * float(scales @ (axes @ lowest) ** 2)
    start = rng.normal(size=d) * 3.0
    return Drawn(fun, lambda x: np.array([scales @ (axes @ x) ** 2]), -np.inf, np.array([high]), start, *_free(d))


def sphere(rng: np.random.Generator) -> Drawn:
    """Return a quadratic on a sphere, and on a plane through it from 4 variables on; the start is off both."""
    d = int(rng.integers(2, 11))
    fun, _ = _bowl(rng, d)
    normal, radius = rng.normal(size=d), rng.uniform(0.5, 1.5)
    last = [0.0] if d >= 4 else []

    def rows(x: Any) -> Any:
        return np.array([x @ x - radius**2, normal @ x][: 1 + len(last)])

    return Drawn(fun, rows, np.array([0.0, *last]), np.array([0.0, *last]), rng.normal(size=d), *_free(d))


def valley(rng: np.random.Generator) -> Drawn:
    """Return Rosenbrock's chain within a ball that cuts its valley."""
    d = int(rng.integers(2, 7))
    axes, size = _rotation(rng, d), rng.uniform(0.4, 0.9)

    def fun(x: Any) -> Any:
        return 1.0 + (20.0 * (x[1:] - x[:-1] ** 2) ** 2).sum() + ((1.0 - x) ** 2).sum()

    start = axes[0] * rng.uniform(0.5, 1.5)
    return Drawn(fun, lambda x: np.array([x @ x]), -np.inf, np.array([size * d]), start, *_free(d))


def scaled(rng: np.random.Generator) -> Drawn:
    """Return a polytope in variables of sizes 0.1 to 10, with rows multiplied by 0.001 to 1000."""
    inner = polytope(rng)
    d, m = inner.x0.size, inner.high.size
    units, factors = 10.0 ** rng.uniform(-1.0, 1.0, d), 10.0 ** rng.uniform(-3.0, 3.0, m)
    return Drawn(
        lambda x: inner.fun(x / units),
        lambda x: factors * inner.rows(x / units),
        -np.inf,
        factors * inner.high,
        rng.normal(size=d) * units,
        *_free(d),
    )


def inactive(rng: np.random.Generator) -> Drawn:
    """Return a quartic whose minimum is well within curved constraints; the start is infeasible."""
    d = int(rng.integers(2, 11))
    _, lowest = _bowl(rng, d)
    axes, weights = _rotation(rng, d), 10.0 ** rng.uniform(-1.0, 1.0, d)
    radius = 0.8 * float(np.linalg.norm(lowest))

    def fun(x: Any) -> Any:
        y = axes @ (x - lowest)
        return 2.0 + weights @ (y**2 + 0.5 * y**4)

    def rows(x: Any) -> Any:
        return np.array([(x - lowest) @ (x - lowest) - radius**2, x[0] - lowest[0] - np.exp(x[1] - lowest[1])])

    return Drawn(fun, rows, -np.inf, np.zeros(2), -0.5 * lowest, *_free(d))


def logarithms(rng: np.random.Generator) -> Drawn:
    """Return profits under logarithms and roots of what the rows leave: no value where a row is violated."""
    d = int(rng.integers(2, 9))
    normals, pull = rng.uniform(0.1, 1.0, (d, d)), rng.uniform(2.0, 6.0, d)
    high = rng.uniform(1.0, 3.0, d)

    def fun(x: Any) -> Any:
        rest = high - normals @ x
        if (np.real(rest) < -1e-9).any() or (np.real(x) < -0.5).any():
            raise ValueError("math domain error")
        return 20.0 - pull @ np.log(1.0 + x) - 0.3 * np.sqrt(rest + 1e-6).sum()

    start = rng.uniform(0.0, 0.3, d) * (high / normals.sum(axis=1)).min()
    return Drawn(fun, lambda x: normals @ x, -np.inf, high, start, np.zeros(d), np.full(d, np.inf))


def mixture(rng: np.random.Generator) -> Drawn:
    """Return the free energy of a mixture whose elements are balanced: linear equations and positive amounts."""
    d = int(rng.integers(4, 11))
    m = int(rng.integers(1, min(4, d - 2)))
    matrix = rng.integers(0, 3, (m, d)).astype(float)
    matrix[0] = 1.0
    inside = rng.uniform(0.2, 1.0, d)
    costs = rng.normal(size=d) * 3.0

    def fun(x: Any) -> Any:
        if (np.real(x) <= 0.0).any():
            raise ValueError("math domain error")
        return 10.0 + x @ (costs + np.log(x / x.sum()))

    total = matrix @ inside
    return Drawn(fun, lambda x: matrix @ x, total, total, np.full(d, 0.5), np.full(d, 1e-6), np.full(d, 10.0))


def control(rng: np.random.Generator) -> Drawn:
    """Return the effort that takes a pendulum to a given angle, at rest, in so many pulses: two nonlinear equations."""
    d = int(rng.integers(4, 11))
    angle, friction = rng.uniform(1.0, 2.5), rng.uniform(0.05, 0.4)

    def rows(u: Any) -> Any:
        step, place, speed = 3.0 / d, 0.0 * u[0], 0.0 * u[0]
        for pulse in u:
            for _ in range(4):
                speed = speed + 0.25 * step * (4.0 * pulse - np.sin(place) - friction * speed)
                place = place + 0.25 * step * speed
        return np.array([place - angle, speed])

    weights, most = 30.0 / d * rng.uniform(0.5, 2.0, d), np.full(d, 2.0)
    return Drawn(lambda u: 1.0 + weights @ u**2, rows, np.zeros(2), np.zeros(2), np.zeros(d), -most, most)


def beam(rng: np.random.Generator) -> Drawn:
    """Return the cost of a welded beam, 4 variables."""
    load, length = 6000.0 * rng.uniform(0.7, 1.3), 14.0 * rng.uniform(0.8, 1.2)

    def fun(x: Any) -> Any:
        return 1.10471 * x[0] ** 2 * x[1] + 0.04811 * x[2] * x[3] * (length + x[1])

    def rows(x: Any) -> Any:
        h, weld, t, b = x
        arm = np.sqrt(0.25 * (weld**2 + (h + t) ** 2))
        polar = 2.0 * np.sqrt(2.0) * h * weld * (weld**2 / 12.0 + 0.25 * (h + t) ** 2)
        direct, torsion = load / (np.sqrt(2.0) * h * weld), load * (length + 0.5 * weld) * arm / polar
        shear = np.sqrt(direct**2 + direct * torsion * weld / arm + torsion**2)
        bending, bend = 6.0 * load * length / (b * t**2), 4.0 * load * length**3 / (30e6 * t**3 * b)
        buckling = 4.013 * 30e6 * t * b**3 / (6.0 * length**2) * (1.0 - t / (2.0 * length) * np.sqrt(30.0 / 48.0))
        return np.array([shear - 13600.0, bending - 30000.0, h - b, bend - 0.25, load - buckling])

    lower, upper = np.array([0.1, 0.1, 0.1, 0.1]), np.array([2.0, 10.0, 10.0, 2.0])
    return Drawn(fun, rows, -np.inf, np.zeros(5), lower + rng.uniform(0.2, 0.8, 4) * (upper - lower), lower, upper)


def vessel(rng: np.random.Generator) -> Drawn:
    """Return the cost, in hundreds, of a pressure vessel of continuous sizes, or of a coil spring, 4 or 3 variables."""
    if rng.random() < 0.5:
        volume, price = 1296000.0 * rng.uniform(0.7, 1.3), rng.uniform(0.8, 1.2, 4)

        def cost(x: Any) -> Any:
            shell, head, r, length = x
            terms = [0.6224 * shell * r * length, 1.7781 * head * r**2, 3.1661 * shell**2 * length]
            return 0.01 * (price[:3] @ np.array(terms) + price[3] * 19.84 * shell**2 * r)

        def limits(x: Any) -> Any:
            shell, head, r, length = x
            filled = np.pi * r**2 * length + 4.0 / 3.0 * np.pi * r**3
            return np.array([0.0193 * r - shell, 0.00954 * r - head, volume - filled, length - 240.0])

        lower, upper = np.array([0.1, 0.1, 10.0, 10.0]), np.array([6.0, 6.0, 200.0, 240.0])
        start = lower + rng.uniform(0.2, 0.8, 4) * (upper - lower)
        return Drawn(cost, limits, -np.inf, np.zeros(4), start, lower, upper)
    load = rng.uniform(0.8, 1.2)

    def fun(x: Any) -> Any:
        return 500.0 * (x[2] + 2.0) * x[1] * x[0] ** 2

    def rows(x: Any) -> Any:
        w, coil, turns = x
        stress = (4.0 * coil**2 - w * coil) / (12566.0 * (coil * w**3 - w**4)) + 1.0 / (5108.0 * w**2)
        return np.array(
            [
                1.0 - coil**3 * turns / (71785.0 * load * w**4),
                load * stress - 1.0,
                1.0 - 140.45 * w / (coil**2 * turns * load),
                (w + coil) / 1.5 - 1.0,
            ]
        )

    lower, upper = np.array([0.05, 0.25, 2.0]), np.array([0.2, 1.3, 15.0])
    start = np.array([rng.uniform(0.06, 0.1), rng.uniform(0.5, 1.2), rng.uniform(3.0, 12.0)])
    return Drawn(fun, rows, -np.inf, np.zeros(4), start, lower, upper)


def exchanger(rng: np.random.Generator) -> Drawn:
    """Return the areas, in hundreds, of three heat exchangers, 5 variables, or the weight of a stepped cantilever."""
    if rng.random() < 0.5:
        hot = np.array([300.0, 400.0, 600.0])
        rate = np.array([120.0, 80.0, 40.0]) * rng.uniform(0.8, 1.2, 3)
        outlet = rng.uniform(450.0, 500.0)

        def rows(x: Any) -> Any:  # x: areas / 1000, temperatures / 100
            before, after = np.array([100.0, *(100.0 * x[3:])]), np.array([*(100.0 * x[3:]), outlet])
            return (100.0 * (after - before) * 1000.0 - rate * 1000.0 * x[:3] * (hot - after)) / 1e6

        lower, upper = np.array([0.1, 0.1, 0.1, 1.1, 1.5]), np.array([10.0, 15.0, 15.0, 2.9, 3.9])
        start = np.array([*rng.uniform(2.0, 8.0, 3), rng.uniform(1.5, 2.5), rng.uniform(2.6, 3.5)])
        return Drawn(lambda x: 10.0 * x[:3].sum(), rows, -np.inf, np.zeros(3), start, lower, upper)
    n = int(rng.integers(2, 6))
    force, lengths = rng.uniform(4e4, 6e4), rng.uniform(80.0, 120.0, n)

    def weight(x: Any) -> Any:
        return (x[:n] * x[n:] * lengths).sum() / 1e3

    def limits(x: Any) -> Any:
        arms = np.cumsum(lengths[::-1])[::-1]
        stress = 6.0 * force * arms / (x[:n] * x[n:] ** 2) / 14000.0 - 1.0
        inertia = x[:n] * x[n:] ** 3 / 12.0
        bend = force / (3.0 * 2e7) * ((arms**3 - (arms - lengths) ** 3) / inertia).sum() / (0.02 * arms[0]) - 1.0
        return np.concatenate([stress, x[n:] / (20.0 * x[:n]) - 1.0, [bend]])

    lower, upper = np.repeat([1.0, 5.0], n), np.repeat([10.0, 100.0], n)
    start = np.concatenate([rng.uniform(3.0, 6.0, n), rng.uniform(40.0, 80.0, n)])
    return Drawn(weight, limits, -np.inf, np.zeros(2 * n + 1), start, lower, upper)


FAMILIES = {
    f.__name__: f
    for f in (
        polytope,
        ellipsoid,
        sphere,
        valley,
        scaled,
        inactive,
        logarithms,
        mixture,
        control,
        beam,
        vessel,
        exchanger,
    )
}


def draw(name: str) -> Drawn:
    """Return problem ``family-seed``."""
    family, _, seed = name.partition("-")
    return FAMILIES[family](np.random.default_rng([int(seed), list(FAMILIES).index(family)]))
