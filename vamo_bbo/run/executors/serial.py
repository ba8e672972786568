"""Evaluation in this process, one probe after the other, or a round in one vectorized call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.backends import namespace
from vamo_bbo.core.points import materialize, materialize_rows
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.objective import LARGE, Objective

__all__ = ["SerialExecutor"]

ROWS = 2**16
"""Most coordinates of the points that are formed at once."""
SLICE = 0.05
"""Seconds after which ``collect`` returns what it has, so that time limits are looked at."""
JOURNALED_SLICE = 0.001
"""The same with a journal: a kill loses no more than this, or one evaluation."""
ROWS_BYTES = 2**26
"""Most memory of the (k, d) rows of one vectorized call, and of the rows that wait for their values on a device."""


class SerialExecutor(InProcess):
    """Evaluate in this process.

    Below d = 1e6 every call gets a fresh array, which the objective may keep or write to; from there on one scratch
    array is reused, so that a run holds no more than its state and one vector.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    f_target : float, optional
        ``collect`` returns at once after a value at or below it.
    """

    def __init__(self, objective: Objective, *, f_target: float | None = None) -> None:
        self.objective = objective
        self.target = -math.inf if f_target is None or objective.sum is not None else f_target
        self.queue: list[Probe] = []
        self.state: State | None = None
        self.like = np.empty(0)  # an array of points and its namespace, for new ones
        self.xp: Any = np
        self.scratch: Array | None = None
        self.interrupt: KeyboardInterrupt | None = None
        self.slice = SLICE

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Queue ``probes``."""
        if state is not self.state:
            self.state, self.like = state, state.arrays["x"]
            self.xp = namespace(self.like)
        self.queue += probes

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Evaluate queued probes in their order, for ``slice`` or ``timeout`` seconds, and at least one."""
        if self.interrupt is not None:
            raise self.interrupt
        if not self.queue:
            return []
        if self.objective.vectorized:
            return self._collect_rows()
        queue = self.queue
        answers: list[Answer] = []
        deadline = perf_counter() + (self.slice if timeout is None else min(self.slice, timeout))
        try:
            self._work(answers, deadline)
        except KeyboardInterrupt as interrupt:
            if not answers:
                raise
            self.interrupt = interrupt  # first hand over what was evaluated
        del queue[: len(answers)]
        return answers

    def _work(self, answers: list[Answer], deadline: float) -> None:
        """Append the answers to queued probes, until the deadline or the target."""
        state, probes, like, objective = self.state, self.queue, self.like, self.objective
        assert state is not None
        most = max(1, ROWS // like.size)
        if objective.gathers(probes):  # as many at a time as there is room for: each time the host waits once
            most = len(probes) if like.size >= LARGE else max(1, ROWS_BYTES // like.nbytes)
        for lo in range(0, len(probes), most):
            part = probes[lo : lo + most]
            points = self._points(state, part, like)
            if objective.evaluate_in_turn(part, points, state.seed, answers, until=deadline, target=self.target):
                return

    def _points(self, state: State, probes: Sequence[Probe], like: Array) -> Iterable[Array]:
        """Return the points of ``probes``: rows of a fresh array, or one large array that each point is written to."""
        if like.size < LARGE:
            return materialize_rows(state, probes, self.xp.empty((len(probes), like.size), like.dtype))
        return (materialize(state, probe, self._reused(like)) for probe in probes)

    def _reused(self, like: Array) -> Array:
        if self.scratch is None:
            self.scratch = np.empty_like(like)
        return self.scratch

    def _collect_rows(self) -> list[Answer]:
        """Evaluate the queued value probes that fit into memory in one call, other probes one by one."""
        state, queue = self.state, self.queue
        assert state is not None
        x = state.arrays["x"]
        most = max(1, ROWS_BYTES // max(1, x.nbytes))
        chosen = [p for p in queue if p.want == "value"][:most] or [queue[0]]
        if chosen[0].want != "value":
            point = materialize(state, chosen[0], np.empty_like(x))
            answers = [self.objective.evaluate(chosen[0], point, state.seed)]
        else:
            rows = materialize_rows(state, chosen, self.xp.empty((len(chosen), x.size), x.dtype))
            answers = self.objective.evaluate_rows(chosen, rows, state.seed)
        done = {p.id for p in chosen}
        self.queue = [p for p in queue if p.id not in done]
        return answers

    def close(self) -> None:
        """Forget queued probes."""
        self.queue.clear()
