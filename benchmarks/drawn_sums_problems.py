"""Finite sums that are drawn by a seed: the families of ``benchmarks/drawn_sums.py``.

Every draw has its own number of samples (500 to 20,000) and variables (5 to 300), spectrum, scale, noise and start.
Samples are shuffled, so that fixed mini-batches are no matter of their order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np

import vamo_bbo as vb

jit = numba.njit(cache=True)

LOGISTIC, POISSON, GAMMA, PSEUDO_HUBER, STUDENT, QUANTILE, SQUARES = range(7)
SOFTMAX, FACTORS, MIXTURE = 10, 11, 12
NU, TAU, WIDTH = 2.0, 0.9, 0.2
"""Degrees of freedom of Student's t; the quantile, and the width over which its kink is smooth."""


@jit
def loss(kind, p, t):
    """Return the loss of one sample with predictor p and target t."""
    if kind == LOGISTIC:
        z = -t * p
        return math.log1p(math.exp(-abs(z))) + max(z, 0.0)
    if kind == POISSON:
        return math.exp(min(p, 700.0)) - t * p
    if kind == GAMMA:
        return p + t * math.exp(min(-p, 700.0))
    r = p - t
    if kind == PSEUDO_HUBER:
        return math.sqrt(1.0 + r * r) - 1.0
    if kind == STUDENT:
        return 0.5 * (NU + 1.0) * math.log1p(r * r / NU)
    if kind == QUANTILE:
        z = -r / WIDTH
        return (TAU - 1.0) * -r + WIDTH * (math.log1p(math.exp(-abs(z))) + max(z, 0.0))
    return 0.5 * r * r


@jit
def slope(kind, p, t):
    """Return its derivative in the predictor."""
    if kind == LOGISTIC:
        z = t * p
        return -t / (1.0 + math.exp(z)) if z < 700.0 else 0.0
    if kind == POISSON:
        return math.exp(min(p, 700.0)) - t
    if kind == GAMMA:
        return 1.0 - t * math.exp(min(-p, 700.0))
    r = p - t
    if kind == PSEUDO_HUBER:
        return r / math.sqrt(1.0 + r * r)
    if kind == STUDENT:
        return (NU + 1.0) * r / (NU + r * r)
    if kind == QUANTILE:
        z = r / WIDTH
        return 1.0 - TAU - (1.0 / (1.0 + math.exp(z)) if z < 700.0 else 0.0)
    return r


@jit
def term(data, x, i, out, factor):
    """Return the value of sample i without penalty; add its gradient times ``factor``, unless that is 0, to ``out``."""
    rows, targets, weights, kind, count, _ = data
    row, t, w = rows[i], targets[i], weights[i]
    d, size = x.size, row.size
    if kind < SOFTMAX:
        p = np.dot(row, x)
        if factor != 0.0:
            s = factor * w * slope(kind, p, t)
            for j in range(d):
                out[j] += s * row[j]
        return w * loss(kind, p, t)
    if kind == FACTORS:  # entry (row[0], row[1]) of a matrix is t; x holds `count` numbers for each row and column
        a, b = int(row[0]) * count, int(row[1]) * count
        r = -t
        for j in range(count):
            r += x[a + j] * x[b + j]
        if factor != 0.0:
            for j in range(count):
                out[a + j] += factor * w * r * x[b + j]
                out[b + j] += factor * w * r * x[a + j]
        return 0.5 * w * r * r
    score = np.empty(count)
    for c in range(count):
        score[c] = 0.0
        for j in range(size):
            if kind == SOFTMAX:
                score[c] += row[j] * x[c * size + j]
            else:
                score[c] -= 0.5 * (row[j] - x[c * size + j]) ** 2
        if kind == MIXTURE:  # normal laws of unit variance: centers, then logits of their shares
            score[c] += x[count * size + c]
    top = score.max()
    total, logits = 0.0, 0.0
    for c in range(count):
        total += math.exp(score[c] - top)
    level = top + math.log(total)
    if kind == SOFTMAX:
        for c in range(count):
            share = math.exp(score[c] - level) - (1.0 if c == int(t) else 0.0)
            if factor != 0.0:
                for j in range(size):
                    out[c * size + j] += factor * w * share * row[j]
        return w * (level - score[int(t)])
    last = x[count * size :]
    for c in range(count):
        logits += math.exp(last[c] - last.max())
    logits = math.log(logits) + last.max()
    if factor != 0.0:
        for c in range(count):
            share = math.exp(score[c] - level)
            for j in range(size):
                out[c * size + j] -= factor * w * share * (row[j] - x[c * size + j])
            out[count * size + c] += factor * w * (math.exp(last[c] - logits) - share)
    return w * (logits - level)


