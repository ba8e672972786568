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

AHEAD = 256
"""Rows that are generated together, once a second step has asked for its own: generating one takes half as long."""
KEPT = 1024
"""Rows after which those that are not in use are forgotten."""
_DENSE = (Law.RADEMACHER, Law.NORMAL, Law.SPHERE)
_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


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
        self._wide: dict[AnyDirection, FloatArray] = {}
        self._shape = (size,)
        self._last: tuple[Sequence[AnyDirection], Any, Array | None] = ([], None, None)

    def _keep(self, us: Sequence[Direction]) -> None:
        """Generate the rows that are not there yet, and those that the next steps will ask for."""
        missing = [u for u in dict.fromkeys(us) if u not in self._rows]
        if not missing:
            return
        if len(self._rows) + len(missing) > KEPT:
            self._rows = {u: self._rows[u] for u in us if u in self._rows}
            self._wide = {u: self._wide[u] for u in self._rows}
        names = list(missing)
        if len({u.step for u in missing}) == 1 and missing[0]._replace(step=missing[0].step - 1) in self._rows:
            last = min(missing[0].step + AHEAD // len(missing), 1 << 48)
            for step in range(missing[0].step + 1, last):
                for law, _, index, count, tag, _ in missing:
                    names.append(tuple.__new__(Direction, (law, step, index, count, tag, None)))
        for law in {u.law for u in names}:
            group = [u for u in names if u.law == law]
            rows = layout.elements(self.seed, group, 0, self.size)
            wide = rows.astype(np.float64)
            self._rows.update(zip(group, rows, strict=True))
            self._wide.update(zip(group, wide, strict=True))
            if law == Law.SPHERE:
                if len(self._norms) >= checks.CACHED_NORMS:
                    self._norms.clear()
                self._norms.update(zip(group, _sums(wide * wide), strict=True))

    def _matrix(self, us: Sequence[AnyDirection], dtype: Any) -> Array | None:
        """Return the rows of ``us`` as a matrix of ``dtype``; None if one of them is not simply random on all of x."""
        names, kind, matrix = self._last
        if kind is dtype and us == names:  # the probes of a step, then its update
            return matrix
        found: Any = self._wide if dtype is _F64 else self._rows
        try:
            rows = [found[u] for u in us]
        except (KeyError, TypeError):
            for u in us:
                checks.check_direction(u, self.size)
                if not isinstance(u, Direction) or u.mask is not None or u.law not in _DENSE:
                    return None
            self._keep(us)  # type: ignore[arg-type]
            found = self._wide if dtype is _F64 else self._rows
            rows = [found[u] for u in us]
        matrix = np.array(rows)
        self._last = (list(us), dtype, matrix)
        return matrix

    def _row(self, u: AnyDirection, dtype: Any) -> Array | None:
        row: Array | None = (self._wide if dtype is _F64 else self._rows).get(u)  # type: ignore[arg-type]
        if row is None and (matrix := self._matrix([u], dtype)) is not None:
            row = matrix[0]
        return row

    def _takes(self, x: Any, out: Any) -> Any:
        """Return the dtype if ``x`` may be read and ``out`` written without further questions, else None."""
        try:
            dtype, flags = out.dtype, out.flags
            known = (dtype is _F64 or dtype is _F32) and x.dtype is dtype and x.shape == self._shape == out.shape
            whole = known and flags.writeable and flags.c_contiguous and x.flags.c_contiguous
            return dtype if whole and (out is x or not np.may_share_memory(x, out)) else None
        except AttributeError:
            return None

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        dtype = self._takes(x, out) if lo == 0 and hi == self.size else None
        if dtype is not None and (row := self._row(u, dtype)) is not None:
            np.add(x, row * dtype.type(h), out)
            return None
        return super().perturb(x, u, h, lo, hi, out)

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        dtype = self._takes(x, plus) if lo == 0 and hi == self.size and x is not plus and x is not minus else None
        apart = dtype is not None and self._takes(x, minus) is dtype and not np.may_share_memory(plus, minus)
        if apart and (row := self._row(u, dtype)) is not None:
            step = row * dtype.type(h)  # type: ignore[union-attr]
            np.add(x, step, plus)
            np.subtract(x, step, minus)
            return None
        return super().perturb_pair(x, u, h, lo, hi, plus, minus)

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
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
        checks.check_accumulate(dense, lo, hi, out, self.size)
        # Along a single column NumPy would not add one row after the other.
        matrix = self._matrix([u for _, u in terms], out.dtype) if terms and 1 < self.size == hi - lo else None
        if matrix is None:
            return super().accumulate(terms, dense, lo, hi, out)
        dtype = out.dtype
        parts = matrix * np.array([c for c, _ in terms], dtype=dtype)[:, None]
        if dense:
            total = np.zeros_like(out)
            for a, g in dense:
                total += dtype.type(a) * g
            for part in parts:
                total += part
            out += total
        else:
            out += np.add.reduce(parts, axis=0, initial=0.0)
        return None

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        checks.check_vector("g", g, self.size)
        matrix = self._matrix(us, _F64) if us else None
        return super().project(g, us) if matrix is None else np.array(_sums(matrix * g))


def _sums(products: FloatArray) -> list[float]:
    """Return the sum of every row of at most 2048 products, in the order the ABI fixes."""
    count, size = products.shape
    if size > layout.LANES:
        lanes = np.zeros((count, layout.LANES))
        for start in range(0, size, layout.LANES):
            part = products[:, start : start + layout.LANES]
            lanes[:, : part.shape[1]] += part
    else:  # lanes beyond the first power of two only add 0
        lanes = np.zeros((count, 1 << (size - 1).bit_length()))
        lanes[:, :size] += products
    width = lanes.shape[1]
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width:]
    sums: list[float] = (lanes[:, 0] + 0.0).tolist()
    return sums
