"""Composite: a recipe and a rule make a solver; the one state machine behind every composition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vamo_bbo import backends
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.calibration import SHRINKAGE, Calibration, add_noise, judge, set_learning_rate, shorten
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.late import given_up, joined, take_late
from vamo_bbo.core.replication import averaged, copies, repeated
from vamo_bbo.core.solver import (
    ArraySpec,
    Context,
    Cost,
    Recipe,
    Request,
    Rule,
    State,
    Status,
    directions_of,
)
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo

__all__ = ["COPY_BELOW", "Composite"]

COPY_BELOW = 1_000_000
"""Dimension below which the last good point is a copy; above, a pure zeroth-order step is undone by regeneration."""

NORM_TILE = 65536
"""Tile of norm passes: fixed, so that their rounding depends on no backend's preference."""

CONVERGED = "The model of the objective promises no further decrease."
"""Message of a run whose recipe has set ``scalars["converged"]``."""

MAX_ATTEMPTS = 20
"""Failed rounds in a row after which a solver gives up."""

DEFAULT_BATCH = 32

RECOVERY = math.sqrt(2.0)
"""Growth of a step that failures have shortened, per success, up to its full length: two successes undo a failure."""


_NO_REDUCTIONS: Mapping[str, float] = {}


class _Round(NamedTuple):
    """The plan of an open round: derived from the state, cached beside it."""

    key: tuple[int, int, int]
    ctx: Context
    recipe: Recipe
    parts: Sequence[tuple[Request, int, int]]
    """The requests, and where the probes of each begin and end."""
    probes: tuple[Probe, ...]
    ids: list[ProbeId]
    copies: int


