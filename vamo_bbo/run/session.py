"""One run of a solver from its set-up to its result."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vamo_bbo.core.solver import Solver
from vamo_bbo.core.types import Answer
from vamo_bbo.run.best import Best
from vamo_bbo.run.driver import OnStep, Run, drive
from vamo_bbo.run.executors import Executor, resolve
from vamo_bbo.run.executors.quorum import QuorumExecutor
from vamo_bbo.run.failures import FailurePolicy, JournalWriteError, PoolBroken
from vamo_bbo.run.fingerprint import fingerprint
from vamo_bbo.run.history import History, StepRecord
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import LARGE
from vamo_bbo.run.settle import Settled, reserve, settle
from vamo_bbo.run.setup import Setup, seed_of
from vamo_bbo.run.start import check_gradient, start
from vamo_bbo.run.stop import ABANDONED, Budget, Code, default_limits, horizon_of

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    from vamo_bbo.run.journal import Journal

__all__ = ["callback_step", "new_result", "result_of", "run_solver"]


def run_solver(
    problem: Setup,
    solver: Solver,
    budget: Budget,
    *,
    policy: FailurePolicy,
    seed: int | None,
    backend: str = "auto",
    callback: Callable[..., Any] | None = None,
    workers: Any = 1,
    eval_timeout: float | None = None,
    asynchronous: bool = False,
    journal: str | os.PathLike[str] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> OptimizeResult:
    """Evaluate x0, drive ``solver``, settle the answer, and return the result.

    Parameters
    ----------
    problem : Setup
        Objective and start.
    solver : Solver
        By what it is minimized.
    budget : Budget
        Limits.
    policy : FailurePolicy
        What happens to failed evaluations.
    seed : int or None
        Key of the run; None for the journal's, or else a random one.
    backend : str
        Who computes directions.
    callback : callable, optional
        Called once a step.
    workers, eval_timeout
        Who evaluates, and how long: :func:`~vamo_bbo.run.executors.resolve`.
    asynchronous : bool
        Let a round close on a quorum: :class:`~vamo_bbo.run.executors.quorum.QuorumExecutor`.
    journal : path, optional
        File that keeps every answer; a run that finds its own answers there goes on after them.
    identity : mapping, optional
        Further facts that a resumed run must share, such as the names of parameters.
    """
    objective = problem.objective
    with contextlib.ExitStack() as stack:
        store = None if journal is None else stack.enter_context(contextlib.closing(_open(journal)))
        if seed is None:
            stored = {} if store is None else store.meta().get("fingerprint", {})
            seed = stored.get("rng", seed_of(None))
        executor: Executor = stack.enter_context(
            contextlib.closing(resolve(workers, objective, f_target=budget.f_target, eval_timeout=eval_timeout))
        )
        if asynchronous:
            executor = QuorumExecutor(executor, solver)
        if store is not None:
            more = {**(identity or {}), "asynchronous": asynchronous}
            store.claim(fingerprint(problem, solver, seed, policy, more))
            from vamo_bbo.run.executors.journaled import JournaledExecutor

            executor = JournaledExecutor(objective, executor, store)
        run, kept, known = _begin(problem, solver, budget, seed, backend, executor, store)
        run.ledger.maxfev -= kept
        if store is not None:
            _go_on(run, store, budget)
        drive(run, executor, budget, policy=policy, on_step=_hook(callback, store, executor), known=known)
        run.ledger.maxfev += kept
        try:
            settled = settle(run, executor)
        except KeyboardInterrupt:
            run.end(Code.INTERRUPTED)
            settled = settle(run)
        except JournalWriteError as error:
            run.end(Code.JOURNAL, text=str(error))
            settled = settle(run)
        except PoolBroken as error:
            run.end(Code.WORKERS, text=str(error))
            settled = settle(run)
        result = result_of(run, settled)
        if store is not None and run.code not in ABANDONED:
            store.set_meta(result=_plain(result))
        return result


def _open(path: str | os.PathLike[str]) -> Journal:
    from vamo_bbo.run.journal import Journal  # only runs with a journal import SQLite

    return Journal(path)


def _begin(
    problem: Setup, solver: Solver, budget: Budget, seed: int, backend: str, executor: Executor, store: Journal | None
) -> tuple[Run, float, list[Answer]]:
    """Evaluate x0 and return the run, the values kept back for its answer, and what a first probe may reuse."""
    objective, total = problem.objective, problem.objective.sum
    limits = default_limits(objective.info, objective.size, budget)
    ledger = Ledger(objective.info, *limits, free_values=total is not None and total.value_and_grad is not None)
    first = start(objective, problem.z0, seed, ledger, executor)
    if total is not None and total.check_grad and total.has_gradient and objective.size:
        check_gradient(objective, problem.z0, seed, ledger, executor)
    kept = reserve(ledger, objective.info.noisy, getattr(solver, "averaging", None) is not None)
    horizon = horizon_of(solver, objective.info, objective.size, ledger.maxfev - kept, ledger.maxjev)
    if store is not None:
        # A schedule that reads the horizon must go on as it began, also with another budget.
        horizon = store.meta().get("horizon", horizon)
        store.set_meta(horizon=horizon)
    history = History()
    if objective.info.known_values is not None:
        history.start_with(objective.info.known_values.tolist())
    state = solver.init(problem.z0, seed=seed, backend=backend, info=objective.info, horizon=horizon)
    best = Best(objective.info.n_samples)
    known: list[Answer] = []
    if objective.info.n_samples is None:
        best.start(first.value, problem.z0)
        if not objective.info.noisy:
            known.append(first)
    info = objective.info
    if info.known_points is not None and info.known_values is not None:
        best.offer_known(info.known_points, info.known_values)
    return Run(objective, solver, state, ledger, best, history=history, value=first.value), kept, known


def _go_on(run: Run, store: Journal, budget: Budget) -> None:
    """Go on from the journal's snapshot, if there is one that this run would reach."""
    from vamo_bbo.run.snapshot import fits, restore

    snapshot = store.snapshot()
    if snapshot is not None and fits(snapshot, run, budget):
        history = store.steps(snapshot.nit)
        if len(history) == snapshot.nit:
            restore(run, snapshot, history)
            store.go_on_after(snapshot)


