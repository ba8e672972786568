"""The CPU kernels: integer arithmetic around the vector code, compiled by numba when first asked for.

Nothing here is compiled at import: see :mod:`vamo_bbo.backends.compiled`. Kernels release the GIL and return a status
instead of raising: 0 is success, anything else means that an argument is not allowed and the caller should look
closer. They avoid numba's array operations, which take seconds to compile.

A row of a ``table`` is a direction: kind, step, index, count, tag, address of its mask or of the stored row (else 0),
and two columns in which a kernel notes the support. A local named after an array is the address of coordinate 0, also
where only a range of coordinates exists.
"""

# numba has no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numba
from numba import float32, float64, int64, uint64

from vamo_bbo.backends.array_ops import (
    multiply_mask,
    put_value,
    size_of,
    stack_bytes,
    start_of,
    value_at,
    write_cast,
    write_row,
    write_value,
)
from vamo_bbo.backends.philox import MULTIPLIERS, ROUNDS, WEYL
from vamo_bbo.backends.vector_ops import normal_madd, normal_pair, sign_madd, sign_pair, sign_words

njit: Any = numba.njit

GROUP, TILE = 128, 2048
LOW = 0xFFFFFFFF
EDGE_BYTES, WORD_BYTES, ACC_BYTES, U_BYTES, LANE_BYTES = 8 * GROUP, 4 * 256, 8 * TILE, 4 * TILE, 512
OK, BAD = 0, 1
RADEMACHER, NORMAL, SPHERE, COORDINATE, BLOCK, ROW32, ROW64 = range(7)
"""Kinds of direction: the laws, then stored rows of float32 and of float64."""
TAG_BLOCK_SHIFT, TAG_COORDINATE = 2, 3
M0, M1, W0, W1 = (uint64(v) for v in (*MULTIPLIERS, *WEYL))
LOW_WORD, HALF = uint64(LOW), uint64(32)

inline = njit(inline="always", nogil=True, error_model="numpy")
function = njit(nogil=True, error_model="numpy")


# ---- supports ---------------------------------------------------------------------------------------------------


@function
def first64(seed, block, index, step, tag):
    """Return the first 64 bits, low word first, of one counter."""
    c0, c1, c2 = uint64(block), uint64(index), uint64(step) & LOW_WORD
    c3 = uint64(tag) << uint64(24) | uint64(step) >> HALF
    k0, k1 = uint64(seed) & LOW_WORD, uint64(seed) >> HALF
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW_WORD
        c2, c3 = (p0 >> HALF) ^ c3 ^ k1, p0 & LOW_WORD
        k0, k1 = (k0 + W0) & LOW_WORD, (k1 + W1) & LOW_WORD
    return c1 << HALF | c0


@function
def below(w, n):
    """Return the high 64 bits of ``w * n`` for ``n < 2**63``."""
    a, b, c, d = w >> HALF, w & LOW_WORD, uint64(n) >> HALF, uint64(n) & LOW_WORD
    middle = (b * d >> HALF) + (a * d & LOW_WORD) + b * c
    return int64(a * c + (a * d >> HALF) + (middle >> HALF))


