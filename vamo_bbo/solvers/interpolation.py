"""A trust region with a quadratic that interpolates, for objectives without a gradient and with little or no noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.late import told_value
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers._differences import bounds_of
from vamo_bbo.solvers._interpolation import Interpolant, interpolate
from vamo_bbo.solvers._regression import in_ball, trust_region_step
from vamo_bbo.solvers._within import legs_within, sides_within

__all__ = ["FEW", "QuadraticInterpolation", "interpolation"]

LIMIT = 300
"""Most variables: a step inverts a matrix of three rows and more for each."""
SHARE, MOST = 6, 150
"""Points of a model for each variable, and in all; at least two for each variable and one."""
FEW = 10
"""Budgets in units of d + 1 up to which the second round is left out: a model of d + 1 points is straight, but its next
points are where low values are to be expected."""
POOR, GOOD = 0.1, 0.7
"""Shares of the promised decrease below which a step is a failure, and above which the region grows (Powell 2006)."""
FLATTEST = 1e-3
"""Least curvature relative to the largest, when the region takes a new shape: its axes differ by up to 30 times."""
SHORTER = 0.1
"""Share of the first radius in variables in which both steps failed; again, as long as they do."""
HIDDEN = 6.0
"""Noise decides where the values within NEARBY radii differ by at most so many of its standard deviations."""
NEARBY = 2.0
_NEAR, _SINGULAR = 1e-9, 1e10
_MAX_FAILED_STARTS = 20
START, SIDES, STEP, PLACE, AGAIN = range(5)
"""Phases: x0 and a point in every variable; a second one; the minimum of the model; a better place for a point; the
center again."""


def interpolation(radius: float = 1.0, xtol: float = 1e-8) -> QuadraticInterpolation:
    """Trust region whose model, a quadratic, interpolates: for functions of up to some 50 variables with little noise.

    Parameters
    ----------
    radius : float > 0, default 1
        First radius, relative to the largest ``|x0|``, or 1 where that is larger, in units of ``x_scale``; at most half
        the width of the box.
    xtol : float > 0, default 1e-8
        Converged when the region has shrunk to so much of its first radius.

    Returns
    -------
    QuadraticInterpolation
        The solver.

    Raises
    ------
    OptionError
        ``radius`` or ``xtol`` is not a positive number.

    Notes
    -----
    The method is in the spirit of Powell's NEWUOA and BOBYQA: the model interpolates, its Hessian changes as little as
    possible, the radius follows how well it predicts, and its lower limit falls only where the points are well placed
    around the best one. What is different:

    * A model has up to 6 d + 1 points (Powell recommends 2 d + 1), so that it remembers more.
    * Where the limit of the radius falls, the region takes the shape of the model: an ellipsoid along the axes of the
      Hessian, with lengths up to 30 times as different as those before. The least change of the Hessian is measured in
      the same metric. Long valleys become shorter ones; Powell's region is a ball in the variables as given.
    * The linear algebra is dense and starts anew at every step, so nothing has to be rescued.

    The first round has d + 1 points, the second d, every other one. Where no more than 10 (d + 1) values are stated,
    and there is no noise, the second is left out unless points of the first have failed. A failed point counts as the
    worst of the model's. The limit of the radius goes down to a tenth at a time. Memory: O(d^2); time of a step:
    O((7 d)^3), limited by ``MOST`` points. The recommended point is the best one.

    With noise the center is evaluated again wherever the limit falls. The run ends where the values around it differ by
    no more than 6 standard deviations of the noise (Py-BOBYQA has a rule of this kind: C. Cartis, J. Fiala, B. Marteau
    and L. Roberts, ACM TOMS 45 (2019), section 4); :func:`quadratic`, a regression, goes on from there.

    Under constraints, as "auto" runs it, every point is feasible, and a step leads to where the model is the lowest
    within the region and the constraints themselves (``vamo_bbo/feasible.py``). Equations leave the model fewer
    coordinates than there are variables.

    References
    ----------
    M. J. D. Powell, The NEWUOA software for unconstrained optimization without derivatives, in: Large-scale nonlinear
    optimization, Springer 2006; The BOBYQA algorithm for bound constrained optimization without derivatives, Cambridge
    NA 2009/06. The model's sources are in ``vamo_bbo/solvers/_interpolation.py``.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> def rosenbrock(x):
    ...     return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    >>> result = vb.minimize(rosenbrock, np.array([-1.2, 1.0]), method="interpolation", maxfev=300)
    >>> bool(result.fun < 1e-10)
    True
    """
    return QuadraticInterpolation(radius, xtol)


@dataclass(frozen=True, slots=True)
class QuadraticInterpolation:
    """The solver behind :func:`interpolation`."""

    radius: float = 1.0
    xtol: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("radius", "xtol"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0.0 < value < math.inf):
                raise OptionError(f"interpolation: {name} must be a positive number, got {value!r}.")

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        if info.levels is not None or info.device:
            raise CapabilityError("interpolation is for real coordinates on the host.")
        d = x0.size
        if d > LIMIT:
            raise CapabilityError(f"interpolation is for at most {LIMIT} variables, got {d}; use 'fd-bfgs' or 'cma'.")
        state = State(seed=seed, backend=backend, info=info)
        state.arrays = {"x": np.array(x0), "points": np.empty((0, d)), "values": np.empty(0), "pairs": np.empty(0)}
        state.arrays |= {"hessian": np.zeros((d, d)), "root": np.eye(d), "asked": np.empty((0, d))}
        state.versions = dict.fromkeys(state.arrays, 0)
        lower, upper = bounds_of(state)
        width = float((upper - lower)[lower < upper].min(initial=math.inf))
        first = min(self.radius * max(1.0, float(np.abs(x0).max(initial=0.0))), 0.5 * width)
        state.scalars = dict.fromkeys(("promise", "length", "left", "ended", "hidden", "ignored"), 0.0)
        state.scalars["unsure"] = float(info.noisy)
        few = not info.noisy and horizon is not None and horizon <= FEW * (d + 1)
        state.scalars["few"] = float(few)
        state.scalars |= {"value": math.nan, "radius": first, "limit": first, "first": first, "step_size": first}
        _open(state, START, [state.arrays["x"].astype(np.float64), *_legs(state)])
        return state

    def begin(self, state: State, value: float) -> None:
        """Tell a first state the value at x0, so that it need not pay for it."""
        _take(state, state.arrays["x"].astype(np.float64), value)
        legs = _legs(state)
        state.scalars["ended"] = float(not legs)
        _open(state, START, legs)

    @one_thread()
    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the open probes."""
        anchor, dtype = state.anchor("x"), state.arrays["x"].dtype
        points = state.arrays["asked"]
        probes = [Probe(_id(state, k), anchor, point=p.astype(dtype, copy=True)) for k, p in enumerate(points)]
        return tuple(p for p in probes if p.id not in state.inbox)

    @one_thread()
    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last of a round decides on the next."""
        for answer in answers:
            size = len(state.arrays["asked"])
            if answer.id[:3] != _id(state, 0)[:3] or not 0 <= answer.id[3] < size or answer.id in state.inbox:
                state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == size:
                told = [told_value(state.inbox[_id(state, k)]) for k in range(size)]
                state.inbox = {}
                self._close(state, told)
        return state

    def status(self, state: State) -> Status | None:
        """Return convergence, or that x0 keeps failing."""
        if state.phase == START and state.attempt >= _MAX_FAILED_STARTS:
            return Status(4, False, f"interpolation: the objective failed at x0 {_MAX_FAILED_STARTS} times.")
        if state.scalars["hidden"]:
            return Status(0, True, "interpolation: noise hides what is left to gain.")
        if state.scalars["ended"]:
            return Status(0, True, "interpolation: the trust region has shrunk to xtol of its first radius.")
        return None

    def recommend(self, state: State) -> Array:
        """Return the best point."""
        return state.arrays["x"]

    def _close(self, state: State, values: list[float]) -> None:
        """Take the values of a round, and open the next."""
        points, phase, scalars = state.arrays["asked"], state.phase, state.scalars
        if phase == START and math.isnan(scalars["value"]) and not math.isfinite(values[0]):
            state.attempt += 1
            return
        state.step, state.attempt = state.step + 1, 0
        legs, sides = slice(int(math.isnan(scalars["value"])), None), []
        if phase == START and not (scalars["few"] and np.isfinite(values).all()):
            sides = _sides(state, points[legs], values[legs])
        if phase == AGAIN:
            _average(state, values[0])
            self._go_on(state)
            return
        if phase >= STEP and values[0] == math.inf:
            values = [float(state.arrays["values"].max())]  # a wall, which the model is to see
        center, value = state.arrays["x"].astype(np.float64), scalars["value"]
        if phase == PLACE and math.isfinite(values[0]):
            _leave_out(state, int(scalars["left"]))
        for point, told in zip(points, values, strict=True):
            if math.isfinite(told):
                _take(state, point, told)
        if phase == START and not len(points[legs]):
            scalars["ended"] = 1.0  # constraints leave one point
        elif sides:
            _open(state, SIDES, sides)
        elif phase == SIDES and (shorter := _shorter(state)):
            _open(state, SIDES, shorter)
        elif phase == STEP:
            self._judge(state, value, values[0])
        else:
            if phase == PLACE and not math.isfinite(values[0]):
                _refine(state)
            self._go_on(state)
        moved = float(np.linalg.norm(state.arrays["x"] - center))
        scalars["step_size"] = moved or scalars["step_size"]

    def _judge(self, state: State, before: float, value: float) -> None:
        """Change the radius as the step deserves, and go on."""
        scalars = state.scalars
        radius, limit, length = scalars["radius"], scalars["limit"], scalars["length"]
        gain = (before - value) / scalars["promise"] if math.isfinite(value) else -math.inf
        wanted = max(0.5 * radius, 2.0 * length if gain > GOOD else length) if gain > POOR else 0.5 * length
        scalars["radius"] = wanted if wanted > 1.5 * limit else limit
        if math.isfinite(value):
            self._go_on(state, poor=gain <= POOR, least=max(radius, length) <= 1.0001 * limit)
            return
        if radius <= limit:
            scalars["limit"] = scalars["radius"] = 0.5 * limit
        self._go_on(state)

    def _go_on(self, state: State, *, poor: bool = False, least: bool = False) -> None:
        """Open the next round, or end.

        Parameters
        ----------
        state : State
            The state.
        poor, least : bool
            The latest step was a failure; its region was the smallest that the limit allows.
        """
        scalars, arrays = state.scalars, state.arrays
        while not self._is_over(state):
            if scalars["unsure"]:
                scalars["unsure"] = 0.0
                _open(state, AGAIN, [arrays["x"]])
                return
            if _is_hidden(state):
                scalars["hidden"] = 1.0
                break
            model, others = _fit(state)
            if poor and _place(state, model, others):
                return
            if poor and least:
                poor = False
                _refine(state)
                continue
            poor = False
            radius, limit = scalars["radius"], scalars["limit"]
            step = _minimizer(state, model.slope, model.hessian)
            image = _frame(state)[0] @ step
            scalars["length"], scalars["promise"] = radius * float(np.linalg.norm(image)), -model.at(image)
            point = _seen(state, arrays["x"] + radius * step)
            seen = scalars["promise"] > np.finfo(np.float64).eps * abs(scalars["value"])
            if seen and scalars["length"] >= 0.5 * limit and not (arrays["points"] == point).all(axis=1).any():
                _open(state, STEP, [point])
                return
            shorter = 0.1 * radius
            scalars["radius"] = shorter if shorter > 1.5 * limit else limit
            if model.far.max(initial=0.0) * radius > 2.0 * scalars["radius"] and _place(state, *_fit(state)):
                return
            if radius <= limit:
                _refine(state)
        scalars["ended"] = 1.0

    def _is_over(self, state: State) -> bool:
        scalars, x = state.scalars, state.arrays["x"]
        unit = np.finfo(x.dtype).eps * float(np.abs(x).max(initial=0.0))
        return bool(scalars["limit"] <= max(self.xtol * scalars["first"], unit))


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)


def _open(state: State, phase: int, points: Sequence[FloatArray]) -> None:
    state.phase = phase
    state.arrays["asked"] = np.array([_seen(state, p) for p in points]).reshape(-1, state.arrays["x"].size)


def _seen(state: State, point: FloatArray) -> FloatArray:
    """Return a point as the objective will see it."""
    lower, upper = bounds_of(state)
    seen: FloatArray = point.clip(lower, upper).astype(state.arrays["x"].dtype).astype(np.float64)
    return seen


def _legs(state: State) -> list[FloatArray]:
    """Return one point in every variable."""
    x, radius = state.arrays["x"].astype(np.float64), state.scalars["radius"]
    if state.info.feasible is not None:
        return legs_within(state.info.feasible, x, radius)
    lower, upper = bounds_of(state)
    legs = np.where(upper - x >= radius, radius, np.where(x - lower >= radius, -radius, 0.0))
    return list(x + np.diag(legs))


def _sides(state: State, legs: FloatArray, values: list[float]) -> list[FloatArray]:
    """Return a second point in every variable: on the other side, or farther where the first one was better."""
    x, lower_value = state.arrays["x"].astype(np.float64), state.scalars["value"]
    lower, upper = bounds_of(state)
    points = []
    if state.info.feasible is not None:
        return sides_within(state.info.feasible, x, lower_value, list(legs), values)
    for k, (leg, value) in enumerate(zip(legs, values, strict=True)):
        step = float(leg[k] - x[k])
        shares = [2.0, -1.0, 0.5] if value < lower_value else [-1.0, 2.0, 0.5]
        share = next(share for share in shares if lower[k] <= x[k] + share * step <= upper[k])
        if step:
            points.append(x.copy())
            points[-1][k] += share * step
    return points


def _shorter(state: State) -> list[FloatArray]:
    """Return shorter steps to both sides in the variables in which no step has succeeded; none where all have.

    The region shrinks to these steps: the model of a variable without a value is a guess.
    """
    x, scalars = state.arrays["x"].astype(np.float64), state.scalars
    lower, upper = bounds_of(state)
    if state.info.feasible is not None:
        seen = int((state.arrays["points"] != x).any(axis=1).sum())
        if seen >= len(_frame(state)[0]) or scalars["radius"] <= _NEAR * scalars["first"]:
            return []
        scalars["radius"] = scalars["limit"] = SHORTER * scalars["radius"]
        return _legs(state)
    unseen = (state.arrays["points"] == x).all(axis=0) & (lower < upper)
    if not unseen.any() or scalars["radius"] <= _NEAR * scalars["first"]:
        return []
    scalars["radius"] = scalars["limit"] = SHORTER * scalars["radius"]
    steps = [(k, sign * scalars["radius"]) for k in np.flatnonzero(unseen) for sign in (1.0, -1.0)]
    points = [x + step * (np.arange(x.size) == k) for k, step in steps if lower[k] <= x[k] + step <= upper[k]]
    return points


def _take(state: State, point: FloatArray, value: float) -> None:
    """Take a value; a lower one moves the center."""
    arrays = state.arrays
    arrays["points"], arrays["values"] = np.vstack([arrays["points"], point]), np.append(arrays["values"], value)
    if not value >= state.scalars["value"]:
        state.scalars["value"] = value
        arrays["x"][...] = point
        state.versions["x"] += 1


def _leave_out(state: State, k: int) -> None:
    for name in ("points", "values"):
        state.arrays[name] = np.delete(state.arrays[name], k, axis=0)


def _frame(state: State) -> tuple[FloatArray, FloatArray]:
    """Return what makes steps, in radii, coordinates of the model, (q, d), and what makes them steps again, (d, q).

    q = d, less the number of equations among the constraints: the model's coordinates are those of the tangent space.
    """
    root = state.arrays["root"]
    basis = None if state.info.feasible is None else state.info.feasible.tangent(state.arrays["x"].astype(np.float64))
    if basis is None:
        return root, np.linalg.inv(root)
    triangle = np.linalg.qr(root @ basis, mode="r")
    return triangle @ basis.T, basis @ np.linalg.inv(triangle)


def _room(state: State) -> tuple[FloatArray, FloatArray]:
    """Return the bounds around the center in radii."""
    x, (lower, upper) = state.arrays["x"].astype(np.float64), bounds_of(state)
    radius = state.scalars["radius"]
    return np.minimum((lower - x) / radius, 0.0), np.maximum((upper - x) / radius, 0.0)


def _fit(state: State) -> tuple[Interpolant, Array]:
    """Leave out what is too much, and return the model in radii around the center, and which points it is made of.

    Its Hessian becomes the one from which the next differs least.
    """
    arrays, radius = state.arrays, state.scalars["radius"]
    root, inverse = _frame(state)
    x, d = arrays["x"].astype(np.float64), len(root)
    most = max(2 * d + 1, min(SHARE * d + 1, (d + 1) * (d + 2) // 2, MOST))
    prior = radius**2 * inverse.T @ arrays["hessian"] @ inverse
    while True:
        others = np.flatnonzero((arrays["points"] != x).any(axis=1))
        rows = (arrays["points"][others] - x) @ root.T / radius
        far = np.linalg.norm(rows, axis=1)
        if far.size and far.min() <= _NEAR:
            _leave_out(state, int(others[far.argmin()]))
            continue
        try:
            model = interpolate(rows, arrays["values"][others] - state.scalars["value"], prior)
        except np.linalg.LinAlgError:
            _leave_out(state, int(others[far.argmax()]))
            continue
        if others.size < most and not (others.size > d and model.uselessness.max() > _SINGULAR):
            break
        # a point within the region is the less useful the nearer it is to the center
        _leave_out(state, int(others[(model.uselessness / np.minimum(far, 1.0) ** 4).argmax()]))
    if np.isfinite(model.hessian).all():
        arrays["hessian"] = root.T @ model.hessian @ root / radius**2
    return model, others


def _minimizer(state: State, slope: FloatArray, hessian: FloatArray, reach: float = 1.0) -> FloatArray:
    """Return the step, in radii, to the minimum of a quadratic of the region's own axes, within ``reach`` radii."""
    (root, inverse), (low, high) = _frame(state), _room(state)
    if state.info.feasible is not None:
        x, radius = state.arrays["x"].astype(np.float64), reach * state.scalars["radius"]
        slope, hessian = reach * slope, reach**2 * hessian
        start = inverse @ in_ball(slope, hessian, 1.0)
        point = state.info.feasible.lowest(x, radius, root, slope, hessian, start)
        found: FloatArray = (point - x) / state.scalars["radius"]
        return found
    step = np.asarray(np.linalg.solve(root, in_ball(slope, hessian, reach)))
    if ((step < low) | (step > high)).any():
        slope, hessian = reach * root.T @ slope, reach**2 * root.T @ hessian @ root
        step = reach * trust_region_step(slope, hessian, low / reach, high / reach, root)
    return step


