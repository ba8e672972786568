"""A whole zeroth-order run at d = 100,000,000: peak memory, and time per step against passes over memory.

Run it with ``python benchmarks/large.py`` (Linux, 2 GB of memory, about two minutes). The objective is a sum of squares
in numba that reads its argument once and allocates nothing. A step of ZO-SGD with q forward differences forms q + 1
points and updates x: q + 2 passes, each of which reads and writes d numbers at least once. The yardstick is that many
passes ``x += m`` of numba in the same process, between the steps; the objective's own time is taken off.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import vamo_bbo as vb  # noqa: E402


@numba.njit(fastmath=True, nogil=True)
def squares(x: Any) -> float:
    """Return the sum of squares, in float64 partial sums."""
    total = 0.0
    for lo in range(0, x.size, 4096):
        part = np.float32(0.0)
        for k in range(lo, min(lo + 4096, x.size)):
            part += x[k] * x[k]
        total += part
    return total


@numba.njit(nogil=True)
def shift(x: Any, m: Any) -> None:
    """Read and write x once."""
    for k in range(x.size):
        x[k] += m


def status() -> tuple[int, int]:
    """Return the peak and the present size of the resident set, in bytes."""
    with open("/proc/self/status") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return 1024 * int(fields["VmHWM"].split()[0]), 1024 * int(fields["VmRSS"].split()[0])


class Watch:
    """The objective; between the steps, out of the optimizer's time, also the yardstick."""

    def __init__(self, yard: Any, calls: int) -> None:
        self.yard, self.calls, self.count = yard, calls, 0
        self.gaps: list[float] = []
        self.passes: list[float] = []
        self.left = time.perf_counter()

    def __call__(self, x: Any) -> float:
        """Return the value at x; what passes between two calls is the optimizer's."""
        self.gaps.append(time.perf_counter() - self.left)
        self.count += 1
        if self.count % self.calls == 0:
            for sign in (1.0, -1.0):
                began = time.perf_counter()
                shift(self.yard, np.float32(sign))
                self.passes.append(time.perf_counter() - began)
        value = squares(x)
        self.left = time.perf_counter()
        return float(value)

    @property
    def steps(self) -> list[float]:
        """Seconds of the optimizer per step; the first, which also forms x, left out."""
        return [sum(self.gaps[k + 1 : k + 1 + self.calls]) for k in range(0, len(self.gaps) - self.calls, self.calls)][
            1:
        ]


def run(x0: Any, q: int, steps: int, law: str) -> Watch:
    """Run ZO-SGD and return what was measured."""
    watch = Watch(x0, q + 1)
    solver = vb.zo_sgd(1e-9, n_directions=q, smoothing=1e-2, law=law)
    result = vb.minimize(watch, x0, method=solver, rng=0, backend="numba", options={"maxiter": steps})
    assert result.nit == steps, result.message
    return watch


def measure(size: int, q: int, steps: int, law: str) -> None:
    """Print one line: vectors at the peak, seconds per step, passes."""
    run(np.ones(300_000, dtype=np.float32), q, 1, law)  # compile
    x0 = np.ones(size, dtype=np.float32)
    squares(x0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status()[1]
    watch = run(x0, q, steps, law)
    vectors = (status()[0] - before) / x0.nbytes
    step, once = statistics.median(watch.steps), statistics.median(watch.passes)
    print(
        f"  {law:11} {vectors:8.2f} {step:11.3f} s {once:11.4f} s {step / ((q + 2) * once):10.2f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, each row from a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000_000)
    parser.add_argument("--directions", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--law", default=None, help="measure this law only, in this process")
    args = parser.parse_args(arguments)
    if args.law is not None:
        measure(args.size, args.directions, args.steps, args.law)
        return
    print(f"zo-sgd, d = {args.size:,}, float32, {args.directions} directions, {args.directions + 2} passes per step")
    print("  law          vectors   per step     one pass      step / passes", flush=True)
    for law in ("rademacher", "normal", "block"):
        options = ["--law", law, *(f"--{n}={getattr(args, n)}" for n in ("size", "directions", "steps"))]
        subprocess.run([sys.executable, __file__, *options], check=True)


if __name__ == "__main__":
    main()
