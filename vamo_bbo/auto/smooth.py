"""``method="auto"`` without noise and without a gradient: two local methods in turn, then what is left of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.descent import Descent, descent, descent_name, model
from vamo_bbo.auto.rounds import is_parallel
from vamo_bbo.auto.search import counted, generic, goes_on, local_population, may_search, search_on, start_of
from vamo_bbo.auto.units import Look, steps_in
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.objective import Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["MODELS", "PAIRS", "descend", "model_in_a_box"]

MODELS = 20
"""Most variables for which a model takes its turns with the descent."""
STUCK = 100
"""Most variables for which another method takes over from a descent that is stuck, or held up by failures."""
FIRST, TURN = 20, 5
"""The descent begins with so many times d + 1 values; every later turn has so many."""
WALLED, STALLED = 0.5, 0.1
"""Failures hold a descent up if more than the first share of its trial points fail in a turn that gains less than the
second share of what all its turns have."""
WIDE = 20
"""A turn of the population that then joins."""
PAIRS = 50
"""Steps that L-BFGS-B remembers, two vectors each (scipy: 10): a step costs a gradient, and 50 are BFGS if d <= 50."""
FTOL, GTOL = 2.220446049250313e-09, 1e-5
"""scipy's tolerances of L-BFGS-B."""


def descend(call: Call, watched: Watched, look: Look) -> Any:
    """Run a descent by differences and an interpolating model in turn, and the descent to polish.

    The measurement behind it is in ``docs/benchmarks/auto_smooth.rst``: each of the two is far ahead on some problems.
    Neither gets far along the border of a region where evaluations fail; a population, which only ranks, then has turns
    as well. Several workers share a gradient, but the model asks for one point at a time: it is left out. What is left
    of a stated budget goes to :func:`~vamo_bbo.auto.search.search_on`.

    Parameters
    ----------
    call : Call
        The arguments.
    watched : Watched
        Counts.
    look : Look
        What is known around x0.

    Returns
    -------
    OptimizeResult
        Of the stage that found the answer, with the counts of all.
    """
    begun = descent(call, start_of(call, watched), look.value, watched, look.units, look.slope)
    result = (_in_turn if call.size <= STUCK and begun.is_ours else _alone)(call, watched, look.units, begun)
    return search_on(call, watched, result, look.units) if goes_on(call, watched) else result


def model_in_a_box(call: Call, watched: Watched, look: Look) -> Any:
    """Run an interpolating model from x0, where few values are stated and every variable is bounded.

    The box tells how far to go, which a descent has to find out, and a descent takes d + 1 values before its first
    step. Arguments and result are those of :func:`descend`.
    """
    from vamo_bbo.scipy_layer.call import run_scipy

    start = start_of(call, watched)
    assert watched.lower is not None
    assert watched.upper is not None
    sizes = steps_in(start, watched.lower, watched.upper) if look.units is None else look.units
    method = model(call, start, look.value, watched, sizes, watched.budget.maxfev)
    found = run_scipy(call, method, watched=watched, options=generic(call), x0=start)
    result = _polished(call, watched, found, "interpolation", sizes)
    return search_on(call, watched, result, sizes) if goes_on(call, watched) else result


@dataclass(slots=True)
class _Runner:
    """A solver of ours that is run in turns.

    Attributes
    ----------
    name : str
        Of the method.
    method : Asked
        The solver: it goes on where it was when it is called again.
    options : dict
        Of the method.
    turn : int
        Values of a turn, times d + 1.
    gain, total : float
        By how much its latest turn, and all of them, have brought its value down.
    failures : float
        Share of the trial points of its latest turn that failed, where it is the descent.
    result : OptimizeResult or None
        Its result, once it has ended by itself.
    """

    name: str
    method: Asked
    options: dict[str, Any]
    turn: int = TURN
    gain: float = math.inf
    total: float = 0.0
    failures: float = 0.0
    result: Any = None

    def take_turn(self, call: Call, watched: Watched, last: float | None = None) -> Any:
        """Go on; return a result with which the whole run ends, None where only the turn or the method has ended.

        The turn ends with the value number ``last``.
        """
        from vamo_bbo.scipy_layer.call import run_scipy

        total, before = watched.budget.maxfev, self.lowest
        tried, failed = self._trials()
        turn = watched.nfev + self.turn * (call.size + 1) if last is None else last
        watched.set_budget(maxfev=turn if total is None else min(turn, total))
        result = run_scipy(call, self.method, watched=watched, options=self.options, x0=watched.best_x)
        over = watched.ended is Code.MAXFEV and watched.budget.maxfev != total
        watched.set_budget(maxfev=total)
        self.gain = before - self.lowest
        self.total += self.gain
        now_tried, now_failed = self._trials()
        self.failures = (now_failed - failed) / max(1.0, now_tried - tried)
        if over:
            return None
        self.result = result
        return None if watched.ended is None else result

    @property
    def lowest(self) -> float:
        """Value of its best point, infinite where there is none."""
        scalars = self.method.state.scalars
        value = scalars["value"] if "value" in scalars else scalars["best_value"]
        return math.inf if math.isnan(value) else value

    @property
    def promise(self) -> float:
        """What another turn would come to if it gained as much as the latest; -inf before that."""
        return -math.inf if self.gain == math.inf else self.lowest - self.gain

    @property
    def is_held(self) -> bool:
        """Whether it is a descent that failures hold up."""
        return self.failures > WALLED and self.gain < STALLED * self.total

    def _trials(self) -> tuple[float, float]:
        scalars = self.method.state.scalars
        return scalars.get("tried", 0.0), scalars.get("failed", 0.0)


