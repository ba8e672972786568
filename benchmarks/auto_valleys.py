"""``method="auto"`` on noisy functions of one valley and of many: what its search costs and gains.

Run it from the checkout with ``cma`` and ``cmaes`` installed::

    python benchmarks/auto_valleys.py --seeds 3 --out benchmarks/results/valleys.json
    python benchmarks/auto_valleys.py --set fresh --budget 50 --out benchmarks/results/fresh.json

It goes on where it stopped. Each number is ``(f(x) - f*) / (f(x0) - f*)``, without noise, at the returned x: the
median over the seeds, and the largest. The budget: ``--budget`` times d + 1 values. The end of the search (what counts
as coming back to a known valley) was developed on the first set; nothing was on the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SOLVERS = ("auto", "quadratic", "pycma")


class Valley(NamedTuple):
    """A function, its lowest value, start, box, and noise.

    That is additive and of size ``sigma``, with heavy tails (Student's t, two degrees of freedom) where ``heavy``, and
    a share ``share`` of the value beside it.
    """

    fun: Callable[[np.ndarray], float]
    lowest: float
    start: list[float]
    box: tuple[float, float] | None = None
    sigma: float = 0.1
    heavy: bool = False
    share: float = 0.0


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


def dixon_price(x: np.ndarray) -> float:
    """Return Dixon and Price's function."""
    return float((x[0] - 1.0) ** 2 + np.arange(2, x.size + 1) @ (2.0 * x[1:] ** 2 - x[:-1]) ** 2)


def ridge(x: np.ndarray) -> float:
    """Return a sharp ridge."""
    return float(x[0] ** 2 + 30.0 * np.linalg.norm(x[1:]))


def trigonometric(x: np.ndarray) -> float:
    """Return the function of Moré, Garbow and Hillstrom (1981), problem 26."""
    parts = x.size - np.cos(x).sum() + np.arange(1, x.size + 1) * (1.0 - np.cos(x)) - np.sin(x)
    return float(parts @ parts)


def helix(x: np.ndarray) -> float:
    """Return the helical valley of Fletcher and Powell."""
    turn = np.arctan2(x[1], x[0]) / (2.0 * np.pi)
    return float(100.0 * ((x[2] - 10.0 * turn) ** 2 + (np.hypot(x[0], x[1]) - 1.0) ** 2) + x[2] ** 2)


def kowalik(x: np.ndarray) -> float:
    """Return the fit of Kowalik and Osborne; its lowest value is 3.0750561e-4."""
    u = 1.0 / np.array([0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0])
    y = [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
    return float(np.sum((y - x[0] * (1.0 + u * x[1]) / (1.0 + u * x[2] + u * u * x[3])) ** 2))


def michalewicz(x: np.ndarray) -> float:
    """Return Michalewicz's function, -4.687658 in five variables."""
    return float(-np.sum(np.sin(x) * np.sin(np.arange(1, x.size + 1) * x**2 / np.pi) ** 20))


def camel(x: np.ndarray) -> float:
    """Return the six-hump camel, whose lowest value is -1.0316285."""
    return float(
        (4.0 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3.0) * x[0] ** 2 + x[0] * x[1] + 4.0 * (x[1] ** 2 - 1.0) * x[1] ** 2
    )


def soft(x: np.ndarray) -> float:
    """Return a function that is nearly linear far from its minimum."""
    return float(np.sum(np.log(np.cosh(np.arange(1, x.size + 1) * (x - 0.3)))))


FRESH = {
    "dixon-price-8": Valley(dixon_price, 0.0, [1.5] * 8, None, 0.5),
    "ridge-10": Valley(ridge, 0.0, [2.0] * 10, None, 1.0),
    "trigonometric-6": Valley(trigonometric, 0.0, [1.0 / 6.0] * 6, None, 0.0, False, 0.05),
    "helix-3": Valley(helix, 0.0, [-1.0, 0.0, 0.0], None, 0.0, False, 0.02),
    "kowalik-4": Valley(kowalik, 3.0750561e-4, [0.25, 0.39, 0.415, 0.39], None, 0.0, False, 0.01),
    "michalewicz-5": Valley(michalewicz, -4.687658, [1.5] * 5, (0.0, float(np.pi)), 0.05),
    "alpine-4": Valley(lambda x: float(np.sum(np.abs(x * np.sin(x) + 0.1 * x))), 0.0, [6.0] * 4, (-10.0, 10.0), 0.1),
    "camel-2": Valley(camel, -1.0316285, [2.0, -1.5], (-3.0, 3.0)),
    "quartic-12": Valley(lambda x: float(np.arange(1, 13) @ x**4), 0.0, [1.0] * 12, (-1.28, 1.28)),
    "soft-10": Valley(soft, 0.0, [1.0] * 10, None, 0.5),
    "heavy-rosenbrock-3": Valley(rosenbrock, 0.0, [-1.2, 1.0, 1.0], None, 0.3, True),
    "mixed-rosenbrock-5": Valley(rosenbrock, 0.0, [-1.2, 1.0, -1.2, 1.0, -1.2], (-5.0, 5.0), 0.02, True, 0.1),
}


def solve(solver: str, valley: Valley, seed: int, values: int) -> float:
    """Return the gap that a run of ``values`` times d + 1 values leaves."""
    import vamo_bbo as vb

    rng, x0 = np.random.default_rng(seed), np.array(valley.start)
    budget = values * (x0.size + 1)

    def noisy(x: Any) -> float:
        noise = rng.standard_t(2) if valley.heavy else rng.standard_normal()
        value = valley.fun(np.asarray(x)) + valley.sigma * float(noise)
        return value + valley.share * value * float(rng.standard_normal()) if valley.share else value

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
    parser.add_argument("--set", choices=("valleys", "fresh"), default="valleys")
    parser.add_argument("--budget", type=int, default=150, help="values over d + 1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(SOLVERS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'':18}" + "".join(f"{solver:>20}" for solver in options.only))
    for name, valley in (FRESH if options.set == "fresh" else VALLEYS).items():
        line = f"{name:18}"
        for solver in options.only:
            gaps = []
            for seed in range(options.seeds):
                key = f"{name}|{solver}|{seed}|{options.budget}"
                data[key] = data[key] if key in data else solve(solver, valley, seed, options.budget)
                gaps.append(data[key])
                options.out.write_text(json.dumps(data))
            line += f"{np.median(gaps):12.0e} {max(gaps):7.0e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
