"""Bayesian optimization: a Gaussian process of a box or a space, and the points it expects most of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.late import LATE, STALEST, Late, take_late
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers._placing import check_points
from vamo_bbo.solvers._process import Process, fitted, log_improvement, start_of

__all__ = ["BayesianOptimization", "bayes"]

KEPT = 200
"""Most values that the process knows: the best half and the latest."""
VIEWS = (0.5, 0.75)
"""Quantiles of the values, in turn. The points gather in one valley, and with the median of their values a process sees
little else; with a higher one it sees what is left outside, and found the better valley."""
CAP = 2.0
"""Values further above the quantile than so many times (quantile - lowest) are told as if they were no further."""
REFIT = 0.15
"""Weights are searched again when so large a share of the values, or 10, are new."""
DRAWN = 400
"""Random candidates, and as many changes of the FOCUS points of the lowest means."""
FOCUS = 5
CLIMBS, CLIMBERS, CHANGES = 4, 10, 15
"""Rounds in which the best candidates are changed again, how many, and changes of each."""
SHORTEST = 1e-3
"""Shortest typical change of a real; the longest is half of the box."""
COUNTED = 2000
"""A space of at most so many combinations is searched completely."""


def bayes(n_points: int = 1) -> BayesianOptimization:
    """Bayesian optimization with a Gaussian process, for few and dear values in a box or a space of mixed types.

    Parameters
    ----------
    n_points : int >= 1, default 1
        Points per round, which several workers evaluate at the same time.

    Returns
    -------
    BayesianOptimization
        The solver.

    Raises
    ------
    OptionError
        ``n_points`` is not a whole number >= 1.

    Notes
    -----
    The first round is the start and d further points (at least 3) of a Latin hypercube. Each later round is the
    point of the highest expected improvement on the lowest mean at the points so far; of several points in a round,
    each takes the means at those before it for values. Candidates are random points and changes of the best ones, in
    one or a few parameters; a combination is not evaluated twice, unless the objective is noisy. Values far above the
    median, in every other round the upper quartile, do not stretch the process, and a failure counts as one of these:
    where points fail, fewer will be tried.

    It knows at most 200 values, and needs finite bounds. Time per round: O(200^3), some hundredths of a second;
    memory O(200 d). The recommended point is the best one seen; where the objective is noisy, the known point of the
    lowest mean.

    References
    ----------
    J. Močkus, On Bayesian methods for seeking the extremum, 1974; D. R. Jones, M. Schonlau and W. J. Welch, Efficient
    global optimization of expensive black-box functions, J. Global Optim. 13, 1998. First round: M. D. McKay, R. J.
    Beckman and W. J. Conover, A comparison of three methods for selecting values of input variables, Technometrics 21,
    1979. Points of a round: "kriging believer", D. Ginsbourger, R. Le Riche and L. Carraro, Kriging is well-suited to
    parallelize optimization, 2010. Distances of options: F. Hutter, H. H. Hoos and K. Leyton-Brown, Sequential
    model-based optimization for general algorithm configuration, LION 2011. That only points of the grid are compared:
    E. C. Garrido-Merchán and D. Hernández-Lobato, Dealing with categorical and integer-valued variables in Bayesian
    optimization, Neurocomputing 380, 2020.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> space = vb.Space(a=vb.Real(0.01, 100, log=True), n=vb.Integer(1, 9), kind=vb.Choice(["x", "y", "z"]))
    >>> def fun(params):
    ...     return (params["a"] - 1) ** 2 + abs(params["n"] - 7) + (params["kind"] != "y")
    >>> result = vb.minimize(fun, space, method="bayes", rng=1, maxfev=50)
    >>> result.params["n"], result.params["kind"], bool(result.fun < 0.1)
    (7, 'y', True)
    """
    return BayesianOptimization(n_points)


@dataclass(frozen=True, slots=True)
class BayesianOptimization:
    """The solver behind :func:`bayes`."""

    n_points: int = 1

    def __post_init__(self) -> None:
        check_points("bayes", self.n_points)

    @property
    def handles_levels(self) -> bool:
        """Integer and Choice coordinates can be searched."""
        return True

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        if info.n_samples is not None or info.device:
            raise CapabilityError("bayes is for plain objectives on the host.")
        if info.lower is None or info.upper is None or not np.isfinite(info.upper - info.lower).all():
            raise CapabilityError("bayes needs finite bounds of every variable; without them use 'auto' or 'cma'.")
        state = State(seed=seed, backend=backend, info=info)
        points, values = np.empty((0, x0.size)), np.empty(0)
        if info.known_points is not None and info.known_values is not None:
            points, values = info.known_points.astype(np.float64), info.known_values.astype(np.float64)
        state.arrays = {
            "x": np.array(x0),
            "points": points,
            "values": values,
            "logs": np.tile(start_of(x0.size), (len(VIEWS), 1)),
        }
        state.versions = dict.fromkeys(state.arrays, 0)
        room = math.inf if horizon is None else horizon
        state.scalars = {"told": 0.0, "room": room, "ignored": 0.0}
        state.scalars |= {f"fitted{view}": 0.0 for view in range(len(VIEWS))}
        return state

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the points of this round that have no answer yet."""
        anchor = state.anchor("x")
        probes = (Probe(_id(state, k), anchor, point=point) for k, point in enumerate(self._round(state)))
        return tuple(probe for probe in probes if probe.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last one of the round updates the process."""
        for answer in answers:
            size = len(self._round(state))
            if answer.id[:3] != _id(state, 0)[:3] or not 0 <= answer.id[3] < size or answer.id in state.inbox:
                if not take_late(state, answer):
                    state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == size:
                self._close(state)
        return state

    def takes_late(self, info: ProblemInfo) -> bool:
        """Return whether values that come after their round are taken: yes."""
        return True

    def status(self, state: State) -> Status | None:
        """Return the end: every combination of a small space has been evaluated."""
        if state.step and not self._round(state) and not state.late:
            return Status(0, True, "bayes: every combination of the space has been evaluated.")
        return None

    def recommend(self, state: State) -> Array:
        """Return the best point seen, or where the objective is noisy the known point of the lowest mean."""
        return state.arrays["x"]

    @one_thread()
    def _round(self, state: State) -> list[Array]:
        """Return the points of the open round: a function of the state alone."""
        cached = state.cache.get("round")
        if cached is None or cached[0] != state.step:
            generator = np.random.Generator(np.random.Philox(key=state.seed, counter=state.step << 128))
            box = _Box.of(state)
            count = int(min(self.n_points, max(1.0, state.scalars["room"] - state.scalars["told"])))
            made = (box.design(generator) if state.step == 0 else []) or box.proposals(generator, count)
            cached = (state.step, [box.to_x(u) for u in made])
            state.cache["round"] = cached
        points: list[Array] = cached[1]
        return points

    @one_thread()
    def _close(self, state: State) -> None:
        points = [point.astype(np.float64) for point in self._round(state)]
        answers = [state.inbox[_id(state, k)] for k in range(len(points))]
        state.inbox = {}
        told = [
            (p, a.value if a.error is None else math.nan)
            for p, a in zip(points, answers, strict=True)
            if a.error != LATE
        ]
        for k, answer in enumerate(answers):
            if answer.error == LATE:
                state.late[_id(state, k)] = Late(point=points[k])
        told += _arrived(state)
        arrays = state.arrays
        if told:
            new, values = zip(*told, strict=True)
            state.scalars["told"] += len(values)
            arrays["points"] = np.concatenate([arrays["points"], new])
            arrays["values"] = np.append(arrays["values"], np.where(np.isfinite(values), values, np.nan))
        state.step += 1
        _forget(state)
        box = _Box.of(state)
        if box.is_flat:
            return
        view = _view(state)
        before = state.scalars[f"fitted{view}"]
        if state.scalars["told"] - before >= min(10.0, REFIT * before):
            arrays["logs"][view] = fitted(box.points, box.values, box.options, arrays["logs"][view])
            state.scalars[f"fitted{view}"] = state.scalars["told"]
        best = int(np.nanargmin(arrays["values"]))
        if state.info.noisy:
            best = int(np.argmin(box.process().at(box.points)[0]))
        arrays["x"][...] = arrays["points"][best]
        state.versions["x"] += 1


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)


def _view(state: State) -> int:
    return state.step % len(VIEWS)


def _arrived(state: State) -> list[tuple[FloatArray, float]]:
    """Return points and values that came after their round; forget these, and those that will not come any more."""
    found = []
    for key in sorted(state.late):  # in the order in which they were asked, whatever the order in which they came
        late = state.late[key]
        if math.isnan(late.value) and state.step - key[0] <= STALEST:
            continue
        del state.late[key]
        if late.point is not None and not math.isnan(late.value):
            found.append((late.point, late.value))
    return found


def _forget(state: State) -> None:
    """Keep the best half and the latest of too many values."""
    values = state.arrays["values"]
    if len(values) <= KEPT:
        return
    # the lowest of noisy values would be the lucky ones; failures come last
    box = _Box.of(state) if state.info.noisy else None
    order = values if box is None or box.is_flat else box.process().at(box.points)[0]
    kept = np.argsort(order, kind="stable")[: KEPT // 2]
    latest = np.setdiff1d(np.arange(len(values)), kept)[-(KEPT - KEPT // 2) :]
    kept = np.union1d(kept, latest)
    state.arrays["points"], state.arrays["values"] = state.arrays["points"][kept], values[kept]


def told_values(values: FloatArray, share: float) -> FloatArray:
    """Return what a process is told of values, some NaN: of mean 0 and variance 1, without far outliers.

    Parameters
    ----------
    values : (n,) array
        The values; at least one is finite.
    share : float
        Which quantile says what is far.

    Examples
    --------
    >>> told_values(np.array([0.0, 1.0, 2.0, 1e9, np.nan]), 0.5).round(3).tolist()
    [-1.313, -0.766, -0.219, 1.149, 1.149]
    """
    good = values[np.isfinite(values)]
    lowest, high = good.min(), np.quantile(good, share)
    cap = high + CAP * (high - lowest) if high > lowest else good.max()
    told = np.where(np.isfinite(values), np.minimum(values, cap), min(cap, good.max()))
    spread = float(told.std())
    out: FloatArray = (told - told.mean()) / (spread if spread > 0.0 else 1.0)
    return out


@dataclass(frozen=True, slots=True)
class _Box:
    """What is known, in the unit box.

    Attributes
    ----------
    state : State
        The state.
    lower, width : (d,) arrays
        Of the box in the solver's coordinates.
    levels, options : (d,) int arrays
        As in :class:`~vamo_bbo.core.types.ProblemInfo`, and the number of options where there is no order, else 0.
    points, values : (n, d) and (n,) arrays
        What the process is told.
    waiting : (k, d) array
        Points whose values are late.
    """

    state: State
    lower: FloatArray
    width: FloatArray
    levels: Array
    options: Array
    points: FloatArray
    values: FloatArray
    waiting: FloatArray

    @classmethod
    def of(cls, state: State) -> _Box:
        info, arrays = state.info, state.arrays
        assert info.lower is not None
        assert info.upper is not None
        lower, d = info.lower.astype(np.float64), arrays["x"].size
        width = info.upper.astype(np.float64) - lower
        levels = np.zeros(d, dtype=np.int64) if info.levels is None else np.asarray(info.levels)
        options = np.where((levels < 0) | (levels == 2), np.abs(levels), 0)
        late = [late.point for late in state.late.values() if late.point is not None]
        waiting = np.array(late, dtype=np.float64).reshape(-1, d)
        values = (
            told_values(arrays["values"], VIEWS[_view(state)]) if np.isfinite(arrays["values"]).any() else np.empty(0)
        )
        points = (arrays["points"] - lower) / width
        return cls(state, lower, width, levels, options, points, values, (waiting - lower) / width)

    @property
    def is_flat(self) -> bool:
        """Whether nothing distinguishes one point from another."""
        return self.values.size == 0 or not np.ptp(self.values) > 0.0

    def to_x(self, u: FloatArray) -> Array:
        """Return a point of the unit box in the solver's coordinates."""
        info, x = self.state.info, self.state.arrays["x"]
        assert info.lower is not None
        assert info.upper is not None
        out: Array = (self.lower + self.width * u).astype(x.dtype).clip(info.lower, info.upper)
        return out

    def snapped(self, points: FloatArray) -> FloatArray:
        """Return points whose levels and options are at the centers of their cells."""
        count = np.abs(self.levels)
        cells = np.minimum(np.floor(points * count), np.maximum(count - 1, 0))
        out: FloatArray = np.where(count > 0, (cells + 0.5) / np.maximum(count, 1), points)
        return out

    def design(self, generator: np.random.Generator) -> list[FloatArray]:
        """Return the start and a Latin hypercube: d + 1 points, at least 4, without those that are known.

        Half of the budget at most.
        """
        d, known = self.levels.size, len(self.state.arrays["values"])
        start = (self.state.arrays["x"].astype(np.float64) - self.lower) / self.width
        begun = self.snapped(start[None])[: known == 0]  # else it is the best of the known points
        count = int(max(0, min(max(4, d + 1) - known - len(begun), self.state.scalars["room"] // 2 - 1)))
        strata = generator.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T
        drawn = (strata + generator.random((count, d))) / max(count, 1)
        rows = np.concatenate([begun, self._new(self.snapped(drawn), self.points)])
        return [rows[k] for k in sorted(np.unique(rows, axis=0, return_index=True)[1])]

    def process(self, extra: FloatArray | None = None, means: FloatArray | None = None) -> Process:
        """Return the process; at ``extra`` points it takes ``means`` for values."""
        points, values = self.points, self.values
        if extra is not None and means is not None and len(extra):
            points, values = np.concatenate([points, extra]), np.append(values, means)
        return Process.of(points, values, self.options, self.state.arrays["logs"][_view(self.state)])

    def proposals(self, generator: np.random.Generator, count: int) -> list[FloatArray]:
        """Return ``count`` points; fewer where no more combinations are left."""
        chosen: list[FloatArray] = []
        known = np.concatenate([self.points, self.waiting])
        for _ in range(count):
            taken = np.concatenate([known, *(point[None] for point in chosen)])
            free = self._left(taken)
            if free is not None and not len(free):
                break
            if self.is_flat:
                drawn = self._new(self.snapped(generator.random((DRAWN, self.levels.size))), taken)
                pick = drawn[:1] if free is None else free[generator.integers(len(free))][None]
                chosen += list(pick)
                continue
            process = self.process()
            extra = taken[len(self.points) :]
            if len(extra):
                process = self.process(extra, process.at(extra)[0])
            found = self._best(generator, process, taken, free)
            if found is None:
                break
            chosen.append(found)
        return chosen

    def _left(self, taken: FloatArray) -> FloatArray | None:
        """Return the combinations of a small space that are not taken yet; None for any other space."""
        count = np.abs(self.levels)
        if (count == 0).any() or self.state.info.noisy or np.prod(count.astype(np.float64)) > COUNTED:
            return None
        grids = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in count], indexing="ij")
        return self._new(np.stack([grid.ravel() for grid in grids], axis=1), taken)

    def _new(self, points: FloatArray, taken: FloatArray) -> FloatArray:
        """Return those points that are not taken, unless noise makes another value welcome."""
        if self.state.info.noisy:
            return points
        seen = {row.tobytes() for row in self._rounded(taken)}
        return points[[row.tobytes() not in seen for row in self._rounded(points)]]

    def _rounded(self, points: FloatArray) -> FloatArray:
        return self.snapped(points).round(12)  # what goes to the solver's coordinates and back is not quite the same

    def _best(
        self, generator: np.random.Generator, process: Process, taken: FloatArray, free: FloatArray | None
    ) -> FloatArray | None:
        """Return the point of the highest expected improvement that was found."""
        means = process.at(taken)[0]
        lowest = float(means.min())

        def gains(points: FloatArray) -> FloatArray:
            return log_improvement(*process.at(points), lowest)

        if free is not None:
            best: FloatArray = free[int(np.argmax(gains(free)))]
            return best
        focus = taken[np.argsort(means, kind="stable")[:FOCUS]]
        drawn = self.snapped(generator.random((DRAWN, self.levels.size)))
        near = self._changed(generator, focus[np.arange(DRAWN) % len(focus)])
        pool = self._new(np.concatenate([drawn, near]), taken)
        if not len(pool):
            return None
        gain = gains(pool)
        for _ in range(CLIMBS):
            top = np.argsort(-gain, kind="stable")[:CLIMBERS]
            changed = self._new(self._changed(generator, np.repeat(pool[top], CHANGES, axis=0)), taken)
            pool, gain = np.concatenate([pool[top], changed]), gain[top]
            if len(changed):
                gain = np.append(gain, gains(changed))
        best = pool[int(np.argmax(gain))]
        return best

    def _changed(self, generator: np.random.Generator, points: FloatArray) -> FloatArray:
        """Return the points (m, d) with one parameter or a few changed: a step, a level up or down, another option."""
        m, d = points.shape
        which = generator.random((m, d)) < 2.0 / d
        which[np.arange(m), generator.integers(d, size=m)] = True
        sizes = 10.0 ** generator.uniform(math.log10(SHORTEST), math.log10(0.5), (m, 1))
        steps = generator.standard_normal((m, d)) * sizes
        count = np.maximum(np.abs(self.levels), 1)
        by_level = np.copysign(np.maximum(np.rint(np.abs(steps) * count), 1.0), steps) / count
        moved = points + np.where(self.levels != 0, by_level, steps)
        moved = np.where(self.options > 0, generator.random((m, d)), moved)
        return self.snapped(np.where(which, moved.clip(0.0, 1.0), points))
