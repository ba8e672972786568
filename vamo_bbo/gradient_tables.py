r"""Recipes that keep the mini-batch gradients they paid for, as control variates of the next ones.

With a fixed partition into N mini-batches and a table of what each batch's gradient was when it was last computed,

.. math::
    v = g_k - a \, (T_k - \bar T), \qquad \bar T = \frac1N \sum_j T_j

has mean :math:`\nabla f(x)` over a uniformly drawn k for any a that depends on earlier batches only. a = 1 is SAGA. The
regression coefficient :math:`a = \mathrm{Cov}(g, T) / \mathrm{Var}(T)`, estimated from earlier batches in the metric of
the preconditioner, is 0 while the table is stale (stochastic gradient descent) and becomes 1 as the run converges. With
``storage="projections"`` only q numbers of each gradient are kept, its projections on the preconditioner's directions,
and each of them has a coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Array, Tag
from vamo_bbo.core import sampling
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Request
from vamo_bbo.core.types import Batch, ProblemInfo
from vamo_bbo.curvature import curvature_in
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.sketch import Guided, Preconditioner
from vamo_bbo.step_sizes import MeasuredStep, check_batch, refresh_due, refresh_interval

__all__ = ["GradientTable"]

SINGLE = 1000
"""Most coordinates of a mini-batch gradient that are measured by differences."""

MEMORY = 4
"""Passes over the data that the preconditioner remembers."""

PROMISE = 1.2
"""So many times as much a step must promise in units of the variables' own for these to be used."""

Storage = Literal["gradients", "projections", "none"]


class _Now(NamedTuple):
    """What the number of a step decides."""

    step: int
    stages: list[str]
    batch: Batch
    n_batches: int
    interval: int


class _Step(NamedTuple):
    """What a step computed and its ``observe`` needs; lives between two calls only."""

    k: int
    gradient: Array
    control: Array | None
    direction: Array
    estimate: Array


