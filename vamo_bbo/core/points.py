"""From a probe to the point it names."""

from __future__ import annotations

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State, directions_of
from vamo_bbo.core.types import Probe

__all__ = ["materialize"]


def materialize(state: State, probe: Probe, out: Array) -> Array:
    """Write the point of ``probe`` to ``out`` and return it.

    Parameters
    ----------
    state : State
        The state that issued the probe.
    probe : Probe
        The probe.
    out : (d,) array
        Receives the point, in the solver's coordinates; same dtype as ``state.arrays["x"]``.

    Notes
    -----
    With bounds the center is ``clip(anchor, lower + |h|, upper - |h|)``. Solvers cap |h| at half the smallest width,
    and only laws whose elements are at most 1 in size are used, so no point is infeasible.
    """
    if probe.point is not None:
        out[...] = probe.point
        return out
    anchor = state.arrays[probe.anchor.name]
    lower, upper = state.info.lower, state.info.upper
    directions = directions_of(state)
    if lower is None or upper is None:
        if probe.direction is None:
            out[...] = anchor
        else:
            directions.perturb(anchor, probe.direction, probe.h, 0, anchor.size, out)
        return out
    margin = abs(probe.h)
    anchor.clip(lower + margin, upper - margin, out=out)
    if probe.direction is not None:
        directions.accumulate(((probe.h, probe.direction),), (), 0, anchor.size, out)
        out.clip(lower, upper, out=out)  # (upper - h) + h may round to just above upper
    return out
