"""The problems of ``benchmarks/black_boxes.py``: families of four kinds, each with a start that is not the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["FAMILIES", "Problem"]

Fun = Callable[[np.ndarray], float]
Rng = np.random.Generator


class Problem(NamedTuple):
    """An objective, a start, and a box or none."""

    fun: Fun
    x0: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


def rotation(rng: Rng, d: int) -> np.ndarray:
    """Return a random orthogonal matrix (d, d)."""
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def boxed(rng: Rng, fun: Fun, box: np.ndarray) -> Problem:
    """Return a problem in a box (d, 2) that starts somewhere in its inner six tenths."""
    low, high = np.asarray(box, dtype=float).T
    return Problem(fun, low + rng.uniform(0.2, 0.8, low.size) * (high - low), low, high)


def design(rng: Rng, response: Callable[[np.ndarray], float], box: np.ndarray) -> Problem:
    """Return a trade: a response as near as possible to a wish, and changes of a nominal design, which cost."""
    low, high = np.asarray(box, dtype=float).T
    sample = [response(low + rng.random(low.size) * (high - low)) for _ in range(200)]
    wish, spread = float(np.quantile(sample, rng.choice([0.02, 0.2, 0.8, 0.98]))), float(np.std(sample))
    nominal, price = rng.random(low.size), 0.3 * rng.random(low.size)

    def fun(x: np.ndarray) -> float:
        off = (x - low) / (high - low) - nominal
        return float(((response(x) - wish) / spread) ** 2 + price @ off**2)

    return boxed(rng, fun, box)


# dear: developed on


def borehole(rng: Rng, seed: int) -> Problem:
    """Flow through a borehole: (Morris, Mitchell and Ylvisaker 1993); as it is, or near to a wish."""
    box = [(0.05, 0.15), (100, 50000), (63070, 115600), (990, 1110), (63.1, 116), (700, 820), (1120, 1680)]
    box = np.array([*box, (9855, 12045)])

    def flow(x: np.ndarray) -> float:
        rw, r, tu, hu, tl, hl, length, kw = x
        log = np.log(r / rw)
        return 2 * np.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))

    return design(rng, flow, box) if seed % 2 else boxed(rng, flow, box)


def circuit(rng: Rng, seed: int) -> Problem:
    """Output voltage of a push-pull circuit without transformer (Ben-Ari and Steinberg 2007)."""
    box = np.array([(50, 150), (25, 70), (0.5, 3), (1.2, 2.5), (0.25, 1.2), (50, 300)])

    def volts(x: np.ndarray) -> float:
        rb1, rb2, rf, rc1, rc2, beta = x
        vb1, load = 12 * rb2 / (rb1 + rb2), beta * (rc2 + 9)
        return ((vb1 + 0.74) * load + 11.35 * rf) / (load + rf) + 0.74 * rf * load / ((load + rf) * rc1)

    return design(rng, volts, box) if seed % 2 else boxed(rng, lambda x: -volts(x), box)


def piston(rng: Rng, seed: int) -> Problem:
    """Cycle time of a piston (Kenett and Zacks 1998)."""
    box = [(30, 60), (0.005, 0.02), (0.002, 0.01), (1000, 5000), (90000, 110000), (290, 296), (340, 360)]

    def cycle(x: np.ndarray) -> float:
        m, s, v0, k, p0, ta, t0 = x
        a = p0 * s + 19.62 * m - k * v0 / s
        v = s / (2 * k) * (np.sqrt(a * a + 4 * k * p0 * v0 * ta / t0) - a)
        return 2 * np.pi * np.sqrt(m / (k + s * s * p0 * v0 * ta / (t0 * v * v)))

    return design(rng, cycle, np.array(box)) if seed % 2 else boxed(rng, cycle, np.array(box))


def orbit(rates: Callable[[np.ndarray], np.ndarray], y: np.ndarray, step: float, steps: int) -> np.ndarray:
    """Return the states (steps, n) of Runge and Kutta's method."""
    path = []
    for _ in range(steps):
        k1 = rates(y)
        k2 = rates(y + 0.5 * step * k1)
        k3 = rates(y + 0.5 * step * k2)
        k4 = rates(y + step * k3)
        y = np.clip(y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), -1e6, 1e6)
        path.append(y)
    return np.array(path)


