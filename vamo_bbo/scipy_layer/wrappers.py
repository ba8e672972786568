"""What :mod:`vamo_bbo.scipy_layer.methods` puts around a user's gradient, callback, constraints and finite sum."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy
import scipy.optimize
from scipy.optimize import OptimizeResult

from vamo_bbo._errors import EvaluationError, OptionError
from vamo_bbo._typing import Array
from vamo_bbo.constraints import rows_of
from vamo_bbo.core.types import AnchorRef, Probe
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.objective import StopRun, Watched

__all__ = [
    "chosen",
    "counted_gradient",
    "counting",
    "full_sum",
    "limits",
    "raised_by_method",
    "violation_of",
    "wants_result",
]

_FEASIBLE = 1e-6
"""Largest violation at which a point still counts as feasible when the best point is kept."""


def counted_gradient(watched: Watched, jac: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``jac`` that is counted, and filled by differences where it fails."""

    @functools.wraps(jac, updated=())
    def gradient(x: Array, *args: Any) -> Any:
        watched.spend_gradient()
        try:
            g = jac(np.array(x), *args)
        except StopIteration:
            raise
        except Exception as exception:
            watched.note_gradient(x, exception)
            return watched.fill_gradient(x, args, None)
        values = np.asarray(g)
        if values.dtype.kind not in "biuf" or values.size != np.size(x) or np.isfinite(values).all():
            return g
        watched.note_gradient(x, None)
        return watched.fill_gradient(x, args, values.reshape(-1))

    return gradient


def counting(
    watched: Watched, callback: Callable[..., Any] | None, rebuild: bool, uncaught: bool
) -> Callable[..., Any] | None:
    """Return a callback that counts iterations, with the signature of the user's.

    ``rebuild``: scipy calls it with a point, whatever its signature. ``uncaught``: scipy does not catch
    ``StopIteration``.
    """

    def count(xk: Array, *rest: Any) -> None:
        watched.iterated()

    if callback is None:
        return count
    if uncaught and callable(callback):
        return counting(watched, _stopping(callback), rebuild, False)
    if not callable(callback) or not wants_result(callback):

        def positional(xk: Array, *rest: Any) -> Any:
            count(xk)
            return callback(xk, *rest)

        return positional if callable(callback) else callback

    def named(intermediate_result: OptimizeResult) -> Any:
        watched.iterated()
        # A copy: trust-constr hands out what later is its result.
        shown = OptimizeResult({**watched.numbers(), **intermediate_result})  # type: ignore[call-arg]
        return callback(intermediate_result=shown)

    if not rebuild:
        return named

    def rebuilt(xk: Array) -> Any:
        result: Any = OptimizeResult()
        result.x, result.fun = np.copy(xk), watched.value_at(xk)
        return named(result)

    return rebuilt


def _stopping(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``callback`` with the same signature whose ``StopIteration`` ends the run in our way."""

    @functools.wraps(callback, updated=())
    def stopping(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except StopIteration:
            raise StopRun(Code.CALLBACK) from None

    return stopping


def chosen(method: str | Callable[..., Any] | None, bounds: Any, constraints: Any) -> str:
    """Return the lower-case name of the method that scipy runs, "_custom" for a callable."""
    if callable(method):
        return "_custom"
    if method is None:
        return "slsqp" if constraints else "l-bfgs-b" if bounds is not None else "bfgs"
    return method.lower()


def wants_result(callback: Callable[..., Any]) -> bool:
    """Return whether scipy calls ``callback`` with the keyword ``intermediate_result``."""
    try:
        return set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        return False


def limits(bounds: Any, x0: Any) -> tuple[Array | None, Array | None]:
    """Return lower and upper bounds, or (None, None) where scipy will refuse them itself."""
    if bounds is None:
        return None, None
    try:
        shape = np.atleast_1d(np.asarray(x0)).shape
        if isinstance(bounds, scipy.optimize.Bounds):
            lower, upper = bounds.lb, bounds.ub
        else:
            pairs = np.array([(_or(lo, -np.inf), _or(hi, np.inf)) for lo, hi in bounds], dtype=np.float64)
            lower, upper = pairs.T if len(pairs) == shape[0] else (pairs[0, 0], pairs[0, 1])
        return np.broadcast_to(lower, shape).astype(float), np.broadcast_to(upper, shape).astype(float)
    except (TypeError, ValueError, IndexError):
        return None, None


def _or(value: Any, default: float) -> Any:
    return default if value is None else value


def violation_of(constraints: Any, lower: Array | None, upper: Array | None) -> Callable[[Array], float] | None:
    """Return how far a point is from feasible, 0 within the tolerance."""
    try:
        rows = rows_of(constraints)
    except (OptionError, TypeError):
        return None  # scipy says what is wrong with them
    if not rows and lower is None:
        return None

    def violation(x: Array) -> float:
        worst = 0.0
        if lower is not None and upper is not None:
            worst = float(max(np.max(lower - x, initial=0.0), np.max(x - upper, initial=0.0)))
        if rows:
            worst = max(worst, rows.violation(x))
        return worst if worst > _FEASIBLE else 0.0

    return violation


def full_sum(problem: FiniteSum, args: Any, use_gradient: bool) -> tuple[Callable[..., Any], Any, int]:
    """Return (fun, jac, n): the mean over all samples, value and gradient together where it has one."""
    args = args if isinstance(args, tuple) else (args,)
    paired = problem.has_gradient and use_gradient
    want: Literal["both", "value"] = "both" if paired else "value"

    def fun(x: Array) -> Any:
        objective = Objective(problem, size=x.size, args=args, dtype=x.dtype)
        probe = Probe((0, 0, 0, 0), AnchorRef("x", 0), want=want)
        answer = objective.evaluate(probe, np.array(x), 0)
        if answer.error is not None:
            raise objective.exception or EvaluationError(answer.error)
        return (answer.value, answer.grad) if paired else answer.value

    return fun, paired or None, problem.n_samples


def raised_by_method(error: BaseException) -> bool:
    """Return whether only frames of scipy, NumPy and this package lie between the call and the exception."""
    homes = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (scipy, np))
    here = os.path.dirname(__file__) + os.sep
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith((*homes, here, "<__array_function__")) and os.path.isabs(name):
            return False
        trace = trace.tb_next
    return True