@jit
def value(data, x):
    """Return the mean over all samples."""
    total, none = 0.0, np.empty(0)
    for i in range(len(data[1])):
        total += term(data, x, i, none, 0.0)
    return total / len(data[1]) + 0.5 * data[5] * np.dot(x, x)


@jit
def gradient(data, x, order, lo, hi, out):
    """Write the mean gradient over the samples order[lo:hi] to ``out``."""
    for j in range(x.size):
        out[j] = data[5] * x[j]
    for k in range(lo, hi):
        term(data, x, order[k], out, 1.0 / (hi - lo))


@jit
def losses(data, x, idx):
    """Return the values of the samples ``idx``."""
    found, none = np.empty(idx.size), np.empty(0)
    penalized = 0.5 * data[5] * np.dot(x, x)
    for k in range(idx.size):
        found[k] = term(data, x, idx[k], none, 0.0) + penalized
    return found


@jit
def curvature(data, x):
    """Return the mean over samples of the curvature along a sample's own gradient."""
    n, total = len(data[1]), 0.0
    here, there = np.zeros(x.size), np.zeros(x.size)
    for i in range(n):
        here[:] = 0.0
        there[:] = 0.0
        term(data, x, i, here, 1.0)
        norm = math.sqrt(np.dot(here, here))
        if norm > 0.0:
            h = 1e-5 * (1.0 + math.sqrt(np.dot(x, x))) / norm
            term(data, x - h * here, i, there, 1.0)
            total += math.sqrt(np.sum((there - here) ** 2)) / (h * norm)
    return total / n + data[5]


