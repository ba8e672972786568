"""Evaluation by any ``concurrent.futures.Executor``: threads, processes, loky, MPI, dask."""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.executors.shared import SharedArrays, messages
from vamo_bbo.run.executors.tasks import Handle, Message, Missing, Point, Tasks, packed, unpacked
from vamo_bbo.run.failures import PoolBroken
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.pickling import dumps, loads

__all__ = ["FuturesExecutor", "remote_evaluate"]

_KNOWN: dict[str, Tasks] = {}
"""Objectives that this worker has been sent, by digest, with the arrays of the latest handles: the latest few."""
_KEPT = 4
OBJECTIVE, ARRAYS = "objective", "arrays"
"""What a worker asks for when it has not got it: the evaluation is then submitted again with it."""


def remote_evaluate(digest: str, blob: bytes | None, sent: Any) -> Answer | str:
    """Evaluate in a worker, or return what the worker lacks."""
    tasks = _KNOWN.get(digest)
    if tasks is None:
        if blob is None:
            return OBJECTIVE
        tasks = Tasks(loads(blob), f"pid {os.getpid()}")
        while len(_KNOWN) >= _KEPT:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[digest] = tasks
    try:
        answer: Any = tasks.handle(unpacked(sent))
    except Missing:
        return ARRAYS
    return answer  # type: ignore[no-any-return]


class _Task:
    """An evaluation under way: what was asked, what is sent for it, and what must go along."""

    __slots__ = ("blob", "message", "misses", "probe")

    def __init__(self, probe: Probe, message: Message) -> None:
        self.probe, self.message = probe, message
        self.blob, self.misses = False, 0


class FuturesExecutor(InProcess):
    """Evaluate on a user's executor; only ``submit`` and its futures are used, and nothing is polled.

    A submitted call carries a point, or from d = 100,000 on the name of one: workers of this machine map the arrays it
    refers to, workers elsewhere are sent each version of them once, as a rule. The objective travels once per worker.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    pool : concurrent.futures.Executor
        The user's; it is not shut down.
    """

    def __init__(self, objective: Objective, pool: Any) -> None:
        self.objective, self.pool = objective, pool
        self.local = isinstance(pool, cf.ThreadPoolExecutor)
        self.count = getattr(pool, "_max_workers", 1)
        self.blob: bytes | None = None
        self.digest = ""
        self.tasks: dict[Any, _Task] = {}
        self.shared = SharedArrays()
        self.elsewhere = False  # whether a worker cannot see the files of this machine
        self.told: dict[tuple[str, ...], int] = {}  # arrays, by their files: how often they were sent

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Materialize ``probes``, or make handles of them, and hand them to the pool."""
        if self.local:
            x = state.arrays["x"]
            for probe in probes:
                slim, z = probe._replace(point=None), materialize(state, probe, np.empty_like(x))
                self._send(_Task(probe, Point(slim, z, state.seed)))
            return
        for probe, message in messages(state, probes, self.shared):
            self._send(_Task(probe, message))

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate at given points in the pool."""
        got: dict[Any, Answer | None] = {probe.id: None for probe, _ in tasks}
        for probe, z in tasks:
            self._send(_Task(probe, Point(probe, z.copy(), seed)))
        while None in got.values():
            for answer in self.collect():
                if answer.id in got:  # not of what the loop has abandoned
                    got[answer.id] = answer
        return [answer for answer in got.values() if answer is not None]

    def _send(self, task: _Task) -> None:
        """Submit an evaluation with what the workers are known to lack."""
        message = task.message
        if self.local:
            assert isinstance(message, Point)
            self._start(task, self.objective.evaluate, message.probe, message.z, message.seed)
            return
        if self.blob is None:  # only now: the evaluation of x0 completes the objective
            self.blob = dumps(self.objective)
            self.digest = hashlib.sha256(self.blob).hexdigest()
        if isinstance(message, Handle):
            files = tuple(shared.path for shared in message.arrays.values())
            # Idle workers take the first evaluations of a step: these bring its arrays to workers elsewhere. Later
            # ones find them there; one that does not, twice, brings them itself.
            told = self.told.get(files, 0)
            if self.elsewhere and (told < self.count or task.misses > 1):
                if not told:
                    self.told.clear()
                self.told[files] = told + 1
                message = message._replace(sent=self.shared.arrays(message))
        blob = self.blob if task.blob else None
        self._start(task, remote_evaluate, self.digest, blob, packed(message))

    def _start(self, task: _Task, *call: Any) -> None:
        try:
            self.tasks[self.pool.submit(*call)] = task
        except cf.BrokenExecutor as error:
            raise PoolBroken(
                f"The pool of workers is broken ({type(error).__name__}: {error}). Pass a number, workers=8, for "
                "worker processes that are replaced when they die."
            ) from error

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Wait for the first future, and return all that are done."""
        answers: list[Answer] = []
        while self.tasks and not answers:
            done = cf.wait(self.tasks, timeout, cf.FIRST_COMPLETED).done
            if not done:
                break
            for future in done:
                answer = self._take(future)
                if answer is not None:
                    answers.append(answer)
        return answers

    def idle(self) -> float:
        """Return the number of workers that have nothing to do; inf where the pool does not tell how many it has."""
        return getattr(self.pool, "_max_workers", float("inf")) - len(self.tasks)

    def _take(self, future: Any) -> Answer | None:
        task = self.tasks.pop(future)
        exception = future.exception()
        if exception is not None:
            self.shared.done(task.probe)
            return self._lost(task.probe, exception)
        reply: Answer | str = future.result()
        if isinstance(reply, str):
            if reply == OBJECTIVE:
                task.blob = True
            else:
                task.misses += 1
                self.elsewhere = True
            self._send(task)
            return None
        self.shared.done(task.probe)
        return reply

    def _lost(self, probe: Probe, exception: BaseException) -> Answer:
        """Return the failed answer of a dead worker; what is no failure of the evaluation is raised."""
        from vamo_bbo.run.outputs import OutputError

        if isinstance(exception, (OutputError, StopIteration)) or not isinstance(exception, Exception):
            raise exception
        return self.objective.failure(probe, exception)

    def close(self) -> None:
        """Cancel what has not begun; the pool is the user's and stays open."""
        for future in self.tasks:
            future.cancel()
        self.tasks.clear()
        self.shared.close()