@function
def support(law, step, index, count, tag, size, seed):
    """Return ``a, b`` of the support of a direction; ``b > size`` means that it wraps around to 0..b-size."""
    if law == BLOCK:
        shift = below(first64(seed, tag, 0, step, TAG_BLOCK_SHIFT), size)
        r, n = uint64(index % count), uint64(count)
        whole, rest = size // count, uint64(size % count)  # r * size // count without overflow
        a = int64(r) * whole + int64(r * rest // n) + shift
        b = int64(r + uint64(1)) * whole + int64((r + uint64(1)) * rest // n) + shift
        return (a - size, b - size) if a >= size else (a, b)
    if law == COORDINATE:
        c = index if count == 0 else below(first64(seed, tag, index, step, TAG_COORDINATE), size)
        return c, c + 1
    return int64(0), int64(size)


@function
def allowed(law, step, index, count, tag, size):
    """Say whether the fields of a direction are within their ranges."""
    fine = 0 <= step < 1 << 48 and 0 <= index < 1 << 32 and 0 <= count < 1 << 32 and 0 <= tag < 256
    if law == BLOCK:
        return fine and 1 <= count <= size
    if law == COORDINATE:
        return fine and (count != 0 or index < size)
    return fine and 0 <= law <= ROW64


@function
def expand(table, size, seed):
    """Note the supports of the directions of a table; say whether all of them are allowed."""
    for k in range(table.shape[0]):
        law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
        if not allowed(law, step, index, count, tag, size):
            return False
        table[k, 6], table[k, 7] = support(law, step, index, count, tag, size, seed)
    return True


@inline
def apart(a, b, n):
    """Say whether n bytes at two addresses are the same ones or do not overlap."""
    return a == b or a + n <= b or b + n <= a


# ---- one direction on a range -----------------------------------------------------------------------------------


@function
def normal_range(out, x, h, lo, hi, c1, c2, c3, seed):
    """Write ``x + h * u`` on lo..hi."""
    k0, k1 = seed & LOW, seed >> 32 & LOW
    first, last = (lo + GROUP - 1) // GROUP, hi // GROUP
    if first < last:
        normal_madd(out, x, h, first, last, c1, c2, c3, k0, k1)
    edge, size = stack_bytes(EDGE_BYTES), size_of(h)
    a, b = lo, min(hi, first * GROUP)
    for _ in range(2):
        if a < b:
            g = a // GROUP
            at = edge - g * GROUP * size
            write_cast(at + a * size, x + a * size, b - a, h, h)
            normal_madd(at, at, h, g, g + 1, c1, c2, c3, k0, k1)
            write_cast(out + a * size, at + a * size, b - a, h, h)
        a, b = max(lo, first * GROUP, last * GROUP), hi


@function
def sign_range(out, x, h, lo, hi, c1, c2, c3, seed):
    """Write ``x + h * u`` on lo..hi."""
    words, edge, size = stack_bytes(WORD_BYTES), stack_bytes(EDGE_BYTES), size_of(h)
    for t in range(lo // TILE, (hi + TILE - 1) // TILE):
        sign_words(words, 16 * t, c1, c2, c3, seed & LOW, seed >> 32 & LOW)
        base = t * TILE
        start, end, shift = max(lo, base) - base, min(hi, base + TILE) - base, base * size
        first, last = (start + GROUP - 1) // GROUP, end // GROUP
        if first < last:
            sign_madd(out + shift, x + shift, h, words, first, last)
        a, b = start, min(end, first * GROUP)
        for _ in range(2):
            if a < b:
                g = a // GROUP
                at = edge - g * GROUP * size
                write_cast(at + a * size, x + shift + a * size, b - a, h, h)
                sign_madd(at, at, h, words, g, g + 1)
                write_cast(out + shift + a * size, at + a * size, b - a, h, h)
            a, b = max(start, first * GROUP, last * GROUP), end


@function
def apply(out, x, h, lo, hi, law, step, index, count, tag, seed):
    """Write ``x + h * u`` on lo..hi, a part of the support, for a law without a mask."""
    c2, c3 = step & LOW, tag << 24 | step >> 32
    if law in (NORMAL, SPHERE):
        normal_range(out, x, h, lo, hi, index, c2, c3, seed)
    elif law == COORDINATE:
        put_value(out, lo, value_at(x, lo, h) + h)
    else:
        sign_range(out, x, h, lo, hi, index // count if law == BLOCK else index, c2, c3, seed)


@inline
def copy(out, x, lo, hi, like):
    """Copy coordinates lo..hi."""
    if out != x and lo < hi:
        write_cast(out + lo * size_of(like), x + lo * size_of(like), hi - lo, like, like)


@inline
def copy_outside(out, x, lo, hi, a, b, size, like):
    """Copy the coordinates of lo..hi that are not in the support a..b."""
    copy(out, x, max(lo, b - size, 0), min(hi, a), like)
    copy(out, x, max(lo, min(b, size)), hi, like)


@inline
def move(out, x, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` on lo..hi, inside and outside the support."""
    start, end = support(law, step, index, count, tag, size, seed)
    copy_outside(out, x, lo, hi, start, end, size, h)
    a, b = max(lo, start), min(hi, end, size)
    for _ in range(2):
        if a < b:
            apply(out, x, h, a, b, law, step, index, count, tag, seed)
        a, b = lo, min(hi, end - size)


def perturb(x, out, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` to ``out``."""
    item = out.itemsize
    a, b = start_of(x), start_of(out)
    if not (0 <= lo <= hi <= size and x.size == out.size == hi - lo and apart(a, b, (hi - lo) * item)):
        return BAD
    if not allowed(law, step, index, count, tag, size):
        return BAD
    move(b - lo * item, a - lo * item, out.dtype.type(h), lo, hi, size, law, step, index, count, tag, seed)
    return OK


@inline
def pair_range(p, m, x, h, lo, hi, law, c1, c2, c3, seed):
    """Do both signs at once on whole groups of lo..hi, and one after the other at the edges."""
    k0, k1, words, size = seed & LOW, seed >> 32 & LOW, stack_bytes(WORD_BYTES), size_of(h)
    first, last = (lo + GROUP - 1) // GROUP, hi // GROUP
    if law != RADEMACHER and first < last:
        normal_pair(p, m, x, h, first, last, c1, c2, c3, k0, k1)
    if law == RADEMACHER:
        for t in range(first // 16, (last + 15) // 16):
            sign_words(words, 16 * t, c1, c2, c3, k0, k1)
            at, g0, g1 = t * TILE * size, max(first - 16 * t, 0), min(last - 16 * t, 16)
            sign_pair(p + at, m + at, x + at, h, words, g0, g1)
    a, b = lo, min(hi, first * GROUP)
    for _ in range(2):
        target, step = p, h
        for _ in range(2):
            if a < b and law == RADEMACHER:
                sign_range(target, x, step, a, b, c1, c2, c3, seed)
            elif a < b:
                normal_range(target, x, step, a, b, c1, c2, c3, seed)
            target, step = m, -h
        a, b = max(lo, first * GROUP, last * GROUP), hi


def perturb_pair(x, plus, minus, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``, of a law with full support."""
    n, base = (hi - lo) * x.itemsize, lo * x.itemsize
    a, p, m = start_of(x), start_of(plus), start_of(minus)
    if not (0 <= lo <= hi <= size and x.size == plus.size == minus.size == hi - lo):
        return BAD
    if not (apart(a, p, n) and apart(a, m, n) and apart(p, m, n)) or (n > 0 and (a in (p, m) or p == m)):
        return BAD
    if law in (BLOCK, COORDINATE) or not allowed(law, step, index, count, tag, size):
        return BAD
    c2, c3 = step & LOW, tag << 24 | step >> 32
    pair_range(p - base, m - base, a - base, x.dtype.type(h), lo, hi, law, index, c2, c3, seed)
    return OK


def perturb_rows(x, out, hs, size, table, seed):
    """Write ``x + hs[k] * u_k`` to row k of ``out``; masked and stored directions are refused."""
    a, b, n = start_of(x), start_of(out), size * out.itemsize
    if not (x.size == size == out.shape[1] and hs.size == out.shape[0] == table.shape[0]):
        return BAD
    if not (a + n <= b or b + n * hs.size <= a):
        return BAD
    for k in range(hs.size):
        plain = table[k, 0] <= BLOCK and table[k, 5] == 0
        if not plain or not allowed(table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4], size):
            return BAD
    for k in range(hs.size):
        law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
        h = out.dtype.type(hs[k])
        move(b + k * n, a, h, 0, size, size, law, step, index, count, tag, seed)
    return OK


# ---- masked and stored directions -------------------------------------------------------------------------------


@function
def raw(u, lo, hi, law, step, index, count, tag, place, seed):
    """Write the float32 elements on lo..hi, a part of the support."""
    write_value(u + 4 * lo, float32(-0.0), hi - lo)  # -0 + v is v, also for v = -0
    apply(u, u, float32(1), lo, hi, law, step, index, count, tag, seed)
    if place != 0:
        multiply_mask(u + 4 * lo, place + lo, hi - lo)


@function
def through(out, x, u, h, lo, hi, law, step, index, count, tag, place, seed):
    """Write ``x + h * u`` on lo..hi, a part of the support and of one tile, which ``u`` has room for."""
    size = size_of(h)
    if law == ROW32:
        write_row(out + lo * size, x + lo * size, h, place + 4 * lo, hi - lo, float32(0))
    elif law == ROW64:
        write_row(out + lo * size, x + lo * size, h, place + 8 * lo, hi - lo, float64(0))
    else:
        raw(u, lo, hi, law, step, index, count, tag, place, seed)
        write_row(out + lo * size, x + lo * size, h, u + 4 * lo, hi - lo, float32(0))


def perturb_through(x, out, h, lo, hi, size, table, seed):
    """Write ``x + h * u`` for the masked or stored direction in row 0 of ``table``."""
    item = out.itemsize
    a, b = start_of(x), start_of(out)
    if not (0 <= lo <= hi <= size and x.size == out.size == hi - lo and apart(a, b, (hi - lo) * item)):
        return BAD
    if not expand(table, size, seed):
        return BAD
    source, target, distance, u = a - lo * item, b - lo * item, out.dtype.type(h), stack_bytes(U_BYTES)
    law, step, index, count, tag, place = (
        table[0, 0], table[0, 1], table[0, 2], table[0, 3], table[0, 4], table[0, 5],
    )  # fmt: skip
    start, end = table[0, 6], table[0, 7]
    copy_outside(target, source, lo, hi, start, end, size, distance)
    for t in range(lo // TILE, (hi + TILE - 1) // TILE):
        base = t * TILE
        first, last = max(start, lo, base), min(end, size, hi, base + TILE)
        for _ in range(2):
            if first < last:
                at = u - 4 * base
                through(target, source, at, distance, first, last, law, step, index, count, tag, place, seed)
            first, last = max(lo, base), min(end - size, hi, base + TILE)
    return OK


def fill(out, lo, hi, size, table, seed):
    """Write the elements of the direction, of any kind, in row 0 of ``table``."""
    if not (0 <= lo <= hi <= size and out.size == hi - lo) or not expand(table, size, seed):
        return BAD
    zero = out.dtype.type(0)
    u, item, target = stack_bytes(U_BYTES), out.itemsize, start_of(out) - lo * out.itemsize
    law, step, index, count, tag, place = (
        table[0, 0], table[0, 1], table[0, 2], table[0, 3], table[0, 4], table[0, 5],
    )  # fmt: skip
    start, end = table[0, 6], table[0, 7]
    write_value(target + lo * item, zero, hi - lo)
    for t in range(lo // TILE, (hi + TILE - 1) // TILE):
        base = t * TILE
        a, b = max(start, lo, base), min(end, size, hi, base + TILE)
        for _ in range(2):
            if a < b:
                if law == ROW32:
                    write_cast(target + a * item, place + 4 * a, b - a, zero, float32(0))
                elif law == ROW64:
                    write_cast(target + a * item, place + 8 * a, b - a, zero, float64(0))
                else:
                    raw(u - 4 * base, a, b, law, step, index, count, tag, place, seed)
                    write_cast(target + a * item, u + 4 * (a - base), b - a, zero, float32(0))
            a, b = max(lo, base), min(end - size, hi, base + TILE)
    return OK
