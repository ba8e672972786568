"""What "auto" makes of a stated budget on many minima: BBOB beside cma, pycma and COBYQA.

``python benchmarks/auto_bbob.py`` (``pip install ioh cma``; some minutes): 24 functions, instances 3 and 4, 200 (d + 1)
values, bounds given, one run each; share of (function, target) pairs solved after k (d + 1) values, for 21 targets
from 100 to 1e-8 above the optimum.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems.suites import Bbob

TARGETS = 10.0 ** np.arange(2.0, -8.1, -0.5)
SHARES = (25, 50, 100, 200)
"""Values at which the share is looked at, in d + 1."""
INSTANCES = (3, 4)


class _Spent(BaseException):
    """The budget is used up, for solvers that do not count exactly."""


def solve(method: str, fun: Callable[[np.ndarray], float], x0: np.ndarray, budget: int) -> None:
    """Minimize ``fun`` within [-5, 5] by a method of ours or a peer."""
    bounds = [(-5.0, 5.0)] * x0.size
    if method == "pycma":
        import cma

        options = {"maxfevals": budget, "verbose": -9, "seed": 1, "bounds": [-5, 5]}
        cma.fmin2(fun, x0, 2.0, options, restarts=9, bipop=True)
    elif method == "COBYQA":
        import scipy.optimize

        scipy.optimize.minimize(fun, x0, method="COBYQA", bounds=bounds, options={"maxfev": budget})
    else:
        chosen = vb.cma(restarts=20, restart_strategy="bipop") if method == "cma" else method
        vb.minimize(fun, x0, method=chosen, bounds=bounds, maxfev=budget, rng=1)


def shares(method: str, function: int, instance: int, dimension: int) -> list[float]:
    """Return the share of the targets that a run has reached after each of ``SHARES``."""
    problem = Bbob(function, instance, dimension)
    optimum = float(problem.inner.optimum.y)
    budget = SHARES[-1] * (dimension + 1)
    lowest: list[float] = []

    def fun(x: np.ndarray) -> float:
        if len(lowest) >= budget:
            raise _Spent
        value = float(problem(x))
        lowest.append(min(value - optimum, lowest[-1] if lowest else np.inf))
        return value

    x0 = np.random.default_rng([function, instance, dimension]).uniform(-4, 4, dimension)
    with contextlib.suppress(_Spent):
        solve(method, fun, x0, budget)
    ends = [min(k * (dimension + 1), len(lowest)) - 1 for k in SHARES]
    return [float((lowest[end] <= TARGETS).mean()) for end in ends]


def main() -> None:
    """Print a row per method and dimension."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="*", default=[5, 10])
    parser.add_argument("--methods", nargs="*", default=["auto", "COBYQA", "cma", "pycma"])
    args = parser.parse_args()
    print(f"{'':10}{'d':>4}" + "".join(f"{f'k = {k}':>9}" for k in SHARES))
    for method in args.methods:
        for d in args.dims:
            runs = [shares(method, f, i, d) for f in range(1, 25) for i in INSTANCES]
            print(f"{method:10}{d:4}" + "".join(f"{v:9.0%}" for v in np.mean(runs, axis=0)), flush=True)


if __name__ == "__main__":
    main()
