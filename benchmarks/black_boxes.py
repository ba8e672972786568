"""Black boxes that users bring: dear, multimodal, nonsmooth, and with variables that do nothing; "auto" and its peers.

Run it from the checkout with ``cma``, ``cmaes``, ``nlopt``, ``optuna`` and ``nevergrad`` installed::

    python benchmarks/black_boxes.py --kind dear --out black_boxes.json

The kinds: ``dear`` (responses and fits of engineers within bounds, 5 to 20 (d + 1) values, each budget a run of its
own), ``multimodal``, ``kinked`` (kinks, steps, few digits) and ``idle`` (20 to 100 variables of which few matter). It
goes on where it stopped; ``--set development`` are the families with which "auto" was developed, others than the
held-out ones. A problem is solved to tau when ``f <= f* + tau (f(x0) - f*)``, with f* the lowest value that anyone
found. Peers are as they come: pycma is told 0.2 of the box or of the start's size for its first step, and restarts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import black_boxes_dear as dear
import black_boxes_kinked as kinked
import black_boxes_multimodal as multimodal
import numpy as np
from black_boxes_dear import Problem

FAMILIES = {**dear.FAMILIES, **multimodal.FAMILIES, **kinked.FAMILIES}
MARKS = {"dear": (5, 10, 20), "multimodal": (50, 100, 300), "kinked": (20, 50, 100), "idle": (5, 20, 50)}
TAUS = (0.1, 0.01, 0.001)
SEEDS = {"development": range(4), "held-out": range(100, 104)}
METHODS = {
    "dear": ("auto", "bayes", "COBYQA", "nlopt BOBYQA", "pycma", "TPE"),
    "multimodal": ("auto", "pycma", "dual_annealing", "differential_evolution", "direct", "basinhopping", "NGOpt"),
    "kinked": ("auto", "fd-bfgs", "interpolation", "COBYQA", "Nelder-Mead", "Powell", "pycma"),
    "idle": ("auto", "L-BFGS-B", "COBYQA", "Powell", "pycma"),
}
SECONDS = 90
"""Most processor time of a run."""


class Spent(BaseException):
    """The budget of a run is spent."""


class Counted:
    """An objective that keeps its values, at the points within the bounds, and ends the run after ``budget`` calls."""

    def __init__(self, problem: Problem, budget: int) -> None:
        self.problem, self.budget, self.told = problem, budget, [math.inf]
        self.deadline = time.process_time() + SECONDS

    def __call__(self, x: Any, *_: Any) -> float:
        """Evaluate, within the budget."""
        if len(self.told) > self.budget or time.process_time() > self.deadline:
            raise Spent
        x = np.array(x, dtype=float).reshape(-1)
        if self.problem.lower is not None:
            x = x.clip(self.problem.lower, self.problem.upper)
        with np.errstate(all="ignore"):
            value = float(self.problem.fun(x))
        self.told.append(value if math.isfinite(value) else math.inf)
        return value if math.isfinite(value) else 1e30


class Start(NamedTuple):
    """What peers are told: the problem, and what stands for a box where there is none."""

    x0: np.ndarray
    bounds: list[tuple[float, float]] | None
    box: list[tuple[float, float]]


def start_of(problem: Problem) -> Start:
    """Return start and boxes of a problem: without bounds, as far as 5 times the size of x0 around it."""
    x0, reach = problem.x0, 5.0 * max(1.0, float(np.abs(problem.x0).max()))
    if problem.lower is None:
        return Start(x0, None, [(x - reach, x + reach) for x in x0])
    bounds = list(zip(problem.lower.tolist(), problem.upper.tolist(), strict=True))
    return Start(x0, bounds, bounds)


class Pool:
    """Eight workers, as far as a method can see."""

    _max_workers = 8

    def __call__(self, function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        """Evaluate points together."""
        return [function(point) for point in points]


def ours(method: str, workers: Any = 1) -> Callable[[Counted, Start], None]:
    """Return a runner of one of our methods."""

    def run(fun: Counted, start: Start) -> None:
        import vamo_bbo as vb

        limits = {"bounds": start.bounds, "maxfev": fun.budget}
        vb.minimize(fun, start.x0, method=method, rng=1, workers=workers, **limits)

    return run


def scipy_local(method: str) -> Callable[[Counted, Start], None]:
    """Return a runner of one of scipy's local methods."""

    def run(fun: Counted, start: Start) -> None:
        from scipy.optimize import minimize

        key = "maxfun" if method == "L-BFGS-B" else "maxfev"
        minimize(fun, start.x0, method=method, bounds=start.bounds, options={key: fun.budget, "maxiter": 10**6})

    return run


def scipy_global(name: str) -> Callable[[Counted, Start], None]:
    """Return a runner of one of scipy's global methods."""

    def run(fun: Counted, start: Start) -> None:
        import scipy.optimize as so

        if name == "basinhopping":
            local = {"method": "L-BFGS-B", "bounds": start.bounds}
            step = 0.1 * max(high - low for low, high in start.box)
            so.basinhopping(fun, start.x0, niter=10**6, stepsize=step, minimizer_kwargs=local, rng=1)
        elif name == "direct":
            so.direct(fun, start.box, maxfun=fun.budget, maxiter=10**6, vol_tol=0.0, len_tol=0.0)
        elif name == "dual_annealing":
            so.dual_annealing(fun, start.box, maxiter=10**6, rng=1, x0=start.x0)
        else:
            so.differential_evolution(fun, start.box, maxiter=10**6, rng=1, x0=start.x0, tol=0.0)

    return run


