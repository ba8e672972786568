"""Methods x problems x seeds: exact budgets, one row a run, resumable, in parallel.

Every method, ours or a peer, sees only a function that counts, keeps the best value so far, and ends the run at the
budget. What a run leaves is the sequence of its improvements, from which :mod:`problems.profiles` draws.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from problems import registry
from problems.peers import solve
from problems.problem import Array, Problem

COLUMNS = ("problem", "dimension", "method", "seed", "budget", "nfev", "best", "seconds", "error", "improvements")


class RunOver(BaseException):
    """Ends a run at its budget from inside the objective; no ``Exception``, so that no solver catches it."""


class Watched:
    """The objective as every method sees it.

    Parameters
    ----------
    problem : Problem
        What is minimized.
    budget : int
        Most values.

    Attributes
    ----------
    count : int
        Values so far.
    improvements : list of (int, float)
        Count and value, each time the best value fell.
    """

    def __init__(self, problem: Problem, budget: int) -> None:
        self.problem, self.budget, self.count = problem, budget, 0
        self.improvements: list[tuple[int, float]] = []

    def __call__(self, x: Array) -> float:
        """Return the value at ``x``, or end the run."""
        if self.count >= self.budget:
            raise RunOver
        self.count += 1
        value = self.problem.value(np.asarray(x, dtype=float).ravel())
        if np.isfinite(value) and (not self.improvements or value < self.improvements[-1][1]):
            self.improvements.append((self.count, value))
        return value


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a problem and a method by name, a seed, a budget in values."""

    problem: str
    method: str
    seed: int
    budget: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two runs the same."""
        return self.problem, self.method, str(self.seed), str(self.budget)


def carry_out(task: Task) -> dict[str, str]:
    """Do one run and return its row; an exception of the method is recorded, not raised."""
    problem = registry.get(task.problem)
    fun, error, begin = Watched(problem, task.budget), "", time.perf_counter()
    try:
        with np.errstate(all="ignore"):
            solve(task.method, fun, problem.x0, problem.bounds, task.budget, task.seed)
    except RunOver:
        pass
    except Exception as exception:
        error = f"{type(exception).__name__}: {exception}".replace("\n", " ")[:200]
    best = fun.improvements[-1][1] if fun.improvements else np.nan
    steps = " ".join(f"{count}:{value:.12g}" for count, value in fun.improvements)
    row = (task.problem, problem.dimension, task.method, task.seed, task.budget, fun.count, f"{best:.12g}")
    return dict(zip(COLUMNS, map(str, (*row, f"{time.perf_counter() - begin:.3f}", error, steps)), strict=True))


def run(tasks: Iterable[Task], path: Path, *, jobs: int = 2, time_limit: float = np.inf) -> list[dict[str, str]]:
    """Do the runs that the file does not hold yet, appending each as it ends, and return the rows of all tasks.

    Parameters
    ----------
    tasks : iterable of Task
        What is wanted.
    path : Path
        CSV file; made if it is not there.
    jobs : int, default 2
        Runs at a time, each in a process.
    time_limit : float, default inf
        Seconds after which no further run is started; start again to go on.
    """
    wanted = list(tasks)
    keys = {task.key for task in wanted}
    rows = {key: row for key, row in _read(path).items() if key in keys}
    missing = [task for task in wanted if task.key not in rows]
    if not path.exists():
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(COLUMNS)
    deadline = time.perf_counter() + time_limit
    with ProcessPoolExecutor(jobs) as pool:
        pending = {pool.submit(_unless_late, task, deadline - time.perf_counter(), time.time()) for task in missing}
        for future in as_completed(pending):
            row = future.result()
            if row is not None:
                rows[row["problem"], row["method"], row["seed"], row["budget"]] = row
                with path.open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, COLUMNS).writerow(row)
    return [rows[task.key] for task in wanted if task.key in rows]


def _unless_late(task: Task, seconds: float, since: float) -> dict[str, str] | None:
    return None if time.time() - since > seconds else carry_out(task)


def _read(path: Path) -> dict[tuple[str, str, str, str], dict[str, str]]:
    if not path.exists():
        return {}
    csv.field_size_limit(10**9)
    with path.open(newline="", encoding="utf-8") as file:
        return {(r["problem"], r["method"], r["seed"], r["budget"]): r for r in csv.DictReader(file)}
