r"""Constraints for our solvers: an augmented Lagrangian around any of them.

The constraints are rows ``g_i(x) <= 0`` (one per finite bound of a row) and ``h_j(x) = 0``. Each outer step
minimizes, within the box and from the point of the step before,

.. math:: L(x) = f(x) + \frac{\rho}{2} \sum_j (h_j + \mu_j / \rho)^2 + \frac{\rho}{2} \sum_i \max(0, g_i + \lambda_i /
\rho)^2

and then sets ``lambda = max(0, lambda + rho g)``, ``mu = mu + rho h``; rho grows where the violation did not fall
enough. References: E. G. Birgin and J. M. Martínez, Practical Augmented Lagrangian Methods for Constrained
Optimization, SIAM 2014, Algorithm 4.1 and section 12.4; R. T. Rockafellar, The multiplier method of Hestenes and
Powell applied to convex programming, JOTA 12 (1973) 555-562.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.constraints import Rows, rows_of
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.setup import seed_of
from vamo_bbo.run.stop import ABANDONED, Code

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["Lagrangian", "minimize_lagrangian"]

STEPS = 12
"""Outer steps over which the budget is spread."""
GROWTH = 4.0
"""Factor of the penalty where the violation did not fall by SUFFICIENT."""
SUFFICIENT = 0.5
LARGEST = 1e8
"""Largest penalty and multipliers (safeguards of the reference)."""
SHRINK = 0.6
"""Later outer steps start closer to their solution: the scale of the steps falls by this factor each time."""
FEASIBLE = 1e-3
"""Violation up to which a point counts as feasible, as in the result's ``success``."""


