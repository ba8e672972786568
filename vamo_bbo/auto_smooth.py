"""``method="auto"`` without noise and without a gradient: a descent, a model, then what is left of a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo.auto_search import goes_on, may_search, search_on
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.objective import Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["descend"]

MODELS = 20
"""Most variables for which COBYQA takes over from a slow L-BFGS-B: its own time grows fast with d."""
STUCK = 100
"""Most variables for which COBYQA takes over from an L-BFGS-B that is stuck."""
PATIENCE = 15
"""L-BFGS-B is slow when it has not ended after so many times d + 1 values."""
BACKTRACKS = 10
"""A line search that finds no better point with so many gradients follows no slope: it would take twenty, twice."""
_NO_LIMIT = 10**9


def descend(call: Call, watched: Watched) -> Any:
    """Run L-BFGS-B by differences; where it is slow or gets stuck, COBYQA, and L-BFGS-B again to polish.

    The measurement behind it is in ``docs/which_method.rst``: each of the two is far ahead on some problems, and the
    slow ones of L-BFGS-B show within ``PATIENCE (d + 1)`` values. What is left of a stated budget goes to
    :func:`~vamo_bbo.auto_search.search_on`.

    Parameters
    ----------
    call : Call
        The arguments.
    watched : Watched
        Counts that hold two values at x0.

    Returns
    -------
    OptimizeResult
        Of the stage that found the answer, with the counts of all.
    """
    result = _local(call, watched)
    return search_on(call, watched, result) if goes_on(call, watched) else result


def _local(call: Call, watched: Watched) -> Any:
    from vamo_bbo.scipy_layer.call import run_scipy

    result, slow = _first_descent(call, watched)
    # Every difference zero: more likely a simulator that prints seven digits than a constant function or a minimum.
    flat = watched.nfev > call.size and not np.any(result.get("jac", 1.0))
    stuck = ("ABNORMAL" in str(result.message) or flat) and call.size <= STUCK
    if not (slow or stuck) or watched.best_x is None:
        return result
    generic = {k: v for k, v in call.options.items() if k in ("disp", "maxiter")}
    model = run_scipy(call, "COBYQA", watched=watched, options=generic, x0=watched.best_x)
    before = f"{PATIENCE} (d + 1) values of L-BFGS-B" if slow else "L-BFGS-B found no slope to follow"
    model.message = f"{before}, then COBYQA: {model.message}"
    if not model.success:
        return model
    polished = run_scipy(call, "L-BFGS-B", watched=watched, x0=watched.best_x)
    if polished.fun <= model.fun and (polished.success or polished.status == 99):
        polished.message = f"{model.message}, then L-BFGS-B: {polished.message}"
        return polished
    for name in ("nfev", "nfev_samples", "n_failed", "failures"):
        model[name] = polished[name]
    if watched.best_f < model.fun:
        model.x, model.fun = np.array(watched.best_x), watched.best_f
    return model


def _first_descent(call: Call, watched: Watched) -> tuple[Any, bool]:
    """Run L-BFGS-B and return its result, and whether it was ended because it is slow."""
    from vamo_bbo.scipy_layer.call import run_scipy

    total, searched = watched.budget.maxfev, may_search(call)
    first = PATIENCE * (call.size + 1) if call.size <= MODELS else math.inf
    if first < (math.inf if total is None else total):
        watched.set_budget(maxfev=first)
    if searched and call.size > MODELS:
        watched.patience = BACKTRACKS * (call.size + 1)
    # scipy's own limits of 15,000 are not the budget that the user stated
    options = {**call.options, "maxfun": _NO_LIMIT, "maxiter": _NO_LIMIT} if searched else call.options
    result = run_scipy(call, "L-BFGS-B", watched=watched, options=options)
    slow = result.status == int(Code.MAXFEV) and watched.budget.maxfev != total and watched.nfev <= first
    if watched.ended is Code.CONVERGED:
        result.message = f"L-BFGS-B found no better point with {BACKTRACKS} gradients"
    watched.set_budget(maxfev=total)
    watched.patience = math.inf
    return result, slow
