"""Every algorithm as a dozen obvious lines: the golden reference that each solver is compared with.

Nothing here uses estimators, recipes, rules or the composite. Directions and sample indices come from the seed ABI
(reference backend and keyed permutations), because an algorithm is only defined together with its random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vamo_bbo import backends
from vamo_bbo._typing import Direction, Law, Tag
from vamo_bbo.core import sampling
from vamo_bbo.core.types import Batch


@dataclass
class Setting:
    """Nonlinear least squares on n samples: losses, gradients, and the random numbers of a seed."""

    n: int = 24
    d: int = 7
    b: int = 5
    seed: int = 11
    mu: float = 1e-3
    eta: float = 0.02

    def __post_init__(self) -> None:
        rng = np.random.default_rng(5)
        self.a = rng.normal(size=(self.n, self.d))
        self.y = rng.normal(size=self.n)
        self.x0 = rng.normal(size=self.d)
        self.everything = np.arange(self.n)

    def losses(self, x, i):
        return (np.tanh(self.a[i] @ x) - self.y[i]) ** 2

    def grad(self, x, i):
        t = np.tanh(self.a[i] @ x)
        return self.a[i].T @ (2 * (t - self.y[i]) * (1 - t**2)) / len(i)

    def batch(self, k, kind="epoch"):
        if kind == "iid":
            return sampling.indices(Batch("iid", k, 0, self.b), self.seed, self.n)
        epoch, position = divmod(k, -(-self.n // self.b))
        return sampling.indices(Batch("epoch", epoch, position, self.b), self.seed, self.n)

    def u(self, law, step, j, q, tag=Tag.MAIN):
        """Return the raw direction j of q."""
        out = np.empty(self.d)
        backends.get("numpy").bind(self.seed, self.d, {}).fill(Direction(law, step, j, q, tag), 0, self.d, out)
        return out

    def forward(self, x, i, us, mu=None):
        """Return D_ij = (f_i(x + mu u_j) - f_i(x)) / mu, shape (len(i), q)."""
        mu = self.mu if mu is None else mu
        return np.stack([(self.losses(x + mu * u, i) - self.losses(x, i)) / mu for u in us], axis=1)


def sgd(s, steps):
    x = s.x0.copy()
    for k in range(steps):
        x -= s.eta * s.grad(x, s.batch(k))
        yield x.copy()


def adam(s, steps):
    x, m, v = s.x0.copy(), np.zeros(s.d), np.zeros(s.d)
    for k in range(steps):
        g = s.grad(x, s.batch(k))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x -= s.eta * (m / (1 - 0.9 ** (k + 1))) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        yield x.copy()


def svrg(s, steps, m=5):
    x = s.x0.copy()
    for k in range(steps):
        if k % m == 0:
            y, full = x.copy(), s.grad(x, s.everything)
        i = s.batch(k)
        x -= s.eta * (s.grad(x, i) - s.grad(y, i) + full)
        yield x.copy()


def adamw(s, steps, decay=0.1):
    x, m, v = s.x0.copy(), np.zeros(s.d), np.zeros(s.d)
    for k in range(steps):
        g = s.grad(x, s.batch(k))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x *= 1 - s.eta * decay
        x -= s.eta * (m / (1 - 0.9 ** (k + 1))) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        yield x.copy()


def loopless_svrg(s, steps, m=5):
    """Draw the coins from stream 2 of independent draws among m."""
    x = s.x0.copy()
    for k in range(steps):
        if k == 0 or sampling.indices(Batch("iid", k, 2, 1), s.seed, m)[0] == 0:
            y, full = x.copy(), s.grad(x, s.everything)
        i = s.batch(k)
        x -= s.eta * (s.grad(x, i) - s.grad(y, i) + full)
        yield x.copy()


def subsampled_svrg(s, steps, m=5, size=9):
    """Draw a snapshot's samples from stream 3 of independent draws."""
    x = s.x0.copy()
    for k in range(steps):
        if k % m == 0:
            y = x.copy()
            full = s.grad(x, sampling.indices(Batch("iid", k, 3, size), s.seed, s.n))
        i = s.batch(k)
        x -= s.eta * (s.grad(x, i) - s.grad(y, i) + full)
        yield x.copy()


def zo_estimate(s, x, i, step, q=8, tag=Tag.MAIN, law=Law.RADEMACHER):
    us = [s.u(law, step, j, q, tag) for j in range(q)]
    if law is Law.SPHERE:
        us = [np.sqrt(s.d) * u / np.linalg.norm(u) for u in us]
    return np.stack(us, axis=1) @ s.forward(x, i, us).mean(axis=0) / q


def zo_sgd(s, steps):
    x = s.x0.copy()
    for k in range(steps):
        x -= s.eta * zo_estimate(s, x, s.batch(k), k)
        yield x.copy()


