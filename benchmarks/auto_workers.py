"""Where eight workers save time: rounds of at most eight evaluations until a function without noise is minimized.

``python benchmarks/auto_workers.py`` (a minute; needs ``cmaes``): the problems of ``classics.py`` and the fits
of ``auto_fits.py``, 200 (d + 1) values each. The time of a run is counted, not measured: points that are evaluated
together take ``ceil(points / 8)`` rounds. A problem is solved to tau when ``f <= f* + tau (f(x0) - f*)``, with f* the
lowest value that any of the methods found.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import auto_fits
import classics

import vamo_bbo as vb

WORKERS = 8
METHODS = ("auto", "fd-bfgs", "cma")
MARKS = (25, 50, 100, 200, 400)
BUDGET = 200


class Clock:
    """A map-like pool that counts rounds, and the lowest value after each."""

    def __init__(self, fun: Callable[[Any], float]) -> None:
        self.fun, self.rounds, self.together = fun, 0, False
        self.lowest: list[tuple[int, float]] = []

    def __call__(self, function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        """Evaluate points together."""
        points = list(points)
        self.rounds += math.ceil(len(points) / WORKERS)
        self.together = True
        try:
            return [function(point) for point in points]
        finally:
            self.together = False

    def value(self, x: Any) -> float:
        """Evaluate a point."""
        self.rounds += not self.together
        with np.errstate(all="ignore"):
            value = float(self.fun(x))
        if math.isfinite(value) and (not self.lowest or value < self.lowest[-1][1]):
            self.lowest.append((self.rounds, value))
        return value


def problems() -> Iterator[tuple[Callable[[Any], float], np.ndarray]]:
    """Give objective and start of every problem."""
    for fun, start in classics.PROBLEMS.values():
        yield fun, np.array(start)
    for fit in (*auto_fits.DEVELOPED_ON.values(), *auto_fits.HELD_OUT.values()):
        yield auto_fits.objective(fit), np.array(fit.start, dtype=float)


def main() -> None:
    """Run all and print the tables."""
    runs = []
    for fun, x0 in problems():
        clocks = {method: Clock(fun) for method in METHODS}
        for method, clock in clocks.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                vb.minimize(clock.value, x0, method=method, workers=clock, maxfev=BUDGET * (x0.size + 1), rng=0)
        runs.append((float(fun(x0)), clocks))
    for tau in (1e-3, 1e-6):
        print(f"\n{len(runs)} problems; solved to {tau:g} within so many rounds of {WORKERS}")
        print(f"{'':10}" + "".join(f"{mark:>8}" for mark in MARKS))
        for method in METHODS:
            at = []
            for first, clocks in runs:
                goal = min(clock.lowest[-1][1] for clock in clocks.values())
                goal += tau * (first - goal)
                at.append(next((rounds for rounds, value in clocks[method].lowest if value <= goal), math.inf))
            print(f"{method:10}" + "".join(f"{100 * np.mean(np.array(at) <= mark):7.0f}%" for mark in MARKS))


if __name__ == "__main__":
    main()
