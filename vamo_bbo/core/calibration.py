"""What a run measures at x0 before its first step, and how it keeps its step size in line afterwards.

Both serve solvers that were given no learning rate. At x0: the noise of the objective (repeated values), a smoothing
that stands out of that noise, and the size of the estimate. Afterwards, on objectives that are not mini-batch sums:
a step that made things worse is taken back and halved, one that helped makes the next a little longer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vamo_bbo._typing import Tag
from vamo_bbo.core.estimate import Measured
from vamo_bbo.core.replication import adapt
from vamo_bbo.core.solver import Context, Estimator, Request, State
from vamo_bbo.core.types import ProblemInfo

__all__ = ["FIRST_STEP", "GROWTH", "Calibration", "add_noise", "judge", "noise_level", "set_learning_rate", "shorten"]

FIRST_STEP = 0.01
"""Root mean square of the first automatic step, in units of ``x_scale``."""

FIRST_PHASE = -1
"""Phases below 0 belong to the calibration: -1 repeats x0, -2 and below measure slopes."""

MAX_ROUNDS = 5
"""Calibration rounds at most; each changes the smoothing by a factor of at most 10."""

SIGNAL = 4.0
"""Wanted ratio of a difference to its noise: a slope then has a relative error of about 1/4."""

NOISY_SMOOTHING = 1e-2
"""Smoothing that the calibration of a noisy objective starts from, in units of ``x_scale``; the longest for values of
few digits."""

SMOOTHING_RANGE = (1e-4, 0.3)

SHORTER = 0.01
"""Perturbations relative to the step, both in rms, where values repeat exactly: at the first step that is 1e-4, the
default, and so the error that the curvature makes in a difference falls with the slopes."""

SHORTEST = 1e-8
"""Shortest perturbation in units of ``x_scale``: about the root of the rounding error of float64."""

TOLD_APART = 4
"""Differences of a step from which two that are equal say that the values have few digits."""

GROWTH, SHRINKAGE = 1.2, 0.5
"""Factors of the step after a step that helped and after one that did harm: a step that fails one time in five keeps
its length (1.2^4 / 2 = 1.04). SHRINKAGE also follows a failure of the objective."""

MEMORY = 30.0
"""Degrees of freedom that the estimate of the noise keeps."""

LONGEST = 4.0
"""Steps at most that one confirmed change counts for: the step then about doubles."""

CONFIDENCE = 3.0
"""Standard deviations of the noise of a difference beyond which a change of value counts."""


class Calibration(NamedTuple):
    """How noise, smoothing and the scale of the first estimate are measured at x0, counted in the budget.

    Phase -1 repeats the value at x0 (not for mini-batches: those repeat exactly). The phases below measure slopes, if
    there is noise to stand out of, or if a step averages too few directions to be a measurement of its own size.

    Attributes
    ----------
    slopes : Estimator
        Differences along a few directions.
    replicates : Estimator
        Repeated values at x0.
    n_directions : int
        Directions that the recipe averages in every step.
    enough : bool
        Whether the first step's own estimate is a good enough measurement of its size.
    fixed : bool
        Whether the user gave the smoothing.
    """

    slopes: Estimator
    replicates: Estimator
    n_directions: int
    enough: bool
    fixed: bool

    def first_phase(self, info: ProblemInfo) -> int:
        """Return the phase that a run starts in."""
        if info.n_samples is None:
            return FIRST_PHASE
        return 0 if self.enough else FIRST_PHASE - 1

    def requests(self, ctx: Context) -> tuple[Request, ...]:
        """Return the measurements of a calibration round."""
        stream, at, batch = ctx.stream(Tag.CALIBRATION), ctx.anchor("x"), (ctx.mini_batch(),)
        replicates = Request("replicates", self.replicates, at, batch, stream)
        slopes = Request("slopes", self.slopes, at, batch, stream)
        if ctx.phase == FIRST_PHASE:
            return (replicates,)
        # Three values only show that there is noise: its size takes a few more.
        return (replicates, slopes) if _noise(ctx.scalars) > 0.0 and ctx.phase == FIRST_PHASE - 1 else (slopes,)

    def close(self, ctx: Context, got: Mapping[str, Measured]) -> int:
        """Take a round's measurements; return the next phase, 0 when the calibration is complete."""
        scalars = ctx.scalars
        if "replicates" in got:
            values = got["replicates"].differences
            if len(values) > 1:
                add_noise(scalars, float(np.var(values, ddof=1)), len(values) - 1)
        if "slopes" not in got:
            if (_noise(scalars) > 0.0 or ctx.info.noisy) and not self.fixed:
                scalars["smoothing"] = NOISY_SMOOTHING
            elif self.enough:
                return 0
            return ctx.phase - 1
        slopes = np.asarray(got["slopes"].differences)
        noise, length = _noise(scalars), scalars.get("smoothing", 0.0)
        power = float(np.mean(slopes**2))
        if length > 0.0:
            scalars["smoothing"] = self._smoothing(power, noise, length)
            if scalars["smoothing"] != length and ctx.phase > FIRST_PHASE - MAX_ROUNDS:
                return ctx.phase - 1
            # What the noise adds to the slopes; at least a tenth of their power is taken for signal.
            power = max(power - 2.0 * (noise / length) ** 2, 0.1 * power)
        set_learning_rate(ctx.state, math.sqrt(power / self.n_directions))
        return 0

    def _smoothing(self, power: float, noise: float, length: float) -> float:
        """Return a smoothing whose differences are about SIGNAL times their noise."""
        spurious = 2.0 * (noise / length) ** 2
        target = SIGNAL * math.sqrt(2.0) * noise
        slope = math.sqrt(max(power - spurious, 0.05 * power))
        wanted = target / slope if slope > 0 else math.inf
        if 0.5 * wanted <= length <= 2.0 * wanted:
            return length
        low, high = SMOOTHING_RANGE
        return min(max(wanted, 0.1 * length, low), 10.0 * length, high)


