"""Problems of ``benchmarks/black_boxes.py``: many minima, with bounds and without."""

from __future__ import annotations

import numpy as np
from black_boxes_dear import Fun, Problem, Rng, rotation

__all__ = ["FAMILIES"]


# developed on


def bounded(rng: Rng, seed: int, fun: Fun, d: int, reach: float) -> Problem:
    """Return a problem that starts as far as 0.6 of the reach from 0, within bounds or, every other, without."""
    x0 = rng.uniform(-0.6, 0.6, d) * reach
    return Problem(fun, x0, *([np.full(d, -reach), np.full(d, reach)] if seed % 2 == 0 else []))


def rastrigin(rng: Rng, seed: int) -> Problem:
    """Rastrigin's function, turned and stretched."""
    d = (2, 4, 6, 10)[seed % 4]
    axes, center = rotation(rng, d) * 5.0 ** rng.uniform(-0.5, 0.5, d)[:, None], rng.uniform(-3, 3, d)

    def fun(x: np.ndarray) -> float:
        y = axes @ (x - center)
        return float(np.sum(y * y + 10 - 10 * np.cos(2 * np.pi * y)))

    return bounded(rng, seed, fun, d, 5.0)


def peaks(rng: Rng, seed: int) -> Problem:
    """Twenty-one wells of different depths and shapes without an order (Gallagher and Yuan 2006)."""
    d = (2, 3, 4, 5)[seed % 4]
    centers, depths = rng.uniform(-4, 4, (21, d)), np.append(10.0, rng.uniform(1.0, 9.0, 20))
    shapes = np.array([rotation(rng, d) * np.sqrt(30.0 ** rng.uniform(-0.5, 0.5, d))[:, None] for _ in range(21)])

    def fun(x: np.ndarray) -> float:
        y = np.einsum("kij,kj->ki", shapes, x - centers)
        return float(10.0 - np.max(depths * np.exp(-np.sum(y * y, axis=1) / (2 * d))))

    return bounded(rng, seed, fun, d, 5.0)


def tones(rng: Rng, seed: int) -> Problem:
    """Frequencies, heights and phases of one to three tones in noise."""
    n, times = (1, 2, 2, 3)[seed % 4], np.linspace(0, 3, 60)

    def wave(x: np.ndarray) -> np.ndarray:
        a, f, p = x.reshape(3, n)
        return a @ np.sin(2 * np.pi * f[:, None] * times + p[:, None])

    true = np.concatenate([rng.uniform(0.5, 2, n), rng.uniform(0.5, 4.5, n), rng.uniform(-np.pi, np.pi, n)])
    data = wave(true) + 0.1 * rng.normal(size=60)
    x0 = np.concatenate([np.ones(n), rng.uniform(1, 4, n), np.zeros(n)])
    box = [np.repeat([0.0, 0.0, -np.pi], n), np.repeat([3.0, 5.0, np.pi], n)] if seed % 2 == 0 else []
    return Problem(lambda x: float(np.mean((wave(x) - data) ** 2)), x0, *box)


def cluster(rng: Rng, seed: int) -> Problem:
    """Energy of a cluster of three to six atoms (Morse), from a random arrangement."""
    n = (3, 4, 5, 4)[seed % 4]
    first, second = np.triu_indices(n, 1)
    stiff = rng.uniform(3, 8)

    def fun(x: np.ndarray) -> float:
        p = x.reshape(n, 3)
        rise = np.exp(-stiff * (np.linalg.norm(p[first] - p[second], axis=1) - 1.0))
        return float(np.sum(np.minimum(rise * (rise - 2.0), 1e3)))

    return bounded(rng, seed, fun, 3 * n, 2.0)


def terraces(rng: Rng, seed: int) -> Problem:
    """A rotated ellipsoid in steps, with flat ground between (BBOB's seventh)."""
    d = (2, 4, 6, 8)[seed % 4]
    axes, other, center = rotation(rng, d), rotation(rng, d), rng.uniform(-3, 3, d)
    scales = 100.0 ** np.linspace(0, 1, d)

    def fun(x: np.ndarray) -> float:
        y = 10.0 ** (0.5 * np.linspace(0, 1, d)) * (axes @ (x - center))
        steps = np.where(np.abs(y) > 0.5, np.floor(0.5 + y), np.floor(0.5 + 10 * y) / 10)
        return float(max(abs(y[0]) / 1e4, scales @ (other @ steps) ** 2 / 10))

    return bounded(rng, seed, fun, d, 5.0)


def levy(rng: Rng, seed: int) -> Problem:
    """Levy's function, turned."""
    d = (2, 5, 8, 12)[seed % 4]
    axes, center = rotation(rng, d), rng.uniform(-4, 4, d)

    def fun(x: np.ndarray) -> float:
        w = 1 + axes @ (x - center) / 4
        middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
        return float(np.sin(np.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))

    return bounded(rng, seed, fun, d, 10.0)


