"""Search spaces of mixed types at the budgets of hyperparameter search: the best value after 30 to 200 evaluations.

``python benchmarks/spaces.py run --out spaces.json`` runs ours and the peers (Optuna's TPE, CMA-ES and random samplers,
nevergrad's Shiwa, pycma on the rounded unit box; those that are not installed are left out). ``table`` prints, for each
method, the mean over problems and seeds of the regret ``(best so far - lowest) / (random - lowest)``: 0 is the lowest
value of any run of the problem, 1 what random search has after 30 evaluations (its mean over seeds). Runs that the file
holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from spaces_problems import DEVELOPMENT, HELD_OUT, problem

import vamo_bbo as vb
from vamo_bbo import Choice, Integer, Space

BUDGETS = (30, 60, 100, 200)
PEERS = ("random", "TPE", "optuna-cma", "nevergrad", "pycma")
SETS = {"development": DEVELOPMENT, "held-out": HELD_OUT}


class _Spent(Exception):
    """The budget is used up."""


class Recorder:
    """The objective as a peer calls it: counts, keeps the best value so far, and ends the run."""

    known: dict[str, dict[str, float]] = {}  # noqa: RUF012 - values of a problem are the same for every method

    def __init__(self, name: str, budget: int) -> None:
        self.fun, self.cache, self.budget = problem(name).fun, self.known.setdefault(name, {}), budget
        self.best: list[float] = []

    def __call__(self, params: dict[str, Any]) -> float:
        """Return the value; NaN for a failure."""
        if len(self.best) >= self.budget:
            raise _Spent
        key = repr(params)
        if key not in self.cache:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.cache[key] = float(self.fun(params))
            except Exception:
                self.cache[key] = math.nan
        value = self.cache[key]
        self.best.append(min([v for v in (value, *self.best[-1:]) if math.isfinite(v)], default=math.inf))
        return value


def _optuna(sampler: str) -> Callable[[Recorder, Space, int], None]:
    def run(told: Recorder, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))

        def objective(trial: Any) -> float:
            return told({name: _suggest(trial, name, space.parameter(name)) for name in space.names})

        study.optimize(objective, n_trials=told.budget)

    return run


def _suggest(trial: Any, name: str, parameter: Any) -> Any:
    if isinstance(parameter, Choice):
        return parameter.options[trial.suggest_categorical(name, range(len(parameter.options)))]
    if isinstance(parameter, Integer):
        return trial.suggest_int(name, parameter.low, parameter.high)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


def _nevergrad(told: Recorder, space: Space, seed: int) -> None:
    import nevergrad

    made = {}
    for name in space.names:
        p: Any = space.parameter(name)
        if isinstance(p, Choice):
            made[name] = nevergrad.p.Choice(list(range(len(p.options))))
        elif isinstance(p, Integer):
            made[name] = nevergrad.p.Scalar(lower=p.low, upper=p.high).set_integer_casting()
        elif p.log:
            made[name] = nevergrad.p.Log(lower=p.low, upper=p.high)
        else:
            made[name] = nevergrad.p.Scalar(lower=p.low, upper=p.high)
    tree = nevergrad.p.Dict(**made)
    tree.random_state.seed(seed)

    def objective(raw: dict[str, Any]) -> float:
        choices = {n for n in space.names if isinstance(space.parameter(n), Choice)}
        value = told({n: space.parameter(n).options[v] if n in choices else v for n, v in raw.items()})  # type: ignore[union-attr]
        return value if math.isfinite(value) else 1e6

    nevergrad.optimizers.Shiwa(parametrization=tree, budget=told.budget).minimize(objective)


def _pycma(told: Recorder, space: Space, seed: int) -> None:
    import cma

    integer = [k for k, n in enumerate(space.names) if space.levels[k]]
    widths = np.where(space.levels == 0, 1.0, np.abs(space.levels)).astype(float)
    options = {"seed": seed + 1, "verbose": -9, "bounds": [0, list(widths)], "integer_variables": integer}
    options["CMA_stds"] = list(0.25 * widths)
    cells = np.where(space.levels == 0, widths, widths - 1.0)
    options["bounds"] = [0, list(np.where(space.levels == 0, widths, cells))]

    def objective(x: Any) -> float:
        u = np.where(space.levels == 0, x, (np.round(x) + 0.5) / widths)
        value = told(space.from_unit(u))
        return value if math.isfinite(value) else 1e6

    cma.fmin2(objective, 0.5 * cells, 1.0, options, restarts=9)


RUNNERS: dict[str, Callable[[Recorder, Space, int], None]] = {
    "random": _optuna("RandomSampler"),
    "TPE": _optuna("TPESampler"),
    "optuna-cma": _optuna("CmaEsSampler"),
    "optuna-gp": _optuna("GPSampler"),
    "nevergrad": _nevergrad,
    "pycma": _pycma,
}


def trace(method: str, name: str, seed: int, budget: int) -> list[float]:
    """Return the best value so far after each evaluation of one run."""
    told, space = Recorder(name, budget), problem(name).space
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if method in RUNNERS:
                RUNNERS[method](told, space, seed)
            else:
                vb.minimize(told, space, method=method, rng=seed, maxfev=budget)
    except _Spent:
        pass
    return told.best + told.best[-1:] * (budget - len(told.best))


def run(arguments: argparse.Namespace) -> None:
    """Make the runs that the file does not hold."""
    path = Path(arguments.out)
    held: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}
    for name in SETS[arguments.set] if arguments.problems is None else arguments.problems:
        for method in arguments.only:
            for seed in range(arguments.seeds):
                key = f"{name}|{method}|{seed}"
                if key in held:
                    continue
                try:
                    held[key] = [float(v) for v in trace(method, name, seed, max(BUDGETS))]
                except ImportError as error:
                    print(f"{method} is left out: {error}")
                    break
                path.write_text(json.dumps(held))
        print(name, flush=True)


def table(arguments: argparse.Namespace) -> None:
    """Print regrets, over all problems and per problem."""
    held: dict[str, list[float]] = {}
    for path in arguments.files:
        held |= json.loads(Path(path).read_text())
    names = [n for n in SETS[arguments.set] if f"{n}|random|0" in held]
    methods = list(dict.fromkeys(key.split("|")[1] for key in held))
    regrets: dict[tuple[str, str], Any] = {}
    for name in names:
        runs = {m: np.array([t for k, t in held.items() if k.startswith(f"{name}|{m}|")]) for m in methods}
        runs = {m: r for m, r in runs.items() if r.size}
        lowest = min(float(r.min()) for r in runs.values())
        start = float(np.mean(runs["random"][:, BUDGETS[0] - 1]))
        for m, r in runs.items():
            scaled = ((r - lowest) / max(start - lowest, 1e-12)).clip(0, 3)
            regrets[name, m] = [float(scaled[:, b - 1].mean()) for b in BUDGETS]
    print(f"mean regret over {len(names)} problems" + "".join(f"{b:>8d}" for b in BUDGETS))
    for m in methods:
        rows = np.array([regrets[n, m] for n in names if (n, m) in regrets])
        some = f"   ({len(rows)})" if len(rows) < len(names) else ""
        print(f"{m:32s}" + "".join(f"{v:8.2f}" for v in rows.mean(axis=0)) + some)
    for at, b in enumerate(BUDGETS):
        if b not in arguments.at:
            continue
        print(f"\nregret after {b:<6d}" + "".join(f"{m[:11]:>12s}" for m in methods))
        for n in names:
            cells = (f"{regrets[n, m][at]:12.2f}" if (n, m) in regrets else " " * 12 for m in methods)
            print(f"{n:18s}" + "".join(cells))


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("--set", choices=SETS, default="development")
    one.add_argument("--problems", nargs="+")
    one.add_argument("--only", nargs="+", default=["auto", *PEERS])
    one.add_argument("--seeds", type=int, default=5)
    one.add_argument("--out", required=True)
    one.set_defaults(call=run)
    two = commands.add_parser("table")
    two.add_argument("files", nargs="+")
    two.add_argument("--set", choices=SETS, default="development")
    two.add_argument("--at", nargs="*", type=int, default=[60])
    two.set_defaults(call=table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
