"""BFGS with gradients by finite differences, for deterministic objectives without a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.late import told_value
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers._differences import (
    CURVATURE,
    LINE,
    MIRROR,
    RUNGS,
    SLOPE,
    START,
    bounds_of,
    is_flat,
    legs_of,
    measure_curvatures,
    slope_of,
)
from vamo_bbo.solvers._path import first_bound, free_variables, point_at
from vamo_bbo.solvers._placing import check_points
from vamo_bbo.solvers._secant import forget_curvatures, newton_direction, update_hessian

__all__ = ["DifferenceBFGS", "fd_bfgs"]

LIMIT = 1000
"""Most variables: a step factorizes a matrix of d x d numbers."""
ARMIJO = 1e-4
"""Share of the promised decrease that a step must bring (Nocedal and Wright 2006, equation 3.4)."""
MISLED = 0.2
"""Curvatures at x0 that make the first step longer by more than the inverse of this are no guide."""
TRIALS, EXPANSIONS = 25, 6
"""Most points of a line search that goes back, and of one that goes on."""
HOPEFUL = 3
"""Trial points of a search of which the gradient is evaluated ahead: later ones are those of a search that fails."""
_BACK, _ON, _BETWEEN = range(3)
_MAX_FAILED_STARTS = 20
_COUNTS = (
    "rung",
    "mode",
    "trials",
    "length",
    "best_length",
    "small",
    "stuck",
    "measured",
    "scaled",
    "ended",
    "tried",
    "failed",
    "ignored",
)


def fd_bfgs(ftol: float = 2.220446049250313e-09, gtol: float = 1e-5, n_points: int = 1) -> DifferenceBFGS:
    """Quasi-Newton method on finite differences, for smooth deterministic functions without a gradient.

    Parameters
    ----------
    ftol : float >= 0, default 2.2e-9
        Converged when two steps in a row reduce f by less than so much, relative to ``|f|``, or to the smaller of
        ``|f(x0)|`` and 1 where that is more. The default is that of scipy's L-BFGS-B.
    gtol : float >= 0, default 1e-5
        Converged when no component of the projected gradient is larger, relative to the smaller of ``|f(x0)|`` and 1.
    n_points : int >= 1, default 1
        Points that are evaluated at the same time. If d is no multiple of it, the remainder of the gradient at a trial
        point is evaluated with that point, which saves a round. The path and the answer stay the same.

    Returns
    -------
    DifferenceBFGS
        The solver.

    Raises
    ------
    OptionError
        ``ftol`` or ``gtol`` is negative or not a number, or ``n_points`` not a whole number >= 1.

    Notes
    -----
    What is different from scipy's BFGS and L-BFGS-B on differences, whose line searches pay d + 1 values for each
    trial point because they want its slope:

    * Trial points cost one value. The line search goes back, or on, to the minimum of the parabola through what it
      knows, until that is no longer worth a value.
    * d values at x0 measure the curvature in every variable over a tenth of its size. Where they differ by more than a
      factor of ``RATIO ** 2`` they are the first Hessian (variables in different units, flat directions), unless its
      first step turns out to be five times too long (a saddle). Else that is a multiple of the unit matrix (Nocedal and
      Wright 2006, equation 6.20).
    * In the first d steps the Hessian is scaled down to the curvature of a step where it exceeds that: directions that
      no step has seen hold a guess (M. Al-Baali, Numerical experience with a class of self-scaling quasi-Newton
      algorithms, J. Optim. Theory Appl. 96 (1998); there in every step).
    * Bounds: variables at a bound that the descent would cross are fixed for a step, the others move along the
      projected path (D. P. Bertsekas, Projected Newton methods for optimization problems with simple constraints, SIAM
      J. Control Optim. 20 (1982)).
    * Forward differences give way to central ones where no better point is found, or none that is worth while, and
      these to central ones over longer steps, for objectives that print seven digits. A failed point is measured on
      the other side.

    The Hessian is updated by BFGS, damped where curvature is negative (Nocedal and Wright 2006, section 18.3). A round
    has ``d + 1`` points (the start), d (curvatures; a gradient; 2 d if central) or one (a trial): workers evaluate the
    points of a round at the same time. With ``n_points`` the round of a trial point has what the gradient there would
    have in a round that is not full: it is wanted if the trial succeeds, as most do (R. H. Byrd, R. B. Schnabel and
    G. A. Shultz, Parallel quasi-Newton methods for unconstrained optimization, Math. Program. 42, 1988). Memory: d^2;
    time of a step: O(d^3).

    With noise, differences over such short steps are worthless: use :func:`quadratic`, :func:`cma` or :func:`spsa`.

    References
    ----------
    J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed., Springer 2006, algorithm 6.1, sections 8.1 and 18.3.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> def rosenbrock(x):
    ...     return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    >>> result = vb.minimize(rosenbrock, np.array([-1.2, 1.0]), method="fd-bfgs", maxfev=300)
    >>> bool(result.success), bool(result.fun < 1e-9)
    (True, True)
    """
    return DifferenceBFGS(ftol, gtol, n_points)


@dataclass(frozen=True, slots=True)
class DifferenceBFGS:
    """The solver behind :func:`fd_bfgs`."""

    ftol: float = 2.220446049250313e-09
    gtol: float = 1e-5
    n_points: int = 1

    def __post_init__(self) -> None:
        check_points("fd-bfgs", self.n_points)
        for name in ("ftol", "gtol"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise OptionError(f"fd-bfgs: {name} must be a number >= 0, got {value!r}.")

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        if info.levels is not None or info.device:
            raise CapabilityError("fd-bfgs is for real coordinates on the host.")
        if info.noisy:
            raise CapabilityError("fd-bfgs is for deterministic objectives; use 'quadratic', 'cma' or 'spsa'.")
        d = x0.size
        if d > LIMIT:
            raise CapabilityError(f"fd-bfgs is for at most {LIMIT} variables, got {d}; use 'L-BFGS-B' or 'zo-sgd'.")
        state = State(seed=seed, backend=backend, info=info)
        nothing = np.full(d, np.nan)
        state.arrays = {
            "x": np.array(x0),
            "best": np.array(x0, dtype=np.float64),
            "slope": nothing,
            "descent": np.zeros(d),
            "moved": np.zeros(d),
            "hessian": np.eye(d),
            "first_hessian": np.ones(d),
            "plus": nothing.copy(),
            "minus": nothing.copy(),
            "ahead": np.empty((0, d)),
            "ahead_values": np.empty(0),
        }
        state.versions = dict.fromkeys(state.arrays, 0)
        state.scalars = dict.fromkeys(_COUNTS, 0.0)
        state.scalars |= {"ignored": 0.0, "value": math.nan, "best_value": math.inf, "unit": 1.0, "step_size": math.nan}
        return state

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the open probes."""
        anchor, dtype = state.anchor("x"), state.arrays["x"].dtype
        asked = self._round(state)
        probes = [Probe(_id(state, k), anchor, point=p.astype(dtype, copy=False)) for k, p in asked.items()]
        return tuple(p for p in probes if p.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last of a round decides on the next."""
        for answer in answers:
            asked = self._round(state)
            if answer.id[:3] != _id(state, 0)[:3] or answer.id[3] not in asked or answer.id in state.inbox:
                state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == len(asked):
                self._told(state, asked)
        return state

    def _round(self, state: State) -> dict[int, FloatArray]:
        """Return what is to be evaluated: the points of the open round, and part of the gradient at a trial point."""
        key = (state.step, state.phase, state.attempt)
        cached = state.cache.get("round")
        if cached is None or cached[0] != key:
            points, known = _points(state), _known(state)
            asked = {k: point for k, point in enumerate(points) if k not in known}
            if state.phase == LINE and state.scalars["trials"] < HOPEFUL:
                legs = legs_of(state, points[0])
                for leg, (k, step) in enumerate(legs[: len(legs) % self.n_points]):
                    asked[1 + leg] = points[0].copy()
                    asked[1 + leg][k] += step
            cached = (key, asked)
            state.cache["round"] = cached
        found: dict[int, FloatArray] = cached[1]
        return found

    def _told(self, state: State, asked: dict[int, FloatArray]) -> None:
        """Close a round, and those after it whose values are known."""
        told = {k: told_value(state.inbox[_id(state, k)]) for k in asked}
        state.inbox = {}
        values = {**_known(state), **told}
        size = len(_points(state))
        new = [k for k in asked if k >= size and not math.isnan(told[k])]
        kept = len(state.arrays["ahead"]) if state.phase == LINE else 0  # the best trial need not be the latest
        rows = np.array([asked[k] for k in new]).reshape(-1, state.arrays["x"].size)
        state.arrays["ahead"] = np.vstack([state.arrays["ahead"][:kept], rows])
        state.arrays["ahead_values"] = np.append(state.arrays["ahead_values"][:kept], [told[k] for k in new])
        self._close(state, np.array([values[k] for k in range(size)]))
        while self.status(state) is None and _points(state) and not self._round(state):
            values = _known(state)
            state.arrays |= {"ahead": rows[:0], "ahead_values": np.empty(0)}
            self._close(state, np.array([values[k] for k in range(len(values))]))

    def status(self, state: State) -> Status | None:
        """Return convergence, or that x0 keeps failing."""
        if state.phase == START and state.attempt >= _MAX_FAILED_STARTS:
            return Status(4, False, f"fd-bfgs: the objective failed at x0 {_MAX_FAILED_STARTS} times.")
        return _ENDINGS[int(state.scalars["ended"])]

    def recommend(self, state: State) -> Array:
        """Return the iterate."""
        return state.arrays["x"]

    def begin(self, state: State, value: float, slope: FloatArray | None = None) -> None:
        """Tell a first state the value, and the gradient (d,), at x0, so that it need not pay for them."""
        _take_value(state, value)
        if slope is None:
            _open_slope(state)
            if not legs_of(state):
                self._sloped(state)
        else:
            self._first(state, np.array(slope, dtype=np.float64))

    def move(self, state: State, x: Array, value: float) -> None:
        """Go on from a better point ``x`` (d,) that others have found; the way to it counts as a step."""
        scalars, arrays = state.scalars, state.arrays
        if self.status(state) is not None or not scalars["measured"] or state.phase == CURVATURE:
            return
        if value < min(scalars["value"], scalars["best_value"]):
            arrays["moved"] = arrays["moved"] + (x - arrays["x"].astype(np.float64))
            arrays["x"][...] = x
            state.versions["x"] += 1
            state.attempt, state.inbox = state.attempt + 1, {}
            scalars |= {"value": value, "stuck": 0.0, "small": 0.0}
            _open_slope(state)

    def _first(self, state: State, slope: FloatArray) -> None:
        state.arrays["slope"], state.scalars["measured"] = slope, 1.0
        state.phase = CURVATURE
        if len(legs_of(state)) < 2:  # sizes are compared
            self._descend(state)

    def _close(self, state: State, values: FloatArray) -> None:
        """Take the values of a round, and open the next."""
        phase = state.phase
        state.attempt += 1
        if phase == START:
            if not math.isfinite(values[0]):
                return
            _take_value(state, values[0])
            values = values[1:]
        if phase == LINE:
            self._tried(state, float(values[0]))
            return
        if phase == CURVATURE:
            measure_curvatures(state, values)
            self._descend(state)
            return
        for (k, step), value in zip(legs_of(state), values, strict=True):
            state.arrays["plus" if step > 0 else "minus"][k] = value
        if state.scalars["rung"] == 0 and phase != MIRROR:
            state.phase = MIRROR
            if legs_of(state):
                return
        self._sloped(state)

    def _sloped(self, state: State) -> None:
        """Take a new gradient: update the Hessian after a step, and look whether the step was worth while."""
        arrays, scalars = state.arrays, state.scalars
        slope = slope_of(state)
        if not scalars["measured"]:
            self._first(state, slope)
            return
        if arrays["moved"].any():
            update_hessian(state, slope - arrays["slope"])
            arrays["slope"] = slope
            arrays["moved"] = np.zeros(slope.size)
            state.step, state.attempt = state.step + 1, 0
            if scalars["small"]:
                if scalars["rung"] == 0:
                    _climb(state)
                    return
                if scalars["small"] >= 2:
                    scalars["ended"] = _FTOL
                    return
        arrays["slope"] = slope
        self._descend(state)

    def _descend(self, state: State) -> None:
        """Open a line search, or end where there is nothing to descend."""
        scalars, arrays = state.scalars, state.arrays
        g, x = arrays["slope"], arrays["x"].astype(np.float64)
        free = free_variables(state, g)
        lower, upper = bounds_of(state)
        if np.abs((x - g).clip(lower, upper) - x)[free].max(initial=0.0) <= self.gtol * scalars["unit"]:
            last = len(RUNGS) - 1 if is_flat(state) else 1
            if scalars["rung"] < last and (lower < upper).any():
                _climb(state)
            else:
                scalars["ended"] = _GTOL
            return
        arrays["descent"] = newton_direction(state, g, free)
        length = 1.0
        if not scalars["scaled"]:
            length = 1.0 / max(1.0, float(np.linalg.norm(arrays["descent"])))
        scalars |= {"mode": _BACK, "trials": 0.0, "best_value": scalars["value"], "best_length": 0.0}
        self._try(state, length)

    def _try(self, state: State, length: float) -> None:
        """Ask for the point at this length of the path, or a shorter one where the path has left the descent."""
        x, g = state.arrays["x"].astype(np.float64), state.arrays["slope"]
        for _ in range(60):
            point = point_at(state, length)
            if np.array_equal(point, x):
                break
            if g @ (point - x) < 0.0:
                state.phase = LINE
                state.scalars["length"] = length
                return
            length = min(0.5 * length, first_bound(state))
        self._accept(state)

    def _tried(self, state: State, value: float) -> None:
        """Judge a trial point: go back, go on, look between, or take the best."""
        scalars = state.scalars
        f, length = scalars["value"], scalars["length"]
        x, point = state.arrays["x"].astype(np.float64), point_at(state, length)
        promised = float(state.arrays["slope"] @ (point - x))
        slope = float(state.arrays["slope"] @ state.arrays["descent"])
        better = value < scalars["best_value"]
        if better:
            state.arrays["best"], scalars["best_value"], scalars["best_length"] = point, value, length
        bend = value - f - slope * length
        least = -slope * length**2 / (2.0 * bend) if bend > 0.0 else math.inf
        scalars["trials"] += 1.0
        scalars["tried"] += 1.0
        scalars["failed"] += value == math.inf
        if scalars["mode"] == _BACK and not value <= f + ARMIJO * promised:
            if scalars["trials"] >= TRIALS:
                self._accept(state)
            else:
                back = min(max(least, 0.1 * length), 0.5 * length) if math.isfinite(value) else 0.1 * length
                self._try(state, back)
            return
        if scalars["mode"] == _BACK and least < 0.6 * length:
            scalars["mode"] = _BETWEEN
            self._try(state, least)
            return
        if scalars["mode"] != _BETWEEN and better and least > 1.5 * length and scalars["trials"] < EXPANSIONS:
            farther = min(least, 4.0 * length)
            if not np.array_equal(point_at(state, farther), point):
                scalars["mode"] = _ON
                self._try(state, farther)
                return
        self._accept(state)

    def _accept(self, state: State) -> None:
        """Move to the best trial point, or take a better gradient where there is none."""
        scalars, arrays = state.scalars, state.arrays
        if scalars["best_length"] == 0.0:
            if scalars["rung"] < len(RUNGS) - 1:
                _climb(state)
                return
            if scalars["stuck"]:
                scalars["ended"] = _STUCK
                return
            scalars["stuck"] = 1.0
            arrays["hessian"] = np.diag(arrays["first_hessian"])
            self._descend(state)
            return
        if state.step == 0 and scalars["scaled"] and scalars["best_length"] < MISLED:
            forget_curvatures(state)
        f, value = scalars["value"], scalars["best_value"]
        arrays["moved"] = arrays["best"] - arrays["x"].astype(np.float64)
        arrays["x"][...] = arrays["best"]
        state.versions["x"] += 1
        small = f - value <= self.ftol * max(abs(f), abs(value), scalars["unit"])
        scalars |= {"value": value, "stuck": 0.0, "small": scalars["small"] + 1.0 if small else 0.0}
        scalars["step_size"] = float(np.linalg.norm(arrays["moved"]))
        _open_slope(state)


_FTOL, _GTOL, _STUCK = 1, 2, 3
_ENDINGS = (
    None,
    Status(0, True, "fd-bfgs: two steps in a row reduced f by less than ftol."),
    Status(0, True, "fd-bfgs: the norm of the projected gradient is below gtol."),
    Status(0, True, "fd-bfgs: no better point along the gradient, however it was measured."),
)


def _take_value(state: State, value: float) -> None:
    """Take the value at x0, which is the unit of the tolerances where it is less than 1."""
    state.scalars["value"], state.scalars["unit"] = value, min(1.0, abs(value)) or 1.0


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)


def _points(state: State) -> list[FloatArray]:
    """Return what the open round evaluates: a function of the state alone."""
    key = (state.step, state.phase, state.attempt)
    cached = state.cache.get("points")
    if cached is None or cached[0] != key:
        cached = (key, _placed(state))
        state.cache["points"] = cached
    points: list[FloatArray] = cached[1]
    return points


def _known(state: State) -> dict[int, float]:
    """Return the values of those points of the open round that were evaluated ahead."""
    values = state.arrays["ahead_values"]
    if not values.size:
        return {}
    ahead = {row.tobytes(): float(value) for row, value in zip(state.arrays["ahead"], values, strict=True)}
    keys = {k: point.tobytes() for k, point in enumerate(_points(state))}
    return {k: ahead[key] for k, key in keys.items() if key in ahead}


def _placed(state: State) -> list[FloatArray]:
    if state.phase == LINE:
        return [point_at(state, state.scalars["length"])]
    x = state.arrays["x"].astype(np.float64)
    points = [x.copy()] if state.phase == START else []
    for k, step in legs_of(state):
        points.append(x.copy())
        points[-1][k] += step
    return points


def _climb(state: State) -> None:
    """Measure the gradient at the iterate again, more exactly."""
    state.scalars["rung"] += 1.0
    _open_slope(state)


def _open_slope(state: State) -> None:
    d = state.arrays["x"].size
    state.phase = SLOPE
    state.arrays["plus"], state.arrays["minus"] = np.full(d, np.nan), np.full(d, np.nan)
