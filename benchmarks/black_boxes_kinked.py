"""Problems of ``benchmarks/black_boxes.py``: kinks, steps and few digits; many variables of which few matter."""

from __future__ import annotations

import numpy as np
from black_boxes_dear import Fun, Problem, Rng, rotation

__all__ = ["FAMILIES"]


# kinked


def absolute(rng: Rng, seed: int) -> Problem:
    """A linear regression by absolute residuals, some data wrong."""
    d = (2, 4, 7, 12)[seed % 4]
    rows, true = rng.normal(size=(6 * d, d)) * 3.0 ** rng.uniform(-1, 1, d), rng.normal(size=d)
    data = rows @ true + 0.1 * rng.normal(size=6 * d) + 10 * (rng.random(6 * d) < 0.1)
    return Problem(lambda x: float(np.mean(np.abs(rows @ x - data))), np.zeros(d))


def planes(rng: Rng, seed: int) -> Problem:
    """The highest of some planes, and a little bowl."""
    d = (2, 4, 6, 10)[seed % 4]
    normals, levels, center = rng.normal(size=(3 * d, d)), rng.normal(size=3 * d), rng.normal(size=d)
    return Problem(lambda x: float(np.max(normals @ x + levels) + 0.1 * np.sum((x - center) ** 2)), np.zeros(d))


def crooked(rng: Rng, seed: int) -> Problem:
    """Kinks along curved valleys (the second of Nesterov's nonsmooth Rosenbrock functions)."""
    d = (2, 3, 4, 6)[seed % 4]
    steep = rng.uniform(1, 10)
    x0 = np.where(np.arange(d) % 2, 1.0, -1.2) + 0.1 * rng.normal(size=d)
    return Problem(lambda x: float(np.sum(steep * np.abs(x[1:] - x[:-1] ** 2) + np.abs(1 - x[:-1]))), x0)


def penalty(rng: Rng, seed: int) -> Problem:
    """A bowl with exact penalties for inequalities."""
    d = (3, 5, 7, 10)[seed % 4]
    axes, center = rotation(rng, d) * np.sqrt(10.0 ** rng.uniform(0, 1, d))[:, None], 2 * rng.normal(size=d)
    normals, limits = rng.normal(size=(d, d)), rng.uniform(0.2, 1.0, d)

    def fun(x: np.ndarray) -> float:
        beyond = np.append(normals @ x - limits, x @ x - 2 * d)
        return float(np.sum((axes @ (x - center)) ** 2) + 20 * np.sum(np.maximum(beyond, 0)))

    return Problem(fun, np.zeros(d))


def digits(rng: Rng, seed: int) -> Problem:
    """The misfit of a saturation curve or a sum of decays, printed with few digits."""
    n, times = (1, 1, 2, 3)[seed % 4], np.linspace(0, 5, 40)
    true = np.append(rng.uniform(0.5, 3, n), rng.uniform(0.2, 4, n))

    def curve(x: np.ndarray) -> np.ndarray:
        return x[:n] @ np.exp(-np.abs(x[n:, None]) * times)

    data, count = curve(true) + 0.02 * rng.normal(size=40), int(rng.integers(3, 6))
    return Problem(
        lambda x: float(f"{np.sum((curve(x) - data) ** 2):.{count}g}"), np.ones(2 * n) + np.arange(2 * n) % n
    )


def jumps(rng: Rng, seed: int) -> Problem:
    """A fit of a pendulum, integrated with steps whose number follows from the tolerance: small jumps everywhere."""
    true = rng.uniform([0.05, 5.0, 0.3], [0.5, 15.0, 1.5])
    tolerance = 10.0 ** rng.uniform(-3, -1.5)

    def run(p: np.ndarray) -> np.ndarray:
        y, t, step, path = np.array([p[2], 0.0]), 0.0, 0.1, []
        for stop in np.linspace(0.25, 5, 20):
            for _ in range(200):
                step = min(step, stop - t)
                k1 = np.array([y[1], -p[1] * np.sin(y[0]) - p[0] * y[1]])
                z = y + step * k1
                k2 = np.array([z[1], -p[1] * np.sin(z[0]) - p[0] * z[1]])
                off = 0.5 * step * float(np.abs(k2 - k1).max())
                if not off > tolerance or step < 1e-3:
                    y, t = np.clip(y + 0.5 * step * (k1 + k2), -1e3, 1e3), t + step
                step *= float(np.clip(0.9 * np.sqrt(tolerance / max(off, 1e-12)), 0.3, 3.0))
                if t >= stop - 1e-9:
                    break
            path.append(y[0])
        return np.array(path)

    data = run(true)
    return Problem(lambda p: float(np.mean((run(p) - data) ** 2)), np.array([0.2, 9.0, 0.8]) * rng.uniform(0.8, 1.2, 3))


