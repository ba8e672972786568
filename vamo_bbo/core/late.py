r"""Answers that come after their round was closed without them: an estimate takes them into a later step.

A round that closes early averages the differences of the directions that are in. One that comes in :math:`\tau` steps
later is still an unbiased estimate of the (smoothed) gradient, at the point of its own round; it joins the average of
the round that is open then, with weight :math:`1/\tau`. This is the staleness-aware step of W. Zhang, S. Gupta, X. Lian
and J. Liu, Staleness-aware async-SGD for distributed deep learning, IJCAI 2016, equation 6. Without it, directions that
are slow would never count: a bias, where run time depends on the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vamo_bbo._typing import AnyDirection, Array
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.types import Answer, Probe, ProbeId

if TYPE_CHECKING:
    from vamo_bbo.core.solver import Context, State

__all__ = ["LATE", "STALEST", "Late", "given_up", "joined", "take_late", "told_value"]

LATE = "late: the round closed on a quorum"
"""The error of an answer that the round did not wait for: no failure, and no reason to try again."""
STALEST = 32
"""Steps after which an answer is not used any more: its weight would be below three per cent."""


class Late(NamedTuple):
    """An evaluation that its round did not wait for, with what is needed to use its value.

    Attributes
    ----------
    value : float
        Its value; NaN before it came.
    direction : direction or None
        Its direction.
    h : float
        Signed step along the raw direction.
    reference : float
        The value it is compared with, at the anchor or of the opposite leg; NaN where that is late, too.
    partner : ProbeId or None
        The opposite leg of a central difference.
    point : (d,) array or None
        The point itself, for population solvers.
    """

    value: float = math.nan
    direction: AnyDirection | None = None
    h: float = 0.0
    reference: float = math.nan
    partner: ProbeId | None = None
    point: Array | None = None


def told_value(answer: Answer) -> float:
    """Return the value; inf for a failure, NaN for what the round did not wait for."""
    if answer.error is not None:
        return math.nan if answer.error == LATE else math.inf
    return float(answer.value)


def given_up(answers: Iterable[Answer]) -> bool:
    """Return whether the round was closed without one of these answers."""
    for answer in answers:  # noqa: SIM110 - once a round: half the time of any(...)
        if answer[5] is not None and answer[5] == LATE:
            return True
    return False


def take_late(state: State, answer: Answer) -> bool:
    """Keep the value of an evaluation that was given up; return False if it is none of these."""
    late = state.late.get(answer.id)
    if late is None or not math.isnan(late.value):
        return False
    if answer.error is None and math.isfinite(answer.value):
        state.late[answer.id] = late._replace(value=answer.value)
    else:
        del state.late[answer.id]
    return True


def remember(state: State, probes: Sequence[Probe], answers: Sequence[Answer]) -> None:
    """Keep, of a round of differences that is about to close, the directions that were given up."""
    bases = [a.value for p, a in zip(probes, answers, strict=True) if p.direction is None]
    legs: dict[Any, tuple[Probe, Answer]] = {}
    if not bases:
        legs = {(p.direction, p.h): (p, a) for p, a in zip(probes, answers, strict=True)}
    for probe, answer in zip(probes, answers, strict=True):
        if answer.error != LATE:
            continue
        late = Late(direction=probe.direction, h=probe.h)
        if bases:
            state.late[probe.id] = late._replace(reference=bases[0])
        else:
            partner, other = legs[probe.direction, -probe.h]
            reference = other.value if other.error is None else math.nan
            if other.error is None or other.error == LATE:  # else it failed: this leg alone is no difference
                state.late[probe.id] = late._replace(reference=reference, partner=partner.id)


def joined(ctx: Context, estimator: Any, probes: Sequence[Probe], answers: Sequence[Answer], got: Measured) -> Estimate:
    """Return the estimate of a round of differences with the late ones that have come in; keep what is late now.

    Parameters
    ----------
    ctx : Context
        Sees the state, which remembers the late directions.
    estimator : Difference
        Measured all of them.
    probes, answers : sequences
        The round.
    got : Measured
        What it measured.
    """
    state = ctx.state
    quotients = _quotients(state)
    estimate = got.estimate
    if quotients:
        count = len(got.directions)
        total = count + sum(weight for weight, _, _ in quotients)
        base = got.weights[0] / estimator.scale(got.directions[0], ctx) * count / total
        terms = []
        for weight, direction, quotient in quotients:
            scale = estimator.scale(direction, ctx)
            terms.append((base * weight * quotient * scale * scale, direction))
        estimate = (count / total) * estimate + Estimate(tuple(terms))
    if given_up(answers):
        remember(state, probes, answers)
    return estimate


def _quotients(state: State) -> list[tuple[float, AnyDirection, float]]:
    """Return weight, direction and difference quotient along the raw direction of what has come in; forget these."""
    found = []
    for key in sorted(state.late):  # in the order in which they were asked, whatever the order in which they came
        late = state.late.get(key)
        if late is None:
            continue
        age = state.step - key[0]
        if age > STALEST:
            del state.late[key]
            continue
        other = None if late.partner is None else state.late.get(late.partner)
        reference = late.reference if other is None else other.value
        if math.isnan(late.value) or math.isnan(reference):
            continue
        del state.late[key]
        if other is not None and late.partner is not None:
            del state.late[late.partner]
        assert late.direction is not None
        width = late.h if late.partner is None else 2.0 * late.h
        found.append((1.0 / max(age, 1), late.direction, (late.value - reference) / width))
    return found
