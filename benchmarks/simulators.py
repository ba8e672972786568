"""Real simulators: our methods beside scipy's differential_evolution, cma and Optuna's default, on the same budget.

``python benchmarks/simulators.py`` makes every run that ``--runs`` does not hold yet (``--seconds`` limits one sitting)
and prints the tables. Needs what the simulators need: ``gymnasium[mujoco]``, ``cantera``, ``ngspice``, ``simpy``; and
the packages ``cma`` and ``optuna``. All methods get the same start, box and number of evaluations, and their defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import vamo_bbo as vb
from problems import peers, registry
from problems.queueing import tandem_queue
from problems.running import run as run_problem
from vamo_bbo.problem import FiniteSum

Array = Any
PEERS = ("scipy-de", "cma", "optuna-tpe")


class Task(NamedTuple):
    """A simulator with its budget (evaluations), its box, and our methods that suit it."""

    budget: int
    box: Array | None
    ours: tuple[str, ...]


TASKS = {
    "half-cheetah": Task(1000, np.tile([-1.0, 1.0], (102, 1)), ("auto", "ours-cma", "zo-sgd", "spsa")),
    "swimmer": Task(1000, np.tile([-2.0, 2.0], (16, 1)), ("auto", "ours-cma", "zo-sgd", "spsa")),
    "ignition-sensitivities": Task(200, None, ("vamo", "svrg", "auto", "ours-cma")),
    "amplifier": Task(300, None, ("auto", "ours-cma", "zo-sgd", "spsa")),
    "queue-staffing": Task(200, None, ("auto", "ours-cma", "zo-sgd", "spsa")),
    "queue-random": Task(200, None, ("auto", "ours-cma", "zo-sgd", "spsa")),
}
"""Of ignition-sensitivities the budget is in passes over its 24 delays, a delay with sensitivities counting six."""


class _Spent(Exception):
    """The budget is over."""


class Watched:
    """A function that ends a run at its budget and remembers the best value after every evaluation."""

    def __init__(self, fun: Callable[[Array], float], budget: int, failure: float = math.nan) -> None:
        self.fun, self.budget, self.failure = fun, budget, failure
        self.best: list[float] = []
        self.x: Array = None

    def __call__(self, x: Array) -> float:
        """Evaluate; a simulation that fails is ``failure``: peers that know no failures need a large number."""
        if len(self.best) >= self.budget:
            raise _Spent
        try:
            value = float(self.fun(np.array(x)))
        except Exception:
            value = math.nan
        lowest = self.best[-1] if self.best else math.inf
        if value < lowest:
            self.x = np.array(x)
        self.best.append(value if value < lowest else lowest)
        return value if math.isfinite(value) else self.failure


def deterministic(name: str, method: str, seed: int) -> dict[str, Any]:
    """Return the trace of the best value of one run."""
    task, problem = TASKS[name], registry.get(name)
    box = problem.bounds if task.box is None else task.box
    watched = Watched(problem.value, task.budget, 1e3 if method in PEERS else math.nan)
    if isinstance(problem.objective, FiniteSum) and method != "ours-cma" and method not in PEERS:
        return with_gradients(name, method, seed)
    with contextlib.suppress(_Spent):
        peers.solve(method, watched, problem.x0, box, task.budget, seed)
    marks = [max(1, round(task.budget * share)) for share in (0.25, 0.5, 1.0)]
    trace = [watched.best[min(m, len(watched.best)) - 1] for m in marks]
    return {"start": problem.value(problem.x0), "trace": trace}


def with_gradients(name: str, method: str, seed: int) -> dict[str, Any]:
    """Return the same of a finite sum, solved with its sensitivities; cost in passes."""
    task, problem = TASKS[name], registry.get(name)
    objective: Any = problem.objective
    budget = task.budget * objective.n_samples
    samples = run_problem(problem, method, budget=budget, seed=seed, grad_cost=objective.grad_cost, looks=100).samples
    trace = [min(s.value for s in samples if s.cost <= budget * share) for share in (0.25, 0.5, 1.0)]
    return {"start": problem.value(problem.x0), "trace": trace}


def random_queue(method: str, seed: int) -> dict[str, Any]:
    """Return what the answer of a run is worth where every evaluation is another day: 200 other days at it."""
    task, problem = TASKS["queue-random"], registry.get("queue-staffing")
    days = np.random.default_rng(seed).integers(2**31, size=task.budget + 1000)
    calls = iter(days.tolist())

    def any_day(x: Array, seed: int | None = None) -> float:
        return tandem_queue(x, seeds=(next(calls) if seed is None else seed,))

    def worth(x: Array) -> float:
        return tandem_queue(x, seeds=tuple(range(10**6, 10**6 + 200)))

    if method in PEERS:
        watched = Watched(any_day, task.budget, 1e3)
        with contextlib.suppress(_Spent):
            peers.solve(method, watched, problem.x0, problem.bounds, task.budget, seed)
        x = watched.x
    else:
        name, noisy = (method, True) if method in ("auto", "ours-cma") else (method, "seed")
        pairs = [(lo, hi) for lo, hi in problem.bounds] if problem.bounds is not None else None
        x = vb.minimize(
            any_day,
            problem.x0,
            method=name.removeprefix("ours-"),
            noisy=noisy,
            bounds=pairs,
            rng=seed,
            maxfev=task.budget,
        ).x
    return {"start": worth(problem.x0), "trace": [worth(x)]}


def measure(name: str, method: str, seed: int) -> dict[str, Any]:
    """Return the record of one run."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = random_queue(method, seed) if name == "queue-random" else deterministic(name, method, seed)
    return {"problem": name, "method": method, "seed": seed, "seconds": time.perf_counter() - began, **found}


