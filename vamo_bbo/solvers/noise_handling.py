r"""How a population method handles noise: it measures what noise does to its ranking, and repeats evaluations.

This is UH-CMA-ES (N. Hansen, A. S. P. Niederberger, L. Guzzella and P. Koumoutsakos, A method for handling uncertainty
in evolutionary optimization with an application to feedback control of combustion, IEEE TEC 13(1), 2009, algorithms 1
and 2), which leaves the strategy's update as it is. Deviations: repetitions grow only while the medians of the
generations do not fall either, because a recombination of many points makes progress under ranks that are far from
right (without this, relative noise of 30 % cost five orders of magnitude on a sphere); the values of a point are
averaged over all its repetitions; repetitions are at most MOST, and fall back by the fourth root of the factor by which
they grow, as in the author's package ``cma``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vamo_bbo._typing import FloatArray

__all__ = ["points_of", "rank_changes", "settle"]

THETA = 0.2
"""Rank changes up to this share of the median of random ones are accepted."""
GROWTH = 1.5
WINDOW = 10
"""Generations whose median is compared with that of as many before them."""
MOST = 30.0
"""Most repetitions of a point; beyond, the step grows instead."""


def checked(size: int) -> int:
    """Return how many points of a generation are evaluated again: a tenth, at least two."""
    return min(size, max(2, math.ceil(0.1 * size)))


def points_of(size: int, scalars: Mapping[str, float]) -> list[int]:
    """Return the point of each value of a generation: all points, ``replicates`` times over, then the checked ones.

    Examples
    --------
    >>> points_of(4, {"replicates": 2.0, "stuck": 1.0})
    [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 0, 1]
    """
    repeated, again = round(scalars["replicates"]), checked(size) if scalars["stuck"] else 0
    return [*list(range(size)) * repeated, *list(range(again)) * repeated]


def settle(
    raw: FloatArray, size: int, scalars: dict[str, float], medians: FloatArray, d: int
) -> tuple[FloatArray, float]:
    """Return the values of the points, (size,), and the factor of the step; adapt ``scalars["replicates"]``.

    Parameters
    ----------
    raw : (k,) array
        Values of the points that :func:`points_of` names, NaN for failures.
    medians : (2 WINDOW,) array
        Medians of the latest generations, oldest first, NaN before there were so many; updated.
    """
    repeated, again = round(scalars["replicates"]), checked(size) if scalars["stuck"] else 0
    order = np.array(points_of(size, scalars))
    groups = [raw[order == k] for k in range(size)]
    _note_noise(groups, scalars)
    first = _means([raw[: size * repeated][k::size] for k in range(size)])
    second = _means([raw[size * repeated :][k::again] for k in range(again)])
    widen = 1.0
    if again and rank_changes(first, second) > 0.0:
        if scalars["replicates"] >= MOST:
            widen = 1.0 + 2.0 / (d + 10.0)
        scalars["replicates"] = min(MOST, GROWTH * scalars["replicates"])
    elif again:
        scalars["replicates"] = max(1.0, scalars["replicates"] / GROWTH**0.25)
    scalars["stuck"] = float(_stuck(medians, first))
    return _means(groups), widen


def _stuck(medians: FloatArray, values: FloatArray) -> bool:
    """Add this generation's median and return whether the medians have stopped falling."""
    medians[:-1] = medians[1:]
    medians[-1] = np.nanmedian(values) if np.isfinite(values).any() else np.nan
    return bool(np.median(medians[WINDOW:]) >= np.median(medians[:WINDOW]))  # NaN: too early to say


def rank_changes(first: FloatArray, second: FloatArray) -> float:
    """Return the mean excess of rank changes over what is accepted; above 0, noise decides too much.

    Parameters
    ----------
    first : (size,) array
        Values of the points.
    second : (again,) array
        New values of the first ``again`` of them.

    Examples
    --------
    >>> rank_changes(np.arange(8.0), np.arange(3.0)) < 0 < rank_changes(np.arange(8.0), np.array([7.5, 6.5, 0.5]))
    True
    """
    good = np.isfinite(first[: second.size]) & np.isfinite(second)
    if not good.any():
        return 0.0
    everything = np.concatenate([first[np.isfinite(first)], second[good]])
    count = everything.size
    total = 0.0
    for old, new in zip(first[: second.size][good], second[good], strict=True):
        # ranks among all others, from 1
        old_rank = 1.0 + float((everything < old).sum()) - float(new < old)
        new_rank = 1.0 + float((everything < new).sum()) - float(old < new)
        change = abs(new_rank - old_rank)
        total += 2.0 * change - _accepted(old_rank, count) - _accepted(new_rank, count)
    return total / float(good.sum())


def _accepted(rank: float, count: int) -> float:
    """Return the THETA / 2 quantile of the change from ``rank`` to a random one of ``count - 1`` ranks."""
    return float(np.percentile(np.abs(np.arange(1, count) - rank), 50.0 * THETA))


def _means(groups: list[FloatArray]) -> FloatArray:
    return np.array([float(np.nanmean(g)) if np.isfinite(g).any() else math.nan for g in groups])


def _note_noise(groups: list[FloatArray], scalars: dict[str, float]) -> None:
    """Pool the variance of repeated values; older generations count less."""
    repeated = [g[np.isfinite(g)] for g in groups]
    repeated = [g for g in repeated if g.size > 1]
    if repeated:
        freedom = float(sum(g.size - 1 for g in repeated))
        squares = float(sum(((g - g.mean()) ** 2).sum() for g in repeated))
        old = min(scalars.get("noise_weight", 0.0), 30.0)
        scalars["noise_weight"] = old + freedom
        scalars["noise_variance"] = (old * scalars.get("noise_variance", 0.0) + squares) / (old + freedom)
