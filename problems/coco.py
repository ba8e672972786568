"""COCO's own BBOB with COCO's own logger, for any method of the benchmark; cocopp makes pages of what it writes.

https://github.com/numbbo/coco. Packages: ``coco-experiment``, ``cocopp`` and ``six`` (which cocopp forgets to name).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from problems.data import require
from problems.peers import solve


class _BudgetSpent(BaseException):
    """Ends a run from inside the objective; no ``Exception``, so that no solver catches it."""


class _Limited:
    """A COCO problem that ends the run at its budget, or when COCO has seen the last target."""

    def __init__(self, problem: Any, budget: int) -> None:
        self.problem, self.budget = problem, budget

    def __call__(self, x: Any) -> float:
        if self.problem.evaluations >= self.budget or self.problem.final_target_hit:
            raise _BudgetSpent
        return float(self.problem(np.asarray(x, dtype=float)))


def observe(method: str, folder: Path, *, dims: Sequence[int], instances: Sequence[int], factor: int) -> None:
    """Run ``method`` over COCO's BBOB under its observer, which writes ``folder``.

    Parameters
    ----------
    method : str
        A peer, or a method of ours.
    folder : Path
        Result folder; it must not exist.
    dims, instances : sequence of int
        Which part of the suite.
    factor : int
        Values per variable and run, one more variable than there are: ``factor * (d + 1)``.
    """
    cocoex = require("cocoex", "coco-experiment", why="COCO")
    cocoex.log_level("warning")
    here = Path.cwd()
    os.chdir(folder.parent)  # the observer writes below exdata/ of the working directory, whatever it is told
    try:
        observer = cocoex.Observer("bbob", f"result_folder: {folder.name} algorithm_name: {method}")
        chosen = f"dimensions:{','.join(map(str, dims))} instance_indices:{','.join(map(str, instances))}"
        for number, problem in enumerate(cocoex.Suite("bbob", "", chosen)):
            problem.observe_with(observer)
            bounds = np.column_stack([problem.lower_bounds, problem.upper_bounds])
            fun = _Limited(problem, factor * (problem.dimension + 1))
            try:
                with np.errstate(all="ignore"):
                    solve(method, fun, np.array(problem.initial_solution), bounds, fun.budget, number)
            except _BudgetSpent:
                pass
            problem.free()
        written = Path(observer.result_folder).resolve()
    finally:
        os.chdir(here)
    shutil.move(written, folder)
    written.parent.rmdir()


def bench(
    methods: Sequence[str],
    out: Path,
    *,
    dims: Sequence[int],
    instances: Sequence[int],
    factor: int,
    deadline: float = float("inf"),
) -> Path:
    """Run the methods that ``out/coco`` does not hold yet, then let cocopp compare all of them.

    Parameters
    ----------
    methods : sequence of str
        Each is one folder of ``out/coco``; one that is there is not repeated.
    out : Path
        Folder of the benchmark.
    dims, instances, factor
        As in :func:`observe`.
    deadline : float
        Time of ``time.perf_counter`` after which no further method is started.

    Returns
    -------
    Path
        ``out/cocopp``: open ``index.html`` in it.
    """
    cocopp = require("cocopp", why="COCO's post-processing")
    results = (out / "coco").resolve()
    results.mkdir(parents=True, exist_ok=True)
    for method in methods:
        if not (results / method).exists() and time.perf_counter() < deadline:
            observe(method, results / method, dims=dims, instances=instances, factor=factor)
    there = [str(results / method) for method in methods if (results / method).exists()]
    print(f"{len(there)} of {len(methods)} methods done; cocopp reads them")
    pages = out / "cocopp"
    cocopp.main(["-o", str(pages), "--no-svg", *there])
    return pages
