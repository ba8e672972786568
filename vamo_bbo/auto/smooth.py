"""``method="auto"`` without noise and without a gradient: two local methods in turn, then what is left of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.descent import Descent, descent, descent_name, model
from vamo_bbo.auto.search import counted, generic, goes_on, may_search, search_on, start_of
from vamo_bbo.auto.units import Look
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.objective import Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["PAIRS", "descend", "is_parallel"]

MODELS = 20
"""Most variables for which a model takes its turns with the descent."""
STUCK = 100
"""Most variables for which a model takes over from a descent that is stuck."""
FIRST, TURN = 20, 5
"""The descent begins with so many times d + 1 values; every later turn has so many."""
PAIRS = 50
"""Steps that L-BFGS-B remembers, two vectors each (scipy: 10): a step costs a gradient, and 50 are BFGS if d <= 50."""
FTOL, GTOL = 2.220446049250313e-09, 1e-5
"""scipy's tolerances of L-BFGS-B."""


def descend(call: Call, watched: Watched, look: Look) -> Any:
    """Run a descent by differences and an interpolating model in turn, and the descent to polish.

    The measurement behind it is in ``docs/which_method.rst``: each of the two is far ahead on some problems. Several
    workers share a gradient, but the model asks for one point at a time: it is left out. What is left of a stated
    budget goes to :func:`~vamo_bbo.auto.search.search_on`.

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
    turns = call.size <= MODELS and begun.is_ours and not is_parallel(call)
    result = (_in_turn if turns else _alone)(call, watched, look.units, begun)
    return search_on(call, watched, result, look.units) if goes_on(call, watched) else result


def is_parallel(call: Call) -> bool:
    """Return whether several points are evaluated at the same time."""
    return call.workers not in (None, 1) and not call.vectorized


@dataclass(slots=True)
class _Runner:
    """A solver of ours that is run in turns.

    Attributes
    ----------
    method : Asked
        The solver: it goes on where it was when it is called again.
    options : dict
        Of the method.
    gain : float
        By how much its latest turn has brought its value down.
    result : OptimizeResult or None
        Its result, once it has ended by itself.
    """

    method: Asked
    options: dict[str, Any]
    gain: float = math.inf
    result: Any = None

    def take_turn(self, call: Call, watched: Watched, values: int) -> Any:
        """Go on; return a result with which the whole run ends, None where only the turn or the method has ended."""
        from vamo_bbo.scipy_layer.call import run_scipy

        total, before = watched.budget.maxfev, self.lowest
        turn = watched.nfev + values
        watched.set_budget(maxfev=turn if total is None else min(turn, total))
        result = run_scipy(call, self.method, watched=watched, options=self.options, x0=watched.best_x)
        over = watched.ended is Code.MAXFEV and watched.budget.maxfev != total
        watched.set_budget(maxfev=total)
        self.gain = before - self.lowest
        if over:
            return None
        self.result = result
        return None if watched.ended is None else result

    @property
    def lowest(self) -> float:
        """Value of its best point."""
        return self.method.state.scalars["value"]

    @property
    def promise(self) -> float:
        """What another turn would come to if it gained as much as the latest."""
        return self.lowest - self.gain


def _in_turn(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Any:
    """Give the turn to the method that promises the lower value, until the one that is ahead has ended.

    The descent goes on from what the model has found, if that is better.
    """
    slope = _Runner(begun.method, generic(call))
    ended = slope.take_turn(call, watched, FIRST * (call.size + 1))
    if ended is not None or (slope.result is not None and not begun.is_stuck(slope.result, watched)):
        return slope.result
    model = _Runner(_modelled(call, watched, units, begun), generic(call))
    turn: _Runner | None = model
    while turn is not None:
        if turn is slope:
            begun.move(model.method.recommended(), model.lowest)
        ended = turn.take_turn(call, watched, TURN * (call.size + 1))
        if ended is not None:
            return ended
        stuck = slope.result is not None and begun.is_stuck(slope.result, watched)
        turn = _next(slope, model, stuck)
    if slope.result is not None and slope.lowest <= model.lowest and not stuck:
        return counted(slope.result, watched)
    return _polished(call, watched, model.result, _found_none(call) if stuck else _both(call), units)


def _modelled(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Asked:
    assert watched.best_x is not None
    sizes = np.ones(call.size) if units is None else units
    return model(call, watched.best_x.astype(np.float64), watched.best_f, watched, sizes * begun.shape(call.size))


def _next(slope: _Runner, model: _Runner, stuck: bool) -> _Runner | None:
    """Return whose turn it is; None where the answer is found.

    The model ends where its region is small, which need not be a minimum.
    """
    if model.result is not None:
        return slope if slope.result is None and slope.promise < model.lowest else None
    if slope.result is not None:
        return model if stuck or model.lowest < slope.lowest else None
    return min(model, slope, key=lambda runner: runner.promise)


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
    return _polished(call, watched, found, _found_none(call), units)


def _found_none(call: Call) -> str:
    return f"{descent_name(call)} found no slope to follow, then interpolation"


def _both(call: Call) -> str:
    return f"{descent_name(call)} and interpolation in turn"


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
