r"""Gradients of the objective, with what it does not know of them filled by differences of its values.

Few unknown coordinates are measured one by one, by forward differences on the same samples: for one value each the
gradient is as good as a whole one, and everything that works with gradients works with it. Many are filled along random
directions, which cost as many values as one likes but make noise that no control variate at hand removes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, Direction, Law
from vamo_bbo.core.estimate import Measured
from vamo_bbo.core.solver import Context, Request
from vamo_bbo.core.types import Answer, Probe, ProblemInfo, Want
from vamo_bbo.estimators import Difference

__all__ = ["FirstOrder"]

LENGTH = {8: 1e-6, 4: 1e-3}
"""Length of a difference along a coordinate by the item size of x (float64, float32), relative to coordinates beyond 1:
between the root of the rounding error and its third root, for values that have fewer digits."""


@dataclass(frozen=True, slots=True)
class FirstOrder:
    """The objective's own gradient: one gradient per batch, its unknown coordinates filled by differences.

    Parameters
    ----------
    fill : Difference
        Estimator of the unknown coordinates where they are many; unused with a full gradient.
    with_value : bool, default True
        Ask a plain objective for its value beside the gradient: the best point and the step size are judged by it.
    single : int, default 8
        Most unknown coordinates that are measured one by one: as many values as ``fill`` takes.
    alone : bool, default False
        Accept an objective without a gradient: all coordinates are unknown then, and at most ``single``.
    of_sums : bool, default False
        Measure the value of a finite sum, too.

    Examples
    --------
    >>> FirstOrder().fill.law.name
    'RADEMACHER'
    >>> FirstOrder(alone=True).cost(ProblemInfo(n_samples=9), 5)
    (6, 0)
    """

    fill: Difference = field(default_factory=Difference)
    with_value: bool = True
    single: int = 8
    alone: bool = False
    of_sums: bool = False

    def exact(self, info: ProblemInfo, size: int) -> bool:
        """Return whether every coordinate is measured, and none along random directions."""
        unknown = info.n_unknown(size)
        return not unknown or (unknown <= self.single and not info.device and (unknown < size or self.alone))

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a gradient."""
        if info.gradient == "none" and not (self.alone and self.exact(info, size)):
            remedy = "jac=" if info.n_samples is None else "FiniteSum(..., grad=...)"
            raise CapabilityError(
                f"this method needs {remedy} (a gradient); for objectives that give only values use method='zo-svrg' "
                "(finite sums) or 'zo-sgd'."
            )
        if info.gradient == "partial" and not self.exact(info, size):
            self.fill.check(info, size)

    def cost(self, info: ProblemInfo, size: int) -> tuple[int, int]:
        """Return one gradient, the values that fill a partial one, and the value of a plain objective."""
        unknown = info.n_unknown(size)
        filled = (unknown + 1 if self.exact(info, size) else self.fill.cost(info, size)[0]) if unknown else 0
        return filled + (self._want(info) == "both"), int(info.gradient != "none")

    def _want(self, info: ProblemInfo) -> Want:
        """Ask a plain objective for its value too (the differences of a partial gradient measure it anyway)."""
        asked = self.with_value and (info.n_samples is None or self.of_sums)
        return "both" if asked and info.gradient == "full" else "gradient"

    def plan(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return one gradient probe per batch, and the differences that fill a partial gradient."""
        info, state, want, at, new = ctx.info, ctx.state, self._want(ctx.info), request.at, tuple.__new__
        step, phase, attempt = state.step, state.phase, state.attempt
        probes: list[Probe] = []
        if info.gradient != "none":
            for k, batch in enumerate(request.batches, first):
                probes.append(new(Probe, ((step, phase, attempt, k), at, None, 0.0, batch, want, step, None)))
        if info.gradient == "full":
            return probes
        if self.exact(info, ctx.size):
            return probes + self._legs(request, ctx, first + len(probes))
        return probes + self._filler().plan(request._replace(per_sample=False), ctx, first + len(probes))

    def _filler(self) -> Difference:
        return replace(self.fill, mask="unknown")

    @staticmethod
    def _unknown(ctx: Context) -> list[int]:
        """Return the unknown coordinates."""
        mask = ctx.arrays.get("unknown")
        return list(range(ctx.size)) if mask is None else np.flatnonzero(mask).tolist()

    def _legs(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return, batch by batch, the base and a value beside it along each unknown coordinate."""
        state, at, x = ctx.state, request.at, ctx.arrays[request.at.name]
        step, phase, attempt = state.step, state.phase, state.attempt
        want: Want = "values" if ctx.info.n_samples is not None and ctx.info.per_sample else "value"
        shortest = min(LENGTH[x.dtype.itemsize], ctx.room)
        legs: list[tuple[Direction | None, float]] = [(None, shortest)]
        for j in self._unknown(ctx):
            # Within bounds all legs keep the same margin, so that they share one center.
            far = 1.0 if ctx.info.lower is not None else max(1.0, abs(float(x[j])))
            legs.append((Direction(Law.COORDINATE, step, j, 0, request.stream[0]), far * shortest))
        return [
            Probe((step, phase, attempt, first + b * len(legs) + k), at, u, h, batch, want, step)
            for b, batch in enumerate(request.batches)
            for k, (u, h) in enumerate(legs)
        ]

    def reduce(
        self, request: Request, ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer]
    ) -> Measured | None:
        """Return the mean gradient; a failed batch fails the measurement, a failed leg leaves its coordinate at 0."""
        info, count = ctx.info, len(request.batches) if ctx.info.gradient != "none" else 0
        gradient: Array | None = None
        if count:
            gradient = _mean_gradient(ctx, request, answers[:count])
            if gradient is None:
                return None
        value = _mean_value(answers[:count]) if self._want(info) == "both" else math.nan
        if info.gradient == "full":
            return tuple.__new__(Measured, (value, (), (), gradient, (), None))
        if gradient is None:
            gradient = np.zeros_like(ctx.arrays["x"])
        else:
            gradient = gradient.copy()
            gradient[ctx.arrays["unknown"] != 0] = 0
        exact = self.exact(info, ctx.size)
        filler = Difference(law=Law.COORDINATE, sweep=True) if exact else self._filler()
        filled = filler.reduce(request._replace(per_sample=False), ctx, probes[count:], answers[count:])
        if filled is None:
            return None
        if not exact:
            return filled._replace(gradient=gradient)
        for u, difference in zip(filled.directions, filled.differences, strict=True):
            gradient[int(u[2])] = difference  # its index
        return Measured(filled.value, gradient=gradient)


def _mean_value(answers: Sequence[Answer]) -> float:
    if len(answers) == 1:
        return answers[0][1]
    return math.fsum(a.n_samples * a.value for a in answers) / sum(a.n_samples for a in answers)


def _mean_gradient(ctx: Context, request: Request, answers: Sequence[Answer]) -> Array | None:
    gradients: list[Array] = []
    for answer in answers:
        if answer[5] is not None or answer[3] is None:  # error, grad
            return None
        gradients.append(answer[3])
    if len(gradients) == 1:
        weight = ctx.weight(request.batches[0])
        return gradients[0] if weight == 1.0 else gradients[0] * gradients[0].dtype.type(weight)
    real = gradients[0].dtype.type
    counts = [a.n_samples for a in answers]
    total: Array = gradients[0] * real(counts[0] / sum(counts))
    for gradient, n in zip(gradients[1:], counts[1:], strict=True):
        total += gradient * real(n / sum(counts))
    return total
