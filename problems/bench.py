"""Methods x problems x seeds: exact budgets, one row a run, resumable, in parallel; profiles from the rows.

Every method, ours or a peer, sees only a function that counts, keeps the best value so far, and ends the run at the
budget. What a run leaves is the sequence of its improvements, from which every profile can be drawn later.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Sequence
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


def complete(rows: Sequence[dict[str, str]], runs: int) -> list[dict[str, str]]:
    """Return the rows of the problems that have all their ``runs``: profiles compare equals with equals."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["problem"]] = counts.get(row["problem"], 0) + 1
    return [row for row in rows if counts[row["problem"]] == runs]


def improvements(row: dict[str, str]) -> Array:
    """Return the improvements of a run, (k, 2): count and best value."""
    pairs = [step.split(":") for step in row["improvements"].split()]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def evaluations_to(row: dict[str, str], target: float) -> float:
    """Return the count at which a run first had a value at or below ``target``, or inf."""
    steps = improvements(row)
    hits = steps[steps[:, 1] <= target]
    return float(hits[0, 0]) if len(hits) else float("inf")


def data_profile(rows: Sequence[dict[str, str]], tolerance: float) -> dict[str, Array]:
    """Return, by method, the evaluations / (d + 1) that each run needed, inf where it did not get there.

    A run has got there when it has reduced the objective by ``1 - tolerance`` of what is possible: the value at x0 less
    the optimum, or less the best value of any run where no optimum is known (Moré and Wild, SIAM J. Optim. 20, 2009).
    """
    needed: dict[str, list[float]] = {row["method"]: [] for row in rows}
    for name in sorted({row["problem"] for row in rows}):
        mine = [row for row in rows if row["problem"] == name]
        start, lowest = _range(name, mine)
        for row in mine:
            needed[row["method"]].append(
                evaluations_to(row, lowest + tolerance * (start - lowest)) / (int(row["dimension"]) + 1)
            )
    return {method: np.array(counts) for method, counts in needed.items()}


def _range(name: str, rows: Sequence[dict[str, str]]) -> tuple[float, float]:
    problem = registry.get(name)
    reached = min(float(row["best"]) for row in rows)
    known = problem.reference.value if problem.reference is not None else np.inf
    return problem.value(problem.x0), min(reached, known)


def table(rows: Sequence[dict[str, str]], tolerances: Sequence[float] = (1e-1, 1e-3, 1e-5)) -> str:
    """Return the share of runs solved to each tolerance, the best method first, as text."""
    profiles = {tolerance: data_profile(rows, tolerance) for tolerance in tolerances}
    errors = {m: sum(1 for row in rows if row["method"] == m and row["error"]) for m in profiles[tolerances[0]]}
    shares = {m: [float(np.mean(np.isfinite(profiles[t][m]))) for t in tolerances] for m in errors}
    head = f"{'method':20} {'runs':>5} " + " ".join(f"{'solved to ' + format(t, 'g'):>16}" for t in tolerances)
    lines = [head + f" {'failed':>7}"]
    for method in sorted(shares, key=lambda method: [-share for share in shares[method]][::-1]):
        cells = " ".join(f"{100 * share:14.1f} %" for share in shares[method])
        lines.append(f"{method:20} {len(profiles[tolerances[0]][method]):5} {cells} {errors[method]:7}")
    return "\n".join(lines)


def draw(
    rows: Sequence[dict[str, str]], path: Path, title: str, tolerances: Sequence[float] = (1e-1, 1e-3, 1e-5)
) -> None:
    """Draw a data profile for each tolerance."""
    from problems.data import require
    from problems.plots import COLOURS

    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure((13, 4.6), layout="constrained")
    for axis, tolerance in zip(figure.subplots(1, len(tolerances), sharey=True), tolerances, strict=True):
        profile = data_profile(rows, tolerance)
        order = sorted(profile, key=lambda method: -float(np.mean(np.isfinite(profile[method]))))
        colours = dict(zip(sorted(profile), [(c, s) for s in ("-", "--", ":") for c in COLOURS], strict=False))
        for method in order:
            counts = np.sort(profile[method])
            share = np.arange(1, len(counts) + 1) / len(counts)
            keep = np.isfinite(counts)
            x, y = np.append(counts[keep], _end(rows)), np.append(share[keep], np.mean(keep))
            axis.step(x, y, where="post", label=method, color=colours[method][0], linestyle=colours[method][1])
        axis.set(xscale="log", xlabel="values / (d + 1)", title=f"tolerance {tolerance:g}", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share of runs solved")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _end(rows: Sequence[dict[str, str]]) -> float:
    return max(int(row["budget"]) / (int(row["dimension"]) + 1) for row in rows)
