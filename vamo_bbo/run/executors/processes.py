"""Own worker processes: an evaluation can be killed, a dead worker is replaced, and nothing is polled."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from vamo_bbo._errors import EvaluationError, OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.executors.pace import Pace
from vamo_bbo.run.executors.process import Listening, Worker, setup_message
from vamo_bbo.run.executors.shared import SharedArrays, messages
from vamo_bbo.run.executors.tasks import Declare, Message, Point, packed
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.pickling import dumps

__all__ = ["ProcessExecutor"]

START_TIMEOUT = 120.0
"""Seconds a worker has for importing the objective."""
MOST_BAD_STARTS = 3
"""Workers in a row that die before they are ready, after which the run ends."""

AT_ONCE = 2**16
"""Numbers in points that are formed in one piece, before workers begin with them."""
UNREAD = 2**16 if sys.platform.startswith("linux") else 2**12
"""Bytes that a pipe takes while nobody reads. A worker in the middle of an evaluation gets no more: we would wait for
it, also where it hangs, or waits for us to read its answer."""

_Job = tuple[Probe | None, Message]


class ProcessExecutor:
    """Evaluate in ``count`` worker processes.

    Every worker is a fresh interpreter that gets the objective once. Below d = 100,000 it gets points; above, probes as
    handles, with x in a file that all workers map, written once per version.

    Parameters
    ----------
    objective : Objective
        What is evaluated; it must be picklable (with cloudpickle: also lambdas and closures).
    count : int
        Number of workers.
    eval_timeout : float, optional
        Seconds after which an evaluation is killed; it then counts as failed.
    memory_limit : int, optional
        Bytes that a worker may allocate beyond what it has when it starts (Linux).
    threads : int or None, default 1
        Threads of BLAS, OpenMP and numba in each worker; None leaves the environment as it is.
    """

    def __init__(
        self,
        objective: Objective,
        count: int,
        *,
        eval_timeout: float | None = None,
        memory_limit: int | None = None,
        threads: int | None = 1,
    ) -> None:
        self.objective, self.count, self.eval_timeout = objective, count, eval_timeout
        self.memory_limit, self.threads = memory_limit, threads
        self.workers: list[Worker] = []
        self.listening = Listening()
        self.queue: deque[_Job] = deque()
        self.shared = SharedArrays()
        self.bad_starts = 0
        self.pace = Pace()
        self.setup: bytes | None = None

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Form the points of ``probes``, or make handles of them, and send as many as there are workers for."""
        step = max(self.count, AT_ONCE // state.arrays["x"].size)
        for lo in range(0, len(probes), step):  # the first workers begin while other long points are formed
            self.queue += messages(state, probes[lo : lo + step], self.shared)
            self._dispatch()

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Wait for the first answer, time-out or death, and return what there is by then."""
        deadline = None if timeout is None else monotonic() + timeout
        answers: list[Answer] = []
        while not answers and (self.queue or any(w.jobs for w in self.workers)):
            self._dispatch()
            remaining = self._patience(deadline)
            for worker, spoke in self.listening.wait(remaining):
                answers += self._hear(worker) if spoke else self._died(worker)
            if remaining is not None:
                answers += self._expire()
            if deadline is not None and monotonic() >= deadline:
                break
        self._dispatch()
        return answers

    def idle(self) -> int:
        """Return the number of workers that have nothing to do, nor will have."""
        return self.count - sum(len(w.jobs) for w in self.workers) - len(self.queue)

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        """Evaluate x0 in a worker: it may crash or hang like any other point."""
        self.queue.append((probe, Point(probe, z, seed, first=True)))
        reply: Any = self._finish([probe])[0]
        if isinstance(reply, Answer):  # it failed without a word
            return reply, {}
        answer, facts = reply
        self.setup = None  # workers that start from now on get the completed objective
        self.objective.declare(**facts)
        for worker in self.workers:
            if worker.ready:
                worker.send([(None, Declare(facts))], [Declare(facts)])
        return answer, facts

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate at given points in the workers."""
        self.queue.clear()  # abandoned by the loop
        for worker in list(self.workers):
            if any(probe is not None for probe, _ in worker.jobs):
                self._remove(worker, grace=0.0)
        for probe, z in tasks:
            self.queue.append((probe, Point(probe, z, seed)))
        return self._finish([probe for probe, _ in tasks])

    def _finish(self, probes: Sequence[Probe]) -> list[Answer]:
        got: dict[Any, Answer] = {}
        while len(got) < len(probes):
            for reply in self.collect():
                answer = reply if isinstance(reply, Answer) else reply[0]
                got[answer.id] = reply
        return [got[probe.id] for probe in probes]

    def _dispatch(self) -> None:
        """Give queued jobs to idle workers; start workers while there are fewer than jobs and than ``count``."""
        full = len(self.workers) == self.count and all(w.ready for w in self.workers)
        share = self.pace.share(len(self.queue), self.count) if full else 1
        for worker in self.workers[:]:
            if worker.ready and not worker.jobs:
                self._send(worker, share)
        ahead = min(share, self._unread()) if full and self.pace.short else 0
        for worker in self.workers[:]:
            if ahead and len(worker.jobs) == 1 and not worker.chatty:
                self._send(worker, ahead)
        starting = sum(not w.ready for w in self.workers)
        while len(self.workers) < self.count and starting < len(self.queue):
            self.workers.append(Worker(self._setup(), self.threads))
            self.listening.add(self.workers[-1])
            starting += 1

    def _unread(self) -> int:
        """Return how many of the queued messages a pipe takes while nobody reads."""
        message = self.queue[0][1] if self.queue else None
        return UNREAD // (1024 + (message.z.nbytes if isinstance(message, Point) else 0))

    def _send(self, worker: Worker, share: int) -> None:
        """Give ``worker`` the first ``share`` jobs of the queue, in one message."""
        jobs = [self.queue.popleft() for _ in range(min(share, len(self.queue)))]
        if not jobs:
            return
        try:
            worker.send(jobs, [packed(message) for _, message in jobs])
        except OSError:  # dead already
            self.queue.extendleft(reversed(jobs))
            if not worker.jobs:
                self._remove(worker, grace=0.0)

    def _setup(self) -> bytes:
        if self.setup is None:
            self.setup = setup_message(dumps(self.objective), self.memory_limit)
        return self.setup

    def _patience(self, deadline: float | None) -> float | None:
        """Return the seconds until the next time-out, or None for ever."""
        moments = [] if deadline is None else [deadline]
        for worker in self.workers:
            limit = self._limit(worker)
            if limit is not None:
                moments.append(worker.since + limit)
        return max(0.0, min(moments) - monotonic()) if moments else None

    def _limit(self, worker: Worker) -> float | None:
        if not worker.ready:
            return START_TIMEOUT
        return self.eval_timeout if worker.jobs else None

    def _hear(self, worker: Worker) -> list[Any]:
        """Return the answers that a readable worker brings: one, or a failed one if it is dead."""
        try:
            kind, value, end = worker.receive()
        except (EOFError, OSError):
            return self._died(worker)
        if kind == "ready":
            worker.ready = True
            worker.offset = end
            self.bad_starts = 0
            return []
        if kind == "unusable":
            raise OptionError(f"The objective cannot be loaded in a worker process:\n{value}")
        if kind == "raise":
            worker.answered(end)
            raise value
        probe: Probe | None = worker.jobs[0][0]
        if type(value) is tuple and len(value) == len(Answer._fields):
            value = tuple.__new__(Answer, value)
            if value.error is not None:
                printed = worker.printed(end)
                if printed:
                    value = value._replace(log=f"{value.log or ''}\nOutput:\n{printed}".lstrip())
            self.pace.took(value.elapsed)
        worker.answered(end)
        if probe is None:
            return []  # a declaration was taken
        self.shared.done(probe)
        return [value]

    def _died(self, worker: Worker) -> list[Answer]:
        """Return the failed answer of what the worker was evaluating; what it had not begun is queued again."""
        jobs = worker.jobs
        worker.kill()
        output = worker.printed()
        how = worker.ended()
        was_ready = worker.ready
        self._remove(worker, grace=0.0)
        if not was_ready:
            self.bad_starts += 1
            if self.bad_starts >= MOST_BAD_STARTS:
                raise EvaluationError(
                    f"{self.bad_starts} worker processes died at their start ({how}). Their output:\n{output}"
                )
        return self._lost(jobs, f"the worker process died: {how}", output, worker)

    def _expire(self) -> list[Answer]:
        """Kill the workers whose time is over."""
        now = monotonic()
        answers = []
        for worker in list(self.workers):
            limit = self._limit(worker)
            if limit is None or now < worker.since + limit:
                continue
            if not worker.ready:
                raise EvaluationError(f"A worker process did not start within {START_TIMEOUT:g} s: {worker.printed()}")
            jobs = worker.jobs
            worker.kill()
            error = f"timed out after {self.eval_timeout:g} s (eval_timeout)"
            output = worker.printed()
            self._remove(worker, grace=0.0)
            answers += self._lost(jobs, error, output, worker)
        return answers

    def _lost(self, jobs: deque[_Job], error: str, output: str, worker: Worker) -> list[Answer]:
        if not jobs:
            return []
        probe = jobs.popleft()[0]
        self.queue.extendleft(job for job in reversed(jobs) if job[0] is not None)
        if probe is None:
            return []
        self.shared.done(probe)
        answer = Answer(
            probe.id,
            error=error,
            log=f"Output:\n{output}" if output else None,
            n_samples=self.objective.samples(probe),
            elapsed=monotonic() - worker.since,
            worker=f"worker {worker.process.pid}",
        )
        return [answer]

    def _remove(self, worker: Worker, *, grace: float) -> None:
        self.workers.remove(worker)
        self.listening.remove(worker)
        worker.end(grace=grace)

    def close(self) -> None:
        """End the workers; those in the middle of an evaluation are killed."""
        self.queue.clear()
        idle = [w for w in self.workers if w.ready and not w.jobs]
        for worker in self.workers:
            self.listening.remove(worker)
            if worker not in idle:
                worker.kill()
            else:
                worker.connection.close()
        for worker in self.workers:
            worker.end()
        self.workers.clear()
        self.listening.close()
        self.shared.close()
