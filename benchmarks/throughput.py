"""Workers: speed-up, utilization with uneven run times, its bias, and overhead, beside joblib and Optuna.

Run ``python benchmarks/throughput.py`` on an idle machine; joblib and optuna are used where they are installed.
Objectives sleep, so that two cores show what eight workers do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vamo_bbo as vb

D = 10
ROUND = 32
"""Evaluations between two waits for all of them."""


class Sleeper:
    """A quadratic that sleeps; every call notes its sleep in a file, so that busy time can be summed over processes."""

    def __init__(self, path: str, low: float, high: float, by_value: bool = False) -> None:
        self.path, self.low, self.high, self.by_value = path, low, high, by_value

    def __call__(self, x: np.ndarray) -> float:
        """Sleep, log-uniformly between the limits, and return the value."""
        value = float(((x - 1) ** 2).sum())
        u = np.random.default_rng(abs(hash(x.tobytes())) % 2**32).random()
        if self.by_value:
            u = float(np.clip(0.5 + 40 * (value - self.last()), 0, 1))
        seconds = self.low * (self.high / self.low) ** u
        if x.any():
            with open(self.path, "a") as f:
                f.write(f"{time.time()} {seconds} {value}\n")
        time.sleep(seconds)
        return value

    def last(self) -> float:
        """Return a slowly moving reference value: the mean of the latest 50."""
        lines = Path(self.path).read_text().splitlines()[-50:] if os.path.exists(self.path) else []
        return float(np.mean([float(s.split()[2]) for s in lines])) if lines else D


def timed(
    low: float, high: float, workers: int, maxfev: int, *, by_value: bool = False, **options: Any
) -> dict[str, float]:
    """Return wall time of the loop (from the first step to the last), utilization and the answer of one run."""
    path = tempfile.mktemp()
    moments: list[float] = []

    def callback(intermediate_result: Any) -> None:
        moments.append(time.time())

    method = vb.zo_sgd(0.02, n_directions=options.pop("n_directions", ROUND - 1))
    arguments = {"workers": workers, "maxfev": maxfev, "rng": 0, "callback": callback, **options}
    result = vb.minimize(Sleeper(path, low, high, by_value), np.zeros(D), method=method, **arguments)
    first, last = moments[1], moments[-1]
    lines = [tuple(float(v) for v in s.split()) for s in Path(path).read_text().splitlines()]
    busy = sum(max(0.0, min(at + seconds, last) - max(at, first)) for at, seconds, _ in lines)
    calls = sum(first <= at < last for at, _, _ in lines)
    os.unlink(path)
    span = last - first
    return {"rate": calls / span, "utilization": busy / span / workers, "fun": result.fun, "nit": result.nit}


def sleeps(x: np.ndarray) -> float:
    """Return a value after 5 ms."""
    time.sleep(0.005)
    return quadratic(x)


def per_second(workers: int, maxfev: int) -> float:
    """Return evaluations per second of an objective that sleeps 5 ms, once the workers have started.

    The first quarter of the steps is left out: eight interpreters take about a second to start on two cores.
    """
    moments: list[float] = []
    callback: Callable[..., None] = lambda intermediate_result: moments.append(time.perf_counter())  # noqa: E731
    method = vb.zo_sgd(0.02, n_directions=ROUND - 1)
    vb.minimize(sleeps, np.zeros(D), method=method, workers=workers, maxfev=maxfev, rng=0, callback=callback)
    moments = moments[len(moments) // 4 :]
    return ROUND * (len(moments) - 1) / (moments[-1] - moments[0])


def pool_per_second(workers: int, rounds: int, chunk: int) -> float:
    """Return the same of ``multiprocessing.Pool.map``, ``chunk`` evaluations in a message: what the machine allows."""
    points = list(np.random.default_rng(0).normal(size=(ROUND, D)))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in range(rounds // 4):
            pool.map(sleeps, points, chunksize=chunk)
        start = time.perf_counter()
        for _ in range(rounds):
            pool.map(sleeps, points, chunksize=chunk)
        return ROUND * rounds / (time.perf_counter() - start)


def speed_up(workers: int, maxfev: int, repetitions: int = 5) -> None:
    """Print how much faster many workers are than one, beside a bare pool: medians of ratios taken side by side."""
    ratios: dict[str, list[float]] = {}
    for _ in range(repetitions):
        one = per_second(1, maxfev // 8)
        rates = {
            "vamo_bbo": per_second(workers, maxfev),
            "multiprocessing.Pool, a message per evaluation": pool_per_second(workers, maxfev // ROUND, 1),
            "multiprocessing.Pool, a message per worker": pool_per_second(workers, maxfev // ROUND, ROUND // workers),
        }
        for name, rate in rates.items():
            ratios.setdefault(name, []).append(rate / one)
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"sleep 5 ms, rounds of {ROUND}: {workers} workers against one, median (lowest to highest){load}")
    for name, values in ratios.items():
        print(f"  {name:48s} {np.median(values):.2f} x ({min(values):.2f} to {max(values):.2f})")


def overhead(workers: int, evaluations: int) -> dict[str, float]:
    """Return milliseconds per evaluation of an objective that does nothing, on process workers."""
    out: dict[str, float] = {}
    began: list[float] = []
    method = vb.zo_sgd(0.02, n_directions=ROUND - 1)
    callback: Callable[..., None] = lambda intermediate_result: began.append(time.perf_counter())  # noqa: E731
    vb.minimize(quadratic, np.zeros(D), method=method, workers=workers, maxfev=evaluations, rng=0, callback=callback)
    out["vamo_bbo"] = 1e3 * (began[-1] - began[1]) / (ROUND * (len(began) - 2))
    try:
        from joblib import Parallel, delayed

        with Parallel(n_jobs=workers) as pool:
            points = np.random.default_rng(0).normal(size=(ROUND, D))
            pool(delayed(quadratic)(x) for x in points)
            start = time.perf_counter()
            for _ in range(evaluations // ROUND):
                pool(delayed(quadratic)(x) for x in points)
            out[f"joblib (rounds of {ROUND})"] = 1e3 * (time.perf_counter() - start) / (evaluations // ROUND * ROUND)
    except ImportError:
        pass
    try:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        count = max(100, evaluations // 20)
        start = time.perf_counter()
        study.optimize(lambda t: quadratic(np.array([t.suggest_float(f"x{j}", -1, 1) for j in range(D)])), count)
        out["optuna (random, in memory, one thread)"] = 1e3 * (time.perf_counter() - start) / count
    except ImportError:
        pass
    return out


def quadratic(x: np.ndarray) -> float:
    """Return a value at once."""
    return float(((x - 1) ** 2).sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--maxfev", type=int, default=4000)
    parser.add_argument("--speed", action="store_true", help="only the speed-up")
    arguments = parser.parse_args()
    k, maxfev = arguments.workers, arguments.maxfev
    speed_up(k, maxfev)
    if arguments.speed:
        return
    for name, asynchronous in (("synchronous", False), ("asynchronous", True)):
        got = timed(0.001, 0.1, k, maxfev, asynchronous=asynchronous)
        share, rate = 100 * got["utilization"], got["rate"]
        print(f"1 to 100 ms, {name}: utilization {share:.0f} %, {rate:.0f} evaluations/s, f = {got['fun']:.3g}")
    for name, asynchronous in (("synchronous", False), ("asynchronous", True)):
        got = timed(0.001, 0.1, k, maxfev, by_value=True, asynchronous=asynchronous)
        print(f"run time grows with the value, {name}: f = {got['fun']:.3g} after {got['nit']} steps")
    for name, milliseconds in overhead(2, maxfev * 2).items():
        print(f"overhead per evaluation, 2 workers, {name}: {milliseconds:.3f} ms")


if __name__ == "__main__":
    main()
