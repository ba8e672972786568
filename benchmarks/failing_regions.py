"""Objectives that fail in part of the space, mostly with the lowest value at the border of it, and random failures.

Run it from the checkout with ``cma`` and ``cmaes`` installed::

    python benchmarks/failing_regions.py --out failing.json

It goes on where it stopped; ``--set development`` draws other problems of the same families, with which "auto" was
developed. A problem is solved to tau when ``f <= f* + tau (f(x0) - f*)``, with f* the lowest value that any method
found in ``4 x 100`` (d + 1) values. A failed evaluation counts like any other. pycma is told 1e30 for it, and has a
first step of 0.3, the others start as they are. With ``--noise 0.02`` values have normal noise of so much of
f(x0) - f*, and what counts is f without noise at the answer, in a run of each budget. ``--workers 8`` tells our methods
that there are so many.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("auto", "fd-bfgs", "COBYQA", "Nelder-Mead", "cma", "pycma")
MARKS = (20, 50, 100)
TAUS = (0.1, 0.01, 0.001)
SEEDS = {"development": range(3), "held-out": range(100, 104)}
LONG = 4
"""How many times the largest budget the search for f* has."""

Fun = Callable[[np.ndarray], float]


class CrashError(RuntimeError):
    """What a simulator raises."""


def fails(outside: Any) -> None:
    """Fail where a point is outside."""
    if outside:
        raise CrashError("the simulation diverged")


def bowl(rng: np.random.Generator, d: int) -> Fun:
    """Return a rotated quadratic of condition up to 30 around a point at a distance of 1 to 2 from 0."""
    axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
    lowest = rng.normal(size=d)
    lowest *= rng.uniform(1.0, 2.0) / np.linalg.norm(lowest)
    scales = 30.0 ** rng.uniform(0.0, 1.0, d)
    return lambda x: float(scales @ (axes @ (x - lowest)) ** 2)


def half_space(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic whose minimum is beyond a plane."""
    fun, normal = bowl(rng, d), rng.normal(size=d)
    normal *= np.sign(normal @ _lowest(fun, d)) / np.linalg.norm(normal)
    limit = rng.uniform(0.2, 0.7) * float(normal @ _lowest(fun, d))

    def objective(x: np.ndarray) -> float:
        fails(normal @ x > limit)
        return fun(x)

    return objective


def positive(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic where some variables must stay above a limit, as under a logarithm."""
    fun = bowl(rng, d)
    limits = -rng.uniform(0.1, 0.5, d)
    pull = rng.uniform(0.0, 3.0, d)

    def objective(x: np.ndarray) -> float:
        fails((x < limits).any())
        return fun(x) + float(pull @ x)

    return objective


def polyhedron(rng: np.random.Generator, d: int) -> Fun:
    """Return a nearly linear function in a polyhedron."""
    normals = rng.normal(size=(d + 1, d))
    cost = -normals[: max(2, d // 2)].sum(axis=0) + 0.2 * rng.normal(size=d)

    def objective(x: np.ndarray) -> float:
        fails((normals @ x > 1.0).any())
        return float(cost @ x + 0.1 * x @ x)

    return objective


def ellipsoid(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic whose minimum is outside of an ellipsoid."""
    fun, axes = bowl(rng, d), np.linalg.qr(rng.normal(size=(d, d)))[0]
    scales = 10.0 ** rng.uniform(0.0, 1.0, d)
    size = rng.uniform(0.1, 0.5) * float(scales @ (axes @ _lowest(fun, d)) ** 2)

    def objective(x: np.ndarray) -> float:
        fails(scales @ (axes @ x) ** 2 > size)
        return fun(x)

    return objective


def hole(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic whose minimum is within a ball that fails."""
    fun = bowl(rng, d)
    center = _lowest(fun, d) * rng.uniform(0.9, 1.1, d)

    def objective(x: np.ndarray) -> float:
        fails(np.linalg.norm(x - center) < 0.5)
        return fun(x)

    return objective


def product(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic between two curved borders."""
    fun, i, j = bowl(rng, d), *rng.choice(d, 2, replace=False)
    limit = rng.uniform(0.1, 0.4)

    def objective(x: np.ndarray) -> float:
        fails(abs(x[i] * x[j]) > limit or x[i] + x[j] ** 2 > 0.9)
        return fun(x)

    return objective


def kinked(rng: np.random.Generator, d: int) -> Fun:
    """Return a sum of absolute values whose minimum is beyond a plane."""
    lowest, axes = rng.normal(size=d), np.linalg.qr(rng.normal(size=(d, d)))[0]
    normal = rng.normal(size=d)
    limit = 0.5 * abs(float(normal @ lowest))
    normal *= np.sign(normal @ lowest)

    def objective(x: np.ndarray) -> float:
        fails(normal @ x > limit)
        return float(np.abs(axes @ (x - lowest)).sum())

    return objective


def valley(rng: np.random.Generator, d: int) -> Fun:
    """Return Rosenbrock's function, which fails away from its valley and where that ends."""
    width, end = rng.uniform(1.0, 3.0), rng.uniform(0.5, 1.5)

    def objective(x: np.ndarray) -> float:
        fails(np.abs(x[1:] - x[:-1] ** 2).max() > width or x[0] > end)
        return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))

    return objective


