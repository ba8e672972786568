"""``method="auto"`` without noise and without a gradient: two local methods in turn, then what is left of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto_search import generic, goes_on, may_search, search_on
from vamo_bbo.auto_units import slope_from
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.memory import Memory
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.scipy_layer.stretched import Stretched, shape_of

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["PAIRS", "descend"]

MODELS = 20
"""Most variables for which COBYQA takes its turns with L-BFGS-B: its own time grows fast with d."""
STUCK = 100
"""Most variables for which COBYQA takes over from an L-BFGS-B that is stuck."""
TURN = 15
"""A first turn has so many times d + 1 values; a later one as many as its method has had, to bound the retracing."""
BACKTRACKS = 10
"""A line search that finds no better point with so many gradients follows no slope: it would take twenty, twice."""
PAIRS = 50
"""Steps that L-BFGS-B remembers, two vectors each (scipy: 10): a step costs a gradient, and 50 are BFGS if d <= 50."""
FTOL, GTOL = 2.220446049250313e-09, 1e-5
"""scipy's tolerances of L-BFGS-B."""
_NO_LIMIT = 10**9
_NO_SLOPE = "L-BFGS-B found no slope to follow, then COBYQA"


def descend(call: Call, watched: Watched, units: Array | None) -> Any:
    """Run L-BFGS-B by differences and COBYQA in turn, and L-BFGS-B to polish.

    The measurement behind it is in ``docs/which_method.rst``: each of the two is far ahead on some problems. What is
    left of a stated budget goes to :func:`~vamo_bbo.auto_search.search_on`.

    Parameters
    ----------
    call : Call
        The arguments.
    watched : Watched
        Counts that hold the values at x0.
    units : (d,) array or None
        Sizes of the variables, of :func:`~vamo_bbo.auto_units.find_units`.

    Returns
    -------
    OptimizeResult
        Of the stage that found the answer, with the counts of all.
    """
    options = _options(call, abs(watched.best_f))
    result = (_in_turn if call.size <= MODELS else _alone)(call, watched, units, options)
    watched.memory = None
    return search_on(call, watched, result, units) if goes_on(call, watched) else result


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


def _in_turn(call: Call, watched: Watched, units: Array | None, options: dict[str, Any]) -> Any:
    """Give the turn to the method that promises the lower value, until the one that is ahead has ended."""
    watched.memory = watched.memory or Memory()  # with x_scale nobody has set it
    start = np.asarray(call.x0)
    slope = _Runner(slope_from(start, units), options, start, watched.best_f)
    ended = slope.take_turn(call, watched)
    if ended is not None or (slope.result is not None and not _stuck(slope.result, watched)):
        return slope.result
    assert watched.best_x is not None
    origin = watched.best_x.astype(np.float64)
    sizes = np.ones(call.size) if units is None else units
    shape = shape_of(call.size, [(x / sizes, g * sizes) for x, g in watched.memory.gradients])
    method = Stretched("COBYQA", origin, sizes * shape)
    model = _Runner(method, generic(call), origin, watched.best_f)
    turn: _Runner | None = model
    while turn is not None:
        ended = turn.take_turn(call, watched)
        if ended is not None:
            return ended
        turn = _next(slope, model, watched)
    if slope.result is not None and slope.lowest <= model.lowest and not _stuck(slope.result, watched):
        return _counted(slope.result, watched)
    stuck = slope.result is not None and _stuck(slope.result, watched)
    return _polished(call, watched, model.result, _NO_SLOPE if stuck else "L-BFGS-B and COBYQA in turn", units, options)


def _next(slope: _Runner, model: _Runner, watched: Watched) -> _Runner | None:
    """Return whose turn it is; None where the answer is found.

    COBYQA ends where its region is small, which need not be a minimum.
    """
    if model.result is not None:
        return slope if slope.result is None and slope.promise < model.lowest else None
    if slope.result is not None:
        return model if _stuck(slope.result, watched) or model.lowest < slope.lowest else None
    return min(model, slope, key=lambda runner: runner.promise)


def _alone(call: Call, watched: Watched, units: Array | None, options: dict[str, Any]) -> Any:
    """Run L-BFGS-B, and COBYQA where that is stuck."""
    from vamo_bbo.scipy_layer.call import run_scipy

    if watched.memory is not None:
        watched.memory.closed = True
    if may_search(call):
        watched.patience = BACKTRACKS * (call.size + 1)
    start = np.asarray(call.x0)
    result = run_scipy(call, slope_from(start, units), watched=watched, options=options, x0=start)
    watched.patience = math.inf
    if watched.ended is Code.CONVERGED:
        result.message = f"L-BFGS-B found no better point with {BACKTRACKS} gradients"
    if call.size > STUCK or watched.best_x is None or not _stuck(result, watched):
        return result
    model = run_scipy(call, "COBYQA", watched=watched, options=generic(call), x0=watched.best_x)
    return _polished(call, watched, model, _NO_SLOPE, units, options)


def _options(call: Call, size: float) -> dict[str, Any]:
    """Return the options of L-BFGS-B, for a function of this size at x0.

    scipy's tolerances are relative to 1 where values are smaller; here to the size, so that their unit does not matter.
    scipy's own limits of 15,000 are not the budget that the user stated.
    """
    unit = size if 0.0 < size < 1.0 else 1.0
    limits = {"maxfun": _NO_LIMIT, "maxiter": _NO_LIMIT} if may_search(call) else {}
    return {"maxcor": PAIRS, "ftol": FTOL * unit, "gtol": GTOL * unit, **limits, **call.options}


def _stuck(result: Any, watched: Watched) -> bool:
    """Return whether L-BFGS-B found no slope.

    Every difference zero: more likely a simulator that prints seven digits than a constant function or a minimum.
    """
    flat = watched.nfev > result.x.size and not np.any(result.get("jac", 1.0))
    return "ABNORMAL" in str(result.message) or flat


def _polished(
    call: Call, watched: Watched, model: Any, before: str, units: Array | None, options: dict[str, Any]
) -> Any:
    """Return the result of L-BFGS-B from the minimum of the model, or the model's where that is no better."""
    from vamo_bbo.scipy_layer.call import run_scipy

    model.message = f"{before}: {model.message}"
    if model.success and watched.ended is None and watched.best_x is not None:
        slope = slope_from(watched.best_x, units)
        polished = run_scipy(call, slope, watched=watched, options=options, x0=watched.best_x)
        if polished.fun <= model.fun and (polished.success or polished.status == 99):
            polished.message = f"{model.message}, then L-BFGS-B: {polished.message}"
            return polished
    if watched.best_x is not None and watched.best_f < model.fun:
        model.x, model.fun = np.array(watched.best_x), watched.best_f
    return _counted(model, watched)


def _counted(result: Any, watched: Watched) -> Any:
    """Return ``result`` with the counts of all stages."""
    result.nfev, result.nfev_samples = watched.nfev, watched.nfev * watched.cost
    result.n_failed, result.failures = watched.failures.count, watched.failures.records
    return result
