"""Every method of :func:`scipy.optimize.minimize` on the evaluation layer: what was paid for is not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import scipy.optimize
from scipy.optimize import OptimizeResult

from vamo_bbo._errors import EvaluationError, close_matches
from vamo_bbo._typing import Array
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.failures import FailurePolicy
from vamo_bbo.run.outputs import number
from vamo_bbo.run.stop import Budget, Code, is_success, message
from vamo_bbo.scipy_layer.objective import Mapper, StopRun, Watched
from vamo_bbo.scipy_layer.wrappers import (
    chosen,
    counted_gradient,
    counting,
    full_sum,
    limits,
    raised_by_method,
    violation_of,
)

__all__ = ["BOUNDED", "METHODS", "check_method", "minimize_scipy", "stopped", "takes_map"]

METHODS = (
    "Nelder-Mead",
    "Powell",
    "CG",
    "BFGS",
    "Newton-CG",
    "L-BFGS-B",
    "TNC",
    "COBYLA",
    "COBYQA",
    "SLSQP",
    "trust-constr",
    "dogleg",
    "trust-ncg",
    "trust-exact",
    "trust-krylov",
)
"""Names of scipy's methods, as scipy spells them; they are matched without regard to case."""

BOUNDED = ("nelder-mead", "powell", "l-bfgs-b", "tnc", "cobyla", "cobyqa", "slsqp", "trust-constr")
_BY_DIFFERENCES = ("bfgs", "cg", "l-bfgs-b", "tnc", "slsqp", "trust-constr")
_NO_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
_DROPS_FIXED = ("tnc", "slsqp", "l-bfgs-b")
_FLOAT64 = ("tnc", "slsqp")
"""Methods whose compiled code raises an exception for float32."""
_MAP_OPTION = tuple(int(part) for part in scipy.__version__.split(".")[:2]) >= (1, 16)
"""Whether scipy's finite differences take a map-like ``workers``."""

_EVALUATIONS = {
    "nelder-mead": "maxfev",
    "powell": "maxfev",
    "cobyla": "maxiter",
    "cobyqa": "maxfev",
    "l-bfgs-b": "maxfun",
    "tnc": "maxfun",
}
"""Options that limit evaluations; each has a default."""


def minimize_scipy(
    fun: Callable[..., Any] | FiniteSum,
    x0: Any,
    args: Any = (),
    method: str | Callable[..., Any] | None = None,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    *,
    budget: Budget | None = None,
    policy: FailurePolicy | None = None,
    mapper: Mapper | None = None,
    vectorized: bool = False,
    watched: Watched | None = None,
    known: tuple[Array, Array] | None = None,
    on_iteration: Callable[[Watched], None] | None = None,
) -> Any:
    """Run a method of scipy; its loop, its warnings and its errors are scipy's own.

    Parameters
    ----------
    fun, x0, args, method, jac, hess, hessp, bounds, constraints, tol, callback, options
        As :func:`scipy.optimize.minimize`; ``fun`` may be a :class:`~vamo_bbo.problem.FiniteSum`, which is
        evaluated on all samples, with its gradient where it has one.
    budget : Budget, optional
        Exact limits.
    policy : FailurePolicy, optional
        What a failed evaluation becomes.
    mapper : Mapper, optional
        Evaluates the points of a finite difference in parallel (scipy 1.16 or later).
    vectorized : bool
        ``fun`` takes points as rows, (k, d) -> (k,); finite differences are one call.

    watched : Watched, optional
        Counts, budget and best point of an earlier stage, to go on with; ``budget`` and ``policy`` are then
        its.
    known : (points, values), optional
        Points (k, d) whose values (k,) were known before the run; not with ``watched``, which has them.
    on_iteration : callable, optional
        Called after every iteration.

    Returns
    -------
    OptimizeResult
        scipy's, and ``nfev_samples``, ``njev_samples``, ``n_failed``, ``failures``, ``history``. ``nfev``
        counts every call that was made. A run that was stopped by a budget, by Ctrl-C or by a crash of the
        method returns the best point evaluated; so does one that did not succeed, or saw failures, if that
        point is better.

    Raises
    ------
    Exception
        What scipy raises for wrong arguments, what the objective raised at ``x0`` three times, and what user
        code other than the objective raises.

    Examples
    --------
    >>> res = minimize_scipy(lambda x: (x[0] - 1) ** 2, [0.0], method="BFGS", budget=Budget(maxfev=3))
    >>> res.nfev, res.status
    (3, 1)
    """
    run = _Run(fun, x0, args, method, jac, bounds, constraints, budget or Budget(), policy, mapper, vectorized)
    if watched is not None:
        watched.mapper, watched.ended = mapper or watched.mapper, None
        run.watched, run.fresh = watched, False
    elif known is not None:
        run.watched.offer_known(*known)
    run.watched.on_iteration = on_iteration
    arguments = run.arguments(hess, hessp, bounds, constraints, tol, callback, options)
    try:
        result = scipy.optimize.minimize(**arguments)
    except StopRun as stop:
        return run.stopped(stop.code, stop.detail)
    except KeyboardInterrupt:
        if run.watched.best_x is None:
            raise
        return run.stopped(Code.INTERRUPTED)
    except EvaluationError:
        raise
    except Exception as error:
        if run.watched.best_x is None and run.watched.odd:
            error.add_note(run.watched.odd)
        # before the first iteration it is about the arguments
        if run.watched.best_x is None or run.watched.nit == 0 or not raised_by_method(error):
            raise
        return run.stopped(Code.SOLVER, f"{type(error).__name__}: {error}")
    return run.finished(result)