def _hook(callback: Callable[..., Any] | None, store: Journal | None, executor: Executor) -> OnStep | None:
    """Return what is done after each step: journal the record and the state, then call the user back."""
    call = callback_step(callback)
    if store is None:
        return call
    last = store.last_step()
    journaled: Any = executor

    def on_step(record: StepRecord, run: Run) -> None:
        if record.nit > last:
            store.step(record)
            journaled.stepped(run)
        if call is not None:
            call(record, run)

    return on_step


def _plain(result: OptimizeResult) -> dict[str, Any]:
    """Return the numbers and text of a result, for the journal."""
    kept = ("fun", "success", "status", "message", "nfev", "njev", "nfev_samples", "njev_samples", "nit", "fun_std")
    plain = {name: result[name] for name in (*kept, "fun_source", "n_failed", "best_fun")}
    plain["x"] = result["x"].tolist() if result["x"].size < LARGE else None
    return plain


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
                step_size=record.step_size,
                noise=record.noise,
                elapsed=record.elapsed,
                n_failed=record.n_failed,
            )
        )

    return on_step


def result_of(run: Run, settled: Settled) -> OptimizeResult:
    """Return scipy's result with our fields."""
    best, ledger = run.best, run.ledger
    message = run.message
    z = settled.z
    if run.flat:
        message += " All differences of function values were zero: smoothing is too small for this objective."
    if run.failures.count:
        plural = "s" if run.failures.count > 1 else ""
        message += f" {run.failures.count} evaluation{plural} failed (see failures)."
    if run.code is Code.SOLVER:
        warnings.warn(
            f"{run.message} The result holds the best point so far; see result.log.",
            RuntimeWarning,
            stacklevel=3,
        )
    return new_result(
        # The run is over: a large point is handed out, not copied.
        x=run.user_point(z) if z.size < LARGE else run.objective.scaling.to_user(z),
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
