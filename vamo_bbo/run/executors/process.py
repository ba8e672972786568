"""The parent's side of one worker process."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, Listener
from multiprocessing.connection import wait as connection_wait
from time import monotonic
from typing import Any

__all__ = ["Listening", "Worker", "child_environment", "setup_message"]

KEPT_OUTPUT = 10_000
"""Characters kept of what a failed evaluation printed."""
MOST_OUTPUT = 2**24
"""Bytes of output after which a worker's file is emptied, between evaluations."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_CODE = "from vamo_bbo.run.executors.worker import main; main({!r})"


def child_environment(threads: int | None) -> dict[str, str]:
    """Return the environment of a worker: unbuffered output, and ``threads`` threads for BLAS and numba."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    known = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root if not known else os.pathsep.join([known, root])
    if threads is not None:
        environment.update(dict.fromkeys(THREADS, str(threads)))
    return environment


def setup_message(objective: bytes, memory_limit: int | None) -> bytes:
    """Return the first message of a worker: where it runs, its limits, and the pickled objective."""
    try:
        import cloudpickle  # noqa: F401

        main = None
    except ImportError:
        from multiprocessing import spawn

        main = spawn.get_preparation_data("vamo_bbo worker")
    return pickle.dumps(
        {
            "path": [p or os.getcwd() for p in sys.path],
            "argv": sys.argv,
            "directory": os.getcwd(),
            "parent": os.getpid(),
            "memory_limit": memory_limit,
            "main": main,
            "objective": objective,
        }
    )


class Worker:
    """A process of its own session that evaluates messages one after the other and can be killed at any moment.

    It is a fresh interpreter, not a fork, so locks and threads of this process do not matter, and scripts need no
    ``if __name__ == "__main__"`` guard where cloudpickle is installed. What it prints goes to a file.

    Attributes
    ----------
    connection : Connection
        Ends (EOFError) when the process does.
    pidfd : int or None
        Readable when the process has ended (Linux).
    ready : bool
        Whether it has said that it can evaluate.
    jobs : deque
        What it was sent and has not answered: the first is being evaluated.
    since : float
        ``monotonic()`` when the first job began.
    """

    def __init__(self, setup: bytes, threads: int | None) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        _appending(self.output)
        self.connection = self._spawn(threads)
        # A child of the worker may hold its end of the connection open: Linux also tells us of the death itself.
        self.pidfd = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        with contextlib.suppress(OSError):  # dead already: noticed when it is listened to
            self.connection.send_bytes(setup)
        self.ready = False
        self.jobs: deque[Any] = deque()
        self.since = monotonic()
        self.offset = 0  # where the output of the first job begins

    def _spawn(self, threads: int | None) -> Connection:
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": self.output,
            "stderr": subprocess.STDOUT,
            "env": child_environment(threads),
        }
        if sys.platform == "win32":
            with Listener(family="AF_PIPE") as listener:
                self.process = subprocess.Popen([sys.executable, "-c", _CODE.format(listener.address)], **options)
                return listener.accept()
        ours, theirs = Pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(str(theirs.fileno()))],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the driver; and a kill takes the worker's children along
                **options,
            )
        finally:
            theirs.close()
        return ours

    def send(self, jobs: Sequence[Any], messages: Sequence[Any]) -> None:
        """Give the worker messages, one for each of ``jobs``, which are remembered until they are answered.

        Raises
        ------
        OSError
            The worker is dead.
        """
        if not self.jobs:
            if self.offset > MOST_OUTPUT:
                os.ftruncate(self.output.fileno(), 0)
                self.offset = 0
            self.since = monotonic()
        self.connection.send_bytes(pickle.dumps(messages, protocol=pickle.HIGHEST_PROTOCOL))
        self.jobs.extend(jobs)

    def receive(self) -> tuple[str, Any, int]:
        """Return the next reply and where its output ends.

        Raises
        ------
        EOFError, OSError
            The worker is dead.
        """
        reply: tuple[str, Any, int] = pickle.loads(self.connection.recv_bytes())
        return reply

    def answered(self, end: int) -> Any:
        """Return the job that was answered, whose output ends at ``end``; the next one has begun."""
        job = self.jobs.popleft()
        self.offset, self.since = end, monotonic()
        return job

    @property
    def chatty(self) -> bool:
        """Whether so much was printed that its file must be emptied before the worker goes on."""
        return self.offset > MOST_OUTPUT

    def printed(self, end: int | None = None) -> str:
        """Return the last characters that the first job printed, up to ``end`` or so far."""
        size = os.fstat(self.output.fileno()).st_size if end is None else end
        begin = max(self.offset, size - KEPT_OUTPUT)
        if sys.platform == "win32":
            self.output.seek(begin)
            return self.output.read(size - begin).decode(errors="replace")
        return os.pread(self.output.fileno(), size - begin, begin).decode(errors="replace")

    def ended(self) -> str:
        """Return how the process ended, after :meth:`end`."""
        code = self.process.returncode
        if code is not None and code < 0:
            try:
                return f"killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"exit code {code}"

    def end(self, *, grace: float = 1.0) -> None:
        """Close the connection, and kill the process unless it ends by itself within ``grace`` seconds; reap it."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self._kill_group()
        self.process.wait()
        self.output.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def kill(self) -> None:
        """Kill the process and its children, and reap it; the output can still be read."""
        self._kill_group()
        self.process.wait()

    def _kill_group(self) -> None:
        """Kill what is left of the worker's session: also programs that an evaluation started."""
        try:
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _appending(file: Any) -> None:
    """Let all who hold ``file`` write at its end, also after it was emptied."""
    if sys.platform != "win32":
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)


class Listening:
    """Which workers have something to say: one selector for all of them, kept between calls."""

    def __init__(self) -> None:
        self.selector = None if sys.platform == "win32" else selectors.DefaultSelector()
        self.workers: list[Worker] = []

    def _files(self, worker: Worker) -> list[Any]:
        return [worker.connection] if worker.pidfd is None else [worker.connection, worker.pidfd]

    def add(self, worker: Worker) -> None:
        """Listen to ``worker``."""
        self.workers.append(worker)
        if self.selector is not None:
            for file in self._files(worker):
                self.selector.register(file, selectors.EVENT_READ, worker)

    def remove(self, worker: Worker) -> None:
        """Listen to ``worker`` no more, before its files are closed."""
        self.workers.remove(worker)
        if self.selector is not None:
            for file in self._files(worker):
                self.selector.unregister(file)

    def wait(self, timeout: float | None) -> list[tuple[Worker, bool]]:
        """Return who has said something (True) or has died in silence (False), after ``timeout`` seconds at most.

        A death shows at the connection, too, unless a child of the worker's holds its other end open.
        """
        if self.selector is None:
            ready = connection_wait([w.connection for w in self.workers], timeout)
            return [(w, True) for w in self.workers if w.connection in ready]
        heard: dict[Worker, bool] = {}
        for key, _ in self.selector.select(timeout):
            worker: Worker = key.data
            heard[worker] = heard.get(worker, False) or key.fileobj is worker.connection
        return list(heard.items())

    def close(self) -> None:
        """Free the selector."""
        if self.selector is not None:
            self.selector.close()
