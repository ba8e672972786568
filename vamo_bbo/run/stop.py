"""Why a run ends: status codes, their messages, the budgets and the plateau test."""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo.core.types import ProblemInfo

__all__ = ["ABANDONED", "Budget", "Code", "Plateau", "default_limits", "horizon_of", "message"]


class Code(enum.IntEnum):
    """The ``status`` of a result. Codes 0 to 2 and 99 mean what they mean in scipy."""

    CONVERGED = 0
    """The solver's own criterion, or no more progress than ``tol``."""
    MAXFEV = 1
    """The next round would exceed the budget of function values."""
    MAXITER = 2
    """The number of steps."""
    MAXJEV = 3
    """The next round would exceed the budget of gradients."""
    MAX_TIME = 4
    """The wall-clock limit."""
    TARGET = 5
    """A value at or below ``f_target`` was found (a success)."""
    FAILURES = 6
    """More evaluations failed than ``max_failures`` allows, or the solver gave up after failed rounds."""
    INTERRUPTED = 7
    """Ctrl-C."""
    SOLVER = 8
    """The solver or an executor raised an exception: a bug; the result still holds the best point."""
    JOURNAL = 9
    """The journal can no longer be written."""
    WORKERS = 10
    """The user's pool of workers is broken."""
    CALLBACK = 99
    """The callback raised ``StopIteration``."""


ABANDONED = (Code.INTERRUPTED, Code.JOURNAL, Code.WORKERS)
"""Endings after which nothing more is evaluated."""

_MESSAGES = {
    Code.CONVERGED: "Optimization terminated successfully.",
    Code.MAXFEV: "Maximum number of function evaluations has been reached",
    Code.MAXITER: "Maximum number of iterations has been exceeded.",
    Code.MAXJEV: "Maximum number of gradient evaluations has been reached",
    Code.MAX_TIME: "Time limit reached: max_time",
    Code.TARGET: "Target reached: a value at or below f_target was found.",
    Code.FAILURES: "Too many failed evaluations",
    Code.INTERRUPTED: "Interrupted from the keyboard: the best result so far is returned.",
    Code.SOLVER: "The solver raised an exception",
    Code.JOURNAL: "The journal cannot be written",
    Code.WORKERS: "The pool of workers is broken",
    Code.CALLBACK: "`callback` raised `StopIteration`.",
}


def message(code: Code, detail: str = "") -> str:
    """Return the sentence of ``code``, with ``detail`` in parentheses."""
    text = _MESSAGES[code]
    if detail:
        text = f"{text.rstrip('.')} ({detail})."
    return text if text.endswith(".") else text + "."


