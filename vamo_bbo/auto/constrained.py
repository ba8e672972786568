"""``method="auto"`` on a noisy objective with constraints: COBYQA, COBYLA from the same start, and the better of both.

Under noise COBYQA ends by itself after some 15 (d + 1) values. Of what is left of a stated budget COBYLA (M. J. D.
Powell, A direct search optimization method that models the objective and constraint functions by linear interpolation,
1994) takes some 10 (d + 1): its linear models go other ways, and end in a better valley where COBYQA's did not.
Like COBYQA it calls the constraints once per value, which a search within the feasible set does not. New values at both
answers decide between them; a last step leads to the feasible set, at no value of the objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.noisy import COMPARED, REPLICATES, lower, re_estimate
from vamo_bbo.auto.rounds import values_at
from vamo_bbo.auto.search import FEWEST, counted, left
from vamo_bbo.projection import FEASIBLE, projection_of
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.call import run_scipy
from vamo_bbo.scipy_layer.methods import stopped
from vamo_bbo.scipy_layer.objective import StopRun, Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["run_noisy_constrained"]


def run_noisy_constrained(call: Call, watched: Watched) -> Any:
    """Minimize a noisy objective under constraints.

    Parameters
    ----------
    call : Call
        The arguments. Without ``maxfev``, or with ``tol`` or options of the method, COBYQA alone is run.
    watched : Watched
        Counts that hold two values at x0.

    Returns
    -------
    OptimizeResult
        COBYQA's, or COBYLA's where that violates less, or is lower in the mean of new values by two standard errors;
        ``fun`` is the mean of further new values and ``fun_std`` its standard error.
    """
    limit = call.limits.get("maxfev")
    if limit is None or call.tol is not None or set(call.options) - {"disp"}:
        return counted(run_scipy(call, "COBYQA", watched=watched), watched)
    kept = int(min(REPLICATES, limit // 10))
    watched.set_budget(maxfev=limit - kept)
    result = run_scipy(call, "COBYQA", watched=watched, options={**call.options, "maxfev": int(limit)})
    x = _mended(call, result.x)
    if watched.ended is None and not _fixed(watched) and left(call, watched) >= FEWEST:
        path, spent = f"COBYQA ended after {watched.nfev} values, COBYLA then took ", watched.nfev
        other = run_scipy(call, "COBYLA", watched=watched, options={**call.options, "maxiter": int(limit)})
        path += f"{watched.nfev - spent}"
        if watched.ended not in (None, Code.MAXFEV):
            result, x = other, other.x
        else:
            x, result = _better(call, watched, (x, result), (_mended(call, other.x), other))
        result.message = f"{path} and was {'' if result is other else 'not '}better: {result.message}"
    watched.set_budget(maxfev=limit)
    result.best_x, result.best_fun = watched.best_x, watched.best_f
    if result.status != int(Code.INTERRUPTED):
        re_estimate(call, watched, result, x, kept)
    result.maxcv = _violation(watched, result.x)
    return counted(result, watched)


def _fixed(watched: Watched) -> bool:
    """Return whether a variable is fixed by its bounds: scipy's COBYLA fails there if there are constraints."""
    return watched.lower is not None and watched.upper is not None and bool((watched.lower == watched.upper).any())


def _mended(call: Call, x: Array) -> Array:
    """Return the feasible point next to ``x`` where it violates something and there is one."""
    projection = projection_of(call)
    if projection.violation(x) <= FEASIBLE:
        return x
    found = projection.nearest(np.asarray(x, dtype=np.float64))
    return x if found is None else found.astype(x.dtype)


def _violation(watched: Watched, x: Array) -> float:
    """Return the largest violation, 0 within the tolerance; inf where a constraint fails."""
    try:
        return 0.0 if watched.violation is None else watched.violation(x)
    except Exception:
        return float("inf")


def _better(call: Call, watched: Watched, first: tuple[Array, Any], second: tuple[Array, Any]) -> tuple[Array, Any]:
    """Return the better of two answers (point, result): the second must be so by two standard errors."""
    violations = [_violation(watched, x) for x, _ in (first, second)]
    if violations[0] != violations[1]:
        return second if violations[1] < violations[0] else first
    try:
        points = np.repeat([first[0], second[0]], COMPARED, axis=0)
        old, new = np.split(values_at(watched, points, call), 2)
    except StopRun as stop:
        return first[0], stopped(watched, call.x0, stop.code, stop.detail, gradient=False)
    except KeyboardInterrupt:
        return first[0], stopped(watched, call.x0, Code.INTERRUPTED, gradient=False)
    return second if lower(old, new) else first
