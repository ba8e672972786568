r"""Step sizes that are measured, not tuned.

A stochastic step :math:`x - \eta P^{-1} v` is stable while :math:`\eta` is below about 1/L, L the curvature of one
mini-batch in the metric P. Both parts of

.. math:: \eta = \frac{c}{3 \hat L}

are measured as the run goes. :math:`\hat L` is the 0.9 quantile of recent probes: the gradient of the step's own
mini-batch at a second point a little further along its preconditioned negative gradient, with y the change of the
gradient and s that of the point, shows :math:`L = y^\top P^{-1} y / s^\top y`. This is invariant to the scale of f, of
x and of P. c starts at 2 and is moved by the sign of the correlation of successive steps: steps that undo each other
(negative) are too long, or move in noise; steps that agree are too short. Where every sample can be fitted the noise
vanishes by itself, and long steps that undo each other are still the fastest: once the variance of the mini-batch
gradients, from the differences of successive ones, has stayed below a tenth of its largest value, c grows
whenever it is lower than ever.

(1/(3 L) is SAGA's step: Defazio, Bach & Lacoste-Julien, "SAGA", NeurIPS 2014. For the sign test see Pflug,
"Non-asymptotic confidence bounds for stochastic approximation algorithms with constant step size", Monatshefte für
Mathematik 110, 1990.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import Context, Request
from vamo_bbo.core.types import Answer, Batch, Probe, ProblemInfo

__all__ = ["CheckValue", "MeasuredStep", "check_batch", "refresh_due", "refresh_interval"]

REFRESHES = 4
"""Refreshes of preconditioner and step size per pass over the data, once half a pass is done. Before, x moves fast and
little is known: refreshes come whenever the number of steps has grown by about a half."""

FIRST_REFRESH = 8
"""Steps before the first refresh, and fewest between two."""


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

    The constants were chosen once, on eight development problems (docs/finite_sums), and are not options of a solver.

    Parameters
    ----------
    factor : float, default 2
        c at the start.
    quantile : float, default 0.9
        Quantile of the probes.
    kept : int, default 40
        Probes that count.
    warm_up : int, default 4
        First steps of a run that all probe.
    per_refresh : int, default 2
        Probes after each refresh of the preconditioner.
    shrink, grow : float, default 0.8, 1.1
        Factors of c.
    early_shrink, early_grow : float, default 0.7, 1.3
        The same during the first half pass over the data.
    lowest, highest : float, default 0.2, 4
        Range of c.
    vanished : float, default 0.1
        Variance of mini-batch gradients, relative to its largest so far, below which noise is taken to vanish.
    fade : float, default 0.7
        Factor per refresh of the level that is compared with ``vanished``: one quiet refresh proves nothing.

    Examples
    --------
    >>> rule = MeasuredStep()
    >>> [step for step in range(12) if rule.probes(step, 8 if step >= 8 else 0)]
    [0, 1, 2, 3, 8, 9]
    """

    factor: float = 2.0
    quantile: float = 0.9
    kept: int = 40
    warm_up: int = 4
    per_refresh: int = 2
    shrink: float = 0.8
    grow: float = 1.1
    early_shrink: float = 0.7
    early_grow: float = 1.3
    lowest: float = 0.2
    highest: float = 4.0
    vanished: float = 0.1
    fade: float = 0.7

    def probes(self, step: int, refreshed: int) -> bool:
        """Return whether the step measures curvature; ``refreshed`` is the step at which the metric was made."""
        return step < self.warm_up or step - refreshed < self.per_refresh

    def distance(self, x: Array, direction: Array, rate: float | None) -> float:
        """Return how far along ``direction`` a probe looks: a thousandth of a step, or more against rounding."""
        norm = math.sqrt(float(np.einsum("i,i->", direction, direction, dtype=np.float64)))
        if norm == 0.0 or not math.isfinite(norm):
            return 0.0
        size = math.sqrt(float(np.einsum("i,i->", x, x, dtype=np.float64)))
        nearest = math.sqrt(float(np.finfo(x.dtype).eps))
        if rate is None:
            return 1e4 * nearest * (1.0 + size) / norm if x.dtype.itemsize == 8 else nearest * (1.0 + size) / norm
        return max(1e-3 * rate, nearest * size / norm)

    def record(self, arrays: dict[str, Array], scalars: dict[str, float], curvature: float) -> None:
        """Take a probe's curvature L (in the metric P) and set the step size; one that is not positive is left out."""
        curvatures, count = arrays["curvatures"], int(scalars.get("n_curvatures", 0.0))
        if curvature > 0 and math.isfinite(curvature):
            curvatures[count % self.kept] = curvature
            scalars["n_curvatures"] = count + 1.0
        self.update(arrays, scalars)

    def update(self, arrays: dict[str, Array], scalars: dict[str, float]) -> None:
        """Set ``learning_rate`` from what is known."""
        count = min(self.kept, int(scalars.get("n_curvatures", 0.0)))
        if count:
            known: FloatArray = arrays["curvatures"][:count]
            scalars["learning_rate"] = self.share(scalars) / (3.0 * float(np.quantile(known, self.quantile)))

    def share(self, scalars: dict[str, float]) -> float:
        """Return c."""
        return scalars.get("step_factor", self.factor)

    def follow(
        self, arrays: dict[str, Array], scalars: dict[str, float], *, gradient: Array, estimate: Array, direction: Array
    ) -> None:
        """Take a step's mini-batch gradient, its estimate v and ``P^-1 v`` into the sums that :meth:`agree` reads."""
        previous = arrays["previous_step"]
        scalars["step_products"] = scalars.get("step_products", 0.0) + float(previous @ estimate)
        scalars["step_squares"] = scalars.get("step_squares", 0.0) + float(direction @ estimate)
        previous[...] = direction
        before = arrays["previous_gradient"]
        if "noise_steps" in scalars:
            change = gradient - before
            scalars["noise_sum"] = scalars.get("noise_sum", 0.0) + 0.5 * float(change @ change)
        scalars["noise_steps"] = scalars.get("noise_steps", -1.0) + 1.0
        before[...] = gradient

    def agree(self, scalars: dict[str, float], *, early: bool) -> None:
        """Move c by the correlation of the successive steps since the last call, or by the noise where it vanishes."""
        products, squares = scalars.get("step_products", 0.0), scalars.get("step_squares", 0.0)
        scalars["step_products"] = scalars["step_squares"] = 0.0
        vanishing = self._vanishes(scalars)
        if squares > 0:
            shrink, grow = (self.early_shrink, self.early_grow) if early else (self.shrink, self.grow)
            factor = self.early_grow if vanishing else shrink if products < 0 else grow
            scalars["step_factor"] = min(self.highest, max(self.lowest, self.share(scalars) * factor))

    def _vanishes(self, scalars: dict[str, float]) -> bool:
        """Return whether the variance of mini-batch gradients has become small for good, and is lower than ever."""
        variance = scalars.get("noise_sum", 0.0) / max(1.0, scalars.get("noise_steps", 0.0))
        scalars["noise_sum"] = scalars["noise_steps"] = 0.0
        scalars["noise_top"] = max(variance, scalars.get("noise_top", 0.0))
        level = scalars["noise_level"] = max(variance, self.fade * scalars.get("noise_level", 0.0))
        # A floor, however low, is no new low: there the sign of successive steps decides.
        lower = variance < 0.9 * scalars.get("noise_lowest", math.inf)
        if lower:
            scalars["noise_lowest"] = variance
        return lower and level < self.vanished * scalars["noise_top"]

    def judge(self, ctx: Context, value: float) -> bool:
        """Keep a good x; return to the last one, with a quarter of the step, from a point that is worse than the start.

        Half of what was gained so far is the noise that a step may have. Returns whether x was left.
        """
        scalars = ctx.scalars
        start, best = scalars.setdefault("check_start", value), scalars.get("check_best", math.inf)
        if value <= best + 0.1 * (start - best) or best == math.inf:
            ctx.copy_anchor("x", "checked")
            scalars["check_best"] = min(best, value)
            return False
        if value <= best + 0.5 * (start - best) + 1e-3 * abs(best):
            return False
        ctx.copy_anchor("checked", "x")
        ctx.arrays["previous_step"][...] = 0
        scalars["step_factor"] = max(self.lowest / 4, self.share(scalars) / 4)
        self.update(ctx.arrays, scalars)
        return True


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
            return Measured(Estimate(), math.inf)
        total = sum(a.n_samples for a in answers)
        return Measured(Estimate(), math.fsum(a.n_samples * a.value for a in answers) / total)


def check_batch(n: int) -> Batch:
    """Return the samples that divergence is looked for on: a fiftieth, at least 32, the same all through a run.

    Examples
    --------
    >>> check_batch(10_000).size
    200
    """
    return Batch("iid", 0, 1, min(n, max(32, n // 50)))
