"""A progress line: tqdm or rich where installed, plain text on stderr otherwise."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

__all__ = ["Follow", "following"]

_EVERY = 0.1
"""Seconds between two updates of the plain line."""


class Follow:
    """Update a progress line from callbacks.

    Parameters
    ----------
    line : object with ``show(nfev, nit, fun, n_failed)``, or None
        What is updated; None shows nothing.
    """

    def __init__(self, line: Any) -> None:
        self.line = line

    def __call__(self, callback: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """Return ``callback`` that updates the line first."""
        line = self.line
        if line is None:
            return callback
        named = callback is not None and _wants_result(callback)

        def both(intermediate_result: Any) -> Any:
            r = intermediate_result
            line.show(r.get("nfev_samples", r.get("nfev", 0)), r.get("nit", 0), r.fun, r.get("n_failed", 0))
            if callback is None:
                return None
            return callback(intermediate_result=r) if named else callback(r.x)

        return both

    def watch(self, watched: Any) -> None:
        """Update the line from the counts of a method of scipy."""
        if self.line is not None:
            self.line.show(watched.nfev * watched.cost, watched.nit, watched.best_f, watched.failures.count)


def _wants_result(callback: Callable[..., Any]) -> bool:
    import inspect

    try:
        return set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        return False


@contextmanager
def following(progress: bool | Follow, limits: Mapping[str, Any]) -> Iterator[Follow]:
    """Show a progress line while the context is open, if ``progress``; ``limits["maxfev"]`` is its length.

    A line that is open already, as that of a run in stages, is gone on with.
    """
    if isinstance(progress, Follow):
        yield progress
        return
    if not progress:
        yield Follow(None)
        return
    total = limits.get("maxfev")
    line = _line(None if total is None else int(total))
    try:
        yield Follow(line)
    finally:
        line.close()


def _line(total: int | None) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        pass
    else:
        return _Tqdm(tqdm(total=total, unit="eval", leave=True))
    try:
        from rich.progress import Progress
    except ImportError:
        return _Plain(total)
    return _Rich(Progress(), total)


class _Tqdm:
    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def show(self, nfev: int, nit: int, fun: float, n_failed: int) -> None:
        failed = {"failed": n_failed} if n_failed else {}
        self.bar.set_postfix(nit=nit, fun=f"{fun:.6g}", **failed, refresh=False)
        self.bar.update(nfev - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class _Rich:
    def __init__(self, bars: Any, total: int | None) -> None:
        self.bars = bars
        self.bars.start()
        self.task = bars.add_task("minimize", total=total)
        self.began = perf_counter()

    def show(self, nfev: int, nit: int, fun: float, n_failed: int) -> None:
        rate = f", {nfev / max(perf_counter() - self.began, 1e-9):.3g}/s"  # rich itself shows the ETA
        text = f"nit {nit}, fun {fun:.6g}{rate}{_failed(n_failed)}"
        self.bars.update(self.task, completed=nfev, description=text)

    def close(self) -> None:
        self.bars.stop()


def _failed(count: int) -> str:
    return f", {count} failed" if count else ""


class _Plain:
    """One line on stderr, rewritten at most ten times a second and once at the end."""

    def __init__(self, total: int | None, stream: Any = None, clock: Callable[[], float] = perf_counter) -> None:
        self.total, self.stream, self.clock = total, stream, clock
        self.last = -math.inf
        self.first: tuple[float, int] | None = None  # a resumed run does not begin with evaluation 0
        self.text = ""

    def show(self, nfev: int, nit: int, fun: float, n_failed: int) -> None:
        now = self.clock()
        of = "" if self.total is None else f"/{self.total}"
        text = f"minimize: {nfev}{of} evaluations, step {nit}, fun {fun:.6g}{_failed(n_failed)}"
        text += self._pace(nfev, now)
        self.text = text.ljust(len(self.text))  # a shorter line leaves nothing of the one before
        if now - self.last >= _EVERY:
            self.last = now
            self._write("\r" + self.text)

    def _pace(self, nfev: int, now: float) -> str:
        """Return the rate since the first call, and the time that is left."""
        began, before = self.first = self.first or (now, nfev)
        if now <= began or nfev <= before:
            return ""
        rate = (nfev - before) / (now - began)
        if self.total is None or nfev >= self.total:
            return f", {rate:.3g}/s"
        return f", {rate:.3g}/s, {timedelta(seconds=round((self.total - nfev) / rate))} left"

    def close(self) -> None:
        self._write("\r" + self.text + "\n")

    def _write(self, text: str) -> None:
        stream = sys.stderr if self.stream is None else self.stream
        stream.write(text)
        stream.flush()
