"""The answer of a run: which point is returned, its value, and how well that value is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.types import Answer, Batch, Probe, Want
from vamo_bbo.run.driver import Run
from vamo_bbo.run.executors import Executor
from vamo_bbo.run.executors.serial import SerialExecutor
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.start import START
from vamo_bbo.run.stop import ABANDONED

__all__ = ["Settled", "reserve", "settle"]

REPLICATES = 30
"""Most evaluations of the answer of a noisy objective."""
SHARE = 10
"""A tenth of ``maxfev`` at most is kept for the re-estimate of the answer."""


class Settled(NamedTuple):
    """The answer.

    Attributes
    ----------
    z : (d,) array
        The point in the solver's coordinates.
    fun : float
        Its value: exact, a mean of replicates, or a mean over samples; NaN where no evaluation was left.
    fun_std : float
        Standard error of ``fun``: 0 for a deterministic value, NaN where it is unknown.
    how : str
        One clause about where ``fun`` comes from.
    """

    z: Array
    fun: float
    fun_std: float
    how: str


def reserve(ledger: Ledger, noisy: bool, averages: bool = False) -> float:
    """Return the sample values to keep back for the answer: none for a deterministic plain objective.

    But one where the solver recommends an average of its iterates (``averages``), which was not evaluated.

    A finite sum: a full pass, but at most a tenth of ``maxfev``. A noisy objective: 30 evaluations, but at most a
    tenth.
    """
    if ledger.n is None and not noisy:
        return float(averages and ledger.maxfev // SHARE >= 1)
    wanted = REPLICATES if ledger.n is None else ledger.n
    return float(min(wanted, ledger.maxfev // SHARE if math.isfinite(ledger.maxfev) else wanted))


def settle(run: Run, executor: Executor | None = None) -> Settled:
    """Return the answer of ``run``.

    Deterministic plain objective: the best evaluated point, an average of iterates among them. Noisy: the solver's
    recommendation, evaluated up to 30 times; or the point of the lowest value, if a quarter of these evaluations at
    each shows that it is better by more than a standard error. Finite sum: the recommendation, evaluated on all samples
    if the budget left affords it, else on as many as it does, in random order; a point that an earlier full pass found
    to be better is returned instead. After Ctrl-C nothing more is evaluated.
    """
    info, best = run.objective.info, run.best
    if info.n_samples is None and not info.noisy:
        if best.z is not None:
            return _average(run, executor) or Settled(best.z, best.value, 0.0, "best evaluated point")
        z = run.solver.recommend(run.state)
        return Settled(z, run.value, math.nan, f"last iterate; the best evaluated value was {best.value:.6g}")
    z = run.solver.recommend(run.state)
    if not np.isfinite(z).all() and best.z is not None:
        return Settled(best.z, best.value, math.nan, "best evaluated point: the iterate is not finite")
    if run.code in ABANDONED or run.ledger.left < 1:
        return Settled(z, run.value, math.nan, "latest value measured during the run")
    evaluator = _Evaluator(run, executor or SerialExecutor(run.objective))
    settled = _replicates(evaluator, z) if info.n_samples is None else _samples(evaluator, z, info.n_samples)
    if info.n_samples is not None and not info.noisy and best.z is not None:
        exact = settled.fun_std == 0
        if best.value < settled.fun if exact else math.isnan(settled.fun):
            return Settled(best.z, best.value, 0.0, "best point of the full passes")
    return settled


class _Evaluator(NamedTuple):
    run: Run
    executor: Executor

    def __call__(self, z: Array, batches: Sequence[Batch | None], want: Want, attempt: int = 0) -> list[Answer]:
        """Return the successful answers at ``z``, on each of ``batches``, as far as the budget goes.

        ``attempt`` tells the rounds of one run apart, for the journal.
        """
        ledger = self.run.ledger
        tasks = []
        for i, batch in enumerate(batches):
            probe = Probe((-2, self.run.nit, 4 * len(batches) + attempt, i), START, None, 0.0, batch, want)
            if ledger.afford([probe]) is None:
                tasks.append((probe, z.copy()))
        answers = self.executor.evaluate(tasks, self.run.state.seed)
        for probe, _ in tasks:
            ledger.count([probe])
        return [a for a in answers if a.error is None]


def _unknown(run: Run, z: Array) -> Settled:
    return Settled(z, run.value, math.nan, "latest value measured during the run")


def _average(run: Run, executor: Executor | None) -> Settled | None:
    """Return the average of iterates, where the solver recommends one and its value is the lowest."""
    if "average" not in run.state.arrays or run.code in ABANDONED or run.ledger.left < 1:
        return None
    z = run.solver.recommend(run.state)
    answers = _Evaluator(run, executor or SerialExecutor(run.objective))(z, [None], "value")
    if not answers or not answers[0].value < run.best.value:
        return None
    return Settled(z.copy(), answers[0].value, 0.0, "average of iterates")


def _better(evaluate: _Evaluator, z: Array, other: Array, each: int) -> bool:
    """Return whether ``other`` is better than ``z`` by more than a standard error, from ``each`` values of both."""
    samples = []
    for number, point in enumerate((z, other)):
        values = [a.value for a in evaluate(point, [None] * each, "value", number + 1)]
        if len(values) < 2:
            return False
        samples.append((float(np.mean(values)), float(np.var(values, ddof=1)) / len(values)))
    (mean, variance), (low, spread) = samples
    return mean - low > math.sqrt(variance + spread)


def _replicates(evaluate: _Evaluator, z: Array) -> Settled:
    count = int(min(REPLICATES, evaluate.run.ledger.left))
    best = evaluate.run.best.z
    if best is not None and count // 4 >= 2 and not np.array_equal(best, z):
        if _better(evaluate, z, best, count // 4):
            z = best
        count = int(min(count - 2 * (count // 4), evaluate.run.ledger.left))
    # the values that chose are not among those that are reported: they favor the chosen point
    values = [a.value for a in evaluate(z, [None] * count, "value")]
    if not values:
        return _unknown(evaluate.run, z)
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Settled(z, float(np.mean(values)), error, f"mean of {len(values)} evaluations of the answer")


def _samples(evaluate: _Evaluator, z: Array, n: int) -> Settled:
    count = int(min(n, evaluate.run.ledger.left))
    chunk = min(count, evaluate.run.objective.info.chunk_size)
    batches = []
    for lo in range(0, count, chunk):
        hi = min(lo + chunk, count)
        batches.append(Batch("range", lo, hi, hi - lo) if count == n else Batch("iid", 2**32 - 1, lo, hi - lo))
    answers = evaluate(z, batches, "values")
    if not answers:
        return _unknown(evaluate.run, z)
    fun = math.fsum(a.value * a.n_samples for a in answers) / sum(a.n_samples for a in answers)
    if count == n and len(answers) == len(batches):
        return Settled(z, fun, 0.0, "mean over all samples")
    values = [a.values for a in answers if a.values is not None]
    error = math.nan
    if values and count > 1:
        error = float(np.nanstd(np.concatenate(values), ddof=1)) / math.sqrt(count)
    return Settled(z, fun, error, f"mean over {count} of {n} samples drawn with replacement")
