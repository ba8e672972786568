"""Evaluation by a map-like callable, as scipy's ``workers``: ``workers(function, iterable)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.objective import Objective

__all__ = ["MapExecutor"]

Task = tuple[Probe, Array, int]


class _Evaluate:
    """A picklable function of one argument."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, task: Task) -> Answer:
        probe, z, seed = task
        return self.objective.evaluate(probe, z, seed)


class MapExecutor(InProcess):
    """Evaluate what is queued by one call of a map-like callable, such as ``multiprocessing.Pool(4).map``.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    mapper : callable
        ``mapper(function, iterable)`` returns the results in order.
    """

    def __init__(self, objective: Objective, mapper: Callable[..., Any]) -> None:
        self.objective, self.mapper = objective, mapper
        self.function = _Evaluate(objective)
        self.tasks: list[Task] = []

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Materialize and queue ``probes``."""
        x = state.arrays["x"]
        for probe in probes:
            z = materialize(state, probe, np.empty_like(x))
            self.tasks.append((probe._replace(point=None), z, state.seed))

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Evaluate all that is queued; ``timeout`` cannot be kept by a map."""
        tasks, self.tasks = self.tasks, []
        return list(self.mapper(self.function, tasks)) if tasks else []

    def close(self) -> None:
        """Forget what is queued."""
        self.tasks.clear()
