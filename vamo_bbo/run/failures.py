"""What happens when an evaluation fails: one policy for exceptions, NaN, inf, time-outs and dead workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vamo_bbo._errors import EvaluationError, OptionError, StateError
from vamo_bbo._typing import Array
from vamo_bbo.core.types import Answer, Probe

__all__ = ["FailureLog", "FailurePolicy", "FailureRecord", "JournalWriteError", "OnError", "PoolBroken"]

KEPT = 100
"""Failure records kept with their points and tracebacks; the others are only counted."""


class JournalWriteError(StateError):
    """The journal can no longer be written, as on a full disk; what it holds is intact."""


class PoolBroken(StateError):
    """The user's pool of workers takes nothing any more, as after the death of one of them."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A failed evaluation.

    Attributes
    ----------
    id : tuple of 4 ints
        Identity of the evaluation within the run.
    error : str
        One line naming the failure.
    log : str or None
        Traceback or captured output.
    x : (D,) array or None
        The point, in the user's coordinates; None at d >= 1e6 or where it is no longer known.
    want : str
        What was asked for.
    elapsed : float
        Seconds the evaluation took.
    worker : str
        Who evaluated.
    params : dict or None
        The parameters at ``x``, where a :class:`~vamo_bbo.space.Space` is searched.
    """

    id: tuple[int, int, int, int]
    error: str
    log: str | None = field(default=None, repr=False)
    x: Array | None = None
    want: str = "value"
    elapsed: float = 0.0
    worker: str = ""
    params: dict[str, Any] | None = None


OnError: TypeAlias = Literal["raise", "skip", "penalty"] | Callable[[FailureRecord], float | None]


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What is done with a failed evaluation.

    Parameters
    ----------
    on_error : {"skip", "raise", "penalty"} or callable, default "skip"
        "skip": the solver is told that it failed; a difference loses that leg's direction. "raise": the run ends with
        :class:`~vamo_bbo._errors.EvaluationError`. "penalty": a failed value counts as the worst value seen so far
        plus a margin (a failed gradient is skipped). A callable ``on_error(record) -> float or None`` gives the value
        to use, or None to skip; it may raise.
    retries : int, default 0
        How often a failed evaluation is repeated first; every repetition counts.

    Raises
    ------
    OptionError
        A value that is not allowed.
    """

    on_error: OnError = "skip"
    retries: int = 0

    def __post_init__(self) -> None:
        if not callable(self.on_error) and self.on_error not in ("raise", "skip", "penalty"):
            raise OptionError(f"on_error must be 'raise', 'skip', 'penalty' or a callable, got {self.on_error!r}.")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise OptionError(f"retries must be an integer >= 0, got {self.retries!r}.")

    def resolve(self, probe: Probe, answer: Answer, record: FailureRecord, worst: float) -> Answer:
        """Return the answer that the solver is told.

        Parameters
        ----------
        probe : Probe
            The failed probe.
        answer : Answer
            Its failed answer.
        record : FailureRecord
            What is known about the failure.
        worst : float
            Highest value of the rounds before this one.

        Raises
        ------
        EvaluationError
            With ``on_error="raise"``.
        """
        if self.on_error == "raise":
            raise EvaluationError(f"The objective failed: {record.error} (evaluation {record.id}, on_error='raise').")
        value: float | None = None
        if callable(self.on_error):
            value = self.on_error(record)
        elif self.on_error == "penalty":
            value = penalty(worst)
        if value is None or probe.want != "value" or not math.isfinite(value):
            return answer._replace(value=math.nan, values=None, grad=None)
        return Answer(probe.id, float(value), None, None, answer.n_samples, None, answer.elapsed, answer.worker)


def penalty(worst: float) -> float:
    """Return a finite value that is clearly worse than ``worst``.

    Examples
    --------
    >>> penalty(10.0), penalty(-3.0)
    (12.0, -2.0)
    """
    return 1.0 if not math.isfinite(worst) else worst + max(1.0, 0.2 * abs(worst))


class FailureLog:
    """Count failures and keep the first and the latest of their records.

    Attributes
    ----------
    count : int
        Failed evaluations, after retries.
    worst : float
        Highest finite value told so far; -inf before the first.
    first, latest : list of FailureRecord
        The records that are kept.
    """

    def __init__(self) -> None:
        self.count = 0
        self.worst = -math.inf
        self.first: list[FailureRecord] = []
        self.latest: list[FailureRecord] = []

    def add(self, record: FailureRecord) -> None:
        """Take a record."""
        self.count += 1
        if len(self.first) < KEPT // 2:
            self.first.append(record)
            return
        self.latest.append(record)
        if len(self.latest) > KEPT // 2:
            del self.latest[0]

    @property
    def records(self) -> list[FailureRecord]:
        """The first 50 and the latest 50 records."""
        return self.first + self.latest


def failure_record(probe: Probe, answer: Answer, x: Array | None, **changes: Any) -> FailureRecord:
    """Return the record of a failed answer at the user's point ``x``."""
    return FailureRecord(
        probe.id,
        answer.error or "failed",
        answer.log,
        x,
        probe.want,
        answer.elapsed,
        answer.worker,
        **changes,
    )
