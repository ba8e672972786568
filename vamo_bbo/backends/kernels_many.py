"""The CPU kernels that take many directions, and the reductions; conventions as in :mod:`.kernels`."""

# numba has no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from numba import float32, float64, uint8

from vamo_bbo.backends.array_ops import (
    add_products,
    add_touched,
    add_values,
    stack_bytes,
    start_of,
    sum_lanes,
    write_row,
    write_value,
)
from vamo_bbo.backends.kernels import (
    ACC_BYTES,
    BAD,
    LANE_BYTES,
    LOW,
    NORMAL,
    OK,
    RADEMACHER,
    ROW32,
    ROW64,
    SPHERE,
    TILE,
    U_BYTES,
    WORD_BYTES,
    apply,
    expand,
    function,
    inline,
    raw,
    through,
)
from vamo_bbo.backends.vector_ops import normal_close, normal_whole, sign_madd4, sign_words


@function
def add_part(acc, u, c, lo, hi, law, step, index, count, tag, place, seed):
    """Add ``c * u`` on lo..hi, a part of the support and of one tile; ``u`` is scratch."""
    if place != 0:
        through(acc, acc, u, c, lo, hi, law, step, index, count, tag, place, seed)
    else:
        apply(acc, acc, c, lo, hi, law, step, index, count, tag, seed)


@inline
def four_signs(table, k):
    """Say whether terms k to k + 3 are whole sign vectors without masks."""
    others = 0
    for j in range(k, min(k + 4, table.shape[0])):
        others += table[j, 0] != RADEMACHER or table[j, 5] != 0
    return others == 0 and k + 4 <= table.shape[0]


@inline
def add_four(acc, words, c0, c1, c2, c3, table, k, tile, seed):
    """Add terms k to k + 3, whole sign vectors, to a whole tile."""
    for j in range(4):
        step, index, tag = table[k + j, 1], table[k + j, 2], table[k + j, 4]
        high = tag << 24 | step >> 32
        sign_words(words + 256 * j, 16 * tile, index, step & LOW, high, seed & LOW, seed >> 32 & LOW)
    sign_madd4(acc, c0, c1, c2, c3, words, 0, 16)


@inline
def ends_normal(table):
    """Say whether the last term is a whole normal vector without a mask."""
    last = table.shape[0] - 1
    return last >= 0 and table[last, 0] in (NORMAL, SPHERE) and table[last, 5] == 0