# held out


def ackley(rng: Rng, seed: int) -> Problem:
    """Ackley's function, turned and stretched."""
    d = (2, 4, 6, 10)[seed % 4]
    axes, center = rotation(rng, d) * 3.0 ** rng.uniform(-0.5, 0.5, d)[:, None], rng.uniform(-10, 10, d)

    def fun(x: np.ndarray) -> float:
        y = axes @ (x - center)
        return float(20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(y * y))) - np.exp(np.mean(np.cos(2 * np.pi * y))))

    return bounded(rng, seed, fun, d, 20.0)


def funnels(rng: Rng, seed: int) -> Problem:
    """Two funnels, the wider one not the deeper, with ripples (Lunacek, Whitley and Sutton 2008)."""
    d = (2, 3, 5, 8)[seed % 4]
    axes, signs = rotation(rng, d), rng.choice([-1.0, 1.0], d)
    shrink = 1.0 - 1.0 / (2.0 * np.sqrt(d + 20.0) - 8.2)
    other = -np.sqrt((2.5**2 - 1.0) / shrink)

    def fun(x: np.ndarray) -> float:
        y = signs * x
        ripples = 3.0 * np.sum(1 - np.cos(2 * np.pi * (axes @ (y - 2.5))))
        return float(min(np.sum((y - 2.5) ** 2), d + shrink * np.sum((y - other) ** 2)) + ripples)

    return bounded(rng, seed, fun, d, 5.0)


def sensors(rng: Rng, seed: int) -> Problem:
    """Places of sensors in the plane from distances among them and to anchors."""
    n = (1, 2, 3, 5)[seed % 4]
    places, anchors = rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, (3, 2))

    def distances(p: np.ndarray) -> np.ndarray:
        among = np.linalg.norm(p[:, None] - p, axis=2)[np.triu_indices(n, 1)]
        return np.append(among, np.linalg.norm(p[:, None] - anchors, axis=2).ravel())

    data = distances(places) * np.exp(0.05 * rng.normal(size=n * (n - 1) // 2 + 3 * n))
    used = rng.random(data.size) < 0.7
    used[-3 * n :: 3] = used[1 - 3 * n :: 3] = True
    return bounded(rng, seed, lambda x: float(np.mean(used * (distances(x.reshape(n, 2)) - data) ** 2)), 2 * n, 2.0)


def centers(rng: Rng, seed: int) -> Problem:
    """Centers of clusters: the mean squared distance to the nearest."""
    n = (2, 3, 4, 5)[seed % 4]
    middles = rng.uniform(-4, 4, (n + 1, 2))
    data = np.concatenate([m + rng.uniform(0.2, 0.8) * rng.normal(size=(20, 2)) for m in middles])

    def fun(x: np.ndarray) -> float:
        return float(np.mean(np.min(np.sum((data[:, None] - x.reshape(n, 2)) ** 2, axis=2), axis=1)))

    return bounded(rng, seed, fun, 2 * n, 5.0)


def torsions(rng: Rng, seed: int) -> Problem:
    """Energy of a chain in the plane by its angles: wells of three of each, and contacts of its beads."""
    d = (3, 5, 7, 10)[seed % 4]
    charges = rng.choice([-1.0, 1.0], d + 2)
    first, second = np.triu_indices(d + 2, 2)

    def fun(x: np.ndarray) -> float:
        angle = np.append(0.0, np.cumsum(x))
        beads = np.vstack([[0.0, 0.0], np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)])
        squares = np.sum((beads[first] - beads[second]) ** 2, axis=1) + 0.2
        contacts = 0.3 * charges[first] * charges[second] / np.sqrt(squares) + 0.2 / squares**3
        return float(np.sum(0.5 * (1 - np.cos(3 * x))) + np.sum(contacts))

    return bounded(rng, seed, fun, d, np.pi)


def griewank(rng: Rng, seed: int) -> Problem:
    """Griewank's function and Rosenbrock's in one, turned (BBOB's nineteenth)."""
    d = (2, 4, 6, 8)[seed % 4]
    axes = rotation(rng, d) * max(1.0, np.sqrt(d) / 8)

    def fun(x: np.ndarray) -> float:
        z = axes @ x + 0.5
        s = 100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2
        return float(10 * np.mean(s / 4000 - np.cos(s)) + 10)

    return bounded(rng, seed, fun, d, 5.0)


FAMILIES = {
    ("multimodal", "development"): (rastrigin, peaks, tones, cluster, terraces, levy),
    ("multimodal", "held-out"): (ackley, funnels, sensors, centers, torsions, griewank),
}