def unstable(rng: np.random.Generator, d: int) -> Fun:
    """Return the misfit of a chain of reactions under explicit Euler steps, which diverge at high rates."""
    rates = rng.uniform(-0.5, 2.5, d)

    def run(x: np.ndarray) -> np.ndarray:
        y, path = np.eye(d + 1)[0], []
        for _ in range(60):
            flow = np.exp(np.minimum(x, 50.0)) * y[:-1]
            y = y + 0.12 * (np.append(0.0, flow) - np.append(flow, 0.0))
            fails(np.abs(y).max() > 10.0)
            path.append(y)
        return np.array(path)

    data = run(np.minimum(rates, 2.0)) ** 0.9
    return lambda x: float(np.sum((run(x + 0.5) - np.nan_to_num(data)) ** 2))


def random(rng: np.random.Generator, d: int) -> Fun:
    """Return a quadratic that fails at one point of ten, wherever it is: a licence server, a full disk."""
    fun, salt = bowl(rng, d), float(rng.uniform(1.0, 2.0))

    def objective(x: np.ndarray) -> float:
        fails(np.any(x) and math.modf(abs(float(np.sum(np.sin(1e6 * salt * x)))) * 1e3)[0] < 0.1)
        return fun(x)

    return objective


FAMILIES = (half_space, positive, polyhedron, ellipsoid, hole, product, kinked, valley, unstable, random)
DIMENSIONS = (2, 4, 6, 8, 10)


def _lowest(fun: Fun, d: int) -> np.ndarray:
    """Return the minimizer of a quadratic, from its values."""
    e, f0 = np.eye(d), fun(np.zeros(d))
    plus, minus = (np.array([fun(sign * row) for row in e]) for sign in (1.0, -1.0))
    hessian = np.array([[fun(a + b) - fun(a) - fun(b) + f0 for a in e] for b in e])
    return np.linalg.solve(hessian, -0.5 * (plus - minus))


def problems(which: str) -> dict[str, tuple[Fun, np.ndarray]]:
    """Return name -> objective and start."""
    found = {}
    for family in FAMILIES:
        for seed in SEEDS[which]:
            rng = np.random.default_rng([seed, FAMILIES.index(family)])
            d = DIMENSIONS[(seed + FAMILIES.index(family)) % len(DIMENSIONS)]
            found[f"{family.__name__}-{seed}-{d}"] = family(rng, d), np.zeros(d)
    return found


