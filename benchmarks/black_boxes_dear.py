"""Problems of ``benchmarks/black_boxes.py``: responses and fits of engineers, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["FAMILIES", "Fun", "Problem", "Rng", "rotation"]

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


# developed on


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


# held out


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


FAMILIES = {
    ("dear", "development"): (borehole, circuit, piston, predators, controller, surface),
    ("dear", "held-out"): (wing, arm, reactor, beam, epidemic, network),
}
