"""The answer of a run: which point is returned, its value, and how well that value is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.types import Answer, Batch, Probe
from vamo_bbo.run.driver import Run
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.start import START
from vamo_bbo.run.stop import Code

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


def reserve(ledger: Ledger, noisy: bool) -> float:
    """Return the sample values to keep back for the answer: none for a deterministic plain objective.

    A finite sum: a full pass, but at most a tenth of ``maxfev``. A noisy objective: 30 evaluations, but at most a
    tenth.
    """
    if ledger.n is None and not noisy:
        return 0.0
    wanted = REPLICATES if ledger.n is None else ledger.n
    return float(min(wanted, ledger.maxfev // SHARE if math.isfinite(ledger.maxfev) else wanted))


def settle(run: Run) -> Settled:
    """Return the answer of ``run``.

    Deterministic plain objective: the best evaluated point. Noisy: the solver's recommendation, evaluated up
    to 30 times. Finite sum: the recommendation, evaluated on all samples if the budget left affords it, else
    on as many as it does, in random order; a point that an earlier full pass found to be better is returned
    instead. After Ctrl-C nothing more is evaluated.
    """
    info, best = run.objective.info, run.best
    if info.n_samples is None and not info.noisy:
        if best.z is not None:
            return Settled(best.z, best.value, 0.0, "best evaluated point")
        z = run.solver.recommend(run.state)
        return Settled(z, run.value, math.nan, f"last iterate; the best evaluated value was {best.value:.6g}")
    z = run.solver.recommend(run.state)
    if not np.isfinite(z).all() and best.z is not None:
        return Settled(best.z, best.value, math.nan, "best evaluated point: the iterate is not finite")
    if run.code is Code.INTERRUPTED or run.ledger.left < 1:
        return Settled(z, run.value, math.nan, "latest value measured during the run")
    settled = _replicates(run, z) if info.n_samples is None else _samples(run, z, info.n_samples)
    if info.n_samples is not None and not info.noisy and best.z is not None:
        exact = settled.fun_std == 0
        if best.value < settled.fun if exact else math.isnan(settled.fun):
            return Settled(best.z, best.value, 0.0, "best point of the full passes")
    return settled


def _evaluate(run: Run, z: Array, index: int, batch: Batch | None, want: str = "value") -> Answer:
    probe = Probe((-2, 0, 0, index), START, None, 0.0, batch, want)  # type: ignore[arg-type]
    if run.ledger.afford([probe]) is not None:
        return Answer(probe.id, error="no budget left")
    answer = run.objective.evaluate(probe, np.array(z), run.state.seed)
    run.ledger.count(probe)
    return answer


def _replicates(run: Run, z: Array) -> Settled:
    count = int(min(REPLICATES, run.ledger.left))
    values = [a.value for a in (_evaluate(run, z, i, None) for i in range(count)) if a.error is None]
    if not values:
        return Settled(z, run.value, math.nan, "latest value measured during the run")
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Settled(z, float(np.mean(values)), error, f"mean of {len(values)} evaluations of the answer")


def _samples(run: Run, z: Array, n: int) -> Settled:
    count = int(min(n, run.ledger.left))
    chunk = min(count, run.objective.info.chunk_size)
    values: list[Array] = []
    means: list[tuple[float, int]] = []
    for lo in range(0, count, chunk):
        hi = min(lo + chunk, count)
        batch = Batch("range", lo, hi, hi - lo) if count == n else Batch("iid", -1 % 2**32, lo, hi - lo)
        answer = _evaluate(run, z, lo, batch, "values")
        if answer.error is None:
            means.append((answer.value, answer.n_samples))
            if answer.values is not None:
                values.append(answer.values)
    if not means:
        return Settled(z, run.value, math.nan, "latest value measured during the run")
    fun = math.fsum(m * w for m, w in means) / sum(w for _, w in means)
    if count == n:
        return Settled(z, fun, 0.0, "mean over all samples")
    error = math.nan
    if values and count > 1:
        error = float(np.nanstd(np.concatenate(values), ddof=1)) / math.sqrt(count)
    return Settled(z, fun, error, f"mean over {count} of {n} samples drawn with replacement")
