"""Symbolic gradient estimates: a few scalars and names of directions instead of O(d) arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vamo_bbo._typing import AnyDirection, Array, FloatArray
from vamo_bbo.backends import Directions

__all__ = ["Estimate", "Measured"]


@dataclass(slots=True)  # not frozen, though nothing changes one: three are made per step
class Estimate:
    r"""The vector :math:`\sum_j c_j u_j + \sum_k a_k g_k`, with directions by name and gradients by reference.

    Addition merges equal directions, in the order of first appearance; coefficients are float64 on the host. Dense
    parts are kept as (coefficient, array) pairs until a tile is filled, so no sum of gradients is ever allocated.

    Parameters
    ----------
    terms : tuple of (float, direction)
        Coefficients of raw directions.
    dense : tuple of (float, (d,) array)
        Coefficients of arrays; the arrays are referenced, not copied.

    Examples
    --------
    >>> from vamo_bbo.core.types import Direction, Law
    >>> u = Direction(Law.RADEMACHER, 0, 0, 1)
    >>> v = 2.0 * Estimate(((0.5, u),)) - Estimate(((0.25, u),))
    >>> [c for c, _ in v.terms]
    [0.75]
    """

    terms: tuple[tuple[float, AnyDirection], ...] = ()
    dense: tuple[tuple[float, Array], ...] = ()

    def __add__(self, other: Estimate) -> Estimate:
        if not self.terms or not other.terms:
            return Estimate(self.terms or other.terms, self.dense + other.dense)
        merged: dict[AnyDirection, float] = {}
        for coefficient, direction in (*self.terms, *other.terms):
            merged[direction] = merged.get(direction, 0.0) + coefficient
        return Estimate(tuple(zip(merged.values(), merged, strict=True)), self.dense + other.dense)

    def __rmul__(self, factor: float) -> Estimate:
        return Estimate(
            tuple([(factor * c, u) for c, u in self.terms]), tuple([(factor * a, g) for a, g in self.dense])
        )

    def __neg__(self) -> Estimate:
        return -1.0 * self

    def __sub__(self, other: Estimate) -> Estimate:
        return self + (-1.0 * other)

    @property
    def finite(self) -> bool:
        """Whether every coefficient is finite (dense arrays are checked when they arrive)."""
        for parts in (self.terms, self.dense):
            for c, _ in parts:
                if c - c != 0.0:  # inf - inf and NaN
                    return False
        return True

    def fill(self, directions: Directions, lo: int, hi: int, out: Array) -> None:
        """Write coordinates lo..hi of the vector to ``out``, shape (hi - lo,)."""
        out[...] = 0
        directions.accumulate(self.terms, self.dense, lo, hi, out)

    def compact(self, directions: Directions, like: Array, max_terms: int = 64) -> Estimate:
        """Return an equal estimate of bounded size: beyond ``max_terms`` parts, one dense array.

        Recursive recipes would otherwise grow by q terms or one dense gradient every step.
        """
        if len(self.terms) <= max_terms and len(self.dense) <= 1:
            return self
        total = like * 0
        self.fill(directions, 0, like.size, total)
        return Estimate((), ((1.0, total),))


class Measured(NamedTuple):
    """What an estimator measured.

    Attributes
    ----------
    value : float
        Mean value at the anchor (NaN where it was not measured).
    directions : tuple of directions
        The directions whose differences were measured, in probe order, failed ones left out.
    differences : (q,) sequence of float
        Difference quotients per rms length along each direction (of an estimator that repeats values: the values).
    gradient : (d,) array or None
        The dense gradient, where one was measured.
    weights : (q,) sequence of float
        Coefficient that multiplies ``differences[j] * u_j`` (raw u_j) in ``estimate``.
    table : (n, q) float64 array or None
        The differences of every sample (or fixed batch), where the request said so.
    """

    value: float = math.nan
    directions: tuple[AnyDirection, ...] = ()
    differences: Sequence[float] = ()
    gradient: Array | None = None
    weights: Sequence[float] = ()
    table: FloatArray | None = None

    @property
    def estimate(self) -> Estimate:
        """The gradient estimate: the weighted differences along their directions, plus the dense gradient."""
        parts = zip(self.weights, self.differences, self.directions)  # noqa: B905 - repeated values have no directions
        terms = tuple([(weight * difference, u) for weight, difference, u in parts])
        return Estimate(terms, () if self.gradient is None else ((1.0, self.gradient),))