@dataclass(frozen=True, slots=True)
class Composite:
    r"""A solver made of parts: recipe (what to measure, how to combine it) x rule (how to move).

    Parameters
    ----------
    recipe : Recipe
        Used when the objective offers what it needs.
    rule : Rule
        The step.
    batch_size : int, optional
        Mini-batch size of a finite sum; None means ``min(32, n_samples)``.
    sampling : {"auto", "epoch", "fixed", "iid"}
        Reshuffled samples, fixed batches in reshuffled order, or independent draws. "auto": "epoch", or "fixed" when
        the objective returns only batch means.
    calibration : Calibration, optional
        Measurement at x0 for runs without a given learning rate; None uses the first step's own estimate.
    averaging : float, optional
        Power p of a polynomial average of the iterates,
        :math:`\bar x_t = \bar x_{t-1} + \frac{p+1}{t+p} (x_t - \bar x_{t-1})`, which is then recommended (O. Shamir and
        T. Zhang, Stochastic gradient descent for non-smooth optimization, ICML 2013, section 4); 0 is the mean of all.
    name : str
        Name for messages.

    Examples
    --------
    >>> from vamo_bbo.estimators import ForwardDifference
    >>> from vamo_bbo.recipes import Plain
    >>> from vamo_bbo.rules import Descent
    >>> solver = Composite(Plain(ForwardDifference(4)), Descent(0.1), name="zo-sgd")
    >>> state = solver.init(np.zeros(3), seed=1, backend="numpy", info=ProblemInfo())
    >>> len(solver.ask(state))
    5
    """

    recipe: Recipe
    rule: Rule
    batch_size: int | None = None
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto"
    calibration: Calibration | None = None
    averaging: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.batch_size is not None and (
            isinstance(self.batch_size, bool) or int(self.batch_size) != self.batch_size or self.batch_size < 1
        ):
            raise OptionError(f"batch_size must be a positive integer, got {self.batch_size!r}.")
        if self.sampling not in ("auto", "epoch", "fixed", "iid"):
            raise OptionError(f"sampling must be 'auto', 'epoch', 'fixed' or 'iid', got {self.sampling!r}.")

        if self.averaging is not None and not self.averaging >= 0:
            raise OptionError(f"averaging must be at least 0 or None, got {self.averaging!r}.")

    def arrays(self, info: ProblemInfo, size: int) -> tuple[ArraySpec, ...]:
        """Return every array the state will hold: the solver's declared memory (plus one scratch per evaluation)."""
        specs = [ArraySpec("x", (size,))]
        if size < COPY_BELOW or self._first_order(info) or not self.rule.linear:
            specs.append(ArraySpec("last_good", (size,)))
        specs += [ArraySpec(name, (size,)) for name in self.rule.slots]
        specs += self.recipe.arrays(info, size, self._batch_size(info, size))
        if self.averaging is not None:
            specs.append(ArraySpec("average", (size,)))
        if info.unknown is not None:
            specs.append(ArraySpec("unknown", (size,), "uint8"))
        return tuple(specs)

    def cost(self, info: ProblemInfo, size: int) -> Cost:
        """Return what a step and a snapshot spend (an automatic step size may add a calibration at the start)."""
        return self._checked(info, size).cost(info, size, self._batch_size(info, size))

    def _checked(self, info: ProblemInfo, size: int) -> Recipe:
        """Return the recipe for an objective, or raise in words."""
        recipe = self.recipe
        try:
            recipe.check(info, size)
        except CapabilityError as error:
            raise CapabilityError(f"method={self.name!r}: {error}" if self.name else str(error)) from None
        return recipe

    def takes_late(self, info: ProblemInfo) -> bool:
        """Return whether differences that come after their round was closed without them are used in a later one."""
        return info.n_samples is None and getattr(self.recipe, "takes_late", False)

    def _first_order(self, info: ProblemInfo) -> bool:
        return info.gradient != "none"

    def _batch_size(self, info: ProblemInfo, size: int) -> int:
        n = info.n_samples
        if n is None:
            return 1
        if self.batch_size is not None and self.batch_size > n:
            raise OptionError(f"batch_size must be at most n_samples={n}, got {self.batch_size}.")
        if self.batch_size is not None:
            return int(self.batch_size)
        preferred = getattr(self.recipe, "preferred_batch", None)
        return min(DEFAULT_BATCH if preferred is None else preferred(info, size), n)

    def _kind(self, info: ProblemInfo) -> str:
        if self.sampling != "auto":
            return self.sampling
        return "epoch" if info.per_sample else "fixed"

    def _context(self, state: State) -> Context:
        context: Context | None = state.cache.get("context")
        if context is None:
            context = Context(state, self._batch_size(state.info, state.arrays["x"].size), self._kind(state.info))
            state.cache["context"] = context
        return context

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :meth:`vamo_bbo.core.solver.Solver.init`."""
        self._checked(info, x0.size)
        xp = backends.get(backend).xp
        state = State(seed, backend, info)
        for spec in self.arrays(info, x0.size):
            dtype = x0.dtype if spec.dtype == "x" else np.dtype(spec.dtype)
            # Vectors and masks live where x does; the small float64 tables stay on the host.
            state.arrays[spec.name] = (xp if spec.dtype in ("x", "uint8") else np).zeros(spec.shape, dtype=dtype)
            state.versions[spec.name] = 0
        x = state.arrays["x"]
        x[...] = x0
        if info.lower is not None:
            x.clip(info.lower, info.upper, out=x)
        if "last_good" in state.arrays:
            state.arrays["last_good"][...] = x
        if info.unknown is not None:
            state.arrays["unknown"][...] = info.unknown
        state.scalars.update(damping=1.0, growth=1.0, progress=0.0, spent=0.0, ignored=0.0, value=math.nan)
        if self.calibration is not None and self.rule.learning_rate is None:
            state.phase = self.calibration.first_phase(info)
        state.scalars["horizon"] = math.inf if horizon is None else float(horizon)
        return state

    def _plan(self, state: State) -> _Round:
        key = (state.step, state.phase, state.attempt)
        plan: _Round | None = state.cache.get("round")
        if plan is not None:
            if plan.key == key:
                return plan
            ctx, recipe = plan.ctx, plan.recipe
        else:
            ctx, recipe = self._context(state), self.recipe
        if state.phase < 0 and self.calibration is not None:
            requests = self.calibration.requests(ctx)
        else:
            requests = recipe.plan(ctx)
        probes: list[Probe] = []
        parts: list[tuple[Request, int, int]] = []
        for request in requests:
            first = len(probes)
            probes += request.estimator.plan(request, ctx, first)
            parts.append((request, first, len(probes)))
        count = copies(state) if "replications" in state.scalars else 1
        if count > 1:
            probes = repeated(state, probes, count)
        fields = (key, ctx, recipe, parts, tuple(probes), [p[0] for p in probes], count)
        plan = state.cache["round"] = tuple.__new__(_Round, fields)
        state.cache.pop("known", None)
        return plan

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the open probes of the round, in a fixed order."""
        probes = self._plan(state).probes
        if not state.inbox:
            return probes
        return tuple(p for p in probes if p.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last one of a round closes it."""
        plan = self._plan(state)
        inbox = state.inbox
        if not inbox and [answer[0] for answer in answers] == plan.ids:  # the whole round, in order
            self._close(state, plan, answers)
            return state
        known = state.cache.get("known")
        if known is None:
            known = state.cache["known"] = frozenset(plan.ids)
        for answer in answers:
            key = answer[0]
            if key in known and key not in inbox:
                inbox[key] = answer
            elif not take_late(state, answer):
                state.scalars["ignored"] += 1
        if len(inbox) == len(known):
            self._close(state, plan, [inbox[key] for key in plan.ids])
        return state

    def status(self, state: State) -> Status | None:
        """Return an ending after too many failed rounds in a row, or because the recipe has found a minimum."""
        if "converged" in state.scalars:
            return Status(0, True, CONVERGED)
        if state.attempt >= MAX_ATTEMPTS:
            return Status(
                6,
                False,
                f"The objective failed in {MAX_ATTEMPTS} rounds in a row; the last error is in `failures`.",
            )
        return None

    def recommend(self, state: State) -> Array:
        """Return the average of iterates, or the last point at which a round succeeded, or the iterate."""
        if state.step and "average" in state.arrays:
            return state.arrays["average"]
        return state.arrays["last_good" if state.attempt and "last_good" in state.arrays else "x"]

    def _close(self, state: State, plan: _Round, answers: Sequence[Answer]) -> None:
        """End the round with ``answers`` in the order of its probes."""
        ctx, recipe, scalars = plan.ctx, plan.recipe, state.scalars
        if scalars["horizon"] != math.inf:
            self._spend(state, plan, answers)
        if "replications" in scalars:
            scalars["price"] = float(len(plan.probes))
        if plan.copies > 1:
            answers, variance, freedom = averaged(answers, plan.copies)
            if freedom:
                add_noise(scalars, variance, freedom)
        got: dict[str, Measured] = {}
        for request, a, b in plan.parts:
            measured = request.estimator.reduce(request, ctx, plan.probes[a:b], answers[a:b])
            if measured is None:
                self._failed(state)
                return
            got[request.name] = measured
        if state.phase < 0:
            assert self.calibration is not None
            self._next(state, self.calibration.close(ctx, got))
            return
        if not self._value_is_good(state, got):
            self._retreat(state)
            return
        estimate = recipe.combine(ctx, got)
        if estimate is None:
            self._next(state, phase=state.phase + 1)
            return
        if (state.late or given_up(answers)) and plan.copies == 1 and self.takes_late(state.info):
            estimate = joined(ctx, recipe.estimator, plan.probes, answers, got["x"])  # type: ignore[attr-defined]
        if not estimate.finite or not self._apply(ctx, estimate):
            self._failed(state)
            return
        recipe.observe(ctx, got, estimate)
        if self._follows(state) and "x" in got:
            shorten(state, got["x"])
        if scalars["damping"] < 1.0:
            # A crash halves the step; successes win it back, so that random failures do not stop a run.
            scalars["damping"] = min(1.0, scalars["damping"] * RECOVERY)
        state.step += 1
        if self.averaging is not None:
            self._average(state.arrays["average"], state.arrays["x"], state.step)
        self._next(state, phase=0)

    def _follows(self, state: State) -> bool:
        """Return whether the perturbations follow the steps: neither is the user's, and values compare."""
        calibration = self.calibration
        adapts = calibration is not None and not calibration.fixed and self.rule.learning_rate is None
        return adapts and state.info.n_samples is None

    def _average(self, average: Array, x: Array, step: int) -> None:
        assert self.averaging is not None
        share = average.dtype.type((self.averaging + 1.0) / (step + self.averaging))
        for lo in range(0, x.size, NORM_TILE):
            tile = average[lo : lo + NORM_TILE]
            tile += share * (x[lo : lo + NORM_TILE] - tile)

    def _value_is_good(self, state: State, got: Mapping[str, Measured]) -> bool:
        """Keep the value at x; without a given learning rate, judge by it whether the last step helped."""
        for measured in got.values():
            value = measured.value
            if value - value == 0.0:
                break
        else:
            return True
        state.scalars["value"] = value
        # Values of different mini-batches do not compare.
        return state.info.n_samples is not None or self.rule.learning_rate is not None or judge(state, value)

    def _next(self, state: State, phase: int) -> None:
        state.phase = phase
        state.attempt = 0
        if state.inbox:
            state.inbox.clear()

    def _spend(self, state: State, plan: _Round, answers: Sequence[Answer]) -> None:
        """Note what the round cost, for schedules that need the end of the budget."""
        scalars, info = state.scalars, state.info
        if info.n_samples is None:  # an answer is a sample
            spent = float(len(answers))
            if info.gradient != "none":
                wants = [probe[5][0] for probe in plan.probes]  # "value" or "gradient" or "both"
                gradients = len(wants) - wants.count("v")
                spent = len(wants) - wants.count("g") + info.grad_cost * gradients
        else:
            spent = 0.0
            for probe, answer in zip(plan.probes, answers, strict=True):
                spent += answer[4] if probe[5][0] == "v" else info.grad_cost * answer[4]  # samples, want
        spent = scalars["spent"] = scalars["spent"] + spent
        scalars["progress"] = min(1.0, spent / scalars["horizon"])

    def _rms(self, ctx: Context, estimate: Estimate) -> float:
        size, total, xp = ctx.size, 0.0, backends.get(ctx.state.backend).xp
        x = ctx.arrays["x"]
        scratch = x[:NORM_TILE] * 0
        for lo in range(0, size, NORM_TILE):
            hi = min(lo + NORM_TILE, size)
            tile = scratch[: hi - lo]
            estimate.fill(ctx.directions, lo, hi, tile)
            total += float(xp.square(tile, dtype=np.float64).sum())
        return math.sqrt(total / size)

    def _apply(self, ctx: Context, estimate: Estimate) -> bool:
        """Move x by the rule; return False if the estimate is not finite."""
        state, rule = ctx.state, self.rule
        arrays = state.arrays
        needs_rate = "learning_rate" not in state.scalars and rule.learning_rate is None
        reductions: Mapping[str, float] = _NO_REDUCTIONS
        if needs_rate or rule.reductions:
            rms = self._rms(ctx, estimate)
            if not math.isfinite(rms):
                return False
            reductions = {"rms": rms}
            if needs_rate:
                set_learning_rate(state, rms)
        scalars = rule.scalars(ctx, reductions)
        state.scalars["step_size"] = scalars["learning_rate"]
        if "last_good" in arrays:
            arrays["last_good"][...] = arrays["x"]
        if rule.linear:
            self._move_linear(ctx, -scalars["learning_rate"], estimate)
        else:
            self._move(ctx, estimate, scalars)
        state.versions["x"] += 1
        return True

    def _move_linear(self, ctx: Context, factor: float, estimate: Estimate) -> None:
        """Add a multiple of the estimate to x: regenerated directions and dense parts in one fused pass."""
        state, info = ctx.state, ctx.info
        arrays = state.arrays
        x = arrays["x"]
        if len(estimate.terms) == 1 and not estimate.dense and "last_good" in arrays:
            ((c, u),) = estimate.terms
            ctx.directions.perturb(x, u, factor * c, 0, ctx.size, x)
        elif len(estimate.dense) == 1 and not estimate.terms and x.size <= NORM_TILE and "last_good" in arrays:
            ((a, g),) = estimate.dense
            x += x.dtype.type(factor * a) * g
        else:
            terms = tuple([(factor * c, u) for c, u in estimate.terms])
            dense = [(factor * a, g) for a, g in estimate.dense] if estimate.dense else ()
            if "last_good" not in arrays:
                state.undo = terms
            ctx.directions.accumulate(terms, dense, 0, ctx.size, x)
        if info.lower is not None:
            x.clip(info.lower, info.upper, out=x)

    def _move(self, ctx: Context, estimate: Estimate, scalars: Mapping[str, float]) -> None:
        """Fill the estimate tile by tile and let the rule move each tile."""
        backend = backends.get(ctx.state.backend)
        x, tile = ctx.arrays["x"], backend.tile
        scratch = x[:tile] * 0
        for lo in range(0, x.size, tile):
            hi = min(lo + tile, x.size)
            g = scratch[: hi - lo]
            estimate.fill(ctx.directions, lo, hi, g)
            slots = {name: ctx.arrays[name][lo:hi] for name in self.rule.slots}
            self.rule.update(backend.xp, g, x[lo:hi], slots, scalars)
            if ctx.info.lower is not None and ctx.info.upper is not None:
                x[lo:hi].clip(ctx.info.lower[lo:hi], ctx.info.upper[lo:hi], out=x[lo:hi])

    def _failed(self, state: State) -> None:
        """Retreat from a failure of the objective with a shorter step."""
        if state.attempt == 0:  # later attempts fail at the last good point itself: the step is not to blame
            state.scalars["damping"] *= SHRINKAGE
        self._retreat(state)

    def _retreat(self, state: State) -> None:
        """Return to the last good point; a new attempt draws new directions."""
        x = state.arrays["x"]
        if "last_good" in state.arrays:
            x[...] = state.arrays["last_good"]
        elif state.undo:
            undo = tuple((-c, u) for c, u in state.undo)
            directions_of(state).accumulate(undo, (), 0, x.size, x)
            state.undo = ()
        state.versions["x"] += 1
        state.phase = min(state.phase, 0)
        state.attempt += 1
        state.inbox.clear()
        state.late.clear()
