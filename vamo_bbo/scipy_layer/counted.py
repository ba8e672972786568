"""Evaluations for a method that owns its loop: counted, within the budget, failures survived, the best point kept."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vamo_bbo._errors import EvaluationError
from vamo_bbo._typing import Array
from vamo_bbo.core.types import AnchorRef, Answer, Probe
from vamo_bbo.run import outputs
from vamo_bbo.run.failures import FailureLog, FailurePolicy, FailureRecord, failure_record, penalty
from vamo_bbo.run.history import History, StepRecord
from vamo_bbo.run.outputs import number
from vamo_bbo.run.stop import Budget, Code
from vamo_bbo.scipy_layer.guarded import Guarded, Mapper, StopRun

__all__ = ["Counted", "usable"]

_TRIES_AT_START = 3
_MEAN_DIFFERENCE = 2.0 / math.sqrt(math.pi)
"""Mean distance of two draws of the standard normal distribution."""


class Counted:
    """Count, limit and survive the evaluations of a method that owns its loop.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``; with ``paired`` it returns ``(float, (d,) array)``.
    budget : Budget
        Limits, exact to the evaluation.
    policy : FailurePolicy
        What is done with failures. A skipped failure is a finite value, worse than every one seen so far.
    violation : callable, optional
        ``violation(x) -> float``: how far x is from feasible; only points that violate nothing can be the
        best.
    mapper : Mapper, optional
        Evaluates the points of a round at once.
    vectorized : bool
        ``fun`` takes points as rows.
    paired : bool
        ``fun`` returns value and gradient.
    cost : int
        Sample values per call, counted against the budget: n for a finite sum.
    lower, upper : (d,) arrays, optional
        Bounds, of which differences know.

    Attributes
    ----------
    nfev, njev : int
        Calls made.
    best_x, best_f, best_violation
        The best point, its value and its violation; ``best_x`` is None before the first success.
    noise : float
        Standard deviation of the values, from two at one point; NaN where none were compared.
    failures : FailureLog
        What failed.
    history : History
        One record per improvement.
    ended : Code or None
        Why the latest method was stopped; None for one that ended by itself.
    odd : str
        What the objective last returned in place of a number.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        budget: Budget,
        policy: FailurePolicy,
        *,
        violation: Callable[[Array], float] | None = None,
        mapper: Mapper | None = None,
        vectorized: bool = False,
        paired: bool = False,
        cost: int = 1,
        lower: Array | None = None,
        upper: Array | None = None,
    ) -> None:
        self.fun, self.budget, self.policy, self.violation = fun, budget, policy, violation
        self.mapper, self.vectorized, self.paired, self.cost = mapper, vectorized, paired, cost
        self.lower, self.upper = lower, upper
        self.named = getattr(fun, "params", None)  # of a Space
        self.nfev = self.njev = self.nit = 0
        self.best_x: Array | None = None
        self.best_f, self.best_violation = math.inf, math.inf
        self.failures, self.history = FailureLog(), History()
        self.exception: Exception | None = None
        self.ended: Code | None = None
        self.odd = ""
        self.began = time.perf_counter()
        self.on_iteration: Callable[[Any], None] | None = None
        self._latest: deque[tuple[Array, float]] = deque(maxlen=64)
        self.noise = math.nan
        self.known_best: Array | None = None
        self._reserved = 0  # legs of the present finite difference that are not counted yet
        self._known: tuple[Array, Any] | None = None
        self._base_x: Array | None = None
        self._base = math.nan  # value of the latest evaluation that was not part of a finite difference

    def offer_known(self, points: Array, values: Array) -> None:
        """Take the best of points (k, d) whose values (k,) were known before the run; history begins with them."""
        self.history.start_with(values.tolist())
        for x, value in zip(points, values.tolist(), strict=True):
            violation = 0.0 if self.violation is None else self.violation(x)
            if self.best_x is None or (violation, value) < (self.best_violation, self.best_f):
                self.best_x, self.best_f, self.best_violation = x, value, violation
        self.known_best = self.best_x

    def differs_at(self, x: Array, args: tuple[Any, ...]) -> bool:
        """Evaluate twice at ``x`` and return whether the values differ; the first serves all requests for it."""
        first = self._evaluate(x.copy(), args)
        outputs.scalar(first)  # raises what is no number, before a method meets it
        second = self._evaluate(x.copy(), args)
        noisy = bool(number(first) != number(second))
        self.noise = abs(number(first) - number(second)) / _MEAN_DIFFERENCE
        self._known = None if noisy else (np.array(x), first)
        return noisy

    def plain(self, x: Array, args: tuple[Any, ...]) -> float:
        """Evaluate once at ``x``, outside any method."""
        return number(self._evaluate(x.copy(), args))

    def remember(self, count: int) -> None:
        """Keep the ``count`` latest points and their values."""
        self._latest = deque(self._latest, maxlen=count)

    def latest(self) -> tuple[Array, Array]:
        """Return the latest points, (k, d), and their values, (k,), oldest first."""
        points, values = zip(*self._latest, strict=True)
        return np.array(points), np.array(values)

    def set_budget(self, **changes: Any) -> None:
        """Change limits."""
        self.budget = replace(self.budget, **changes)

    def spend(self, calls: int = 1, *, count: bool = True) -> None:
        """Raise :class:`StopRun` if so many more calls do not fit, else count them; with jac=True gradients, too."""
        limit, gradients = self.budget.maxfev, calls if self.paired else 0
        if limit is not None and (self.nfev + calls) * self.cost > limit:
            raise StopRun(Code.MAXFEV)
        limit = self.budget.maxjev
        if gradients and limit is not None and (self.njev + gradients) * self.cost > limit:
            raise StopRun(Code.MAXJEV)
        self.check_time()
        if count:
            self.nfev += calls
            self.njev += gradients

    def spend_gradient(self) -> None:
        """Raise :class:`StopRun` if one more gradient does not fit, else count it."""
        limit = self.budget.maxjev
        if limit is not None and (self.njev + 1) * self.cost > limit:
            raise StopRun(Code.MAXJEV)
        self.check_time()
        self.njev += 1

    def iterated(self) -> None:
        """Count an iteration."""
        self.nit += 1
        if self.on_iteration is not None:
            self.on_iteration(self)
        self.check_time()

    def check_time(self) -> None:
        """Raise :class:`StopRun` if the time is up."""
        limit = self.budget.max_time
        if limit is not None and time.perf_counter() - self.began >= limit:
            raise StopRun(Code.MAX_TIME)

    def generation(self, points: Sequence[Array], args: tuple[Any, ...]) -> list[float]:
        """Return the values of independent points, all or none within the budget; NaN where one is skipped."""
        return [number(value) for value in self._round([(x, args) for x in points], self._member)]

    def _member(self, x: Array, args: tuple[Any, ...], raw: Any, exception: Exception | None, log: str | None) -> Any:
        value, trouble = self._checked(x, raw, exception)
        if trouble is not None:
            return self._failed(x, trouble, log, exception)
        self._keep(x, value)
        return value

    def _round(self, asked: Sequence[tuple[Array, tuple[Any, ...]]], settle: Callable[..., Any]) -> list[Any]:
        """Return what ``settle`` makes of the values of many points, all of them or none within the budget."""
        if not asked:
            return []
        self.spend(len(asked), count=False)
        self._reserved = len(asked)
        args = asked[0][1]
        guarded = Guarded(self.fun, args, self.vectorized)
        points = [x.copy() for x, _ in asked]
        apart = self.vectorized or self.mapper is not None
        if self.vectorized:
            raw: Iterable[Any] = guarded.rows(points)
        else:
            raw = (self.mapper or map)(guarded, points)
        values, outcomes = [], iter(raw)
        for x, _ in asked:
            if not apart:
                self.check_time()
            self.nfev += 1  # before the call: one that Ctrl-C ends was made
            self._reserved -= 1
            value, exception, log = next(outcomes)
            values.append(settle(x, args, value, exception, log))
        return values

    def _evaluate(self, x: Array, args: tuple[Any, ...]) -> Any:
        """Return one evaluation, after retries; the first has three tries and then raises."""
        first = self.best_x is self.known_best and self.failures.count == 0 and self._base_x is None
        tries = max(_TRIES_AT_START if first else 1, 1 + self.policy.retries)
        point = np.array(x)  # the user's function may write to x, as it may in scipy
        for attempt in range(tries):
            self.spend()
            log: str | None = None
            exception: Exception | None = None
            try:
                raw = self.fun(x[None, :] if self.vectorized else x, *args)
                if self.vectorized:
                    raw = np.asarray(raw).reshape(-1)[0]
                raw, gradient = outputs.pair(raw) if self.paired else (raw, None)
            except StopIteration:
                raise
            except Exception as error:
                raw, exception, log = math.nan, error, traceback.format_exc()
            value, trouble = self._checked(x, raw, exception, self.best_x is self.known_best)
            if trouble is None:
                self._base, self._base_x = math.nan if value is None else value, point
                self._keep(point, value)
                return (usable(raw, value), gradient) if self.paired else usable(raw, value)
            if attempt + 1 < tries:
                if not self._fits_one_more():
                    break
                x = point.copy()
        if first:
            self._raise_at_start(trouble, exception)
        told = self._penalty(self._failed(point, trouble, log, exception))
        return (told, np.zeros(point.size)) if self.paired else told

    def _fits_one_more(self) -> bool:
        limit = self.budget.maxfev
        return limit is None or (self.nfev + self._reserved + 1) * self.cost <= limit

    def _raise_at_start(self, trouble: str | None, exception: Exception | None) -> None:
        if exception is not None:
            raise exception
        raise EvaluationError(f"The objective failed at x0, {_TRIES_AT_START} times: {trouble}.")

    def _checked(
        self, x: Array, raw: Any, exception: Exception | None, handed_on: bool = False
    ) -> tuple[float | None, str | None]:
        """Return the value at x as a float and what is wrong with it.

        (None, None) for what is handed on: a complex value where x is complex, and what is no number before the first
        number has come, so that scipy itself says what is wrong with it.
        """
        if exception is not None:
            return None, f"{type(exception).__name__}: {exception}".partition("\n")[0]
        if np.iscomplexobj(x) and np.size(raw) == 1 and np.iscomplexobj(raw):  # a leg of jac="cs"
            return None, None if np.isfinite(raw).all() else f"the objective returned {raw}"
        if type(raw) is not float:
            try:
                raw = outputs.scalar(raw)
            except outputs.OutputError as error:
                self.odd = str(error)
                return None, None if handed_on else self.odd
        return raw, outputs.trouble(raw)

    def _failed(self, x: Array, trouble: str | None, log: str | None, exception: Exception | None) -> float:
        """Record a failure and return the value that the policy gives, NaN to skip."""
        self.exception = exception
        probe = Probe((self.nfev, 0, 0, 0), AnchorRef("x", 0))
        answer = Answer(probe.id, error=trouble or "failed", log=log)
        record: FailureRecord = failure_record(probe, answer, np.real(x).copy())
        self.failures.add(record)
        most = self.budget.max_failures
        try:
            told = self.policy.resolve(probe, answer, record, self.failures.worst).value
        except EvaluationError as error:
            raise error from exception
        if most is not None and self.failures.count > most:
            raise StopRun(Code.FAILURES, record.error)
        return told

    def _penalty(self, told: float) -> float:
        return penalty(self.failures.worst) if math.isnan(told) else told

    def _keep(self, x: Array, value: float | None) -> None:
        """Remember a point if it is the best so far, and stop at the target."""
        if value is None or x.dtype.kind == "c":
            return
        self._latest.append((x, value))
        self.failures.worst = max(self.failures.worst, value)
        if self.best_x is not None and value >= self.best_f and self.best_violation <= 0.0:
            return
        violation = 0.0 if self.violation is None else self.violation(x)
        if self.best_x is not None and (violation, value) >= (self.best_violation, self.best_f):
            return
        self.best_x, self.best_f, self.best_violation = x, value, violation
        elapsed = time.perf_counter() - self.began
        samples = self.nfev * self.cost, self.njev * self.cost
        params = None if self.named is None else self.named(x)
        record = StepRecord(self.nit, value, value, self.nfev, self.njev, *samples, math.nan, elapsed, params=params)
        self.history.append(record)
        target = self.budget.f_target
        if target is not None and violation <= 0.0 and value <= target:
            raise StopRun(Code.TARGET)

    def note_gradient(self, x: Array, exception: Exception | None) -> None:
        """Record a failed gradient; it counts as a failure and may end the run."""
        if exception is None:
            line, log = "jac returned nan or inf", None
        else:
            line = f"{type(exception).__name__}: {exception}".partition("\n")[0]
            log = "".join(traceback.format_exception(exception))
        self._failed(np.array(x), line, log, exception)

    def numbers(self) -> dict[str, float]:
        """Return the counts and measurements that a callback is shown."""
        return {
            "nit": self.nit,
            "nfev": self.nfev,
            "njev": self.njev,
            "nfev_samples": self.nfev * self.cost,
            "njev_samples": self.njev * self.cost,
            "n_failed": self.failures.count,
            "elapsed": time.perf_counter() - self.began,
            "step_size": math.nan,
            "noise": self.noise,
        }

    def value_at(self, x: Array) -> float:
        """Return the value at one of the latest points, the best value where it is no longer known."""
        for point, value in reversed(self._latest):
            if point.size == x.size and np.array_equal(point, x):
                return value
        return self.best_f


def usable(raw: Any, value: float | None) -> Any:
    """Return what scipy is told: the answer itself, but ``value`` where it is of a type that scipy cannot handle."""
    kind = raw.dtype.kind if isinstance(raw, (np.ndarray, np.generic)) else ""
    known = isinstance(raw, (int, float, complex)) or kind in ("i", "u", "f", "c")
    return raw if known or value is None else value
