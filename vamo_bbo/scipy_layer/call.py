"""From a call of the front door to a method of scipy: budgets, workers and scaled variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vamo_bbo._errors import OptionError
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.pickling import dumps, loads
from vamo_bbo.run.progress import following
from vamo_bbo.run.stop import Budget, Code
from vamo_bbo.scipy_layer.methods import minimize_scipy
from vamo_bbo.scipy_layer.objective import Mapper, StopRun, Watched
from vamo_bbo.scipy_layer.scaled import Scaled

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["mapper_of", "run_scipy"]


def run_scipy(
    call: Call, method: Any, *, watched: Watched | None = None, options: dict[str, Any] | None = None, x0: Any = None
) -> Any:
    """Run scipy's ``method`` on the arguments of ``call``.

    Parameters
    ----------
    call : Call
        The arguments.
    method : str, callable or None
        As for scipy.
    watched : Watched, optional
        Go on with the counts, budget and best point of an earlier stage.
    options, x0
        In place of those of ``call``.
    """
    if isinstance(call.fun, FiniteSum) and call.vectorized:
        raise OptionError("vectorized=True is for a plain callable; a FiniteSum gets many samples in a call already.")
    if call.eval_timeout is not None:
        raise OptionError("eval_timeout needs one of our solvers: scipy's methods evaluate in this process.")
    if call.needs_ours:
        name = "journal" if call.journal is not None else "asynchronous" if call.asynchronous else "noisy"
        raise OptionError(f"{name}={getattr(call, name)!r} needs one of our solvers, got method={method!r}.")
    scaled = None if call.x_scale is None else Scaled(call)
    arguments: dict[str, Any] = {
        "fun": call.fun,
        "x0": call.x0 if x0 is None else x0,
        "args": call.args,
        "method": method,
        "jac": call.jac,
        "hess": call.hess,
        "hessp": call.hessp,
        "bounds": call.bounds,
        "constraints": call.constraints,
        "tol": call.tol,
        "callback": call.callback,
        "options": call.options if options is None else options,
    }
    known = None if call.known is None else (call.known.points, call.known.values)
    if scaled is not None:
        arguments.update(scaled.arguments())
        known = None if known is None else (known[0] / scaled.scale, known[1])
    with mapper_of(call.workers) as mapper, following(call.progress, call.limits) as follow:
        result = minimize_scipy(
            **arguments,
            budget=Budget(**call.limits),
            policy=call.policy,
            mapper=mapper,
            vectorized=call.vectorized,
            watched=watched,
            known=known,
            on_iteration=None if follow.line is None else follow.watch,
        )
    return result if scaled is None else scaled.restore(result)


@contextmanager
def mapper_of(workers: Any) -> Any:
    """Give the map-like callable of ``workers``, None for one worker; a pool of our own is closed at the end.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool, mapper_of(pool) as mapper:
    ...     list(mapper(abs, [-1, 2]))
    [1, 2]
    """
    if workers is None or (isinstance(workers, int) and workers == 1):
        yield None
        return
    if isinstance(workers, int):
        import os
        from concurrent.futures import ProcessPoolExecutor

        if isinstance(workers, bool) or workers < -1 or workers == 0:
            raise OptionError(f"workers must be an integer >= 1, or -1 for all CPUs, got {workers!r}.")
        with ProcessPoolExecutor(os.cpu_count() if workers == -1 else workers) as pool:
            yield _submitting(pool)
        return
    if hasattr(workers, "get_executor"):
        workers = workers.get_executor(pure=False)
    if hasattr(workers, "submit"):
        yield _submitting(workers)
    elif callable(workers):
        yield workers
    else:
        raise OptionError(
            "workers must be an integer >= 1, -1, a concurrent.futures.Executor, a dask Client or a map-like "
            f"callable, got {workers!r}."
        )


class _Packed:
    """A function as a pickle that also holds lambdas; unpacked once per process."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.blob = dumps(function)

    def __call__(self, x: Any) -> Any:
        return _unpacked(self.blob)(x)


@lru_cache(maxsize=4)
def _unpacked(blob: bytes) -> Callable[..., Any]:
    function: Callable[..., Any] = loads(blob)
    return function


def _submitting(pool: Any) -> Mapper:
    """Return a map over ``pool.submit``; what threads need not be sent is not pickled."""
    from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

    def mapper(function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        send = function if isinstance(pool, ThreadPoolExecutor) else _Packed(function)
        try:
            return [future.result() for future in [pool.submit(send, x) for x in points]]
        except BrokenExecutor as error:
            raise StopRun(Code.WORKERS, f"{type(error).__name__}: {error}") from error

    return mapper
