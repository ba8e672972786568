"""The Hessian of a descent by differences: its secant update, and the step to the minimum of its model."""

from __future__ import annotations

import math

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State

__all__ = ["forget_curvatures", "newton_direction", "update_hessian"]


def update_hessian(state: State, y: FloatArray) -> None:
    """Update the Hessian with a change of the gradient over the last step (Nocedal and Wright 2006, procedure 18.2)."""
    arrays, s = state.arrays, state.arrays["moved"]
    curvature = float(s @ y)
    if not state.scalars["scaled"] and curvature > 0.0:
        arrays["first_hessian"] = np.full(s.size, float(y @ y) / curvature)
        arrays["hessian"] = np.diag(arrays["first_hessian"])
        state.scalars["scaled"] = 1.0
    image = arrays["hessian"] @ s
    own = float(s @ image)
    if not curvature > 1e-10 * float(np.linalg.norm(s) * np.linalg.norm(y)):
        share = 0.8 * own / (own - curvature)
        y = share * y + (1.0 - share) * image
        curvature = float(s @ y)
    if curvature > 0.0 and own > 0.0:
        if state.step < s.size:
            share = min(1.0, curvature / own)
            arrays["hessian"] *= share
            image, own = share * image, share * own
        y, image = y / math.sqrt(curvature), image / math.sqrt(own)
        arrays["hessian"] += np.outer(y, y)
        arrays["hessian"] -= np.outer(image, image)


def newton_direction(state: State, g: FloatArray, free: Array) -> FloatArray:
    """Return the step to the minimum of the model in the free variables; along the gradient where there is none."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    out = np.zeros(g.size)
    for _ in range(2):
        try:
            factor = cho_factor(state.arrays["hessian"][np.ix_(free, free)], overwrite_a=True)
            out[free] = -cho_solve(factor, g[free])
        except (LinAlgError, ValueError):
            out[free] = np.nan
        if np.isfinite(out).all() and g @ out < 0.0:
            return out
        state.arrays["hessian"] = np.diag(state.arrays["first_hessian"])
    return np.where(free, -g, 0.0)


def forget_curvatures(state: State) -> None:
    """Begin with a multiple of the unit matrix after all."""
    d = state.arrays["x"].size
    state.arrays["first_hessian"], state.arrays["hessian"], state.scalars["scaled"] = np.ones(d), np.eye(d), 0.0
