"""A trust region with a quadratic fitted to noisy values by regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers._placing import check_points, in_unit_ball, well_placed
from vamo_bbo.solvers._regression import Fit, fit, in_ball, trust_region_step
from vamo_bbo.solvers._within import legs_within

__all__ = ["QuadraticRegression", "quadratic"]

_MAX_FAILED_ATTEMPTS = 20
REACH = 2.5
"""Points within so many radii are fitted."""
MOST = 150
"""Most points that are fitted: the time of a step grows with their cube."""
KEPT = 1000
"""Most points that are remembered."""
REPEATS = 5
"""Pairs of values at one point from which the noise is taken."""
WRONG = 9.0
"""The model is wrong where its residual variance is so many times that of the noise: few pairs often tell a third of
it. The quotient of a variance of many values and one of five exceeds 9 in one case of a hundred (F distribution)."""
EVIDENCE = 1.0
"""Noise is taken for relative to the value where that makes each pair so much more likely, in twice its logarithm."""
LIMIT = 300
"""Most variables: a fit takes as many points and more."""
DRAWN = 40
"""Points among which the one with the largest standard error is evaluated."""
LED = 5
"""Under constraints, the most uncertain of these that are led to the feasible set."""
APART = 0.01
"""Known points that are closer to each other, in first radii, say little about a slope: one of them is fitted."""
SMALLEST, LARGEST = 1e-8, 1e3
"""Limits of the radius, relative to the first."""


def quadratic(radius: float = 0.3, patience: float = math.inf, n_points: int = 1) -> QuadraticRegression:
    """Trust region whose model, a quadratic, is a regression: for noisy functions of up to some 30 variables.

    Parameters
    ----------
    radius : float > 0, default 0.3
        First radius, relative to the width of the box where all bounds are finite, else to the largest ``|x0|``, or 1
        where that is larger, in units of ``x_scale``.
    patience : float > 0, default inf
        The run converges when the center's value, as the model knows it, has not fallen by more than the noise of one
        value in ``patience (d + 1)`` values. Default: it goes on to average the noise for as long as the budget lasts.
    n_points : int >= 1, default 1
        Points per round, which several workers evaluate at the same time.

    Returns
    -------
    QuadraticRegression
        The solver.

    Raises
    ------
    OptionError
        ``radius`` or ``patience`` is not a positive number, or ``n_points`` not a whole number >= 1.

    Notes
    -----
    ``m`` is the model of the points within 2.5 radii, ``s`` its minimizer in the region, ``e`` the standard error of
    ``m(s) - m(0)``, and sigma the noise as pairs of values at one point show it. A round is one of

    * the point ``s``, where ``-m(s) > e``, and every third time in any case. If the model that knows its value still
      says that it is lower, and the value is not far above the model, the center moves there. The radius is doubled if
      the model promised well, and halved if it did not although the promise was significant;
    * else the point of the region where the model is most uncertain. Where many of these have brought no significant
      promise, the radius is halved if the residuals are far larger than the noise (the model is wrong), and grows if
      the model changes by less than 10 sigma over the region (noise hides it);
    * two values at the center, where residuals and noise disagree: noise may depend on x.

    The pairs also tell whether the noise is a share of the value. If so it falls with the value of the center, and a
    point that is k times as high as that has a weight of 1 / k^2.

    So the region never shrinks to where noise decides. The first round has ``d + 2`` points, every other one, or
    ``n_points``: then each has the point ``s``, the two at the center where they are due, and as many more as are
    missing where the model, which knows the others of the round, is the most uncertain. A failed point is left out, and
    halves the radius. Time per round: O(150^3); memory 1000 d. The recommended point is the center.

    References
    ----------
    Radius and promise are those of any trust region (A. R. Conn, K. Scheinberg and L. N. Vicente, Introduction to
    derivative-free optimization, 2009, chapters 4 and 10), and the idea that a region must not be smaller than noise
    allows is in F. Augustin and Y. M. Marzouk, A trust-region method for derivative-free nonlinear constrained
    stochastic optimization, arXiv:1703.04156, and C. Cartis, J. Fiala, B. Marteau and L. Roberts, ACM TOMS 45 (2019).
    The rules above are our own; the model's sources are in ``vamo_bbo/solvers/_regression.py``.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> noise = np.random.default_rng(0)
    >>> def fun(x):
    ...     return float(((x - 1) ** 2).sum() + 0.1 * noise.normal())
    >>> result = vb.minimize(fun, np.zeros(4), method="quadratic", noisy=True, rng=1, maxfev=200)
    >>> bool(abs(result.x - 1).max() < 0.1)
    True
    """
    return QuadraticRegression(radius, patience, n_points)


class _Plan(NamedTuple):
    """The open round: what it evaluates, and the model behind it."""

    kind: str
    points: list[FloatArray]
    model: Fit | None = None
    step: FloatArray | None = None
    promise: float = 0.0
    error: float = 0.0
    pair: int | None = None  # where the first of two values at the center is


@dataclass(frozen=True, slots=True)
class QuadraticRegression:
    """The solver behind :func:`quadratic`."""

    radius: float = 0.3
    patience: float = math.inf
    n_points: int = 1

    def __post_init__(self) -> None:
        check_points("quadratic", self.n_points)
        if not self.patience > 0:
            raise OptionError(f"quadratic: patience must be a positive number, got {self.patience!r}.")
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise OptionError(f"quadratic: radius must be a positive number, got {self.radius!r}.")

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        if info.n_samples is not None or info.levels is not None or info.device:
            raise CapabilityError("quadratic is for plain objectives of real coordinates on the host.")
        if x0.size > LIMIT:
            raise CapabilityError(f"quadratic is for at most {LIMIT} variables, got {x0.size}; use 'cma' or 'spsa'.")
        state = State(seed=seed, backend=backend, info=info)
        state.arrays = {"x": np.array(x0), "pairs": np.empty((0, 2))}
        state.versions = dict.fromkeys(state.arrays, 0)
        boxed = info.lower is not None and info.upper is not None and np.isfinite(info.upper - info.lower).all()
        if boxed:
            assert info.lower is not None
            assert info.upper is not None
            size = float(np.max(info.upper - info.lower, initial=0.0)) or 1.0
        else:
            size = max(1.0, float(np.abs(x0).max(initial=0.0)))
        first = self.radius * size
        state.arrays["points"], state.arrays["values"] = _known(info, x0.size, APART * first)
        state.versions |= {"points": 0, "values": 0}
        state.scalars = {"radius": first, "first": first, "quiet": 0.0, "checked": 0.0, "told": 0.0, "ignored": 0.0}
        state.scalars |= {"n_points": float(self.n_points), "value": 0.0}
        state.scalars |= {"step_size": first, "level": math.inf, "level_at": 0.0}
        return state

    @one_thread()
    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the open probes."""
        anchor = state.anchor("x")
        points = [p.astype(state.arrays["x"].dtype) for p in _plan(state).points]
        probes = [Probe(_id(state, k), anchor, point=_inside(p, state.info)) for k, p in enumerate(points)]
        return tuple(p for p in probes if p.id not in state.inbox)

    @one_thread()
    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last of a round moves the center and changes the radius."""
        for answer in answers:
            size = len(_plan(state).points)
            if answer.id[:3] != _id(state, 0)[:3] or not 0 <= answer.id[3] < size or answer.id in state.inbox:
                state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == size:
                _close(state)
        return state

    def status(self, state: State) -> Status | None:
        """Return convergence at the smallest radius, or that rounds keep failing."""
        if state.attempt >= _MAX_FAILED_ATTEMPTS:
            return Status(4, False, f"quadratic: {_MAX_FAILED_ATTEMPTS} rounds in a row failed as a whole.")
        if state.scalars["radius"] <= SMALLEST * state.scalars["first"]:
            return Status(0, True, "quadratic: the trust region has shrunk to its smallest radius.")
        waited = self.patience * (state.arrays["x"].size + 1)
        if state.scalars["told"] - state.scalars["level_at"] > waited:
            return Status(0, True, f"quadratic: no progress beyond the noise in {waited:.0f} values.")
        return None

    def recommend(self, state: State) -> Array:
        """Return the center."""
        return state.arrays["x"]


def _known(info: ProblemInfo, d: int, apart: float) -> tuple[FloatArray, FloatArray]:
    """Return the latest known points of which no two are close, and their values."""
    points, values = np.empty((0, d)), np.empty(0)
    if info.known_points is not None and info.known_values is not None:
        points, values = info.known_points.astype(np.float64), info.known_values.astype(np.float64)
    kept: list[int] = []
    for k in reversed(range(len(values))):
        if np.linalg.norm(points[kept] - points[k], axis=1).min(initial=math.inf) > apart and len(kept) < KEPT:
            kept.append(k)
    return points[kept[::-1]], values[kept[::-1]]


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)


def _inside(x: Array, info: ProblemInfo) -> Array:
    return x if info.lower is None or info.upper is None else x.clip(info.lower, info.upper).astype(x.dtype)


def _plan(state: State) -> _Plan:
    """Return what the open round evaluates: a function of the state alone."""
    key = (state.step, state.attempt)
    cached = state.cache.get("plan")
    if cached is None or cached[0] != key:
        cached = (key, _planned(state))
        state.cache["plan"] = cached
    plan: _Plan = cached[1]
    return plan


def _planned(state: State) -> _Plan:
    x, d = state.arrays["x"].astype(np.float64), len(_frame(state))
    scalars = state.scalars
    if state.step == 0 and state.attempt == 0:
        legs = [] if len(state.arrays["values"]) > d + 1 else _legs(state)
        start = [x] * (2 if state.info.noisy else 1) + legs
        return _Plan("start", start + _further(state, start, 1.0), pair=0 if state.info.noisy else None)
    drawn, alone = _drawn(state, DRAWN), scalars["n_points"] == 1
    if len(state.arrays["values"]) < d + 2:
        points = [_point(state, drawn[0])]
        return _Plan("explore", points + _further(state, points, 1.0))
    model, noise = _model(state), _noise(state)
    differs = not noise / 3.0 < model.residual < 3.0 * noise
    check = noise > 0.0 and differs and scalars["told"] - scalars["checked"] > d + 1
    if check and alone:
        return _Plan("check", [x, x], pair=0)
    point, s = _minimizer(state, model)
    promise, error = -model.at(s), float(model.errors(s[None])[0])
    if promise > error or scalars["quiet"] % 3 == 2 or not alone:
        points = [point, *([x, x] if check else [])]
        points += _further(state, points, model.ratio)
        return _Plan("step", points, model, s, promise, error, 1 if check else None)
    return _Plan("explore", [_uncertain(state, model, drawn)], model, s, promise, error)


def _frame(state: State) -> FloatArray:
    """Return what makes steps coordinates of the model, (q, d): q = d, less the equations among the constraints."""
    x = state.arrays["x"].astype(np.float64)
    basis = None if state.info.feasible is None else state.info.feasible.tangent(x)
    return np.eye(x.size) if basis is None else basis.T


def _legs(state: State) -> list[FloatArray]:
    """Return one point in every variable."""
    x, radius = state.arrays["x"].astype(np.float64), state.scalars["radius"]
    if state.info.feasible is not None:
        return legs_within(state.info.feasible, x, radius)
    return list(x + np.eye(x.size) * np.where(_room(state)[1] >= 1.0, radius, -radius))


def _point(state: State, s: FloatArray) -> FloatArray:
    """Return the point of a step s of the model, (q,): the feasible one next to it, the center where there is none."""
    x, radius, feasible = state.arrays["x"].astype(np.float64), state.scalars["radius"], state.info.feasible
    if feasible is None:
        return x + radius * s
    point = feasible.nearest(x + radius * (s @ _frame(state)))
    return x if point is None else point


def _minimizer(state: State, model: Fit) -> tuple[FloatArray, FloatArray]:
    """Return the point of the region where the model is the lowest, and its step."""
    x, radius, feasible = state.arrays["x"].astype(np.float64), state.scalars["radius"], state.info.feasible
    if feasible is None:
        s = trust_region_step(model.slope, model.hessian, *_room(state))
        return x + radius * s, s
    frame = _frame(state)
    start = in_ball(model.slope, model.hessian, 1.0) @ frame
    point = feasible.lowest(x, radius, frame, model.slope, model.hessian, start)
    return point, frame @ (point - x) / radius


def _uncertain(state: State, model: Fit, drawn: FloatArray) -> FloatArray:
    """Return the point where the model is the least certain."""
    order = np.argsort(-model.errors(drawn), kind="stable")
    if state.info.feasible is None:
        return _point(state, drawn[order[0]])
    points = np.array([_point(state, drawn[k]) for k in order[:LED]])
    rows = (points - state.arrays["x"]) @ _frame(state).T / state.scalars["radius"]
    best: FloatArray = points[int(np.argmax(model.errors(rows)))]
    return best


def _drawn(state: State, count: int) -> FloatArray:
    """Return random points of the region, in radii around the center."""
    generator = np.random.Generator(np.random.Philox(key=state.seed, counter=(state.step << 128) + state.attempt))
    drawn = in_unit_ball(generator, count, len(_frame(state)))
    return drawn.clip(*_room(state)) if state.info.feasible is None else drawn


def _further(state: State, points: list[FloatArray], ratio: float) -> list[FloatArray]:
    """Return what fills a round: points where the model, which knows the others of the round, is the least certain."""
    count = -len(points) % int(state.scalars["n_points"])
    if count == 0:
        return []
    x, radius = state.arrays["x"].astype(np.float64), state.scalars["radius"]
    rows, far = _distances(state)
    near = rows[far <= REACH][-max(MOST, 2 * x.size) :]
    known = np.vstack([near, (np.array(points) - x) @ _frame(state).T / radius])
    drawn = _drawn(state, DRAWN + 10 * count)
    chosen = well_placed(known, _spread(np.linalg.norm(known, axis=1)), drawn, count, ratio)
    return [_point(state, drawn[k]) for k in chosen]


def _spread(far: FloatArray) -> FloatArray:
    """Return the variances of values relative to one in the region, which a quadratic explains the better."""
    spread: FloatArray = np.maximum(1.0, far).clip(max=100.0) ** 4
    return spread


def _room(state: State) -> tuple[FloatArray, FloatArray]:
    """Return the bounds around the center in radii."""
    info, x = state.info, state.arrays["x"].astype(np.float64)
    if info.lower is None or info.upper is None:
        return np.full(x.size, -np.inf), np.full(x.size, np.inf)
    radius = state.scalars["radius"]
    return np.minimum((info.lower - x) / radius, 0.0), np.maximum((info.upper - x) / radius, 0.0)


def _distances(state: State) -> tuple[FloatArray, FloatArray]:
    rows = (state.arrays["points"] - state.arrays["x"].astype(np.float64)) / state.scalars["radius"]
    rows = rows if state.info.feasible is None else rows @ _frame(state).T
    return rows, np.linalg.norm(rows, axis=1)


def _model(state: State) -> Fit:
    """Fit the points around the center, the latest ones where they are many; nearest ones join where they are few."""
    rows, far = _distances(state)
    d = rows.shape[1]
    used = np.flatnonzero(far <= REACH)[-max(MOST, 2 * d) :]
    if used.size < d + 2 + d // 2:
        used = np.argsort(far, kind="stable")[: d + 2 + d // 2]
    spread, values = _spread(far[used]), state.arrays["values"][used]
    if _is_relative(state):
        spread *= np.abs(values / state.scalars["value"]).clip(1.0, 1e4) ** 2
    return fit(rows[used], values, spread, _noise(state))


def _noise(state: State) -> float:
    """Return the variance of a value at the center: the median of squared differences, which no outlier moves."""
    first, second = state.arrays["pairs"].T
    if first.size == 0:
        return 0.0
    differences = first - second
    if _is_relative(state):
        differences *= 2.0 * state.scalars["value"] / (first + second)
    return float(np.median(differences**2)) / 2.0 / (0.455 if first.size > 2 else 1.0)


def _is_relative(state: State) -> bool:
    """Return whether pairs of normal values are likelier with noise in proportion to the value than with equal one."""
    first, second = state.arrays["pairs"].T
    levels, differences = np.abs(first + second) / 2.0, first - second
    if first.size < 2 or not (levels.all() and differences.any() and state.scalars["value"]):
        return False
    equal, relative = (np.log(np.mean(d**2)) for d in (differences, differences / levels))
    return bool(equal - relative - 2.0 * np.mean(np.log(levels)) > EVIDENCE)


def _close(state: State) -> None:
    """Take the values of a round: new points, center, radius."""
    plan = _plan(state)
    answers = [state.inbox[_id(state, k)] for k in range(len(plan.points))]
    values = np.array([math.nan if a.error is not None else float(a.value) for a in answers])
    state.inbox = {}
    good = np.isfinite(values)
    if not good.any():
        state.attempt += 1
        _resize(state, 0.5)
        return
    _remember(state, np.array(plan.points)[good], values[good])
    if plan.model is not None:
        state.scalars["value"] = plan.model.value
        _note_level(state, plan.model)
    if plan.pair is not None and good[plan.pair : plan.pair + 2].all():
        pair = values[plan.pair : plan.pair + 2]
        state.arrays["pairs"] = np.vstack([state.arrays["pairs"], pair])[-REPEATS:]
        state.scalars["checked"], state.scalars["value"] = state.scalars["told"], float(pair.mean())
    state.scalars["noise_variance"] = _noise(state)
    if plan.kind == "step":
        _judge(state, plan, float(values[0]))
    if plan.model is not None and (plan.kind == "explore" or (len(plan.points) > 1 and plan.promise <= plan.error)):
        _explored(state, plan.model, len(plan.points))
    state.step, state.attempt = state.step + 1, 0
    state.scalars["step_size"] = state.scalars["radius"]


def _remember(state: State, points: FloatArray, values: FloatArray) -> None:
    arrays = state.arrays
    state.scalars["told"] += float(values.size)
    arrays["points"] = np.concatenate([arrays["points"], points])[-KEPT:]
    arrays["values"] = np.concatenate([arrays["values"], values])[-KEPT:]


def _note_level(state: State, model: Fit) -> None:
    """Remember when the center's value last fell by more than the noise of one value."""
    scalars, noise = state.scalars, _noise(state)
    step = math.sqrt(min(model.variance, noise) if noise > 0.0 else model.variance)
    if model.value < scalars["level"] - step:
        scalars["level"], scalars["level_at"] = model.value, scalars["told"]
    elif model.value > scalars["level"] + 3.0 * math.sqrt(model.variance):
        scalars["level"] = model.value  # an earlier model, of a wider region, was wrong


