"""Recipes whose step size is measured: curvature probes, divergence checks and the sign test around any recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vamo_bbo._typing import Array, Tag
from vamo_bbo.core import sampling
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Recipe, Request
from vamo_bbo.core.types import Batch, ProblemInfo
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.step_sizes import MeasuredStep, check_batch, refresh_due, refresh_interval

__all__ = ["Untuned"]


class _Step(NamedTuple):
    """What ``combine`` hands to ``observe``."""

    estimate: Array
    gradient: Array


@dataclass(frozen=True, slots=True)
class Untuned:
    """A recipe of mini-batch gradients with the step size of :class:`~vamo_bbo.step_sizes.MeasuredStep`.

    On an objective that is no finite sum, or whose gradient has many unknown coordinates, the recipe is used as it is.

    Parameters
    ----------
    recipe : Recipe
        Its request "x" (or "full") is the gradient at x.
    step : MeasuredStep
        When curvature is probed, and what follows from it.

    Examples
    --------
    >>> from vamo_bbo.recipes import Plain
    >>> sgd = Untuned(Plain(FirstOrder()))
    >>> len(sgd.arrays(ProblemInfo(n_samples=9, gradient="full"), 4, 3)), len(sgd.arrays(ProblemInfo(), 4, 3))
    (8, 0)
    """

    recipe: Recipe
    step: MeasuredStep = field(default_factory=MeasuredStep)
    probe: FirstOrder = field(default_factory=FirstOrder)

    def _active(self, info: ProblemInfo, size: int) -> bool:
        return info.n_samples is not None and self.probe.exact(info, size)

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the recipe's arrays, the probe, the last step and the last point that was good."""
        inner = self.recipe.arrays(info, size, batch_size)
        if not self._active(info, size):
            return inner
        names = ("trial", "held", "held_gradient", "previous_step", "previous_gradient", "checked", "drift")
        own = [ArraySpec(name, (size,)) for name in names]
        return (*inner, *own, self.step.curvature.array())

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise if the recipe cannot work here."""
        self.recipe.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the recipe's cost and once a pass that of check and probes (a little more in the first)."""
        inner = self.recipe.cost(info, size, batch_size)
        if not self._active(info, size):
            return inner
        assert info.n_samples is not None
        n_batches = sampling.n_batches(info.n_samples, batch_size)
        both = math.lcm(n_batches, inner.epoch_length or n_batches)
        passes, snapshots = both // n_batches, both // (inner.epoch_length or both)
        interval = refresh_interval(n_batches)
        probes = passes * self.step.per_refresh * -(-n_batches // interval) * batch_size
        values, gradients = self.probe.cost(info, size)
        checks = passes * check_batch(info.n_samples).size
        return inner._replace(
            snapshot_values=snapshots * inner.snapshot_values + checks + values * probes,
            snapshot_gradients=snapshots * inner.snapshot_gradients + gradients * probes,
            epoch_length=both,
        )

    def _holds(self, ctx: Context) -> bool:
        """Return whether this step's estimate waits for the probe of its mini-batch."""
        return ctx.phase > 0 and ctx.scalars.get("held_step", -1.0) == ctx.step

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the probe, or the recipe's requests and once a pass the divergence check."""
        if not self._active(ctx.info, ctx.size):
            return self.recipe.plan(ctx)
        if self._holds(ctx):
            batch, stream = self._batch(ctx), ctx.stream(Tag.MAIN)
            trial = Request("trial", self.probe, ctx.anchor("trial"), (batch,), stream)
            if ctx.scalars["held_known"]:
                return (trial,)
            return trial, Request("here", self.probe, ctx.anchor("x"), (batch,), stream)
        requests = self.recipe.plan(ctx)
        if ctx.phase == 0 and self._checks(ctx):
            return (*requests, *self.step.check(ctx))
        return requests

    def _checks(self, ctx: Context) -> bool:
        """Return whether x is judged: once a pass, and at the refreshes of the first one and of long steps."""
        last = ctx.step % ctx.n_batches == ctx.n_batches - 1
        return last or self.step.checks(ctx.scalars, ctx.step, ctx.n_batches)

    @staticmethod
    def _batch(ctx: Context) -> Batch:
        batch = ctx.mini_batch()
        assert batch is not None
        return batch

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the recipe's direction, after its probe where one is due."""
        if not self._active(ctx.info, ctx.size):
            return self.recipe.combine(ctx, got)
        if self._holds(ctx):
            if self._probe(ctx, got):
                self._place_trial(ctx, ctx.arrays["held"], ctx.arrays["held_gradient"])
                return None
            return self._hand_over(ctx, ctx.arrays["held"], ctx.arrays["held_gradient"])
        if "check" in got and self.step.judge(ctx, got):
            return Estimate((), ((0.0, ctx.arrays["previous_step"]),))  # what was measured at the bad point is void
        found = self.recipe.combine(ctx, got)
        if found is None:
            return None
        v = np.zeros_like(ctx.arrays["x"])
        found.fill(ctx.directions, 0, ctx.size, v)
        here = got["x"].gradient if "x" in got else got["full"].gradient
        assert here is not None
        if not self.step.probes(ctx.step, int(ctx.scalars.get("refreshed", 0.0))):
            return self._hand_over(ctx, v, here)
        self._place_trial(ctx, v, here)
        ctx.scalars["held_known"] = float("x" in got)
        return None

    def _place_trial(self, ctx: Context, v: Array, here: Array) -> None:
        """Keep the direction and put the trial point a little along its negative."""
        arrays, trial = ctx.arrays, ctx.arrays["trial"]
        arrays["held"][...] = v
        arrays["held_gradient"][...] = here
        ctx.scalars["held_step"] = float(ctx.step)
        h = self.step.curvature.distance(arrays["x"], v, ctx.scalars)
        trial[...] = arrays["x"] - trial.dtype.type(h) * v
        if ctx.info.lower is not None:
            trial.clip(ctx.info.lower, ctx.info.upper, out=trial)
        ctx.state.versions["trial"] += 1

    def _probe(self, ctx: Context, got: Mapping[str, Measured]) -> bool:
        """Take the curvature of the mini-batch and set the step size; return whether to look again."""
        there = got["trial"].gradient
        here = got["here"].gradient if "here" in got else ctx.arrays["held_gradient"]
        assert there is not None
        assert here is not None
        change, moved = there - here, ctx.arrays["trial"] - ctx.arrays["x"]
        if "here" in got:
            ctx.arrays["held_gradient"][...] = here
            ctx.scalars["held_known"] = 1.0
        along = float(moved @ change)
        curvature = float(change @ change) / abs(along) if along else 0.0
        overshot = float(moved @ here) < 0 < float(moved @ there)
        return self.step.looks_again(ctx.arrays, ctx.scalars, ctx.step, curvature, overshot=overshot)

    def _hand_over(self, ctx: Context, v: Array, gradient: Array) -> Estimate:
        if self.step.is_long(ctx.scalars):  # others are not: cut gradients are biased, and nothing here corrects it
            v *= v.dtype.type(self.step.cut(ctx.scalars, float(v @ v)))
        ctx.state.cache["untuned_step"] = _Step(v, gradient)
        return Estimate((), ((1.0, v),))

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Let the recipe learn, and follow the steps."""
        self.recipe.observe(ctx, got, estimate)
        if not self._active(ctx.info, ctx.size):
            return
        done: _Step | None = ctx.state.cache.pop("untuned_step", None)
        if done is None:
            return
        arrays, scalars = ctx.arrays, ctx.scalars
        self.step.follow(arrays, scalars, gradient=done.gradient, estimate=done.estimate, direction=done.estimate)
        interval, steps = refresh_interval(ctx.n_batches), ctx.step + 1
        if refresh_due(scalars, steps, interval):
            self.step.agree(scalars, early=steps < 2 * interval)
            self.step.update(arrays, scalars)
