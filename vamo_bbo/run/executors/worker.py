"""The child's side of a worker process: ``python -c "...main(fd)"``; it imports no ``__main__`` and no scipy."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from multiprocessing.connection import Client, Connection
from typing import Any

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(address: str) -> None:
    """Serve evaluations until the parent closes the connection.

    Parameters
    ----------
    address : str
        A file descriptor number, or the name of the parent's pipe on Windows.
    """
    connection = Connection(int(address)) if address.isdigit() else Client(address)
    setup: dict[str, Any] = pickle.loads(connection.recv_bytes())
    sys.path[:], sys.argv[:] = setup["path"], setup["argv"]
    os.chdir(setup["directory"])
    _die_with_parent(setup["parent"])
    _limit_memory(setup["memory_limit"])
    try:
        _prepare_main(setup["main"])
        objective = pickle.loads(setup["objective"])
    except BaseException as error:
        connection.send_bytes(pickle.dumps(("unusable", _text(error), 0)))
        return
    name = f"worker {os.getpid()}"
    connection.send_bytes(pickle.dumps(("ready", name, os.fstat(1).st_size)))
    from vamo_bbo.run.executors.tasks import Tasks, unpacked

    tasks = Tasks(objective, name)
    while True:
        try:
            messages = connection.recv_bytes()
        except (EOFError, OSError):
            return  # the parent is done, or gone
        for message in pickle.loads(messages):  # each is answered at once: the next one may kill this process
            connection.send_bytes(_answer(tasks, unpacked(message)))


def _answer(tasks: Any, message: Any) -> bytes:
    """Return the pickled reply to one message: its kind, its value, and where its output ends."""
    reply: Any
    try:
        value = tasks.handle(message)
        reply = ("answer", tuple(value) if type(value).__name__ == "Answer" else value)
    except Exception as error:
        # A bug in what the objective returns, or in the solver's own names: raised in the parent.
        reply = ("raise", error)
    except KeyboardInterrupt:  # as if it had come from the keyboard
        reply = ("raise", KeyboardInterrupt())
    except BaseException as error:
        reply = ("raise", RuntimeError(f"{type(error).__name__} in a worker: {error}"))
    sys.stdout.flush()
    sys.stderr.flush()
    end = os.fstat(1).st_size
    try:
        return pickle.dumps((*reply, end), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pickle.dumps(("raise", RuntimeError(_text(reply[1])), end))


def _text(error: Any) -> str:
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else str(error)


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, even in the middle of an evaluation."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the request


def _limit_memory(limit: int | None) -> None:
    """Limit the address space to ``limit`` bytes more than it has now (POSIX)."""
    if limit is None:
        return
    import resource

    with open("/proc/self/statm") as f:
        used = int(f.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))


def _prepare_main(data: dict[str, Any] | None) -> None:
    """Import the parent's ``__main__``, where functions travel by name: without cloudpickle."""
    if data is not None:
        from multiprocessing import spawn

        spawn.prepare(data)
