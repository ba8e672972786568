r"""The end of a run on a finite sum: gradients of all samples, in the metric that mini-batches have learned.

Mini-batches pay while the noise of a sample hides the gradient: with :math:`\Sigma` the covariance of the samples'
gradients and P the metric, about :math:`B = \mathrm{tr}(P^{-1} \Sigma) / g^\top P^{-1} g` samples have a mean that
shows it (McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, arXiv 1812.06162,
section 2.2, here in the metric). Once B is larger than a few n, a step along the gradient of all samples is worth what
it costs, and it is exact: the limited-memory BFGS method goes on from the average of iterates, with :math:`P^{-1}` as
its first guess of the inverse Hessian. It ends where its model promises nothing more, which mini-batches never know.

Where a line search finds nothing although the model promises something (kinks, values that differ from call to call, a
gradient that is not that of the values), mini-batches go on for the rest of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._typing import Array, Tag
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Request
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.gradient_tables import GradientTable
from vamo_bbo.sketch import Guided

__all__ = ["WholeSum"]

DECREASE = 1e-4
"""Share of what the slope promises that a step must gain (Nocedal and Wright, Numerical Optimization, 2006, 3.1)."""
CURVED = 1e-10
"""Least curvature of a pair that is kept, relative to the lengths of its two vectors."""
TRIES = 4
"""Trial points in a row that are no better, or do not gain together what is below, after which the search ends."""
GAIN = 0.5
"""Share of what a step along the gradient alone, in the metric, promises."""
NEAR = 1e-9
"""Where the gradient itself, in the metric, promises less than this share of f or of its fall, x is at a minimum."""
LEFT = 8
"""Steps on all samples that must fit into what is left of a budget: the first ones gain little."""
FIRST = 0.5
"""Share of the step to the minimum, by a rough model, that the first one goes."""


@dataclass(frozen=True, slots=True)
class WholeSum:
    r"""A table of mini-batch gradients, and L-BFGS on all samples once they no longer pay.

    A step of L-BFGS (D. C. Liu and J. Nocedal, Mathematical Programming 45, 1989) is one value and one gradient of all
    samples, at a trial point of its line search: the next one is a step along a new direction, or nearer to where the
    search began, at the minimum of the parabola through what is known.

    Parameters
    ----------
    recipe : GradientTable
        What the run begins with: stored gradients with a measured step, a learned metric and an average.
    pairs : int, default 20
        Steps that are remembered, two vectors each.
    tol : float, default 1e-12
        The run has converged where the model promises less than this share of f, or of what f has fallen by.
    share : float, default 3
        Mini-batches end when B is larger than so many times n.
    fast : float, default 4
        They go on while a pass makes the square of the gradient smaller by more than this: L-BFGS takes two passes to
        get going, and then gains about as much.
    vanished : float, default 1e-10
        They end in any case when a step to the minimum promises less than this share of what f has fallen by: where
        every sample can be fitted mini-batches are fast until then.

    Examples
    --------
    >>> [spec.name for spec in WholeSum(GradientTable()).arrays(ProblemInfo(n_samples=9, gradient="full"), 5, 3)][-2:]
    ['whole_moved', 'whole_changed']
    """

    recipe: GradientTable
    pairs: int = 20
    tol: float = 1e-12
    share: float = 3.0
    fast: float = 4.0
    vanished: float = 1e-10

    @staticmethod
    def suits(table: GradientTable, info: ProblemInfo, size: int) -> bool:
        """Return whether all samples may take over: not with bounds, nor where evaluations of a sample may differ.

        In the metric of a few directions mini-batches stay ahead, on networks by far.
        """
        metric = table.preconditioner
        learned = table.storage == "gradients" and table.mixing == "adaptive" and table.averaging is not None
        full = isinstance(metric, Guided) and metric.count(size) == size
        return learned and full and table.step is not None and info.lower is None and not info.noisy

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the table's, the point, gradient and direction that the line search starts from, and the pairs."""
        lines = [ArraySpec(f"whole_{name}", (size,)) for name in ("before", "x", "gradient", "direction")]
        pairs = [ArraySpec(f"whole_{name}", (self.pairs, size)) for name in ("moved", "changed")]
        return (*self.recipe.arrays(info, size, batch_size), *lines, *pairs)

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise where the table would."""
        self.recipe.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the table's cost; a step on all samples takes their gradients, and values unless they are free."""
        return self.recipe.cost(info, size, batch_size)

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the table's requests, or that for value and gradient of all samples at x."""
        if "whole" not in ctx.scalars:
            return self.recipe.plan(ctx)
        measure = replace(self.recipe.estimator, of_sums=True)
        return (Request("whole", measure, ctx.anchor("x"), ctx.full_pass(), ctx.stream(Tag.MAIN)),)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the table's estimate; a step on all samples is made by ``observe``: no step size has a say in it."""
        return Estimate((), ((0.0, ctx.arrays["x"]),)) if "whole" in got else self.recipe.combine(ctx, got)

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Let the table learn and see if it still pays, or take a step on all samples."""
        if "whole" not in got:
            self.recipe.observe(ctx, got, estimate)
            if ctx.scalars.get("refreshed") == ctx.step + 1.0 and self._is_due(ctx):
                ctx.scalars["whole"] = ctx.step + 1.0
                self._put(ctx, ctx.arrays["average"])
            return
        self._put(ctx, self._next(ctx, got["whole"]))
        ctx.arrays["average"][...] = ctx.arrays["whole_x"]

    @staticmethod
    def _put(ctx: Context, x: Array) -> None:
        """Make x the next iterate."""
        ctx.arrays["x"][...] = x
        ctx.state.versions["x"] += 1

    def _is_due(self, ctx: Context) -> bool:
        """Return whether mini-batches have ceased to pay."""
        scalars, n = ctx.scalars, ctx.info.n_samples
        assert n is not None
        known = ctx.step + 1 - int(scalars.get("table_since", 0.0)) >= ctx.n_batches
        if not known or "suspected" in scalars or "whole_over" in scalars or self._steps_left(ctx) < LEFT:
            return False
        rate = self._rate(ctx)
        if not rate:  # no probe has met any curvature
            return False
        mean, noise = ctx.arrays["table_mean"], scalars.get("control_squares", 0.0)
        signal = float(mean @ self.recipe.metric(ctx, mean))
        vanished = self.vanished * _fallen(scalars, scalars.get("check_best", math.inf))
        if ctx.n_batches == 1 or 0.5 * rate * signal < vanished:
            return True
        return not self._falls_fast(ctx, signal) and ctx.batch_size * noise >= self.share * n * signal

    def _falls_fast(self, ctx: Context, signal: float) -> bool:
        """Return whether the last pass has made the square of the gradient smaller by more than ``fast``."""
        scalars, before = ctx.scalars, ctx.arrays["whole_before"]
        if ctx.step + 1 - scalars.get("whole_marked", -math.inf) >= ctx.n_batches:
            was = float(before @ self.recipe.metric(ctx, before)) if "whole_marked" in scalars else math.inf
            scalars["whole_fall"] = was / signal if signal > 0.0 else 0.0
            scalars["whole_marked"] = ctx.step + 1.0
            before[...] = ctx.arrays["table_mean"]
        return scalars["whole_fall"] > self.fast

    def _steps_left(self, ctx: Context) -> float:
        """Return how many steps on all samples fit into the rest of the budget."""
        info, scalars = ctx.info, ctx.scalars
        assert info.n_samples is not None
        values, gradients = self.recipe.estimator.cost(info, ctx.size)
        return (scalars["horizon"] - scalars["spent"]) / (info.n_samples * (values + info.grad_cost * gradients))

    def _rate(self, ctx: Context) -> float:
        """Return a step size in the metric for the gradient of all samples, 0 where no curvature is known.

        Where P is the covariance C of the samples' gradients, up to their present level, and H a multiple of it, a
        mini-batch of b samples has the curvature ``1 + tr(P^-1 C) / b`` in multiples of that of the sum.
        """
        assert self.recipe.step is not None
        curvature = self.recipe.step.curvature.value(ctx.arrays, ctx.scalars, 0.5)
        noise = ctx.scalars.get("control_squares", 0.0) / Guided.level(ctx.scalars)
        return FIRST * (1.0 + noise) / curvature if curvature else 0.0

    @one_thread()
    def _next(self, ctx: Context, got: Measured) -> Array:
        """Take value and gradient at the trial point x; return the next one, or the best point if it was the last."""
        scalars, x = ctx.scalars, ctx.arrays["whole_x"]
        scalars["whole_poor"] = scalars.get("whole_poor", 0.0) + 1.0
        if "whole_value" in scalars and not self._falls(scalars, got.value):
            goes_on = self._shorten(scalars, got.value)
        else:
            goes_on = self._turn(ctx, got)
        if not goes_on:
            return x.copy()
        direction = ctx.arrays["whole_direction"]
        return np.asarray(x + direction.dtype.type(scalars["whole_length"]) * direction)

    def _turn(self, ctx: Context, got: Measured) -> bool:
        """Begin a search along a new direction at x; return False where it promises nothing."""
        arrays, scalars, gradient = ctx.arrays, ctx.scalars, got.gradient
        assert gradient is not None
        if "whole_value" in scalars:
            self._remember(ctx, arrays["x"] - arrays["whole_x"], gradient - arrays["whole_gradient"])
        gain = scalars.get("whole_value", math.inf) - got.value
        arrays["whole_x"][...], arrays["whole_gradient"][...] = arrays["x"], gradient
        direction, rate = arrays["whole_direction"], self._rate(ctx)
        direction[...] = -self._inverse(ctx, gradient, rate)
        slope = float(direction @ gradient)
        # Without a pair nothing says how long a step is to be: a success makes the next one longer.
        length = 1.0 if scalars.get("whole_pairs") else 2.0 * scalars.get("whole_length", 0.5)
        promise = 0.5 * rate * float(gradient @ self.recipe.metric(ctx, gradient))
        scalars.update(whole_value=got.value, whole_slope=slope, whole_length=length, whole_tries=0.0)
        scalars["whole_promise"] = promise
        if not scalars.get("whole_mark", math.inf) - got.value < scalars.get("whole_goal", 0.0):
            scalars.update(whole_mark=got.value, whole_goal=GAIN * promise, whole_poor=0.0)
        elif scalars["whole_poor"] >= TRIES:
            return self._end(scalars)
        least = max(self.tol, 10.0 * float(np.finfo(direction.dtype).eps)) * _size(scalars)
        return True if max(gain, -0.5 * slope) > least else self._end(scalars)

    @staticmethod
    def _end(scalars: dict[str, float]) -> bool:
        """Converge, or give the run back: at a kink the model promises nothing, but the gradient does."""
        if scalars["whole_promise"] <= NEAR * _size(scalars):
            scalars["converged"] = 1.0
        else:
            scalars["whole_over"] = scalars.pop("whole")
        return False

    @staticmethod
    def _falls(scalars: dict[str, float], value: float) -> bool:
        """Return whether f has fallen enough; close to the minimum it is known up to rounding only."""
        before = scalars["whole_value"]
        expected = DECREASE * scalars["whole_length"] * scalars["whole_slope"]
        return value <= before + expected + 4.0 * float(np.finfo(np.float64).eps) * abs(before)

    def _shorten(self, scalars: dict[str, float], value: float) -> bool:
        """Come back towards where the search began; return False after too many attempts."""
        length, slope = scalars["whole_length"], scalars["whole_slope"]
        above = value - scalars["whole_value"] - length * slope
        scalars["whole_length"] = length * min(0.5, max(0.1, -0.5 * slope * length / above if above > 0.0 else 0.5))
        scalars["whole_tries"] += 1.0
        return True if scalars["whole_tries"] < TRIES else self._end(scalars)

    def _remember(self, ctx: Context, moved: Array, changed: Array) -> None:
        """Keep a pair that shows curvature."""
        lengths = math.sqrt(float(moved @ moved) * float(changed @ changed))
        if not float(moved @ changed) > CURVED * lengths:
            return
        count = int(ctx.scalars.get("whole_pairs", 0.0))
        ctx.arrays["whole_moved"][count % self.pairs] = moved
        ctx.arrays["whole_changed"][count % self.pairs] = changed
        ctx.scalars["whole_pairs"] = count + 1.0

    def _inverse(self, ctx: Context, gradient: Array, rate: float) -> Array:
        """Return the inverse Hessian times the gradient: the two-loop recursion (Nocedal and Wright, 2006, 7.4).

        ``rate`` times the inverse metric is the first guess while there is no pair.
        """
        moved, changed = ctx.arrays["whole_moved"], ctx.arrays["whole_changed"]
        count = int(ctx.scalars.get("whole_pairs", 0.0))
        order = [k % self.pairs for k in range(max(0, count - self.pairs), count)]
        curvatures = {k: float(moved[k] @ changed[k]) for k in order}
        v, shares = gradient.copy(), dict[int, float]()
        for k in reversed(order):
            shares[k] = float(moved[k] @ v) / curvatures[k]
            v -= v.dtype.type(shares[k]) * changed[k]
        if order:
            y = changed[order[-1]]
            rate = curvatures[order[-1]] / float(y @ self.recipe.metric(ctx, y))
        v = v.dtype.type(rate) * self.recipe.metric(ctx, v)
        for k in order:
            share = shares[k] - float(changed[k] @ v) / curvatures[k]
            v += v.dtype.type(share) * moved[k]
        return np.asarray(v)


def _fallen(scalars: dict[str, float], value: float) -> float:
    """Return by how much f has fallen since the first check."""
    fallen = scalars.get("check_start", math.nan) - value
    return fallen if fallen > 0.0 else 0.0


def _size(scalars: dict[str, float]) -> float:
    """Return what a decrease of f is measured by."""
    value = scalars["whole_value"]
    return max(abs(value), _fallen(scalars, value))
