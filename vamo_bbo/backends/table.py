"""Directions as the CUDA kernels take them: numbers in a row, with supports worked out on the host."""

from __future__ import annotations

from vamo_bbo._typing import AnyDirection, Law, StoredDirection
from vamo_bbo.backends import checks
from vamo_bbo.backends.reference import ReferenceDirections, signs_of

ROW32, ROW64 = 5, 6
"""Kinds of direction after the laws: stored rows of float32 and of float64."""


def device_row(reference: ReferenceDirections, u: AnyDirection, place: int, *, double: bool) -> list[int]:
    """Return kind, step, index, tag, address of the mask or stored row, and the support a, b of a direction.

    Parameters
    ----------
    reference : ReferenceDirections
        Directions of the same seed and dimension.
    u : Direction or StoredDirection
        The direction.
    place : int
        Device address of its mask or of the stored row, else 0.
    double : bool
        Whether a stored row is float64.

    Examples
    --------
    >>> from vamo_bbo._typing import Direction
    >>> device_row(ReferenceDirections(7, 9, {}), Direction(Law.COORDINATE, 3, 4, 0), 0, double=False)
    [3, 3, 4, 0, 0, 4, 5]
    """
    size = reference.size
    if isinstance(u, StoredDirection):
        return [ROW64 if double else ROW32, 0, 0, 0, place, 0, size]
    checks.check_direction(u, size)
    a, b = 0, size
    if u.law == Law.COORDINATE:
        a = reference.coordinate(u)
        b = a + 1
    elif u.law == Law.BLOCK:
        ranges = reference.block(u)
        a, b = ranges[-1] if len(ranges) == 1 else (ranges[1][0], size + ranges[0][1])
    return [int(u.law), u.step, signs_of(u).index, int(u.tag), place, a, b]