@dataclass(frozen=True)
class Drawn:
    """A drawn sum: f_i(x) = w_i loss(a_i, y_i, x) + penalty |x|^2 / 2."""

    rows: Any
    targets: Any
    x0: Any
    kind: int
    weights: Any = None
    count: int = 0
    penalty: float = 0.0
    convex: bool = True
    starts: tuple[Any, ...] = field(default_factory=tuple)
    """More points from which the minimum is looked for: where the data come from."""

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.targets)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What compiled code takes."""
        weights = np.ones(self.n) if self.weights is None else self.weights
        return self.rows, self.targets, weights, self.kind, self.count, self.penalty

    def value(self, x: Any) -> float:
        """Return f(x)."""
        return float(value(self.arrays, x))

    def gradient(self, x: Any) -> Any:
        """Return the gradient of f."""
        out = np.empty(x.size)
        gradient(self.arrays, x, np.arange(self.n), 0, self.n, out)
        return out

    def finite_sum(self) -> vb.FiniteSum:
        """Return the objective that :func:`vamo_bbo.minimize` takes."""
        arrays = self.arrays

        def mean_gradient(x: Any, idx: Any) -> Any:
            out = np.empty(x.size)
            gradient(arrays, x, idx, 0, len(idx), out)
            return out

        return vb.FiniteSum(lambda x, idx: losses(arrays, x, idx), self.n, grad=mean_gradient)


Rng = np.random.Generator


def _sizes(rng: Rng, most: int = 300, samples: tuple[int, int] = (500, 20_000)) -> tuple[int, int]:
    """Return n and d, spread evenly in their logarithms; at most three million numbers."""
    n = int(np.exp(rng.uniform(*np.log(samples))))
    return n, min(int(np.exp(rng.uniform(np.log(5), np.log(most)))), 3_000_000 // n)


def _rows(rng: Rng, n: int, d: int) -> Any:
    """Return features: rotated or not, a spectrum that falls like k^-p, of any size, some of them sparse."""
    rows = rng.standard_normal((n, d))
    if rng.random() < 0.25:
        rows *= rng.random((n, d)) < rng.uniform(0.05, 0.5)
    rows *= np.arange(1, d + 1) ** -rng.uniform(0.0, 1.2)
    if rng.random() < 0.5:
        rows = rows @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    rows *= 10 ** rng.uniform(-1.0, 1.0) / math.sqrt(np.mean(np.sum(rows**2, axis=1)) / d)
    if rng.random() < 0.5:
        rows[:, 0] = 1.0
    return np.ascontiguousarray(rows)


def _planted(rng: Rng, rows: Any, size: float) -> tuple[Any, Any]:
    """Return coefficients whose predictor has the standard deviation ``size``, and the predictor."""
    x = rng.standard_normal(rows.shape[1]) / np.maximum(rows.std(axis=0), 0.1 * rows.std())
    x *= size / (rows @ x).std()
    return x, rows @ x


def _start(rng: Rng, truth: Any) -> Any:
    """Return 0, or a point as far from the truth as 0 is, or farther."""
    if rng.random() < 0.5:
        return np.zeros_like(truth)
    step = rng.standard_normal(truth.size)
    return truth + rng.uniform(1.0, 3.0) * np.linalg.norm(truth) / np.linalg.norm(step) * step


def _labels(rng: Rng, predictor: Any) -> Any:
    """Return signs: of unbalanced classes, with noise."""
    shifted = predictor - np.quantile(predictor, rng.uniform(0.5, 0.97))
    signs = np.where(rng.random(len(shifted)) < 1.0 / (1.0 + np.exp(-shifted)), 1.0, -1.0)
    return signs * np.where(rng.random(len(shifted)) < rng.choice([0.0, 0.05, 0.2]), -1.0, 1.0)


def logistic(rng: Rng) -> Drawn:
    """Logistic regression with a little or hardly any L2 term."""
    rows = _rows(rng, *_sizes(rng))
    truth, predictor = _planted(rng, rows, rng.uniform(1.0, 4.0))
    return Drawn(rows, _labels(rng, predictor), _start(rng, truth), LOGISTIC, penalty=10 ** rng.uniform(-5, -2))


def categories(rng: Rng) -> Drawn:
    """Logistic regression on categories, common and rare, one-hot, beside a few numbers."""
    n, d = _sizes(rng)
    d = max(d, 20)
    width, parts = d - 4, []
    while width > 0:
        levels = int(min(width, rng.integers(2, 60)))
        chances = np.arange(1, levels + 1) ** -rng.uniform(0.5, 1.5)
        parts.append(np.eye(levels)[rng.choice(levels, n, p=chances / chances.sum())])
        width -= levels
    rows = np.ascontiguousarray(np.concatenate([rng.standard_normal((n, 3)), np.ones((n, 1)), *parts], axis=1))
    truth = rng.standard_normal(rows.shape[1])
    return Drawn(rows, _labels(rng, rows @ truth), np.zeros(truth.size), LOGISTIC, penalty=10 ** rng.uniform(-5, -3))


def poisson(rng: Rng) -> Drawn:
    """Poisson regression with a logarithmic link."""
    rows = _rows(rng, *_sizes(rng, 100))
    truth, predictor = _planted(rng, rows, rng.uniform(0.3, 1.0))
    targets = rng.poisson(np.exp(predictor - predictor.mean())) * 1.0
    return Drawn(rows, targets, np.zeros(truth.size), POISSON, penalty=1e-4)


def gamma(rng: Rng) -> Drawn:
    """Gamma regression with a logarithmic link."""
    rows = _rows(rng, *_sizes(rng, 100))
    truth, predictor = _planted(rng, rows, rng.uniform(0.3, 1.0))
    shape = rng.uniform(0.5, 4.0)
    return Drawn(rows, rng.gamma(shape, np.exp(predictor) / shape), np.zeros(truth.size), GAMMA, penalty=1e-4)


def _robust(rng: Rng, kind: int, convex: bool) -> Drawn:
    """Return a regression with heavy-tailed noise and some wild targets."""
    rows = _rows(rng, *_sizes(rng))
    truth, predictor = _planted(rng, rows, rng.uniform(1.0, 5.0))
    wild = rng.random(len(rows)) < rng.choice([0.0, 0.02, 0.1])
    targets = predictor + rng.uniform(0.2, 1.0) * rng.standard_t(2, len(rows)) + wild * rng.uniform(-50, 50, len(rows))
    return Drawn(rows, targets, _start(rng, truth), kind, penalty=1e-6, convex=convex, starts=(truth,))


def pseudo_huber(rng: Rng) -> Drawn:
    """Regression with the pseudo-Huber loss."""
    return _robust(rng, PSEUDO_HUBER, convex=True)


def student(rng: Rng) -> Drawn:
    """Regression with the loss of Student's t, which is not convex."""
    return _robust(rng, STUDENT, convex=False)


