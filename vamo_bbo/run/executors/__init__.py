"""Who evaluates probes: this process, threads, processes, or whatever the user brings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.objective import Objective

__all__ = ["Executor", "InProcess", "Processes", "resolve"]


class Executor(Protocol):
    """Evaluate probes in some order, some time.

    Probes are materialized when they are submitted, because the state they refer to is consumed by the next ``tell``.
    """

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Take probes; ``state`` is the state that issued them."""
        ...

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Return finished answers, at least one unless ``timeout`` seconds pass or nothing is under way.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C; what is under way stays under way.
        """
        ...

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        """Evaluate x0, before anything else; see :meth:`vamo_bbo.run.objective.Objective.first`."""
        ...

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate probes at given points, outside the loop, and return the answers in the order of the tasks."""
        ...

    def close(self) -> None:
        """Abandon what is under way and free what the executor created itself."""
        ...


@dataclass(frozen=True, slots=True)
class Processes:
    """Own worker processes with settings, for ``minimize(..., workers=Processes(8, memory_limit=2**31))``.

    ``workers=8`` is the same as ``workers=Processes(8)``.

    Parameters
    ----------
    count : int
        Number of processes; -1 for all CPUs.
    memory_limit : int, optional
        Bytes that a worker may allocate beyond what it has at its start; more is a ``MemoryError`` in the objective
        (Linux).
    threads : int or None, default 1
        Threads of BLAS, OpenMP and numba in each worker; None leaves the environment as it is.

    Raises
    ------
    OptionError
        A value that is not allowed.

    Examples
    --------
    >>> Processes(4, threads=2)
    Processes(count=4, memory_limit=None, threads=2)
    """

    count: int
    memory_limit: int | None = None
    threads: int | None = 1

    def __post_init__(self) -> None:
        _count(self.count)
        for name in ("memory_limit", "threads"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"Processes: {name} must be a positive integer or None, got {value!r}.")
        if self.memory_limit is not None and not sys.platform.startswith("linux"):
            raise OptionError("Processes: memory_limit is enforced on Linux only.")


class InProcess:
    """The evaluations outside the loop, made in this process."""

    objective: Objective

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        """Evaluate x0 here."""
        return self.objective.first(probe, z, seed)

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate here, one after the other."""
        return [self.objective.evaluate(probe, z.copy(), seed) for probe, z in tasks]

    def idle(self) -> float:
        """Return 0: whoever evaluates here works until everything is done."""
        return 0


def resolve(
    workers: Any, objective: Objective, *, f_target: float | None = None, eval_timeout: float | None = None
) -> Executor:
    """Return the executor that ``workers`` asks for.

    Parameters
    ----------
    workers : int, Processes, Executor, dask Client, map-like or None
        None or 1: this process. An int > 1, or -1 for all CPUs: own worker processes. An object with ``submit`` and
        without ``get_executor``: a :class:`concurrent.futures.Executor`. With ``get_executor``: a dask
        ``Client``. Another callable: map-like, ``workers(function, iterable)``, as in scipy.
    objective : Objective
        What is evaluated.
    f_target : float, optional
        Lets the serial executor stop at the first value that reaches it.
    eval_timeout : float, optional
        Seconds after which an evaluation is killed; needs own worker processes (one for ``workers=1``).

    Raises
    ------
    OptionError
        ``workers`` is none of these, or cannot be combined with ``eval_timeout`` or ``vectorized``.
    """
    from vamo_bbo.run.executors.serial import SerialExecutor

    if eval_timeout is not None and not (isinstance(eval_timeout, (int, float)) and eval_timeout > 0):
        raise OptionError(f"eval_timeout must be a positive number of seconds or None, got {eval_timeout!r}.")
    if workers is None or isinstance(workers, (int, Processes)):
        settings = workers if isinstance(workers, Processes) else Processes(1 if workers is None else workers)
        if settings is not workers and _count(settings.count) == 1 and eval_timeout is None:
            return SerialExecutor(objective, f_target=f_target)
        if objective.vectorized:
            raise OptionError("vectorized=True evaluates a round in one call: use workers=1 and no eval_timeout.")
        from vamo_bbo.run.executors.processes import ProcessExecutor

        return ProcessExecutor(
            objective,
            _count(settings.count),
            eval_timeout=eval_timeout,
            memory_limit=settings.memory_limit,
            threads=settings.threads,
        )
    if eval_timeout is not None:
        raise OptionError("eval_timeout needs workers that can be killed: pass workers as an integer.")
    if objective.vectorized:
        raise OptionError("vectorized=True evaluates a round in one call: use it with workers=1.")
    if hasattr(workers, "get_executor"):
        workers = workers.get_executor(pure=False)  # pure: a noisy objective called twice must be called twice
    if hasattr(workers, "submit"):
        from vamo_bbo.run.executors.futures import FuturesExecutor

        return FuturesExecutor(objective, workers)
    if callable(workers):
        from vamo_bbo.run.executors.maps import MapExecutor

        return MapExecutor(objective, workers)
    raise OptionError(
        f"workers must be an integer >= 1, -1, a concurrent.futures.Executor, a dask Client or a map-like callable, "
        f"got {workers!r}."
    )


def _count(workers: int | None) -> int:
    import os

    if workers is None:
        return 1
    if isinstance(workers, bool) or workers == 0 or workers < -1:
        raise OptionError(f"workers must be an integer >= 1, or -1 for all CPUs, got {workers!r}.")
    if workers == -1:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(workers)
