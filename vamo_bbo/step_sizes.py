r"""Step sizes that are measured, not tuned.

A stochastic step :math:`x - \eta P^{-1} v` is stable while :math:`\eta` is below about 1/L, L the curvature of one
mini-batch in the metric P. Both parts of

.. math:: \eta = \frac{c}{3 \hat L}

are measured as the run goes: :math:`\hat L` by probes (:mod:`vamo_bbo.curvature`), c by what steps do. This is
invariant to the scale of f, of x and of P. c starts at 2 and is moved by what the steps of a pass come to: where the
square of their sum is below the sum of their squares they undo each other and are too long, or move in noise; where it
is above they make way and are too short. (The sign of the correlation of *successive* steps, Pflug's test, takes N of
the N^2 products of N steps: it was often a coin's, and on networks it said "noise" while the steps of a pass made way.
In the first half pass it decides all the same unless a network is trained: the steps of every run make way there, and
with the longer ones of that rule 1e-2 of the gap took a third more passes on large sums.)
On a network the same ratio, over a threshold of 1.1, also says how far c moves: by its fourth root at each of the four
refreshes of a pass. Networks start on plateaus, where gradients are nearly all noise and c falls, and leave them at a
ratio of ten; by a tenth at a time c was back after five passes.
Where every sample can be fitted the noise vanishes by itself, and long steps that undo each other are still the
fastest: once the variance of the mini-batch gradients, from the differences of successive ones, has stayed below a
tenth of its largest value, c grows whenever it is lower than ever.

A quantile of curvatures is no bound: rare mini-batches with a larger one make a noise of their own, at which a run with
stored gradients would stay. So once the noise is reduced, the mean square of the estimates must fall from one pass to
the next (by a tenth); where it does not, c gets a ceiling of 70 % of its present value, which rises by a tenth in every
pass that succeeds. Where a sum is ill-conditioned the mean square hardly falls although there is no noise. That is told
by the sum of a pass's steps: noise cancels, so its square stays about the sum of squares, while steps that make way add
up. Where its square is above four times the sum of squares, nothing is to be lowered, and the ceiling doubles.

c stays within a range, because 1/L is a limit where the curvature stays what the probes say. A network is trained
fastest beyond it (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", ICLR
2021). There successive steps agree strongly, which steps in noise never do, and c doubles whatever its range. Beyond
the range ("long steps") the sign of successive steps says nothing, and f on a fixed sample decides: it is looked at
after every refresh, c grows while it falls and is halved when it does not (the bold driver of Vogl et al.,
"Accelerating the convergence of the back-propagation method", Biological Cybernetics 59, 1988).

(1/(3 L) is SAGA's step: Defazio, Bach & Lacoste-Julien, "SAGA", NeurIPS 2014. For the test of successive steps: Pflug,
"Non-asymptotic confidence bounds for stochastic approximation algorithms with constant step size", Monatshefte für
Mathematik 110, 1990.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vamo_bbo._typing import Array, Tag
from vamo_bbo.core.estimate import Measured
from vamo_bbo.core.solver import Context, Request
from vamo_bbo.core.types import Answer, Batch, Probe, ProblemInfo
from vamo_bbo.curvature import Curvature

__all__ = ["NOISE_REDUCED", "CheckValue", "MeasuredStep", "check_batch", "refresh_due", "refresh_interval"]

REFRESHES = 4
"""Refreshes of preconditioner and step size per pass over the data, once half a pass is done. Before, x moves fast and
little is known: refreshes come whenever the number of steps has grown by about a half."""

FIRST_REFRESH = 8
"""Steps before the first refresh, and fewest between two."""

LOOKS, STEEPER = 10, 10.0
"""Most further looks along one step at the start, and the factor by which one may raise the curvature. The k-th
raises it at least k times: ten of them shorten a step by a factor of a million."""


def refresh_interval(n_batches: int) -> int:
    """Return the most steps between two refreshes: a quarter of a pass of ``n_batches`` steps, at least 8.

    Examples
    --------
    >>> refresh_interval(100), refresh_interval(4)
    (25, 8)
    """
    return max(FIRST_REFRESH, n_batches // REFRESHES)


def refresh_due(scalars: dict[str, float], done: int, interval: int) -> bool:
    """Return whether what is measured is refreshed after ``done`` steps; ``scalars["refreshed"]`` remembers when.

    Examples
    --------
    >>> scalars = {}
    >>> [done for done in range(1, 60) if refresh_due(scalars, done, 16)]
    [8, 20, 36, 52]
    """
    refreshed = scalars.get("refreshed", 0.0)
    if done - refreshed < min(interval, refreshed // 2 + FIRST_REFRESH):
        return False
    scalars["refreshed"] = float(done)
    return True


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """When curvature is probed, and how the step size follows from it.

    The constants were chosen once, on development problems (docs/finite_sums), and are not options of a solver.

    Parameters
    ----------
    factor : float, default 2
        c at the start.
    curvature : Curvature
        Keeps the probes.
    warm_up : int, default 4
        First steps of a run that all probe.
    per_refresh : int, default 2
        Probes after each refresh of the preconditioner.
    network : bool, default False
        The metric is one per layer of a network. Steps make way under noise from the first one on: the sum of a pass's
        steps decides in the first half pass, too. Later, how far it exceeds ``undone`` decides how far c moves, within
        ``shrink`` and ``jump``.
    shrink, grow : float, default 0.8, 1.1
        Factors of c.
    early_shrink, early_grow : float, default 0.7, 1.3
        The same during the first half pass over the data.
    lowest, highest : float, default 0.2, 4
        Range of c; beyond it steps are called long.
    vanished : float, default 0.1
        Variance of mini-batch gradients, relative to its largest so far, below which noise is taken to vanish.
    fade : float, default 0.7
        Factor per refresh of the level that is compared with ``vanished``: one quiet refresh proves nothing.
    undone : float, default 1.1
        Square of the sum of the steps since a pass began, in sums of their squares, below which they undo each other.
        Steps that are independent have 1.
    strong : float, default 0.25
        Correlation of successive steps above which c doubles.
    jump : float, default 2
        Largest factor by which the step size grows between two refreshes, and c of a network at one.
    long_grow, long_shrink : float, default 1.2, 0.5
        Factors of c for long steps that lower f on the check sample, or do not.
    outlier : float, default 10
        A step is cut at so many times the root mean square length before the last refresh: a gradient larger than those
        that the metric was made of may blow it up, and few samples with gradients a thousand times the others' would
        throw x far off once a pass.
    fall, lower, higher : float, default 0.9, 0.7, 1.1
        Largest ratio of the mean squares of the estimates of two passes that counts as progress, where noise is
        reduced; factors of the ceiling of c without and with progress.
    drift, release : float, default 4, 2
        Square of the sum of a pass's steps, in sums of their squares, above which they drift (steps of noise have about
        1 or less, steps that agree their number); factor of the ceiling then.
    gain : float, default 0.02
        Share of all that f on the check sample has fallen; more than this in one pass is progress, too.
    reduced : bool, default False
        Whether all estimates have their noise reduced; otherwise the caller of :meth:`agree` says when.

    Examples
    --------
    >>> rule = MeasuredStep()
    >>> [step for step in range(12) if rule.probes(step, 8 if step >= 8 else 0)]
    [0, 1, 2, 3, 8, 9]
    """

    factor: float = 2.0
    curvature: Curvature = field(default_factory=Curvature)
    warm_up: int = 4
    per_refresh: int = 2
    network: bool = False
    shrink: float = 0.8
    grow: float = 1.1
    early_shrink: float = 0.7
    early_grow: float = 1.3
    lowest: float = 0.2
    highest: float = 4.0
    vanished: float = 0.1
    fade: float = 0.7
    undone: float = 1.1
    strong: float = 0.25
    jump: float = 2.0
    long_grow: float = 1.2
    long_shrink: float = 0.5
    outlier: float = 10.0
    fall: float = 0.9
    lower: float = 0.7
    higher: float = 1.1
    gain: float = 0.02
    drift: float = 4.0
    release: float = 2.0
    reduced: bool = False

    def probes(self, step: int, refreshed: int) -> bool:
        """Return whether the step measures curvature; ``refreshed`` is the step at which the metric was made."""
        return step < self.warm_up or step - refreshed < self.per_refresh

    def checks(self, scalars: dict[str, float], step: int, n_batches: int) -> bool:
        """Return whether f is looked at now: on suspicion, or after refreshes in the first pass and of long steps."""
        refreshed = step == int(scalars.get("refreshed", 0.0))
        return "suspected" in scalars or (refreshed and (step < n_batches or self.is_long(scalars)))

    def record(self, arrays: dict[str, Array], scalars: dict[str, float], curvature: float) -> None:
        """Take a probe's curvature L (in the metric P) and set the step size; one that is not positive is left out."""
        self.curvature.record(arrays, scalars, curvature)
        self.update(arrays, scalars)

    def looks_again(
        self, arrays: dict[str, Array], scalars: dict[str, float], step: int, curvature: float, *, overshot: bool
    ) -> bool:
        """Take a probe; return whether the same step is to be probed again, at its new length.

        At the start only: after the very first probe, which says nothing of how far its curvature holds, and as long as
        the step is ``overshot``: the slope of its own mini-batch has changed its sign at its end, which no quadratic's
        has at c = 2. What was measured at such an end replaces what was measured before.
        """
        looks, before = scalars.pop("looks", 0.0), self.curvature.value(arrays, scalars)
        if looks and overshot and before is not None:
            curvature = min(max(curvature, looks * before), STEEPER * before)
            scalars["n_short_probes"] -= 1.0
        self.record(arrays, scalars, curvature)
        first = step == 0 and not looks
        if step >= self.warm_up or looks >= LOOKS or not (overshot or first) or "learning_rate" not in scalars:
            return False
        scalars["looks"] = looks + 1.0
        return True

    def update(self, arrays: dict[str, Array], scalars: dict[str, float]) -> None:
        """Set ``learning_rate`` from what is known.

        It at most doubles from one refresh to the next: c may have grown while the measured curvature was too large.
        Of a long step c takes the rest.
        """
        curvature = self.curvature.value(arrays, scalars)
        if curvature is None:
            return
        before, share = scalars.get("learning_rate", math.inf), self.share(scalars)
        if self.is_long(scalars) and share > self.jump * before * 3.0 * curvature:
            share = scalars["step_factor"] = max(self.lowest, self.jump * before * 3.0 * curvature)
        scalars["learning_rate"] = min(share / (3.0 * curvature), self.jump * scalars.get("rate_before", math.inf))

    def share(self, scalars: dict[str, float]) -> float:
        """Return c."""
        return scalars.get("step_factor", self.factor)

    def is_long(self, scalars: dict[str, float]) -> bool:
        """Return whether c is beyond its range."""
        return self.share(scalars) > self.highest

    def cut(self, scalars: dict[str, float], square: float) -> float:
        """Return the factor of a step whose squared length in the metric is ``square``: less than 1 for outliers."""
        largest = self.outlier * self.outlier * scalars.get("typical_square", math.inf)
        return math.sqrt(largest / square) if square > largest else 1.0

    def follow(
        self, arrays: dict[str, Array], scalars: dict[str, float], *, gradient: Array, estimate: Array, direction: Array
    ) -> None:
        """Take a step's mini-batch gradient, its estimate v and ``P^-1 v`` into the sums that :meth:`agree` reads."""
        previous, square = arrays["previous_step"], float(direction @ estimate)
        scalars["step_products"] = scalars.get("step_products", 0.0) + float(previous @ estimate)
        scalars["step_squares"] = scalars.get("step_squares", 0.0) + square
        scalars["step_count"] = scalars.get("step_count", 0.0) + 1.0
        scalars["pass_squares"] = scalars.get("pass_squares", 0.0) + float(estimate @ estimate)
        scalars["pass_count"] = scalars.get("pass_count", 0.0) + 1.0
        previous[...] = direction
        drift = arrays["drift"]
        if not scalars.get("drift_squares"):  # a new pass, or x was left
            drift[...] = 0
        scalars["drift_products"] = scalars.get("drift_products", 0.0) + 2.0 * float(drift @ estimate) + square
        scalars["drift_squares"] = scalars.get("drift_squares", 0.0) + square
        drift += direction
        before = arrays["previous_gradient"]
        if "noise_steps" in scalars:
            change = gradient - before
            scalars["noise_sum"] = scalars.get("noise_sum", 0.0) + 0.5 * float(change @ change)
        scalars["noise_steps"] = scalars.get("noise_steps", -1.0) + 1.0
        before[...] = gradient

    def agree(self, scalars: dict[str, float], *, early: bool, reduced: bool = False) -> None:
        """Move c by what the pass's steps come to, by successive ones that agree strongly, or by noise that vanishes.

        ``early``: in the first half pass. ``reduced``: estimates have most of their noise removed.
        """
        scalars["rate_before"] = scalars.get("learning_rate", math.inf)
        products, squares = scalars.get("step_products", 0.0), scalars.get("step_squares", 0.0)
        if squares > 0:
            scalars["typical_square"] = squares / max(1.0, scalars.get("step_count", 0.0))
        scalars["step_products"] = scalars["step_squares"] = scalars["step_count"] = 0.0
        vanishing = self._vanishes(scalars)
        if not squares > 0:
            return
        # The very first steps of any run agree: they are no evidence.
        strong = products > self.strong * squares and "agreed" in scalars
        scalars["agreed"] = 1.0
        share, long = self.share(scalars), self.is_long(scalars)
        if strong:
            scalars["step_factor"] = 2.0 * share
        elif not long:  # what long steps do is for `judge` to say
            factor = self.early_grow if vanishing else self._factor(scalars, products, early=early)
            scalars["step_factor"] = min(self.highest, max(self.lowest, share * factor))
        if not early:
            self._settle(scalars, reduced or self.reduced)

    def _factor(self, scalars: dict[str, float], products: float, *, early: bool) -> float:
        """Return what c is multiplied by at a refresh."""
        squares = scalars.get("drift_squares", 0.0)
        way = scalars.get("drift_products", 0.0) / squares / self.undone if squares > 0 else math.inf
        if early:
            undone = way < 1.0 if self.network else products < 0
            return self.early_shrink if undone else self.early_grow
        if not self.network:
            return self.shrink if way < 1.0 else self.grow
        return min(self.jump, max(self.shrink, math.pow(max(0.0, way), 1.0 / REFRESHES)))

    def _settle(self, scalars: dict[str, float], reduced: bool) -> None:
        """Keep c below its ceiling, which is moved once in ``REFRESHES`` calls: about once a pass."""
        scalars["pass_refreshes"] = scalars.get("pass_refreshes", 0.0) + 1.0
        if scalars["pass_refreshes"] >= REFRESHES:
            mean = scalars.get("pass_squares", 0.0) / max(1.0, scalars.get("pass_count", 0.0))
            # While f still falls fast its gradients may grow, as a network's do at the start.
            best = scalars.get("check_best", math.inf)
            gain = scalars.get("check_start", math.inf) - best
            moving = scalars.get("pass_best", best) - best > self.gain * gain
            drifts = scalars.get("drift_products", 0.0) > self.drift * scalars.get("drift_squares", 0.0)
            scalars["drift_products"] = scalars["drift_squares"] = 0.0
            falls = drifts or moving or mean <= self.fall * scalars.get("pass_before", math.inf)
            scalars["pass_before"], scalars["pass_best"] = mean, best
            scalars["pass_squares"] = scalars["pass_count"] = scalars["pass_refreshes"] = 0.0
            ceiling = scalars.get("ceiling", self.highest)
            if reduced and not falls:
                scalars["ceiling"] = max(self.lowest, self.lower * min(ceiling, self.share(scalars)))
            elif reduced:
                scalars["ceiling"] = min(self.highest, (self.release if drifts else self.higher) * ceiling)
        if not self.is_long(scalars):
            scalars["step_factor"] = min(self.share(scalars), scalars.get("ceiling", self.highest))

    def _vanishes(self, scalars: dict[str, float]) -> bool:
        """Return whether the variance of mini-batch gradients has become small for good, and is lower than ever."""
        variance = scalars.get("noise_sum", 0.0) / max(1.0, scalars.get("noise_steps", 0.0))
        scalars["noise_sum"] = scalars["noise_steps"] = 0.0
        scalars["noise_top"] = max(variance, scalars.get("noise_top", 0.0))
        level = scalars["noise_level"] = max(variance, self.fade * scalars.get("noise_level", 0.0))
        # A floor, however low, is no new low: there the sum of a pass's steps decides.
        lower = variance < 0.9 * scalars.get("noise_lowest", math.inf)
        if lower:
            scalars["noise_lowest"] = variance
        return lower and level < self.vanished * scalars["noise_top"]

    @staticmethod
    def check(ctx: Context) -> tuple[Request, ...]:
        """Return the requests of a check: f at x on the check sample; on suspicion on others, and at the last good x.

        Those are as many as the steps have used.
        """
        n, stream = ctx.info.n_samples, ctx.stream(Tag.MAIN)
        assert n is not None
        if "suspected" not in ctx.scalars:
            return (Request("check", CheckValue(), ctx.anchor("x"), (check_batch(n),), stream),)
        places = {"check": "x", "good": "checked"}
        used = max(check_batch(n).size, ctx.step * ctx.batch_size)
        few = used < min(n, ctx.info.chunk_size)
        batches = (Batch("fixed", 0, 0, used),) if few else ctx.full_pass()
        return tuple(Request(k, CheckValue(), ctx.anchor(at), batches, stream) for k, at in places.items())

    def judge(self, ctx: Context, got: Mapping[str, Measured]) -> bool:
        """Keep a good x; return to the last one, with a quarter of the step, from a point that is worse than the start.

        Half of what was gained so far is the noise that a step may have, and a hundredth of f where little was gained.
        Up to twice the start that makes a point suspect only: where few samples weigh most, the check sample has its
        minimum elsewhere. Other samples decide at the next step, as many as the steps have used: in the first pass a
        judgement is to cost no more than what is judged, later all. If they find x better, judgement begins anew there.
        Returns whether x was left.
        """
        scalars, value = ctx.scalars, got["check"].value
        if "suspected" in scalars:
            told = scalars.pop("suspected")
            if value > got["good"].value:
                self._retreat(ctx)
                return True
            ctx.copy_anchor("x", "checked")
            scalars["check_best"], scalars["check_start"] = told, max(told, scalars["check_start"])
            return False
        start, best = scalars.setdefault("check_start", value), scalars.get("check_best", math.inf)
        before = scalars.get("check_last", math.inf)
        scalars["check_last"] = value
        if value > best + 0.5 * (start - best) + 1e-2 * abs(best):
            if value < start + abs(start):
                scalars["suspected"] = value
                return False
            self._retreat(ctx)
            return True
        if value <= best + 0.1 * (start - best) or best == math.inf:
            ctx.copy_anchor("x", "checked")
            scalars["check_best"] = min(best, value)
        if self.is_long(scalars) and before < math.inf:
            scalars["step_factor"] = self.share(scalars) * (self.long_grow if value < before else self.long_shrink)
            self.update(ctx.arrays, scalars)
        return False

    def _retreat(self, ctx: Context) -> None:
        """Return to the last good x with a quarter of the step."""
        scalars = ctx.scalars
        ctx.copy_anchor("checked", "x")
        ctx.arrays["previous_step"][...] = 0
        scalars["drift_products"] = scalars["drift_squares"] = 0.0
        scalars["check_last"] = math.inf
        scalars["step_factor"] = max(self.lowest / 4, self.share(scalars) / 4)
        self.update(ctx.arrays, scalars)