def is_success(code: Code) -> bool:
    """Whether ``code`` counts as convergence."""
    return code in (Code.CONVERGED, Code.TARGET)


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run.

    Parameters
    ----------
    maxfev, maxjev : float or None
        Most sample values and sample gradients.
    max_time : float or None
        Most seconds.
    maxiter : int or None
        Most steps.
    f_target : float or None
        Stop at a value at or below this.
    tol : float or None
        Plateau tolerance, see :class:`Plateau`; None for no plateau stop.
    max_failures : int or None
        Most failed evaluations (after retries) before the run ends; None for no limit.

    Raises
    ------
    OptionError
        A limit is negative or not a number.
    """

    maxfev: float | None = None
    maxjev: float | None = None
    max_time: float | None = None
    maxiter: int | None = None
    f_target: float | None = None
    tol: float | None = None
    max_failures: int | None = None

    def __post_init__(self) -> None:
        for name in ("maxfev", "maxjev", "max_time", "maxiter", "tol", "max_failures"):
            value = getattr(self, name)
            if value is None:
                continue
            try:
                good = not isinstance(value, (bool, str)) and float(value) >= 0
            except (TypeError, ValueError):
                good = False
            if not good:
                raise OptionError(f"{name} must be a number >= 0 or None, got {value!r}.")
        if self.maxfev is not None and self.maxfev < 1:
            raise OptionError(f"maxfev must be at least 1 (x0 itself is evaluated), got {self.maxfev!r}.")
        if self.f_target is not None:
            if isinstance(self.f_target, bool) or not isinstance(self.f_target, (int, float, np.number)):
                raise OptionError(f"f_target must be a number or None, got {self.f_target!r}.")
            if math.isnan(self.f_target):
                raise OptionError("f_target must not be NaN.")


def horizon_of(solver: Any, info: ProblemInfo, size: int, maxfev: float, maxjev: float) -> float | None:
    """Return what a run will spend within its limits, in sample values, for schedules; None where nothing limits it.

    A gradient counts ``info.grad_cost`` values. The limit that ends the run is the one that allows fewer steps of what
    the solver says a step costs; for one that does not say, it is that of values.

    Examples
    --------
    >>> from vamo_bbo import sgd
    >>> info = ProblemInfo(n_samples=100, gradient="full", grad_cost=3.0)
    >>> horizon_of(sgd(0.1), info, 4, 300_000, 3_000)
    9000.0
    """
    values, gradients = 1.0, 0.0
    if hasattr(solver, "cost"):
        cost = solver.cost(info, size)
        share = 1.0 / cost.epoch_length if cost.epoch_length else 0.0
        values = cost.values + share * cost.snapshot_values
        gradients = cost.gradients + share * cost.snapshot_gradients
    steps = min(maxfev / values if values else math.inf, maxjev / gradients if gradients else math.inf)
    return steps * (values + info.grad_cost * gradients) if 0 < steps < math.inf else None


def default_limits(info: ProblemInfo, size: int, budget: Budget) -> tuple[float, float]:
    """Return (maxfev, maxjev) of a run: the user's, or stated defaults so that every run ends.

    A plain objective: ``min(1000 (d + 1), 100_000)`` values, and as many gradients. A finite sum of n terms: 30 n
    sample gradients (at least 10_000) and ten times as many sample values when it has gradients, else 100 n sample
    values (at least 100_000). A limit that the user gave is kept; ``max_time`` and ``maxiter`` alone switch the
    defaults off. If only ``maxjev`` was given, the default ``maxfev`` is at least ten times it, so that the gradient
    budget is the one that ends the run.

    Examples
    --------
    >>> default_limits(ProblemInfo(), 4, Budget())
    (5000.0, 5000.0)
    >>> default_limits(ProblemInfo(n_samples=10, gradient="full"), 4, Budget(maxjev=100))
    (100000.0, 100.0)
    """
    bounded = budget.max_time is not None or budget.maxiter is not None
    if info.n_samples is None:
        values = gradients = float(min(1000 * (size + 1), 100_000))
    elif info.gradient == "none":
        values, gradients = max(100.0 * info.n_samples, 1e5), math.inf
    else:
        gradients = max(30.0 * info.n_samples, 1e4)
        values = 10.0 * gradients
    if bounded:
        values = gradients = math.inf
    if budget.maxjev is not None:
        values = max(values, 10.0 * budget.maxjev)
    return (
        values if budget.maxfev is None else float(budget.maxfev),
        gradients if budget.maxjev is None else float(budget.maxjev),
    )


class Plateau:
    """Notice that the values of the last steps no longer fall.

    Every ``window`` steps the mean of the step values is compared with the lowest mean of an earlier window; a gain
    of less than ``tol * max(1, |mean|)`` in two windows in a row is a plateau. Means of windows, and two of them,
    because step values may be noisy mini-batch means.

    Parameters
    ----------
    tol : float
        Relative tolerance.
    window : int
        Steps of a window.
    """

    def __init__(self, tol: float, window: int = 50) -> None:
        self.tol, self.window = tol, window
        self.values: deque[float] = deque(maxlen=window)
        self.lowest = math.inf
        self.flat = 0

    def add(self, value: float) -> bool:
        """Take the value of a step and return whether this is a plateau; NaN is ignored."""
        if value != value:
            return False
        self.values.append(value)
        if len(self.values) < self.window:
            return False
        mean = math.fsum(self.values) / self.window
        self.values.clear()
        gained = self.lowest - mean
        self.flat = 0 if gained > self.tol * max(1.0, abs(mean)) else self.flat + 1
        self.lowest = min(self.lowest, mean)
        return self.flat >= 2

    def marks(self) -> list[object]:
        """Return what is remembered, for :meth:`restore`."""
        return [list(self.values), self.lowest, self.flat]

    def restore(self, marks: list[Any]) -> None:
        """Remember what an earlier process did."""
        self.values.extend(marks[0])
        self.lowest, self.flat = marks[1], marks[2]