def accumulate(out, lo, hi, size, seed, coefs, table, weights, places):
    """Add ``sum_k weights[k] g_k + sum_j coefs[j] u_j`` to ``out``; ``places`` are the addresses of the g_k."""
    if not (0 <= lo <= hi <= size and out.size == hi - lo) or not expand(table, size, seed):
        return BAD
    for k in range(places.size):
        if places[k] == 0:
            return BAD
    t, item, target = out.dtype.type, out.itemsize, start_of(out) - lo * out.itemsize
    acc, u, words, touched = (
        stack_bytes(ACC_BYTES), stack_bytes(U_BYTES), stack_bytes(WORD_BYTES), stack_bytes(TILE),
    )  # fmt: skip
    terms, closing, k0, k1 = table.shape[0], ends_normal(table), seed & LOW, seed >> 32 & LOW
    c1 = c2 = c3 = 0
    if closing:
        c1, c2 = table[terms - 1, 2], table[terms - 1, 1] & LOW
        c3 = table[terms - 1, 4] << 24 | table[terms - 1, 1] >> 32
    for tile in range(lo // TILE, (hi + TILE - 1) // TILE):
        base = tile * TILE
        a, b = max(lo, base), min(hi, base + TILE)
        fused = closing and b - a == TILE  # the last term and the end of the sum in one loop
        if fused and terms == 1 and weights.size == 1:
            whole, scale = t(weights[0]), t(coefs[0])
            normal_whole(target, places[0], whole, scale, 16 * tile, 16 * tile + 16, c1, c2, c3, k0, k1)
            continue
        total, flags, scratch = acc - base * item, touched - base, u - 4 * base
        write_value(total + a * item, t(0), b - a)
        write_value(flags + a, uint8(0), b - a)
        for k in range(weights.size):
            write_row(total + a * item, total + a * item, t(weights[k]), places[k] + a * item, b - a, t(0))
        covered = weights.size > 0
        k = 0
        while k < terms - fused:
            if b - a == TILE and four_signs(table, k):
                h0, h1, h2, h3 = t(coefs[k]), t(coefs[k + 1]), t(coefs[k + 2]), t(coefs[k + 3])
                add_four(acc, words, h0, h1, h2, h3, table, k, tile, seed)
                covered = True
                k += 4
                continue
            start, end = table[k, 6], table[k, 7]
            if (start >= b or end <= a) and end - size <= a:  # most blocks do not meet a tile
                k += 1
                continue
            law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
            first, last = max(a, start), min(b, end, size)
            for _ in range(2):
                if first < last:
                    c, place = t(coefs[k]), table[k, 5]
                    add_part(total, scratch, c, first, last, law, step, index, count, tag, place, seed)
                    covered = covered or (first == a and last == b)
                    write_value(flags + first, uint8(1), last - first)
                first, last = a, min(b, end - size)
            k += 1
        if fused:
            first, last = 16 * tile, 16 * tile + 16
            normal_close(target, total, t(coefs[terms - 1]), first, last, c1, c2, c3, k0, k1)
        elif covered:
            add_values(target + a * item, total + a * item, b - a, t(0))
        else:
            add_touched(target + a * item, total + a * item, flags + a, b - a, t(0))
    return OK


def place(g, out, size):
    """Return the address of a full vector that shares no memory with ``out``, else 0."""
    a, b, item = start_of(g), start_of(out), g.itemsize
    free = g.size == size and (a + size * item <= b or b + out.size * item <= a)
    return a if free else 0


# ---- reductions -------------------------------------------------------------------------------------------------


def dot_tiles(x, y, first, sums):
    """Write the sums of the products of tiles first, first + 1, ... of two full vectors to ``sums``."""
    if x.size != y.size:
        return BAD
    lanes, item, one = stack_bytes(LANE_BYTES), x.itemsize, x.dtype.type(1)
    for t in range(sums.size):
        a, b = (first + t) * TILE, min((first + t + 1) * TILE, x.size)
        write_value(lanes, float64(0), 64)
        add_products(lanes, start_of(x) + a * item, start_of(y) + a * item, 0, b - a, one, one)
        sums[t] = sum_lanes(lanes)
    return OK


@function
def project_part(lanes, x, like, u, lo, hi, law, step, index, count, tag, place, seed, own):
    """Add the products of ``x``, or of the direction itself, with a direction on lo..hi of a tile."""
    n, at = hi - lo, x + lo * like.itemsize
    if law == ROW64:
        if own:
            add_products(lanes, place + 8 * lo, place + 8 * lo, lo, n, float64(0), float64(0))
        else:
            add_products(lanes, at, place + 8 * lo, lo, n, like.dtype.type(0), float64(0))
        return
    row = place if law == ROW32 else u
    if law != ROW32:
        raw(u, lo, hi, law, step, index, count, tag, place, seed)
    if own:
        add_products(lanes, row + 4 * lo, row + 4 * lo, lo, n, float32(0), float32(0))
    else:
        add_products(lanes, at, row + 4 * lo, lo, n, like.dtype.type(0), float32(0))


def project_tiles(x, size, seed, table, own, first, sums):
    """Write the sums of products of tiles first, first + 1, ... with every direction to ``sums`` (tiles, k)."""
    if (not own and x.size != size) or not expand(table, size, seed):
        return BAD
    lanes, u = stack_bytes(LANE_BYTES), stack_bytes(U_BYTES)
    for t in range(sums.shape[0]):
        lo, hi = (first + t) * TILE, min((first + t + 1) * TILE, size)
        for k in range(table.shape[0]):
            law, step, index, count, tag = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4]
            write_value(lanes, float64(0), 64)
            a, b = lo, min(hi, table[k, 7] - size)  # the part that wrapped around comes first: ascending order
            for _ in range(2):
                if a < b:
                    at, place = u - 4 * lo, table[k, 5]
                    project_part(lanes, start_of(x), x, at, a, b, law, step, index, count, tag, place, seed, own)
                a, b = max(lo, table[k, 6]), min(hi, table[k, 7], size)
            sums[t, k] = 0.0 + sum_lanes(lanes)  # a sum starts from +0
    return OK


def sum_tiles(sums, totals):
    """Add the rows of ``sums`` to ``totals``, one after the other."""
    for t in range(sums.shape[0]):
        for k in range(totals.size):
            totals[k] += sums[t, k]
    return OK
