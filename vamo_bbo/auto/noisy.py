"""``method="auto"`` on a noisy objective of moderate size: an interpolating model, a regression, then a search.

A quadratic that interpolates, in a region of the model's own shape, comes close in few values as long as the noise is
small against what is left to gain; where it no longer is, that model ends. One that is fitted to more points than it
needs, in a region that noise keeps wide, goes on from there, and knows the values that are paid for. With more
variables than that is affordable for COBYQA comes first, and then a population, whose ranking needs no differences
(docs/benchmarks/auto_noise.rst has the measurements). The interpolating model asks for one point at a time: with
several workers the regression, in rounds of as many points, begins. Where many of the first values fail a population
goes on after it: at the border of a region that fails both models are stuck.

Where the user has stated a budget and the regression has settled (its level does not fall by more than the noise any
more), RESERVE is kept and the rest of what is left goes to restarts of CMA-ES (:mod:`vamo_bbo.auto.search`), which
begin at x0: from the local minimum they found fewer others. A start that comes down to the level of the regression, in
the same valley, is ended; another one begins elsewhere, unless a quarter of what was left is spent. Whether two points
are in one valley is seen on the line between them (R. K. Ursem, Multinational evolutionary algorithms, CEC 1999; S. C.
Maree, T. Alderliesten, D. Thierens and P. A. N. Bosman, Real-valued evolutionary multi-modal optimization driven by
hill-valley clustering, GECCO 2018). If the best point of a search is lower than the center of the regression in the
mean of new values of both, by two standard errors, a new regression starts there; else the old one goes on averaging.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.rounds import is_parallel, points_of_a_round, values_at
from vamo_bbo.auto.search import (
    all_but_a_reserve,
    counted,
    generic,
    left,
    local_population,
    may_search,
    population,
    reach,
    start_of,
)
from vamo_bbo.auto.units import Coordinates
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.run.setup import seed_of
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.methods import stopped
from vamo_bbo.scipy_layer.objective import StopRun, Watched
from vamo_bbo.scipy_layer.stretched import Stretched
from vamo_bbo.solvers.cma import EvolutionStrategy
from vamo_bbo.solvers.interpolation import interpolation
from vamo_bbo.solvers.quadratic import KEPT, QuadraticRegression, quadratic

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["COMPARED", "MODELS", "REPLICATES", "lower", "re_estimate", "run_noisy"]

MODELS = ("quadratic", "COBYQA")
"""Methods with which a run begins: the former up to REGRESSION variables."""
REPLICATES = 30
"""Most evaluations kept for the answer; at most a tenth of the budget."""
FEWEST = 20
"""Values that must be left for another method."""
REGRESSION = 20
"""Most variables for which method "quadratic" is run: it fits at most 150 points."""
PATIENCE = 6
"""The regression has settled when its level has not fallen by more than the noise in so many times d + 1 values, and
in as many as a quadratic has coefficients."""
FAILING = 0.1
"""If more than this share of the first values failed, at the border of a region where they do, a population goes on."""
RESERVE = 0.4
"""Share of what is left that a search leaves for a regression."""
GENERATIONS = 3
"""Generations of a search after which it is looked at."""
ENOUGH = 0.25
"""A search ends when a start of it comes back to the valley of the regression after this share of what was left."""
ALIKE = 2.0
"""A population is as low as the regression if their levels differ by at most so many standard deviations of a value."""
HILL = 2.0
"""A value between the two that is higher than both by so many standard deviations is one of a hill."""
BETWEEN = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Where on the line between the two a hill is looked for."""
COMPARED = 5
"""Values at each of two points that are compared."""
XTOL = 1e-6
"""The interpolation ends at so much of its first radius if noise has not ended it: COBYQA's default."""


