"""Compiled kernels on demand: one float type at a time, kept on disk by numba.

The cache is numba's own: beside the package where that is writable, else in the user's cache directory
(``NUMBA_CACHE_DIR`` overrides both). Without any writable directory, kernels are compiled anew in every process.
"""

# numba has no types.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.core import caching

from vamo_bbo.backends import kernels, kernels_many

__all__ = ["compiled"]

Kernel = Callable[..., int]

njit: Any = numba.njit
SOURCES = ("array_ops", "kernels", "kernels_many", "philox", "vector_ir", "vector_ops")
_N = types.int64
_lock = threading.RLock()
_kernels: dict[tuple[str, str], Kernel] = {}


def _digest() -> str:
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / f"{name}.py").read_bytes() for name in SOURCES)).hexdigest()


class _SourceCache(caching.FunctionCache):
    """Numba's disk cache, keyed by the text of all modules a kernel is made of and not only of its own."""

    digest = _digest()

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), self.digest)


def _read(element: Any, dims: int = 1) -> Any:
    return types.Array(element, dims, "C", readonly=True)


def _write(element: Any, dims: int = 1) -> Any:
    return types.Array(element, dims, "C")


def _signatures(t: Any) -> dict[str, tuple[Any, ...]]:
    """Return the argument types of every kernel for float type ``t``."""
    f, x, out, table = types.float64, _read(t), _write(t), _write(_N, 2)
    return {
        "perturb": (x, out, f, *(_N,) * 9),
        "perturb_pair": (x, out, out, f, *(_N,) * 9),
        "perturb_through": (x, out, f, _N, _N, _N, table, _N),
        "fill": (out, _N, _N, _N, table, _N),
        "perturb_rows": (x, _write(t, 2), _read(f), _N, table, _N),
        "accumulate": (out, _N, _N, _N, _N, _read(f), table, _read(f), _read(_N)),
        "place": (x, x, _N),
        "dot_tiles": (x, x, _N, _write(f)),
        "project_tiles": (x, _N, _N, table, types.boolean, _N, _write(f, 2)),
        "sum_tiles": (_read(f, 2), _write(f)),
    }


def compiled(name: str, dtype: str) -> Kernel:
    """Return kernel ``name`` for ``dtype`` ("float32" or "float64"), compiled on first use.

    Examples
    --------
    >>> import numpy as np
    >>> totals = np.zeros(2)
    >>> compiled("sum_tiles", "float64")(np.ones((3, 2)), totals), totals.tolist()
    (0, [3.0, 3.0])
    """
    key = (name, dtype)
    if key not in _kernels:
        with _lock:
            if key not in _kernels:
                _kernels[key] = _compile(name, _signatures(getattr(types, dtype))[name])
    return _kernels[key]


def _compile(name: str, signature: tuple[Any, ...]) -> Kernel:
    python = getattr(kernels, name, None) or getattr(kernels_many, name)
    kernel = njit(nogil=True, error_model="numpy", boundscheck=False)(python)
    try:
        kernel._cache = _SourceCache(python)
    except RuntimeError as error:  # no directory is writable
        if "cache" not in str(error):
            raise
    kernel.compile(types.int64(*signature))
    kernel.disable_compile()  # other argument types are errors, not reasons to compile
    result: Kernel = kernel
    return result
