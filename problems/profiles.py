"""What the rows of a benchmark say: data profiles, runtime distributions, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from problems import registry
from problems.data import require
from problems.peers import PEERS
from problems.plots import COLOURS
from problems.problem import Array

Row: TypeAlias = dict[str, str]
TOLERANCES = (1e-1, 1e-3, 1e-5)
TARGETS: tuple[float, ...] = tuple(10.0 ** (-k / 5) for k in range(1, 41))
"""Tolerances of a runtime distribution: forty, from 0.63 to 1e-8, evenly spaced in the logarithm."""


def complete(rows: Sequence[Row], runs: int) -> list[Row]:
    """Return the rows of the problems that have all their ``runs``: profiles compare equals with equals."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["problem"]] = counts.get(row["problem"], 0) + 1
    return [row for row in rows if counts[row["problem"]] == runs]


def improvements(row: Row) -> Array:
    """Return the improvements of a run, (k, 2): count and best value."""
    pairs = [step.split(":") for step in row["improvements"].split()]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def evaluations_to(row: Row, targets: float | Array) -> Array:
    """Return the counts at which a run first had a value at or below each target, or inf; shape of ``targets``."""
    steps = improvements(row)
    if not len(steps):
        return np.full(np.shape(targets), np.inf)
    at = np.searchsorted(-steps[:, 1], -np.asarray(targets, dtype=float))  # values fall, so this is ascending
    return np.append(steps[:, 0], np.inf)[at]


def data_profile(rows: Sequence[Row], tolerances: float | Sequence[float]) -> dict[str, Array]:
    """Return, by method, the evaluations / (d + 1) that each run needed, inf where it did not get there.

    A run has got there when it has reduced the objective by ``1 - tolerance`` of what is possible: the value at x0 less
    the optimum, or less the best value of any run where no optimum is known (Moré and Wild, SIAM J. Optim. 20, 2009).

    Parameters
    ----------
    rows : sequence of rows
        Of :func:`problems.bench.run`.
    tolerances : float or sequence of float
        One tolerance, or the (m,) targets of a runtime distribution.

    Returns
    -------
    dict of str to (runs,) or (runs, m) array
        By method, in the order in which it first appears.
    """
    needed: dict[str, list[Array]] = {row["method"]: [] for row in rows}
    for name in sorted({row["problem"] for row in rows}):
        mine = [row for row in rows if row["problem"] == name]
        start, lowest = _range(name, mine)
        targets = lowest + np.asarray(tolerances) * (start - lowest)
        for row in mine:
            needed[row["method"]].append(evaluations_to(row, targets) / (int(row["dimension"]) + 1))
    return {method: np.array(counts) for method, counts in needed.items()}


@cache
def _known(name: str) -> tuple[float, float]:
    """Return the value at the start and the known optimum, or inf."""
    problem = registry.get(name)
    return problem.value(problem.x0), np.inf if problem.reference is None else problem.reference.value


def _range(name: str, rows: Sequence[Row]) -> tuple[float, float]:
    start, known = _known(name)
    return start, min(known, *(float(row["best"]) for row in rows if row["best"] != "nan"), start)


def table(rows: Sequence[Row], tolerances: Sequence[float] = TOLERANCES) -> str:
    """Return the share of runs solved to each tolerance as text, the best method at the last one first.

    ``area`` is the area under the runtime distribution: the mean over :data:`TARGETS` and over the logarithm of the
    budget of the share of targets reached, so that early counts as well as late.
    """
    solved = {m: np.isfinite(counts).mean(axis=0) for m, counts in data_profile(rows, tolerances).items()}
    areas = {m: _area(counts, _end(rows)) for m, counts in data_profile(rows, TARGETS).items()}
    head = f"{'method':20} {'runs':>5} " + " ".join(f"{'solved to ' + format(t, 'g'):>16}" for t in tolerances)
    lines = [f"{head} {'area':>6} {'failed':>7} {'s/run':>7}"]
    for method in sorted(solved, key=lambda method: (-solved[method][::-1]).tolist()):
        mine = [row for row in rows if row["method"] == method]
        failed = sum(1 for row in mine if row["error"])
        seconds = float(np.mean([float(row["seconds"]) for row in mine]))
        cells = " ".join(f"{100 * share:14.1f} %" for share in solved[method])
        lines.append(f"{method:20} {len(mine):5} {cells} {areas[method]:6.3f} {failed:7} {seconds:7.2f}")
    return "\n".join(lines)


