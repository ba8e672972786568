"""What the experiments of this folder share: exact cost accounting, tuning, resumable results, pictures.

Cost is counted in function values of single samples; the gradient of one sample costs ``GRAD_COST`` of them. A round
of evaluations that does not fit into the budget is not started. Looking at full objectives and test sets on the way is
not charged to anyone. Step sizes are chosen on the seeds ``TUNE`` and reported on the seeds ``REPORT``.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from problems.plots import COLOURS
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import Solver
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.objective import Objective
from vamo_bbo.schedules import Linear

ROOT = Path(__file__).resolve().parents[2]
GRAD_COST = 3.0
TUNE = (0, 1)
REPORT = (10, 11, 12, 13, 14)
RESULTS = Path(__file__).resolve().parent / "results"
PICTURES = ROOT / "docs" / "benchmarks"

Row = dict[str, float]
Look = Callable[[np.ndarray], Row]


@dataclass(frozen=True)
class Method:
    """A solver up to its step size, and the step sizes it may choose from.

    Parameters
    ----------
    label : str
        Name in tables and pictures.
    make : callable ``make(learning_rate) -> Solver``
        Makes the solver.
    rates : tuple of float
        The grid.
    decays : tuple of bool
        Whether the step size may stay constant (False) and fall linearly to zero over the budget (True).
    """

    label: str
    make: Callable[[float], Solver]
    rates: tuple[float, ...]
    decays: tuple[bool, ...] = (False, True)

    def solver(self, rate: float, decay: bool) -> Solver:
        """Return the solver with this step size."""
        solver: Any = self.make(rate)
        if decay and isinstance(solver, Composite):
            rule: Any = solver.rule
            solver = replace(solver, rule=replace(rule, schedule=Linear()))
        chosen: Solver = solver
        return chosen


def trace(
    data: FiniteSum,
    x0: np.ndarray,
    solver: Solver,
    *,
    budget: float,
    seed: int,
    look: Look,
    looks: int = 25,
    every: int | None = None,
    steps: int | None = None,
    unknown: np.ndarray | None = None,
    backend: str = "auto",
) -> list[Row]:
    """Run ``solver`` until the next round would exceed ``budget``; return what was seen on the way.

    ``every`` looks once in so many steps instead of ``looks`` times, ``steps`` ends the run too, and ``unknown``, (d,)
    uint8, names the coordinates of the gradient that the solver does not get.

    Every row has ``cost``, ``nfev`` and ``njev`` (samples), ``steps``, ``seconds`` and ``cpu`` (elapsed and processor
    seconds, without the looking) and what ``look(x)`` returned.
    """
    objective = Objective(data, size=x0.size, dtype=x0.dtype)
    objective.declare(grad_cost=GRAD_COST)
    if unknown is not None:
        objective.declare(gradient="partial", unknown=unknown)
    horizon = budget if math.isfinite(budget) else None
    state = solver.init(x0, seed=seed, backend=backend, info=objective.info, horizon=horizon)
    counts, rows, due = {"nfev": 0, "njev": 0}, [], 0.0
    spent_time = np.zeros(2)
    out = np.empty_like(x0)

    def record() -> None:
        spent = {"cost": counts["nfev"] + GRAD_COST * counts["njev"], **counts, "steps": state.step}
        with np.errstate(all="ignore"):
            clock = dict(zip(("seconds", "cpu"), spent_time.tolist(), strict=True))
            rows.append({**spent, **clock, **look(np.array(solver.recommend(state)))})

    while solver.status(state) is None and (steps is None or state.step < steps):
        cost = counts["nfev"] + GRAD_COST * counts["njev"]
        new = not (rows and rows[-1]["steps"] == state.step)
        if new and (cost >= due if every is None else state.step % every == 0):
            record()
            due = cost + budget / looks
        begun = clocks()
        probes = solver.ask(state)
        wanted = [(p, "njev" if p.want in ("gradient", "both") else "nfev") for p in probes]
        if cost + sum(objective.samples(p) * (GRAD_COST if k == "njev" else 1) for p, k in wanted) > budget:
            break
        answers = []
        with np.errstate(all="ignore"):
            for probe, kind in wanted:
                answers.append(objective.evaluate(probe, materialize(state, probe, out), seed))
                if objective.exception is not None:
                    raise objective.exception
                counts[kind] += answers[-1].n_samples
        state = solver.tell(state, answers)
        spent_time += clocks() - begun
    record()
    return rows


def clocks() -> np.ndarray:
    """Return elapsed and processor seconds: on a shared machine only the second is the run's own."""
    return np.array([time.perf_counter(), time.process_time()])


class Store:
    """Results of finished runs in a file of JSON lines, so that an interrupted experiment goes on where it was."""

    def __init__(self, name: str) -> None:
        RESULTS.mkdir(exist_ok=True)
        self.path = RESULTS / f"{name}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows: dict[str, Any] = {}
        for line in lines:
            entry = json.loads(line)
            self.rows[entry["key"]] = entry["value"]

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the stored value of ``key``, computing it first if it is not there."""
        if key not in self.rows:
            self.rows[key] = compute()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self.rows[key]}) + "\n")
        return self.rows[key]


def columns(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return ``rows`` by column with five significant digits, so that stored results stay small."""
    return {name: [float(f"{row[name]:.5g}") for row in rows] for name in rows[0]}


