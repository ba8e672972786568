"""One run of a solver from its set-up to its result."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo.core.solver import Solver
from vamo_bbo.core.types import Answer
from vamo_bbo.run.best import Best
from vamo_bbo.run.driver import OnStep, Run, drive
from vamo_bbo.run.executors import resolve
from vamo_bbo.run.failures import FailurePolicy
from vamo_bbo.run.history import StepRecord
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import LARGE
from vamo_bbo.run.settle import Settled, reserve, settle
from vamo_bbo.run.setup import Setup
from vamo_bbo.run.start import check_gradient, start
from vamo_bbo.run.stop import Budget, Code, default_limits

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["callback_step", "new_result", "result_of", "run_solver"]


def run_solver(
    problem: Setup,
    solver: Solver,
    budget: Budget,
    *,
    policy: FailurePolicy,
    seed: int,
    backend: str = "auto",
    callback: Callable[..., Any] | None = None,
    workers: Any = 1,
    eval_timeout: float | None = None,
) -> OptimizeResult:
    """Evaluate x0, drive ``solver``, settle the answer, and return the result."""
    objective = problem.objective
    problem_sum = objective.sum
    limits = default_limits(objective.info, objective.size, budget)
    free_values = problem_sum is not None and problem_sum.value_and_grad is not None
    ledger = Ledger(objective.info, *limits, free_values=free_values)
    executor = resolve(workers, objective, f_target=budget.f_target, eval_timeout=eval_timeout)
    try:
        first = start(objective, problem.z0, seed, ledger, executor)
        if problem_sum is not None and problem_sum.check_grad and problem_sum.has_gradient:
            check_gradient(objective, problem.z0, seed, ledger, executor)
        kept = reserve(ledger, objective.info.noisy)
        grad_cost = problem_sum.grad_cost if problem_sum is not None else 3.0
        state = solver.init(
            problem.z0, seed=seed, backend=backend, info=objective.info, horizon=_horizon(ledger, kept, grad_cost)
        )
        best = Best(objective.info.n_samples)
        known: list[Answer] = []
        if objective.info.n_samples is None:
            best.start(first.value, problem.z0)
            if not objective.info.noisy:
                known.append(first)
        run = Run(objective, solver, state, ledger, best, value=first.value)
        ledger.maxfev -= kept
        drive(run, executor, budget, policy=policy, on_step=callback_step(callback), known=known)
        ledger.maxfev += kept
        return result_of(run, settle(run, executor))
    finally:
        executor.close()


def _horizon(ledger: Ledger, kept: float, grad_cost: float) -> float | None:
    """Return the budget in sample values for schedules; limits that do not bind (inf) are left out."""
    values, gradients = ledger.maxfev - kept, grad_cost * ledger.maxjev
    finite = [v for v in (values, gradients) if math.isfinite(v)]
    return sum(finite) if finite else None


def new_result(**fields: Any) -> OptimizeResult:
    """Return scipy's result with these fields; scipy is imported only now."""
    import scipy.optimize

    make: Any = scipy.optimize.OptimizeResult
    result: OptimizeResult = make(fields)
    return result


def callback_step(callback: Callable[..., Any] | None) -> OnStep | None:
    """Return the driver's hook for a user's callback, by scipy's rule.

    A callback whose only parameter is named ``intermediate_result`` gets an ``OptimizeResult``; any other gets a copy
    of the point.
    """
    if callback is None:
        return None
    import inspect

    try:
        named = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        named = False

    def on_step(record: StepRecord, run: Run) -> None:
        x = run.point()
        if not named:
            callback(x)
            return
        callback(
            intermediate_result=new_result(
                x=x,
                fun=record.fun,
                nit=record.nit,
                nfev=record.nfev,
                njev=record.njev,
                nfev_samples=record.nfev_samples,
                njev_samples=record.njev_samples,
                learning_rate=record.learning_rate,
                elapsed=record.elapsed,
                n_failed=record.n_failed,
            )
        )

    return on_step


def result_of(run: Run, settled: Settled) -> OptimizeResult:
    """Return scipy's result with our fields."""
    best, ledger = run.best, run.ledger
    message = run.message
    if run.flat:
        message += " All differences of function values were zero: smoothing is too small for this objective."
    if run.failures.count:
        message += f" {run.failures.count} evaluations failed (see failures)."
    if run.code is Code.SOLVER:
        warnings.warn(
            f"{run.message} The result holds the best point so far; see result.log.",
            RuntimeWarning,
            stacklevel=3,
        )
    return new_result(
        x=run.user_point(np.asarray(settled.z)),
        fun=settled.fun,
        success=run.success,
        status=run.status,
        message=message,
        nfev=ledger.nfev,
        njev=ledger.njev,
        nfev_samples=ledger.nfev_samples,
        njev_samples=ledger.njev_samples,
        nit=run.nit,
        fun_std=settled.fun_std,
        fun_source=settled.how,
        best_x=run.user_point(best.z) if best.z is not None and best.z.size < LARGE else None,
        best_fun=best.value if math.isfinite(best.value) else math.nan,
        n_failed=run.failures.count,
        failures=run.failures.records,
        history=run.history,
        log=run.log,
    )
