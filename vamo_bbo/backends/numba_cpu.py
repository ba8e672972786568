"""The compiled CPU backend: the directions of :mod:`vamo_bbo.backends.reference` at memory speed.

Every method is one call of one kernel for a small vector, and a few kernel calls on the pool's threads for a large
one. The Python in front of a call is kept short on purpose: at d = 10 it is most of the cost.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import AnyDirection, Array, Direction, FloatArray, Law, StoredDirection
from vamo_bbo.backends import checks
from vamo_bbo.backends.compiled import Kernel, compiled
from vamo_bbo.backends.kernels import ROW32, ROW64, TILE
from vamo_bbo.backends.pool import Pool
from vamo_bbo.backends.reference import Range, ReferenceDirections

__all__ = ["NumbaBackend", "NumbaDirections"]

CROSSOVER = 1 << 19
"""Coordinates below which one thread works, whatever there is to do."""
WORTH_WAKING = 6e5
"""Nanoseconds of work below which one thread works: waking another one and its cold cache cost about 0.15 ms."""
PASS_COST, SIGN_COST, NORMAL_COST = 0.3, 0.1, 1.2
"""Nanoseconds per element of a pass over memory, and of generating an element on top of it, roughly."""
LAYOUTS = 32
"""Numbers of directions whose table is kept, to be filled anew by every call."""
SUM_TILES = 1 << 13
"""Tiles whose sums are held at a time in a reduction."""

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_NO_TABLE = np.empty((0, 8), dtype=np.int64)
_NO_WEIGHTS, _NO_PLACES = np.empty(0), np.empty(0, dtype=np.int64)


class NumbaDirections:
    """The directions of one seed and dimension, computed by compiled kernels.

    Parameters
    ----------
    seed : int
        Key, 64 bits.
    size : int
        Dimension d.
    arrays : mapping of str to ndarray
        Named state arrays that stored directions and masks refer to.
    threads : int, default 1
        Threads for vectors of at least ``CROSSOVER`` coordinates. The results do not depend on it.

    Examples
    --------
    >>> from vamo_bbo._typing import Law
    >>> directions = NumbaDirections(7, 4, {})
    >>> out = np.empty(4)
    >>> directions.perturb(np.zeros(4), Direction(Law.RADEMACHER, 0, 0, 1), 0.5, 0, 4, out)
    >>> bool(np.all(np.abs(out) == 0.5))
    True
    """

    def __init__(self, seed: int, size: int, arrays: Mapping[str, Array], threads: int = 1) -> None:
        self._reference = ReferenceDirections(seed, size, arrays)
        self.seed = seed
        self.size = size
        self.threads = threads
        self._arrays = arrays
        self._key = seed - (1 << 64) if seed >> 63 else seed
        self._norms: dict[AnyDirection, float] = {}
        self._pool = Pool(threads)
        self._perturb: dict[Any, Kernel] = {}
        self._perturb64: Any = None
        self._pair64: Any = None
        self._last: tuple[Sequence[AnyDirection], Array] = ([], _NO_TABLE)
        self._dense = _room(1)
        self._layouts: dict[int, tuple[struct.Struct, Array]] = {}
        self._kernels: dict[tuple[str, Any], Kernel] = {}  # dtype.name takes a microsecond

    def support(self, u: AnyDirection, lo: int, hi: int) -> list[Range]:
        """Return the ranges of coordinates in lo..hi that ``u`` touches, ascending and not empty."""
        return self._reference.support(u, lo, hi)

    def words(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the random words behind coordinates lo..hi, as the reference defines them."""
        return self._reference.words(u, lo, hi)

    def _kernel(self, name: str, dtype: Any) -> Kernel:
        kernel = self._kernels.get((name, dtype))
        if kernel is None:
            if dtype not in (_F32, _F64):
                raise OptionError(f"an array has dtype {dtype}; allowed are float32 and float64")
            kernel = self._kernels[name, dtype] = compiled(name, dtype.name)
        return kernel

    def _table(self, us: Sequence[AnyDirection]) -> Array:
        """Return the directions as the kernels take them: see :mod:`vamo_bbo.backends.kernels`."""
        kept, table = self._last
        if us == kept:  # the probes of a step, then its update
            return table
        flat: list[int] = []
        named = []
        for u in us:
            if u.__class__ is Direction and u[5] is None:
                flat += u[:5]
            else:
                row = self._named(u)
                named.append((len(flat) // 5, row[5]))
                flat += row[:5]
        layout = self._layouts.get(len(us))
        if layout is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[len(us)] = (struct.Struct("5q24x" * len(us)), np.empty((len(us), 8), np.int64))
        packer, table = layout
        self._last = ([], _NO_TABLE)  # the table of as many directions is overwritten
        try:
            packer.pack_into(table.data, 0, *flat)
        except struct.error:
            self._refuse(us)
        for k, place in named:
            table[k, 5] = place
        if not named:
            self._last = (list(us), table)
        return table

    def _named(self, u: AnyDirection) -> tuple[int, ...]:
        """Return kind, step, index, count, tag and address of a direction that refers to a state array."""
        checks.check_direction(u, self.size)
        if isinstance(u, StoredDirection):
            row = checks.stored_row(self._arrays, u, self.size)
            return (ROW32 if row.dtype == _F32 else ROW64, 0, 0, 0, 0, row.ctypes.data)
        return (*u[:5], checks.mask_of(self._arrays, u, self.size).ctypes.data)

    # ---- one direction ----

    def fill(self, u: AnyDirection, lo: int, hi: int, out: Array) -> None:
        """Write the elements of ``u`` to ``out``, zeros outside its support."""
        checks.check_out(out, lo, hi, self.size)
        if self._kernel("fill", out.dtype)(out, lo, hi, self.size, self._table([u]), self._key):
            self._refuse([u])

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        if u.__class__ is Direction and u[5] is None and hi - lo < CROSSOVER:
            law, step, index, count, tag, _ = u
            try:
                dtype = out.dtype
                kernel = self._perturb64 if dtype is _F64 else self._perturb[dtype]  # hashing a dtype takes 0.1 us
                if kernel(x, out, h, lo, hi, self.size, law + 0, step, index, count, tag + 0, self._key):
                    self._refuse_pair(x, u, lo, hi, out)
                return
            except (KeyError, TypeError, AttributeError, OverflowError):
                pass
        self._perturb_slowly(x, u, h, lo, hi, out)

    def _perturb_slowly(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Check, compile, use threads: everything the short path leaves out."""
        checks.check_pair(x, out, lo, hi, self.size)
        checks.check_direction(u, self.size)
        if isinstance(u, StoredDirection) or u.mask is not None:
            return self._perturb_through(x, u, h, lo, hi, out)
        kernel = self._perturb[out.dtype] = self._kernel("perturb", out.dtype)
        self._perturb64 = self._perturb.get(_F64)
        h, rest = float(h), (self.size, u.law + 0, u.step, u.index, u.count, u.tag + 0, self._key)

        def work(a: int, b: int) -> None:
            i, j = a - lo, b - lo
            if kernel(x[i:j], out[i:j], h, a, b, *rest):
                self._refuse_pair(x, u, lo, hi, out)

        self._run(lo, hi, [u], work)
        return None

    def _perturb_through(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Perturb along a masked or stored direction."""
        kernel, table = self._kernel("perturb_through", out.dtype), self._table([u])
        h = float(h)

        def work(a: int, b: int) -> None:
            i, j = a - lo, b - lo
            if kernel(x[i:j], out[i:j], h, a, b, self.size, table, self._key):
                self._refuse([u])

        self._run(lo, hi, [u], work)

    def _refuse_pair(self, x: Array, u: AnyDirection, lo: int, hi: int, out: Array) -> NoReturn:
        checks.check_pair(x, out, lo, hi, self.size)
        checks.check_direction(u, self.size)
        raise AssertionError("a kernel refused arguments that are allowed")

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        if u.__class__ is Direction and u[5] is None and hi - lo < CROSSOVER:
            law, step, index, count, tag, _ = u
            try:
                kernel = self._pair64 if plus.dtype is _F64 else self._kernels["perturb_pair", plus.dtype]
                rest = (law + 0, step, index, count, tag + 0, self._key)
                if not kernel(x, plus, minus, h, lo, hi, self.size, *rest):
                    return None
            except (KeyError, TypeError, AttributeError, OverflowError):
                pass
        return self._pair_slowly(x, u, h, lo, hi, plus, minus)

    def _pair_slowly(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Check, compile, use threads: everything the short path leaves out."""
        for a, b in ((x, plus), (x, minus), (plus, minus)):
            checks.check_pair(a, b, lo, hi, self.size)
            checks.check_apart(a, b)
        if isinstance(u, StoredDirection) or u.mask is not None:
            self.perturb(x, u, h, lo, hi, plus)
            return self.perturb(x, u, -h, lo, hi, minus)
        checks.check_direction(u, self.size)
        if u.law in (Law.BLOCK, Law.COORDINATE):
            self.perturb(x, u, h, lo, hi, plus)
            return self.perturb(x, u, -h, lo, hi, minus)
        kernel = self._kernel("perturb_pair", x.dtype)
        self._pair64 = self._kernels.get(("perturb_pair", _F64))
        h, rest = float(h), (self.size, u.law + 0, u.step, u.index, u.count, u.tag + 0, self._key)

        def work(a: int, b: int) -> None:
            i, j = a - lo, b - lo
            status = kernel(x[i:j], plus[i:j], minus[i:j], h, a, b, *rest)
            assert status == 0, "a kernel refused arguments that are allowed"

        self._run(lo, hi, [u], work)
        return None

    def _run(self, lo: int, hi: int, us: Sequence[AnyDirection], work: Any) -> None:
        """Call ``work(a, b)`` for parts of lo..hi, on threads where there is enough to do."""
        if self.threads > 1 and (hi - lo) * _cost(us) >= WORTH_WAKING:
            self._pool.over(lo, hi, TILE, work)
        else:
            work(lo, hi)

    def norm2(self, u: AnyDirection) -> float:
        """Return the squared norm of the elements of ``u``."""
        return self.norms2([u])[0]

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions; remembered for random directions without a mask."""
        known = [self._norms.get(u) for u in us]
        if None not in known:
            return known  # type: ignore[return-value]
        if len(self._norms) >= checks.CACHED_NORMS:
            self._norms.clear()
        norms: list[float] = self._sums(np.empty(0), us, own=True).tolist()
        for u, norm in zip(us, norms, strict=True):
            if type(u) is Direction and u.mask is None:
                self._norms[u] = norm
        return norms

    # ---- many directions ----

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
        us = list(us)
        try:
            kernel = self._kernels["perturb_rows", out.dtype]
            steps = np.array(hs, dtype=np.float64)
            # Longer rows are one after the other, on threads.
            if self.size < CROSSOVER and not kernel(x, out, steps, self.size, self._table(us), self._key):
                return
        except (KeyError, TypeError, AttributeError):
            pass
        checks.check_rows(x, us, hs, out, self.size)
        self._kernel("perturb_rows", x.dtype)
        for row, u, h in zip(out, us, hs, strict=True):
            self.perturb(x, u, h, 0, self.size, row)

    def _refuse(self, us: Sequence[AnyDirection]) -> NoReturn:
        for u in us:
            checks.check_direction(u, self.size)
        raise AssertionError("a kernel refused arguments that are allowed")

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``: the sum first, from 0, in this order."""
        us = [u for _, u in terms]
        if hi - lo >= CROSSOVER:
            return self._accumulate_any(terms, us, dense, lo, hi, out)
        try:
            kernel = self._kernels["accumulate", out.dtype]
            weights, places = _NO_WEIGHTS, _NO_PLACES
            if dense:
                place = self._kernels["place", out.dtype]
                weights, places = self._dense if len(dense) == 1 else _room(len(dense))
                for k, (a, g) in enumerate(dense):
                    weights[k], places[k] = a, place(g, out, self.size)
            coefs = np.array([c for c, _ in terms], dtype=np.float64)
            if not kernel(out, lo, hi, self.size, self._key, coefs, self._table(us), weights, places):
                return None
        except (KeyError, TypeError, AttributeError):
            pass
        return self._accumulate_any(terms, us, dense, lo, hi, out)

    def _accumulate_any(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        us: Sequence[AnyDirection],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Check, compile, use threads: everything the short path leaves out."""
        checks.check_accumulate(dense, lo, hi, out, self.size)
        kernel = self._kernel("accumulate", out.dtype)
        if dense:
            self._kernel("place", out.dtype)  # for the short way
        table, coefs = self._table(us), np.array([c for c, _ in terms], dtype=np.float64)
        weights = np.array([a for a, _ in dense], dtype=np.float64)
        places = np.array([g.ctypes.data for _, g in dense], dtype=np.int64)

        def work(a: int, b: int) -> None:
            part = out[a - lo : b - lo]
            if kernel(part, a, b, self.size, self._key, coefs, table, weights, places):
                self._refuse(us)

        self._run(lo, hi, us, work)

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        us = list(us)
        if self.size <= TILE:
            try:
                kernel, sums = self._kernels["project_tiles", g.dtype], np.empty((1, len(us)))
                if not kernel(g, self.size, self._key, self._table(us), False, 0, sums):
                    only: FloatArray = sums[0]
                    return only
            except (KeyError, TypeError, AttributeError):
                pass
        checks.check_vector("g", g, self.size)
        return self._sums(g, us, own=False)

    def _sums(self, g: Array, us: Sequence[AnyDirection], *, own: bool) -> FloatArray:
        table = self._table(us)
        kernel = self._kernel("project_tiles", g.dtype)
        if self.size <= TILE:
            first = np.empty((1, len(us)))
            if kernel(g, self.size, self._key, table, own, 0, first):
                self._refuse(us)
            only: FloatArray = first[0]
            return only
        totals, add = np.zeros(len(us)), self._kernel("sum_tiles", g.dtype)

        def work(first: int, last: int, sums: Array) -> None:
            if kernel(g, self.size, self._key, table, own, first, sums[:last]):
                self._refuse(us)

        self._in_order(work, (len(us),), lambda sums: add(sums, totals), _cost(us))
        return totals

    def dot(self, a: Array, b: Array) -> float:
        """Return ``<a, b>`` of two full vectors."""
        checks.check_vector("a", a, self.size)
        checks.check_vector("b", b, self.size)
        if a.dtype != b.dtype:
            raise OptionError(f"a has dtype {a.dtype} and b {b.dtype}; they must agree")
        kernel, add, totals = self._kernel("dot_tiles", a.dtype), self._kernel("sum_tiles", _F64), np.zeros(1)

        def work(first: int, last: int, sums: Array) -> None:
            kernel(a, b, first, sums[:last])

        self._in_order(work, (), lambda sums: add(sums.reshape(-1, 1), totals))
        return float(totals[0])

    def _in_order(self, work: Any, shape: tuple[int, ...], add: Any, cost: float = PASS_COST) -> None:
        """Let ``work`` write tile sums, on threads where it pays, and ``add`` them tile after tile."""
        tiles = -(-self.size // TILE)
        for first in range(0, tiles, SUM_TILES):
            count = min(SUM_TILES, tiles - first)
            sums = np.empty((count, *shape))
            part = functools.partial(_tile_sums, work, first, sums)
            if self.threads > 1 and count * TILE * cost >= WORTH_WAKING:
                self._pool.over(0, count, 1, part)
            else:
                part(0, count)
            add(sums)


def _cost(us: Sequence[AnyDirection]) -> float:
    """Return the nanoseconds per element of a pass that generates directions."""
    normals = sum(u[0] in (Law.NORMAL, Law.SPHERE) for u in us)
    return PASS_COST + NORMAL_COST * normals + SIGN_COST * (len(us) - normals)


def _room(count: int) -> tuple[FloatArray, Array]:
    """Return arrays for the weights and the addresses of dense vectors."""
    return np.empty(count), np.empty(count, dtype=np.int64)


def _tile_sums(work: Any, first: int, sums: Array, a: int, b: int) -> None:
    work(first + a, b - a, sums[a:b])


class NumbaBackend:
    """The backend ``"numba"``.

    Parameters
    ----------
    threads : int or None
        Threads of large operations; None takes as many as the process may run on, at most 16.
    """

    name = "numba"
    xp: Any = np
    tile = 1 << 17

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads!r}: at least 1, or None for one per core")
        self.threads = threads if threads is not None else min(16, len(os.sched_getaffinity(0)))

    def bind(self, seed: int, size: int, arrays: Mapping[str, Array]) -> NumbaDirections:
        """Return the directions of ``seed`` in dimension ``size``."""
        return NumbaDirections(seed, size, arrays, self.threads)
