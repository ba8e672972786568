"""The projected path of a descent within bounds.

D. P. Bertsekas, Projected Newton methods for optimization problems with simple constraints, SIAM J. Control Optim. 20
(1982).
"""

from __future__ import annotations

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State
from vamo_bbo.solvers._differences import bounds_of

__all__ = ["first_bound", "free_variables", "point_at"]


def point_at(state: State, length: float) -> FloatArray:
    """Return the point at this length of the projected path, as the objective will see it."""
    x = state.arrays["x"]
    point = (x.astype(np.float64) + length * state.arrays["descent"]).clip(*bounds_of(state))
    return point.astype(x.dtype).astype(np.float64)


def first_bound(state: State) -> float:
    """Return the length at which the path meets its first bound."""
    x, p = state.arrays["x"].astype(np.float64), state.arrays["descent"]
    lower, upper = bounds_of(state)
    room = np.where(p > 0, upper - x, x - lower)
    lengths = np.divide(room, np.abs(p), out=np.full(x.size, np.inf), where=p != 0.0)
    return float(lengths[lengths > 0.0].min(initial=np.inf))


def free_variables(state: State, g: FloatArray) -> Array:
    """Return which variables may move: not those that the descent would take over a bound, or to where legs failed."""
    x = state.arrays["x"].astype(np.float64)
    lower, upper = bounds_of(state)
    near = 1e-12 * np.maximum(1.0, np.abs(x))
    above = (x >= upper - near) | np.isinf(state.arrays["plus"])
    below = (x <= lower + near) | np.isinf(state.arrays["minus"])
    free: Array = ~((above & (g < 0)) | (below & (g > 0)))
    return free