def known(path: Path) -> list[dict[str, Any]]:
    """Return the runs made so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(runs: list[dict[str, Any]]) -> str:
    """Return the tables: medians over seeds, and the spread at the end of the budget."""
    lines = []
    for name, task in TASKS.items():
        mine = [r for r in runs if r["problem"] == name]
        if not mine:
            continue
        unit = "passes" if name == "ignition-sensitivities" else "evaluations"
        lines += ["", f"{name}: {task.budget} {unit}, start {mine[0]['start']:.4g}"]
        single = name == "queue-random"
        heads = ["answer"] if single else ["25 %", "50 %", "100 %"]
        lines.append(f"  {'method':12s}" + "".join(f"{h:>11s}" for h in heads) + "      (worst .. best)  seeds")
        rows = []
        for method in dict.fromkeys(r["method"] for r in mine):
            traces = np.array([r["trace"] for r in mine if r["method"] == method])
            middle = np.median(traces, axis=0)
            rows.append((middle[-1], method, middle, traces[:, -1]))
        for _, method, middle, last in sorted(rows, key=lambda row: row[0]):
            label = method if method in PEERS else f"vamo_bbo {method.removeprefix('ours-')}"
            values = "".join(f"{v:11.4g}" for v in middle)
            lines.append(f"  {label:16s}{values}   ({last.max():.4g} .. {last.min():.4g})  {len(last)}")
    return "\n".join(lines).lstrip("\n")


def main() -> None:
    """Make the missing runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TASKS), help="simulators (default: all)")
    parser.add_argument("--methods", nargs="*", help="of those that a simulator is run with (default: all)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("simulators.jsonl"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after so many seconds")
    arguments = parser.parse_args()
    done = {(r["problem"], r["method"], r["seed"]) for r in known(arguments.runs)}
    began = time.monotonic()
    for seed in range(arguments.seeds):
        for name in arguments.names:
            for method in (*TASKS[name].ours, *PEERS):
                wanted = arguments.methods is None or method in arguments.methods
                if not wanted or (name, method, seed) in done or time.monotonic() - began > arguments.seconds:
                    continue
                line = json.dumps(measure(name, method, seed))
                with open(arguments.runs, "a") as file:
                    file.write(line + "\n")
    print(table(known(arguments.runs)))


if __name__ == "__main__":
    main()
