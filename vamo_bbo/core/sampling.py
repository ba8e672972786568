"""Which samples a batch handle names: keyed permutations and i.i.d. draws, part of the seed ABI.

The permutation of epoch e sorts the samples by 64-bit keys made of the random words of (seed, PERMUTATION, e), ties
by index. It is computed where it is needed (also in workers) and never drawn from a library generator.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vamo_bbo._typing import IndexArray, Tag
from vamo_bbo.core.types import Batch

__all__ = ["bounds", "indices", "n_batches", "permutation"]

_FIXED_PARTITION = 1
"""Counter ``index`` that separates the one-time partition and the batch order from the reshuffled epochs."""
_BATCH_ORDER = 2


def n_batches(n: int, size: int) -> int:
    """Return the number N of batches of a partition of ``n`` samples into batches of about ``size``.

    Examples
    --------
    >>> n_batches(10, 4), n_batches(8, 4), n_batches(3, 8)
    (3, 2, 1)
    """
    return max(1, -(-n // size))


def bounds(n: int, size: int, b: int) -> tuple[int, int]:
    """Return the positions [lo, hi) of batch ``b`` in a partition; sizes differ by at most one.

    Examples
    --------
    >>> [bounds(10, 4, b) for b in range(3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    count = n_batches(n, size)
    return b * n // count, (b + 1) * n // count


@lru_cache(maxsize=8)
def permutation(seed: int, n: int, epoch: int, index: int = 0) -> IndexArray:
    """Return the keyed permutation of ``range(n)`` for ``epoch``, shape (n,), read-only.

    Examples
    --------
    >>> sorted(permutation(1, 5, 0).tolist())
    [0, 1, 2, 3, 4]
    """
    # Imported here: words come from the layer below, and most runs on plain callables never need them.
    from vamo_bbo.backends.reference import counter_words

    words = counter_words(seed, Tag.PERMUTATION, epoch, index, 2 * n).astype(np.uint64)
    keys = (words[0::2] << np.uint64(32)) | words[1::2]
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=8)  # divergence is looked for on one draw, again and again
def _iid(seed: int, n: int, step: int, stream: int, size: int) -> IndexArray:
    from vamo_bbo.backends.reference import counter_words

    words = counter_words(seed, Tag.IID_BATCH, step, stream, 2 * size).astype(np.uint64)
    # floor(w64 * n / 2^64) from two 32-bit halves: exact as long as n < 2^31.
    high, low, count = words[0::2], words[1::2], np.uint64(n)
    drawn = ((high * count + ((low * count) >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)
    drawn.flags.writeable = False
    return drawn


def indices(batch: Batch, seed: int, n: int) -> IndexArray:
    """Return the sample indices that ``batch`` names, shape (size,), int64.

    Parameters
    ----------
    batch : Batch
        The handle.
    seed : int
        The run's key.
    n : int
        Number of samples.

    Examples
    --------
    >>> indices(Batch("range", 2, 5, 3), seed=0, n=10)
    array([2, 3, 4])
    >>> len(indices(Batch("iid", 7, 0, 4), seed=0, n=10))
    4
    """
    if batch.kind == "range":
        return np.arange(batch.a, batch.b, dtype=np.int64)
    if batch.kind == "iid":
        return _iid(seed, n, batch.a, batch.b, batch.size)
    if batch.kind == "epoch":
        lo, hi = bounds(n, batch.size, batch.b)
        return permutation(seed, n, batch.a)[lo:hi]
    lo, hi = bounds(n, batch.size, batch.b)
    return permutation(seed, n, 0, _FIXED_PARTITION)[lo:hi]


def batch_of_step(kind: str, seed: int, n: int, size: int, step: int) -> Batch:
    """Return the mini-batch of ``step``: the data epoch is ``step // N``, independent of any snapshot schedule.

    Parameters
    ----------
    kind : {"epoch", "fixed", "iid"}
        Reshuffled samples, fixed batches in reshuffled order, or independent draws with replacement.

    Examples
    --------
    >>> batch_of_step("epoch", 0, 10, 4, 5)
    Batch(kind='epoch', a=1, b=2, size=4)
    """
    if kind == "iid":
        return Batch("iid", step, 0, size)
    epoch, position = divmod(step, n_batches(n, size))
    if kind == "epoch":
        return Batch("epoch", epoch, position, size)
    order = permutation(seed, n_batches(n, size), epoch, _BATCH_ORDER)
    return Batch("fixed", 0, int(order[position]), size)
