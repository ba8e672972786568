"""The CPU kernels: loops around the vector code, compiled by numba when first asked for.

Nothing here is compiled at import. :func:`compiled` gives a kernel for one float type, from the disk cache if it is
there. Kernels release the GIL and return a status instead of raising: 0 is success, anything else means that an
argument is not allowed and the caller should look closer.
"""

# numba has no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, float64, int64, uint8, uint64

from vamo_bbo.backends.philox import MULTIPLIERS, ROUNDS, WEYL
from vamo_bbo.backends.vector_ir import (
    normal_madd,
    normal_pair_madd,
    pointer,
    sign_madd,
    sign_madd4,
    sign_pair_madd,
    sign_words,
    size_of,
    stack_bytes,
)

njit: Any = numba.njit
carray: Any = numba.carray  # type: ignore[attr-defined]

GROUP, TILE, LANES = 128, 2048, 64
LOW = 0xFFFFFFFF
ACC_BYTES, U_BYTES = 8 * TILE, 4 * TILE
OK, BAD = 0, 1
RADEMACHER, NORMAL, SPHERE, COORDINATE, BLOCK, ROW32, ROW64 = range(7)
"""Kinds of direction: the laws, then stored rows of float32 and of float64."""
TAG_BLOCK_SHIFT, TAG_COORDINATE = 2, 3
M0, M1 = uint64(MULTIPLIERS[0]), uint64(MULTIPLIERS[1])

inline = njit(inline="always", nogil=True, error_model="numpy")
function = njit(nogil=True, error_model="numpy")


@inline
def address(a):
    """Return where the elements of an array start."""
    return int64(a.ctypes.data)


@inline
def view(base, first, n, like):
    """Return ``n`` values of the type of ``like``, the first of them ``first`` values after ``base``."""
    return carray(pointer(base + first * size_of(like), like), (n,))


@function
def first64(seed, block, index, step, tag):
    """Return the first 64 bits, low word first, of one counter."""
    c0, c1, c2 = uint64(block), uint64(index), uint64(step) & uint64(LOW)
    c3 = uint64(tag) << uint64(24) | uint64(step) >> uint64(32)
    k0, k1 = uint64(seed) & uint64(LOW), uint64(seed) >> uint64(32)
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1 = (p1 >> uint64(32)) ^ c1 ^ k0, p1 & uint64(LOW)
        c2, c3 = (p0 >> uint64(32)) ^ c3 ^ k1, p0 & uint64(LOW)
        k0, k1 = (k0 + uint64(WEYL[0])) & uint64(LOW), (k1 + uint64(WEYL[1])) & uint64(LOW)
    return c1 << uint64(32) | c0


@function
def below(w, n):
    """Return the high 64 bits of ``w * n`` for ``n < 2**63``."""
    w, n, thirty_two, low = uint64(w), uint64(n), uint64(32), uint64(LOW)
    a, b, c, d = w >> thirty_two, w & low, n >> thirty_two, n & low
    middle = (b * d >> thirty_two) + (a * d & low) + b * c
    return int64(a * c + (a * d >> thirty_two) + (middle >> thirty_two))