def _place(state: State, model: Interpolant, others: Array) -> bool:
    """Open a round for a better place of the farthest point, where that is far; return whether there is one."""
    if not others.size or model.far.max() <= 2.0:
        return False
    k = int(model.far.argmax())
    scalars = state.scalars
    reach = max(min(0.1 * float(model.far[k]), 0.5), scalars["limit"] / scalars["radius"])
    slope, hessian = model.lagrange(k)
    found = [_minimizer(state, sign * slope, sign * hessian, reach) for sign in (1.0, -1.0)]
    images = [_frame(state)[0] @ step for step in found]
    best = found[int(np.argmax([abs(float(slope @ s + 0.5 * s @ hessian @ s)) for s in images]))]
    point = _seen(state, state.arrays["x"] + scalars["radius"] * best)
    if (state.arrays["points"] == point).all(axis=1).any():
        return False
    scalars["left"] = float(others[k])
    _open(state, PLACE, [point])
    return True


def _average(state: State, value: float) -> None:
    """Take a second value at the center: their mean, and what it says of the noise."""
    arrays, before = state.arrays, state.scalars["value"]
    if math.isfinite(value):
        arrays["pairs"] = np.append(arrays["pairs"], value - before)[-2:]
        state.scalars["value"] = 0.5 * (before + value)
        arrays["values"][(arrays["points"] == arrays["x"]).all(axis=1)] = state.scalars["value"]


