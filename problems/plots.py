"""Pictures of runs. matplotlib is imported only here, and only when a picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from problems.data import require
from problems.record import Sample

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Okabe and Ito's palette, told apart with any colour vision."""


def curves(
    path: str | Path,
    runs: Mapping[str, Sequence[Sequence[Sample]]],
    *,
    title: str,
    unit: float = 1.0,
    cost_label: str = "cost in function values",
    reference: float | None = None,
) -> None:
    """Draw objective (above the reference, if there is one) and squared gradient norm against cost.

    Parameters
    ----------
    path : str or Path
        Picture to write; its suffix gives the format.
    runs : mapping of str to sequences of recorded runs
        For every method, one sequence of samples per seed. The line is the median, the band the range over seeds.
    title : str
        Above the picture.
    unit : float, default 1
        Costs are divided by it: the number of samples gives passes over the data.
    cost_label : str
        Under the axes.
    reference : float, optional
        Subtracted from the objective, which is then drawn on a logarithmic axis.
    """
    figure_class = require("matplotlib.figure", "matplotlib", why="A picture").Figure
    norms = any(np.isfinite(s.gradient_norm2) for seeds in runs.values() for run in seeds for s in run)
    figure = figure_class(figsize=(11 if norms else 6.5, 4.4), layout="constrained")
    axes = figure.subplots(1, 2 if norms else 1, squeeze=False)[0]
    for (name, seeds), colour in zip(runs.items(), COLOURS * 4, strict=False):
        columns = [([s.value - (reference or 0.0) for s in run]) for run in seeds]
        _band(axes[0], [[s.cost / unit for s in run] for run in seeds], columns, name, colour, reference is not None)
        if norms:
            columns = [[s.gradient_norm2 for s in run] for run in seeds]
            _band(axes[1], [[s.cost / unit for s in run] for run in seeds], columns, name, colour, True)
    axes[0].set_ylabel("objective" if reference is None else f"objective - {reference:.6g}")
    if norms:
        axes[1].set_ylabel("squared gradient norm")
    for axis in axes:
        axis.set_xlabel(cost_label)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _band(
    axis: Any,
    costs: Sequence[Sequence[float]],
    columns: Sequence[Sequence[float]],
    name: str,
    colour: str,
    logarithmic: bool,
) -> None:
    """Draw the median over seeds on a common grid, and the range between the seeds."""
    grid = np.unique(np.concatenate([np.asarray(cost) for cost in costs]))
    grid = grid[grid <= min(cost[-1] for cost in costs)]
    lines = np.array([np.interp(grid, cost, column) for cost, column in zip(costs, columns, strict=True)])
    if logarithmic:
        axis.set_yscale("log")
        lines = np.maximum(lines, 1e-16)
    axis.plot(grid, np.median(lines, axis=0), color=colour, label=name, linewidth=1.6)
    if len(lines) > 1:
        axis.fill_between(grid, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.18, linewidth=0)
