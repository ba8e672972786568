"""Layouts: which random words make which element of which direction, and the order of reductions.

This module and :mod:`vamo_bbo.backends.philox` are the seed ABI (``docs/seed_abi.rst``); a change here
changes :data:`SEED_ABI`. Definitions, for a run with key ``seed`` in dimension ``d`` and a direction of step
``s``, index ``i`` and tag ``t``:

* A *counter* is ``(block, index, s mod 2**32, t << 24 | s >> 32)``; :func:`counter_words` gives the words
  of its stream, four a block.
* RADEMACHER: element j is +1 where bit ``j mod 32`` of word ``j // 32`` of the stream is 0, and -1 where it
  is 1.
* NORMAL and SPHERE: elements come in groups of 128 = 4 rows of 32 lanes, a row after the other; lane l of
  group g is made of the four words of block ``32 g + l``: words (0, 1) are (radius, angle) of rows 0 and 1,
  words (2, 3) of rows 2 and 3 (:func:`~vamo_bbo.backends.philox.normal_pair`).
* COORDINATE: element c is 1. With ``count == 0``, c is the index; else ``c = mulhi64(w, d)`` with w the
  first 64 bits (low word first) of the counter ``(t, i, s)`` of tag COORDINATE: the direction's own tag is
  the block.
* BLOCK: position p is coordinate ``(p + shift) mod d``, ``shift = mulhi64(w, d)``, w as above from the
  counter ``(t, 0, s)`` of tag BLOCK_SHIFT. Block ``r = i mod q`` is the positions ``[r d // q, (r + 1) d //
  q)``; on it, the elements are those of the RADEMACHER direction of index ``i // q`` (0 unless it is a
  repeated attempt).
* Raw elements are float32. A mask multiplies them (float32 product with the uint8 value). A stored row is
  as it is.
* The *support* of a direction is all coordinates, one coordinate, or one block. Coordinates outside the
  supports of all terms of an operation are copied or left alone, whatever they hold.
* An operation's type T is the dtype of ``x`` or ``out``: h, coefficients, dense terms and elements are
  rounded to T first, then each product and each sum is rounded on its own.
* Reductions are in float64: 64 lanes, lane l of the tile ``[2048 k, 2048 (k + 1))`` adds the products of
  elements ``2048 k + 64 i + l``, i = 0..31, to 0; then lanes 32..63 are added to lanes 0..31, 16..31 to
  0..15, and so on; then tiles are added to 0 in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vamo_bbo._typing import Direction, FloatArray, Law
from vamo_bbo.backends.philox import Words, normal_pair, philox4x32

SEED_ABI = 1
"""Version of the layouts above; hashes of what it gives are in ``tests/golden``."""

GROUP = 128
"""Elements of a NORMAL group: 32 counters of four words; also the elements of one RADEMACHER counter."""
LANES, TILE = 64, 2048
"""Lanes of a reduction and elements of its tiles."""

Float32: TypeAlias = npt.NDArray[np.float32]


def mulhi64(a: int, b: int) -> int:
    """Return the high 64 bits of the product of two 64-bit numbers: uniform on [0, b) for uniform a.

    Examples
    --------
    >>> mulhi64(2**63, 10)
    5
    """
    return a * b >> 64


def first64(seed: int, counters: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Return the first 64 bits, low word first, of each counter ``(block, index, step, tag)``."""
    block, index, step, tag = (np.array(column, dtype=np.uint64) for column in zip(*counters, strict=True))
    w = _words(seed, block, index, step, tag)
    return [int(low) | int(high) << 32 for low, high in zip(w[0], w[1], strict=True)]


def _words(seed: int, block: Any, index: Any, step: Any, tag: Any) -> tuple[Words, Words, Words, Words]:
    thirty_two = np.uint64(32)
    low, high = step & np.uint64(0xFFFFFFFF), step >> thirty_two | tag << np.uint64(24)
    return philox4x32((block, index, low, high), (seed & 0xFFFFFFFF, seed >> 32))


class Columns(NamedTuple):
    """Many directions of one law, by the columns of their names: uint64 arrays of one length."""

    law: int
    index: Any
    step: Any
    tag: Any


Directions: TypeAlias = Sequence[Direction] | Columns
"""Directions of one law."""


def columns(us: Sequence[Direction]) -> Columns:
    """Return directions of one law by columns."""
    index, step, tag = ([u.index for u in us], [u.step for u in us], [u.tag for u in us])
    return Columns(us[0].law, *(np.array(column, dtype=np.uint64) for column in (index, step, tag)))