def zo_nesterov(s, steps, q=8):
    share = min(1.0, q / s.d)
    x, z, theta = s.x0.copy(), s.x0.copy(), share
    for k in range(steps):
        g = zo_estimate(s, x, s.batch(k), k, q)
        z -= s.eta * share / theta * g
        theta = (np.sqrt(theta**4 + 4 * theta**2) - theta**2) / 2
        x = (1 - theta) * (x - s.eta * g) + theta * z
        yield x.copy()


def zo_sign_sgd(s, steps):
    x = s.x0.copy()
    for k in range(steps):
        x -= s.eta / np.sqrt(k + 1) * np.sign(zo_estimate(s, x, s.batch(k), k))
        yield x.copy()


def zo_adamm(s, steps):
    x, m, v, r = s.x0.copy(), np.zeros(s.d), np.zeros(s.d), np.zeros(s.d)
    for k in range(steps):
        g = zo_estimate(s, x, s.batch(k), k)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        r = np.maximum(r, v)
        x -= s.eta * m / (np.sqrt(r) + 1e-12)
        yield x.copy()


def spsa(s, steps):
    x = s.x0.copy()
    for k in range(steps):
        a_k, c_k = s.eta * (11 / (k + 11)) ** 0.602, s.mu / (k + 1) ** 0.101
        u, i = s.u(Law.RADEMACHER, k, 0, 1), s.batch(k)
        x -= a_k * np.mean(s.losses(x + c_k * u, i) - s.losses(x - c_k * u, i)) / (2 * c_k) * u
        yield x.copy()


def zo_svrg(s, steps, m=5, q=4):
    x = s.x0.copy()
    for k in range(steps):
        if k % m == 0:
            y, full = x.copy(), zo_estimate(s, x, s.everything, k, q, Tag.FULL, Law.SPHERE)
        i = s.batch(k)
        at_x = zo_estimate(s, x, i, k, q, Tag.MAIN, Law.SPHERE)
        at_y = zo_estimate(s, y, i, k, q, Tag.CONTROL, Law.SPHERE)
        x -= s.eta * (at_x - at_y + full)
        yield x.copy()


def zo_svrg_coordinate(s, steps, m=5):
    def coordinate(x, i):
        e = np.eye(s.d)
        return np.array(
            [np.mean(s.losses(x + s.mu * e[j], i) - s.losses(x - s.mu * e[j], i)) / (2 * s.mu) for j in range(s.d)]
        )

    x = s.x0.copy()
    for k in range(steps):
        if k % m == 0:
            y, full = x.copy(), coordinate(x, s.everything)
        i = s.batch(k)
        x -= s.eta * (coordinate(x, i) - coordinate(y, i) + full)
        yield x.copy()


def vamo(s, steps, m=5, q=4):
    """The value table: block directions, exact projection."""
    x = s.x0.copy()
    for k in range(steps):
        if k % m == 0:
            us = [s.u(Law.BLOCK, k, j, q, Tag.FULL) for j in range(q)]
            table = s.forward(x, s.everything, us)
        i = s.batch(k)
        c = table[i].mean(axis=0) - table.mean(axis=0)
        x -= s.eta * (s.grad(x, i) - sum(c[j] * us[j] / (us[j] @ us[j]) for j in range(q)))
        yield x.copy()


def vamo_paper(s, steps, m=5, q=3):
    """arXiv 2505.13954, Algorithm 1: unit directions, alpha = 1/d, independent batches, everything re-evaluated."""
    x = s.x0.copy()

    def zo(y, i):
        return sum(s.d / q * np.mean(s.losses(y + s.mu * u, i) - s.losses(y, i)) / s.mu * u for u in us)

    for k in range(steps):
        if k % m == 0:
            raw = [s.u(Law.SPHERE, k, j, q, Tag.FULL) for j in range(q)]
            us = [u / np.linalg.norm(u) for u in raw]
            y, full = x.copy(), zo(x, s.everything)
        i = s.batch(k, "iid")
        x -= s.eta * (s.grad(x, i) - (zo(y, i) - full) / s.d)
        yield x.copy()


def residual(s, steps, q=3):
    """The surrogate is the true gradient plus a constant error."""
    x, b, ds, ss = s.x0.copy(), 1.0, 0.0, 0.0
    for k in range(steps):
        i = s.batch(k)
        surrogate = s.grad(x, i) + 0.3
        us = [s.u(Law.RADEMACHER, k, j, q) for j in range(q)]
        d = s.forward(x, i, us).mean(axis=0)
        along = np.array([surrogate @ u for u in us])
        x -= s.eta * (b * surrogate + sum((d[j] - b * along[j]) * us[j] / q for j in range(q)))
        ds, ss = 0.9 * ds + d @ along, 0.9 * ss + along @ along
        b = ds / ss
        yield x.copy()


def sarah(s, steps, m=5):
    x, v, previous = s.x0.copy(), np.zeros(s.d), s.x0
    for k in range(steps):
        i = s.batch(k)
        v = s.grad(x, s.everything) if k % m == 0 else v + s.grad(x, i) - s.grad(previous, i)
        previous = x.copy()
        x -= s.eta * v
        yield x.copy()