@function
def block_range(r, q, d, shift):
    """Return ``a, b`` of a block; its coordinates are a..b, where ``b > d`` means a..d and 0..b-d."""
    whole, rest, n = d // q, uint64(d % q), uint64(q)  # r * d // q without overflow: d = q * whole + rest
    a = r * whole + int64(uint64(r) * rest // n) + shift
    b = (r + 1) * whole + int64(uint64(r + 1) * rest // n) + shift
    return (a - d, b - d) if a >= d else (a, b)


@function
def allowed(law, step, index, count, tag, size):
    """Say whether the fields of a direction are within their ranges."""
    fine = 0 <= step < 1 << 48 and 0 <= index < 1 << 32 and 0 <= count < 1 << 32 and 0 <= tag < 256
    if law == BLOCK:
        return fine and 1 <= count <= size
    if law == COORDINATE:
        return fine and (count != 0 or index < size)
    return fine


@function
def support(law, step, index, count, tag, size, seed):
    """Return ``a, b`` of the support of a direction; ``b > size`` means that it wraps around."""
    if law == BLOCK:
        shift = below(first64(seed, tag, 0, step, TAG_BLOCK_SHIFT), size)
        return block_range(index % count, count, size, shift)
    if law == COORDINATE:
        c = index if count == 0 else below(first64(seed, tag, index, step, TAG_COORDINATE), size)
        return c, c + 1
    return 0, size


@inline
def apart(x, out):
    """Say whether two arrays of the same length start at one address or do not overlap."""
    a, b, n = address(x), address(out), out.size * out.itemsize
    return a == b or a + n <= b or b + n <= a


# ---- one direction on a range -----------------------------------------------------------------------------------


@function
def normal_range(out, x, h, lo, hi, c1, c2, c3, seed):
    """Write ``x + h * u`` on lo..hi; ``out`` and ``x`` are the addresses of coordinate 0."""
    k0, k1 = seed & LOW, seed >> 32 & LOW
    size = size_of(h)
    edge = stack_bytes(1024)
    for g in range(lo // GROUP, (hi + GROUP - 1) // GROUP):
        first = g * GROUP
        if first >= lo and first + GROUP <= hi:
            normal_madd(out + first * size, x + first * size, h, 32 * g, c1, c2, c3, k0, k1)
        else:
            a, b = max(first, lo), min(first + GROUP, hi)
            inside = view(edge, a - first, b - a, h)
            inside[:] = view(x, a, b - a, h)
            normal_madd(edge, edge, h, 32 * g, c1, c2, c3, k0, k1)
            view(out, a, b - a, h)[:] = inside


@function
def sign_range(out, x, h, lo, hi, c1, c2, c3, seed):
    """Write ``x + h * u`` on lo..hi; ``out`` and ``x`` are the addresses of coordinate 0."""
    k0, k1 = seed & LOW, seed >> 32 & LOW
    size = size_of(h)
    words, edge = stack_bytes(256), stack_bytes(1024)
    for t in range(lo // TILE, (hi + TILE - 1) // TILE):
        sign_words(words, 16 * t, c1, c2, c3, k0, k1)
        for g in range(max(16 * t, lo // GROUP), min(16 * t + 16, (hi + GROUP - 1) // GROUP)):
            first, w = g * GROUP, words + 16 * (g - 16 * t)
            if first >= lo and first + GROUP <= hi:
                sign_madd(out + first * size, x + first * size, h, w)
            else:
                a, b = max(first, lo), min(first + GROUP, hi)
                inside = view(edge, a - first, b - a, h)
                inside[:] = view(x, a, b - a, h)
                sign_madd(edge, edge, h, w)
                view(out, a, b - a, h)[:] = inside


@function
def apply(out, x, h, lo, hi, law, step, index, count, tag, seed):
    """Write ``x + h * u`` on lo..hi, a part of the support, for a law without a mask."""
    c2, c3 = step & LOW, tag << 24 | step >> 32
    if law in (NORMAL, SPHERE):
        normal_range(out, x, h, lo, hi, index, c2, c3, seed)
    elif law == COORDINATE:
        view(out, lo, 1, h)[0] = view(x, lo, 1, h)[0] + h
    else:
        sign_range(out, x, h, lo, hi, index // count if law == BLOCK else index, c2, c3, seed)


@function
def copy(out, x, lo, hi, like):
    """Copy coordinates lo..hi; ``out`` and ``x`` are the addresses of coordinate 0."""
    if out != x and lo < hi:
        view(out, lo, hi - lo, like)[:] = view(x, lo, hi - lo, like)


@function
def move(out, x, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` on lo..hi, inside and outside the support."""
    a, b = support(law, step, index, count, tag, size, seed)
    wrapped, end = max(b - size, 0), min(b, size)
    copy(out, x, max(lo, wrapped), min(hi, a), h)
    copy(out, x, max(lo, end), hi, h)
    if max(lo, a) < min(hi, end):
        apply(out, x, h, max(lo, a), min(hi, end), law, step, index, count, tag, seed)
    if lo < min(hi, wrapped):
        apply(out, x, h, lo, min(hi, wrapped), law, step, index, count, tag, seed)


def perturb(x, out, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` to ``out``."""
    if not (0 <= lo <= hi <= size and x.size == out.size == hi - lo and apart(x, out)):
        return BAD
    if not allowed(law, step, index, count, tag, size):
        return BAD
    step_size = out.dtype.type(h)
    a, b = address(x) - lo * x.itemsize, address(out) - lo * x.itemsize
    move(b, a, step_size, lo, hi, size, law, step, index, count, tag, seed)
    return OK


def perturb_pair(x, plus, minus, h, lo, hi, size, law, step, index, count, tag, seed):
    """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``."""
    if not (0 <= lo <= hi <= size and x.size == plus.size == minus.size == hi - lo):
        return BAD
    if not (apart(x, plus) and apart(x, minus) and apart(plus, minus)):
        return BAD
    if not allowed(law, step, index, count, tag, size):
        return BAD
    step_size = x.dtype.type(h)
    base = lo * x.itemsize
    a, p, m = address(x) - base, address(plus) - base, address(minus) - base
    if hi > lo and (a in (p, m) or p == m):
        return BAD
    if law in (COORDINATE, BLOCK):
        move(p, a, step_size, lo, hi, size, law, step, index, count, tag, seed)
        move(m, a, -step_size, lo, hi, size, law, step, index, count, tag, seed)
    else:
        pair_range(p, m, a, step_size, lo, hi, law, index, step & LOW, tag << 24 | step >> 32, seed)
    return OK


@function
def pair_range(p, m, x, h, lo, hi, law, c1, c2, c3, seed):
    """Do both signs at once on whole groups of lo..hi, and one after the other at the edges."""
    k0, k1 = seed & LOW, seed >> 32 & LOW
    size = size_of(h)
    words = stack_bytes(256)
    first, last = (lo + GROUP - 1) // GROUP, hi // GROUP
    for a, b in ((lo, min(hi, first * GROUP)), (max(lo, last * GROUP), hi)):
        if a < b:  # both are lo..hi where no group starts inside: done twice, which does no harm
            if law == RADEMACHER:
                sign_range(p, x, h, a, b, c1, c2, c3, seed)
                sign_range(m, x, -h, a, b, c1, c2, c3, seed)
            else:
                normal_range(p, x, h, a, b, c1, c2, c3, seed)
                normal_range(m, x, -h, a, b, c1, c2, c3, seed)
    if law != RADEMACHER:
        for g in range(first, last):
            at = g * GROUP * size
            normal_pair_madd(p + at, m + at, x + at, h, 32 * g, c1, c2, c3, k0, k1)
        return
    for t in range(first // 16, (last + 15) // 16):
        sign_words(words, 16 * t, c1, c2, c3, k0, k1)
        for g in range(max(16 * t, first), min(16 * t + 16, last)):
            at = g * GROUP * size
            sign_pair_madd(p + at, m + at, x + at, h, words + 16 * (g - 16 * t))


def perturb_rows(x, out, hs, size, table, seed):
    """Write ``x + hs[k] * u_k`` to row k of ``out``; a row of ``table`` is law, step, index, count, tag, 0."""
    for k in range(hs.size):
        if not allowed(table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4], size):
            return BAD
    a = address(x)
    for k in range(hs.size):
        law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
        h = out.dtype.type(hs[k])
        move(address(out) + k * size * out.itemsize, a, h, 0, size, size, law, step, index, count, tag, seed)
    return OK


# ---- many directions in one pass --------------------------------------------------------------------------------


@function
def raw(u, lo, hi, law, step, index, count, tag, place, seed):
    """Write the float32 elements on lo..hi, a part of the support; ``u`` is the address of coordinate 0."""
    one = float32(1)
    elements = view(u, lo, hi - lo, one)
    elements[:] = float32(0)
    apply(u, u, one, lo, hi, law, step, index, count, tag, seed)
    if place != 0:
        mask = view(place, lo, hi - lo, uint8(0))
        for i in range(hi - lo):
            elements[i] *= float32(mask[i])


@function
def write_part(out, x, h, u, lo, hi, law, step, index, count, tag, place, seed):
    """Write ``x + h * u`` on lo..hi, a part of the support, of a masked or stored direction."""
    target, source = view(out, lo, hi - lo, h), view(x, lo, hi - lo, h)
    if law == ROW32:
        write_row(target, source, h, view(place, lo, hi - lo, float32(0)))
    elif law == ROW64:
        write_row(target, source, h, view(place, lo, hi - lo, float64(0)))
    else:
        for t in range(lo // TILE, (hi + TILE - 1) // TILE):
            a, b = max(lo, t * TILE), min(hi, (t + 1) * TILE)
            at = u - 4 * t * TILE
            raw(at, a, b, law, step, index, count, tag, place, seed)
            write_row(target[a - lo : b - lo], source[a - lo : b - lo], h, view(at, a, b - a, float32(0)))


@function
def write_row(out, x, h, row):
    """Write ``x + h * row`` in the type of ``h``."""
    for i in range(row.size):
        out[i] = x[i] + h * type(h)(row[i])


def perturb_through(x, out, h, lo, hi, size, table, seed):
    """Write ``x + h * u`` for the direction in row 0 of ``table``, of any kind."""
    ranges = np.empty((1, 2), np.int64)
    if not (0 <= lo <= hi <= size and x.size == out.size == hi - lo and apart(x, out)):
        return BAD
    if not expand(table, size, seed, ranges):
        return BAD
    step_size, u = out.dtype.type(h), stack_bytes(U_BYTES)
    source, target = address(x) - lo * x.itemsize, address(out) - lo * x.itemsize
    copy(target, source, lo, hi, step_size)
    law, step, index, count, tag = table[0, 0], table[0, 1], table[0, 2], table[0, 3], table[0, 4]
    start, end = ranges[0, 0], ranges[0, 1]
    for a, b in ((start, min(end, size)), (0, end - size)):
        a, b = max(a, lo), min(b, hi)
        if a < b:
            write_part(target, source, step_size, u, a, b, law, step, index, count, tag, table[0, 5], seed)
    return OK


def fill(out, lo, hi, size, table, seed):
    """Write the elements of the direction in row 0 of ``table``, of any kind."""
    ranges = np.empty((1, 2), np.int64)
    if not (0 <= lo <= hi <= size and out.size == hi - lo) or not expand(table, size, seed, ranges):
        return BAD
    out[:] = 0
    u = stack_bytes(U_BYTES)
    law, step, index, count, tag = table[0, 0], table[0, 1], table[0, 2], table[0, 3], table[0, 4]
    place, start, end = table[0, 5], ranges[0, 0], ranges[0, 1]
    for first, last in ((start, min(end, size)), (0, end - size)):
        for t in range(max(first, lo) // TILE, (min(last, hi) + TILE - 1) // TILE):
            a, b = max(first, lo, t * TILE), min(last, hi, (t + 1) * TILE)
            if a >= b:
                continue
            target = out[a - lo : b - lo]
            if law == ROW32:
                target[:] = view(place, a, b - a, float32(0))
            elif law == ROW64:
                target[:] = view(place, a, b - a, float64(0))
            else:
                raw(u - 4 * t * TILE, a, b, law, step, index, count, tag, place, seed)
                target[:] = view(u, a - t * TILE, b - a, float32(0))
    return OK


@function
def add_row(acc, row, c, n):
    """Add ``c * row`` to ``acc``, n values, in the type of ``c``."""
    total = view(acc, 0, n, c)
    for i in range(n):
        total[i] += c * type(c)(row[i])


@function
def add_part(acc, u, c, lo, hi, law, step, index, count, tag, place, seed):
    """Add ``c * u`` on lo..hi, a part of the support; ``acc`` and ``u`` (scratch) are those of coordinate 0."""
    size = size_of(c)
    if law == ROW32:
        add_row(acc + lo * size, view(place, lo, hi - lo, float32(0)), c, hi - lo)
    elif law == ROW64:
        add_row(acc + lo * size, view(place, lo, hi - lo, float64(0)), c, hi - lo)
    elif place != 0:
        raw(u, lo, hi, law, step, index, count, tag, place, seed)
        add_row(acc + lo * size, view(u, lo, hi - lo, float32(0)), c, hi - lo)
    else:
        apply(acc, acc, c, lo, hi, law, step, index, count, tag, seed)


@function
def expand(table, size, seed, ranges):
    """Write the supports of the directions of a table to ``ranges``; say whether all are allowed."""
    for k in range(table.shape[0]):
        law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
        if not allowed(law, step, index, count, tag, size):
            return False
        ranges[k, 0], ranges[k, 1] = support(law, step, index, count, tag, size, seed)
    return True


@function
def four_plain(table, k):
    """Say whether terms k to k + 3 are whole sign vectors without masks."""
    if k + 4 > table.shape[0]:
        return False
    others = 0
    for j in range(k, k + 4):
        others += table[j, 0] != RADEMACHER or table[j, 5] != 0
    return others == 0


@function
def four_signs(acc, words, coefficients, table, k, tile, seed):
    """Add terms k..k+3, whole sign vectors, to a whole tile at address ``acc``."""
    k0, k1 = seed & LOW, seed >> 32 & LOW
    for j in range(4):
        step, index, tag = table[k + j, 1], table[k + j, 2], table[k + j, 4]
        sign_words(words + 256 * j, 16 * tile, index, step & LOW, tag << 24 | step >> 32, k0, k1)
    size = size_of(coefficients[0])
    c0, c1, c2, c3 = coefficients[k], coefficients[k + 1], coefficients[k + 2], coefficients[k + 3]
    for g in range(16):
        sign_madd4(acc + g * GROUP * size, c0, c1, c2, c3, words + 16 * g)


@function
def add_terms(acc, u, words, touched, coefficients, table, ranges, tile, lo, hi, size, seed):
    """Add all terms on lo..hi of a tile at address ``acc``; say whether one covers it, else fill ``touched``."""
    base = tile * TILE
    item = size_of(coefficients[0])
    covered = False
    k = 0
    while k < table.shape[0]:
        if hi - lo == TILE and four_plain(table, k):
            four_signs(acc, words, coefficients, table, k, tile, seed)
            covered = True
            k += 4
            continue
        start, end = ranges[k, 0], ranges[k, 1]
        for a, b in ((start, min(end, size)), (0, end - size)):
            a, b = max(a, lo), min(b, hi)
            if a < b:
                law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
                c = coefficients[k]
                add_part(acc - base * item, u - base * 4, c, a, b, law, step, index, count, tag, table[k, 5], seed)
                if a == lo and b == hi:
                    covered = True
                elif not covered:
                    touched[a - base : b - base] = 1
        k += 1
    return covered


def accumulate(out, lo, hi, size, seed, coefs, table, weights, places):
    """Add ``sum_k weights[k] g_k + sum_j coefs[j] u_j`` to ``out``; ``places`` are the addresses of the g_k."""
    if not (0 <= lo <= hi <= size and out.size == hi - lo):
        return BAD
    ranges = np.empty((table.shape[0], 2), np.int64)
    if not expand(table, size, seed, ranges):
        return BAD
    coefficients = coefs.astype(out.dtype)
    acc, u, words = stack_bytes(ACC_BYTES), stack_bytes(U_BYTES), stack_bytes(1024)
    touched = view(stack_bytes(TILE), 0, TILE, uint8(0))
    zero = out.dtype.type(0)
    for tile in range(lo // TILE, (hi + TILE - 1) // TILE):
        base = tile * TILE
        a, b = max(lo, base), min(hi, base + TILE)
        total, target = view(acc, a - base, b - a, zero), out[a - lo : b - lo]
        total[:] = zero
        touched[a - base : b - base] = 0
        for k in range(weights.size):
            row = view(places[k], a, b - a, zero)
            add_row(acc + (a - base) * out.itemsize, row, out.dtype.type(weights[k]), b - a)
        covered = add_terms(acc, u, words, touched, coefficients, table, ranges, tile, a, b, size, seed)
        if covered or weights.size > 0:
            for i in range(b - a):
                target[i] += total[i]
        else:
            for i in range(b - a):
                if touched[a - base + i]:
                    target[i] += total[i]
    return OK


# ---- reductions -------------------------------------------------------------------------------------------------


@function
def add_products(lanes, x, y, first, n):
    """Add the products of n values to their lanes; value 0 belongs to lane ``first % 64``."""
    head = min(n, -first % LANES)
    for i in range(head):
        lanes[(first + i) % LANES] += float64(x[i]) * float64(y[i])
    rows = (n - head) // LANES
    for r in range(rows):
        p, q = x[head + r * LANES : head + (r + 1) * LANES], y[head + r * LANES : head + (r + 1) * LANES]
        for i in range(LANES):
            lanes[i] += float64(p[i]) * float64(q[i])
    for i in range(head + rows * LANES, n):
        lanes[(first + i) % LANES] += float64(x[i]) * float64(y[i])


@function
def sum_lanes(lanes):
    """Return the sum of 64 lanes by halves."""
    width = LANES
    while width > 1:
        width //= 2
        for i in range(width):
            lanes[i] += lanes[i + width]
    return lanes[0]


def dot_tiles(x, y, first, sums):
    """Write the sums of the products of tiles first, first + 1, ... of two full vectors to ``sums``."""
    if x.size != y.size:
        return BAD
    lanes = view(stack_bytes(512), 0, LANES, float64(0))
    for t in range(sums.size):
        a, b = (first + t) * TILE, min((first + t + 1) * TILE, x.size)
        lanes[:] = 0.0
        add_products(lanes, x[a:b], y[a:b], 0, b - a)
        sums[t] = sum_lanes(lanes)
    return OK


@function
def project_part(lanes, x, u, lo, hi, law, step, index, count, tag, place, seed, own):
    """Add the products of ``x``, or of the direction itself, with a direction on lo..hi of a tile to the lanes."""
    n = hi - lo
    if law == ROW32:
        row32 = view(place, lo, n, float32(0))
        if own:
            add_products(lanes, row32, row32, lo, n)
        else:
            add_products(lanes, x[lo:hi], row32, lo, n)
    elif law == ROW64:
        row64 = view(place, lo, n, float64(0))
        if own:
            add_products(lanes, row64, row64, lo, n)
        else:
            add_products(lanes, x[lo:hi], row64, lo, n)
    else:
        raw(u, lo, hi, law, step, index, count, tag, place, seed)
        elements = view(u, lo, n, float32(0))
        if own:
            add_products(lanes, elements, elements, lo, n)
        else:
            add_products(lanes, x[lo:hi], elements, lo, n)


def project_tiles(x, size, seed, table, own, first, sums):
    """Write the sums of products of tiles first, first + 1, ... with every direction to ``sums`` (tiles, k)."""
    ranges = np.empty((table.shape[0], 2), np.int64)
    if (not own and x.size != size) or not expand(table, size, seed, ranges):
        return BAD
    lanes, u = view(stack_bytes(512), 0, LANES, float64(0)), stack_bytes(U_BYTES)
    for t in range(sums.shape[0]):
        lo, hi = (first + t) * TILE, min((first + t + 1) * TILE, size)
        for k in range(table.shape[0]):
            lanes[:] = 0.0
            start, end = ranges[k, 0], ranges[k, 1]
            law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
            # Ascending order: the part that wrapped around comes first.
            for a, b in ((0, end - size), (start, min(end, size))):
                a, b = max(a, lo), min(b, hi)
                if a < b:
                    at = u - 4 * lo
                    project_part(lanes, x, at, a, b, law, step, index, count, tag, table[k, 5], seed, own)
            sums[t, k] = sum_lanes(lanes)
    return OK


def sum_tiles(sums, totals):
    """Add the rows of ``sums`` to ``totals``, one after the other."""
    for t in range(sums.shape[0]):
        for k in range(totals.size):
            totals[k] += sums[t, k]
    return OK
