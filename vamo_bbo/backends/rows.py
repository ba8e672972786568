"""Directions of small vectors: NumPy on rows that are generated ahead.

A call of NumPy costs as much for one direction at d = 10 as for a hundred. Whoever asks for the directions of one step
after those of another will ask for the next ones too: they are generated together, and an operation on several
directions is one operation on the matrix of their rows. The numbers are those of the reference, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vamo_bbo._typing import AnyDirection, Array, Direction, FloatArray, Law
from vamo_bbo.backends import checks, layout
from vamo_bbo.backends.reference import ReferenceDirections

__all__ = ["RowDirections"]

AHEAD, ELEMENTS = 256, 1 << 15
"""Rows, and elements of them, that are generated together at most: it takes twice as long as for a single row."""
GROWTH = 16
"""A window has at most this many times the steps that were asked for of the one before: few rows are made in vain."""
STREAMS = 16
"""Streams whose windows are kept."""
_DENSE = (Law.RADEMACHER, Law.NORMAL, Law.SPHERE)
_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


class _Window:
    """The rows of one stream for consecutive steps, all directions of a step together."""

    __slots__ = ("latest", "norms", "rows", "start", "stop", "used", "wide")

    def __init__(self, seed: int, first: Direction, steps: int, size: int) -> None:
        self.start = first.step
        self.stop = self.start + steps
        self.latest, self.used = self.start, 1
        """The step that was last asked for, and how many were."""
        self.rows = layout.elements(seed, layout.consecutive(first, steps), 0, size)
        """Shape (directions of all steps, d)."""
        self.wide: FloatArray = self.rows.astype(np.float64)
        self.norms: list[float] = _sums(self.wide * self.wide).tolist() if first.law == Law.SPHERE else []
        """Squared norms, where estimators ask for them."""


class RowDirections(ReferenceDirections):
    """The directions of one seed and a small dimension (at most 2048).

    Parameters
    ----------
    seed, size, arrays
        As for :class:`~vamo_bbo.backends.reference.ReferenceDirections`.

    Examples
    --------
    >>> directions = RowDirections(7, 4, {})
    >>> out = np.empty((2, 4))
    >>> us = [Direction(Law.RADEMACHER, 0, j, 2) for j in range(2)]
    >>> directions.perturb_rows(np.zeros(4), us, [0.5, 0.25], out)
    >>> np.abs(out).tolist()
    [[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]]
    """

    def __init__(self, seed: int, size: int, arrays: Mapping[str, Array]) -> None:
        super().__init__(seed, size, arrays)
        self._windows: dict[tuple[int, int, int, int], _Window] = {}
        self._shape = (size,)
        self._seen: Array | None = None
        self._last: tuple[Sequence[AnyDirection], Any, Array | None] = ([], None, None)
        self._last_row: tuple[AnyDirection | None, Any, Array | None] = (None, None, None)

    def _window(self, u: AnyDirection) -> _Window | None:
        """Return the window with the rows of the step of ``u``; None if ``u`` is not simply random on all of x."""
        if type(u) is not Direction or u[5] is not None:
            return None
        law, step, index, count, tag, _ = u
        key = (law, count, tag, index // count if count else 0)
        window = self._windows.get(key)
        if window is None or not window.start <= step < window.stop:
            checks.check_direction(u, self.size)
            most = min(AHEAD, ELEMENTS // self.size) // count if count and law in _DENSE else 0
            if not most or (key[3] + 1) * count > 1 << 32:
                return None
            steps = 1 if window is None else max(1, min(GROWTH * window.used, most, (1 << 48) - step))
            self._windows.pop(key, None)
            if len(self._windows) >= STREAMS:
                del self._windows[next(iter(self._windows))]
            first = Direction(law, step, key[3] * count, count, tag)
            window = self._windows[key] = _Window(self.seed, first, steps, self.size)
        elif step != window.latest:
            window.latest = step
            window.used += 1
        return window

    def _runs(self, us: Sequence[AnyDirection]) -> list[tuple[_Window, int, int]] | None:
        """Return the windows with the rows of ``us``, and where these begin and end; None as for :meth:`_window`."""
        runs: list[tuple[_Window, int, int]] = []
        start = 0
        while start < len(us):
            u = us[start]
            window = self._window(u)
            if window is None:
                return None
            law, step, index, count, tag, _ = u  # type: ignore[misc]
            most, k = min(count - index % count, len(us) - start), 1
            while k < most and us[start + k] == (law, step, index + k, count, tag, None):
                k += 1
            place = (step - window.start) * count + index % count
            runs.append((window, place, place + k))
            start += k
        return runs

    def _matrix(self, us: Sequence[AnyDirection], dtype: Any) -> Array | None:
        """Return the rows of ``us`` as a matrix of ``dtype``; None as for :meth:`_window`."""
        names, kind, matrix = self._last
        if kind is dtype and us == names:  # the probes of a step, then its update
            return matrix
        runs = self._runs(us)
        if runs is None:
            return None
        parts = [(window.wide if dtype is _F64 else window.rows)[a:b] for window, a, b in runs]
        matrix = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._last = (list(us), dtype, matrix)
        return matrix

    def _row(self, u: AnyDirection, dtype: Any) -> Array | None:
        """Return the row of ``u`` in ``dtype``; None as for :meth:`_window`."""
        if self._last_row[0] is u and self._last_row[1] is dtype:
            return self._last_row[2]
        window = self._window(u)
        if window is None:
            return None
        _, step, index, count, _, _ = u  # type: ignore[misc]
        rows = window.wide if dtype is _F64 else window.rows
        row: Array = rows[(step - window.start) * count + index % count]
        self._last_row = (u, dtype, row)
        return row

    def _keep(self, us: Sequence[Direction]) -> None:
        """Generate the rows that are not there yet."""
        super()._keep([u for u in us if self._window(u) is None])

    def _kept(self, u: Direction) -> Array:
        row = self._row(u, _F32)
        return super()._kept(u) if row is None else row

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions."""
        runs = self._runs(us) if us and us[0][0] == Law.SPHERE else None
        if runs is None or not all(window.norms for window, _, _ in runs):
            return super().norms2(us)
        norms: list[float] = []
        for window, a, b in runs:
            norms += window.norms[a:b]
        return norms

    def _takes(self, x: Any, out: Any, shape: tuple[int, ...]) -> Any:
        """Return the dtype if ``x`` may be read and ``out``, of ``shape``, written as they are, else None."""
        try:
            dtype = out.dtype
            if x is not self._seen:  # the iterate is the same array in every step
                if (x.dtype is not _F64 and x.dtype is not _F32) or x.shape != self._shape or not x.flags.c_contiguous:
                    return None
                self._seen = x
            if x.dtype is not dtype:
                return None
            flags = out.flags
            if out is not x:
                apart = out.shape == shape and flags.c_contiguous and not np.may_share_memory(x, out)
                return dtype if apart and flags.writeable else None
            return dtype if flags.writeable else None
        except AttributeError:
            return None

    def _owns(self, g: Any) -> bool:
        """Return whether ``g`` is a vector as it should be, in memory of its own; what is not is looked at closely."""
        good = type(g) is np.ndarray and g.base is None and g.shape == self._shape
        return good and (g.dtype is _F64 or g.dtype is _F32) and g.flags.c_contiguous

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        dtype = self._takes(x, out, self._shape) if lo == 0 and hi == self.size else None
        if dtype is not None and (row := self._row(u, dtype)) is not None:
            np.add(x, row * dtype.type(h), out)
            return None
        return super().perturb(x, u, h, lo, hi, out)

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        whole = lo == 0 and hi == self.size and x is not plus and x is not minus
        dtype = self._takes(x, plus, self._shape) if whole else None
        apart = (
            dtype is not None and self._takes(x, minus, self._shape) is dtype and not np.may_share_memory(plus, minus)
        )
        if apart and (row := self._row(u, dtype)) is not None:
            step = row * dtype.type(h)  # type: ignore[union-attr]
            np.add(x, step, plus)
            np.subtract(x, step, minus)
            return None
        return super().perturb_pair(x, u, h, lo, hi, plus, minus)

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
        if len(us) != len(hs) or x is out or self._takes(x, out, (len(us), self.size)) is None:
            checks.check_rows(x, us, hs, out, self.size)
        matrix = self._matrix(us, x.dtype) if us else None
        if matrix is None:
            return super().perturb_rows(x, us, hs, out)
        np.multiply(matrix, np.array(hs, dtype=x.dtype)[:, None], out)
        np.add(out, x, out)
        return None

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``: the sum first, from 0, in this order."""
        known = out is self._seen and lo == 0 and hi == self.size
        for _, g in dense:  # arrays that own their memory do not overlap
            known = known and self._owns(g) and g.dtype is out.dtype and g is not out and out.base is None
        if not known:
            checks.check_accumulate(dense, lo, hi, out, self.size)
        # Along a single column NumPy would not add one row after the other.
        matrix = self._matrix([u for _, u in terms], out.dtype) if terms and 1 < self.size == hi - lo else None
        if matrix is None:
            return super().accumulate(terms, dense, lo, hi, out)
        dtype = out.dtype
        parts = np.empty((len(terms) + 1, self.size), dtype)
        total = parts[0]
        total[...] = 0
        for a, g in dense:
            total += dtype.type(a) * g
        np.multiply(matrix, np.array([c for c, _ in terms], dtype=dtype)[:, None], parts[1:])
        out += np.add.reduce(parts, axis=0)
        return None

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        if not self._owns(g):
            checks.check_vector("g", g, self.size)
        us = list(us)  # as the names of the last matrix are kept
        matrix = self._matrix(us, _F64) if us else None
        return super().project(g, us) if matrix is None else _sums(matrix * g)


def _sums(products: FloatArray) -> FloatArray:
    """Return the sum of every row of at most 2048 products, in the order the ABI fixes."""
    count, size = products.shape
    if size > layout.LANES:
        lanes = np.zeros((count, layout.LANES))
        for start in range(0, size, layout.LANES):
            part = products[:, start : start + layout.LANES]
            lanes[:, : part.shape[1]] += part
        size = layout.LANES
    else:
        lanes = products
    lanes = lanes.T.copy()  # each addition then runs over neighbours
    width = 1 << (size - 1).bit_length()
    while width > 1:
        width //= 2
        lanes[: size - width] += lanes[width:size]  # lanes that are missing would only add 0
        size = width
    sums: FloatArray = lanes[0] + 0.0
    return sums