def _is_hidden(state: State) -> bool:
    """Return whether the values around the center differ by no more than noise, as the latest pairs show it."""
    arrays = state.arrays
    if not arrays["pairs"].any():
        return False
    rows = (arrays["points"] - arrays["x"]) @ _frame(state)[0].T / state.scalars["radius"]
    values = arrays["values"][np.linalg.norm(rows, axis=1) <= NEARBY]
    noise = math.sqrt(0.5 * float(np.mean(arrays["pairs"] ** 2)))
    return bool(values.size > 1 + arrays["x"].size // 2 and np.ptp(values) < HIDDEN * noise)


def _refine(state: State) -> None:
    """Lower the limit of the radius, and give the region the shape of the model."""
    scalars, root = state.scalars, state.arrays["root"]
    scalars["unsure"] = float(state.info.noisy)
    scalars["radius"], scalars["limit"] = 0.5 * scalars["limit"], 0.1 * scalars["limit"]
    frame, inverse = _frame(state)
    curvature, axes = np.linalg.eigh(inverse.T @ state.arrays["hessian"] @ inverse)
    sizes = np.abs(curvature)
    if not (np.isfinite(sizes).all() and sizes.max(initial=0.0) > 0.0):
        return
    sizes = np.maximum(sizes, FLATTEST * sizes.max())
    sizes = np.exp(0.5 * (np.log(sizes) - np.log(sizes).mean()))
    shaped = (axes * sizes) @ axes.T @ frame
    if len(shaped) < root.shape[1]:  # the other directions, which equations forbid, keep their lengths
        rest = root - root @ inverse @ frame
        shaped = np.linalg.cholesky(shaped.T @ shaped + rest.T @ rest + 1e-12 * np.eye(root.shape[1])).T
    if np.linalg.cond(shaped) < _SINGULAR:
        state.arrays["root"] = shaped
