"""How many rounds "auto" and its peers take where several workers evaluate at the same time, with and without noise.

``python benchmarks/auto_workers.py --workers 8`` (minutes; needs ``cmaes`` and ``cma``). Without noise, the problems of
``classics.py`` and the fits of ``auto_fits.py``, and FRESH ones, written when the rules were fixed:
100 rounds of values are the budget. A problem is solved to tau when ``f <= f* + tau (f(x0) - f*)``, with f* the lowest
value that any of the methods found. With noise, FRESH and the classics: Gaussian, with a standard deviation of so
large a share of f(x0) - f*, and a budget of ``--rounds``; what counts is the value without noise of the answer.

The time of a run is counted, not measured: points that are evaluated together take ``ceil(points / workers)`` rounds.
The population of pycma is the smallest multiple of the workers that is not below its default; it is told the sizes of
x0, as its manual says.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import auto_fits
import classics

import vamo_bbo as vb

Objective = Callable[[Any], float]
METHODS = ("auto", "fd-bfgs", "cma", "pycma")
NOISY = ("auto", "cma", "pycma")
MARKS = (10, 20, 30, 50, 100)
NOISES = (0.03, 0.001)


class Clock:
    """A pool of workers that counts rounds, and keeps the lowest value after each."""

    def __init__(self, fun: Objective, workers: int) -> None:
        self.fun, self._max_workers = fun, workers  # the name that the executors of concurrent.futures have for it
        self.rounds, self.together = 0, False
        self.lowest: list[tuple[int, float]] = []

    def __call__(self, function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        """Evaluate points together."""
        points = list(points)
        self.rounds += math.ceil(len(points) / self._max_workers)
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


def _delayed(k: Any) -> float:
    """Return the error of a PI controller of a plant with a delay, weighted by the time."""
    y, total, loss, inputs = 0.0, 0.0, 0.0, [0.0] * 10
    for step in range(150):
        error = 1.0 - y
        total = min(1e3, max(-1e3, total + 0.1 * error))
        inputs.append(min(5.0, max(-5.0, k[0] * error + k[1] * total)))
        y += 0.1 * (inputs[-10] - y)
        loss += 1e-3 * step * error**2
    return float(loss)


def _doses(k: Any) -> float:
    """Return the misfit of a model of two compartments to its values at the logarithms of 1.2, 0.4, 0.25 and 3."""
    return float(((_concentration(k) - _concentration(np.log([1.2, 0.4, 0.25, 3.0]))) ** 2).mean())


def _concentration(logs: Any) -> Any:
    absorbed, out, back, volume = np.exp(np.clip(logs, -20.0, 20.0))
    times = np.linspace(0.1, 12.0, 40)
    return (np.exp(-out * times) - np.exp(-(absorbed + out) * times)) / volume + 0.1 * np.exp(-back * times)


def _beam(heights: Any) -> float:
    """Return the bending of a cantilever of ten parts, and its weight."""
    arms = np.linspace(1.0, 0.1, 10)
    return float((arms**2 / np.maximum(heights, 1e-3) ** 3).sum() / 10.0 + heights.sum())


_RANDOM = np.random.default_rng(2026)
_FEATURES = _RANDOM.normal(size=(80, 8)) * np.logspace(-0.5, 0.5, 8)
_SIGNS = np.where(_FEATURES @ _RANDOM.normal(size=8) + 0.5 * _RANDOM.normal(size=80) > 0, 1.0, -1.0)
_LINE = _RANDOM.normal(size=(60, 5))
_HEIGHTS = _LINE @ np.arange(1.0, 6.0) + _RANDOM.standard_t(1.5, size=60)
_AXES = np.linalg.qr(_RANDOM.normal(size=(15, 15)))[0]
_RISK = np.cov(_RANDOM.normal(size=(6, 30)) * np.linspace(0.1, 0.4, 6)[:, None])
_TIMES = np.linspace(0.0, 1.0, 50)


def _logistic(w: Any) -> float:
    return float(np.logaddexp(0.0, -_SIGNS * (_FEATURES @ w)).mean() + 1e-3 * w @ w)


def _robust(w: Any) -> float:
    return float(np.sqrt(1.0 + (_LINE @ w - _HEIGHTS) ** 2).mean())


def _springs(x: Any) -> float:
    """Return the energy of a hanging chain of springs with twelve moving heights."""
    heights = np.concatenate([[0.0], x, [0.0]])
    return float(20.0 * ((np.hypot(1.0, np.diff(heights)) - 0.9) ** 2).sum() + x.sum())


def _portfolio(z: Any) -> float:
    weights = np.exp(z - np.max(z))
    weights /= weights.sum()
    return float(weights @ _RISK @ weights * 10.0 - weights @ np.linspace(0.02, 0.3, 6))


def _filter(c: Any) -> float:
    shape = np.cos(np.pi * np.outer(_TIMES, np.arange(c.size))) @ c
    return float(((shape - (_TIMES < 0.4)) ** 2).mean())


def _rotated(x: Any) -> float:
    return float(10.0 ** np.linspace(-2, 2, 15) @ (_AXES @ (x - 1.0)) ** 2)


def _stairs(x: Any) -> float:
    return float(((x[1:] - np.sin(x[:-1])) ** 2).sum() + (x[0] - 2.0) ** 2)


def _wells(x: Any) -> float:
    return float((x**4 - 2.0 * x**2 + 0.3 * x).sum() + 0.4 * (np.diff(x) ** 2).sum())


def _kinetics(logs: Any) -> float:
    """Return the misfit of A -> B -> C to its values at rates 1.3 and 0.4 and a yield of 0.8."""
    return float(((_yields(logs) - _yields(np.log([1.3, 0.4, 0.8]))) ** 2).mean())


def _yields(logs: Any) -> Any:
    k, m, share = np.exp(np.clip(logs, -9.0, 9.0))
    t = np.linspace(0.1, 6.0, 30)
    return share * k / (k - m + 1e-9) * (np.exp(-m * t) - np.exp(-k * t))


FRESH: dict[str, tuple[Objective, list[float]]] = {
    "controller with delay, 2": (_delayed, [0.2, 0.05]),
    "kinetics, 3": (_kinetics, [0.0, 0.1, 0.0]),
    "doses, 4": (_doses, [0.0, 0.0, 0.0, 0.0]),
    "robust line, 5": (_robust, [0.0] * 5),
    "portfolio, 6": (_portfolio, [0.0] * 6),
    "filter, 7": (_filter, [0.0] * 7),
    "logistic, 8": (_logistic, [0.0] * 8),
    "double wells, 9": (_wells, [0.2] * 9),
    "beam, 10": (_beam, [2.0] * 10),
    "springs, 12": (_springs, [0.0] * 12),
    "rotated ellipsoid, 15": (_rotated, [0.0] * 15),
    "stairs, 20": (_stairs, [-1.0] * 20),
}


def developed_on() -> dict[str, tuple[Objective, Any]]:
    """Return the classics and the fits."""
    fits = {**auto_fits.DEVELOPED_ON, **auto_fits.HELD_OUT}
    return {**classics.PROBLEMS, **{name: (auto_fits.objective(fit), fit.start) for name, fit in fits.items()}}


def minimize(method: str, clock: Clock, x0: Any, maxfev: int, **known: Any) -> Any:
    """Run a method and return its answer."""
    if method == "pycma":
        return _pycma(clock, x0, maxfev)
    return vb.minimize(clock.value, x0, method=method, workers=clock, maxfev=maxfev, rng=0, **known).x


def _pycma(clock: Clock, x0: Any, maxfev: int) -> Any:
    import cma

    least = 4 + int(3 * math.log(x0.size))
    size = math.ceil(least / clock._max_workers) * clock._max_workers
    scale = np.abs(x0)
    scale[scale == 0] = np.exp(np.log(scale[scale > 0]).mean()) if scale.any() else 1.0
    options = {"popsize": size, "seed": 1, "verbose": -9, "CMA_stds": scale}
    search, spent = cma.CMAEvolutionStrategy(x0, 0.5, options), 0
    while spent + size <= maxfev and not search.stop():
        points = search.ask()
        search.tell(points, [value if math.isfinite(value) else 1e300 for value in clock(clock.value, points)])
        spent += size
    return search.result.xfavorite


def without_noise(title: str, problems: dict[str, tuple[Objective, Any]], workers: int) -> None:
    """Run and print shares of solved problems."""
    runs = []
    for fun, start in problems.values():
        x0 = np.array(start, dtype=float)
        clocks = {method: Clock(fun, workers) for method in METHODS}
        for method, clock in clocks.items():
            minimize(method, clock, x0, MARKS[-1] * workers)
        runs.append((float(fun(x0)), clocks))
    for tau in (1e-3, 1e-6):
        print(f"\n{title}: {len(runs)} problems; solved to {tau:g} within so many rounds of {workers}")
        print(f"{'':10}" + "".join(f"{mark:>8}" for mark in MARKS))
        for method in METHODS:
            at = []
            for first, clocks in runs:
                goal = min(clock.lowest[-1][1] for clock in clocks.values())
                goal += tau * (first - goal)
                at.append(next((rounds for rounds, value in clocks[method].lowest if value <= goal), math.inf))
            print(f"{method:10}" + "".join(f"{100 * np.mean(np.array(at) <= mark):7.0f}%" for mark in MARKS))


def with_noise(title: str, problems: dict[str, tuple[Objective, Any]], workers: int, rounds: int, seeds: int) -> None:
    """Run and print what is left of f(x0) - f*, without noise, at the answers."""
    for noise in NOISES:
        print(f"\n{title}: {len(problems)} problems, noise {noise:g}, {rounds * workers} values, {workers} workers")
        print(f"{'':10}{'rounds':>10}{'to 0.1':>10}{'to 0.01':>10}{'left':>12}")
        left: dict[str, list[float]] = {method: [] for method in NOISY}
        taken: dict[str, list[int]] = {method: [] for method in NOISY}
        for fun, start in problems.values():
            x0 = np.array(start, dtype=float)
            size = float(fun(x0)) - (lowest := _lowest(fun, x0))
            for seed in range(seeds):
                for method in NOISY:
                    random = np.random.default_rng([7, seed])
                    clock = Clock(lambda x, f=fun, r=random, s=noise * size: f(x) + s * r.standard_normal(), workers)
                    known = {} if method == "pycma" else {"noisy": True}
                    x = minimize(method, clock, x0, rounds * workers, **known)
                    left[method].append(min(10.0, max(1e-8, (float(fun(x)) - lowest) / size)))
                    taken[method].append(clock.rounds)
        for method in NOISY:
            values = np.array(left[method])
            shares = "".join(f"{100 * np.mean(values <= tau):9.0f}%" for tau in (0.1, 0.01))
            print(f"{method:10}{np.median(taken[method]):10.0f}{shares}{np.exp(np.log(values).mean()):12.2g}")


_LOWEST: dict[Any, float] = {}


def _lowest(fun: Objective, x0: Any) -> float:
    if fun not in _LOWEST:
        _LOWEST[fun] = float(vb.minimize(fun, x0, maxfev=300 * (x0.size + 1), rng=0).fun)
    return _LOWEST[fun]


def main() -> None:
    """Run all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=25, help="of values, under noise")
    parser.add_argument("--seeds", type=int, default=2, help="of the noise")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of models far from where they were made for
    without_noise("developed on", developed_on(), arguments.workers)
    without_noise("fresh", FRESH, arguments.workers)
    for title, problems in (("classics", classics.PROBLEMS), ("fresh", FRESH)):
        with_noise(title, problems, arguments.workers, arguments.rounds, arguments.seeds)


if __name__ == "__main__":
    main()
