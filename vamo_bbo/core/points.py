"""From a probe to the point it names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State, directions_of
from vamo_bbo.core.types import Probe

__all__ = ["materialize", "materialize_rows", "pinned"]


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


def materialize_rows(state: State, probes: Sequence[Probe], out: Array) -> Array:
    """Write the points of several probes to the rows of ``out``, shape (k, d), and return it.

    The same numbers as :func:`materialize`; consecutive probes around one anchor are one call of the backend.
    """
    start, count, free, arrays = 0, len(probes), state.info.lower is None, state.arrays
    while start < count:
        _, anchor, u, h, _, _, _, point = probes[start]
        end = start + 1
        if not free or point is not None:
            materialize(state, probes[start], out[start])
        elif u is None:
            out[start] = arrays[anchor[0]]
        else:
            for probe in probes[end:]:
                if probe[1] is not anchor or probe[2] is None or probe[7] is not None:
                    break
                end += 1
            x, directions = arrays[anchor[0]], directions_of(state)
            if end - start == 1:
                directions.perturb(x, u, h, 0, x.size, out[start])
            elif end - start == 2 and u is probes[start + 1][2] and h == -probes[start + 1][3]:
                directions.perturb_pair(x, u, h, 0, x.size, out[start], out[start + 1])
            else:
                part = probes[start:end]
                us, hs = [p[2] for p in part], [p[3] for p in part]
                directions.perturb_rows(x, us, hs, out[start:end])  # type: ignore[arg-type]
        start = end
    return out


def pinned(state: State, probe: Probe) -> Probe:
    """Return ``probe`` with its point written out, which stays right when its anchor moves on."""
    return probe._replace(point=materialize(state, probe, np.empty_like(state.arrays["x"])))