class _Run:
    """One call of :func:`minimize_scipy`: the wrapped functions and how its result is made."""

    def __init__(
        self,
        fun: Any,
        x0: Any,
        args: Any,
        method: str | Callable[..., Any] | None,
        jac: Any,
        bounds: Any,
        constraints: Any,
        budget: Budget,
        policy: FailurePolicy | None,
        mapper: Mapper | None,
        vectorized: bool,
    ) -> None:
        self.method = chosen(method, bounds, constraints)
        self.name = method
        if self.method in _FLOAT64 and getattr(x0, "dtype", None) == np.float32:
            x0 = x0.astype(np.float64)
        self.x0, self.args = x0, args
        policy = policy or FailurePolicy()
        cost = 1
        if isinstance(fun, FiniteSum):
            fun, jac, cost = full_sum(fun, args, self.method not in _NO_GRADIENT)
            self.args, vectorized = (), False
        self.raw_jac = jac
        lower, upper = limits(bounds, x0) if self.method in BOUNDED else (None, None)
        self.watched = Watched(
            fun,
            budget,
            policy,
            violation=violation_of(constraints, lower, upper),
            mapper=mapper,
            vectorized=vectorized,
            paired=jac is True,
            cost=cost,
            lower=lower,
            upper=upper,
        )
        self.fresh = True
        self.fixed = lower is not None and upper is not None and bool((lower == upper).any())

    def arguments(
        self, hess: Any, hessp: Any, bounds: Any, constraints: Any, tol: Any, callback: Any, options: Any
    ) -> dict[str, Any]:
        """Return what scipy's function is called with."""
        jac = self.raw_jac
        if callable(jac):
            jac = counted_gradient(self.watched, jac)
        # scipy fails there (TNC), or prints the callback (fixed variables), if it takes intermediate_result
        rebuild = self.method == "tnc" or (self.fixed and self.method in _DROPS_FIXED)
        options = dict(options or {})
        limit, own = self.watched.budget.maxfev, _EVALUATIONS.get(self.method)
        if self.fresh and limit is not None and own is not None:
            options.setdefault(own, int(limit) + 1)  # its default may be less: 100 in TNC
        differences = not callable(self.raw_jac) and self.raw_jac is not True
        if differences and takes_map(self.method):
            workers = options.get("workers")
            if workers is None or callable(workers):
                self.watched.mapper = workers or self.watched.mapper
                options["workers"] = self.watched.map
        return {
            "fun": self.watched,
            "x0": self.x0,
            "args": self.args,
            "method": self.name,
            "jac": jac,
            "hess": hess,
            "hessp": hessp,
            "bounds": bounds,
            "constraints": constraints,
            "tol": tol,
            "callback": counting(self.watched, callback, rebuild, self.method == "tnc"),
            "options": options,
        }

    def stopped(self, code: Code, detail: str = "") -> Any:
        """Return the result of a run that scipy's method did not end itself."""
        return stopped(self.watched, self.x0, code, detail, gradient=self.method not in _NO_GRADIENT)

    def finished(self, result: Any) -> Any:
        """Return scipy's result, with exact counts, and the best point where scipy's is not it."""
        watched = self.watched
        if result.get("status") == int(Code.CALLBACK):
            watched.ended = Code.CALLBACK
        if watched.nfev and result.nfev != watched.nfev:
            result.nfev = type(result.nfev)(watched.nfev)
        if result.get("njev") != watched.njev and "njev" in result and bool(self.raw_jac) and watched.njev:
            result.njev = watched.njev
        value = number(result.fun)
        # a clean run ends where scipy says, whatever lower values its line searches and differences have passed
        doubtful = watched.failures.count > 0 or not np.isfinite(value) or watched.known_best is not None
        if doubtful and watched.best_x is not None and watched.best_violation <= 0.0:
            feasible = watched.violation is None or watched.violation(result.x) <= 0.0
            if not (feasible and value <= watched.best_f):
                result.x, result.fun = watched.best_x.astype(result.x.dtype), watched.best_f
        return _extended(result, self.watched)


def stopped(watched: Watched, x0: Any, code: Code, detail: str = "", *, gradient: bool = True) -> Any:
    """Return the best point evaluated as a result; ``code`` says what ended the run."""
    watched.ended = code
    x = watched.best_x
    if x is None:
        x = np.atleast_1d(np.array(x0, dtype=np.float64))
        x = x if watched.lower is None or watched.upper is None else x.clip(watched.lower, watched.upper)
    result: Any = OptimizeResult()
    result.x, result.fun = x, float("nan") if watched.best_x is None else watched.best_f
    result.success, result.status = is_success(code) and watched.best_violation <= 0.0, int(code)
    result.message = message(code, detail)
    result.nfev, result.nit = watched.nfev, watched.nit
    if gradient:
        result.njev = watched.njev
    return _extended(result, watched)


def _extended(result: Any, watched: Watched) -> Any:
    result.nfev_samples, result.njev_samples = watched.nfev * watched.cost, watched.njev * watched.cost
    result.n_failed, result.failures = watched.failures.count, watched.failures.records
    result.history = watched.history
    return result


def takes_map(method: str) -> bool:
    """Return whether scipy's method (in small letters) hands the points of a difference to a map-like ``workers``."""
    return method in _BY_DIFFERENCES and _MAP_OPTION


def check_method(name: str) -> str:
    """Return scipy's spelling of ``name``.

    Raises
    ------
    ValueError
        scipy's own words, with the closest name added.

    Examples
    --------
    >>> check_method("cobyqa")
    'COBYQA'
    """
    for known in METHODS:
        if known.lower() == name.lower():
            return known
    raise ValueError(f"Unknown solver {name}{close_matches(name, METHODS)}")
