"""The plain-NumPy backend: the slow and obvious definition of every operation on directions.

The other backends are tested for equality with this one, bit for bit. What the elements of a direction are,
and the order of reductions, is defined in :mod:`vamo_bbo.backends.layout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vamo_bbo._typing import AnyDirection, Array, Direction, FloatArray, Law, StoredDirection, Tag
from vamo_bbo.backends import checks, layout
from vamo_bbo.backends.layout import SEED_ABI
from vamo_bbo.backends.philox import counter_words

__all__ = ["SEED_ABI", "ReferenceBackend", "ReferenceDirections", "counter_words"]

CACHED_ROWS, CACHED_SIZE = 256, 4096
"""How many raw directions are kept, and up to which dimension: short runs ask for each twice."""

Range = tuple[int, int]


def signs_of(u: Direction) -> Direction:
    """Return the RADEMACHER direction whose elements a BLOCK direction has on its block; others unchanged."""
    if u.law != Law.BLOCK:
        return u._replace(mask=None) if u.mask is not None else u
    return Direction(Law.RADEMACHER, u.step, u.index // u.count, 1, u.tag)


class ReferenceDirections:
    """The directions of one seed and dimension, computed with NumPy.

    Parameters
    ----------
    seed : int
        Key, 64 bits.
    size : int
        Dimension d.
    arrays : mapping of str to ndarray
        Named state arrays that stored directions and masks refer to.

    Examples
    --------
    >>> directions = ReferenceDirections(7, 4, {})
    >>> out = np.empty(4)
    >>> directions.perturb(np.zeros(4), Direction(Law.RADEMACHER, 0, 0, 1), 0.5, 0, 4, out)
    >>> bool(np.all(np.abs(out) == 0.5))
    True
    """

    def __init__(self, seed: int, size: int, arrays: Mapping[str, Array]) -> None:
        checks.check_bind(seed, size)
        self.seed = seed
        self.size = size
        self._arrays = arrays
        self._norms: dict[AnyDirection, float] = {}
        self._rows: dict[Direction, layout.Float32] = {}
        self._first: dict[tuple[int, int, int, int], int] = {}

    def support(self, u: AnyDirection, lo: int, hi: int) -> list[Range]:
        """Return the ranges of coordinates in lo..hi that ``u`` touches, ascending and not empty."""
        checks.check_direction(u, self.size)
        if isinstance(u, StoredDirection) or u.law in (Law.RADEMACHER, Law.NORMAL, Law.SPHERE):
            ranges = [(0, self.size)]
        elif u.law == Law.COORDINATE:
            c = self.coordinate(u)
            ranges = [(c, c + 1)]
        else:
            ranges = self.block(u)
        cut = [(max(a, lo), min(b, hi)) for a, b in ranges]
        return [(a, b) for a, b in cut if a < b]

    def coordinate(self, u: Direction) -> int:
        """Return the coordinate of a COORDINATE direction."""
        if u.count == 0:
            return u.index
        return layout.mulhi64(self._first64((u.tag, u.index, u.step, Tag.COORDINATE)), self.size)

    def block(self, u: Direction) -> list[Range]:
        """Return the one or two ranges of coordinates of a BLOCK direction, in ascending order."""
        r, q, d = u.index % u.count, u.count, self.size
        shift = layout.mulhi64(self._first64((u.tag, 0, u.step, Tag.BLOCK_SHIFT)), d)
        a, b = r * d // q + shift, (r + 1) * d // q + shift
        if b <= d:
            return [(a, b)]
        return [(a - d, b - d)] if a >= d else [(0, b - d), (a, d)]

    def words(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the random words behind coordinates lo..hi.

        NORMAL and SPHERE: word j - lo is the one in the row of coordinate j. RADEMACHER and BLOCK: the words
        ``lo // 32`` to ``(hi - 1) // 32`` of the sign stream. COORDINATE with ``count > 0``: its two words.
        """
        checks.check_range(lo, hi, self.size)
        checks.check_direction(u, self.size)
        if isinstance(u, StoredDirection) or (u.law == Law.COORDINATE and u.count == 0):
            raise checks.no_words(u)
        if u.law == Law.COORDINATE:
            w = self._first64((u.tag, u.index, u.step, Tag.COORDINATE))
            return np.array([w & 0xFFFFFFFF, w >> 32], dtype=np.uint32)
        if u.law in (Law.RADEMACHER, Law.BLOCK):
            return layout.sign_words(self.seed, [signs_of(u)], lo, hi).reshape(-1)
        return layout.normal_words(self.seed, [u], lo, hi).reshape(-1)

    def raw(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the elements of ``u`` on lo..hi, a part of its support."""
        if isinstance(u, StoredDirection):
            row = checks.stored_row(self._arrays, u, self.size)
            return row[lo:hi]
        base = signs_of(u)
        if base.law == Law.COORDINATE:
            part = np.ones(hi - lo, dtype=np.float32)
        elif self.size <= CACHED_SIZE:
            part = self._kept(base)[lo:hi]
        else:
            part = layout.elements(self.seed, [base], lo, hi)[0]
        if u.mask is None:
            return part
        mask = checks.mask_of(self._arrays, u, self.size)
        masked: layout.Float32 = part * mask[lo:hi].astype(np.float32)
        return masked

    def _first64(self, counter: tuple[int, int, int, int]) -> int:
        if counter not in self._first:
            self._first = {counter: layout.first64(self.seed, [counter])[0]}
        return self._first[counter]

    def _keep(self, us: Sequence[Direction]) -> None:
        """Generate the rows that are not there yet, those of one law together."""
        missing = list(dict.fromkeys(u for u in us if u not in self._rows))
        if len(self._rows) + len(missing) > CACHED_ROWS:
            self._rows = {u: self._rows[u] for u in us if u in self._rows}
        for law in {u.law for u in missing}:
            group = [u for u in missing if u.law == law]
            self._rows.update(zip(group, layout.elements(self.seed, group, 0, self.size), strict=True))

    def _kept(self, u: Direction) -> Array:
        """Return the row of an unmasked direction."""
        self._keep([u])
        return self._rows[u]

    def _prepare(self, us: Sequence[AnyDirection]) -> None:
        """Generate what several directions need in as few calls as possible, if they are small."""
        for u in us:
            checks.check_direction(u, self.size)
        random = [u for u in us if isinstance(u, Direction)]
        if self.size <= CACHED_SIZE:
            self._keep([signs_of(u) for u in random if u.law != Law.COORDINATE])
        counters = [(u.tag, u.index, u.step, Tag.COORDINATE) for u in random if u.law == Law.COORDINATE and u.count]
        if any(counter not in self._first for counter in counters):
            self._first = dict(zip(counters, layout.first64(self.seed, counters), strict=True))

    def fill(self, u: AnyDirection, lo: int, hi: int, out: Array) -> None:
        """Write the elements of ``u`` to ``out``, zeros outside its support."""
        checks.check_out(out, lo, hi, self.size)
        ranges = self.support(u, lo, hi)
        out[...] = 0
        for a, b in ranges:
            out[a - lo : b - lo] = self.raw(u, a, b)

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        checks.check_pair(x, out, lo, hi, self.size)
        ranges = self.support(u, lo, hi)
        if out is not x:
            out[...] = x
        step = x.dtype.type(h)
        for a, b in ranges:
            i, j = a - lo, b - lo
            out[i:j] = x[i:j] + step * self.raw(u, a, b).astype(x.dtype, copy=False)

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        checks.check_apart(plus, minus)
        checks.check_apart(x, plus)
        self.perturb(x, u, h, lo, hi, plus)
        self.perturb(x, u, -h, lo, hi, minus)

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
        checks.check_rows(x, us, hs, out, self.size)
        self._prepare(us)
        for row, u, h in zip(out, us, hs, strict=True):
            self.perturb(x, u, h, 0, self.size, row)

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``: the sum first, from 0, in this order."""
        checks.check_accumulate(dense, lo, hi, out, self.size)
        self._prepare([u for _, u in terms])
        dtype = out.dtype
        total = np.zeros_like(out)
        touched = np.full(out.shape, bool(dense))
        for a, g in dense:
            total += dtype.type(a) * g[lo:hi]
        for c, u in terms:
            for start, stop in self.support(u, lo, hi):
                i, j = start - lo, stop - lo
                total[i:j] += dtype.type(c) * self.raw(u, start, stop).astype(dtype, copy=False)
                touched[i:j] = True
        np.add(out, total, out=out, where=touched)

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        checks.check_vector("g", g, self.size)
        self._prepare(us)
        result = np.empty(len(us))
        for j, u in enumerate(us):
            products = np.zeros(self.size)
            for a, b in self.support(u, 0, self.size):
                products[a:b] = g[a:b].astype(np.float64) * self.raw(u, a, b).astype(np.float64)
            result[j] = layout.reduce_products(products)
        return result

    def dot(self, a: Array, b: Array) -> float:
        """Return ``<a, b>`` of two full vectors."""
        checks.check_vector("a", a, self.size)
        checks.check_vector("b", b, self.size)
        return layout.reduce_products(a.astype(np.float64) * b.astype(np.float64))

    def norm2(self, u: AnyDirection) -> float:
        """Return the squared norm of the elements of ``u``."""
        cacheable = isinstance(u, Direction) and u.mask is None
        if cacheable and u in self._norms:
            return self._norms[u]
        products = np.zeros(self.size)
        for a, b in self.support(u, 0, self.size):
            products[a:b] = self.raw(u, a, b).astype(np.float64) ** 2
        value = layout.reduce_products(products)
        if cacheable:
            if len(self._norms) >= checks.CACHED_NORMS:
                self._norms.clear()
            self._norms[u] = value
        return value

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions."""
        return [self.norm2(u) for u in us]


class ReferenceBackend:
    """The backend ``"numpy"``."""

    name = "numpy"
    xp: Any = np
    tile = 1 << 16

    def bind(self, seed: int, size: int, arrays: Mapping[str, Array]) -> ReferenceDirections:
        """Return the directions of ``seed`` in dimension ``size``."""
        return ReferenceDirections(seed, size, arrays)
