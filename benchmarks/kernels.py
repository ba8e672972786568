"""Speed of the sampling kernels against numpy, torch's MeZO loop and the memory bus, in one process.

Run from the root of the repository::

    python benchmarks/kernels.py                 # the table of docs/benchmarks/kernels.rst, about five minutes
    python benchmarks/kernels.py --d 1000000     # smaller vectors
    python benchmarks/kernels.py --gpu           # the device instead: see kernels_gpu.py

Everything is measured in interleaved rounds; a figure is the median over rounds, or the median of the ratios of a
round; beside it stand the best times, which other tenants of the machine disturb least. Rows with one thread count the
processor time of that thread; rows with two threads and absolute times are wall-clock times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from vamo_bbo import BackendUnavailable
from vamo_bbo._typing import Direction, Law
from vamo_bbo.backends.numba_cpu import NumbaDirections

Work = Callable[[], object]
F32 = np.float32
SEED = 2026


@numba.njit("void(float32[::1], float32[::1], float32)", nogil=True, cache=True)
def stream(x: Any, y: Any, m: Any) -> None:
    """Write ``x + m`` to ``y``: eight bytes per element, what the memory bus allows."""
    for i in range(x.size):
        y[i] = x[i] + m


@numba.njit("void(float32[::1], float32)", nogil=True, cache=True)
def stream_in_place(x: Any, m: Any) -> None:
    """Add ``m`` to ``x``."""
    for i in range(x.size):
        x[i] += m


def in_two(work: Callable[[slice], None], d: int) -> None:
    """Do two halves at once."""
    half = d // 2 // 64 * 64
    other = threading.Thread(target=work, args=(slice(half, d),))
    other.start()
    work(slice(0, half))
    other.join()


def measure(works: dict[str, Work], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Return the times of every work, interleaved; one untimed round goes first."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for k in range(rounds + 1):
        for name, work in works.items():
            start = clock()
            work()
            if k:
                times[name].append(clock() - start)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> tuple[float, float]:
    """Return how many times faster ``fast`` is: the median of the rounds, and the best times compared."""
    rounds = statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))
    return rounds, min(times[slow]) / min(times[fast])


def times_as_often(factor: float, ratios: tuple[float, float]) -> tuple[float, float]:
    """Return ratios times a factor."""
    return factor * ratios[0], factor * ratios[1]


class Table:
    """Rows of the report."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def add(
        self,
        target: str,
        what: str,
        value: tuple[float, float],
        bound: float,
        unit: str = "x",
        *,
        most: bool = False,
    ) -> None:
        """Add a row with the median and the best; ``most`` means that the bound is an upper one."""
        met = value[0] <= bound if most else value[0] >= bound
        limit = f"{'at most' if most else 'at least'} {bound:g} {unit}"
        self.rows.append((target, what, f"{value[0]:.3g}", f"{value[1]:.3g}", limit, "yes" if met else "no"))

    def print(self) -> None:
        """Print a reStructuredText table."""
        head = ("", "what", "median", "best", "target", "met")
        widths = [max(len(row[k]) for row in (*self.rows, head)) for k in range(6)]
        rule = "  ".join("=" * w for w in widths)
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in (head, *self.rows)]
        print("\n".join([rule, lines[0], rule, *lines[1:], rule]))


def directions(law: Law, q: int) -> list[Direction]:
    """Return the q directions of a step."""
    return [Direction(law, 3, i, q) for i in range(q)]


