"""The local methods of ``method="auto"`` without a gradient: a descent by differences, and an interpolating model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.rounds import points_of_a_round
from vamo_bbo.auto.units import Coordinates
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.scipy_layer.stretched import Stretched
from vamo_bbo.solvers._differences import is_flat
from vamo_bbo.solvers.fd_bfgs import LIMIT, fd_bfgs
from vamo_bbo.solvers.interpolation import interpolation

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["DESCENTS", "Descent", "descent", "descent_name", "model"]

DESCENTS = ("fd-bfgs", "L-BFGS-B")
"""Their names."""
SPREAD = 1e8
"""Largest ratio of the size of a variable to their geometric mean: beyond it differences have no digits."""
XTOL = 1e-8
"""Last radius of the model, relative to the first: fd-bfgs polishes."""
_OPTIONS = {"ftol", "gtol", "disp", "maxiter"}
"""What both methods take; with other options the user means scipy's."""


def descent_name(call: Call) -> str:
    """Return which method descends by differences."""
    return "fd-bfgs" if call.size <= LIMIT and not set(call.options) - _OPTIONS else "L-BFGS-B"


@dataclass(slots=True)
class _Sloped(Asked):
    """Tells the gradient at the end, as scipy's descents do."""

    at: Coordinates

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result: Any = Asked.__call__(self, *args, **kwargs)
        result.jac = np.zeros(self.at.x.size)
        result.jac[self.at.free] = self.state.arrays["slope"] / self.at.scale
        return result


@dataclass(frozen=True, slots=True)
class Descent:
    """A descent by differences.

    Attributes
    ----------
    method : Asked, Stretched or str
        A method for scipy's ``minimize``. The first goes on where it was when it is called again.
    """

    method: Any

    @property
    def is_ours(self) -> bool:
        """Whether it is fd-bfgs."""
        return isinstance(self.method, _Sloped)

    def is_stuck(self, result: Any, watched: Watched) -> bool:
        """Return whether it has ended because it found no slope to follow.

        No value differs: more likely a simulator that prints seven digits than a constant function or a minimum.
        """
        if self.is_ours:
            stopped = result.status in (Code.MAXITER, Code.CALLBACK)
            return not stopped and ("no better point" in result.message or is_flat(self.method.state))
        flat = watched.nfev > result.x.size and not np.any(result.get("jac", 1.0))
        return "ABNORMAL" in str(result.message) or flat

    def move(self, x: Array, value: float) -> None:
        """Let fd-bfgs go on from a better point that others have found."""
        self.method.solver.move(self.method.state, self.method.at.of(x.astype(np.float64)), value)

    def shape(self, d: int) -> Array:
        """Return the relative sizes of the variables in which its model is round, (d,), of geometric mean 1."""
        shape = np.ones(d)
        if self.is_ours:
            logs = 0.5 * np.log(np.diag(np.linalg.pinv(self.method.state.arrays["hessian"], hermitian=True)))
            if np.isfinite(logs).all():
                shape[self.method.at.free] = np.exp((logs - logs.mean()).clip(-np.log(SPREAD), np.log(SPREAD)))
        return shape


def descent(
    call: Call, x: Array, value: float, watched: Watched, units: Array | None, slope: Array | None = None
) -> Descent:
    """Return a descent by differences from a point.

    Parameters
    ----------
    call : Call
        The arguments.
    x : (d,) array
        The point, within the bounds.
    value : float
        Its value.
    watched : Watched
        Holds the bounds.
    units : (d,) array or None
        Sizes of the variables.
    slope : (d,) array, optional
        The gradient at x, if it is paid for.

    Returns
    -------
    Descent
        It has not begun.
    """
    if descent_name(call) == "L-BFGS-B":
        return Descent("L-BFGS-B" if units is None else Stretched("L-BFGS-B", x, units))
    at = Coordinates.around(x, watched, np.ones(x.size) if units is None else units, boxed=False)
    tolerances = {} if call.tol is None else dict.fromkeys(("ftol", "gtol"), call.tol)
    given = {name: value for name, value in call.options.items() if name in ("ftol", "gtol")}
    solver = fd_bfgs(**{**tolerances, **given}, n_points=points_of_a_round(call))
    state = _first_state(solver, call, at)
    solver.begin(state, value, None if slope is None else slope[at.free] * at.scale)
    return Descent(_Sloped(solver, state, at.to_x, at))


def model(call: Call, x: Array, value: float, watched: Watched, sizes: Array, horizon: float | None = None) -> Asked:
    """Return a trust region with an interpolating model around a point, as a method that can be halted.

    Parameters
    ----------
    call : Call
        The arguments.
    x : (d,) array
        The point, within the bounds.
    value : float
        Its value.
    watched : Watched
        Holds the bounds.
    sizes : (d,) array
        First radius in every variable.
    horizon : float, optional
        How many values there are, where it is the first method.
    """
    at = Coordinates.around(x, watched, sizes, boxed=False)
    solver = interpolation(radius=1.0 / max(1.0, float(np.abs(at.of(x)).max(initial=0.0))), xtol=XTOL)
    state = _first_state(solver, call, at, horizon)
    solver.begin(state, value)
    return Asked(solver, state, at.to_x)


def _first_state(solver: Solver, call: Call, at: Coordinates, horizon: float | None = None) -> State:
    single = np.asarray(call.x0).dtype == np.float32  # the objective may compute in it
    start = at.of(at.x).astype(np.float32 if single else np.float64)
    info = ProblemInfo(lower=at.of(at.lower), upper=at.of(at.upper))
    return solver.init(start, seed=0, backend="numpy", info=info, horizon=horizon)
