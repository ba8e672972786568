"""Evaluation in this process, one probe after the other, or a round in one vectorized call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.objective import LARGE, Objective

__all__ = ["SerialExecutor"]

SLICE = 0.05
"""Seconds after which ``collect`` returns what it has, so that time limits are looked at."""
JOURNALED_SLICE = 0.001
"""The same with a journal: a kill loses no more than this, or one evaluation."""
ROWS_BYTES = 2**26
"""Most memory of the (k, d) rows of one vectorized call."""


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
        self.queue: deque[Probe] = deque()
        self.state: State | None = None
        self.scratch: Array | None = None
        self.interrupt: KeyboardInterrupt | None = None
        self.slice = SLICE

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Queue ``probes``."""
        self.state = state
        self.queue.extend(probes)

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Evaluate queued probes in their order, for ``slice`` or ``timeout`` seconds, and at least one."""
        if self.interrupt is not None:
            raise self.interrupt
        if not self.queue:
            return []
        if self.objective.vectorized:
            return self._collect_rows()
        state, queue, evaluate = self.state, self.queue, self.objective.evaluate
        assert state is not None
        like, seed, target = state.arrays["x"], state.seed, self.target
        fresh = like.size < LARGE
        deadline = perf_counter() + (self.slice if timeout is None else min(self.slice, timeout))
        answers: list[Answer] = []
        while queue:
            out = np.empty(like.shape, like.dtype) if fresh else self._reused(like)
            try:
                answer = evaluate(queue[0], materialize(state, queue[0], out), seed)
            except KeyboardInterrupt as interrupt:
                if not answers:
                    raise
                self.interrupt = interrupt  # first hand over what was evaluated
                break
            queue.popleft()
            answers.append(answer)
            if answer.value <= target or perf_counter() > deadline:
                break
        return answers

    def _reused(self, like: Array) -> Array:
        if self.scratch is None:
            self.scratch = np.empty(like.shape, like.dtype)
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
            rows = np.empty((len(chosen), x.size), x.dtype)
            for probe, row in zip(chosen, rows, strict=True):
                materialize(state, probe, row)
            answers = self.objective.evaluate_rows(chosen, rows, state.seed)
        done = {p.id for p in chosen}
        self.queue = deque(p for p in queue if p.id not in done)
        return answers

    def close(self) -> None:
        """Forget queued probes."""
        self.queue.clear()
