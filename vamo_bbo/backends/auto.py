"""The default backend: NumPy while the work is small, the compiled kernels from then on.

Importing numba and loading kernels costs about half a second (several, when they must be compiled first), which a
short run at a small dimension never earns back. Both backends give the same bits, so a run may change over at any
call: it does when what the reference has done so far, in all runs of the process, would have paid for loading the
kernels, or at once where the process has loaded them already or the vectors are long. The rule counts work, not time.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from vamo_bbo._typing import AnyDirection, Array, FloatArray
from vamo_bbo.backends.reference import Range, ReferenceDirections
from vamo_bbo.backends.rows import RowDirections

__all__ = ["AutoBackend", "AutoDirections"]

CALL_COST, ELEMENT_COST = 6e-6, 3e-8
"""Seconds that NumPy takes per direction and per element of a direction, roughly."""
PATIENCE = 0.5
"""Seconds of such work after which the kernels are loaded: about what loading them costs."""
LARGE = 1 << 17
"""From this dimension on the kernels are loaded at once: the reference would hold several vectors of its own."""
ROWS = 2048
"""Up to this dimension rows are generated ahead until the kernels are loaded."""
_OPERATIONS = (
    "words", "support", "fill", "perturb", "perturb_pair", "perturb_rows", "accumulate", "project", "dot", "norm2",
    "norms2",
)  # fmt: skip


class AutoDirections:
    """Directions that begin on the reference and change to the compiled kernels when these pay.

    Parameters
    ----------
    seed, size, arrays
        As for :class:`~vamo_bbo.backends.reference.ReferenceDirections`.
    threads : int or None
        As for :class:`~vamo_bbo.backends.numba_cpu.NumbaBackend`.

    Examples
    --------
    >>> from vamo_bbo._typing import Direction, Law
    >>> directions = AutoDirections(7, 4, {})
    >>> directions.norm2(Direction(Law.RADEMACHER, 0, 0, 1))
    4.0
    """

    spent: ClassVar[float] = 0.0
    """Seconds of work, by the estimate above, of all runs of this process."""

    def __init__(self, seed: int, size: int, arrays: Mapping[str, Array], threads: int | None = None) -> None:
        self._reference = (RowDirections if size <= ROWS else ReferenceDirections)(seed, size, arrays)
        self.seed = seed
        self.size = size
        self._arrays = arrays
        self._threads = threads
        if "vamo_bbo.backends.numba_cpu" in sys.modules:
            self._load()

    def _load(self) -> None:
        from vamo_bbo.backends.numba_cpu import NumbaBackend

        compiled = NumbaBackend(self._threads).bind(self.seed, self.size, self._arrays)
        for name in _OPERATIONS:
            setattr(self, name, getattr(compiled, name))

    def _work(self, directions: int, elements: int) -> Any:
        """Count a piece of work and return who does it."""
        AutoDirections.spent += directions * (CALL_COST + elements * ELEMENT_COST)
        if AutoDirections.spent < PATIENCE and self.size < LARGE:
            return self._reference
        self._load()
        return self

    def words(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the random words behind coordinates lo..hi."""
        return self._reference.words(u, lo, hi)

    def support(self, u: AnyDirection, lo: int, hi: int) -> list[Range]:
        """Return the ranges of coordinates in lo..hi that ``u`` touches, ascending and not empty."""
        return self._reference.support(u, lo, hi)

    def fill(self, u: AnyDirection, lo: int, hi: int, out: Array) -> None:
        """Write the elements of ``u`` to ``out``, zeros outside its support."""
        self._work(1, hi - lo).fill(u, lo, hi, out)

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out``, which is ``x`` itself or does not overlap it."""
        self._work(1, hi - lo).perturb(x, u, h, lo, hi, out)

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``; neither overlaps another array."""
        self._work(2, hi - lo).perturb_pair(x, u, h, lo, hi, plus, minus)

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (len(us), d)."""
        self._work(len(us), self.size).perturb_rows(x, us, hs, out)

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``: the sum first, from 0, in this order."""
        self._work(len(terms) + 1, hi - lo).accumulate(terms, dense, lo, hi, out)

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction, over its support only."""
        result: FloatArray = self._work(len(us), self.size).project(g, us)
        return result

    def dot(self, a: Array, b: Array) -> float:
        """Return ``<a, b>`` of two full vectors."""
        return float(self._work(1, self.size // 8).dot(a, b))

    def norm2(self, u: AnyDirection) -> float:
        """Return the squared norm of the elements of ``u``."""
        return float(self._work(1, self.size).norm2(u))

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions."""
        norms: list[float] = self._work(len(us), self.size).norms2(us)
        return norms


class AutoBackend:
    """The backend ``"auto"``.

    Parameters
    ----------
    threads : int or None
        Threads of large operations once they are compiled; None takes as many as the process may run on.
    """

    name = "auto"
    xp: Any = np
    tile = 1 << 17

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def bind(self, seed: int, size: int, arrays: Mapping[str, Array]) -> AutoDirections:
        """Return the directions of ``seed`` in dimension ``size``."""
        return AutoDirections(seed, size, arrays, self.threads)