def _in_turn(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Any:
    """Give the turn to the method that promises the lowest value, until the one that is ahead has ended.

    The descent goes on from what the others have found, if that is better. If failures hold it up a population joins.
    """
    slope = _Runner(descent_name(call), begun.method, generic(call))
    ended = _first_turn(call, watched, slope)
    if ended is not None or (slope.result is not None and not begun.is_stuck(slope.result, watched)):
        return slope.result
    others: list[_Runner] = []
    stuck = slope.result is not None
    turn = None if stuck else slope
    while True:
        joins = _joining(call, slope, others, stuck)
        if joins is not None:
            assert watched.best_x is not None
            if joins == "cma":
                method, length = local_population(call, watched, watched.best_x.astype(np.float64), units), WIDE
            else:
                method, length = _modelled(call, watched, units, begun), TURN
            turn = _Runner(joins, method, generic(call), turn=length)
            others.append(turn)
        if turn is None:
            break
        if turn is slope and others:
            best = min(others, key=lambda other: other.lowest)
            begun.move(best.method.recommended(), best.lowest)
        ended = turn.take_turn(call, watched)
        if ended is not None:
            return ended
        stuck = slope.result is not None and begun.is_stuck(slope.result, watched)
        turn = _next(slope, others, stuck)
    best = min((other for other in others if other.result is not None), key=lambda other: other.lowest, default=slope)
    if best is slope or (slope.result is not None and slope.lowest <= best.lowest and not stuck):
        return counted(slope.result, watched)
    before = _found_none(call, best.name) if stuck else f"{slope.name} and {best.name} in turn"
    return _polished(call, watched, best.result, before, units)


def _first_turn(call: Call, watched: Watched, slope: _Runner) -> Any:
    """Begin with the descent; return a result with which the whole run ends."""
    begun, first = watched.nfev, slope.lowest
    for values in (*range(TURN, FIRST, TURN), FIRST):
        ended = slope.take_turn(call, watched, begun + values * (call.size + 1))
        if ended is not None or slope.result is not None or slope.is_held:
            break
    slope.gain = first - slope.lowest
    return ended


def _joining(call: Call, slope: _Runner, others: list[_Runner], stuck: bool) -> str | None:
    """Return the name of a method that is to have turns from now on.

    The model asks for one point at a time: several workers are left to a search, where there will be one.
    """
    if slope.is_held and all(other.name != "cma" for other in others):
        return "cma"
    parallel = is_parallel(call)
    models = not (parallel and may_search(call)) if stuck else call.size <= MODELS and not parallel
    return "interpolation" if models and not others else None


def _next(slope: _Runner, others: list[_Runner], stuck: bool) -> _Runner | None:
    """Return whose turn it is; None where the answer is found.

    A model ends where its region is small, which need not be a minimum.
    """
    over = [
        runner.lowest for runner in (slope, *others) if runner.result is not None and not (runner is slope and stuck)
    ]
    going = [runner for runner in (*others, slope) if runner.result is None]
    if over:
        going = [runner for runner in going if (runner.promise if runner is slope else runner.lowest) < min(over)]
    return min(going, key=lambda runner: runner.promise, default=None)


def _modelled(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Asked:
    assert watched.best_x is not None
    sizes = np.ones(call.size) if units is None else units
    return model(call, watched.best_x.astype(np.float64), watched.best_f, watched, sizes * begun.shape(call.size))


def _alone(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Any:
    """Run the descent, and the model where that is stuck."""
    from vamo_bbo.scipy_layer.call import run_scipy

    start = start_of(call, watched)
    result = run_scipy(call, begun.method, watched=watched, options=_options(call, begun, watched), x0=start)
    searches = is_parallel(call) and may_search(call)
    if call.size > STUCK or watched.best_x is None or searches or not begun.is_stuck(result, watched):
        return result
    method = _modelled(call, watched, units, begun)
    found = run_scipy(call, method, watched=watched, options=generic(call), x0=watched.best_x)
    return _polished(call, watched, found, _found_none(call, "interpolation"), units)


def _found_none(call: Call, other: str) -> str:
    return f"{descent_name(call)} found no slope to follow, then {other}"


def _options(call: Call, begun: Descent, watched: Watched) -> dict[str, Any]:
    """Return the options of a descent.

    scipy's tolerances are relative to 1 where values are smaller; here to the size of the function at x0, so that their
    unit does not matter.
    """
    if begun.is_ours:
        return generic(call)
    size = abs(watched.best_f)
    unit = size if 0.0 < size < 1.0 else 1.0
    return {"maxcor": PAIRS, "ftol": FTOL * unit, "gtol": GTOL * unit, **call.options}


def _polished(call: Call, watched: Watched, model: Any, before: str, units: Array | None) -> Any:
    """Return the result of a descent from the minimum of the model, or the model's where that is no better."""
    from vamo_bbo.scipy_layer.call import run_scipy

    model.message = f"{before}: {str(model.message).rstrip('. ')}"
    if model.success and watched.ended is None and watched.best_x is not None:
        begun = descent(call, watched.best_x, watched.best_f, watched, units)
        options = _options(call, begun, watched)
        polished = run_scipy(call, begun.method, watched=watched, options=options, x0=watched.best_x)
        if polished.fun <= model.fun and (polished.success or polished.status == 99):
            polished.message = f"{model.message}, then {descent_name(call)}: {polished.message}"
            return polished
    if watched.best_x is not None and watched.best_f < model.fun:
        model.x, model.fun = np.array(watched.best_x), watched.best_f
    return counted(model, watched)
