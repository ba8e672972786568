"""``method="auto"`` in a space: Bayesian optimization first, then what suits the rest of the budget.

The center of a space is no start that anyone has chosen, and a value of a user of spaces is dear (a training, a
simulation): the first FIRST values go to a process that learns from each of them which parameters matter. From there on
its own time grows and its precision does not: an evolution strategy goes on from the best point, or, where all
parameters are real, what "auto" runs on them (docs/benchmarks/auto_spaces.rst has the measurement).
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._errors import EvaluationError
from vamo_bbo._typing import Array
from vamo_bbo.auto.noisy import REPLICATES, re_estimate, run_noisy
from vamo_bbo.auto.rounds import points_of_a_round
from vamo_bbo.auto.search import FEWEST, RESTARTS, counted, generic, may_search
from vamo_bbo.auto.smooth import descend
from vamo_bbo.auto.units import Look
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.run.setup import seed_of
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.solvers import bayes, cma

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["FIRST", "differs", "has_cmaes", "run_space"]

FIRST = 200
"""Most values of the first stage where another one can follow."""


def has_cmaes() -> bool:
    """Return whether the optional package is installed that method "cma" needs for Integer and Choice parameters."""
    return importlib.util.find_spec("cmaes") is not None


def differs(call: Call, watched: Watched, x0: Array, *, twice: bool) -> bool:
    """Evaluate x0, ``twice`` unless it is known whether values differ; return whether they do.

    A failure there is one like any other: nobody has chosen the center.
    """
    first = watched.generation([x0], call.arguments)[0]
    if call.noisy is not None or math.isnan(first) or not twice:
        return bool(call.noisy)
    return watched.generation([x0], call.arguments)[0] != first


def run_space(call: Call, watched: Watched, noisy: bool) -> Any:
    """Search a space.

    Parameters
    ----------
    call : Call
        The arguments; ``x0`` is a point of the unit box.
    watched : Watched
        Counts that hold the value at x0, or two.
    noisy : bool
        Whether values differ.

    Returns
    -------
    OptimizeResult
        The best point. Where the objective is noisy, the one that the last method recommends, with the mean of new
        values, as of :func:`~vamo_bbo.auto.noisy.run_noisy`.
    """
    from vamo_bbo.scipy_layer.call import run_scipy

    total = math.inf if watched.budget.maxfev is None else float(watched.budget.maxfev)
    kept = min(REPLICATES, int(min(total, FIRST) // 10)) if noisy else 0
    followed = call.levels is None or (has_cmaes() and not noisy)  # the lowest value of a population is a lucky draw
    first = min(FIRST, total - kept) if followed or math.isinf(total) else total - kept
    watched.set_budget(maxfev=first)
    method, path = _first(call, watched, noisy, first), ""
    if watched.best_x is None:
        run_scipy(call, method, watched=watched, options={"maxiter": 1})
        if watched.best_x is None and watched.ended is None:
            record = watched.failures.records[-1]
            raise EvaluationError(
                f"The objective failed at all {watched.nfev} first points of the space: {record.error}"
            ) from watched.exception
    result = run_scipy(call, method, watched=watched, options=generic(call))
    watched.set_budget(maxfev=None if math.isinf(total) else total)
    if followed and watched.ended is Code.MAXFEV and watched.best_x is not None and total - kept - first >= FEWEST:
        path = f"bayes used {watched.nfev} values, then "
        call.x0 = method.recommended() if noisy else watched.best_x
        if call.levels is None:
            result = run_noisy(call, watched, None) if noisy else descend(call, watched, Look(watched.best_f))
            result.message = f"{path}{result.message}"
            return result
        path = f"{path}cma: "
        watched.set_budget(maxfev=None if math.isinf(total) else total - kept)
        method = _rest(call, watched, noisy)
        result = run_scipy(call, method, watched=watched, options=generic(call))
        watched.set_budget(maxfev=None if math.isinf(total) else total)
    result.message = f"{path}{result.message}"
    if noisy and watched.best_x is not None and result.status != int(Code.INTERRUPTED):
        result.best_x, result.best_fun, result.fun_std = watched.best_x, watched.best_f, math.nan
        re_estimate(call, watched, result, method.recommended(), kept)
    return counted(result, watched)


def _info(call: Call, watched: Watched, noisy: bool, **known: Any) -> ProblemInfo:
    return ProblemInfo(lower=watched.lower, upper=watched.upper, levels=call.levels, noisy=noisy, **known)


def _first(call: Call, watched: Watched, noisy: bool, most: float) -> Asked:
    """Return the first stage, in rounds of as many points as there are workers."""
    points, values = np.asarray([call.x0], dtype=np.float64), np.array([math.nan])  # if it has failed
    if watched.best_x is not None and watched.nfev > watched.failures.count:
        points, values = (column if noisy else column[:1] for column in watched.latest())  # two of x0
    if call.known is not None:
        points, values = np.vstack([points, call.known.points]), np.append(values, call.known.values)
    solver, x0 = bayes(n_points=points_of_a_round(call)), np.asarray(call.x0, dtype=np.float64)
    info = _info(call, watched, noisy, known_points=points, known_values=values)
    state = solver.init(x0, seed=seed_of(call.rng), backend="numpy", info=info, horizon=most - watched.nfev)
    return Asked(solver, state, _same)


def _rest(call: Call, watched: Watched, noisy: bool) -> Asked:
    """Return the strategy that goes on, started again and again where a budget says for how long."""
    solver = cma(restarts=RESTARTS if may_search(call) else 0, restart_strategy="bipop")
    x0 = np.asarray(call.x0, dtype=np.float64)
    state = solver.init(x0, seed=seed_of(call.rng), backend="numpy", info=_info(call, watched, noisy))
    return Asked(solver, state, _same)


def _same(x: Array) -> Array:
    return x