def one_thread(table: Table, d: int, rounds: int) -> None:
    """T1 to T7: one thread, out of cache."""
    x, y, g = (np.zeros(d, F32) for _ in range(3))
    x64, y64 = np.zeros(d), np.zeros(d)
    rng, bound = np.random.default_rng(0), NumbaDirections(SEED, d, {}, 1)
    (normal,), (sign,) = directions(Law.NORMAL, 1), directions(Law.RADEMACHER, 1)
    works: dict[str, Work] = {
        "stream": lambda: stream(x, y, F32(0.1)),
        "stream in place": lambda: stream_in_place(x, F32(0.1)),
        "numpy": lambda: x + F32(0.1) * rng.standard_normal(d, dtype=F32),
        "numpy 64": lambda: x64 + 0.1 * rng.standard_normal(d),
        "normal": lambda: bound.perturb(x, normal, 0.1, 0, d, y),
        "normal 64": lambda: bound.perturb(x64, normal, 0.1, 0, d, y64),
        "sign": lambda: bound.perturb(x, sign, 0.1, 0, d, y),
        "sign in place": lambda: bound.perturb(x, sign, 0.1, 0, d, x),
    }
    times = measure(works, rounds, time.thread_time)
    table.add("T1", "Gaussian perturb, against numpy", ratio(times, "numpy", "normal"), 10)
    table.add("T2", "Gaussian perturb, of STREAM", times_as_often(100, ratio(times, "stream", "normal")), 28, "%")
    table.add("T3", "Rademacher perturb, of STREAM", times_as_often(100, ratio(times, "stream", "sign")), 85, "%")
    table.add(
        "T3", "in place, of x += m", times_as_often(100, ratio(times, "stream in place", "sign in place")), 85, "%"
    )
    table.add("T7", "float64 Gaussian perturb, against numpy", ratio(times, "numpy 64", "normal 64"), 6.5)
    many_directions(table, d, max(3, rounds // 2), bound, (x, y, g))


def many_directions(table: Table, d: int, rounds: int, bound: NumbaDirections, arrays: tuple[np.ndarray, ...]) -> None:
    """T4 to T6 and BLOCK: one thread, several directions in a pass."""
    x, y, g = arrays
    rng, eta, a = np.random.default_rng(0), 1e-3, 0.3
    c = np.linspace(-1, 1, 16, dtype=F32)
    normals, signs, blocks = (directions(law, 16) for law in (Law.NORMAL, Law.RADEMACHER, Law.BLOCK))

    def numpy_vamo(q: int) -> None:
        v = g.copy()
        for j in range(q):
            v -= F32(a) * c[j] * rng.standard_normal(d, dtype=F32)
        np.subtract(x, F32(eta) * v, out=x)

    def vamo(q: int) -> None:
        terms = [(eta * a * float(c[j]), u) for j, u in enumerate(normals[:q])]
        bound.accumulate(terms, [(-eta, g)], 0, d, x)

    def sixteen(us: list[Direction]) -> None:
        for u in us:
            for lo, hi in bound.support(u, 0, d):
                bound.perturb(x[lo:hi], u, 0.1, lo, hi, y[lo:hi])
                if u.law == Law.BLOCK:
                    y[lo:hi] = x[lo:hi]
        bound.accumulate([(0.1, u) for u in us], [], 0, d, x)

    works: dict[str, Work] = {
        "stream": lambda: stream(x, y, F32(0.1)),
        "numpy 16": lambda: c @ rng.standard_normal((16, d), dtype=F32),
        "normal 16": lambda: bound.accumulate([(float(v), u) for v, u in zip(c, normals, strict=True)], [], 0, d, x),
        "sign 16": lambda: bound.accumulate([(float(v), u) for v, u in zip(c, signs, strict=True)], [], 0, d, x),
        "numpy vamo 1": lambda: numpy_vamo(1),
        "vamo 1": lambda: vamo(1),
        "numpy vamo 8": lambda: numpy_vamo(8),
        "vamo 8": lambda: vamo(8),
        "16 signs": lambda: sixteen(signs),
        "16 blocks": lambda: sixteen(blocks),
    }
    times = measure(works, rounds, time.thread_time)
    tracemalloc.start()
    works["normal 16"]()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    table.add("T4", "Gaussian accumulate, q = 16, against numpy", ratio(times, "numpy 16", "normal 16"), 12)
    table.add("T4", "its peak extra memory", (peak, peak), 1, "MB", most=True)
    table.add(
        "T5",
        "Rademacher accumulate, q = 16: signs per STREAM element",
        times_as_often(16, ratio(times, "stream", "sign 16")),
        5,
    )
    table.add("T6", "VAMO update, q = 1, against numpy", ratio(times, "numpy vamo 1", "vamo 1"), 12)
    table.add("T6", "VAMO update, q = 8, against numpy", ratio(times, "numpy vamo 8", "vamo 8"), 10)
    table.add("", "BLOCK, q = 16, all of a step, against 16 signs", ratio(times, "16 signs", "16 blocks"), 6)


def mezo(table: Table, d: int, rounds: int) -> None:
    """T8: a step of MeZO, without the objective."""
    try:
        import torch
    except ImportError:
        print("T8 needs torch: not measured")
        return
    torch.set_num_threads(1)
    bound = NumbaDirections(SEED, d, {}, 1)
    x, y, z, tensor = np.zeros(d, F32), np.zeros(d, F32), np.zeros(d, F32), torch.zeros(d)
    generator = torch.Generator()

    def pass_of_torch(scale: float) -> None:
        generator.manual_seed(1)
        tensor.add_(torch.randn(d, generator=generator), alpha=scale)

    def step_of_torch() -> None:
        for scale in (1e-3, -2e-3, 1e-3, -1e-6):
            pass_of_torch(scale)

    def step(u: Direction) -> None:
        bound.perturb(x, u, 1e-3, 0, d, y)
        bound.perturb(x, u, -1e-3, 0, d, y)
        bound.perturb(x, u, -1e-6, 0, d, x)

    def pair(u: Direction) -> None:
        bound.perturb_pair(x, u, 1e-3, 0, d, y, z)
        bound.perturb(x, u, -1e-6, 0, d, x)

    normal, sign = Direction(Law.NORMAL, 0, 0, 1), Direction(Law.RADEMACHER, 0, 0, 1)
    works: dict[str, Work] = {
        "torch": step_of_torch,
        "normal": lambda: step(normal),
        "pair": lambda: pair(normal),
        "sign": lambda: step(sign),
    }
    times = measure(works, rounds, time.thread_time)
    table.add("T8", f"MeZO step at d = {d:.0e}, Gaussian, against torch", ratio(times, "torch", "normal"), 5)
    table.add("", "the same with both points made at once, one vector more", ratio(times, "torch", "pair"), 5)
    table.add("", f"MeZO step at d = {d:.0e}, Rademacher, against torch", ratio(times, "torch", "sign"), 5)


def threads(table: Table, d: int, rounds: int) -> None:
    """T9 and the second half of T2: two threads, wall clock."""
    if len(os.sched_getaffinity(0)) < 2:
        print("T9 needs two cores: not measured")
        return
    x, y = np.zeros(d, F32), np.zeros(d, F32)
    one, two = NumbaDirections(SEED, d, {}, 1), NumbaDirections(SEED, d, {}, 2)
    (u,) = directions(Law.NORMAL, 1)
    works: dict[str, Work] = {
        "one": lambda: one.perturb(x, u, 0.1, 0, d, y),
        "two": lambda: two.perturb(x, u, 0.1, 0, d, y),
        "stream": lambda: in_two(lambda s: stream(x[s], y[s], F32(0.1)), d),
    }
    times = measure(works, rounds, time.perf_counter)
    table.add("T9", f"two threads against one, Gaussian, d = {d:.0e}", ratio(times, "one", "two"), 1.7)
    table.add(
        "T2",
        "Gaussian perturb on two threads, of STREAM on two",
        times_as_often(100, ratio(times, "stream", "two")),
        50,
        "%",
    )
    worst = 9.0, 9.0
    for size in (1000, 100_000, 500_000, 1_000_000, 2_000_000):
        for law in (Law.NORMAL, Law.RADEMACHER):
            u = Direction(law, 3, 0, 1)
            one, two = NumbaDirections(SEED, size, {}, 1), NumbaDirections(SEED, size, {}, 2)
            works = {
                "one": lambda b=one, u=u, n=size: b.perturb(x[:n], u, 0.1, 0, n, y[:n]),
                "two": lambda b=two, u=u, n=size: b.perturb(x[:n], u, 0.1, 0, n, y[:n]),
            }
            found = ratio(measure(works, 10 * rounds, time.perf_counter), "one", "two")
            worst = min(worst[0], found[0]), min(worst[1], found[1])
    table.add("T9", "two threads against one, the worst of 10 sizes and laws", worst, 0.95)


def calls(table: Table) -> None:
    """T10: a call at a small dimension."""
    for law in (Law.RADEMACHER, Law.NORMAL, Law.BLOCK):
        d, u, n = 128, Direction(law, 3, 2, 8), 20_000
        bound, x, y = NumbaDirections(SEED, d, {}, 1), np.zeros(d), np.zeros(d)

        def many(bound: Any = bound, x: Any = x, y: Any = y, u: Any = u, d: int = d, n: int = n) -> None:
            perturb = bound.perturb
            for _ in range(n):
                perturb(x, u, 0.1, 0, d, y)

        found = [t / n * 1e6 for t in measure({"call": many}, 9, time.thread_time)["call"]]
        what = f"perturb at d = 128, float64, {law.name}"
        table.add("T10", what, (statistics.median(found), min(found)), 1.0, "us", most=True)


def large(table: Table, d: int) -> None:
    """T12: in place at d = 1e8, wall clock, all threads."""
    x = np.zeros(d, F32)
    bound = NumbaDirections(SEED, d, {}, len(os.sched_getaffinity(0)))
    for law, bound_s in ((Law.NORMAL, 0.1), (Law.RADEMACHER, 0.025)):
        u = Direction(law, 3, 0, 1)
        times = measure({"step": lambda u=u: bound.perturb(x, u, 1e-3, 0, d, x)}, 5, time.perf_counter)["step"]
        found = statistics.median(times), min(times)
        table.add("T12", f"{law.name} in place, d = {d:.0e}", found, bound_s, "s", most=True)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=10_000_000, help="length of the vectors (10000000)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--large", type=int, default=100_000_000, help="length of T12 (100000000)")
    parser.add_argument(
        "--only", default="", help="parts to run: letters of o(ne thread) m(ezo) t(hreads) c(alls) l(arge)"
    )
    parser.add_argument("--gpu", action="store_true", help="measure the device instead")
    options = parser.parse_args()
    if options.gpu:
        import kernels_gpu

        try:
            kernels_gpu.main(options.d, options.rounds)
        except BackendUnavailable as error:
            raise SystemExit(f"nothing measured: {error}") from None
        return
    table, only = Table(), options.only or "omtcl"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, numba {numba.__version__}, numpy {np.__version__}")
    if "c" in only:
        calls(table)
    if "o" in only:
        one_thread(table, options.d, options.rounds)
    if "m" in only:
        for d in (options.d // 10, options.d):
            mezo(table, d, options.rounds)
    if "t" in only:
        threads(table, options.d, options.rounds)
    if "l" in only:
        large(table, options.large)
    table.print()


if __name__ == "__main__":
    main()
