"""The front door: scipy's call, our solvers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._errors import EvaluationError, OptionError, close_matches
from vamo_bbo._typing import Array
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.best import Best
from vamo_bbo.run.driver import Run
from vamo_bbo.run.failures import FailurePolicy, OnError, failure_record, penalty
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import Scaling
from vamo_bbo.run.session import new_result, result_of, run_solver
from vamo_bbo.run.settle import Settled
from vamo_bbo.run.setup import Setup, seed_of, setup
from vamo_bbo.run.start import START, start
from vamo_bbo.run.stop import Budget, Code

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["SCIPY_METHODS", "minimize", "resolve_method"]

SCIPY_METHODS = (
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


def minimize(
    fun: Callable[..., Any] | FiniteSum,
    x0: Any,
    args: Any = (),
    method: Any = "auto",
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    rng: Any = None,
    workers: Any = 1,
    vectorized: bool = False,
    backend: str = "auto",
    noisy: bool | None = None,
    x_scale: Any = None,
    maxfev: float | None = None,
    maxjev: float | None = None,
    max_time: float | None = None,
    f_target: float | None = None,
    on_error: OnError = "skip",
    retries: int = 0,
    max_failures: int | None = None,
    eval_timeout: float | None = None,
) -> OptimizeResult:
    """Minimize a function of one or more variables.

    The first twelve parameters are scipy's.

    Parameters
    ----------
    fun : callable or FiniteSum
        ``fun(x, *args) -> float``, or a sum of per-sample losses.
    x0 : (d,) array
        Start. float32 stays float32.
    args : tuple
        Extra arguments of ``fun`` and ``jac``.
    method : str or solver
        A name ("zo-sgd", "vamo", ..., or one of scipy's), a configured solver
        (``vb.zo_sgd(n_directions=4)``), or "auto".
    jac : callable or True, optional
        Gradient of a plain ``fun``; True if ``fun`` returns value and gradient.
    bounds : sequence of pairs or Bounds, optional
        Never violated by our solvers; equal bounds fix a variable.
    tol : float, optional
        Plateau tolerance (:class:`~vamo_bbo.run.stop.Plateau`); None for no such stop.
    callback : callable, optional
        ``callback(intermediate_result)`` or ``callback(xk)``, once a step; ``StopIteration`` ends the run.
    options : dict, optional
        ``maxiter``, ``disp``, and the keyword arguments of the solver's factory.
    rng : None, int, Generator, ...
        What ``numpy.random.default_rng`` accepts.
    workers : int, Executor, Client or map-like
        Who evaluates: :func:`vamo_bbo.run.executors.resolve`.
    vectorized : bool
        ``fun`` takes points as rows, (k, d) -> (k,).
    backend : {"auto", "numpy", "numba", "cupy"}
        Who computes directions.
    noisy : bool, optional
        Whether ``fun`` is noisy. None: probed by a second evaluation of x0 under "auto", else taken as False.
    x_scale : float or (d,) array, optional
        Scale of steps and perturbations; the width of finite bounds by default.
    maxfev, maxjev : float, optional
        Most function values and gradients (sample values and sample gradients of a finite sum); exact.
    max_time : float, optional
        Most seconds.
    f_target : float, optional
        Stop at a value at or below this.
    on_error, retries, max_failures
        See :class:`~vamo_bbo.run.failures.FailurePolicy`.
    eval_timeout : float, optional
        Seconds after which an evaluation is killed.

    Returns
    -------
    OptimizeResult
        scipy's fields, and ``nfev_samples, njev_samples, n_failed, failures, fun_std, history, best_x, best_fun``.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed.
    CapabilityError
        The method needs something that the objective does not offer.
    EvaluationError
        x0 failed three times, or a failure under ``on_error="raise"``.

    Examples
    --------
    >>> from vamo_bbo.minimize import minimize
    >>> result = minimize(lambda x: (x[0] - 1) ** 2 + x[1] ** 2, [0.0, 2.0], method="L-BFGS-B")
    >>> result.success
    True
    """
    args = args if isinstance(args, tuple) else (args,)
    options = dict(options or {})
    maxiter = options.pop("maxiter", None)
    disp = bool(options.pop("disp", False))
    budget = Budget(maxfev, maxjev, max_time, maxiter, f_target, tol, max_failures)
    policy = FailurePolicy(on_error, retries)
    if tuple(constraints or ()):
        raise OptionError("constraints need one of scipy's methods: 'SLSQP', 'COBYLA', 'COBYQA', 'trust-constr'.")
    chosen = _auto(fun, jac, x0, noisy) if isinstance(method, str) and method.lower() == "auto" else method
    solver = resolve_method(chosen, options)
    problem = setup(
        fun,
        x0,
        args=args,
        jac=jac if callable(jac) or jac is True else None,
        bounds=bounds,
        x_scale=x_scale,
        vectorized=vectorized,
        noisy=bool(noisy),
        remove_fixed=solver is not None,
    )
    if solver is None:
        result = _run_scipy(problem, chosen, budget, policy, callback, hess, hessp, {**options, "maxiter": maxiter})
    else:
        result = run_solver(
            problem,
            solver,
            budget,
            policy=policy,
            seed=seed_of(rng),
            backend=backend,
            callback=callback,
            workers=workers,
            eval_timeout=eval_timeout,
        )
    if disp:
        print(result.message)
    return result


def _auto(fun: Any, jac: Any, x0: Any, noisy: bool | None) -> str:
    """Return the method that "auto" picks: a first rule."""
    if isinstance(fun, FiniteSum):
        return "vamo"
    if noisy:
        return "spsa"
    return "L-BFGS-B" if callable(jac) or jac is True or np.size(x0) <= 1000 else "zo-sgd"


def resolve_method(method: Any, options: Mapping[str, Any]) -> Solver | None:
    """Return the solver that ``method`` names or is; None for scipy's methods.

    Parameters
    ----------
    method : str, None or solver
        Names are case-insensitive; dashes and underscores are the same.
    options : mapping
        Keyword arguments of the solver's factory.

    Raises
    ------
    OptionError
        An unknown name, or an option that the factory does not have.
    """
    if method is None:
        return None
    if not isinstance(method, str):
        if all(callable(getattr(method, name, None)) for name in ("init", "ask", "tell", "status", "recommend")):
            if options:
                raise OptionError(f"options {sorted(options)} belong into the configured solver itself: {method!r}.")
            solver: Solver = method
            return solver
        raise OptionError(
            f"method must be a name or a solver with init, ask, tell, status and recommend, got {method!r}."
        )
    from vamo_bbo.solvers import METHODS

    name = method.lower().replace("_", "-")
    if name in METHODS:
        return _configure(name, METHODS[name], options)
    if name in {m.lower() for m in SCIPY_METHODS}:
        return None
    names = [*METHODS, "auto", *(m.lower() for m in SCIPY_METHODS)]
    raise OptionError(f"Unknown solver {method}{close_matches(name, names)}.")


def _configure(name: str, factory: Callable[..., Solver], options: Mapping[str, Any]) -> Solver:
    known = list(inspect.signature(factory).parameters)
    for key in options:
        if key not in known:
            raise OptionError(
                f"method {name!r} has no option {key!r}{close_matches(key, [*known, 'maxiter', 'disp'])}. "
                f"It has: {', '.join([*known, 'maxiter', 'disp'])}."
            )
    return factory(**options)


class _OutOfBudget(Exception):
    """Leaves a scipy method when the budget or the time is spent, or the target is reached."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


class _Foreign:
    """The objective as scipy's methods call it: counted, failures replaced by a penalty, best point kept."""

    def __init__(self, problem: Setup, budget: Budget, policy: FailurePolicy, run: Run) -> None:
        self.problem, self.budget, self.policy, self.run = problem, budget, policy, run
        self.calls = 0
        self.deadline = math.inf if budget.max_time is None else run.began + budget.max_time
        self.worst = -math.inf

    def ask(self, x: Array, want: Any) -> Answer:
        run = self.run
        probe = Probe((self.calls, 0, 0, 0), START, None, 0.0, None, want)
        limit = run.ledger.afford([probe])
        if limit is not None:
            raise _OutOfBudget(
                Code.MAXFEV if limit == "maxfev" else Code.MAXJEV, f"{limit}={getattr(run.ledger, limit):.0f}"
            )
        if perf_counter() > self.deadline:
            run.ledger.release([probe])
            raise _OutOfBudget(Code.MAX_TIME)
        answer = run.objective.evaluate(probe, np.array(x, dtype=run.objective.dtype), 0)
        self.calls += 1
        run.ledger.count(probe)
        if answer.error is not None:
            return self.failed(probe, answer, x)
        if want != "gradient":
            self.worst = max(self.worst, answer.value)
            if answer.value < run.best.value:
                run.best.start(answer.value, np.array(x, dtype=float))
            if self.budget.f_target is not None and answer.value <= self.budget.f_target:
                raise _OutOfBudget(Code.TARGET)
        return answer

    def failed(self, probe: Probe, answer: Answer, x: Array) -> Answer:
        run = self.run
        record = failure_record(probe, answer, np.array(x))
        run.failures.add(record)
        if self.budget.max_failures is not None and run.failures.count > self.budget.max_failures:
            raise _OutOfBudget(Code.FAILURES, f"max_failures={self.budget.max_failures}")
        policy = replace(self.policy, on_error="penalty") if self.policy.on_error == "skip" else self.policy
        try:
            told = policy.resolve(probe, answer, record, self.worst)
        except EvaluationError as error:
            raise error from run.objective.exception
        if told.error is not None:
            told = told._replace(value=penalty(self.worst), grad=np.zeros(run.objective.size))
        return told

    def fun(self, x: Array) -> float:
        return self.ask(x, "value").value

    def jac(self, x: Array) -> Array:
        grad = self.ask(x, "gradient").grad
        assert grad is not None
        return grad


def _run_scipy(
    problem: Setup,
    method: str | None,
    budget: Budget,
    policy: FailurePolicy,
    callback: Callable[..., Any] | None,
    hess: Any,
    hessp: Any,
    options: dict[str, Any],
) -> OptimizeResult:
    """Run one of scipy's methods over the same evaluation layer."""
    import scipy.optimize

    so: Any = scipy.optimize
    objective = problem.objective
    objective.scaling = Scaling()
    ledger = Ledger(
        objective.info,
        math.inf if budget.maxfev is None else budget.maxfev,
        math.inf if budget.maxjev is None else budget.maxjev,
    )
    x0 = problem.x0
    start(objective, x0, 0, ledger)
    run = Run(objective, None, State(0, "numpy", objective.info, arrays={"x": x0}), ledger, Best(None))  # type: ignore[arg-type]
    foreign = _Foreign(problem, budget, policy, run)
    bounds = None if problem.lower is None else so.Bounds(problem.lower, problem.upper)
    if options.get("maxiter") is None:
        options.pop("maxiter", None)
    jac = foreign.jac if objective.info.gradient != "none" else None
    try:
        res = so.minimize(
            foreign.fun,
            x0,
            method=method,
            jac=jac,
            hess=hess,
            hessp=hessp,
            bounds=bounds,
            tol=budget.tol,
            callback=callback,
            options=options,
        )
        run.success, run.status, run.message, run.nit = (
            bool(res.success),
            int(res.status),
            str(res.message),
            int(res.get("nit", 0)),
        )
        extra = dict(res)
    except _OutOfBudget as stop:
        run.end(stop.code, stop.detail)
        extra = {}
    except KeyboardInterrupt:
        run.end(Code.INTERRUPTED)
        extra = {}
    best = run.best.z if run.best.z is not None else x0
    ours = result_of(run, Settled(best, run.best.value, 0.0, "best evaluated point"))
    return new_result(**{**extra, **ours})
