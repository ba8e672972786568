r"""Estimators: how a gradient is measured, as probes going out and a symbolic estimate coming back.

With u the direction scaled to root mean square 1 and D_j the difference per rms length along u_j, every estimate is
:math:`w \sum_j D_j u_j` with the factor w of the law (:func:`law_factor`), so that it is unbiased for a linear
function. ``smoothing`` is the rms length of a perturbation over the coordinates it touches, in units of ``x_scale``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError, close_matches
from vamo_bbo._typing import AnyDirection, Direction, FloatArray, Law, StoredDirection
from vamo_bbo.core.estimate import Measured
from vamo_bbo.core.solver import Context, Request
from vamo_bbo.core.types import Answer, Probe, ProblemInfo, Want
from vamo_bbo.schedules import Constant, Schedule

__all__ = [
    "CentralDifference",
    "CoordinateDifference",
    "Difference",
    "ForwardDifference",
    "Replicates",
    "law_factor",
    "parse_law",
]

BOUNDED_LAWS = frozenset({Law.RADEMACHER, Law.COORDINATE, Law.BLOCK})
"""Laws whose elements are at most 1 in size: only these are evaluated inside bounds."""

SMOOTHING = {8: 1e-4, 4: 1e-2}
"""Default smoothing by the item size of x (float64, float32): below it rounding of the losses takes over."""

RETRY = 0.7
"""Factor of the smoothing with every attempt at a round after the second."""


def parse_law(law: str | Law) -> Law:
    """Return the law called ``law``.

    Examples
    --------
    >>> parse_law("block").name
    'BLOCK'
    """
    if isinstance(law, Law):
        return law
    names = [item.name.lower() for item in Law]
    if not isinstance(law, str) or law.lower() not in names:
        raise OptionError(f"law must be one of {names}, got {law!r}{close_matches(str(law), names)}.")
    return Law[law.upper()]


def law_factor(law: Law, q: int, size: int) -> float:
    """Return w such that ``w * sum_j <g, u_j> u_j`` has mean g for q rms-1 directions in dimension ``size``.

    1/q for RADEMACHER, NORMAL and SPHERE; size/q for random COORDINATE; 1 for BLOCK (the sum over its blocks).

    Examples
    --------
    >>> law_factor(Law.RADEMACHER, 4, 100), law_factor(Law.COORDINATE, 4, 100), law_factor(Law.BLOCK, 4, 100)
    (0.25, 25.0, 1.0)
    """
    if law is Law.BLOCK:
        return 1.0
    return size / q if law is Law.COORDINATE else 1.0 / q


def _value(answer: Answer) -> float:
    return math.nan if answer.error is not None else answer.value


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference quotients along random directions: q + 1 values (forward) or 2 q values (central) per batch.

    Parameters
    ----------
    n_directions : int, optional
        q; None means ``min(8, d)``. For ``sweep`` it is d.
    smoothing : float, optional
        Rms length of a perturbation; None means 1e-4 in float64 and 1e-2 in float32.
    law : Law
        Distribution of the directions.
    central : bool
        Use ``f(x + h u)`` and ``f(x - h u)`` rather than ``f(x + h u)`` and ``f(x)``.
    sweep : bool
        All d coordinates in turn instead of random directions.
    unit_length : bool
        Read ``smoothing`` as the length along the unit direction (the VAMO paper's mu) instead of an rms.
    schedule : Schedule
        Factor of the smoothing over time (SPSA's c_k).
    mask : str, optional
        State array (uint8) that restricts the directions to some coordinates.

    Examples
    --------
    >>> ForwardDifference(4, 1e-3).cost(ProblemInfo(), 10)
    (5, 0)
    """

    n_directions: int | None = None
    smoothing: float | None = None
    law: Law = Law.RADEMACHER
    central: bool = False
    sweep: bool = False
    unit_length: bool = False
    schedule: Schedule = field(default_factory=Constant)
    mask: str | None = None

    def __post_init__(self) -> None:
        if self.n_directions is not None and (
            isinstance(self.n_directions, bool) or int(self.n_directions) != self.n_directions or self.n_directions < 1
        ):
            raise OptionError(f"n_directions must be a positive integer, got {self.n_directions!r}.")
        if self.smoothing is not None and not (self.smoothing > 0 and math.isfinite(self.smoothing)):
            raise OptionError(f"smoothing must be positive and finite, got {self.smoothing!r}.")

    def count(self, size: int) -> int:
        """Return q in dimension ``size``."""
        if self.sweep:
            return size
        q = min(8, size) if self.n_directions is None else int(self.n_directions)
        return min(q, size) if self.law is Law.BLOCK else q

    def cost(self, info: ProblemInfo, size: int) -> tuple[int, int]:
        """Return the values and gradients of one estimate, per sample of its batch."""
        q = self.count(size)
        return (2 * q if self.central else q + 1), 0

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise if the law's points could leave the bounds."""
        if info.lower is not None and self.law not in BOUNDED_LAWS:
            raise CapabilityError(
                f"law={self.law.name.lower()!r} has unbounded elements and cannot be evaluated inside bounds; "
                "use law='rademacher', 'block' or 'coordinate'."
            )

    def _length(self, ctx: Context) -> float:
        """Return the rms perturbation of this step, capped at half the smallest width of the bounds."""
        base, state = self.smoothing, ctx.state
        if base is None:  # what the calibration of a noisy objective found, or the default
            base = state.scalars.get("smoothing") or SMOOTHING[state.arrays["x"].dtype.itemsize]
        length = base * self.schedule(state.step, state.scalars["progress"])
        if state.attempt > 1:
            # Beside a region where the objective fails, both legs of a central difference may fail whatever the signs.
            length *= RETRY ** (state.attempt - 1)
        if self.unit_length:
            length /= math.sqrt(ctx.size)
        return length if length < ctx.room else ctx.room

    def directions(self, request: Request, ctx: Context) -> list[Direction]:
        """Return the directions of the request's stream."""
        (tag, step, attempt), law, mask = request.stream, self.law, self.mask
        q, new = self.count(ctx.size), tuple.__new__  # as in plan
        us: list[Direction] = []
        if self.sweep:
            for j in range(q):
                us.append(new(Direction, (Law.COORDINATE, step, j, 0, tag, mask)))
        else:
            for j in range(attempt * q, (attempt + 1) * q):
                us.append(new(Direction, (law, step, j, q, tag, mask)))
        return us

    def scale(self, u: AnyDirection, ctx: Context) -> float:
        """Return the factor that makes the raw direction rms-1 over the coordinates it touches."""
        if isinstance(u, StoredDirection):
            return math.sqrt(ctx.size)
        return 1.0 if u.law is not Law.SPHERE else self.scales([u], ctx)[0]

    def scales(self, us: Sequence[AnyDirection], ctx: Context) -> list[float]:
        """Return these factors for SPHERE directions of one mask."""
        mask = us[0][5]  # type: ignore[misc]
        size = ctx.size if mask is None else int(ctx.arrays[mask].sum())
        return [math.sqrt(size / norm2) for norm2 in ctx.directions.norms2(us)]

    def plan(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return, batch by batch, the base (forward) and the legs of every direction."""
        length = self._length(ctx)
        state, at = ctx.state, request.at
        step, phase, attempt = state.step, state.phase, state.attempt
        # Per-sample values let a sample that fails in one leg leave that difference, not distort its mean.
        want: Want = "values" if ctx.info.n_samples is not None and ctx.info.per_sample else "value"
        us: Sequence[AnyDirection] = self.directions(request, ctx)
        sphere, h, k = self.law is Law.SPHERE, length, first
        scales = self.scales(us, ctx) if sphere else ()
        new, central = tuple.__new__, self.central  # a hot loop: half the time of Probe(...)
        probes: list[Probe] = []
        add = probes.append
        for batch in request.batches:
            if not central:
                add(new(Probe, ((step, phase, attempt, k), at, None, length, batch, want, step, None)))
                k += 1
            for j, u in enumerate(us):
                if sphere:
                    h = length * scales[j]
                add(new(Probe, ((step, phase, attempt, k), at, u, h, batch, want, step, None)))
                k += 1
                if central:
                    add(new(Probe, ((step, phase, attempt, k), at, u, -h, batch, want, step, None)))
                    k += 1
        return probes

    def reduce(
        self, request: Request, ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer]
    ) -> Measured | None:
        """Return the estimate; a failed leg removes its direction, a failed base the whole measurement."""
        plain = ctx.info.n_samples is None
        if plain or (not ctx.info.per_sample and len(request.batches) == 1):
            weight = 1.0 if plain else ctx.weight(request.batches[0])
            values: list[float] = []
            for answer in answers:
                values.append(answer[1] if answer[5] is None else math.nan)  # value, error
            return self._measured(ctx, probes, *self._pairs(values), weight)
        n_legs = len(probes) // len(request.batches)
        legs = probes[:n_legs]
        if request.per_sample:
            return self._table(ctx, legs, _columns(ctx, probes, answers, n_legs))
        differences, columns = self._pairs(_columns(ctx, probes, answers, n_legs))
        weight = ctx.weight(request.batches[0]) if len(request.batches) == 1 else 1.0
        counts = None if ctx.info.per_sample else [a.n_samples for a in answers[::n_legs]]
        means = [_mean(d, counts) for d in differences]
        return self._measured(ctx, legs, means, [_mean(v, counts) for v in columns], weight)

    def _pairs(self, legs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return the difference of every direction's legs, and the values at the anchor (or their best stand-in)."""
        differences: list[Any] = []
        if not self.central:
            base = legs[0]
            for leg in legs[1:]:
                differences.append(leg - base)
            return differences, [base]
        means: list[Any] = []
        pairs = iter(legs)
        for plus, minus in zip(pairs, pairs, strict=True):
            differences.append(plus - minus)
            means.append(0.5 * (plus + minus))
        return differences, means

    def _measured(
        self, ctx: Context, legs: Sequence[Probe], differences: Sequence[float], values: Sequence[float], weight: float
    ) -> Measured | None:
        """Return the measurement of finite ``weight * differences``."""
        us: list[AnyDirection] = []
        quotients: list[float] = []
        k, stride, width = (0, 2, 2.0) if self.central else (1, 1, 1.0)
        for difference in differences:
            if difference - difference == 0.0:  # neither NaN nor infinite
                leg = legs[k]
                us.append(leg[2])  # type: ignore[arg-type]
                quotients.append(weight * difference / (width * leg[3]))
            k += stride
        if not us:
            return None
        factor = self._factor(ctx, len(us))
        weights = [factor] * len(us)
        if self.law is Law.SPHERE:  # h = length * scale
            scales = self.scales(us, ctx)
            quotients = [quotient * scale for quotient, scale in zip(quotients, scales, strict=True)]
            weights = [factor * scale for scale in scales]
        value = sum(values) / len(values)
        if value - value != 0.0:
            finite = [v for v in values if math.isfinite(v)]
            value = sum(finite) / len(finite) if finite else math.nan
        return tuple.__new__(Measured, (value, tuple(us), quotients, None, weights, None))

    def _factor(self, ctx: Context, found: int) -> float:
        """Return the coefficient of ``D_j u_j`` (rms-1 u_j); a lost random direction renormalizes the mean."""
        if self.sweep:
            return 1.0
        if self.law is Law.RADEMACHER:
            return 1.0 / found
        if self.law is Law.BLOCK:
            return self.count(ctx.size) / found
        return law_factor(self.law, found, ctx.size if self.mask is None else int(ctx.arrays[self.mask].sum()))

    def _table(self, ctx: Context, legs: Sequence[Probe], columns: Sequence[FloatArray]) -> Measured | None:
        """Return the differences of every sample (or fixed batch), shape (n, q); a row with a failure is NaN."""
        assert not self.central
        us = [p.direction for p in legs[1:] if p.direction is not None]
        scales, factor = [self.scale(u, ctx) for u in us], self._factor(ctx, len(us))
        differences = np.stack([c - columns[0] for c in columns[1:]], axis=1)
        differences *= np.array(scales) / np.array([p.h for p in legs[1:]])
        complete = np.isfinite(differences).all(axis=1)
        differences[~complete] = np.nan
        if not complete.any():
            return None
        value = float(np.mean(columns[0][complete]))
        return Measured(value, tuple(us), weights=[factor * s for s in scales], table=differences)


def _mean(rows: FloatArray, counts: Sequence[int] | None) -> float:
    """Return the mean of the finite rows, weighted by ``counts``; NaN if there is none."""
    if counts is None:
        mean = float(np.add.reduce(rows)) / len(rows)  # a fifth of the time of np.mean
        if mean - mean == 0.0:
            return mean
    finite = np.isfinite(rows)
    if counts is None:
        return float(np.mean(rows[finite])) if finite.any() else math.nan
    weights = np.asarray(counts, dtype=np.float64)[finite]
    return float(np.dot(rows[finite], weights) / weights.sum()) if finite.any() else math.nan


def _columns(ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer], n_legs: int) -> list[FloatArray]:
    """Return, for every leg, its rows over all batches: one per sample, or per batch without per-sample losses."""
    rows = [_rows(ctx, probe, answer) for probe, answer in zip(probes, answers, strict=True)]
    if len(rows) == n_legs:
        return rows
    return [np.concatenate(rows[k::n_legs]) for k in range(n_legs)]


