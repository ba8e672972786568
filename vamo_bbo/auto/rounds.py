"""How many points ``method="auto"`` has evaluated at the same time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.scipy_layer.objective import Watched

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["generation_of", "is_parallel", "points_of_a_round", "values_at"]

UNKNOWN = 8
"""Points of a round where nobody knows how many workers there are."""


def is_parallel(call: Call) -> bool:
    """Return whether several points are evaluated at the same time."""
    return call.workers not in (None, 1) and not call.vectorized


def points_of_a_round(call: Call) -> int:
    """Return how many points a round has: as many as there are workers, 8 where ``workers`` does not tell."""
    workers = call.workers
    if workers is None or isinstance(workers, int):
        return (os.cpu_count() or 1) if workers == -1 else max(1, workers or 1)
    told = getattr(workers, "_max_workers", None)  # of the executors of concurrent.futures, loky and mpi4py
    return told if isinstance(told, int) and told > 0 else UNKNOWN


def generation_of(call: Call) -> int | None:
    """Return the points of a generation of CMA-ES: whole rounds, no fewer points than its default; None for that.

    The default is N. Hansen's, The CMA evolution strategy: a tutorial, arXiv:1604.00772, equation 48.
    """
    if not is_parallel(call):
        return None
    least, each = 4 + int(3 * math.log(max(1, call.size))), points_of_a_round(call)
    return each * math.ceil(least / each)


def values_at(watched: Watched, points: Iterable[Array], call: Call) -> Array:
    """Return one value at each of the points (n, d), NaN for failures; several workers take them as one round."""
    from vamo_bbo.scipy_layer.call import mapper_of

    if not is_parallel(call):
        return np.array([_value_at(watched, point, call) for point in points])
    with mapper_of(call.workers) as watched.mapper:
        return np.array(watched.generation(list(points), call.arguments))


def _value_at(watched: Watched, x: Array, call: Call) -> float:
    failed = watched.failures.count
    value = watched.plain(x, call.arguments)
    return value if watched.failures.count == failed else np.nan