# kinked: held out


def quantile(rng: Rng, seed: int) -> Problem:
    """A quantile regression with a curved model."""
    d = (2, 3, 5, 8)[seed % 4]
    rows, share = rng.normal(size=(10 * d, d)), rng.choice([0.1, 0.3, 0.8])
    data = np.exp(0.5 * rows @ rng.normal(size=d)) + rng.exponential(size=10 * d)

    def fun(x: np.ndarray) -> float:
        off = data - np.exp(np.minimum(0.5 * rows @ x, 50))
        return float(np.mean(np.maximum(share * off, (share - 1) * off)))

    return Problem(fun, np.zeros(d))


def bowls(rng: Rng, seed: int) -> Problem:
    """The worst of several bowls: a design for all cases."""
    d = (2, 4, 7, 12)[seed % 4]
    shapes = [rotation(rng, d) * np.sqrt(20.0 ** rng.uniform(0, 1, d))[:, None] for _ in range(d + 1)]
    middles = rng.normal(size=(d + 1, d))
    x0 = 3 * rng.normal(size=d)
    return Problem(lambda x: float(max(np.sum((s @ (x - m)) ** 2) for s, m in zip(shapes, middles, strict=True))), x0)


def chebyshev(rng: Rng, seed: int) -> Problem:
    """The largest error of a rational approximation."""
    top, grid = (1, 2, 2, 3)[seed % 4], np.linspace(-1, 1, 60)
    rate, waves = rng.uniform(0.5, 2), rng.uniform(0.5, 2.5)
    goal = np.exp(rate * grid) * np.cos(waves * grid)

    def fun(x: np.ndarray) -> float:
        below = 1.0 + grid * np.polyval(x[top + 1 :], grid)
        return float(np.max(np.abs(np.polyval(x[: top + 1], grid) / np.where(below > 0.05, below, 0.05) - goal)))

    return Problem(fun, np.zeros(2 * top + 1))


def hinge(rng: Rng, seed: int) -> Problem:
    """A support vector machine: the hinge loss and a small bowl."""
    d = (3, 5, 8, 12)[seed % 4]
    rows, true = rng.normal(size=(8 * d, d)) * 2.0 ** rng.uniform(-1, 1, d), rng.normal(size=d)
    labels = np.sign(rows @ true + rng.normal(size=8 * d))
    return Problem(lambda x: float(np.mean(np.maximum(0, 1 - labels * (rows @ x))) + 0.01 * x @ x), np.zeros(d))


def branches(rng: Rng, seed: int) -> Problem:
    """A curved bowl whose value jumps a little where a branch of the program changes."""
    d = (2, 4, 6, 9)[seed % 4]
    axes, center = rotation(rng, d) * np.sqrt(30.0 ** rng.uniform(0, 1, d))[:, None], 2 * rng.normal(size=d)
    normals, height = rng.normal(size=(6, d)) * 4, rng.uniform(0.01, 0.3)

    def fun(x: np.ndarray) -> float:
        y = axes @ (x + 0.2 * np.roll(x, 1) ** 2 - center)
        return float(y @ y + height * np.sum(np.floor(normals @ x) % 2))

    return Problem(fun, np.zeros(d))


def ticks(rng: Rng, seed: int) -> Problem:
    """Settings that a machine takes in ticks, and a reading with a few digits after the point."""
    d = (2, 3, 5, 8)[seed % 4]
    tick, count = 10.0 ** rng.uniform(-3, -1.5), int(rng.integers(2, 5))
    axes, center = rotation(rng, d) * np.sqrt(10.0 ** rng.uniform(0, 1, d))[:, None], 2 * rng.normal(size=d)

    def fun(x: np.ndarray) -> float:
        y = axes @ (tick * np.round(x / tick) - center)
        return round(float(np.sqrt(1 + y @ y) * 10 + np.sum(np.cos(y))), count)

    return Problem(fun, np.zeros(d))


# idle


