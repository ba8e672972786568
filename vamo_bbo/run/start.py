"""The first evaluations of a run: x0 itself, what it shows about the objective, and the gradient check."""

from __future__ import annotations

import math
import warnings

import numpy as np

from vamo_bbo._errors import EvaluationError
from vamo_bbo._typing import Array
from vamo_bbo.backends import namespace
from vamo_bbo.core.types import AnchorRef, Answer, Batch, Probe
from vamo_bbo.run.executors import Executor
from vamo_bbo.run.executors.serial import SerialExecutor
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import Objective

__all__ = ["START", "check_gradient", "start"]

START = AnchorRef("x", -1)
"""Anchor of the evaluations before the solver exists; they carry their point themselves."""
TRIES = 3
"""Evaluations of x0 before a failure there is raised: it is a bug rather than a crash region."""
SAMPLES = 32
"""Samples of a finite sum that are evaluated at x0."""
CHECKED = 16
"""Samples of the gradient check."""
DIRECTIONS = 3
"""Directions of the gradient check."""


def start(
    objective: Objective,
    z0: Array,
    seed: int,
    ledger: Ledger,
    executor: Executor | None = None,
    *,
    gradient: bool = True,
) -> Answer:
    """Evaluate x0 and complete ``objective.info``: partial gradient, batch means or per-sample losses.

    Of a finite sum, the first 32 samples are evaluated, or as many as the budget has. NaN coordinates of the gradient
    are declared unknown.

    Parameters
    ----------
    objective : Objective
        The objective.
    z0 : (d,) array
        Start in the solver's coordinates.
    seed : int
        Key of the run.
    ledger : Ledger
        Counts what is evaluated.
    executor : Executor, optional
        Who evaluates; default: this process.
    gradient : bool, default True
        Ask for the gradient too, where there is one.

    Returns
    -------
    Answer
        Value (and gradient) at x0, with id (-1, 0, attempt, 0).

    Raises
    ------
    EvaluationError
        x0 failed three times; the exception of the objective is its cause.
    OutputError
        An output has the wrong shape or type.
    """
    n = objective.info.n_samples
    wants_gradient = gradient and objective.info.gradient != "none" and ledger.maxjev >= 1
    batch = None
    if n is not None:
        count = int(min(n, SAMPLES, ledger.maxfev, ledger.maxjev if wants_gradient else math.inf))
        batch = Batch("range", 0, count, count)
    answer = Answer((-1, 0, 0, 0))
    for attempt in range(TRIES):
        probe = Probe((-1, 0, attempt, 0), START, None, 0.0, batch, "both" if wants_gradient else "value")
        if ledger.afford([probe]) is not None and attempt:
            break
        answer, facts = (executor or objective).first(probe, z0.copy(), seed)
        ledger.count([probe])
        if answer.error is None:
            objective.declare(**facts)
            break
    if answer.error is not None:
        error = EvaluationError(
            f"The objective failed at x0 in {answer.id[2] + 1} tries: {answer.error.rstrip('.')}. "
            "Check the objective and the starting point."
        )
        if objective.exception is None and answer.log:
            error.add_note(answer.log)  # it failed in another process
        raise error from objective.exception
    return answer


def check_gradient(
    objective: Objective, z0: Array, seed: int, ledger: Ledger, executor: Executor | None = None
) -> float | None:
    """Compare a finite sum's gradient at x0 with differences of its losses; warn if they disagree.

    Central differences along three random sign vectors on the first 16 samples, within the bounds. The evaluations
    count; the check is left out where it would take more than a tenth of the budget.

    Returns
    -------
    float or None
        Largest relative error, None if the check was left out.
    """
    n = objective.info.n_samples
    assert n is not None
    count = min(n, CHECKED)
    batch = Batch("range", 0, count, count)
    if 2 * DIRECTIONS * count > 0.1 * ledger.maxfev or count > 0.1 * ledger.maxjev:
        return None
    asked = Probe((-1, 1, 0, 0), START, None, 0.0, batch, "gradient")
    legs = [Probe((-1, 1, 0, 1 + j), START, None, 0.0, batch) for j in range(2 * DIRECTIONS)]
    if ledger.afford([asked, *legs]) is not None:
        return None
    points = _legs(objective, z0, seed)
    tasks = [(asked, z0), *zip(legs, points, strict=True)]
    answers = (executor or SerialExecutor(objective)).evaluate(tasks, seed)
    for probe, _ in tasks:
        ledger.count([probe])
    grad = answers[0].grad
    if grad is None or any(a.error is not None for a in answers):
        return None
    worst = 0.0
    for j in range(DIRECTIONS):
        plus, minus = answers[1 + 2 * j], answers[2 + 2 * j]
        predicted = float(grad.astype(np.float64) @ (points[2 * j].astype(np.float64) - points[2 * j + 1]))
        measured = plus.value - minus.value
        noise = 8 * float(np.finfo(z0.dtype).eps) * max(abs(plus.value), abs(minus.value))
        scale = max(abs(predicted), abs(measured), noise / 0.05)
        if scale > 0:
            worst = max(worst, abs(predicted - measured) / scale)
    if worst > 0.05:
        warnings.warn(
            f"FiniteSum: grad disagrees with differences of losses at x0 by {100 * worst:.0f} % "
            f"({DIRECTIONS} directions, {count} samples). Check grad, or pass check_grad=False if that is meant.",
            RuntimeWarning,
            stacklevel=2,
        )
    return worst


def _legs(objective: Objective, z0: Array, seed: int) -> list[Array]:
    """Return z0 + h u and z0 - h u for each direction, clipped to the bounds; unknown coordinates stay."""
    info, eps = objective.info, float(np.finfo(z0.dtype).eps)
    h = eps ** (1 / 3) * max(1.0, float(abs(z0).max()))
    signs = np.random.Generator(np.random.Philox(key=seed & (2**64 - 1)))
    points = []
    for _ in range(DIRECTIONS):
        u = namespace(z0).asarray((signs.integers(0, 2, z0.size) * 2 - 1).astype(z0.dtype))
        if info.unknown is not None:
            u[info.unknown.astype(bool)] = 0
        for side in (h, -h):
            point = (z0 + z0.dtype.type(side) * u).astype(z0.dtype)
            if info.lower is not None and info.upper is not None:
                point = point.clip(info.lower, info.upper)
            points.append(point)
    return points