class Pool:
    """Workers, as far as a method can see."""

    def __init__(self, workers: int) -> None:
        self._max_workers = workers

    def __call__(self, function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        """Evaluate points together."""
        return [function(point) for point in points]


def run(method: str, fun: Fun, x0: np.ndarray, budget: int, workers: int = 1) -> list[float]:
    """Return the values in their order, infinite where failed."""
    told: list[float] = []

    def counted(x: Any) -> float:
        told.append(math.inf)
        value = fun(np.asarray(x, dtype=float))
        told[-1] = value if math.isfinite(value) else math.inf
        return value

    if method == "pycma":
        import cma

        def safe(x: Any) -> float:
            try:
                return counted(x)
            except CrashError:
                return 1e30

        while len(told) < budget:
            options = {"verbose": -9, "seed": 1 + len(told), "maxfevals": budget - len(told)}
            cma.CMAEvolutionStrategy(x0, 0.3, options).optimize(safe)
    else:
        import vamo_bbo as vb

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool = Pool(workers) if workers > 1 else 1
            vb.minimize(counted, x0, method=method, maxfev=budget, rng=1, workers=pool)
    return told[:budget]


def answers(method: str, fun: Fun, x0: np.ndarray, sigma: float) -> list[float]:
    """Return f without noise where a run of each budget has ended, infinite where it fails there."""
    import vamo_bbo as vb

    found = []
    for k in MARKS:
        budget, rng = k * (x0.size + 1), np.random.default_rng(1)

        def noisy(x: Any, rng: np.random.Generator = rng) -> float:
            return fun(np.asarray(x, dtype=float)) + sigma * float(rng.normal())

        if method == "pycma":
            import cma

            def safe(x: Any, noisy: Callable[[Any], float] = noisy) -> float:
                try:
                    return noisy(x)
                except CrashError:
                    return 1e30

            strategy = cma.CMAEvolutionStrategy(x0, 0.3, {"verbose": -9, "seed": 1, "maxfevals": budget})
            x = strategy.optimize(safe).result.xfavorite
        else:
            x = vb.minimize(noisy, x0, method=method, maxfev=budget, rng=1, noisy=True).x
        try:
            found.append(fun(x))
        except CrashError:
            found.append(math.inf)
    return found


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="held-out", choices=sorted(SEEDS))
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=Path("failing.json"))
    args = parser.parse_args()
    done: dict[str, list[float]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    methods = args.methods.split(",")
    chosen, suffix = problems(args.set), f" {args.noise:g}" if args.noise else ""
    suffix += f" {args.workers} workers" if args.workers > 1 else ""
    for name, (fun, x0) in chosen.items():
        for method in ("reference", *methods):
            key = f"{name} {method}{suffix if method != 'reference' else ''}"
            if key in done:
                continue
            if method == "reference":
                longest = LONG * MARKS[-1] * (x0.size + 1)
                done[key] = [min(min(run(long, fun, x0, longest)) for long in ("auto", "cma", "pycma"))]
            elif args.noise:
                lowest = done[f"{name} reference"][0]
                done[key] = answers(method, fun, x0, args.noise * (fun(x0) - lowest))
            else:
                values = run(method, fun, x0, MARKS[-1] * (x0.size + 1), args.workers)
                best = np.minimum.accumulate([*values, math.inf])
                done[key] = [float(best[min(k * (x0.size + 1), len(values)) - 1]) for k in MARKS]
            args.out.write_text(json.dumps(done))
    keys = [f"{m}{suffix}" for m in methods]
    lowest = {name: min(min(done[f"{name} {m}"]) for m in (*keys, "reference")) for name in chosen}
    first = {name: fun(x0) for name, (fun, x0) in chosen.items()}
    for tau in TAUS:
        print(f"\n{len(chosen)} problems; solved to {tau:g} within k (d + 1) values")
        print(f"{'':12}" + "".join(f"{f'k = {k}':>9}" for k in MARKS))
        for method in methods:
            at = np.array([done[f"{n} {method}{suffix}"] for n in chosen])
            goals = np.array([lowest[n] + tau * (first[n] - lowest[n]) for n in chosen])
            print(f"{method:12}" + "".join(f"{share:8.0f}%" for share in 100.0 * np.mean(at <= goals[:, None], axis=0)))


if __name__ == "__main__":
    main()
