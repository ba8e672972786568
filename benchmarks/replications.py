"""Noisy functions with and without adaptive replications: f(x) - f* of the answer, medians over seeds.

Run ``python benchmarks/replications.py``. All but the quartic were looked at while the rule was made.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

import vamo_bbo as vb
from vamo_bbo.core import replication

D = 6
WEIGHTS = np.arange(1, D + 1) / D


def quadratic(x: np.ndarray) -> float:
    """Condition number 6."""
    return float(((x - 1) ** 2 * WEIGHTS).sum())


def rosenbrock(x: np.ndarray) -> float:
    """A tenth of the Rosenbrock function, a curved valley."""
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()) / 10


def sharp(x: np.ndarray) -> float:
    """Power 1.5: no second derivative at the minimum."""
    return float((np.abs(x - 1) ** 1.5).sum())


def quartic(x: np.ndarray) -> float:
    """Power 4 with a shallow quadratic."""
    return float(((x - 1) ** 4 + 0.1 * (x - 1) ** 2).sum())


def gap(fun: object, method: str, sigma: float, budget: int, seed: int, patience: float) -> float:
    """Return f(x) of the answer; the minimum of every function is 0."""
    replication.PATIENCE = patience
    rng = np.random.default_rng(seed)
    noisy = lambda x: fun(x) + sigma * rng.normal()  # type: ignore[operator]  # noqa: E731
    result = vb.minimize(noisy, np.zeros(D), method=method, noisy=True, rng=seed, maxfev=budget)
    return fun(result.x)  # type: ignore[operator, no-any-return]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--budgets", default="4000")
    parser.add_argument("--sigmas", default="0.1,0.01")
    arguments = parser.parse_args()
    chosen = replication.PATIENCE
    methods = ("zo-sgd", "spsa", "zo-adamm")
    print(f"{'':32s}" + "".join(f"{m:>22s}" for m in methods))
    print(f"{'function':12s}{'noise':>8s}{'values':>12s}" + f"{'without':>12s}{'with':>10s}" * len(methods))
    for fun in (quadratic, rosenbrock, sharp, quartic):
        for sigma in (float(s) for s in arguments.sigmas.split(",")):
            for budget in (int(b) for b in arguments.budgets.split(",")):
                cells = []
                for method in methods:
                    for patience in (math.inf, chosen):
                        gaps = [gap(fun, method, sigma, budget, s, patience) for s in range(arguments.seeds)]
                        cells.append(np.median(gaps))
                row = "".join(f"{a:12.2g}{b:10.2g}" for a, b in zip(cells[::2], cells[1::2], strict=True))
                print(f"{fun.__name__:12s}{sigma:8g}{budget:12d}{row}", flush=True)


if __name__ == "__main__":
    main()
