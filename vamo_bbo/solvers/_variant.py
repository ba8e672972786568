"""Which evolution strategy a problem gets, and in which coordinates it works."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State

__all__ = ["Plan", "generator_of", "plan_of", "to_x", "to_y"]

_MAX_ORDERED_LEVELS = 1000
"""An Integer of more levels is searched as a real coordinate and rounded."""
SEPARABLE = 200
"""Most variables whose full covariance is adapted."""


class Plan(NamedTuple):
    """What the solver derives from the problem; ``y = (x - origin) / scale`` are the strategy's coordinates.

    Attributes
    ----------
    variant : {"full", "separable", "margin", "categories"}
        Which strategy runs.
    origin, scale : (d,) arrays
        The coordinates.
    bounds : (d, 2) array
        Of y.
    real : (d,) array of bool
        Coordinates that are neither ordered nor options.
    ordered, options : (d,) arrays of int
        Levels of an Integer, of a Choice; else 0.
    sigma : float
        First step, in y.
    damped : bool
        Whether the learning rates follow the signal in the updates.
    """

    variant: str
    origin: FloatArray
    scale: FloatArray
    bounds: FloatArray
    real: Array
    ordered: Array
    options: Array
    sigma: float
    damped: bool = False


def plan_of(state: State, sigma: float | None, separable: bool | None, damped: bool) -> Plan:
    """Return the plan of the problem that the state knows."""
    info, d = state.info, state.arrays["x"].size
    low = np.full(d, -np.inf) if info.lower is None else np.asarray(info.lower, dtype=np.float64)
    high = np.full(d, np.inf) if info.upper is None else np.asarray(info.upper, dtype=np.float64)
    boxed = np.isfinite(low) & np.isfinite(high) & (low < high)
    levels = np.zeros(d, dtype=np.int64) if info.levels is None else np.asarray(info.levels)
    if (levels != 0).any() and not boxed[levels != 0].all():
        raise CapabilityError("cma: Integer and Choice coordinates need bounds.")
    has_options = bool((levels < 0).any())
    options = np.where((levels < 0) | ((levels == 2) & has_options), np.abs(levels), 0)
    ordered = np.where((options == 0) & (levels > 0) & (levels <= _MAX_ORDERED_LEVELS), levels, 0)
    origin = np.where(boxed, low, 0.0)
    scale = np.where(boxed, high - low, 1.0)
    # y = 1 is a whole width where bounded and one x_scale elsewhere: half as wide a start in the former
    if sigma is None:
        sigma = 0.25 if boxed.all() else 0.5
        if boxed.any() and not boxed.all():
            scale[boxed] *= 0.5
    bounds = np.stack([(low - origin) / scale, (high - origin) / scale], axis=1)
    if has_options:
        variant = "categories"
    elif ordered.any():
        variant = "margin"
    else:
        variant = "separable" if (d > SEPARABLE if separable is None else separable) else "full"
    real = (options == 0) & (ordered == 0)
    return Plan(variant, origin, scale, bounds, real, ordered, options, sigma, damped)


def generator_of(state: State, stream: int = 0) -> np.random.RandomState:
    """Return the generator of this generation and attempt; nothing is carried over."""
    counter = (stream << 224) + (state.step << 128) + (state.attempt << 64)
    return np.random.RandomState(np.random.Philox(key=state.seed, counter=counter))


def to_y(plan: Plan, x: Array) -> FloatArray:
    """Return the strategy's coordinates of a point within the bounds."""
    y: FloatArray = ((x.astype(np.float64) - plan.origin) / plan.scale).clip(*plan.bounds.T)
    return y


def to_x(plan: Plan, state: State, y: FloatArray) -> Array:
    """Return the point, in the dtype of the iterate and within the bounds."""
    x = (plan.origin + plan.scale * y).astype(state.arrays["x"].dtype)
    if state.info.lower is None or state.info.upper is None:
        return x
    return x.clip(state.info.lower, state.info.upper)
