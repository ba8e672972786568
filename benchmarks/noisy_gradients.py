"""Plain functions whose gradient or values are noisy, or whose gradient is wrong: what "auto" does.

``python benchmarks/noisy_gradients.py`` (two minutes of one core): twelve drawn functions of 4 to 40 variables
(ellipsoids, Rosenbrock's chain, logistic regression, a robust fit), each in every state of ``STATES``. Printed are,
over the twelve, the geometric mean and the worst of the gap ``(f - f*) / (f(x0) - f*)`` of the answer, in exact values,
how many runs ended above ``FAR`` and called it a success without a word about the gradient, and the medians of values
and gradients. ``--budget 300`` states maxfev and maxjev; ``--held-out`` draws others; ``--methods`` compares with
methods by name, which are given the same functions.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb

FAR, LEAST = 1e-3, 1e-14
WORDS = ("disagree", "noisy", "gradients alone")
"""One of them is in the message of a run that has noticed."""


class Plain(NamedTuple):
    """An exact function and its gradient."""

    name: str
    fun: Callable[[Any], float]
    jac: Callable[[Any], Any]
    x0: Any


def ellipsoid(rng: np.random.Generator, d: int) -> Plain:
    """A rotated quadratic of condition 10 to 1,000."""
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    matrix = turn @ np.diag(np.logspace(0, rng.uniform(1, 3), d)) @ turn.T
    center = rng.standard_normal(d)
    return Plain(
        "ellipsoid", lambda x: 1.0 + 0.5 * float((x - center) @ matrix @ (x - center)), lambda x: matrix @ (x - center),
        np.zeros(d),
    )  # fmt: skip


def rosenbrock(rng: np.random.Generator, d: int) -> Plain:
    """Rosenbrock's chain from a point near the usual one."""
    return Plain(
        "rosenbrock", scipy.optimize.rosen, scipy.optimize.rosen_der, np.resize([-1.2, 1.0], d) + 0.1 * rng.random(d)
    )


def _fit(rng: np.random.Generator, d: int, name: str, loss: Any, slope: Any, targets: Callable[[Any], Any]) -> Plain:
    """Return the mean loss of a linear model, with an L2 term."""
    rows = rng.standard_normal((20 * d, d)) * np.logspace(0, -1, d)
    t = targets(rows @ (2.0 * rng.standard_normal(d)))

    def fun(x: Any) -> float:
        return float(loss(rows @ x, t).mean() + 5e-4 * x @ x)

    return Plain(name, fun, lambda x: rows.T @ slope(rows @ x, t) / len(t) + 1e-3 * x, 0.5 * rng.standard_normal(d))


def logistic(rng: np.random.Generator, d: int) -> Plain:
    """Logistic regression with noisy labels."""
    return _fit(
        rng, d, "logistic", lambda p, t: np.logaddexp(0.0, -t * p), lambda p, t: -t / (1.0 + np.exp(t * p)),
        lambda p: np.where(p + rng.standard_normal(len(p)) > 0, 1.0, -1.0),
    )  # fmt: skip


def robust(rng: np.random.Generator, d: int) -> Plain:
    """A fit with Cauchy's loss, which is not convex, and wild targets."""
    return _fit(
        rng, d, "robust", lambda p, t: np.log1p((p - t) ** 2), lambda p, t: 2.0 * (p - t) / (1.0 + (p - t) ** 2),
        lambda p: p + 0.3 * rng.standard_t(2, len(p)),
    )  # fmt: skip