def _rows(ctx: Context, probe: Probe, answer: Answer) -> FloatArray:
    """Return the rows of one answer, NaN where it failed."""
    if not ctx.info.per_sample:
        return np.array([_value(answer)])
    if answer.error is None and answer.values is not None:
        return np.asarray(answer.values, dtype=np.float64)
    assert probe.batch is not None
    return np.full(len(ctx.indices(probe.batch)), np.nan)


def ForwardDifference(
    n_directions: int | None = None, smoothing: float | None = None, law: str | Law = Law.RADEMACHER
) -> Difference:
    """Return the estimator ``w sum_j (f(x + h u_j) - f(x)) / h u_j``: q + 1 values.

    Examples
    --------
    >>> ForwardDifference(2).central
    False
    """
    return Difference(n_directions, smoothing, parse_law(law))


def CentralDifference(
    n_directions: int | None = None, smoothing: float | None = None, law: str | Law = Law.RADEMACHER
) -> Difference:
    """Return the estimator ``w sum_j (f(x + h u_j) - f(x - h u_j)) / 2h u_j``: 2 q values.

    Examples
    --------
    >>> CentralDifference(1).cost(ProblemInfo(), 10)
    (2, 0)
    """
    return Difference(n_directions, smoothing, parse_law(law), central=True)