def set_learning_rate(state: State, rms: float) -> None:
    """Choose the step size whose first step has rms FIRST_STEP for an estimate of size ``rms``."""
    # A flat start gives no scale: a unit step size then waits for the first slope.
    state.scalars["learning_rate"] = FIRST_STEP / rms if rms > 0 else 1.0


def noise_level(scalars: Mapping[str, float]) -> float:
    """Return the standard deviation of one value, from a state's scalars; NaN before any value was repeated.

    Examples
    --------
    >>> noise_level({"noise_variance": 4.0}), noise_level({})
    (2.0, nan)
    """
    return math.sqrt(scalars.get("noise_variance", math.nan))


def _noise(scalars: Mapping[str, float]) -> float:
    """Return the standard deviation of repeated values."""
    return math.sqrt(scalars.get("noise_variance", 0.0))


def add_noise(scalars: dict[str, float], variance: float, weight: float) -> None:
    """Pool a variance measured with ``weight`` degrees of freedom; old ones fade, so that noise may change."""
    old = min(scalars.get("noise_weight", 0.0), MEMORY)
    total = old + weight
    scalars["noise_variance"] = (old * scalars.get("noise_variance", 0.0) + weight * variance) / total
    scalars["noise_weight"] = total


def shorten(state: State, measured: Measured) -> None:
    """Let the perturbations of a deterministic objective follow its steps, as far as its values have digits.

    Among differences of values with all their digits no two have the same size; where some do, they consist of a few
    units of the last digit, and perturbations are never again as short as these were. Where they are one unit or none,
    perturbations get longer than the default.
    """
    scalars, slopes = state.scalars, measured.differences
    if scalars.get("noise_variance") or state.arrays["x"].dtype.itemsize < 8 or len(slopes) < TOLD_APART:
        return
    default = SMOOTHING_RANGE[0]
    length, shortest = scalars.get("smoothing", default), scalars.get("shortest", SHORTEST)
    sizes = len(set(map(abs, slopes)))
    if sizes < len(slopes):
        longest = NOISY_SMOOTHING if sizes <= 2 else max(default, shortest)
        if length < longest:  # else it may be the symmetry of the objective around x0
            scalars["shortest"] = scalars["smoothing"] = min(longest, 10.0 * length)
    else:
        step = math.hypot(*map(operator.mul, measured.weights, slopes)) * scalars["step_size"]
        scalars["smoothing"] = max(min(default, max(SHORTER * step, 0.5 * length)), shortest)


def judge(state: State, value: float) -> bool:
    """Compare the value at x with that at a reference point; return False if the last step must be taken back.

    ``scalars["growth"]``, a factor on every step, is halved then, and grows when f has fallen by more than the noise.
    The reference stays until then: small steps add up to a change that counts, and the more of them it took, the more
    the step grows. A step that was taken back leads to a second value of one point: what it differs by is noise.
    """
    scalars = state.scalars
    reference, since = scalars.get("reference", math.inf), scalars.get("since", 0.0) + 1.0
    count, noise = scalars.get("replications", 1.0), _noise(scalars)
    margin = CONFIDENCE * math.sqrt(2.0 / count) * noise if noise else 0.0
    if value > reference + margin:
        # The last good point is measured anew, so that a lucky value cannot hold a run.
        scalars["reference"], scalars["since"] = math.inf, 0.0
        scalars["growth"] *= SHRINKAGE
        scalars["rise"] = value - reference
        return False
    if reference == math.inf and "last_value" in scalars:
        add_noise(scalars, 0.5 * count * (value - scalars["last_value"]) ** 2, 1.0)
        # Noise that was not known when the step was judged may explain the rise: then the step was not to blame.
        if scalars.pop("rise", math.inf) <= CONFIDENCE * math.sqrt(2.0 / count) * _noise(scalars):
            scalars["growth"] /= SHRINKAGE
    scalars["last_value"] = value
    first = reference == math.inf
    changed = not first and value < reference - margin
    if changed or first:
        if changed:
            scalars["growth"] *= GROWTH ** min(since, LONGEST)
        scalars["reference"], scalars["since"] = value, 0.0
    else:
        scalars["since"] = since
    # Common random numbers keep noise out of the differences, so that steps are right where values seem to stand still.
    if margin > 0.0 and not first and not state.info.common_noise and adapt(state, since, changed):
        # Compared is what was measured with as many replications.
        scalars["reference"], scalars["since"] = math.inf, 0.0
        del scalars["last_value"]
    return True