NOISE_REDUCED = MeasuredStep(strong=math.inf, reduced=True)
"""The rule for estimates that are recursive or have a snapshot: successive ones agree whatever the step is."""


@dataclass(frozen=True, slots=True)
class CheckValue:
    """The mean value on the samples of a request: one probe per batch.

    Examples
    --------
    >>> CheckValue().cost(ProblemInfo(n_samples=9), 4)
    (1, 0)
    """

    def check(self, info: ProblemInfo, size: int) -> None:
        """Accept every objective."""

    def cost(self, info: ProblemInfo, size: int) -> tuple[int, int]:
        """Return the values and gradients of one measurement, per sample of its batch."""
        return 1, 0

    def plan(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return one value probe per batch."""
        state = ctx.state
        return [
            Probe((state.step, state.phase, state.attempt, first + k), request.at, batch=batch)
            for k, batch in enumerate(request.batches)
        ]

    def reduce(
        self, request: Request, ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer]
    ) -> Measured | None:
        """Return the mean value, infinite if an evaluation failed: the point is then no good."""
        if any(a.error is not None or not math.isfinite(a.value) for a in answers):
            return Measured(math.inf)
        total = sum(a.n_samples for a in answers)
        return Measured(math.fsum(a.n_samples * a.value for a in answers) / total)


def check_batch(n: int) -> Batch:
    """Return the samples that divergence is looked for on: a fiftieth, at least 32, the same all through a run.

    Examples
    --------
    >>> check_batch(10_000).size
    200
    """
    return Batch("iid", 0, 1, min(n, max(32, n // 50)))
