"""The objective as scipy's methods see it: single evaluations, and the legs of finite differences as one round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.outputs import number
from vamo_bbo.scipy_layer.counted import Counted, usable
from vamo_bbo.scipy_layer.guarded import Guarded, Mapper, StopRun

__all__ = ["DIFFERENCE", "Guarded", "Mapper", "StopRun", "Watched"]

DIFFERENCE = math.sqrt(float(np.finfo(np.float64).eps))
"""Share of a variable's size by which differences change it, as in scipy."""


class Watched(Counted):
    """A counted objective that scipy's methods call.

    A skipped failure in a leg of a finite difference is the value at the base point, which leaves that coordinate
    alone.

    Parameters
    ----------
    *arguments, **options
        As for :class:`~vamo_bbo.scipy_layer.counted.Counted`, whose attributes it has.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._collected: list[tuple[Array, tuple[Any, ...]]] | None = None
        self._answers: list[Any] | None = None

    def __call__(self, x: Array, *args: Any) -> Any:
        """Evaluate, as scipy calls it."""
        if self._collected is not None:
            self._collected.append((np.array(x), args))
            return math.inf
        if self._answers is not None:
            return self._answers.pop(0)
        point = np.array(x)  # the user's function may write to x
        if self._known is not None and np.array_equal(self._known[0], point):
            self._base, self._base_x = number(self._known[1]), point
            return self._known[1]
        return self._evaluate(x, args)

    def map(self, function: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
        """Be scipy's ``workers``: evaluate a finite difference's points as one round.

        ``function`` is scipy's wrapping of this object. It is called twice: the first call only shows which
        point the user's function is to be evaluated at, the second is given the value.
        """
        points = list(points)
        wanted: list[list[tuple[Array, tuple[Any, ...]]]] = []
        direct: list[Any] = []
        for point in points:
            self._collected = []
            try:
                direct.append(function(point))
            finally:
                asked, self._collected = self._collected, None
            wanted.append(asked)
        self._answers = self._legs([one for asked in wanted for one in asked])
        try:
            return [function(p) if asked else value for p, asked, value in zip(points, wanted, direct, strict=True)]
        finally:
            self._answers = None

    def _legs(self, asked: list[tuple[Array, tuple[Any, ...]]]) -> list[Any]:
        """Return the values of the points of a finite difference."""
        return self._round(asked, self._leg)

    def _leg(self, x: Array, args: tuple[Any, ...], raw: Any, exception: Exception | None, log: str | None) -> Any:
        """Return the value of a leg; a failed one is measured at its mirror image, else it is the base value.

        ``2 f(x0) - f(x0 - h)`` in place of ``f(x0 + h)`` makes scipy's forward difference a backward one.
        """
        value, trouble = self._checked(x, raw, exception)
        if trouble is None:
            self._keep(x, value)
            return usable(raw, value)
        told = self._failed(x, trouble, log, exception)
        if not math.isnan(told) or not math.isfinite(self._base) or self._base_x is None:
            return self._penalty(told)
        mirror = 2.0 * self._base_x - np.real(x)
        if mirror.size == x.size and not np.iscomplexobj(x) and self._inside(mirror) and self._fits_one_more():
            self.spend()
            raw, exception, log = Guarded(self.fun, args, self.vectorized)(mirror.copy())
            value, trouble = self._checked(mirror, raw, exception)
            if trouble is None and value is not None:
                self._keep(mirror, value)
                return 2.0 * self._base - value
            self._failed(mirror, trouble, log, exception)
        return self._base

    def _inside(self, x: Array) -> bool:
        return (self.lower is None or bool((x >= self.lower).all())) and (
            self.upper is None or bool((x <= self.upper).all())
        )

    def fill_gradient(self, x: Array, args: tuple[Any, ...], g: Array | None) -> Array:
        """Return ``g`` with what is not finite, or all of it if None, replaced by forward differences."""
        x = np.array(x)
        if not math.isfinite(self._base):
            self._evaluate(x, args)
        return self.differences(x, args, DIFFERENCE * np.maximum(1.0, np.abs(x)), g)

    def differences(self, x: Array, args: tuple[Any, ...], steps: Array, g: Array | None = None) -> Array:
        """Return forward differences (d,) at x, the latest point, with these positive steps (d,).

        Only where ``g`` is not finite, if it is given; 0 where the bounds leave no step.
        """
        out = np.full(x.size, np.nan) if g is None else np.array(g, dtype=np.float64)
        if self.upper is not None:
            steps = np.where(x + steps > self.upper, -steps, steps)
        if self.lower is not None:
            steps = np.where(x + steps < self.lower, 0.0, steps)
        unknown = np.flatnonzero(~np.isfinite(out))
        moved = [k for k in unknown if x[k] + steps[k] != x[k]]
        out[unknown] = 0.0
        legs = []
        for k in moved:
            legs.append((x.copy(), args))
            legs[-1][0][k] += steps[k]
        for k, value in zip(moved, self._legs(legs), strict=True):
            out[k] = (number(value) - self._base) / steps[k]
        return out