def pycma(fun: Counted, start: Start) -> None:
    """Run pycma with BIPOP restarts, in units of the box where there is one."""
    import cma

    low, high = np.array(start.box).T
    width = high - low if start.bounds else np.ones(low.size)
    step = 0.2 if start.bounds else 0.5 * max(1.0, 0.5 * float(np.abs(start.x0).max()))
    options = {"verbose": -9, "seed": 1, "maxfevals": fun.budget, "verb_disp": 0, "verb_log": 0}
    if start.bounds:
        options["bounds"] = [(low / width).tolist(), (high / width).tolist()]
    while len(fun.told) <= fun.budget:
        cma.fmin2(lambda y: fun(y * width), start.x0 / width, step, options, restarts=9, bipop=True)


def bobyqa(fun: Counted, start: Start) -> None:
    """Run NLopt's BOBYQA in units of the box."""
    import nlopt

    low, high = np.array(start.box).T
    width = high - low if start.bounds else np.ones(low.size)
    optimizer = nlopt.opt(nlopt.LN_BOBYQA, low.size)
    if start.bounds:
        optimizer.set_lower_bounds(low / width)
        optimizer.set_upper_bounds(high / width)
    optimizer.set_min_objective(lambda y, grad: fun(y * width))
    optimizer.set_xtol_rel(1e-12)
    with contextlib.suppress(nlopt.RoundoffLimited, RuntimeError, SystemError):  # the last for Spent on its way
        optimizer.optimize(start.x0 / width)


def optuna(sampler: str) -> Callable[[Counted, Start], None]:
    """Return a runner of one of Optuna's samplers, which is told x0."""

    def run(fun: Counted, start: Start) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=1))
        study.enqueue_trial({f"x{k}": float(x) for k, x in enumerate(start.x0)})

        def objective(trial: Any) -> float:
            return fun([trial.suggest_float(f"x{k}", low, high) for k, (low, high) in enumerate(start.box)])

        study.optimize(objective, n_trials=fun.budget)

    return run


def ngopt(fun: Counted, start: Start) -> None:
    """Run nevergrad's NGOpt."""
    import nevergrad as ng

    found = ng.p.Array(init=start.x0)
    if start.bounds:
        low, high = np.array(start.bounds).T
        found = ng.p.Array(init=start.x0, lower=low, upper=high)
    found.random_state.seed(1)
    with contextlib.suppress(TypeError):  # its models do not go with numpy 2.4
        ng.optimizers.NGOpt(parametrization=found, budget=fun.budget).minimize(fun)


RUNNERS: dict[str, Callable[[Counted, Start], None]] = {
    "auto": ours("auto"),
    "auto 8 workers": ours("auto", Pool()),
    "bayes": ours("bayes"),
    "fd-bfgs": ours("fd-bfgs"),
    "interpolation": ours("interpolation"),
    "cma": ours("cma"),
    **{name: scipy_local(name) for name in ("COBYQA", "Nelder-Mead", "Powell", "L-BFGS-B")},
    **{name: scipy_global(name) for name in ("dual_annealing", "differential_evolution", "direct", "basinhopping")},
    "pycma": pycma,
    "nlopt BOBYQA": bobyqa,
    "TPE": optuna("TPESampler"),
    "GP": optuna("GPSampler"),
    "NGOpt": ngopt,
}


def problems(kind: str, which: str) -> dict[str, Problem]:
    """Return name -> problem."""
    found = {}
    for index, family in enumerate(FAMILIES[kind, which]):
        for seed in SEEDS[which]:
            problem = family(np.random.default_rng([seed, index]), seed)
            found[f"{family.__name__}-{seed}-{problem.x0.size}"] = problem
    return found


def lowest(method: str, kind: str, problem: Problem) -> list[float]:
    """Return the lowest value after each of the budgets."""
    each = problem.x0.size + 1
    marks = MARKS[kind]
    found = []
    for mark in marks if kind == "dear" else marks[-1:]:
        fun = Counted(problem, mark * each)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(Spent):
                RUNNERS[method](fun, start_of(problem))
        best = np.minimum.accumulate(fun.told)
        found += [float(best[min(k * each, len(best) - 1)]) for k in ((mark,) if kind == "dear" else marks)]
    return found


def table(kind: str, chosen: dict[str, Problem], methods: list[str], done: dict[str, list[float]]) -> None:
    """Print the shares of problems solved."""
    known = {name: [row for key, row in done.items() if key.startswith(f"{name} ")] for name in chosen}
    best = {name: min(map(min, rows)) for name, rows in known.items()}
    first = {name: problem.fun(problem.x0) for name, problem in chosen.items()}
    for tau in TAUS:
        print(f"\n{kind}: {len(chosen)} problems; solved to {tau:g} within k (d + 1) values")
        print(f"{'':22}" + "".join(f"{f'k = {k}':>9}" for k in MARKS[kind]))
        for method in methods:
            at = np.array([done[f"{n} {method}"] for n in chosen])
            goals = np.array([best[n] + tau * (first[n] - best[n]) for n in chosen])
            print(f"{method:22}" + "".join(f"{share:8.0f}%" for share in 100.0 * np.mean(at <= goals[:, None], axis=0)))


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", required=True, choices=sorted(MARKS))
    parser.add_argument("--set", default="held-out", choices=sorted(SEEDS))
    parser.add_argument("--methods", help="separated by commas")
    parser.add_argument("--out", type=Path, default=Path("black_boxes.json"))
    args = parser.parse_args()
    done: dict[str, list[float]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    methods = args.methods.split(",") if args.methods else list(METHODS[args.kind])
    chosen = problems(args.kind, args.set)
    for method in methods:
        for name, problem in chosen.items():
            key = f"{name} {method}"
            if key not in done:
                done[key] = lowest(method, args.kind, problem)
                args.out.write_text(json.dumps(done))
    table(args.kind, chosen, methods, done)


if __name__ == "__main__":
    main()