@dataclass(frozen=True, slots=True)
class GradientTable:
    r"""``v = P^-1 (g_k - a (T_k - mean T))`` on fixed mini-batches.

    Parameters
    ----------
    storage : {"gradients", "projections", "none"}
        What is kept of every mini-batch's gradient: d numbers, q numbers, or nothing.
    mixing : float or "adaptive"
        a; "adaptive" estimates it from earlier batches.
    preconditioner : Preconditioner or None
        P, such as Guided, Diagonal or Kronecker; None is the identity. Projections need Guided.
    step : MeasuredStep, optional
        Measures the step size and returns to the last good x when f has grown; None leaves the step to the rule.
    averaging : float, optional
        Power p of the average that is recommended, :math:`\bar x \leftarrow \bar x + \frac{p+1}{t+p} (x_t - \bar x)`
        (Shamir & Zhang, ICML 2013); None recommends the iterate.
    estimator : FirstOrder
        Measures the gradients. The default does so by differences where there are none, or where they are partial, up
        to ``SINGLE`` unknown coordinates.

    Examples
    --------
    >>> saga = GradientTable(mixing=1.0)
    >>> [spec.name for spec in saga.arrays(ProblemInfo(n_samples=9, gradient="full"), 4, 3)]
    ['table', 'table_mean']
    """

    storage: Storage = "gradients"
    mixing: float | Literal["adaptive"] = "adaptive"
    preconditioner: Preconditioner | None = None
    step: MeasuredStep | None = None
    averaging: float | None = None
    estimator: FirstOrder = field(default_factory=lambda: FirstOrder(single=SINGLE, alone=True))

    def __post_init__(self) -> None:
        if self.storage not in ("gradients", "projections", "none"):
            raise OptionError(f"storage must be 'gradients', 'projections' or 'none', got {self.storage!r}.")
        if self.storage == "projections" and not isinstance(self.preconditioner, Guided):
            raise OptionError("storage='projections' needs preconditioner='guided': it gives the directions.")
        if self.mixing != "adaptive" and (isinstance(self.mixing, str) or not math.isfinite(self.mixing)):
            raise OptionError(f"mixing must be 'adaptive' or a finite number, got {self.mixing!r}.")

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return table, metric, probe and average, as far as they are used."""
        assert info.n_samples is not None
        n_batches = sampling.n_batches(info.n_samples, batch_size)
        specs: list[ArraySpec] = []
        if self.storage == "gradients":
            specs += [ArraySpec("table", (n_batches, size)), ArraySpec("table_mean", (size,))]
        if self.storage == "projections":
            assert isinstance(self.preconditioner, Guided)
            q = self.preconditioner.count(size)
            specs += [ArraySpec("table", (n_batches, q)), ArraySpec("table_mean", (q,))]
            specs += [ArraySpec("coefficients", (2, q), "float64")]
        if self.preconditioner is not None:
            specs += self.preconditioner.arrays(size)
        if self.step is not None:
            names = ("trial", "held", "previous_step", "previous_gradient", "checked", "drift")
            specs += [ArraySpec(name, (size,)) for name in names]
            specs += [self.step.curvature.array()]
        if self.averaging is not None:
            specs += [ArraySpec("average", (size,))]
        return tuple(specs)

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a finite sum or a full gradient."""
        if info.n_samples is None:
            raise CapabilityError("this method needs a FiniteSum objective; for a plain callable use 'L-BFGS-B'.")
        if info.device:
            raise CapabilityError("stored gradients are kept on the host; on a CUDA device use control='values'.")
        if not self.estimator.exact(info, size):
            raise CapabilityError(
                f"stored gradients need all coordinates of the gradient, or at most {self.estimator.single} to be "
                "measured by differences; use control='values'."
            )

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the gradients of a step, and once a pass what probes and checks add (a little more in the first)."""
        assert info.n_samples is not None
        values, gradients = self.estimator.cost(info, size)
        if self.step is None:
            return Cost(values * batch_size, gradients * batch_size)
        interval, n_batches = self._interval(info.n_samples, batch_size), sampling.n_batches(info.n_samples, batch_size)
        probes = self.step.per_refresh * -(-n_batches // interval) * batch_size
        return Cost(
            values * batch_size,
            gradients * batch_size,
            check_batch(info.n_samples).size + values * probes,
            gradients * probes,
            n_batches,
        )

    @staticmethod
    def _interval(n: int, batch_size: int) -> int:
        """Return the most steps between refreshes."""
        return refresh_interval(sampling.n_batches(n, batch_size))

    def mini_batch(self, ctx: Context) -> Batch:
        """Return the step's batch of the fixed partition."""
        return self._now(ctx).batch

    def _now(self, ctx: Context) -> _Now:
        """Return the plan of this step, derived once from its number."""
        state = ctx.state
        known: _Now | None = state.cache.get("gradient_now")
        if known is not None and known.step == state.step:
            return known
        n = ctx.info.n_samples
        assert n is not None
        kind = "fixed" if self.storage != "none" else ctx.batch_kind
        batch = sampling.batch_of_step(kind, ctx.state.seed, n, ctx.batch_size, ctx.step)
        n_batches = ctx.n_batches
        now = _Now(ctx.step, self._stages(ctx), batch, n_batches, refresh_interval(n_batches))
        state.cache["gradient_now"] = now
        return now

    def _stages(self, ctx: Context) -> list[str]:
        """Return the phases of this step."""
        stages, step, n = ["gradient"], ctx.step, ctx.info.n_samples
        assert n is not None
        if self.step is None:
            return ["start", *stages] if step == 0 and self.preconditioner is not None else stages
        passes, refreshed = ctx.n_batches, int(ctx.scalars.get("refreshed", 0.0))
        if self.step.probes(step, refreshed):
            stages += ["trial"] * (1 + int(ctx.scalars.get("looks", 0.0)))
        if step % passes == 0 or self.step.checks(ctx.scalars, step, passes):
            stages.insert(0, "check")
        if step == 0 and self.preconditioner is not None:
            stages[:0] = ["start", "units"] if "units_doubted" in ctx.scalars else ["start"]
        return stages

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the request of the present phase."""
        stage = self._now(ctx).stages[ctx.phase]
        stream = ctx.stream(Tag.MAIN)
        if stage == "start":
            count = max(min(8, -(-ctx.n_batches // 4)), ctx.n_batches // 20)
            batches = [Batch("fixed", 0, k, ctx.batch_size) for k in range(count)]
            return tuple(Request(f"start{b.b}", self.estimator, ctx.anchor("x"), (b,), stream) for b in batches)
        if stage == "check":
            assert self.step is not None
            return self.step.check(ctx)
        if stage == "units":
            points, batch = (
                {"here": "x", "with_units": "trial", "without": "held"},
                Batch("fixed", 0, 0, ctx.batch_size),
            )
            return tuple(Request(k, self.estimator, ctx.anchor(at), (batch,), stream) for k, at in points.items())
        at = ctx.anchor("trial" if stage == "trial" else "x")
        return (Request(stage, self.estimator, at, (self.mini_batch(ctx),), stream),)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the preconditioned, corrected gradient, or None when another phase follows."""
        if "check" in got:
            assert self.step is not None
            if self.step.judge(ctx, got):
                self._start_again(ctx)
            return None
        if "start0" in got:
            self._begin(ctx, got)
            return None
        if "without" in got:
            self._choose_units(ctx, got)
            return None
        if "trial" in got:
            gradient = ctx.arrays["held"]
            if self._probe(ctx, got["trial"]):
                self._place_trial(ctx, gradient)
                return None
        else:
            measured = got["gradient"].gradient
            assert measured is not None
            gradient = measured
            if self._now(ctx).stages[-1] == "trial":
                self._place_trial(ctx, gradient)
                return None
        return self._corrected(ctx, gradient)

    def _start_again(self, ctx: Context) -> None:
        """Forget what was learned on the way to a point that was left: average, table, coefficients."""
        arrays, scalars = ctx.arrays, ctx.scalars
        if self.averaging is not None:
            arrays["average"][...] = arrays["x"]
        for name in ("table", "table_mean", "coefficients"):
            if name in arrays:
                arrays[name][...] = 0
        scalars["control_products"] = scalars["control_squares"] = 0.0
        scalars["table_since"] = float(ctx.step)

    def _begin(self, ctx: Context, got: Mapping[str, Measured]) -> None:
        """Sketch the covariance of the gradients at x0."""
        assert self.preconditioner is not None
        for measured in got.values():
            assert measured.gradient is not None
            self.preconditioner.add(ctx.arrays, ctx.scalars, measured.gradient, ctx.batch_size)
        self._refresh_metric(ctx)
        plain = self._without_units(ctx)
        if ctx.scalars.pop("units_doubted", 0.0):  # a failure led back here: they may be decided by now
            ctx.state.cache.pop("gradient_now", None)
        if self.step is None or plain is None:
            return
        gradient = got["start0"].gradient
        assert gradient is not None
        self._place(ctx, "trial", self.metric(ctx, gradient))
        self._place(ctx, "held", self.preconditioner.apply(*plain, gradient))
        ctx.scalars["units_doubted"] = 1.0
        ctx.state.cache.pop("gradient_now", None)  # its stages are others now

    def _without_units(self, ctx: Context) -> tuple[dict[str, Array], dict[str, float]] | None:
        guided = self.preconditioner
        return guided.without_units(ctx.arrays, ctx.scalars) if isinstance(guided, Guided) else None

    def _choose_units(self, ctx: Context, got: Mapping[str, Measured]) -> None:
        """Go on without units of the variables' own unless a step promises more in them: a batch's g' P^-1 g / L."""
        plain, here, x = self._without_units(ctx), got["here"].gradient, ctx.arrays["x"]
        assert plain is not None
        assert here is not None
        assert self.preconditioner is not None
        promises = []
        for metric, name, at in (
            (partial(self.metric, ctx), "with_units", "trial"),
            (partial(self.preconditioner.apply, *plain), "without", "held"),
        ):
            there = got[name].gradient
            assert there is not None
            curvature = curvature_in(metric, here, there - here, ctx.arrays[at] - x)
            promises.append(float(here @ metric(here)) / curvature if curvature > 0 else math.inf)
        if promises[0] < PROMISE * promises[1]:
            for name, values in plain[0].items():
                ctx.arrays[name][...] = values
            ctx.scalars.update(plain[1])

    def _refresh_metric(self, ctx: Context) -> None:
        assert self.preconditioner is not None
        before = ctx.arrays["basis"].copy() if self.storage == "projections" else None
        self.preconditioner.refresh(ctx.arrays, ctx.scalars, float(MEMORY * ctx.n_batches))
        if before is not None:
            # What was known along the old directions, seen along the new ones.
            turn = np.einsum("id,jd->ij", ctx.arrays["basis"], before)
            for name in ("table", "table_mean"):
                ctx.arrays[name][...] = np.einsum("...j,ij->...i", ctx.arrays[name], turn)

    def metric(self, ctx: Context, v: Array) -> Array:
        """Return ``P^-1 v``."""
        return v if self.preconditioner is None else self.preconditioner.apply(ctx.arrays, ctx.scalars, v)

    def _place_trial(self, ctx: Context, gradient: Array) -> None:
        """Keep the gradient and put the trial point along its preconditioned negative."""
        assert self.step is not None
        ctx.arrays["held"][...] = gradient
        self._place(ctx, "trial", self.metric(ctx, gradient))

    def _place(self, ctx: Context, name: str, direction: Array) -> None:
        """Put the point ``name`` a little along the negative of ``direction``."""
        assert self.step is not None
        x, trial = ctx.arrays["x"], ctx.arrays[name]
        h = self.step.curvature.distance(x, direction, ctx.scalars)
        trial[...] = x - trial.dtype.type(h) * direction
        if ctx.info.lower is not None:
            trial.clip(ctx.info.lower, ctx.info.upper, out=trial)
        ctx.state.versions[name] += 1

    def _probe(self, ctx: Context, trial: Measured) -> bool:
        """Measure the mini-batch's curvature in the metric and set the step size; return whether to look again."""
        assert self.step is not None
        assert trial.gradient is not None
        held, moved = ctx.arrays["held"], ctx.arrays["trial"] - ctx.arrays["x"]
        curvature = curvature_in(partial(self.metric, ctx), held, trial.gradient - held, moved)
        overshot = float(moved @ trial.gradient) > 0
        again = self.step.looks_again(ctx.arrays, ctx.scalars, ctx.step, curvature, overshot=overshot)
        if again:
            ctx.state.cache.pop("gradient_now", None)  # its stages are others now
        return again

    def coefficient(self, ctx: Context) -> float | Array:
        """Return a: a number, or one per direction for projections."""
        if self.mixing != "adaptive":
            return self.mixing
        if self.storage == "projections":
            products, squares = ctx.arrays["coefficients"]
            safe = np.where(squares > 0, squares, 1.0)
            return np.asarray(np.clip(np.where(squares > 0, products / safe, 0.0), 0.0, 1.0))
        squares_ = ctx.scalars.get("control_squares", 0.0)
        return min(1.0, max(0.0, ctx.scalars.get("control_products", 0.0) / squares_)) if squares_ > 0 else 0.0

    def control(self, ctx: Context, k: int) -> Array | None:
        """Return ``T_k - mean T``; None while the table fills (the first pass, and one after a point was left)."""
        filled = ctx.step - int(ctx.scalars.get("table_since", 0.0))
        if self.storage == "none" or filled < self._now(ctx).n_batches:
            return None
        return np.asarray(ctx.arrays["table"][k] - ctx.arrays["table_mean"])

    def corrected(self, ctx: Context, gradient: Array, control: Array | None) -> Array:
        """Return ``g - a (T_k - mean T)``: unbiased over the batches, because a is a function of earlier ones."""
        if control is None:
            return gradient
        scaled = self.coefficient(ctx) * control
        if self.storage == "projections":
            assert isinstance(self.preconditioner, Guided)
            scaled = self.preconditioner.expand(ctx.arrays, scaled.astype(gradient.dtype))
        return np.asarray(gradient - scaled.astype(gradient.dtype, copy=False))

    def _corrected(self, ctx: Context, gradient: Array) -> Estimate:
        k = self.mini_batch(ctx).b
        control = self.control(ctx, k)
        v = self.corrected(ctx, gradient, control)
        direction = self.metric(ctx, v)
        if self.preconditioner is not None or self.step is not None:
            square = float(direction @ v)
            factor = 1.0 / (1.0 + ctx.scalars.get("metric_share", 0.0) * square)
            if self.step is not None:
                factor *= self.step.cut(ctx.scalars, factor * factor * square)
            if factor < 1.0:
                v = v * v.dtype.type(factor)
                direction = v if self.preconditioner is None else direction * direction.dtype.type(factor)
        ctx.state.cache["gradient_step"] = _Step(k, gradient, control, direction, v)
        return Estimate((), ((1.0, direction),))

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn from the step, for later steps only: coefficients, table, metric, step size and average."""
        step: _Step = ctx.state.cache.pop("gradient_step")
        arrays, scalars = ctx.arrays, ctx.scalars
        self._store(ctx, step)
        if self.step is not None:
            self.step.follow(arrays, scalars, gradient=step.gradient, estimate=step.estimate, direction=step.direction)
        if self.averaging is not None:
            share = (self.averaging + 1.0) / (ctx.step + 1.0 + self.averaging)
            average = arrays["average"]
            average += average.dtype.type(share) * (arrays["x"] - average)
        if self.preconditioner is not None:
            self.preconditioner.add(arrays, scalars, step.gradient, ctx.batch_size)
        done, interval = ctx.step + 1, self._now(ctx).interval
        if refresh_due(scalars, done, interval):
            if self.preconditioner is not None:
                self._refresh_metric(ctx)
            if self.step is not None:
                reduced = step.control is not None and float(np.mean(self.coefficient(ctx))) > 0.5
                self.step.agree(scalars, early=done < 2 * interval, reduced=reduced)
                self.step.update(arrays, scalars)

    def _store(self, ctx: Context, step: _Step) -> None:
        """Update the coefficients, then put the new gradient into the table."""
        if self.storage == "none":
            return
        table, mean = ctx.arrays["table"], ctx.arrays["table_mean"]
        new = step.gradient
        if self.storage == "projections":
            assert isinstance(self.preconditioner, Guided)
            new = self.preconditioner.project(ctx.arrays, new)
        if step.control is not None and self.mixing == "adaptive":
            self._regress(ctx, new, step.control)
        n_batches = self._now(ctx).n_batches
        mean += (new - table[step.k]) / mean.dtype.type(n_batches)
        table[step.k] = new
        if (ctx.step + 1) % n_batches == 0:  # against the drift of a running sum
            mean[...] = table.mean(axis=0)

    def _regress(self, ctx: Context, new: Array, control: Array) -> None:
        """Update the lagged regression of gradients on table entries."""
        keep = 1.0 - 1.0 / max(10.0, self._now(ctx).n_batches / 4)
        if self.storage == "projections":
            rows = ctx.arrays["coefficients"]
            rows *= keep
            rows[0] += (1.0 - keep) * (new * control)
            rows[1] += (1.0 - keep) * (control * control)
            return
        weighted, scalars = self.metric(ctx, control), ctx.scalars
        for name, other in (("control_products", new), ("control_squares", control)):
            scalars[name] = keep * scalars.get(name, 0.0) + (1.0 - keep) * float(other @ weighted)
