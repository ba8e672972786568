"""The own time of our methods on cores that are busy, with one BLAS thread and with as many as NumPy takes by itself.

``python benchmarks/busy_cores.py`` (half a minute) starts a busy process for every core, as workers that evaluate an
objective are, and minimizes a function that costs nothing. In the second column the limit to one thread, which the
methods set while they decompose matrices (``vamo_bbo/_blas.py``), is off. pycma is beside them, with NumPy's threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable

import numpy as np

import vamo_bbo as vb
from vamo_bbo import _blas

D, VALUES = 10, 300
METHODS = {
    "interpolation": {"method": "interpolation"},
    "quadratic": {"method": "quadratic", "noisy": True},
    "bayes": {"method": "bayes", "bounds": [(-5.0, 5.0)] * D, "maxfev": 60},
    "cma, 80 variables": {"method": "cma", "d": 80},
    "auto": {},
    "auto, noise": {"noisy": True},
}


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


def objective(noise: float) -> Callable[[np.ndarray], float]:
    """Return the sum of squares about 1 with noise."""
    rng = np.random.default_rng(0)
    return lambda x: float(((x - 1.0) ** 2).sum() + noise * rng.standard_normal())


def seconds(d: int = D, maxfev: int = VALUES, **arguments: object) -> float:
    """Return the milliseconds per value of a run."""
    fun, before = objective(0.01 if arguments.get("noisy") else 0.0), time.perf_counter()
    result = vb.minimize(fun, np.zeros(d), rng=0, maxfev=maxfev, **arguments)
    return (time.perf_counter() - before) / result.nfev * 1e3


def pycma(d: int) -> float:
    """Return the same of pycma."""
    import cma

    options = {"verbose": -9, "maxfevals": VALUES, "seed": 1}
    before = time.perf_counter()
    _, strategy = cma.fmin2(objective(0.0), np.zeros(d), 0.5, options)
    return (time.perf_counter() - before) / strategy.countevals * 1e3


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    for arguments in METHODS.values():  # what is compiled and loaded
        seconds(**{**arguments, "maxfev": 40})
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in busy:
        process.start()
    rows: list[tuple[str, float | None, float]] = []
    try:
        for name, arguments in METHODS.items():
            with_limit = seconds(**arguments)
            _blas._loaded, loaded = (lambda: []), _blas._loaded
            without = seconds(**arguments)
            _blas._loaded = loaded
            rows.append((name, with_limit, without))
        with contextlib.suppress(ImportError):
            rows.append(("pycma, 80 variables", None, pycma(80)))
    finally:
        for process in busy:
            process.kill()
    print(f"{len(busy)} busy processes; ms per value     one thread   as NumPy does")
    for name, with_limit, without in rows:
        print(f"{name:36s}{'' if with_limit is None else format(with_limit, '.2f'):>12s}{without:16.2f}")


if __name__ == "__main__":
    main()
