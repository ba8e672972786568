r"""Curvature of mini-batches, measured by one more gradient of a step's own batch at a second point.

With y the change of the gradient and s that of the point along the preconditioned negative gradient, a probe shows how
much the gradient changes in the metric P, :math:`L = \|y\|_{P^{-1}} / \|s\|_P`. For a quadratic this lies between the
curvature along s, :math:`s^\top y / s^\top P s`, and :math:`y^\top P^{-1} y / s^\top y`; near a minimum all three agree
to a few per cent. A network under a metric that has seen few gradients is another matter: what y has outside them is
divided by nearly nothing, and the last of the three was 20 to 200 times the first for two passes. Without a metric
(:mod:`vamo_bbo.untuned`) the last is safe, and is used: with L, recursive estimates (:func:`vamo_bbo.sarah`) were left
up to ten times as far from the minimum.

A short probe measures the curvature where x is. At a kink
(ReLU, absolute values) it does not: the gradient jumps by the same amount however short the probe, and L grows like one
over its length, but only in the few probes that cross a kink. So where short probes have such a heavy tail, every other
one is as long as the step itself, and those count: what jumps matter is then what the step meets.

At the start x may be where the loss is next to linear (a robust loss far from its minimum, an unlikely label). The
curvature is nearly nothing there, and a step of 1/L goes anywhere. So the first probes look as far as a step goes, and
in the first step as often as the mini-batch's own slope has changed its sign there
(:meth:`~vamo_bbo.step_sizes.MeasuredStep.looks_again`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import ArraySpec

__all__ = ["Curvature", "curvature_in"]

SHORT = 1e-3
"""Length of a short probe in steps."""
WARM = 4
"""Probes at the start that look as far as a step goes: nothing else says whether the curvature is the same there."""
ENOUGH = 8
"""Short probes from which on their tail is judged."""
NAMES = ("n_short_probes", "n_far_probes")


def curvature_in(metric: Callable[[Array], Array], gradient: Array, change: Array, moved: Array) -> float:
    """Return L of a probe that moved along the negative of ``metric(gradient)``; 0 if it did not move.

    Examples
    --------
    >>> curvature_in(lambda v: v / 4.0, np.array([1.0, 0.0]), np.array([-8.0, 0.0]), np.array([-1.0, 0.0]))
    2.0
    """
    direction = metric(gradient)
    # The move is the direction up to its length (and to bounds), and P times the direction is the gradient.
    length = float(gradient @ direction) * float(moved @ moved)
    if not length > 0:
        return 0.0
    return math.sqrt(float(change @ metric(change)) * float(direction @ direction) / length)


@dataclass(frozen=True, slots=True)
class Curvature:
    """A quantile of recent probes.

    Parameters
    ----------
    quantile : float, default 0.9
        Which.
    kept : int, default 40
        Probes of either length that count.
    tail : float, default 6
        Quantile of the short probes, in medians, above which kinks are assumed, for the rest of the run. On smooth
        development problems it is 1.2 to 5, on networks of ReLU units 4 to 80.

    Examples
    --------
    >>> rule = Curvature(quantile=0.5)
    >>> arrays, scalars = {"curvatures": np.zeros((2, 40))}, {}
    >>> for probe in (1.0, 2.0, 4.0):
    ...     rule.record(arrays, scalars, probe)
    >>> rule.value(arrays, scalars)
    2.0
    """

    quantile: float = 0.9
    kept: int = 40
    tail: float = 6.0

    def array(self) -> ArraySpec:
        """Return the array that holds the probes."""
        return ArraySpec("curvatures", (2, self.kept), "float64")

    @staticmethod
    def _far(scalars: dict[str, float]) -> bool:
        """Return whether the next probe is as long as a step."""
        return bool(scalars.get("kinks", 0.0)) and scalars[NAMES[0]] > scalars.get(NAMES[1], 0.0)

    def distance(self, x: Array, direction: Array, scalars: dict[str, float]) -> float:
        """Return how far along ``direction`` the next probe looks: a thousandth of a step, or more against rounding.

        The very first one, before there is a step, looks next to x, the others at the start as far as a step.
        """
        norm = math.sqrt(float(np.einsum("i,i->", direction, direction, dtype=np.float64)))
        if norm == 0.0 or not math.isfinite(norm):
            return 0.0
        size = math.sqrt(float(np.einsum("i,i->", x, x, dtype=np.float64)))
        nearest, rate = math.sqrt(float(np.finfo(x.dtype).eps)), scalars.get("learning_rate")
        if rate is None:
            return 1e4 * nearest * (1.0 + size) / norm if x.dtype.itemsize == 8 else nearest * (1.0 + size) / norm
        far = self._far(scalars) or scalars.get("n_short_probes", 0.0) < WARM
        return max(rate if far else SHORT * rate, nearest * size / norm)

    def record(self, arrays: dict[str, Array], scalars: dict[str, float], curvature: float) -> None:
        """Take a probe's curvature; one that is not positive is left out."""
        far = self._far(scalars)
        name, row = NAMES[far], arrays["curvatures"][int(far)]
        if not (curvature > 0 and math.isfinite(curvature)):
            return
        count = int(scalars.get(name, 0.0))
        row[count % self.kept] = curvature
        scalars[name] = count + 1.0
        if not far and not scalars.get("kinks", 0.0) and count + 1 >= ENOUGH:
            known = self._known(arrays, scalars, 0)
            middle, high = _quantile(known, 0.5), _quantile(known, self.quantile)
            scalars["kinks"] = float(high > self.tail * middle)

    def _known(self, arrays: dict[str, Array], scalars: dict[str, float], kind: int) -> FloatArray:
        return np.asarray(arrays["curvatures"][kind, : min(self.kept, int(scalars.get(NAMES[kind], 0.0)))])

    def value(self, arrays: dict[str, Array], scalars: dict[str, float], quantile: float | None = None) -> float | None:
        """Return the curvature that a step must respect, or another quantile; None before the first probe."""
        far = self._known(arrays, scalars, 1)
        known = far if len(far) > 1 else self._known(arrays, scalars, 0)
        return _quantile(known, self.quantile if quantile is None else quantile) if len(known) else None


def _quantile(values: FloatArray, share: float) -> float:
    """Return NumPy's quantile, in a thirtieth of its time for the few values that are kept.

    Examples
    --------
    >>> _quantile(np.array([4.0, 1.0, 2.0]), 0.75)
    3.0
    """
    ordered = sorted(values.tolist())
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (at - low) * (ordered[high] - ordered[low]))