def predators(rng: Rng, seed: int) -> Problem:
    """Rates of predators and prey, fitted to a noisy series."""
    true = rng.uniform([0.6, 0.3, 0.6, 0.2], [1.4, 1.0, 1.4, 0.8])

    def run(p: np.ndarray) -> np.ndarray:
        return orbit(lambda y: y * np.array([p[0] - p[1] * y[1], p[3] * y[0] - p[2]]), np.array([2.0, 1.0]), 0.1, 100)

    data = run(true) * np.exp(0.1 * rng.normal(size=(100, 2)))
    return boxed(rng, lambda p: float(np.mean((run(p) - data) ** 2)), np.array([[0.1, 2.0]] * 4))


def controller(rng: Rng, seed: int) -> Problem:
    """Gains of a PID controller with a limited actuator; time-weighted absolute error."""
    damping, delay, limit = rng.uniform(0.1, 0.8), int(rng.integers(2, 8)), rng.uniform(1.5, 4.0)

    def error(x: np.ndarray) -> float:
        kp, ki, kd = 10.0**x
        y, v, total, before, cost, queue = 0.0, 0.0, 0.0, 1.0, 0.0, [0.0] * delay
        for step in range(300):
            e = 1.0 - y
            total += 0.05 * e
            queue.append(float(np.clip(kp * e + ki * total + kd * (e - before) / 0.05, -limit, limit)))
            before = e
            v += 0.05 * (queue.pop(0) - y - 2 * damping * v)
            y = min(max(y + 0.05 * v, -1e3), 1e3)
            cost += 0.05 * 0.05 * step * abs(e)
        return cost

    return boxed(rng, error, np.array([(-2, 1.5)] * 3))


def surface(rng: Rng, seed: int) -> Problem:
    """A smooth random surface on a bowl: mildly multimodal."""
    d = (2, 4, 6, 10)[seed % 4]
    waves, phases = rng.normal(size=(30, d)) * rng.uniform(1.0, 5.0, d) / np.sqrt(d), rng.uniform(0, 2 * np.pi, 30)
    heights, center = rng.normal(size=30) / 8, rng.uniform(0.2, 0.8, d)
    low, width = rng.normal(size=d), 10.0 ** rng.uniform(-1, 2, d)

    def fun(x: np.ndarray) -> float:
        u = (x - low) / width
        return float(heights @ np.cos(waves @ u + phases) + np.sum((u - center) ** 2))

    return boxed(rng, fun, np.stack([low, low + width], axis=1))


# dear: held out


def wing(rng: Rng, seed: int) -> Problem:
    """Weight of a wing of a light aircraft (Forrester, Sobester and Keane 2008)."""
    box = [(150, 200), (220, 300), (6, 10), (-10, 10), (16, 45), (0.5, 1), (0.08, 0.18), (2.5, 6), (1700, 2500)]

    def weight(x: np.ndarray) -> float:
        s, fuel, aspect, sweep, q, taper, thick, load, gross, paint = x
        cos = np.cos(np.radians(sweep))
        first = 0.036 * s**0.758 * fuel**0.0035 * (aspect / cos**2) ** 0.6 * q**0.006 * taper**0.04
        return first * (100 * thick / cos) ** -0.3 * (load * gross) ** 0.49 + s * paint

    box = np.array([*box, (0.025, 0.08)])
    return design(rng, weight, box) if seed % 2 else boxed(rng, weight, box)


def arm(rng: Rng, seed: int) -> Problem:
    """Angles of a robot's arm that reach for a point with little effort."""
    d = (3, 4, 6, 8)[seed % 4]
    lengths, goal, rest = rng.uniform(0.5, 1.0, d), rng.normal(size=2), rng.uniform(-1, 1, d)

    def fun(x: np.ndarray) -> float:
        angle = np.cumsum(x)
        hand = np.array([lengths @ np.cos(angle), lengths @ np.sin(angle)])
        return float(np.sum((hand - goal) ** 2) + 0.05 * np.sum((x - rest) ** 2))

    return boxed(rng, fun, np.array([[-np.pi, np.pi]] * d))