@dataclass(slots=True)
class Lagrangian:
    """The augmented Lagrangian as an objective of its own.

    Attributes
    ----------
    fun, args : callable, tuple
        The objective.
    rows : Rows
        The constraints.
    penalty : float
        rho.
    multipliers : (2 m,) array or None
        Of the lower and the upper sides of the rows; None before the first evaluation.
    best : tuple of (violation, value, point) or None
        The best point evaluated in this process: feasible before infeasible, then by value.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    rows: Rows
    penalty: float = 1.0
    multipliers: FloatArray | None = None
    best: tuple[float, float, Array] | None = field(default=None, compare=False)

    def sides(self, x: Array) -> FloatArray:
        """Return ``lower - c`` and ``c - upper``, shape (2 m,); an equality is violated on one of its sides."""
        c, lower, upper = self.rows.evaluate(x)
        g = np.concatenate([lower - c, c - upper])
        return np.where(np.isneginf(g), -LARGEST, g)

    def __call__(self, x: Array) -> float:
        """Return L(x); an exception or NaN of a constraint is a failure of the evaluation."""
        value = float(self.fun(x, *self.args))
        g = self.sides(x)
        if self.multipliers is None:
            self.multipliers = np.zeros(g.size)
        # an equality is an inequality from both sides; only one of them is active
        shifted = np.maximum(0.0, g + self.multipliers / self.penalty)
        self.keep(x, value, float(np.max(g, initial=0.0)))
        return value + 0.5 * self.penalty * float((shifted**2).sum())

    def update(self, x: Array) -> float:
        """Update the multipliers at the solution of an outer step and return its violation."""
        g = self.sides(x)
        old = np.zeros(g.size) if self.multipliers is None else self.multipliers
        self.multipliers = np.clip(old + self.penalty * g, 0.0, LARGEST)
        return float(np.max(g, initial=0.0))

    def keep(self, x: Array, value: float, violation: float) -> None:
        """Remember a point if it is the best so far."""
        key = (max(violation, FEASIBLE), value) if math.isfinite(value) else (math.inf, math.inf)
        if self.best is None or key < (max(self.best[0], FEASIBLE), self.best[1]):
            self.best = (violation, value, np.array(x))


def minimize_lagrangian(call: Call, method: Any) -> Any:
    """Minimize under constraints with one of our solvers.

    Parameters
    ----------
    call : Call
        The arguments of :func:`vamo_bbo.minimize`; ``maxfev`` is spread over the outer steps.
    method : str or solver
        The solver of the outer steps.

    Returns
    -------
    OptimizeResult
        Of the point with the lowest value among those that violate nothing by more than 1e-3 (noisy: the solution of
        the last outer step), with ``maxcv``, the largest violation.

    Raises
    ------
    CapabilityError
        The objective is a finite sum, or has a gradient that the solver would use.
    """
    if isinstance(call.fun, FiniteSum):
        raise CapabilityError("constraints on a FiniteSum need one of scipy's methods: 'SLSQP', 'trust-constr'.")
    rows = rows_of(call.constraints)
    args = call.arguments
    lagrangian = Lagrangian(call.fun, args, rows)
    if call.known is not None:
        for x, value in zip(call.known.points, call.known.values.tolist(), strict=True):
            lagrangian.keep(x, value, rows.violation(x))
    outer = _Outer(call, method, lagrangian)
    for step in range(STEPS):
        if not outer.step(step):
            break
    return outer.result()


class _Outer:
    """The outer loop: counts, budget and the present point."""

    def __init__(self, call: Call, method: Any, lagrangian: Lagrangian) -> None:
        self.call, self.method, self.lagrangian = call, method, lagrangian
        x0 = np.atleast_1d(np.asarray(call.x0))
        self.x: Array = x0.astype(x0.dtype if x0.dtype in (np.float32, np.float64) else np.float64)
        limit = call.limits.get("maxfev")
        self.maxfev = float(min(2000 * (self.x.size + 1), 100_000) if limit is None else limit)
        self.kept = max(1.0, min(30.0, self.maxfev // 20)) if call.noisy else 0.0
        self.deadline = math.inf
        if call.limits.get("max_time") is not None:
            self.deadline = time.perf_counter() + float(call.limits["max_time"])
        self.seed = seed_of(call.rng)
        self.nfev = self.nit = self.n_failed = 0
        self.violation = math.inf
        self.inner: Any = None
        self.failures: list[Any] = []

    def step(self, k: int) -> bool:
        """Make an outer step; return whether another may follow."""
        left = self.maxfev - self.kept - self.nfev
        share = left // (STEPS - k)
        if share < 1:
            return False
        lagrangian = self.lagrangian
        if k == 0:
            lagrangian.penalty = self._first_penalty()
            share = max(1.0, share - 1)
        scale = np.ones(self.x.size) if self.call.x_scale is None else np.asarray(self.call.x_scale, dtype=float)
        limits = {**self.call.limits, "maxfev": share, "f_target": None}
        if math.isfinite(self.deadline):
            limits["max_time"] = max(0.0, self.deadline - time.perf_counter())
        inner = replace(
            self.call,
            fun=lagrangian,
            x0=self.x,
            args=(),
            jac=None,
            constraints=(),
            limits=limits,
            rng=self.seed + k,
            x_scale=self._scale(scale, k),
            options={**self.call.options, "disp": False},
            known=None,
        )
        self._run(inner)
        again = self.inner.status not in (*ABANDONED, Code.CALLBACK, Code.SOLVER)
        return again and time.perf_counter() < self.deadline

    def _first_penalty(self) -> float:
        """Return the reference's first rho, 2 |f| / ||violations||^2 within [1, 1e4], from one evaluation at x0."""
        self.nfev += 1
        try:
            value = abs(float(self.call.fun(self.x.copy(), *self.lagrangian.args)))
            g = self.lagrangian.sides(self.x)
        except Exception:
            return 10.0
        square = float((np.maximum(g, 0.0) ** 2).sum())
        return float(np.clip(2.0 * max(1.0, value) / square, 1.0, 1e4)) if square > 0 and math.isfinite(value) else 10.0

    def _scale(self, scale: Array, k: int) -> Array:
        """Return the scale of outer step k: the box's width or x_scale, times a factor that falls."""
        if self.call.x_scale is None and self.call.bounds is not None:
            from vamo_bbo.run.setup import parse_bounds

            limits = parse_bounds(self.call.bounds, self.x.size)
            if limits is not None:
                width = limits[1] - limits[0]
                scale = np.where(np.isfinite(width) & (width > 0), width, 1.0)
        return np.broadcast_to(scale * SHRINK**k, (self.x.size,)).copy()

    def _run(self, inner: Call) -> None:
        from vamo_bbo.minimize import run_ours

        result: Any = run_ours(inner, self.method)
        self.inner = result
        self.nfev, self.nit = self.nfev + result.nfev, self.nit + result.nit
        self.n_failed += result.n_failed
        self.failures += result.failures
        self.x = result.x
        violation = self.lagrangian.update(self.x)
        if violation > max(FEASIBLE / 10, SUFFICIENT * self.violation):
            self.lagrangian.penalty = min(LARGEST, GROWTH * self.lagrangian.penalty)
        self.violation = violation

    def result(self) -> Any:
        """Return the result of the run."""
        result, best = self.inner, self.lagrangian.best
        if result is None:
            raise CapabilityError(f"constraints need a budget of more than maxfev={self.maxfev:.0f}.")
        value, error = math.nan, math.nan
        if self.call.noisy:
            value, error = self._estimate()
        elif best is not None:
            self.violation, value, self.x = best
            error = 0.0
        result.x, result.fun, result.fun_std = self.x, value, error
        result.maxcv = self.violation
        result.nfev = result.nfev_samples = self.nfev
        result.nit, result.n_failed, result.failures = self.nit, self.n_failed, self.failures
        result.best_x, result.best_fun = (None, math.nan) if best is None else (best[2], best[1])
        feasible = self.violation <= FEASIBLE
        stopped = result.status in (*ABANDONED, Code.CALLBACK, Code.SOLVER, Code.MAX_TIME)
        if not stopped:
            result.status = 0 if feasible else 4
            result.message = f"Augmented Lagrangian: largest violation {self.violation:.2g} after {STEPS} steps."
        result.success = feasible and not stopped
        if self.call.options.get("disp"):
            print(f"{result.message}\n  fun = {result.fun:.6g}, nfev = {result.nfev}")
        return result

    def _estimate(self) -> tuple[float, float]:
        """Return the mean of the objective at the answer and its standard error, from the values kept for it."""
        values = []
        for _ in range(int(min(self.kept, self.maxfev - self.nfev))):
            self.nfev += 1
            try:
                values.append(float(self.call.fun(self.x.copy(), *self.lagrangian.args)))
            except Exception:
                self.n_failed += 1
        values = [v for v in values if math.isfinite(v)]
        if not values:
            return math.nan, math.nan
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        return float(np.mean(values)), error
