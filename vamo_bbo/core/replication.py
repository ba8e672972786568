"""Replications: every evaluation of a round is repeated while the noise hides what the steps achieve.

A run whose value has not changed by more than its noise for a while doubles its replications, so that smaller changes
show; changes that show at once halve them again. This is the idea of growing samples (R. H. Byrd, G. M. Chin,
J. Nocedal and Y. Wu, "Sample size selection in optimization methods for machine learning", Mathematical Programming
134, 2012), with the test on the values that a zeroth-order run has, instead of on gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe

__all__ = ["adapt", "averaged", "copies", "repeated"]

PATIENCE = 60.0
"""Steps without a change that counts after which replications double: twice as many as the latest such change took, if
that is more, so that slow progress that shows is left alone."""
SHARE = 0.05
"""Share of the horizon that a round may take at most."""


def copies(state: State) -> int:
    """Return how often every evaluation of the open round is made; calibration rounds are made once."""
    return int(state.scalars.get("replications", 1.0)) if state.phase >= 0 else 1


def repeated(state: State, probes: Sequence[Probe], count: int) -> list[Probe]:
    """Return ``probes`` and ``count - 1`` copies of them; each copy of the round shares its own random numbers."""
    out = list(probes)
    for k in range(1, count):
        key = ((state.step << 8 | (state.phase & 255)) << 8 | (state.attempt & 255)) << 24 | k
        for probe in probes:
            step, phase, attempt, index = probe.id
            out.append(probe._replace(id=(step, phase, attempt, index + k * len(probes)), noise=key))
    return out


def averaged(answers: Sequence[Answer], count: int) -> tuple[list[Answer], float, int]:
    """Return the mean answer of every probe, the variance of single values, and its degrees of freedom.

    A copy that failed is left out; a probe of which all failed has failed.
    """
    base = len(answers) // count
    out, squares, freedom = [], 0.0, 0
    for first in range(base):
        good = [a for a in answers[first::base] if a.error is None and (a.grad is not None or math.isfinite(a.value))]
        if not good:
            out.append(answers[first])
            continue
        values = [a.value for a in good]
        mean = math.fsum(values) / len(values)
        if len(values) > 1 and math.isfinite(mean):
            squares += math.fsum((v - mean) ** 2 for v in values)
            freedom += len(values) - 1
        grads = [a.grad for a in good if a.grad is not None]
        grad = None
        if grads:
            grad = grads[0].copy()
            for other in grads[1:]:
                grad += other
            grad /= grad.dtype.type(len(grads))
        out.append(answers[first]._replace(value=mean, grad=grad, error=None, values=good[0].values))
    return out, squares / freedom if freedom else math.nan, freedom


def adapt(state: State, since: float, changed: bool) -> bool:
    """Double or halve the replications; return whether they have changed."""
    scalars = state.scalars
    now = scalars.get("replications", 1.0)
    new = now
    if changed:
        scalars["patience"] = max(PATIENCE, 2.0 * since)
        if since <= PATIENCE / 16:
            new = max(1.0, now / 2)
    elif since >= scalars.get("patience", PATIENCE):
        affordable = SHARE * scalars.get("horizon", math.inf)
        new = 2 * now if 2 * scalars.get("price", 1.0) <= affordable else now
    scalars["replications"] = new
    return new != now