def reactor(rng: Rng, seed: int) -> Problem:
    """Yield of a batch reactor with a temperature profile and a time, two reactions in a row."""
    d = (3, 5, 7, 9)[seed % 4]
    first, second = rng.uniform(4e3, 6e3), rng.uniform(7e3, 9e3)
    a, b = np.exp(first / 350.0) * rng.uniform(0.3, 1.0), np.exp(second / 350.0) * rng.uniform(0.1, 0.4)

    def fun(x: np.ndarray) -> float:
        y, step = np.array([1.0, 0.0]), x[-1] / (d - 1) / 10
        for kelvin in x[:-1]:
            k1, k2 = a * np.exp(-first / kelvin), b * np.exp(-second / kelvin)
            y = orbit(lambda y, k1=k1, k2=k2: np.array([-k1 * y[0], k1 * y[0] - k2 * y[1]]), y, step, 10)[-1]
        return float(-y[1] + 0.01 * x[-1])

    return boxed(rng, fun, np.array([(300.0, 400.0)] * (d - 1) + [(0.5, 10.0)]))


def beam(rng: Rng, seed: int) -> Problem:
    """Weight of a stepped cantilever with quadratic penalties for stress and deflection."""
    n = (1, 2, 3, 5)[seed % 4]
    force, reach = rng.uniform(3e4, 6e4), rng.uniform(3.0, 6.0)
    arms = reach * np.arange(n, 0, -1) / n

    def fun(x: np.ndarray) -> float:
        width, height = x[:n], x[n:]
        stress = 6 * force * arms / (width * height**2) / 1.4e8
        bend = np.sum(force * (arms**3 - (arms - reach / n) ** 3) / (3 * 2e11 * width * height**3 / 12)) / (reach / 200)
        weight = 7800 * reach / n * float(width @ height) / 500
        return weight + 3 * float(np.sum(np.maximum(stress - 1, 0) ** 2)) + 3 * max(bend - 1.0, 0.0) ** 2

    return boxed(rng, fun, np.array([(0.01, 0.1)] * n + [(0.1, 0.6)] * n))


def epidemic(rng: Rng, seed: int) -> Problem:
    """Rates of an epidemic, fitted to counts."""
    low, high = np.array([0.1, 0.05, 0.05, 1e-5, 0.1]), np.array([1.5, 1.0, 0.5, 1e-2, 1.0])
    true = low + rng.uniform(0.2, 0.8, 5) * (high - low)

    def run(p: np.ndarray) -> np.ndarray:
        def rates(y: np.ndarray) -> np.ndarray:
            new, ill, well = p[0] * y[0] * y[2], p[1] * y[1], p[2] * y[2]
            return np.array([-new, new - ill, ill - well])

        return p[4] * orbit(rates, np.array([1.0 - p[3], 0.0, p[3]]), 1.0, 60)[:, 2]

    data = run(true) * np.exp(0.05 * rng.normal(size=60))
    scale = float(np.mean(data**2))
    return boxed(rng, lambda p: float(np.mean((run(p) - data) ** 2)) / scale, np.stack([low, high], axis=1))


def network(rng: Rng, seed: int) -> Problem:
    """A random network of two layers as a response of process settings."""
    d = (2, 3, 5, 8)[seed % 4]
    inner, outer = rng.normal(size=(2, 12, 12)), rng.normal(size=12) / 3
    inner[0] *= 3.0 / np.sqrt(d)
    shift, center = rng.normal(size=(2, 12)), rng.uniform(0.3, 0.7, d)
    low, width = rng.uniform(10, 100, d), rng.uniform(1, 300, d)

    def fun(x: np.ndarray) -> float:
        u = (x - low) / width
        hidden = np.tanh(inner[0][:, :d] @ (u - 0.5) + shift[0])
        return float(outer @ np.tanh(inner[1] @ hidden / 3 + shift[1]) + np.sum((u - center) ** 2))

    return boxed(rng, fun, np.stack([low, low + width], axis=1))


# multimodal


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


# multimodal: held out


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
    ("dear", "development"): (borehole, circuit, piston, predators, controller, surface),
    ("dear", "held-out"): (wing, arm, reactor, beam, epidemic, network),
    ("multimodal", "development"): (rastrigin, peaks, tones, cluster, terraces, levy),
    ("multimodal", "held-out"): (ackley, funnels, sensors, centers, torsions, griewank),
    ("kinked", "development"): (absolute, planes, crooked, penalty, digits, jumps),
    ("kinked", "held-out"): (quantile, bowls, chebyshev, hinge, branches, ticks),
    ("idle", "development"): (valley, bent, alone, edges),
    ("idle", "held-out"): (product, gains, pairs, curve),
}