def quantile(rng: Rng) -> Drawn:
    """Regression of the upper decile, its kink smoothed."""
    return _robust(rng, QUANTILE, convex=True)


def ill_conditioned(rng: Rng) -> Drawn:
    """Noisy least squares, condition numbers from 1e2 to 1e5, few samples."""
    n, d = _sizes(rng, 100, (500, 4000))
    d = max(d, 10)
    rows = rng.standard_normal((n, d)) * np.logspace(0, -rng.uniform(1.0, 2.5), d)
    rows = np.ascontiguousarray(rows @ np.linalg.qr(rng.standard_normal((d, d)))[0])
    truth = rng.standard_normal(d)
    return Drawn(rows, rows @ truth + rng.uniform(0.1, 1.0) * rng.standard_normal(n), _start(rng, truth), SQUARES)


def interpolated(rng: Rng) -> Drawn:
    """Least squares that fit every sample, with more samples than variables or fewer."""
    d = int(rng.integers(50, 300))
    n = int(rng.integers(500, 5000))
    rank = d if rng.random() < 0.5 else int(rng.integers(20, d))
    rows = rng.standard_normal((n, rank)) * np.arange(1, rank + 1) ** -rng.uniform(0.0, 0.8)
    rows = np.ascontiguousarray(rows @ rng.standard_normal((rank, d)) / math.sqrt(d))
    truth = rng.standard_normal(d)
    return Drawn(rows, rows @ truth, _start(rng, truth), SQUARES, starts=(truth,))


