"""Who evaluates probes: this process, threads, processes, or whatever the user brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.objective import Objective

__all__ = ["Executor", "InProcess", "resolve"]


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
    workers : int, Executor, dask Client, map-like or None
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
    if workers is None or isinstance(workers, int):
        count = _count(workers)
        if count > 1 or eval_timeout is not None:
            if objective.vectorized:
                raise OptionError(
                    "vectorized=True evaluates a round in one call: use it with workers=1 and no eval_timeout."
                )
            from vamo_bbo.run.executors.processes import ProcessExecutor

            return ProcessExecutor(objective, count, eval_timeout=eval_timeout)
        return SerialExecutor(objective, f_target=f_target)
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
