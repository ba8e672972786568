"""The peers of ``benchmarks/finite_sum.py``: plain compiled loops, independent of the package, so that grids are cheap.

Reshuffled SGD, Adam and AdamW (the L2 penalty as decoupled weight decay), SAGA on fixed mini-batches and SVRG, each
with a constant step, one that falls linearly to zero at the end of the budget, or a constant one with the polynomial
average of the iterates as the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
import scipy.optimize

import problems
from problems.linear import LinearSum

METHODS = ("SGD", "Adam", "SAGA", "SVRG", "AdamW")
SCHEDULES = ("constant", "linear", "averaged")
BATCH = 8
KINDS = {"logistic": 0, "least-squares": 1, "robust-geman-mcclure": 2, "robust-tukey": 3}
PENALTIES = {"none": 0, "l2": 1, "bounded": 2}
CURVATURE = (0.25, 0.16, 1.0, 1.0)
"""Largest second derivative of each loss in its predictor, about: the grids of steps are multiples of 1/L."""

jit = numba.njit(cache=True)


@dataclass(frozen=True)
class Data:
    """A zoo problem as arrays: f_i(x) = loss(kind, a_i' x, y_i) + weight * penalty(x)."""

    rows: Any
    targets: Any
    kind: int
    penalty: int
    weight: float
    x0: Any

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.targets)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What compiled code takes."""
        return self.rows, self.targets, self.kind, self.penalty, self.weight

    @property
    def scale(self) -> float:
        """1 / L for the mean L of single samples: where the grids of steps are."""
        return 1.0 / (CURVATURE[self.kind] * float(np.mean(np.sum(self.rows**2, axis=1))) + self.weight)


def load(name: str) -> Data:
    """Return the zoo's linear problem ``name`` as dense arrays."""
    problem = problems.get(name)
    source = problem.objective.losses.__self__
    assert isinstance(source, LinearSum)
    rows = source.rows if isinstance(source.rows, np.ndarray) else source.rows.toarray()
    kind = next(number for prefix, number in KINDS.items() if name.startswith(prefix))
    penalty = PENALTIES[source.penalty.kind]
    targets = np.asarray(source.targets, dtype=float)
    return Data(np.ascontiguousarray(rows, dtype=float), targets, kind, penalty, source.penalty.weight, problem.x0)


@jit
def loss(kind, p, t):
    """Return the loss of one sample."""
    if kind == 0:
        z = -t * p
        return math.log1p(math.exp(-abs(z))) + max(z, 0.0)
    if kind == 1:
        s = 1.0 / (1.0 + math.exp(-p)) if p > -700.0 else 0.0
        return (t - s) ** 2
    r2 = (p - t) ** 2
    if kind == 2:
        return 0.5 * r2 / (1.0 + r2)
    return 4.685**2 / 6.0 * (1.0 - max(0.0, 1.0 - r2 / 4.685**2) ** 3)


@jit
def slope(kind, p, t):
    """Return its derivative in the predictor."""
    if kind == 0:
        z = t * p
        return -t / (1.0 + math.exp(z)) if z < 700.0 else 0.0
    if kind == 1:
        s = 1.0 / (1.0 + math.exp(-p)) if p > -700.0 else 0.0
        return -2.0 * (t - s) * s * (1.0 - s)
    r = p - t
    if kind == 2:
        return r / (1.0 + r * r) ** 2
    return r * max(0.0, 1.0 - (r / 4.685) ** 2) ** 2


@jit
def value(data, x):
    """Return the full objective."""
    rows, targets, kind, penalty, weight = data
    total = 0.0
    for i in range(len(targets)):
        total += loss(kind, np.dot(rows[i], x), targets[i])
    total /= len(targets)
    for u in x:
        if penalty == 1:
            total += 0.5 * weight * u * u
        elif penalty == 2:
            total += weight * u * u / (1.0 + u * u)
    return total


@jit
def gradient(data, x, order, lo, hi, out):
    """Write the mean gradient over the samples order[lo:hi] to ``out``."""
    rows, targets, kind, penalty, weight = data
    out[:] = 0.0
    for k in range(lo, hi):
        row = rows[order[k]]
        s = slope(kind, np.dot(row, x), targets[order[k]]) / (hi - lo)
        for j in range(x.size):
            out[j] += s * row[j]
    for j in range(x.size):
        if penalty == 1:
            out[j] += weight * x[j]
        elif penalty == 2:
            out[j] += 2.0 * weight * x[j] / (1.0 + x[j] * x[j]) ** 2


