"""The CUDA backend: the directions of :mod:`vamo_bbo.backends.reference` on a GPU, bit for bit.

Arrays are CuPy arrays and stay on the device. Perturbing and accumulating enqueue a kernel on the current stream and
return at once; only :meth:`CupyDirections.project`, ``dot`` and ``norm2`` wait, because they return numbers.
Coefficients travel as float64 and supports are worked out on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vamo_bbo._errors import BackendUnavailable, OptionError
from vamo_bbo._typing import AnyDirection, Array, Direction, FloatArray, StoredDirection
from vamo_bbo.backends import checks
from vamo_bbo.backends.cuda_source import source
from vamo_bbo.backends.reference import Range, ReferenceDirections
from vamo_bbo.backends.table import device_row

__all__ = ["CupyBackend", "CupyDirections"]

TILE, THREADS = 2048, 256
MAX_BLOCKS = 1 << 20
SUM_TILES = 1 << 16
"""Tiles whose sums are held at a time in a reduction."""
OPTIONS = ("-fmad=false",)


class CupyDirections:
    """The directions of one seed and dimension, computed on the device.

    Parameters
    ----------
    seed : int
        Key, 64 bits.
    size : int
        Dimension d.
    arrays : mapping of str to ndarray
        Named state arrays on the device, that stored directions and masks refer to.
    xp : module
        CuPy.
    module : cupy.RawModule
        The compiled kernels.
    """

    def __init__(self, seed: int, size: int, arrays: Mapping[str, Array], xp: Any, module: Any) -> None:
        self._reference = ReferenceDirections(seed, size, {})
        self.seed = seed
        self.size = size
        self._arrays = arrays
        self._xp = xp
        self._module = module
        self._functions: dict[str, Any] = {}
        self._norms: dict[Direction, float] = {}

    # ---- calling kernels ----

    def _launch(self, name: str, work: int, *args: Any) -> None:
        """Enqueue a kernel with a block for each of ``work`` pieces."""
        if work <= 0:
            return
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        self._functions[name]((min(work, MAX_BLOCKS),), (THREADS,), args)

    def _typed(self, name: str, a: Array) -> str:
        return f"{name}_f32" if a.dtype == np.float32 else f"{name}_f64"

    def _tiles(self, lo: int, hi: int) -> int:
        return -(-hi // TILE) - lo // TILE if lo < hi else 0

    def _row(self, u: AnyDirection) -> list[int]:
        if isinstance(u, StoredDirection):
            row = checks.stored_row(self._arrays, u, self.size)
            return device_row(self._reference, u, checks.address(row), double=row.dtype == np.float64)
        checks.check_direction(u, self.size)
        place = 0 if u.mask is None else checks.address(checks.mask_of(self._arrays, u, self.size))
        return device_row(self._reference, u, place, double=False)

    def _place(self, u: AnyDirection, lo: int, hi: int) -> tuple[Any, ...]:
        """Return the arguments of the kernels of one direction."""
        numbers = (np.int64(n) for n in self._row(u))
        return (np.int64(lo), np.int64(hi), np.int64(self.size), np.uint64(self.seed), *numbers)

    def _upload(self, *columns: Any) -> tuple[Any, list[Any]]:
        """Copy vectors of 8-byte numbers to the device in one piece; return it and where each starts."""
        flat = [np.ascontiguousarray(c).reshape(-1).view(np.int64) for c in columns]
        block = self._xp.asarray(np.concatenate([*flat, np.zeros(1, dtype=np.int64)]))
        starts = np.cumsum([0, *(c.nbytes for c in flat[:-1])]) + checks.address(block)
        return block, [np.intp(start) for start in starts]

    def _table(self, us: Sequence[AnyDirection]) -> Array:
        return np.array([[*self._row(u), 0] for u in us], dtype=np.int64).reshape(-1, 8)

    def _own(self, **arrays: Any) -> None:
        for name, a in arrays.items():
            if not isinstance(a, self._xp.ndarray):
                raise OptionError(f"{name}: backend='cupy' works on cupy arrays, got {type(a).__name__}")

    # ---- operations ----

    def support(self, u: AnyDirection, lo: int, hi: int) -> list[Range]:
        """Return the ranges of coordinates in lo..hi that ``u`` touches, ascending and not empty."""
        return self._reference.support(u, lo, hi)

    def words(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the random words behind coordinates lo..hi, a device array."""
        words: Array = self._xp.asarray(self._reference.words(u, lo, hi))
        return words

    def fill(self, u: AnyDirection, lo: int, hi: int, out: Array) -> None:
        """Write the elements of ``u`` to ``out``, zeros outside its support."""
        self._own(out=out)
        checks.check_out(out, lo, hi, self.size)
        self._launch(self._typed("fill", out), self._tiles(lo, hi), out, *self._place(u, lo, hi))

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        self._own(x=x, out=out)
        checks.check_pair(x, out, lo, hi, self.size)
        args = (x, out, x.dtype.type(h), *self._place(u, lo, hi))
        self._launch(self._typed("perturb", x), self._tiles(lo, hi), *args)

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        self._own(x=x, plus=plus, minus=minus)
        for a, b in ((x, plus), (x, minus), (plus, minus)):
            checks.check_pair(a, b, lo, hi, self.size)
            checks.check_apart(a, b)
        args = (x, plus, minus, x.dtype.type(h), *self._place(u, lo, hi))
        self._launch(self._typed("perturb_pair", x), self._tiles(lo, hi), *args)

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
        self._own(x=x, out=out)
        checks.check_rows(x, us, hs, out, self.size)
        block, (steps, table) = self._upload(np.array(hs, dtype=np.float64), self._table(us))
        args = (x, out, steps, np.int64(len(us)), np.int64(self.size), np.uint64(self.seed), table)
        self._launch(self._typed("perturb_rows", x), len(us) * self._tiles(0, self.size), *args)
        del block  # freed in stream order, after the kernel

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``: the sum first, from 0, in this order."""
        self._own(out=out, **{f"dense[{k}]": g for k, (_, g) in enumerate(dense)})
        checks.check_accumulate(dense, lo, hi, out, self.size)
        block, (coefs, table, weights, places) = self._upload(
            np.array([c for c, _ in terms], dtype=np.float64),
            self._table([u for _, u in terms]),
            np.array([a for a, _ in dense], dtype=np.float64),
            np.array([checks.address(g) for _, g in dense], dtype=np.int64),
        )
        place = (np.int64(lo), np.int64(hi), np.int64(self.size), np.uint64(self.seed))
        args = (out, *place, np.int64(len(terms)), coefs, table, np.int64(len(dense)), weights, places)
        self._launch(self._typed("accumulate", out), self._tiles(lo, hi), *args)
        del block  # freed in stream order, after the kernel

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        self._own(g=g)
        checks.check_vector("g", g, self.size)
        return self._sums(g, us, own=False)

    def _sums(self, g: Array, us: Sequence[AnyDirection], *, own: bool) -> FloatArray:
        block, (table,) = self._upload(self._table(us))
        name = self._typed("project_tiles", g)
        fixed = (np.int64(self.size), np.uint64(self.seed), np.int64(len(us)), table, np.int64(own))

        def run(first: int, count: int, sums: Array) -> None:
            self._launch(name, count * len(us), g, *fixed, np.int64(first), np.int64(count), sums)

        totals = self._in_order(run, len(us))
        del block
        return totals

    def dot(self, a: Array, b: Array) -> float:
        """Return ``<a, b>`` of two full vectors."""
        self._own(a=a, b=b)
        checks.check_vector("a", a, self.size)
        checks.check_vector("b", b, self.size)
        if a.dtype != b.dtype:
            raise OptionError(f"a has dtype {a.dtype} and b {b.dtype}; they must agree")
        name = self._typed("dot_tiles", a)

        def run(first: int, count: int, sums: Array) -> None:
            self._launch(name, count, a, b, np.int64(self.size), np.int64(first), np.int64(count), sums)

        return float(self._in_order(run, 1)[0])

    def _in_order(self, run: Any, terms: int) -> FloatArray:
        """Let ``run`` write the sums of tiles and add them tile after tile; wait for the result."""
        totals, tiles = self._xp.zeros(terms), self._tiles(0, self.size)
        for first in range(0, tiles, SUM_TILES):
            count = min(SUM_TILES, tiles - first)
            sums = self._xp.empty((count, terms))
            run(first, count, sums)
            args = (sums, np.int64(count), np.int64(terms), totals)
            self._launch("sum_tiles", -(-terms // THREADS), *args)
        result: FloatArray = self._xp.asnumpy(totals)
        return result

    def norm2(self, u: AnyDirection) -> float:
        """Return the squared norm of the elements of ``u``; remembered for random directions without a mask."""
        remembered = self._norms.get(u) if isinstance(u, Direction) else None
        if remembered is not None:
            return remembered
        value = float(self._sums(self._xp.empty(0), [u], own=True)[0])
        if isinstance(u, Direction) and u.mask is None:
            if len(self._norms) >= checks.CACHED_NORMS:
                self._norms.clear()
            self._norms[u] = value
        return value

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions."""
        return [self.norm2(u) for u in us]


