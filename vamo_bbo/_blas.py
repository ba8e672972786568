"""Dense linear algebra of small problems on one thread.

The wheels of NumPy and SciPy bring OpenBLAS, which splits an ``eigh`` or a ``qr`` from about 40 rows on among as many
threads as there are cores. That saves nothing; and where the cores are busy, with the workers that evaluate the
objective for instance, the threads wait for each other: four to ten times as long (``benchmarks/busy_cores.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["one_thread"]


class _Threads(NamedTuple):
    """The number of threads of a library."""

    get: Callable[[], int]
    set: Callable[[int], object]


_SYMBOLS = {"numpy": "scipy_openblas_{}_num_threads64_", "scipy": "scipy_openblas_{}_num_threads"}
_lock = threading.Lock()
_within = 0
_usual: list[tuple[_Threads, int]] = []


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run the linear algebra of NumPy and SciPy on one thread; a context, or a decorator.

    The number of threads belongs to the process: its other threads are limited as long, and the last one that leaves
    restores the number. Another BLAS than the OpenBLAS of the wheels is left as it is.
    """
    global _within, _usual
    with _lock:
        _within += 1
        if _within == 1:
            _usual = [(threads, threads.get()) for threads in _loaded()]
            for threads, _ in _usual:
                threads.set(1)
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                for threads, number in _usual:
                    threads.set(number)


def _loaded() -> list[_Threads]:
    names = ("numpy", "scipy") if "scipy.linalg" in sys.modules else ("numpy",)
    return [threads for name in names if (threads := _threads_of(name)) is not None]


@functools.cache
def _threads_of(package: str) -> _Threads | None:
    """Return the two functions of the OpenBLAS that a package has brought and loaded, None where there is none."""
    home = Path(str(sys.modules[package].__file__)).parent
    for path in sorted([*home.parent.glob(f"{package}.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            get, put = (getattr(library, _SYMBOLS[package].format(verb)) for verb in ("get", "set"))
            return _Threads(get, put)
    return None