def run_noisy(call: Call, watched: Watched, units: Array | None) -> Any:
    """Minimize a noisy objective.

    Parameters
    ----------
    call : Call
        The arguments; without ``maxfev`` the budget is ``min(1000 (d + 1), 100_000)``.
    watched : Watched
        Counts that hold two values at x0.
    units : (d,) array or None
        Sizes of the variables, of :func:`~vamo_bbo.auto.units.find_units`.

    Returns
    -------
    OptimizeResult
        ``x`` is the center of the last regression (the mean of the population, the last iterate), or the point of the
        lowest value if that is better in the mean of new values by more than their standard error; ``fun`` is the mean
        of further new values and ``fun_std`` its standard error; ``best_x`` and ``best_fun`` are the luckiest draw.
    """
    limit = call.limits.get("maxfev")
    total = float(min(1000 * (call.size + 1), 100_000) if limit is None else limit)
    kept = min(REPLICATES, total // 10)
    watched.set_budget(maxfev=total - kept)
    result, x, path = (_regressed if call.size <= REGRESSION else _followed)(call, watched, units)
    watched.set_budget(maxfev=total, max_time=call.limits.get("max_time"))
    result.best_x, result.best_fun, result.fun_std = watched.best_x, watched.best_f, math.nan
    if result.status != int(Code.INTERRUPTED):
        re_estimate(call, watched, result, x, int(kept))
    result.message = f"{path}: {result.message}"
    return counted(result, watched)


def _followed(call: Call, watched: Watched, units: Array | None) -> tuple[Any, Array, str]:
    """Run COBYQA, then a population; return the last result, the point to be recommended, and what was run."""
    result = _run(call, watched, _model(start_of(call, watched), units))
    if not _goes_on(result) or left(call, watched) < FEWEST:
        return result, np.array(result.x), "COBYQA"
    assert watched.best_x is not None
    path = f"COBYQA ended after {watched.nfev} values, then cma"
    method = population(call, watched, watched.best_x, 1.0 if units is None else units, noisy=True)
    result = _run(call, watched, method)
    return result, method.recommended(), path


def _regressed(call: Call, watched: Watched, units: Array | None) -> tuple[Any, Array, str]:
    """Run the interpolating model, unless there are several workers, then the regression; search where that settles.

    If many of the first values have failed a population takes the place of both others. Returns as :func:`_followed`.
    """
    watched.remember(KEPT)
    path, start = "quadratic", start_of(call, watched)
    if not is_parallel(call):
        first = _interpolation(call, watched, units)
        result = _run(call, watched, first)
        if not _settled(call, watched, result):
            return result, first.recommended(), "interpolation"
        path, start = f"interpolation until {watched.nfev} values, then quadratic", first.recommended()
        if watched.failures.count > FAILING * watched.nfev:
            method = local_population(call, watched, start, units, noisy=True)
            result = _run(call, watched, method)
            return result, method.recommended(), "interpolation, which many failures held up, then cma"
    local = _regression(call, watched, start, units)
    result = _run(call, watched, local)
    if not may_search(call) or not _settled(call, watched, result):
        return result, local.recommended(), path
    path = f"{path} until {watched.nfev}, then cma and quadratic"
    search = population(call, watched, start_of(call, watched), reach(call, watched, units), noisy=True)
    while _settled(call, watched, result):
        spent = watched.nfev
        try:
            result, returned = _searched(call, watched, search, local)
            if watched.ended not in (None, Code.MAXFEV, Code.MAX_TIME):
                break
            better = not returned and _is_better(call, watched, search, local)
        except StopRun as stop:
            result = stopped(watched, call.x0, stop.code, stop.detail, gradient=False)
            break
        except KeyboardInterrupt:
            result = stopped(watched, call.x0, Code.INTERRUPTED, gradient=False)
            break
        if better:
            local = _regression(call, watched, search.to_x(search.state.arrays["best"]), units)
        else:
            local.solver = _quadratic(call)  # without patience: averaging is what is left to do
        result = _run(call, watched, local)
        if watched.nfev == spent:
            break
    return result, local.recommended(), path


def _settled(call: Call, watched: Watched, result: Any) -> bool:
    """Return whether a method ended by itself, with values left."""
    return bool(result.success) and watched.ended is None and left(call, watched) >= FEWEST


def _run(call: Call, watched: Watched, method: Any, **options: Any) -> Any:
    """Run one method; the user's ``maxiter`` and ``disp`` are for each."""
    from vamo_bbo.scipy_layer.call import run_scipy

    if method == "COBYQA" or isinstance(method, Stretched):  # its own limit is another one
        options["maxfev"] = int(watched.budget.maxfev or 1)
    return run_scipy(call, method, watched=watched, options={**generic(call), **options})


def _model(x: Array, units: Array | None) -> Any:
    """Return COBYQA from ``x``, in ``units``."""
    return "COBYQA" if units is None else Stretched("COBYQA", x, units)


def _interpolation(call: Call, watched: Watched, units: Array | None) -> Asked:
    """Return the interpolating model that starts at x0."""
    x = start_of(call, watched)
    at = Coordinates.around(x, watched, 1.0 if units is None else units)
    solver, info = interpolation(xtol=XTOL), ProblemInfo(lower=at.of(at.lower), upper=at.of(at.upper), noisy=True)
    state = solver.init(at.of(x), seed=0, backend="numpy", info=info)
    return Asked(solver, state, at.to_x)


def _regression(call: Call, watched: Watched, x: Array, units: Array | None) -> Asked:
    """Return the regression that starts at ``x`` and knows the latest values."""
    at = Coordinates.around(x, watched, 1.0 if units is None else units)
    points, values = watched.latest()
    info = ProblemInfo(
        lower=at.of(at.lower),
        upper=at.of(at.upper),
        noisy=True,
        known_points=at.of(points.astype(np.float64)),
        known_values=values,
    )
    patience = max(PATIENCE, 0.5 * call.size + 1.0)  # times d + 1, the latter is the number of the coefficients
    solver = _quadratic(call, patience if may_search(call) else math.inf)
    state = solver.init(at.of(x.astype(np.float64)), seed=seed_of(call.rng), backend="numpy", info=info)
    return Asked(solver, state, at.to_x)


def _quadratic(call: Call, patience: float = math.inf) -> QuadraticRegression:
    """Return the regression; without patience it goes on averaging."""
    return quadratic(patience=patience, n_points=points_of_a_round(call))


def _searched(call: Call, watched: Watched, search: Asked, local: Asked) -> tuple[Any, bool]:
    """Search with all but a reserve; return the last result, and whether the search has come back to the regression."""
    whole, returned = watched.budget, False
    enough = watched.nfev + ENOUGH * left(call, watched)
    watched.set_budget(**all_but_a_reserve(call, watched, RESERVE))
    try:
        while not (returned and watched.nfev >= enough):
            result = _run(call, watched, search, maxiter=GENERATIONS)
            if watched.ended is not None or search.solver.status(search.state) is not None:
                return result, False
            returned = _came_back(call, watched, search, local)
            if returned:
                assert isinstance(search.solver, EvolutionStrategy)
                search.solver.start_again(search.state)
    finally:
        watched.set_budget(maxfev=whole.maxfev, max_time=whole.max_time)
    return result, True


def _came_back(call: Call, watched: Watched, search: Asked, local: Asked) -> bool:
    """Return whether the population is as low as the center of the regression, with no hill between the two."""
    level, noise = local.state.scalars["level"], math.sqrt(local.state.scalars.get("noise_variance", 0.0))
    median = float(search.state.arrays["medians"][-1])
    if not abs(median - level) <= ALIKE * noise:
        return False
    here, there = local.recommended(), search.recommended()
    values = values_at(watched, [here + share * (there - here) for share in BETWEEN], call)
    return bool((values <= max(level, median) + HILL * noise).all())  # a failure is a hill


def _is_better(call: Call, watched: Watched, search: Asked, local: Asked) -> bool:
    """Return whether the best point of a search is better than the center of a regression."""
    if search.state.scalars["best_value"] >= local.state.scalars["level"]:
        return False
    points = local.recommended(), search.to_x(search.state.arrays["best"])
    old, new = np.split(values_at(watched, np.repeat(points, COMPARED, axis=0), call), 2)
    return lower(old, new)


def _goes_on(result: Any) -> bool:
    """Return whether COBYQA ended by itself: at its smallest radius, or because it could not improve its model."""
    text = str(result.message)
    return "trust-region radius" in text or "linear algebra error" in text


def re_estimate(call: Call, watched: Watched, result: Any, x: Array, kept: int) -> None:
    """Give the result ``x``, or the lowest point if that is better by more than the standard error, and its mean."""
    luckiest, each = watched.best_x, kept // 4
    result.x = np.array(x)
    try:
        if luckiest is not None and each > 1 and not np.array_equal(x, luckiest):
            old, new = np.split(values_at(watched, np.repeat([x, luckiest], each, axis=0), call), 2)
            if lower(old, new):
                result.x = np.array(luckiest)
            kept -= 2 * each
        # the means that chose are biased downwards: the reported one is of new evaluations
        values = values_at(watched, [result.x] * kept, call)
    except (StopRun, KeyboardInterrupt):
        return
    values = values[np.isfinite(values)]
    if values.size:
        result.fun = float(np.mean(values))
        if values.size > 1:
            result.fun_std = float(np.std(values, ddof=1) / math.sqrt(values.size))


def lower(old: Array, new: Array) -> bool:
    """Return whether the mean of ``new`` values is lower by two standard errors of the difference."""
    old, new = old[np.isfinite(old)], new[np.isfinite(new)]
    if new.size < 2 or old.size < 2:
        return old.size < new.size
    error = math.sqrt(np.var(old, ddof=1) / old.size + np.var(new, ddof=1) / new.size)
    return bool(old.mean() - new.mean() > 2.0 * error)
