"""Constrained problems with noise: our augmented Lagrangian beside COBYLA and COBYQA.

The problems are from W. Hock and K. Schittkowski, Test Examples for Nonlinear Programming Codes, Springer 1981, written
out below by their numbers, n <= 7. Every value of the objective has a relative noise of 1e-3 (of 1 where the value is
smaller); constraints are exact. The budget: 500 (n + 1) values. Solved: the returned point violates no constraint by
more than 1e-3 and its noiseless value is within 1 % of the optimum (of 1 where the optimum is smaller)::

    python benchmarks/constrained.py
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize as scipy_minimize

import vamo_bbo as vb
from vamo_bbo.constraints import rows_of

BUDGET = 500
NOISE = 1e-3


class Problem(NamedTuple):
    """A problem: objective, start, constraints, bounds, optimal value."""

    fun: Callable[[Any], float]
    x0: list[float]
    constraints: list[dict[str, Any]]
    bounds: list[tuple[float | None, float | None]] | None
    optimum: float


def ineq(fun: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the constraint fun(x) >= 0."""
    return {"type": "ineq", "fun": fun}


def eq(fun: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the constraint fun(x) = 0."""
    return {"type": "eq", "fun": fun}


PROBLEMS: dict[str, Problem] = {
    "HS6": Problem(lambda x: (1 - x[0]) ** 2, [-1.2, 1], [eq(lambda x: 10 * (x[1] - x[0] ** 2))], None, 0.0),
    "HS7": Problem(
        lambda x: np.log(1 + x[0] ** 2) - x[1],
        [2, 2],
        [eq(lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4)],
        None,
        -np.sqrt(3),
    ),
    "HS14": Problem(
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        [2, 2],
        [ineq(lambda x: 1 - 0.25 * x[0] ** 2 - x[1] ** 2), eq(lambda x: x[0] - 2 * x[1] + 1)],
        None,
        9 - 2.875 * np.sqrt(7),
    ),
    "HS21": Problem(
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        [-1, -1],
        [ineq(lambda x: 10 * x[0] - x[1] - 10)],
        [(2, 50), (-50, 50)],
        -99.96,
    ),
    "HS28": Problem(
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        [-4, 1, 1],
        [eq(lambda x: x[0] + 2 * x[1] + 3 * x[2] - 1)],
        None,
        0.0,
    ),
    "HS35": Problem(
        lambda x: (
            9
            - 8 * x[0]
            - 6 * x[1]
            - 4 * x[2]
            + 2 * x[0] ** 2
            + 2 * x[1] ** 2
            + x[2] ** 2
            + 2 * x[0] * x[1]
            + 2 * x[0] * x[2]
        ),
        [0.5, 0.5, 0.5],
        [ineq(lambda x: 3 - x[0] - x[1] - 2 * x[2])],
        [(0, None)] * 3,
        1 / 9,
    ),
    "HS39": Problem(
        lambda x: -x[0],
        [2, 2, 2, 2],
        [eq(lambda x: x[1] - x[0] ** 3 - x[2] ** 2), eq(lambda x: x[0] ** 2 - x[1] - x[3] ** 2)],
        None,
        -1.0,
    ),
    "HS43": Problem(
        lambda x: (x**2).sum() + x[2] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
        [0, 0, 0, 0],
        [
            ineq(lambda x: 8 - (x**2).sum() - x[0] + x[1] - x[2] + x[3]),
            ineq(lambda x: 10 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3]),
            ineq(lambda x: 5 - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3]),
        ],
        None,
        -44.0,
    ),
    "HS48": Problem(
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        [3, 5, -3, 2, -2],
        [eq(lambda x: x.sum() - 5), eq(lambda x: x[2] - 2 * (x[3] + x[4]) + 3)],
        None,
        0.0,
    ),
    "HS71": Problem(
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        [1, 5, 5, 1],
        [ineq(lambda x: np.prod(x) - 25), eq(lambda x: (x**2).sum() - 40)],
        [(1, 5)] * 4,
        17.0140173,
    ),
    "HS76": Problem(
        lambda x: (
            x[0] ** 2
            + 0.5 * x[1] ** 2
            + x[2] ** 2
            + 0.5 * x[3] ** 2
            - x[0] * x[2]
            + x[2] * x[3]
            - x[0]
            - 3 * x[1]
            + x[2]
            - x[3]
        ),
        [0.5, 0.5, 0.5, 0.5],
        [
            ineq(lambda x: 5 - x[0] - 2 * x[1] - x[2] - x[3]),
            ineq(lambda x: 4 - 3 * x[0] - x[1] - 2 * x[2] + x[3]),
            ineq(lambda x: x[1] + 4 * x[2] - 1.5),
        ],
        [(0, None)] * 4,
        -4.681818,
    ),
    "HS100": Problem(
        lambda x: (
            (x[0] - 10) ** 2
            + 5 * (x[1] - 12) ** 2
            + x[2] ** 4
            + 3 * (x[3] - 11) ** 2
            + 10 * x[4] ** 6
            + 7 * x[5] ** 2
            + x[6] ** 4
            - 4 * x[5] * x[6]
            - 10 * x[5]
            - 8 * x[6]
        ),
        [1, 2, 0, 4, 0, 1, 1],
        [
            ineq(lambda x: 127 - 2 * x[0] ** 2 - 3 * x[1] ** 4 - x[2] - 4 * x[3] ** 2 - 5 * x[4]),
            ineq(lambda x: 282 - 7 * x[0] - 3 * x[1] - 10 * x[2] ** 2 - x[3] + x[4]),
            ineq(lambda x: 196 - 23 * x[0] - x[1] ** 2 - 6 * x[5] ** 2 + 8 * x[6]),
            ineq(lambda x: -4 * x[0] ** 2 - x[1] ** 2 + 3 * x[0] * x[1] - 2 * x[2] ** 2 - 5 * x[5] + 11 * x[6]),
        ],
        None,
        680.6300573,
    ),
}
SOLVERS = ("auto", "cma", "spsa", "COBYLA", "COBYQA")


def solve(name: str, problem: Problem, seed: int) -> tuple[bool, float, float]:
    """Return (solved, violation, relative error) of one run."""
    rng = np.random.default_rng(seed)

    def noisy(x: Any) -> float:
        value = float(problem.fun(np.asarray(x)))
        return value + NOISE * max(1.0, abs(value)) * float(rng.standard_normal())

    x0, budget = np.array(problem.x0, dtype=float), BUDGET * (len(problem.x0) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in ("COBYLA", "COBYQA"):
            options = {"maxiter": budget} if name == "COBYLA" else {"maxfev": budget}
            run: Any = scipy_minimize
            x = run(noisy, x0, method=name, bounds=problem.bounds, constraints=problem.constraints, options=options).x
        else:
            x = vb.minimize(
                noisy,
                x0,
                method=name,
                bounds=problem.bounds,
                constraints=problem.constraints,
                noisy=True,
                rng=seed,
                maxfev=budget,
            ).x
    violation = rows_of(problem.constraints).violation(x)
    for k, (low, high) in enumerate(problem.bounds or []):
        violation = max(violation, 0.0 if low is None else low - x[k], 0.0 if high is None else x[k] - high)
    error = abs(float(problem.fun(x)) - problem.optimum) / max(1.0, abs(problem.optimum))
    return violation <= 1e-3 and error <= 0.01, violation, error


def main() -> None:
    """Print one line per problem and the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--solvers", nargs="*", default=list(SOLVERS))
    options = parser.parse_args()
    shares: dict[str, list[bool]] = {solver: [] for solver in options.solvers}
    for name, problem in PROBLEMS.items():
        cells = []
        for solver in options.solvers:
            runs = [solve(solver, problem, seed) for seed in range(options.seeds)]
            shares[solver] += [solved for solved, _, _ in runs]
            worst = max(runs, key=lambda run: (not run[0], run[1], run[2]))
            cells.append(f"{solver} {sum(s for s, _, _ in runs)}/{len(runs)} ({worst[1]:.0e}, {worst[2]:.0e})")
        print(f"{name:6}" + "  ".join(cells), flush=True)
    print("solved " + "  ".join(f"{s} {100 * np.mean(v):.0f} %" for s, v in shares.items()))


if __name__ == "__main__":
    main()
