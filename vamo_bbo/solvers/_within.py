"""Where a model under constraints takes its first values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vamo_bbo._typing import FloatArray
from vamo_bbo.feasible import FeasibleSet

__all__ = ["legs_within", "sides_within"]

APART = 0.3
"""Least distance of two of them, relative to the length of the step."""


def legs_within(feasible: FeasibleSet, x: FloatArray, radius: float) -> list[FloatArray]:
    """Return one feasible point in every direction that the equations leave: on the side that leads farther."""
    basis = feasible.tangent(x)
    points = []
    for axis in np.eye(x.size) if basis is None else basis.T:
        sides = [point for sign in (1.0, -1.0) if (point := feasible.nearest(x + sign * radius * axis)) is not None]
        far = [min(float(np.linalg.norm(point - x)) / radius, 1.0) for point in sides]
        if max(far, default=0.0) > 1e-6:
            points.append(sides[int(np.argmax(np.round(far, 6)))])
    return points


def sides_within(
    feasible: FeasibleSet, x: FloatArray, value: float, legs: Sequence[FloatArray], values: Sequence[float]
) -> list[FloatArray]:
    """Return second points: on the other side of the first, or farther where that was better than ``value``."""
    points = []
    for leg, told in zip(legs, values, strict=True):
        step = leg - x
        least = APART * float(np.linalg.norm(step))
        for share in [2.0, -1.0, 0.5] if told < value else [-1.0, 2.0, 0.5]:
            point = feasible.nearest(x + share * step)
            if point is not None and min(np.linalg.norm(point - other) for other in (x, leg)) > least:
                points.append(point)
                break
    return points
