"""``method="auto"`` without noise and without a gradient: two local methods in turn, then what is left of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto_descent import Descent, descent, descent_name
from vamo_bbo.auto_search import counted, generic, goes_on, may_search, search_on, start_of
from vamo_bbo.auto_units import Look
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.scipy_layer.stretched import Stretched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["PAIRS", "descend", "is_parallel"]

MODELS = 20
"""Most variables for which COBYQA takes its turns with the descent: its own time grows fast with d."""
STUCK = 100
"""Most variables for which COBYQA takes over from a descent that is stuck."""
TURN = 15
"""A first turn has so many times d + 1 values; a later one as many as its method has had, to bound the retracing."""
PAIRS = 50
"""Steps that L-BFGS-B remembers, two vectors each (scipy: 10): a step costs a gradient, and 50 are BFGS if d <= 50."""
FTOL, GTOL = 2.220446049250313e-09, 1e-5
"""scipy's tolerances of L-BFGS-B."""


def descend(call: Call, watched: Watched, look: Look) -> Any:
    """Run a descent by differences and COBYQA in turn, and the descent to polish.

    The measurement behind it is in ``docs/which_method.rst``: each of the two is far ahead on some problems. Several
    workers share a gradient, but COBYQA asks for one point at a time: it is left out. What is left of a stated budget
    goes to :func:`~vamo_bbo.auto_search.search_on`.

    Parameters
    ----------
    call : Call
        The arguments.
    watched : Watched
        Counts, and a memory.
    look : Look
        What is known around x0.

    Returns
    -------
    OptimizeResult
        Of the stage that found the answer, with the counts of all.
    """
    begun = descent(call, start_of(call, watched), look.value, watched, look.units, look.slope)
    turns = call.size <= MODELS and not is_parallel(call)
    result = (_in_turn if turns else _alone)(call, watched, look.units, begun)
    watched.memory = None
    return search_on(call, watched, result, look.units) if goes_on(call, watched) else result


def is_parallel(call: Call) -> bool:
    """Return whether several points are evaluated at the same time."""
    return call.workers not in (None, 1) and not call.vectorized


@dataclass(slots=True)
class _Runner:
    """A local method that is run in turns.

    Attributes
    ----------
    method : str or callable
        scipy's name of it, or a custom method.
    options : dict
        Of the method.
    x0 : (d,) array
        Its start.
    lowest, gain : float
        The lowest value that it was told, and by how much its latest turn has brought that down.
    own : int
        Values that were paid for it.
    result : OptimizeResult or None
        Its result, once it has ended by itself.
    """

    method: Any
    options: dict[str, Any]
    x0: Array
    lowest: float
    gain: float = math.inf
    own: int = 0
    result: Any = None

    def take_turn(self, call: Call, watched: Watched) -> Any:
        """Go on; return a result with which the whole run ends, None where only the turn or the method has ended."""
        from vamo_bbo.scipy_layer.call import run_scipy

        assert watched.memory is not None
        total, spent = watched.budget.maxfev, watched.nfev
        turn = spent + max(TURN * (call.size + 1), self.own)
        watched.set_budget(maxfev=turn if total is None else min(turn, total))
        watched.memory.restart()
        result = run_scipy(call, self.method, watched=watched, options=self.options, x0=self.x0)
        over = watched.ended is Code.MAXFEV and watched.budget.maxfev != total
        watched.set_budget(maxfev=total)
        lowest = min(self.lowest, watched.memory.lowest)
        self.own, self.lowest, self.gain = self.own + watched.nfev - spent, lowest, self.lowest - lowest
        if over:
            return None
        self.result = result
        return None if watched.ended is None else result

    @property
    def promise(self) -> float:
        """What another turn would come to if it gained as much as the latest."""
        return self.lowest - self.gain


def _in_turn(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Any:
    """Give the turn to the method that promises the lower value, until the one that is ahead has ended."""
    slope = _Runner(begun.method, _options(call, begun, watched), start_of(call, watched), watched.best_f)
    ended = slope.take_turn(call, watched)
    if ended is not None or (slope.result is not None and not begun.is_stuck(slope.result, watched)):
        return slope.result
    assert watched.best_x is not None
    assert watched.memory is not None
    origin = watched.best_x.astype(np.float64)
    watched.memory.keep(origin, watched.best_f)
    sizes = np.ones(call.size) if units is None else units
    method = Stretched("COBYQA", origin, sizes * begun.shape(call.size))
    model = _Runner(method, generic(call), origin, watched.best_f)
    turn: _Runner | None = model
    while turn is not None:
        ended = turn.take_turn(call, watched)
        if ended is not None:
            return ended
        stuck = slope.result is not None and begun.is_stuck(slope.result, watched)
        turn = _next(slope, model, stuck)
    if slope.result is not None and slope.lowest <= model.lowest and not stuck:
        return counted(slope.result, watched)
    return _polished(call, watched, model.result, _found_none(call) if stuck else _both(call), units)


def _next(slope: _Runner, model: _Runner, stuck: bool) -> _Runner | None:
    """Return whose turn it is; None where the answer is found.

    COBYQA ends where its region is small, which need not be a minimum.
    """
    if model.result is not None:
        return slope if slope.result is None and slope.promise < model.lowest else None
    if slope.result is not None:
        return model if stuck or model.lowest < slope.lowest else None
    return min(model, slope, key=lambda runner: runner.promise)


def _alone(call: Call, watched: Watched, units: Array | None, begun: Descent) -> Any:
    """Run the descent, and COBYQA where that is stuck."""
    from vamo_bbo.scipy_layer.call import run_scipy

    watched.memory = None  # no method is run again
    start = start_of(call, watched)
    result = run_scipy(call, begun.method, watched=watched, options=_options(call, begun, watched), x0=start)
    searches = is_parallel(call) and may_search(call)
    if call.size > STUCK or watched.best_x is None or searches or not begun.is_stuck(result, watched):
        return result
    model = run_scipy(call, "COBYQA", watched=watched, options=generic(call), x0=watched.best_x)
    return _polished(call, watched, model, _found_none(call), units)


def _found_none(call: Call) -> str:
    return f"{descent_name(call)} found no slope to follow, then COBYQA"


def _both(call: Call) -> str:
    return f"{descent_name(call)} and COBYQA in turn"


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

    model.message = f"{before}: {model.message}"
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
