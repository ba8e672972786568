"""``method="auto"`` on noisy functions of one valley and of many: what its search costs and gains.

Run it from the checkout with ``cma`` and ``cmaes`` installed::

    python benchmarks/auto_valleys.py --seeds 3 --out benchmarks/results/valleys.json

It goes on where it stopped. Each number is ``(f(x) - f*) / (f(x0) - f*)``, without noise, at the returned x: the
median over the seeds, and the largest. The budget: 150 (d + 1) values. The end of the search (what counts as coming
back to a known valley) was developed on these functions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BUDGET = 150
SOLVERS = ("auto", "quadratic", "pycma")


class Valley(NamedTuple):
    """A function, its lowest value, start, box, and additive noise: its size, and whether its tails are heavy."""

    fun: Callable[[np.ndarray], float]
    lowest: float
    start: list[float]
    box: tuple[float, float] | None = None
    sigma: float = 0.1
    heavy: bool = False


def ellipsoid(x: np.ndarray) -> float:
    """Return an ellipsoid of condition 1000."""
    return float(1000.0 ** (np.arange(x.size) / (x.size - 1)) @ (x - 1.0) ** 2)


def rosenbrock(x: np.ndarray) -> float:
    """Return Rosenbrock's function."""
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def rastrigin(x: np.ndarray) -> float:
    """Return Rastrigin's function with lower hills."""
    return float(np.sum(x * x + 4.0 * (1.0 - np.cos(2.0 * np.pi * x))))


def levy(x: np.ndarray) -> float:
    """Return Levy's function, 0 at 1."""
    w = 1.0 + (x - 1.0) / 4.0
    middle = np.sum((w[:-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:-1] + 1.0) ** 2))
    last = (w[-1] - 1.0) ** 2 * (1.0 + np.sin(2.0 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + middle + last)


def funnels(x: np.ndarray) -> float:
    """Return two funnels with ripples; the start is in the wider one, whose bottom is at 3 or more."""
    ripple = 1.5 * np.sum(1.0 - np.cos(3.0 * (x - 2.5)))
    return float(min(np.sum((x - 2.5) ** 2), 3.0 + 0.7 * np.sum((x + 2.0) ** 2)) + ripple)


def two_wells(x: np.ndarray) -> float:
    """Return a double well whose other minimum is lower by 8; -4.06066 is its lowest value."""
    return float((x[0] ** 2 - 4.0) ** 2 + 2.0 * x[0] + (x[1] - x[0]) ** 2)


VALLEYS = {
    "bowl-4": Valley(lambda x: float(np.sum((x - 1.0) ** 2)), 0.0, [0.0] * 4),
    "ellipsoid-4": Valley(ellipsoid, 0.0, [0.0] * 4),
    "rosenbrock-4": Valley(rosenbrock, 0.0, [-1.2, 1.0, -1.2, 1.0]),
    "absolute-6": Valley(lambda x: float(np.sum(np.abs(x - 0.4))), 0.0, [1.5] * 6, (-2.0, 2.0), 0.05),
    "heavy-bowl-8": Valley(lambda x: float(np.sum((x - np.arange(8) / 4) ** 2)), 0.0, [0.0] * 8, None, 0.2, True),
    "rastrigin-3": Valley(rastrigin, 0.0, [2.1, -3.2, 1.7], (-5.0, 5.0), 0.3),
    "levy-6": Valley(levy, 0.0, [-4.0] * 6, None, 0.05),
    "funnels-5": Valley(funnels, 0.0, [-1.0] * 5, (-5.0, 5.0)),
    "two-wells-2": Valley(two_wells, -4.06066, [1.5, 0.0]),
}


def solve(solver: str, valley: Valley, seed: int) -> float:
    """Return the gap that a run leaves."""
    import vamo_bbo as vb

    rng, x0 = np.random.default_rng(seed), np.array(valley.start)
    budget = BUDGET * (x0.size + 1)

    def noisy(x: Any) -> float:
        noise = rng.standard_t(2) if valley.heavy else rng.standard_normal()
        return valley.fun(np.asarray(x)) + valley.sigma * float(noise)

    bounds = None if valley.box is None else [valley.box] * x0.size
    if solver == "pycma":
        import cma

        options: dict[str, Any] = {"verbose": -9, "seed": seed + 1, "maxfevals": budget}
        sigma = 0.5
        if valley.box is not None:
            options["bounds"], sigma = list(valley.box), 0.25 * (valley.box[1] - valley.box[0])
        x = cma.fmin2(noisy, x0, sigma, options, restarts=9)[1].result.xfavorite
    else:
        x = vb.minimize(noisy, x0, method=solver, bounds=bounds, maxfev=budget, noisy=True, rng=seed).x
    return (valley.fun(np.asarray(x)) - valley.lowest) / (valley.fun(x0) - valley.lowest)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(SOLVERS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'':14}" + "".join(f"{solver:>20}" for solver in options.only))
    for name, valley in VALLEYS.items():
        line = f"{name:14}"
        for solver in options.only:
            gaps = []
            for seed in range(options.seeds):
                key = f"{name}|{solver}|{seed}"
                data[key] = data[key] if key in data else solve(solver, valley, seed)
                gaps.append(data[key])
                options.out.write_text(json.dumps(data))
            line += f"{np.median(gaps):12.0e} {max(gaps):7.0e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