def loops(value: Any, gradient: Any) -> Any:
    """Return the compiled peers for an objective.

    Parameters
    ----------
    value, gradient : compiled functions
        ``value(data, x)``; ``gradient(data, x, order, lo, hi, out)`` writes the mean over the samples order[lo:hi].

    Returns
    -------
    function
        ``run(data, smooth, decay, n, x0, method, schedule, rate, batch, seed, looks, enough)``: the full objective when
        ``looks`` gradient passes are spent (NaN after divergence, or once it is at or below ``enough``), and the
        answer. ``smooth`` is the data whose gradients are taken: for AdamW without the penalty, whose weight is
        ``decay``.
    """

    @numba.njit  # not cached: what it closes over has no stable hash
    def run(data, smooth, decay, n, x0, method, schedule, rate, batch, seed, looks, enough):
        d = x0.size
        count = -(-n // batch)
        np.random.seed(seed)  # noqa: NPY002  (what compiled code has)
        x, average, g, old = x0.copy(), x0.copy(), np.zeros(d), np.zeros(d)
        m, v, mean, snapshot = np.zeros(d), np.zeros(d), np.zeros(d), x0.copy()
        table = np.zeros((count if method == 2 else 1, d))
        order, visits = np.random.permutation(n), np.arange(count)  # noqa: NPY002
        values = np.full(looks.size, np.nan)
        cost, look, t = 0.0, 0, 0
        while look < looks.size:
            if method == 2:
                visits = np.random.permutation(count)  # noqa: NPY002
            else:
                order = np.random.permutation(n)  # noqa: NPY002
            for position in range(count):
                k = visits[position]
                while look < looks.size and cost >= looks[look]:
                    values[look] = value(data, average if schedule == 2 else x)
                    look += 1
                if look >= looks.size or (look > 0 and values[look - 1] <= enough):
                    return values, average if schedule == 2 else x
                if method == 3 and t % (2 * count) == 0:  # the snapshot's gradient, every second pass
                    gradient(data, x, order, 0, n, mean)
                    snapshot[:] = x
                    cost += 1.0
                lo, hi = k * n // count, (k + 1) * n // count
                gradient(smooth, x, order, lo, hi, g)
                cost += (hi - lo) / n
                step = rate * max(0.0, 1.0 - cost / looks[-1]) if schedule == 1 else rate
                t += 1
                if method == 0:
                    x -= step * g
                elif method == 1 or method == 4:
                    if method == 4:
                        x *= 1.0 - step * decay
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    x -= step * (m / (1.0 - 0.9**t)) / (np.sqrt(v / (1.0 - 0.999**t)) + 1e-8)
                elif method == 2:
                    g *= count * (hi - lo) / n
                    if t <= count:
                        x -= step * g
                    else:
                        x -= step * (g - table[k] + mean)
                    mean += (g - table[k]) / count
                    table[k] = g
                else:
                    gradient(data, snapshot, order, lo, hi, old)
                    cost += (hi - lo) / n
                    x -= step * (g - old + mean)
                if schedule == 2:  # Shamir & Zhang 2013, section 4, with power 8 as in vamo
                    average += 9.0 / (t + 8.0) * (x - average)
                if not np.isfinite(x[0]):
                    return values, x
        return values, average if schedule == 2 else x

    return run


run = loops(value, gradient)


def rates(data: Data, method: int) -> list[float]:
    """Return the six steps of a method's grid."""
    if METHODS[method].startswith("Adam"):
        return [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    return [data.scale * factor for factor in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)]


def peer(data: Data, method: int, schedule: int, rate: float, seed: int, looks: Any) -> tuple[Any, Any]:
    """Return the values at ``looks`` and the answer of one run of a peer."""
    smooth = replace(data, penalty=0) if METHODS[method] == "AdamW" else data
    return run(
        data.arrays, smooth.arrays, data.weight, data.n, data.x0, method, schedule, rate, BATCH, seed, looks, -math.inf
    )  # fmt: skip


def full(data: Data, x: Any) -> float:
    """Return the objective."""
    return float(value(data.arrays, x))


def descend(data: Data, x: Any, *, maxiter: int, trace: list[float] | None = None) -> tuple[float, Any]:
    """Return value and point of L-BFGS-B from ``x``; ``trace`` receives the best value after each full gradient."""
    order, best = np.arange(data.n), math.inf

    def objective(z: Any) -> tuple[float, Any]:
        nonlocal best
        out = np.zeros_like(z)
        gradient(data.arrays, z, order, 0, data.n, out)
        found = full(data, z)
        best = min(best, found)
        if trace is not None:
            trace.append(best)
        return found, out

    options = {"maxiter": maxiter, "maxfun": 2 * maxiter, "ftol": 0.0, "gtol": 1e-13, "maxcor": 30}
    result = scipy.optimize.minimize(objective, x, jac=True, method="L-BFGS-B", options=options)
    return float(result.fun), result.x