def factors(rng: Rng) -> Drawn:
    """Factorization of a matrix of which some noisy entries are known."""
    rank = int(rng.integers(2, 5))
    left, right = (int(rng.integers(10, 150 // rank)) for _ in range(2))
    n = int(min(20_000, max(500, rng.uniform(8, 40) * rank * (left + right))))
    entries = np.stack([rng.integers(0, left, n), left + rng.integers(0, right, n)], axis=1)
    truth = rng.standard_normal((left + right, rank))
    targets = np.einsum("ij,ij->i", *(truth[entries[:, k]] for k in (0, 1)))
    targets += rng.uniform(0.1, 0.5) * rng.standard_normal(n)
    x0 = 10 ** rng.uniform(-1.0, 0.0) * rng.standard_normal(truth.size)
    return Drawn(
        entries.astype(float), targets, x0, FACTORS, count=rank, penalty=1e-3 / (left + right), convex=False,
        starts=(truth.ravel(),),
    )  # fmt: skip


def mixture(rng: Rng) -> Drawn:
    """Likelihood of a mixture of normal laws: their centers and shares."""
    count, width = int(rng.integers(2, 7)), int(rng.integers(2, 20))
    n = _sizes(rng)[0]
    centers = rng.uniform(1.0, 2.5) * rng.standard_normal((count, width))
    shares = rng.dirichlet(np.full(count, 3.0))
    rows = centers[rng.choice(count, n, p=shares)] + rng.standard_normal((n, width))
    x0 = np.append(centers + rng.uniform(0.5, 1.5) * rng.standard_normal(centers.shape), np.zeros(count))
    truth = np.append(centers, np.log(shares))
    return Drawn(rows, np.zeros(n), x0, MIXTURE, count=count, penalty=1e-6, convex=False, starts=(truth,))


def softmax(rng: Rng) -> Drawn:
    """Softmax regression with unbalanced classes."""
    classes = int(rng.integers(3, 11))
    n, d = _sizes(rng, 300 // classes)
    rows = _rows(rng, n, d)
    truth = rng.standard_normal((classes, d)) * rng.uniform(1.0, 3.0) / rows.std() / math.sqrt(d)
    scores = rows @ truth.T + rng.standard_normal(classes) + rng.gumbel(size=(n, classes))
    x0 = np.zeros(truth.size) if rng.random() < 0.5 else rng.standard_normal(truth.size) * truth.std()
    return Drawn(rows, scores.argmax(axis=1) * 1.0, x0, SOFTMAX, count=classes, penalty=10 ** rng.uniform(-5, -3))


def _any(rng: Rng) -> Drawn:
    """Return one of the families that allow for weights, and wild or repeated samples."""
    makers: list[Callable[[Rng], Drawn]] = [logistic, pseudo_huber, softmax, ill_conditioned]
    return makers[rng.integers(len(makers))](rng)


def weighted(rng: Rng) -> Drawn:
    """Another family with weights of the samples that have heavy tails: some hundred decide."""
    made = _any(rng)
    weights = np.exp(rng.uniform(1.0, 2.5) * rng.standard_normal(made.n))
    if rng.random() < 0.5:
        weights = rng.pareto(rng.uniform(1.0, 2.0), made.n) + 1e-3
    return replace(made, weights=weights / weights.mean())


def wild(rng: Rng) -> Drawn:
    """Another family, one sample in 30 to 1,000 of which has features 10 to 40 times as large."""
    made = _any(rng)
    large = rng.random(made.n) < 10 ** rng.uniform(-3.0, -1.5)
    large[rng.integers(made.n)] = True
    rows = made.rows * np.where(large, rng.uniform(10, 40), 1.0)[:, None]
    noisy = np.where(large, rng.uniform(1.0, 30.0), 1.0) if made.kind == SQUARES else 1.0
    return replace(made, rows=np.ascontiguousarray(rows), targets=made.targets * noisy)


def repeated(rng: Rng) -> Drawn:
    """Another family, of whose samples there are 2 to 100 copies."""
    made = _any(rng)
    kept = rng.integers(0, max(50, made.n // int(rng.integers(2, 100))), made.n)
    return replace(made, rows=np.ascontiguousarray(made.rows[kept]), targets=made.targets[kept])


FAMILIES = (
    logistic, categories, poisson, gamma, pseudo_huber, student, quantile, ill_conditioned, interpolated, factors,
    mixture, softmax, weighted, wild, repeated,
)  # fmt: skip


def draw(name: str) -> Drawn:
    """Return the sum of a name such as ``logistic-3``: a family and a seed."""
    family, seed = name.rsplit("-", 1)
    maker = next(make for make in FAMILIES if make.__name__ == family)
    rng = np.random.default_rng([int(seed), zlib.crc32(family.encode())])
    made = maker(rng)
    order = rng.permutation(made.n)
    weights = None if made.weights is None else made.weights[order]
    return replace(made, rows=np.ascontiguousarray(made.rows[order]), targets=made.targets[order], weights=weights)