def _resize(state: State, factor: float) -> None:
    first = state.scalars["first"]
    state.scalars["radius"] = min(max(factor * state.scalars["radius"], SMALLEST * first), LARGEST * first)


def _move(state: State, point: FloatArray) -> None:
    x = state.arrays["x"]
    x[...] = _inside(point.astype(x.dtype), state.info)
    state.versions["x"] += 1


def _range_of(model: Fit) -> float:
    """Return how much the model changes over the region."""
    return float(np.linalg.norm(model.slope)) + 0.5 * float(np.linalg.norm(model.hessian, 2))


def _judge(state: State, plan: _Plan, value: float) -> None:
    """Compare what the model promised with what the model that knows the new value says."""
    assert plan.step is not None
    model, variance, promise = _model(state), _noise(state), plan.promise
    gain, noise = -model.at(plan.step), math.sqrt(variance)
    far_above = not value <= model.value + 2.0 * math.sqrt(model.variance)  # or failed
    significant = promise > 2.5 * plan.error or model.residual > WRONG * variance
    if (far_above or gain < 0.25 * promise) and significant and _range_of(model) > 3.0 * noise:
        _resize(state, 0.5)
    elif not far_above and gain > 0.7 * promise > 0.7 * plan.error and np.linalg.norm(plan.step) > 0.9:
        _resize(state, 2.0)
    state.scalars["quiet"] = 0.0 if promise > plan.error else state.scalars["quiet"] + 1.0
    if gain > 0.0 and not far_above:
        _move(state, plan.points[0])


def _explored(state: State, model: Fit, count: int) -> None:
    """Change the radius where exploration has made no promise significant."""
    state.scalars["quiet"] += count
    d = model.slope.size
    within = int((_distances(state)[1] <= REACH).sum())
    if within < min(MOST, 1.5 * (d + 1)) or state.scalars["quiet"] < max(2, d // 2):
        return
    state.scalars["quiet"] = 0.0
    variance = _noise(state)
    if model.variance > WRONG * variance and _range_of(model) > 6.0 * math.sqrt(variance):
        _resize(state, 0.5)
    elif _range_of(model) < 10.0 * math.sqrt(variance):
        _resize(state, 1.4)
