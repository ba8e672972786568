"""Where a descent by differences evaluates a gradient and curvatures, and what it makes of the values."""

from __future__ import annotations

import math

import numpy as np

from vamo_bbo._typing import FloatArray
from vamo_bbo.core.solver import State

__all__ = [
    "CURVATURE",
    "LINE",
    "MIRROR",
    "RUNGS",
    "SLOPE",
    "START",
    "bounds_of",
    "is_flat",
    "legs_of",
    "measure_curvatures",
    "slope_of",
]

START, CURVATURE, LINE, SLOPE, MIRROR = range(5)
"""Phases of a step: x0 and its gradient; its curvatures; a trial point; a gradient; the other side of failed points."""
RUNGS = (1 / 2, 1 / 3, 1 / 5)
"""Steps of differences, as powers of the rounding unit: forward; central; central for values with few digits."""
REACH = 0.1
"""Step, relative to the size of a variable, over which its curvature at x0 is measured."""
RATIO = 10.0
"""Variables whose sizes by these curvatures differ by less are left alone."""


def bounds_of(state: State) -> tuple[FloatArray, FloatArray]:
    """Return the bounds (d,), infinite where there are none."""
    info, d = state.info, state.arrays["x"].size
    if info.lower is None or info.upper is None:
        return np.full(d, -np.inf), np.full(d, np.inf)
    return info.lower.astype(np.float64), info.upper.astype(np.float64)


def legs_of(state: State, x: FloatArray | None = None) -> list[tuple[int, float]]:
    """Return the variables that the open round changes, and by how much; with a point x, those of a gradient there."""
    x = state.arrays["x"].astype(np.float64) if x is None else x
    steps = _steps(state, x)
    lower, upper = bounds_of(state)
    up, down = (x + steps <= upper) & (steps > 0), (x - steps >= lower) & (steps > 0)
    if state.phase == MIRROR:
        failed = np.isinf(state.arrays["plus"]) & np.isnan(state.arrays["minus"])
        return [(int(k), -steps[k]) for k in np.flatnonzero(failed & down)]
    if state.phase == CURVATURE:
        up &= ~down | (state.arrays["slope"] < 0)  # downhill: the value may be a better one
    if state.scalars["rung"] == 0:
        return [(int(k), steps[k] if up[k] else -steps[k]) for k in np.flatnonzero(up | down)]
    return [(int(k), sign * steps[k]) for side, sign in ((up, 1.0), (down, -1.0)) for k in np.flatnonzero(side)]


def _steps(state: State, x: FloatArray) -> FloatArray:
    """Return by how much the open round changes each variable around x; 0 where it is fixed."""
    lower, upper = bounds_of(state)
    eps = float(np.finfo(state.arrays["x"].dtype).eps)
    share = REACH if state.phase == CURVATURE else eps ** RUNGS[int(state.scalars["rung"])]
    steps: FloatArray = np.minimum(share * np.maximum(1.0, np.abs(x)), 0.5 * (upper - lower))  # a side has half the box
    return steps


def slope_of(state: State) -> FloatArray:
    """Return the gradient from the values on both sides, or on one.

    0 where these failed, and what it was before where they came too late.
    """
    arrays, f = state.arrays, state.scalars["value"]
    x = arrays["x"]
    steps = _steps(state, x)
    ups, downs = ((x + sign * steps).astype(x.dtype) - x.astype(np.float64) for sign in (1.0, -1.0))
    plus, minus = arrays["plus"], arrays["minus"]
    above, below = np.isfinite(plus), np.isfinite(minus)
    far, high = np.where(above, ups, 0.0), np.where(above, plus, f)
    near, low = np.where(below, downs, 0.0), np.where(below, minus, f)
    width = far - near
    before = np.where(np.isnan(plus) & np.isnan(minus) & (steps > 0.0), np.nan_to_num(arrays["slope"]), 0.0)
    slope: FloatArray = np.divide(high - low, width, out=before, where=width > 0.0)
    return slope


def is_flat(state: State) -> bool:
    """Return whether no value of the latest gradient differs from the one between them."""
    values = np.concatenate([state.arrays["plus"], state.arrays["minus"]])
    return bool((values[np.isfinite(values)] == state.scalars["value"]).all())


def measure_curvatures(state: State, values: FloatArray) -> None:
    """Take the first Hessian from values a tenth of their size away in every variable."""
    g, f, legs = state.arrays["slope"], state.scalars["value"], legs_of(state)
    eps = float(np.finfo(state.arrays["x"].dtype).eps)
    found = np.full(g.size, np.nan)
    for (k, step), value in zip(legs, values, strict=True):
        # what rounding of the values leaves unseen, in the difference and in the gradient, counts as curvature
        unseen = 8.0 * eps * abs(f) * (1.0 + abs(step) / eps**0.5) / step**2
        found[k] = max(abs(2.0 * (value - f - g[k] * step)) / step**2, unseen)
    seen = np.isfinite(found) & (found > 0.0)
    if seen.sum() < 2 or np.ptp(np.log(found[seen])) < 2.0 * math.log(RATIO):
        return
    first = np.where(seen, found, np.exp(np.mean(np.log(found[seen]))))
    state.arrays["first_hessian"], state.arrays["hessian"] = first, np.diag(first)
    state.scalars["scaled"] = 1.0
