"""What happened in each step, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

__all__ = ["History", "StepRecord"]


class StepRecord(NamedTuple):
    """A completed step.

    Attributes
    ----------
    nit : int
        Steps completed; 0 for a value that was known before the run.
    fun : float
        Best value known: the lowest evaluated one, or for a finite sum the value of this step where no full pass
        gave one.
    value : float
        Value measured at the step's base point (a mini-batch mean, where batches are used); NaN where none was.
    nfev, njev, nfev_samples, njev_samples : int
        Counts so far.
    step_size : float
        Learning rate of the step, or the standard deviation of a search distribution; NaN where the solver names none.
    elapsed : float
        Seconds since the run began.
    n_failed : int
        Failed evaluations so far.
    noise : float
        Standard deviation of one value as far as repeated values have shown it; NaN where none were.
    params : dict or None
        The parameters of the point after this step, where a :class:`~vamo_bbo.space.Space` is searched.
    """

    nit: int
    fun: float
    value: float = math.nan
    nfev: int = 0
    njev: int = 0
    nfev_samples: int = 0
    njev_samples: int = 0
    step_size: float = math.nan
    elapsed: float = 0.0
    n_failed: int = 0
    noise: float = math.nan
    params: dict[str, Any] | None = None


class History(Sequence[StepRecord]):
    """The records of a run: all of the first ``limit``, then every second, every fourth, ... and always the last.

    Parameters
    ----------
    limit : int, default 10_000
        Most records kept.

    Examples
    --------
    >>> history = History(limit=4)
    >>> for k in range(1, 11):
    ...     history.append(StepRecord(k, fun=0.0))
    >>> [r.nit for r in history]
    [1, 5, 9, 10]
    """

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self.stride = 1
        self._records: list[StepRecord] = []
        self._last: StepRecord | None = None
        self._count = 0

    def append(self, record: StepRecord) -> None:
        """Add the record of the next step."""
        if self._count % self.stride == 0:
            self._records.append(record)
            if len(self._records) >= self.limit:
                self._records = self._records[::2]
                self.stride *= 2
        self._last = record
        self._count += 1

    def start_with(self, values: Sequence[float]) -> None:
        """Add one record of step 0 for each value that was known before the run; they cost nothing."""
        best = math.inf
        for value in values:
            best = min(best, value)
            self.append(StepRecord(0, best, value))

    def followed_by(self, later: History, spent: int) -> History:
        """Return these records and those of a stage that began after ``spent`` values, without what it knew."""
        whole, steps = History(self.limit), self[-1].nit if len(self) else 0
        for record in self:
            whole.append(record)
        for record in later:
            if record.nit > 0:
                counts: dict[str, Any] = {"nfev": record.nfev + spent, "nfev_samples": record.nfev_samples + spent}
                whole.append(record._replace(nit=record.nit + steps, **counts))
        return whole

    def _all(self) -> list[StepRecord]:
        if self._last is None or (self._records and self._records[-1] is self._last):
            return self._records
        return [*self._records, self._last]

    def __repr__(self) -> str:
        if self._last is None:
            return "<History: no records>"
        return f"<History: {len(self)} records, the last with nit={self._last.nit}, fun={self._last.fun:.6g}>"

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[StepRecord]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._all()[index]

    def column(self, name: str) -> list[Any]:
        """Return one attribute of every record, as a list."""
        return [getattr(record, name) for record in self]