def CoordinateDifference(smoothing: float | None = None) -> Difference:
    """Return central differences along all d coordinates: 2 d values.

    Examples
    --------
    >>> CoordinateDifference().cost(ProblemInfo(), 10)
    (20, 0)
    """
    return Difference(None, smoothing, Law.COORDINATE, central=True, sweep=True)


@dataclass(frozen=True, slots=True)
class Replicates:
    """Repeated values at one point: they show the noise of the objective. ``differences`` holds the values themselves.

    Examples
    --------
    >>> Replicates(3).cost(ProblemInfo(), 10)
    (3, 0)
    """

    count: int = 3

    def check(self, info: ProblemInfo, size: int) -> None:
        """Accept every objective."""

    def cost(self, info: ProblemInfo, size: int) -> tuple[int, int]:
        """Return the values and gradients of one measurement, per sample of its batch."""
        return self.count, 0

    def plan(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return the base probe ``count`` times, without a common noise key."""
        state = ctx.state
        ids = [(state.step, state.phase, state.attempt, first + k) for k in range(self.count)]
        return [Probe(i, request.at, batch=batch) for i in ids for batch in request.batches]

    def reduce(
        self, request: Request, ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer]
    ) -> Measured | None:
        """Return the values that did not fail, or None if all did."""
        values = [v for v in map(_value, answers) if math.isfinite(v)]
        return Measured(math.fsum(values) / len(values), differences=values) if values else None