def last(rows: Sequence[Row], name: str) -> float:
    """Return the last value of ``name``; infinity if it is not finite."""
    value = rows[-1][name]
    return value if math.isfinite(value) else math.inf


def tuned(
    store: Store,
    name: str,
    method: Method,
    start: Callable[[int], tuple[FiniteSum, np.ndarray]],
    look: Look,
    *,
    budget: float,
    score: str,
    tune: Sequence[int] = TUNE,
    report: Sequence[int] = REPORT,
    looks: int = 25,
) -> dict[str, Any]:
    """Choose step size and decay by the mean final ``score`` over ``tune``; run the seeds ``report``.

    Returns
    -------
    dict
        ``rate``, ``decay``, ``edge`` (the choice lies at the edge of the grid) and ``runs``, one per seed.
    """

    def one(rate: float, decay: bool, seed: int) -> list[Row]:
        key = f"{name} | {method.label} | rate={rate:g} decay={decay} seed={seed} budget={budget:g}"

        def compute() -> dict[str, list[float]]:
            data, x0 = start(seed)
            few = 1 if seed in tune else looks
            solver = method.solver(rate, decay)
            return columns(trace(data, x0, solver, budget=budget, seed=seed, look=look, looks=few))

        stored: dict[str, list[float]] = store.once(key, compute)
        return [dict(zip(stored, values, strict=True)) for values in zip(*stored.values(), strict=True)]

    def mean_score(choice: tuple[float, bool]) -> float:
        return float(np.mean([last(one(*choice, seed), score) for seed in tune]))

    choices = [(rate, decay) for decay in method.decays for rate in method.rates]
    rate, decay = min(choices, key=mean_score) if len(choices) > 1 else choices[0]
    edge = len(method.rates) > 1 and rate in (min(method.rates), max(method.rates))
    return {
        "rate": rate,
        "decay": decay,
        "edge": edge,
        "runs": [one(rate, decay, seed) for seed in report],
    }


def finals(result: Mapping[str, Any], name: str) -> np.ndarray:
    """Return the last value of ``name`` of every reported run."""
    return np.array([last(rows, name) for rows in result["runs"]])


def mean_and_half_width(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval, by Student's t."""
    width = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), width


def solver_megabytes(solver: Any, data: FiniteSum, x0: np.ndarray) -> float:
    """Return the megabytes of all arrays that a solver keeps, x and the copy of its last good value included."""
    info = Objective(data, size=x0.size, dtype=x0.dtype).info
    specs = solver.arrays(info, x0.size)
    kinds = [x0.dtype if spec.dtype == "x" else np.dtype(spec.dtype) for spec in specs]
    return sum(math.prod(spec.shape) * kind.itemsize for spec, kind in zip(specs, kinds, strict=True)) / 2**20


def median_range(values: np.ndarray) -> str:
    """Return "median [lowest, highest]"."""
    return f"{np.median(values):.3g} [{values.min():.3g}, {values.max():.3g}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned plain-text table."""
    widths = [max(len(str(row[k])) for row in [header, *rows]) for k in range(len(header))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    head = "  ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True))
    return "\n".join([head, "  ".join("-" * width for width in widths), *lines])


def rst_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a ``list-table`` in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def axes(columns: int, width: float = 5.2, height: float = 4.2, rows: int = 1) -> tuple[Any, Any]:
    """Return a figure and its (rows, columns) axes, without a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def band(axis: Any, result: Mapping[str, Any], x: str, y: str, label: str, color: str, unit: float = 1.0) -> None:
    """Draw the median over seeds of ``y`` against ``x / unit``, and the range between them."""
    runs = result["runs"]
    grid = np.linspace(0, min(rows[-1][x] for rows in runs), 80)
    lines = np.array([np.interp(grid, [r[x] for r in rows], [r[y] for r in rows]) for rows in runs])
    axis.plot(grid / unit, np.median(lines, axis=0), label=label, color=color, linewidth=1.6)
    axis.fill_between(grid / unit, lines.min(axis=0), lines.max(axis=0), color=color, alpha=0.15, linewidth=0)
    axis.set_xlabel(x)
    axis.grid(alpha=0.3)


def save(figure: Any, name: str) -> Path:
    """Write the picture for the documentation."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    figure.savefig(path, dpi=110)
    return path


__all__ = [
    "COLOURS",
    "GRAD_COST",
    "REPORT",
    "TUNE",
    "Method",
    "Store",
    "axes",
    "band",
    "clocks",
    "columns",
    "finals",
    "last",
    "mean_and_half_width",
    "median_range",
    "rst_table",
    "save",
    "solver_megabytes",
    "table",
    "trace",
    "tuned",
]
