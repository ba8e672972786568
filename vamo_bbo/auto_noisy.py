"""``method="auto"`` on a noisy objective of moderate size: COBYQA, then a regression or CMA-ES from where it ended.

A quadratic model over a trust region averages the noise as long as the region is wide, and comes close in few values.
When the region has shrunk to where noise decides it is stuck. A model that is fitted to more points than it needs, in a
region that noise keeps wide, goes on from there; with more variables than that is affordable for, a population, whose
ranking needs no differences (docs/which_method.rst has the measurement). Without the package
``cmaes``, COBYQA is started again from its best point with another region (C. Cartis, J. Fiala, B. Marteau and
L. Roberts, Improving the flexibility and robustness of model-based derivative-free optimization solvers, ACM TOMS 45
(2019), section 4).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.objective import StopRun, Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["run_noisy"]

REPLICATES = 30
"""Most evaluations kept for the answer; at most a tenth of the budget."""
CANDIDATES = 3
FEWEST = 20
"""Values that must be left for the second method."""
REGRESSION = 15
"""Most variables for which method "quadratic" goes on: it fits at most 150 points."""
RADII = (1.0, 0.1, 0.3, 0.03)
"""Trust-region radii of the starts, in turn; the first is COBYQA's default."""


def run_noisy(call: Call, watched: Watched) -> Any:
    """Minimize a noisy objective with scipy's methods.

    Parameters
    ----------
    call : Call
        The arguments; without ``maxfev`` the budget is ``min(1000 (d + 1), 100_000)``.
    watched : Watched
        Counts that hold two values at x0.

    Returns
    -------
    OptimizeResult
        ``x`` is the one of the lowest points and the last iterate that has the lowest mean over repeated evaluations;
        ``fun`` is that mean and ``fun_std`` its standard error; ``best_x`` and ``best_fun`` are the luckiest draw.
    """
    from vamo_bbo.auto import has_cma

    limit = call.limits.get("maxfev")
    total = float(min(1000 * (call.size + 1), 100_000) if limit is None else limit)
    kept = min(REPLICATES, total // 10)
    watched.set_budget(maxfev=total - kept)
    candidates: list[Array] = []
    second = "quadratic" if call.size <= REGRESSION else "cma" if has_cma() else None
    result, path = _stages(call, watched, candidates, once=second is not None)
    if second is not None and _goes_on(result) and total - watched.nfev >= FEWEST:
        return _second(call, watched, total, second)
    watched.set_budget(maxfev=total)
    result.best_x, result.best_fun, result.fun_std = watched.best_x, watched.best_f, math.nan
    if result.status != int(Code.INTERRUPTED):
        _re_estimate(call, watched, result, candidates, int(kept))
    result.nfev = result.nfev_samples = watched.nfev
    result.message = f"{path}: {result.message}"
    return result


def _second(call: Call, watched: Watched, total: float, method: str) -> Any:
    """Go on with one of our solvers from the best point, and add up the counts."""
    from vamo_bbo.minimize import run_call

    began, spent = watched.began, watched.nfev
    options = {name: value for name, value in call.options.items() if name in ("maxiter", "disp")}
    limits = {**call.limits, "maxfev": total - spent}
    if limits.get("max_time") is not None:
        limits["max_time"] = max(0.0, limits["max_time"] - (time.perf_counter() - began))
    known = [(watched.best_x, watched.best_f)]
    result: Any = run_call(replace(call, known_points=known, known=None, limits=limits, options=options), method)
    for name in ("nfev", "nfev_samples"):
        result[name] += spent
    result.n_failed += watched.failures.count
    result.failures = [*watched.failures.records, *result.failures]
    result.history = watched.history.followed_by(result.history, spent)
    result.message = f"COBYQA ended after {spent} values, then {method}: {result.message}"
    return result


def _stages(call: Call, watched: Watched, candidates: list[Array], *, once: bool) -> tuple[Any, str]:
    """Run COBYQA, again and again unless ``once``, until the budget or something else ends it."""
    from vamo_bbo.scipy_layer.call import run_scipy

    generic = {name: value for name, value in call.options.items() if name in ("maxiter", "disp")}
    start, count = call.x0, 0
    while True:
        radius = RADII[count % len(RADII)]
        options = {
            **generic,
            "initial_tr_radius": radius,
            "final_tr_radius": 1e-6 * radius,
            "maxfev": int(watched.budget.maxfev or 1),
        }
        spent = watched.nfev
        result = run_scipy(call, "COBYQA", watched=watched, x0=start, options=options)
        count += 1
        candidates.append(np.array(result.x))
        if once or not _goes_on(result) or watched.nfev == spent:
            return result, f"{count} start{'s' if count > 1 else ''}"
        start = watched.best_x


def _goes_on(result: Any) -> bool:
    """Return whether COBYQA ended by itself: at its smallest radius, or because it could not improve its model."""
    text = str(result.message)
    return "trust-region radius" in text or "linear algebra error" in text


def _re_estimate(call: Call, watched: Watched, result: Any, candidates: list[Array], kept: int) -> None:
    """Give the result the candidate with the lowest mean; half of the evaluations choose it, half go to it."""
    points = [np.array(watched.best_x), *candidates[::-1]]
    distinct = [p for k, p in enumerate(points) if not any(np.array_equal(p, q) for q in points[:k])][:CANDIDATES]
    each = max(1, kept // (2 * len(distinct)))
    try:
        samples = [[_value(watched, p, call) for _ in range(each)] for p in distinct]
        means = [float(np.nanmean(s)) if np.isfinite(s).any() else math.inf for s in samples]
        chosen = means.index(min(means))
        result.x = distinct[chosen]
        # the means that chose are biased downwards: the reported one is of new evaluations
        fresh = [_value(watched, distinct[chosen], call) for _ in range(kept - each * len(distinct))]
        fresh = [v for v in fresh if math.isfinite(v)] or [v for v in samples[chosen] if math.isfinite(v)]
    except (StopRun, KeyboardInterrupt):
        return
    if fresh:
        result.fun = float(np.mean(fresh))
        if len(fresh) > 1:
            result.fun_std = float(np.std(fresh, ddof=1) / math.sqrt(len(fresh)))


def _value(watched: Watched, x: Array, call: Call) -> float:
    """Return one value at ``x``, NaN for a failure."""
    failed = watched.failures.count
    value = watched.plain(x, call.arguments)
    return value if watched.failures.count == failed else math.nan
