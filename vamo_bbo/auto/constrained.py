"""``method="auto"`` under constraints, without a gradient: models of the objective within the true constraints.

Constraints are taken as exact and cheap beside the objective. So only the objective is modelled, by the quadratics of
:mod:`vamo_bbo.auto.noisy`: one that interpolates, and under noise a regression that goes on where noise decides. Each
step leads to where the model is the lowest within the region and the constraints themselves
(:mod:`vamo_bbo.feasible`), and the objective is called at feasible points only. Of a stated budget what is then left
goes to other starts: the lowest of d + 1 random feasible points each time, from which a model goes down as far as
is needed to see whether it comes lower.

With more variables, where no feasible point is found, or with options of its own, COBYQA is run: it models the
constraints as well, from one call of them per value, and may call the objective outside of them. Under noise it ends by
itself after some 15 (d + 1) values; COBYLA (M. J. D. Powell, A direct search optimization method that models the
objective and constraint functions by linear interpolation, 1994) then goes from the same start, and new values at both
answers decide between them; a last step leads to the feasible set, at no value of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.noisy import COMPARED, PATIENCE, REGRESSION, REPLICATES, XTOL, lower, re_estimate
from vamo_bbo.auto.rounds import is_parallel, points_of_a_round, values_at
from vamo_bbo.auto.search import FEWEST, counted, gained, generic, left, reach, start_of
from vamo_bbo.auto.units import Coordinates
from vamo_bbo.constraints import rows_of
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.feasible import FEASIBLE, FeasibleSet
from vamo_bbo.projection import projection_of
from vamo_bbo.run.setup import seed_of
from vamo_bbo.run.stop import Code
from vamo_bbo.scipy_layer.asked import Asked
from vamo_bbo.scipy_layer.call import run_scipy
from vamo_bbo.scipy_layer.methods import stopped
from vamo_bbo.scipy_layer.objective import StopRun, Watched
from vamo_bbo.solvers.interpolation import interpolation
from vamo_bbo.solvers.quadratic import KEPT, quadratic

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["is_modelled", "run_modelled", "run_noisy_constrained"]

EXACT = 1e-8
"""Last radius of a model without noise, relative to the first."""
ROUGH = 1e-2
"""The same from another start: what does not come lower before is not followed."""
DRAWS = 20
"""Random points that are tried for each feasible one."""


def is_modelled(call: Call) -> bool:
    """Return whether a model within the constraints may be run: few variables, and nothing asks for another method."""
    own = call.tol is None and not set(call.options) - {"disp", "maxiter"}
    exact = np.asarray(call.x0).dtype != np.float32  # of which few points are feasible to FEASIBLE
    plain = exact and not (call.needs_ours or call.has_gradient or call.space)
    return own and plain and call.constrained and call.size <= REGRESSION


def run_modelled(call: Call, watched: Watched, start: Array, noisy: bool, units: Array | None) -> Any:
    """Minimize under constraints by models of the objective.

    Parameters
    ----------
    call : Call
        The arguments; with noise and without ``maxfev`` the budget is ``min(1000 (d + 1), 100_000)``.
    watched : Watched
        Counts that hold the value at the start, two of them with noise.
    start : (d,) array
        A feasible point.
    noisy : bool
        Whether there is noise.
    units : (d,) array or None
        Sizes of the variables, if the user has stated them; else the widths of the box, and 1.

    Returns
    -------
    OptimizeResult
        Of the best local run, with the counts of all. Under noise ``fun`` is the mean of new values, ``fun_std`` its
        standard error.
    """
    limit = call.limits.get("maxfev")
    stated = any(call.limits.get(name) is not None for name in ("maxfev", "max_time", "f_target"))
    total = float(min(1000 * (call.size + 1), 100_000)) if limit is None and noisy else limit
    kept = 0 if total is None or not noisy else int(min(REPLICATES, total // 10))
    watched.set_budget(maxfev=None if total is None else total - kept)
    watched.remember(KEPT)
    models = _Models.around(call, watched, start, noisy, units)
    result, x, path = models.from_start(start)
    if stated and result.success and watched.ended is None and not models.is_one_point():
        result, x, path = models.from_others(result, x, path)
    watched.set_budget(maxfev=total, max_time=call.limits.get("max_time"))
    if noisy:
        result.best_x, result.best_fun = watched.best_x, watched.best_f
        if result.status != int(Code.INTERRUPTED):
            re_estimate(call, watched, result, x, kept)
    elif watched.best_x is not None and watched.best_f < result.fun:
        result.x, result.fun = watched.best_x.astype(result.x.dtype), watched.best_f
    if not str(result.message).startswith(f"{path}:"):  # a method that ended by itself says its name
        result.message = f"{path}: {result.message}"
    result.maxcv = _violation(watched, result.x)
    return counted(result, watched)


@dataclass(frozen=True, slots=True)
class _Models:
    """Models of the objective in coordinates of one size, and the feasible set in these."""

    call: Call
    watched: Watched
    at: Coordinates
    info: ProblemInfo

    @classmethod
    def around(cls, call: Call, watched: Watched, start: Array, noisy: bool, units: Array | None) -> _Models:
        at = Coordinates.around(start, watched, 1.0 if units is None else units, boxed=units is None)
        rows = rows_of(call.constraints).within(at.to_x, at.free, at.scale)
        feasible = FeasibleSet(rows, at.of(at.lower), at.of(at.upper), np.ones(int(at.free.sum())))
        info = ProblemInfo(lower=feasible.lower, upper=feasible.upper, noisy=noisy, feasible=feasible)
        return cls(call, watched, at, info)

    def from_start(self, start: Array) -> tuple[Any, Array, str]:
        """Run the models from a feasible point; return the result, the point to be recommended, and what was run."""
        parallel = is_parallel(self.call) and not self.is_one_point()
        if self.info.noisy and parallel:  # an interpolating model asks for one point at a time
            return *self._regressed(start), "quadratic"
        method = self._interpolation(start, None if self.info.noisy else self.watched.best_f)
        result = self._run(method)
        if not self.info.noisy or not self._goes_on(result) or self.is_one_point():
            return result, method.recommended(), "interpolation"
        spent = self.watched.nfev
        return *self._regressed(method.recommended()), f"interpolation until {spent} values, then quadratic"

    def is_one_point(self) -> bool:
        """Return whether the equations among the constraints leave no direction."""
        assert self.info.feasible is not None
        basis = self.info.feasible.tangent(self.at.of(self.at.x.astype(np.float64)))
        return basis is not None and basis.shape[1] == 0

    def from_others(self, result: Any, x: Array, path: str) -> tuple[Any, Array, str]:
        """Spend what is left on other starts; return as :meth:`from_start`."""
        call, watched = self.call, self.watched
        rng, starts, spent, found = np.random.default_rng(seed_of(call.rng)), 0, watched.nfev, "nothing better"
        last = result
        try:
            while left(call, watched) >= FEWEST and watched.ended is None:
                start, value = self._drawn(rng)
                starts += 1
                method = self._interpolation(start, None if self.info.noisy else value, ROUGH)
                last = self._run(method)
                if watched.ended is not None or not self._is_better(method, x, result):
                    continue
                found, x = "a better valley", method.recommended()
                if self.info.noisy:
                    result, x = self._regressed(x)
                else:
                    method.solver, method.state.scalars["ended"] = interpolation(xtol=EXACT), 0.0
                    result = self._run(method)
                last = result
        except StopRun as stop:
            last = stopped(watched, call.x0, stop.code, stop.detail, gradient=False)
        except KeyboardInterrupt:
            last = stopped(watched, call.x0, Code.INTERRUPTED, gradient=False)
        if watched.ended not in (None, Code.MAXFEV, Code.MAX_TIME) or last.status == int(Code.INTERRUPTED):
            result = last
        if starts:
            path = f"{path}; {starts} other starts then used {watched.nfev - spent} values and found {found}"
        return result, x, path

    def _run(self, method: Asked) -> Any:
        return run_scipy(self.call, method, watched=self.watched, options=generic(self.call), x0=method.recommended())

    def _goes_on(self, result: Any) -> bool:
        return bool(result.success) and self.watched.ended is None and left(self.call, self.watched) >= FEWEST

    def _interpolation(self, x: Array, value: float | None, xtol: float | None = None) -> Asked:
        solver = interpolation(xtol=xtol or (XTOL if self.info.noisy else EXACT))
        state = solver.init(self.at.of(x.astype(np.float64)), seed=0, backend="numpy", info=self.info)
        if value is not None:
            solver.begin(state, value)
        return Asked(solver, state, self.at.to_x)

    def _regressed(self, x: Array) -> tuple[Any, Array]:
        """Run a regression that knows the latest values until it has settled; return its result and its center."""
        points, values = self.watched.latest()
        info = replace(self.info, known_points=self.at.of(points.astype(np.float64)), known_values=values)
        patience = max(PATIENCE, 0.5 * self.call.size + 1.0)
        solver = quadratic(patience=patience, n_points=points_of_a_round(self.call))
        y = self.at.of(x.astype(np.float64))
        method = Asked(solver, solver.init(y, seed=seed_of(self.call.rng), backend="numpy", info=info), self.at.to_x)
        result = self._run(method)
        return result, method.recommended()

    def _drawn(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return the lowest of d + 1 random feasible points, and its value."""
        lower, upper, feasible = self.info.lower, self.info.upper, self.info.feasible
        assert lower is not None
        assert upper is not None
        assert feasible is not None
        center = self.at.of(start_of(self.call, self.watched))
        size = self.at.of(np.broadcast_to(reach(self.call, self.watched, None), self.at.x.shape))
        boxed = np.isfinite(upper - lower)
        points: list[Array] = []
        for _ in range(DRAWS * (center.size + 1)):
            drawn = center + size * rng.standard_normal(center.size)
            drawn[boxed] = lower[boxed] + (upper - lower)[boxed] * rng.random(int(boxed.sum()))
            point = feasible.nearest(drawn)
            if point is not None:
                points.append(self.at.to_x(point))
            if len(points) > center.size:
                break
        values = values_at(self.watched, points, self.call)
        if not np.isfinite(values).any():
            raise StopRun(Code.MAXFEV)
        best = int(np.nanargmin(values))
        return points[best], float(values[best])

    def _is_better(self, method: Asked, x: Array, result: Any) -> bool:
        """Return whether a model has come lower than the best one."""
        if not self.info.noisy:
            return gained(method.state.scalars["value"], result.fun)
        points = np.repeat([x, method.recommended()], COMPARED, axis=0)
        return lower(*np.split(values_at(self.watched, points, self.call), 2))


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
