"""The best point that was evaluated, kept at the price of one vector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.objective import LARGE

__all__ = ["Best"]

_OPEN_SUMS = 256
"""Full passes that may be under way at once."""


class Best:
    """Lowest full value seen, its point (below d = 1e6) and its probe.

    Values of different mini-batches cannot be compared: of a finite sum only values on all samples count, also when
    they arrive as several ranges.

    Attributes
    ----------
    value : float
        Lowest value, inf before the first.
    z : (d,) array or None
        Its point in the solver's coordinates; None from d = 1e6 on.
    probe : Probe or None
        The probe that had it.
    """

    def __init__(self, n_samples: int | None) -> None:
        self.n = n_samples
        self.value = math.inf
        self.z: Array | None = None
        self.probe: Probe | None = None
        self._sums: dict[object, tuple[float, int]] = {}

    def start(self, value: float, z: Array) -> None:
        """Take the value at x0."""
        self.value = value
        self.z = z.copy() if z.size < LARGE else None

    def offer_known(self, points: Array, values: Array) -> None:
        """Take the best of points (k, d) whose values (k,) were known before the run."""
        k = int(np.argmin(values))
        if values[k] < self.value:
            self.start(float(values[k]), points[k])

    def offer(self, state: State, probes: Sequence[Probe], answers: Sequence[Answer]) -> None:
        """Look at successful answers; the lowest new value's point is materialized, so call it before ``tell``."""
        found: Probe | None = None
        value = self.value
        if self.n is None:
            for probe, answer in zip(probes, answers):  # noqa: B905 - once a round
                if answer[1] < value:
                    found, value = probe, answer[1]
        else:
            for probe, answer in zip(probes, answers, strict=True):
                if answer[4] != self.n and probe[4] is not None and probe[4][0] != "range":
                    continue  # a mini-batch
                new = self._full(probe, answer)
                if new < value:
                    found, value = probe, new
        if found is None or not self._current(state, found):
            return
        self.value, self.probe = value, found
        x = state.arrays["x"]
        if x.size < LARGE:
            self.z = materialize(state, found, np.empty_like(x))

    def _current(self, state: State, probe: Probe) -> bool:
        """Whether the probe's anchor still is what it was when the probe was issued."""
        return probe.point is not None or state.versions.get(probe.anchor.name) == probe.anchor.version

    def _full(self, probe: Probe, answer: Answer) -> float:
        """Return the value on all samples if ``answer`` completes it, else inf."""
        if answer.error is not None or math.isnan(answer.value):
            return math.inf
        if probe.batch is None or answer.n_samples == self.n:
            return answer.value if probe.batch is None or probe.batch.kind != "iid" else math.inf
        if probe.batch.kind != "range" or probe.point is not None:
            return math.inf
        key = (probe.id[:3], probe.anchor, probe.direction, probe.h)
        total, count = self._sums.pop(key, (0.0, 0))
        total += answer.value * answer.n_samples
        count += answer.n_samples
        if count == self.n:
            return total / count
        if len(self._sums) < _OPEN_SUMS:
            self._sums[key] = (total, count)
        return math.inf
