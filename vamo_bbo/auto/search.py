"""``method="auto"`` with a budget left where the local methods have ended: restarts of CMA-ES, and a polish.

A user who states a budget wants the best value that it buys. The population starts at the local minimum with a first
step of a quarter of the box (without bounds: half of the larger of the start's own size and the distance travelled),
and starts again and again, with large and small populations in turn (N. Hansen, Benchmarking a BI-population CMA-ES on
the BBOB-2009 function testbed, GECCO 2009). Where it finds a better basin, a descent by differences goes to its bottom.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.descent import descent
from vamo_bbo.auto.rounds import generation_of
from vamo_bbo.auto.units import Coordinates
from vamo_bbo.core.solver import Solver
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.run.setup import seed_of
from vamo_bbo.run.stop import Code, default_limits
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.objective import Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = [
    "all_but_a_reserve",
    "counted",
    "gained",
    "generic",
    "goes_on",
    "left",
    "local_population",
    "may_search",
    "population",
    "reach",
    "search_on",
    "start_of",
]

FEWEST = 20
"""Values that must be left."""
RESERVE = 0.1
"""Share of what is left that is kept for the polish, at most POLISH (d + 1) values."""
POLISH = 15
RESTARTS = 10**6
"""More than any budget holds: the budget ends the search."""
GAIN = 1e-8
"""Smallest relative gain that counts as another basin."""
WIDTH = 0.3
"""First step of a population that goes on where failures hold others up, relative to the way from x0."""
_SPENT = (Code.MAXFEV, Code.MAX_TIME)


def may_search(call: Call) -> bool:
    """Return whether the user has stated a budget and left the end to us.

    ``tol`` and options of the method (``ftol``, ``maxiter``, ...) are the user's own wish of when to stop.
    """
    stated = any(call.limits.get(name) is not None for name in ("maxfev", "max_time", "f_target"))
    return stated and call.tol is None and not set(call.options) - {"disp"} and not call.constrained


def goes_on(call: Call, watched: Watched) -> bool:
    """Return whether there is something left to spend after local methods that ended by themselves."""
    by_themselves = watched.best_x is not None and watched.ended is None
    return by_themselves and may_search(call) and left(call, watched) >= FEWEST


def search_on(call: Call, watched: Watched, local: Any, units: Array | None) -> Any:
    """Spend the rest of the budget on other basins.

    Parameters
    ----------
    call : Call
        The arguments.
    watched : Watched
        Counts, and the best point, of the local methods.
    local : OptimizeResult
        Their result.
    units : (d,) array or None
        Sizes of the variables, of :func:`~vamo_bbo.auto.units.find_units`.

    Returns
    -------
    OptimizeResult
        The local result with all counts where nothing better was found; else the better point, with the status of the
        polish, or of the budget where that ended before the polish did.
    """
    from vamo_bbo.scipy_layer.call import run_scipy

    whole, spent, best, last = watched.budget, watched.nfev, local, local
    assert watched.best_x is not None
    method = population(call, watched, watched.best_x, reach(call, watched, units))
    while left(call, watched) >= FEWEST:
        before = watched.nfev
        watched.set_budget(**all_but_a_reserve(call, watched, RESERVE, POLISH * (call.size + 1)))
        last = run_scipy(call, method, watched=watched, x0=watched.best_x, options={})
        watched.set_budget(maxfev=whole.maxfev, max_time=whole.max_time)
        if watched.ended not in _SPENT or watched.nfev == before:
            break
        if gained(watched.best_f, best.fun):
            polish = descent(call, watched.best_x, watched.best_f, watched, units).method
            best = last = run_scipy(call, polish, watched=watched, x0=watched.best_x, options={})
            if watched.ended is not None:
                break
    polished = not gained(watched.best_f, best.fun)
    result = best if polished and watched.ended in (None, *_SPENT) else last
    return _told(watched, local, result, spent)


def left(call: Call, watched: Watched) -> float:
    """Return the values that are left; infinite where only the time is limited and not yet up."""
    budget = watched.budget
    if budget.max_time is not None and time.perf_counter() - watched.began >= budget.max_time:
        return 0.0
    if budget.maxfev is None and budget.max_time is None:
        return default_limits(ProblemInfo(), call.size, budget)[0] - watched.nfev
    return math.inf if budget.maxfev is None else budget.maxfev - watched.nfev


def all_but_a_reserve(call: Call, watched: Watched, share: float, most: float = math.inf) -> dict[str, Any]:
    """Return the limits of the population: what is kept polishes what it finds."""
    limits: dict[str, Any] = {}
    rest, now = left(call, watched), time.perf_counter() - watched.began
    if math.isfinite(rest):
        limits["maxfev"] = watched.nfev + rest - math.floor(min(share * rest, most))
    if watched.budget.max_time is not None:
        limits["max_time"] = now + (1.0 - share) * max(0.0, watched.budget.max_time - now)
    return limits


def gained(value: float, before: float) -> bool:
    """Return whether a value is that of another basin."""
    return value < before - GAIN * max(1.0, abs(before))


def start_of(call: Call, watched: Watched) -> Array:
    """Return x0 within the bounds."""
    start = np.asarray(call.x0, dtype=np.float64).reshape(-1)
    return start if watched.lower is None or watched.upper is None else start.clip(watched.lower, watched.upper)


def population(call: Call, watched: Watched, x: Array, size: float | Array, *, noisy: bool = False) -> Asked:
    """Return the restarted population that starts at ``x``; ``size`` is the unit where there is no box."""
    from vamo_bbo.solvers import cma

    at = Coordinates.around(x, watched, size)
    solver = cma(restarts=RESTARTS, restart_strategy="bipop", population_size=generation_of(call))
    return _started(call, solver, at, noisy)


def local_population(call: Call, watched: Watched, x: Array, units: Array | None, *, noisy: bool = False) -> Asked:
    """Return a population that searches around ``x`` until it has converged.

    Its first step is WIDTH of the root mean square of the way from x0 to x, in ``units`` (d,).
    """
    from vamo_bbo.solvers import cma

    sizes = np.ones(call.size) if units is None else units
    way = float(np.sqrt(np.mean(((x - start_of(call, watched)) / sizes) ** 2)))
    at = Coordinates.around(x, watched, WIDTH * (way or 1.0) * sizes, boxed=False)
    solver = cma(sigma=1.0, population_size=generation_of(call), noise_handling=False)
    return _started(call, solver, at, noisy)


def _started(call: Call, solver: Solver, at: Coordinates, noisy: bool) -> Asked:
    info = ProblemInfo(lower=at.of(at.lower), upper=at.of(at.upper), noisy=noisy)
    state = solver.init(at.of(at.x.astype(np.float64)), seed=seed_of(call.rng), backend="numpy", info=info)
    return Asked(solver, state, at.to_x)


def reach(call: Call, watched: Watched, units: Array | None) -> float | Array:
    """Return how far to search: the units, at least as far as the best point is from the start.

    Without units they are the size of the start, 1 if that is 0.
    """
    assert watched.best_x is not None
    start = start_of(call, watched)
    size = units if units is not None else float(np.abs(start).max(initial=0.0)) or 1.0
    return size * max(1.0, float((np.abs(watched.best_x - start) / size).max(initial=0.0)))


def _told(watched: Watched, local: Any, result: Any, spent: int) -> Any:
    """Return ``result`` with the counts of all stages, the best point, and what happened."""
    assert watched.best_x is not None
    found = f"found {watched.best_f:.6g}" if gained(watched.best_f, local.fun) else "found nothing better"
    own = "" if result is local else f": {result.message}"
    message = str(local.message).rstrip(". ")
    result.message = f"{message}, after {spent} values; cma then used {watched.nfev - spent} and {found}{own}"
    if watched.best_f < result.fun:
        result.x, result.fun = watched.best_x.astype(result.x.dtype), watched.best_f
    return counted(result, watched)


def counted(result: Any, watched: Watched) -> Any:
    """Return ``result`` with the counts and failures of all stages."""
    for name in ("nfev", "nfev_samples", "nit"):
        result[name] = watched.numbers()[name]
    result.n_failed, result.failures = watched.failures.count, watched.failures.records
    return result


def generic(call: Call) -> dict[str, Any]:
    """Return the user's options that every method of scipy has."""
    return {name: value for name, value in call.options.items() if name in ("disp", "maxiter")}
