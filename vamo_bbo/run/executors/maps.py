"""Evaluation by a map-like callable, as scipy's ``workers``: ``workers(function, iterable)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.executors.shared import SharedArrays, messages
from vamo_bbo.run.executors.tasks import Handle, Message, Missing, Point, Tasks
from vamo_bbo.run.objective import Objective

__all__ = ["MapExecutor"]

_MAPPED: dict[str, Tasks] = {}
"""The arrays of the latest run whose handles this process was sent."""


class _Evaluate:
    """A picklable function of one argument."""

    def __init__(self, objective: Objective, run: str) -> None:
        self.objective, self.run = objective, run

    def __call__(self, task: Message) -> Any:
        """Return the answer, or None if the arrays of a handle are not at hand."""
        if not isinstance(task, Handle):
            return Tasks(self.objective, "").handle(task)
        tasks = _MAPPED.get(self.run)
        if tasks is None:
            _MAPPED.clear()
            tasks = _MAPPED[self.run] = Tasks(self.objective, "")
        try:
            return tasks.handle(task)
        except Missing:
            return None


class MapExecutor(InProcess):
    """Evaluate what is queued by one call of a map-like callable, such as ``multiprocessing.Pool(4).map``.

    From d = 100,000 on the callable gets names of points, and workers of this machine map the arrays these refer to;
    workers elsewhere get the arrays along with each evaluation.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    mapper : callable
        ``mapper(function, iterable)`` returns the results in order.
    """

    def __init__(self, objective: Objective, mapper: Callable[..., Any]) -> None:
        self.objective, self.mapper = objective, mapper
        self.function = _Evaluate(objective, os.urandom(8).hex())
        self.tasks: list[Message] = []
        self.shared = SharedArrays()

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Materialize and queue ``probes``, or queue handles of them."""
        self.tasks += [message for _, message in messages(state, probes, self.shared)]

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Evaluate all that is queued; ``timeout`` cannot be kept by a map."""
        tasks, self.tasks = self.tasks, []
        answers: list[Any] = list(self.mapper(self.function, tasks)) if tasks else []
        lacking = [k for k, answer in enumerate(answers) if answer is None]
        if lacking:
            again = []
            for k in lacking:
                handle = tasks[k]
                assert isinstance(handle, Handle)
                again.append(handle._replace(sent=self.shared.arrays(handle)))
            for k, answer in zip(lacking, self.mapper(self.function, again), strict=True):
                answers[k] = answer
        for task in tasks:
            if isinstance(task, Handle):
                self.shared.done(task.probe)
        return answers

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate at given points in one call."""
        answers = self.mapper(self.function, [Point(probe, z.copy(), seed) for probe, z in tasks]) if tasks else []
        return list(answers)

    def close(self) -> None:
        """Forget what is queued."""
        self.tasks.clear()
        self.shared.close()