def table_by_dimension(rows: Sequence[Row], tolerance: float = 1e-3) -> str:
    """Return the share of runs solved to one tolerance in every dimension as text, the best on average first."""
    dimensions = sorted({int(row["dimension"]) for row in rows})
    shares: dict[str, dict[int, float]] = {}
    for d in dimensions:
        for method, counts in data_profile([r for r in rows if int(r["dimension"]) == d], tolerance).items():
            shares.setdefault(method, {})[d] = float(np.isfinite(counts).mean())
    lines = [f"solved to {tolerance:g}".ljust(20) + "".join(f"{'d = ' + str(d):>10}" for d in dimensions)]
    for method in sorted(shares, key=lambda method: -float(np.mean(list(shares[method].values())))):
        cells = (f"{100 * shares[method][d]:8.1f} %" if d in shares[method] else " " * 10 for d in dimensions)
        lines.append(f"{method:20}" + "".join(cells))
    return "\n".join(lines)


def _area(counts: Array, end: float) -> float:
    """Return the area under a runtime distribution over log10 of values / (d + 1), from 1 to ``end``, as a share."""
    left = np.log10(end / np.clip(counts, 1.0, end)) / np.log10(end)
    return float(np.mean(left))


def _end(rows: Sequence[Row]) -> float:
    return max(int(row["budget"]) / (int(row["dimension"]) + 1) for row in rows)


def draw(rows: Sequence[Row], path: Path, title: str, tolerances: Sequence[float] = TOLERANCES) -> None:
    """Draw a data profile for each tolerance."""
    panels = [(f"tolerance {tolerance:g}", data_profile(rows, tolerance)) for tolerance in tolerances]
    _panels(panels, _end(rows), "share of runs solved", path, title)


def draw_ecdf(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw, for every dimension, the share of (run, target) pairs reached: the runtime distribution of COCO.

    The targets are those of :data:`TARGETS`, relative to the value at x0; cocopp's are absolute.
    """
    dimensions = sorted({int(row["dimension"]) for row in rows})
    if len(dimensions) > 5:
        groups = [("all problems", list(rows))]
    else:
        groups = [(f"d = {d}", [row for row in rows if int(row["dimension"]) == d]) for d in dimensions]
    panels = [(name, {m: c.ravel() for m, c in data_profile(mine, TARGETS).items()}) for name, mine in groups]
    _panels(panels, _end(rows), "share of (run, target) pairs reached", path, title)


def _panels(panels: Sequence[tuple[str, dict[str, Array]]], end: float, label: str, path: Path, title: str) -> None:
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure(
        (max(4.4 * len(panels), 7.5), 4.9), layout="constrained"
    )
    styles = _styles(panels[0][1])
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, counts) in zip(axes, panels, strict=True):
        for method, needed in counts.items():
            _step(axis, needed, end, method, *styles[method])
        axis.set(xscale="log", xlabel="values / (d + 1)", title=name, ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(panels) * 3), frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _styles(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and line by method: ours in full lines, peers in dashed and then dotted ones."""
    groups: tuple[list[str], list[str]] = ([], [])
    for method in methods:
        groups[method in PEERS].append(method)
    lines: tuple[tuple[str, ...], ...] = (("-", "-."), ("--", ":"))
    return {
        method: style
        for names, kinds in zip(groups, lines, strict=True)
        for method, style in zip(names, ((colour, line) for line in kinds for colour in COLOURS), strict=False)
    }


def _step(axis: Any, needed: Array, end: float, method: str, colour: str, line: str) -> None:
    counts = np.sort(needed)
    share = np.arange(1, len(counts) + 1) / len(counts)
    keep = np.isfinite(counts)
    x, y = np.append(counts[keep], end), np.append(share[keep], np.mean(keep))
    axis.step(x, y, where="post", label=method, color=colour, linestyle=line, linewidth=1.2)
