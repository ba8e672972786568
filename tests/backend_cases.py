"""Directions and vectors that every backend is tried on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vamo_bbo._typing import AnyDirection, Array, Direction, Law, StoredDirection

SEED = 2**63 + 12345
STEP = 2**33 + 5


def state_arrays(d: int) -> dict[str, Array]:
    """Return masks and stored rows of both float types."""
    rng = np.random.default_rng(d)
    rows = rng.standard_normal((3, d))
    return {"mask": rng.integers(0, 3, d).astype(np.uint8), "rows": rows, "rows32": rows.astype(np.float32)}


def directions(d: int) -> Iterator[AnyDirection]:
    """Yield directions of every kind, at the ends of the ranges of their fields too."""
    for law in Law:
        q = min(7, d)
        retry = 2 * q + 1
        for index in sorted({0, q - 1, retry}):
            yield Direction(law, STEP, index, q)
        yield Direction(law, 5, min(3, q - 1), q, tag=1, mask="mask")
        yield Direction(law, 2**48 - 1, 2**32 - 1, min(d, 2**32 - 1), tag=255)
    yield Direction(Law.COORDINATE, 5, d - 1, 0)
    yield StoredDirection("rows", 0, 1)
    yield StoredDirection("rows32", 0, 2)


def vector(d: int, dtype: str, seed: int = 0) -> Array:
    """Return a vector with a negative zero in it."""
    x = np.random.default_rng(seed).standard_normal(d).astype(dtype)
    x[d // 2] = -0.0
    return x


def same_bits(a: Array, b: Array) -> bool:
    """Say whether two arrays have the same shape, type and bits (so that 0 and -0 differ)."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
