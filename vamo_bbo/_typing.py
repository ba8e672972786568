"""Types that every layer shares: arrays, and the names of directions.

A direction is never an array when it travels. It is a small tuple from which any backend regenerates the same
numbers, on any machine, for any range of coordinates.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""Any array of the namespace in use. NumPy on the CPU; CuPy arrays are duck-typed."""

FloatArray: TypeAlias = npt.NDArray[np.float64]
IndexArray: TypeAlias = npt.NDArray[np.int64]


class Law(enum.IntEnum):
    """The distribution of a direction's raw elements.

    The raw elements are what the seed ABI fixes. Estimators fold the law's scale into step and coefficient.
    """

    RADEMACHER = 0
    """Independent random signs."""
    NORMAL = 1
    """Independent standard normal numbers (Box-Muller, float32)."""
    SPHERE = 2
    """The raw elements of NORMAL; the estimator divides by their norm."""
    COORDINATE = 3
    """One element is 1, the others are 0. With ``count == 0`` it is coordinate ``index`` itself."""
    BLOCK = 4
    """Random signs on block ``index`` of ``count`` equal contiguous blocks (cyclically shifted), 0 elsewhere."""

    __hash__ = int.__hash__  # directions are keys of dictionaries: an enumeration hashes its name, ten times slower


class Tag(enum.IntEnum):
    """Domain separation of random streams: part of the seed ABI, never renumbered."""

    MAIN = 0
    CONTROL = 1
    BLOCK_SHIFT = 2
    COORDINATE = 3
    PERMUTATION = 4
    IID_BATCH = 5
    CALIBRATION = 6
    NOISE = 7
    FULL = 8

    __hash__ = int.__hash__


class Direction(NamedTuple):
    """The name of a random direction; with the run's seed it determines every element.

    Attributes
    ----------
    law : Law
        Distribution of the raw elements.
    step : int
        Step the direction was drawn for, 0 <= step < 2**48.
    index : int
        Which direction of that step, 0 <= index < 2**32.
    count : int
        How many directions the step has (q). BLOCK derives its partition from it; COORDINATE with ``count == 0``
        is the deterministic unit vector ``e_index``.
    tag : int
        Stream (:class:`Tag`).
    mask : str or None
        Name of a uint8 state array that is multiplied into the direction, or None.
    """

    law: Law
    step: int
    # These two names shadow tuple's methods, which nobody calls on a direction.
    index: int  # type: ignore[assignment]
    count: int  # type: ignore[assignment]
    tag: int = Tag.MAIN
    mask: str | None = None


class StoredDirection(NamedTuple):
    """A row of a state array used as a direction (a guided basis). Rows are unit vectors.

    Attributes
    ----------
    array : str
        Name of the state array, shape (rows, d).
    version : int
        Version of that array the name refers to.
    row : int
        Row of the array.
    """

    array: str
    version: int
    row: int


AnyDirection: TypeAlias = Direction | StoredDirection