def hidden(rng: Rng, d: int, fun: Fun, few: int, rest: float, *, box: float | None = None) -> Problem:
    """Return a problem of d variables of which ``few`` matter, and the others by ``rest`` (x - c)^2."""
    which, center = rng.choice(d, few, replace=False), rng.normal(size=d)
    idle = np.setdiff1d(np.arange(d), which)

    def whole(x: np.ndarray) -> float:
        return fun(x[which]) + rest * float(np.sum((x[idle] - center[idle]) ** 2))

    x0 = rng.normal(size=d)
    limits = [] if box is None else [np.full(d, -box), np.full(d, box)]
    return Problem(whole, x0 if box is None else x0.clip(-0.9 * box, 0.9 * box), *limits)


SIZES = (20, 40, 80, 150)


def valley(rng: Rng, seed: int) -> Problem:
    """Rosenbrock's function of four variables among many."""
    return hidden(
        rng,
        SIZES[seed % 4],
        lambda y: float(np.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)),
        4,
        0.0,
        box=3.0 if seed % 2 == 0 else None,
    )


def bent(rng: Rng, seed: int) -> Problem:
    """Five variables in a bent bowl, the others hardly matter."""
    axes, center = rotation(rng, 5) * np.sqrt(30.0 ** rng.uniform(0, 1, 5))[:, None], 2 * rng.normal(size=5)
    fun = lambda y: float(np.sum((axes @ (y + 0.2 * np.roll(y, 1) ** 2 - center)) ** 2))  # noqa: E731
    return hidden(rng, SIZES[seed % 4], fun, 5, 1e-4)


def alone(rng: Rng, seed: int) -> Problem:
    """A separable quartic, each variable with a size of its own, six of them large."""
    d = SIZES[seed % 4]
    scales, center = 10.0 ** rng.uniform(-2, -1, d), rng.normal(size=d)
    scales[rng.choice(d, 6, replace=False)] = 10.0
    return Problem(lambda x: float(scales @ ((x - center) ** 2 + 0.3 * (x - center) ** 4)), np.zeros(d))


def edges(rng: Rng, seed: int) -> Problem:
    """Absolute values in four variables of many."""
    axes, center = rng.normal(size=(8, 4)), rng.normal(size=4)
    return hidden(rng, SIZES[seed % 4], lambda y: float(np.sum(np.abs(axes @ (y - center)))), 4, 0.0)


# idle: held out


def product(rng: Rng, seed: int) -> Problem:
    """A product of powers of six variables, logs of which are wanted, among many without effect."""
    goal, powers = rng.normal(size=3), rng.normal(size=(3, 6))
    fun = lambda y: float(np.sum((np.tanh(powers @ y) - np.tanh(goal)) ** 2) + 0.01 * y @ y)  # noqa: E731
    return hidden(rng, SIZES[seed % 4], fun, 6, 0.0, box=4.0 if seed % 2 == 0 else None)


def gains(rng: Rng, seed: int) -> Problem:
    """Three variables in waves on a bowl, the others hardly matter."""
    center = rng.normal(size=3)
    fun = lambda y: float(np.sum((y - center) ** 2 + 0.3 * np.sin(3 * (y - center)) ** 2))  # noqa: E731
    return hidden(rng, SIZES[seed % 4], fun, 3, 1e-3)


def pairs(rng: Rng, seed: int) -> Problem:
    """Neighbors in pairs, of sizes over three decades."""
    d = SIZES[seed % 4]
    scales, center = 10.0 ** rng.uniform(-3, 0, d // 2), 0.5 * rng.normal(size=d)

    def fun(x: np.ndarray) -> float:
        y = x - center
        return float(scales @ (10 * (y[1::2] - y[::2] ** 2) ** 2 + y[::2] ** 2))

    return Problem(fun, 1.0 + 0.1 * rng.normal(size=d))


def curve(rng: Rng, seed: int) -> Problem:
    """A curve fitted by four parameters, and switches that do nothing."""
    times, true = np.linspace(0, 4, 30), rng.uniform(0.5, 2, 4)
    model = lambda y: y[0] * np.exp(-np.abs(y[1]) * times) + y[2] * np.tanh(y[3] * times)  # noqa: E731
    data = model(true)
    return hidden(rng, SIZES[seed % 4], lambda y: float(np.sum((model(y) - data) ** 2)), 4, 0.0)


FAMILIES = {
    ("kinked", "development"): (absolute, planes, crooked, penalty, digits, jumps),
    ("kinked", "held-out"): (quantile, bowls, chebyshev, hinge, branches, ticks),
    ("idle", "development"): (valley, bent, alone, edges),
    ("idle", "held-out"): (product, gains, pairs, curve),
}
