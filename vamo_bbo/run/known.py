"""Pairs (x, f) that are known before a run: a warm start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.backends import to_host

__all__ = ["KnownPoints", "parse_known"]


class KnownPoints(NamedTuple):
    """Points with their values.

    Attributes
    ----------
    points : (k, D) float64 array
        In the user's coordinates.
    values : (k,) float64 array
        Finite.
    best : int
        Row of the point that the run starts at: the least infeasible one, then the lowest.
    """

    points: FloatArray
    values: FloatArray
    best: int


def parse_known(
    known_points: Iterable[tuple[Any, Any]],
    size: int,
    bounds: tuple[Array, Array] | None = None,
    violation: Callable[[Array], float] | None = None,
) -> KnownPoints | None:
    """Return what is usable of ``known_points``, or None if nothing is.

    Pairs whose value is NaN or inf (failures), and points outside the bounds, are left out.

    Parameters
    ----------
    known_points : iterable of (x, f)
        x has ``size`` finite elements, f is a number.
    size : int
        Number of variables D.
    bounds : (lower, upper), optional
        Bounds.
    violation : callable, optional
        How far a point is from feasible; 0 for feasible ones.

    Raises
    ------
    OptionError
        A pair is not one, or x has another shape or is not finite.

    Examples
    --------
    >>> known = parse_known([([0.0, 1.0], 3.0), ([2.0, 1.0], float("nan")), ([1.0, 1.0], 2.0)], 2)
    >>> known.points[known.best].tolist(), known.values.tolist()
    ([1.0, 1.0], [3.0, 2.0])
    """
    points: list[Array] = []
    values: list[float] = []
    for number, pair in enumerate(known_points):
        try:
            x, f = pair
            point = np.atleast_1d(np.array(to_host(x), dtype=np.float64))
            value = float(np.asarray(f, dtype=np.float64).reshape(()))
        except (TypeError, ValueError):
            raise OptionError(f"known_points must be pairs (x, f), number {number} is {pair!r}.") from None
        if point.shape != (size,) or not np.isfinite(point).all():
            raise OptionError(f"known_points: x of number {number} must be {size} finite numbers, got {x!r}.")
        outside = bounds is not None and bool(((point < bounds[0]) | (point > bounds[1])).any())
        if np.isfinite(value) and not outside:
            points.append(point)
            values.append(value)
    if not points:
        return None
    far = [0.0] * len(points) if violation is None else [violation(p) for p in points]
    best = min(range(len(points)), key=lambda k: (far[k], values[k]))
    return KnownPoints(np.array(points), np.array(values), best)
