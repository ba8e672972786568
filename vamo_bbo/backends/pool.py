"""A small thread pool for kernels that release the GIL.

Work is cut into fixed pieces that the threads take in turn, the calling thread among them. No OpenMP: its spinning
threads cost milliseconds per call on a shared machine, and it does not survive a fork.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Pool"]

PIECES = 6
"""Pieces per thread: enough to balance threads that other programs disturb, few enough to hide the hand-over."""

_executors: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _executor(helpers: int) -> ThreadPoolExecutor:
    """Return the process's executor with this many threads; a forked child makes its own."""
    key = (os.getpid(), helpers)
    if key not in _executors:
        _executors[key] = ThreadPoolExecutor(helpers, thread_name_prefix="vamo_bbo")
    return _executors[key]


class Pool:
    """Runs a function over ranges of coordinates on several threads.

    Parameters
    ----------
    threads : int
        Number of threads, the calling one included.

    Examples
    --------
    >>> seen = []
    >>> Pool(2).over(0, 50, 10, lambda a, b: seen.append((a, b)))
    >>> sorted(seen)
    [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def over(self, lo: int, hi: int, unit: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(a, b)`` for pieces of lo..hi that end at multiples of ``unit``; raise what it raises."""
        piece = -(-(hi - lo) // (PIECES * self.threads * unit)) * unit
        starts = [lo, *range(lo // piece * piece + piece, hi, piece)]
        turn = itertools.count()

        def run() -> None:
            while (k := next(turn)) < len(starts):
                work(starts[k], starts[k + 1] if k + 1 < len(starts) else hi)

        helpers = min(self.threads, len(starts)) - 1
        others = [_executor(self.threads - 1).submit(run) for _ in range(helpers)]
        run()
        for other in others:
            if not other.cancel():  # one that never woke up has nothing left to do
                other.result()
