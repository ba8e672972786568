"""Backends turn the name of a direction into numbers; they know arrays and nothing about optimization.

Three backends give the same directions, bit for bit: ``"numpy"`` (the slow and obvious definition in
:mod:`vamo_bbo.backends.reference`), ``"numba"`` (compiled CPU kernels) and ``"cupy"`` (CUDA kernels).
None is imported before :func:`get` is asked for it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vamo_bbo._errors import OptionError, close_matches
from vamo_bbo._typing import AnyDirection, Array, FloatArray

__all__ = ["BACKENDS", "Backend", "Directions", "check_name", "get", "namespace", "on_device", "to_device", "to_host"]

BACKENDS = ("auto", "numpy", "numba", "cupy")

CUDA = 2
"""DLPack's number of CUDA devices (kDLCUDA)."""


class Directions(Protocol):
    """A backend bound to a seed, a dimension and the named state arrays.

    Tile arguments: ``lo`` and ``hi`` are coordinates of the full vector, 0 <= lo <= hi <= d; the tile
    arrays ``x`` and ``out`` hold just the coordinates lo..hi, so their length is ``hi - lo``. Every result
    is independent of how a vector is cut into tiles and of the number of threads.
    """

    size: int

    def support(self, u: AnyDirection, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return the ranges of coordinates in lo..hi that ``u`` touches, ascending and not empty."""
        ...

    def words(self, u: AnyDirection, lo: int, hi: int) -> Array:
        """Return the uint32 random words behind coordinates lo..hi (golden-tested)."""
        ...

    def fill(self, u: AnyDirection, lo: int, hi: int, out: Array) -> None:
        """Write the raw elements of ``u`` to ``out``."""
        ...

    def perturb(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, out: Array) -> None:
        """Write ``x + h * u`` to ``out`` in one pass; ``h`` is rounded to the dtype of ``x`` first."""
        ...

    def perturb_pair(self, x: Array, u: AnyDirection, h: float, lo: int, hi: int, plus: Array, minus: Array) -> None:
        """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus`` in one pass."""
        ...

    def perturb_rows(self, x: Array, us: Sequence[AnyDirection], hs: Sequence[float], out: Array) -> None:
        """Write ``x + hs[k] * us[k]`` to row k of ``out``, shape (k, d): many probes of a small x."""
        ...

    def accumulate(
        self,
        terms: Sequence[tuple[float, AnyDirection]],
        dense: Sequence[tuple[float, Array]],
        lo: int,
        hi: int,
        out: Array,
    ) -> None:
        """Add ``sum_k a_k g_k[lo:hi] + sum_j c_j u_j`` to ``out``, in the order given, in one pass.

        The sum is formed first, in the dtype of ``out`` (coefficients rounded to it), then added. The
        ``g_k`` are full vectors.
        """
        ...

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for every direction: 64 float64 lanes per 2048 elements, tiles in order."""
        ...

    def dot(self, a: Array, b: Array) -> float:
        """Return ``<a, b>`` of two full vectors with the reduction order of :meth:`project`."""
        ...

    def norm2(self, u: AnyDirection) -> float:
        """Return the squared norm of the raw elements of ``u``; computed once per direction."""
        ...

    def norms2(self, us: Sequence[AnyDirection]) -> list[float]:
        """Return the squared norms of several directions."""
        ...


class Backend(Protocol):
    """A source of directions."""

    name: str
    xp: Any
    """The array namespace (numpy or cupy)."""
    tile: int
    """Preferred tile length of elementwise passes."""

    def bind(self, seed: int, size: int, arrays: Mapping[str, Array]) -> Directions:
        """Return the directions of a 64-bit seed in dimension ``size``; ``arrays`` holds rows and masks."""
        ...


def get(name: str = "auto") -> Backend:
    """Return the backend called ``name``: the same object every time.

    Parameters
    ----------
    name : {"auto", "numpy", "numba", "cupy"}
        "auto" is numba, entered through the NumPy reference while the work is too small for a compiled call
        to pay; the bits are the same.

    Raises
    ------
    OptionError
        The name is not a backend's.
    BackendUnavailable
        The backend cannot run here, such as cupy without a GPU.

    Examples
    --------
    >>> get("numpy").name
    'numpy'
    """
    check_name(name)
    return _made(name)


def check_name(name: str) -> None:
    """Raise unless ``name`` is a backend's."""
    if name not in BACKENDS:
        hint = close_matches(name, BACKENDS) if isinstance(name, str) else ""
        raise OptionError(f"backend={name!r}: allowed are {', '.join(BACKENDS)}{hint}")


@functools.cache
def _made(name: str) -> Backend:
    """Make a backend once: compiled code and settings are the process's."""
    if name == "cupy":
        from vamo_bbo.backends.cupy_gpu import CupyBackend

        return CupyBackend()
    if name == "numpy":
        from vamo_bbo.backends.reference import ReferenceBackend

        return ReferenceBackend()
    if name == "numba":
        from vamo_bbo.backends.numba_cpu import NumbaBackend

        return NumbaBackend()
    from vamo_bbo.backends.auto import AutoBackend

    return AutoBackend()


def on_device(x: Any) -> bool:
    """Return whether ``x`` is an array on a CUDA device.

    Examples
    --------
    >>> import numpy as np
    >>> on_device(np.zeros(3)), on_device([0.0])
    (False, False)
    """
    if type(x) is np.ndarray:
        return False
    where = getattr(x, "__dlpack_device__", None)
    return where is not None and where()[0] == CUDA


def to_device(x: Any) -> Array:
    """Return ``x`` as a CuPy array, sharing its memory if it is on the device."""
    backend: Any = get("cupy")
    device: Array = backend.to_device(x)
    return device


def to_host(x: Any) -> Array:
    """Return ``x`` as a NumPy array; from a device it is copied, which waits for it."""
    if not on_device(x):
        return np.asarray(x.detach() if hasattr(x, "detach") else x)  # a tensor that records gradients refuses
    backend: Any = get("cupy")
    host: Array = backend.xp.asnumpy(backend.to_device(x))
    return host


def namespace(x: Any) -> Any:
    """Return the array namespace of ``x``: NumPy, or CuPy for what is on the device."""
    return get("cupy").xp if on_device(x) else np