class CupyBackend:
    """The backend ``"cupy"``: needs a CUDA device and the package ``cupy-cuda12x`` or ``cupy-cuda13x``.

    Parameters
    ----------
    xp : module, optional
        CuPy, or a stand-in for tests.

    Raises
    ------
    BackendUnavailable
        There is no CuPy, no driver or no device.
    """

    name = "cupy"
    tile = 1 << 24

    def __init__(self, xp: Any = None) -> None:
        self.xp = _cupy() if xp is None else xp
        self._module = self.xp.RawModule(code=source(), options=OPTIONS)

    def bind(self, seed: int, size: int, arrays: Mapping[str, Array]) -> CupyDirections:
        """Return the directions of ``seed`` in dimension ``size``."""
        return CupyDirections(seed, size, arrays, self.xp, self._module)

    def to_device(self, x: Any) -> Array:
        """Return ``x`` as a device array: CuPy as it is, DLPack without a copy, anything else through NumPy.

        Raises
        ------
        BackendUnavailable
            The device has no room for it.
        """
        if isinstance(x, self.xp.ndarray):
            return x  # type: ignore[no-any-return]
        try:
            if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == 2:  # kDLCUDA
                return self.xp.from_dlpack(x)  # type: ignore[no-any-return]
            return self.xp.asarray(np.asarray(x))  # type: ignore[no-any-return]
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise BackendUnavailable(f"backend='cupy': the device is out of memory: {error}") from error

    def like(self, x: Array, kind: Any) -> Any:
        """Return device array ``x`` as the kind of array that ``kind`` is, without a copy where it can be.

        A NumPy array comes back for NumPy, a tensor on the device for a torch tensor there, and CuPy otherwise.
        """
        if type(kind) is np.ndarray:
            return self.xp.asnumpy(x)
        module = type(kind).__module__.split(".")[0]
        if module == "torch":
            import torch

            return torch.from_dlpack(x)
        return x


def _cupy() -> Any:
    """Import CuPy and look for a device."""
    try:
        import cupy
    except ImportError as error:
        raise BackendUnavailable(
            "backend='cupy' needs CuPy: pip install 'vamo_bbo[cuda12]' or 'vamo_bbo[cuda13]', as your driver has it"
        ) from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(f"backend='cupy' needs a CUDA device and driver: {error}") from error
    if devices < 1:
        raise BackendUnavailable("backend='cupy' needs a CUDA device, and there is none")
    return cupy