def consecutive(first: Direction, steps: int) -> Columns:
    """Return all directions of ``first.step`` and the steps that follow, ``first`` being the first of its step.

    Examples
    --------
    >>> some = consecutive(Direction(Law.NORMAL, 5, 0, 2), 2)
    >>> some.step.tolist(), some.index.tolist()
    ([5, 5, 6, 6], [0, 1, 0, 1])
    """
    step = np.uint64(first.step) + np.arange(steps, dtype=np.uint64)
    index = np.uint64(first.index) + np.arange(first.count, dtype=np.uint64)
    tag = np.full(steps * first.count, first.tag, dtype=np.uint64)
    return Columns(first.law, np.tile(index, steps), np.repeat(step, first.count), tag)


def _streams(seed: int, us: Directions, blocks: Any) -> tuple[Words, Words, Words, Words]:
    """Return the words of the given blocks for every direction: four arrays (directions, *blocks.shape)."""
    names = us if isinstance(us, Columns) else columns(us)
    shape = (-1,) + (1,) * blocks.ndim
    index, step, tag = (column.reshape(shape) for column in (names.index, names.step, names.tag))
    return _words(seed, blocks[None], index, step, tag)


def sign_words(seed: int, us: Directions, lo: int, hi: int) -> Words:
    """Return words ``lo // 32`` to ``(hi - 1) // 32`` of the stream of every direction, one row each."""
    first, last = lo // 32, -(-hi // 32)
    blocks = np.arange(first // 4, -(-last // 4), dtype=np.uint64)
    words = np.stack(_streams(seed, us, blocks), axis=-1)
    words = words.reshape(len(words), -1)
    return words[:, first % 4 : first % 4 + last - first]


def sign_elements(seed: int, us: Directions, lo: int, hi: int) -> Float32:
    """Return the elements lo..hi of RADEMACHER directions, one row each."""
    words = sign_words(seed, us, lo, hi)
    bits = words[:, :, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    flat = bits.reshape(len(bits), -1)[:, lo % 32 : lo % 32 + hi - lo]
    return np.float32(1) - np.float32(2) * flat.astype(np.float32)


def _cut(rows: Sequence[npt.NDArray[Any]], lo: int, hi: int) -> npt.NDArray[Any]:
    whole = np.stack(rows, axis=2).reshape(rows[0].shape[0], -1)
    return whole[:, lo % GROUP : lo % GROUP + hi - lo]


def _group_words(seed: int, us: Directions, lo: int, hi: int) -> tuple[Words, Words, Words, Words]:
    blocks = np.arange(lo // GROUP * 32, -(-hi // GROUP) * 32, dtype=np.uint64).reshape(-1, 32)
    return _streams(seed, us, blocks)


def normal_words(seed: int, us: Directions, lo: int, hi: int) -> Words:
    """Return the words in the rows of coordinates lo..hi of NORMAL directions, one row each."""
    return _cut(_group_words(seed, us, lo, hi), lo, hi)


def normal_elements(seed: int, us: Directions, lo: int, hi: int) -> Float32:
    """Return the elements lo..hi of NORMAL directions, one row each."""
    first = lo % GROUP
    if first + hi - lo <= GROUP // 4:  # of the first row of a group, which has an element of each of its counters
        lanes = np.arange(lo // GROUP * 32 + first, lo // GROUP * 32 + first + hi - lo, dtype=np.uint64)
        w = _streams(seed, us, lanes)
        return normal_pair(w[0], w[1])[0]
    w = _group_words(seed, us, lo, hi)
    return _cut((*normal_pair(w[0], w[1]), *normal_pair(w[2], w[3])), lo, hi)


def elements(seed: int, us: Directions, lo: int, hi: int) -> Float32:
    """Return the unmasked elements lo..hi of directions of one law, RADEMACHER, NORMAL or SPHERE."""
    law = us.law if isinstance(us, Columns) else us[0].law
    if law == Law.RADEMACHER:
        return sign_elements(seed, us, lo, hi)
    return normal_elements(seed, us, lo, hi)


def reduce_products(products: FloatArray) -> float:
    """Return the sum of a vector of float64 products in the order the ABI fixes.

    Examples
    --------
    >>> reduce_products(np.ones(5000))
    5000.0
    """
    total = 0.0
    for start in range(0, products.size, TILE * 64):
        part = products[start : start + TILE * 64]
        padded = np.zeros(-(-part.size // TILE) * TILE)
        padded[: part.size] = part
        tiles = padded.reshape(-1, TILE // LANES, LANES)
        lanes = np.zeros((tiles.shape[0], LANES))
        for i in range(TILE // LANES):
            lanes += tiles[:, i, :]
        width = LANES
        while width > 1:
            width //= 2
            lanes = lanes[:, :width] + lanes[:, width:]
        for value in lanes[:, 0].tolist():
            total += value
    return total
