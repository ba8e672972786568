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
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.pickling import dumps, loads

__all__ = ["FuturesExecutor", "remote_evaluate"]

_KNOWN: dict[str, Objective] = {}
"""Objectives that this worker has been sent, by digest: the latest few."""
_KEPT = 4


def remote_evaluate(digest: str, blob: bytes | None, probe: Probe, z: Array, seed: int) -> Answer | None:
    """Evaluate in a worker; None asks for the objective, which is then sent along once (per worker, as a rule)."""
    objective = _KNOWN.get(digest)
    if objective is None:
        if blob is None:
            return None
        objective = loads(blob)
        while len(_KNOWN) >= _KEPT:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[digest] = objective
    return objective.evaluate(probe, z, seed, f"pid {os.getpid()}")


class FuturesExecutor(InProcess):
    """Evaluate on a user's executor; only ``submit`` and its futures are used, and nothing is polled.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    pool : concurrent.futures.Executor
        The user's; it is not shut down. Its submitted calls get a probe and a point, the objective once per worker.
    """

    def __init__(self, objective: Objective, pool: Any) -> None:
        self.objective, self.pool = objective, pool
        self.local = isinstance(pool, cf.ThreadPoolExecutor)
        self.blob: bytes | None = None
        self.digest = ""
        self.tasks: dict[Any, tuple[Probe, Array | None, int]] = {}

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Materialize ``probes`` and hand them to the pool."""
        x = state.arrays["x"]
        if self.blob is None and not self.local:  # only now: the evaluation of x0 completes the objective
            self.blob = dumps(self.objective)
            self.digest = hashlib.sha256(self.blob).hexdigest()
        for probe in probes:
            z = materialize(state, probe, np.empty_like(x))
            slim = probe._replace(point=None)
            if self.local:
                future = self.pool.submit(self.objective.evaluate, slim, z, state.seed)
                self.tasks[future] = (probe, None, state.seed)
            else:
                future = self.pool.submit(remote_evaluate, self.digest, None, slim, z, state.seed)
                self.tasks[future] = (probe, z, state.seed)

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
        probe, z, seed = self.tasks.pop(future)
        exception = future.exception()
        if exception is not None:
            return self._lost(probe, exception)
        answer: Answer | None = future.result()
        if answer is None:  # a worker that has not seen the objective yet
            again = self.pool.submit(remote_evaluate, self.digest, self.blob, probe._replace(point=None), z, seed)
            self.tasks[again] = (probe, z, seed)
        return answer

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