class Told:
    """The function as it is told: ``state`` says what is wrong with it."""

    def __init__(self, plain: Plain, state: str, scale: float, rng: np.random.Generator) -> None:
        self.plain, self.state, self.scale, self.rng = plain, state, scale, rng
        self.size = float(np.sqrt(np.mean(plain.jac(plain.x0) ** 2)))
        self.before: Any = None
        self.wrong = int(rng.integers(plain.x0.size))
        self.shift = 0.1 * rng.standard_normal(plain.x0.size)
        self.sizes = np.exp(0.3 * rng.standard_normal(plain.x0.size))

    def fun(self, x: Any) -> float:
        """Return the value that is told."""
        level = {"values 1e-6": 1e-6, "values 1e-3": 1e-3, "values 1e-1": 0.1, "gradient and values 3 %": 0.03}
        return self.plain.fun(x) + level.get(self.state, 0.0) * self.scale * self.rng.standard_normal()

    def jac(self, x: Any) -> Any:
        """Return the gradient that is told."""
        g, state = np.array(self.plain.jac(x)), self.state
        if state in ("gradient 3 %", "gradient and values 3 %"):
            return g + 0.03 * self.size * self.rng.standard_normal(g.size)
        if state == "factor 2":
            return 2.0 * g
        if state == "factor 0.5":
            return 0.5 * g
        if state == "one coordinate 0":
            g[self.wrong] = 0.0
        if state == "one coordinate's sign":
            g[self.wrong] *= -1.0
        if state == "units mixed up":
            return g * self.sizes
        if state == "low fidelity":
            return np.array(self.plain.jac(x + self.shift))
        if state == "stale":
            g, self.before = (g if self.before is None else self.before), g
        if state == "single precision":
            return g.astype(np.float32).astype(float)
        if state == "coarse differences":
            h = 1e-3
            steps = np.eye(x.size) * h
            return np.array([(self.plain.fun(x + s) - self.plain.fun(x)) / h for s in steps])
        return g


STATES = (
    "exact", "single precision", "coarse differences", "gradient 3 %", "gradient and values 3 %", "values 1e-6",
    "values 1e-3", "values 1e-1", "factor 2", "factor 0.5", "one coordinate 0", "one coordinate's sign",
    "units mixed up", "low fidelity", "stale",
)  # fmt: skip


class Outcome(NamedTuple):
    """Of a run: the gap, whether it said nothing, and what it cost."""

    gap: float
    silent: bool
    nfev: int
    njev: int


def draw(held_out: bool) -> list[Plain]:
    """Return the twelve functions."""
    first = 1000 if held_out else 0
    makers = (ellipsoid, rosenbrock, logistic, robust)
    return [
        make(np.random.default_rng(first + 10 * k + j), d)
        for k, make in enumerate(makers)
        for j, d in enumerate((4, 12, 40))
    ]


def run(plain: Plain, state: str, method: str, budget: float | None, lowest: float) -> Outcome:
    """Run a method on the function as it is told."""
    start = plain.fun(plain.x0) - lowest
    told = Told(plain, state, start, np.random.default_rng(7))
    result = vb.minimize(told.fun, plain.x0, jac=told.jac, method=method, rng=0, maxfev=budget, maxjev=budget)
    gap = (plain.fun(result.x) - lowest) / start
    said = not result.success or any(word in result.message for word in WORDS)
    return Outcome(max(gap, LEAST), gap > FAR and not said, result.nfev, result.get("njev", 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row per state and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--budget", type=float)
    parser.add_argument("--methods", nargs="*", default=["auto"])
    parser.add_argument("--states", nargs="*", default=STATES)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    problems = draw(args.held_out)
    lowest = [
        scipy.optimize.minimize(p.fun, p.x0, jac=p.jac, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000}).fun
        for p in problems
    ]
    print(f"{'state':25}{'method':12}{'gap':>10}{'worst':>10}{'silent':>8}{'values':>8}{'gradients':>11}")
    for state in args.states:
        for method in args.methods:
            found = [run(p, state, method, args.budget, low) for p, low in zip(problems, lowest, strict=True)]
            gaps = [outcome.gap for outcome in found]
            print(
                f"{state:25}{method:12}{np.exp(np.mean(np.log(gaps))):10.1e}{max(gaps):10.1e}"
                f"{sum(o.silent for o in found):8}{np.median([o.nfev for o in found]):8.0f}"
                f"{np.median([o.njev for o in found]):11.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
