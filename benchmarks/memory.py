"""Peak memory of a zeroth-order run, in vectors of the size of x, beyond what was there before it.

Run it with ``python benchmarks/memory.py``. Every case is a fresh process. Before the run it imports everything, loads
the kernels at a small dimension, and makes x0; what counts is how far the run then raises the peak of the resident set,
which the kernel records (``VmHWM``; Linux). The objective itself allocates nothing of the size of x.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CASES = (
    ("zo-sgd", 2.2),
    ("zo-sign-sgd", None),
    ("spsa", None),
    ("zo-nesterov", None),
    ("zo-adamm", None),
)
"""Methods, and the most vectors that each may take (None: reported only)."""

SCRIPT = """
import sys
import numpy as np
import vamo_bbo as vb

method, size, q = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def fun(x):
    # In blocks: a product of the whole vector would be a temporary of its size.
    return float(sum(x[k : k + 65536].dot(x[k : k + 65536]) for k in range(0, x.size, 65536)))

def peak():
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return 1024 * int(lines["VmHWM"].split()[0]), 1024 * int(lines["VmRSS"].split()[0])

def run(x0, steps):
    options = {"learning_rate": 1e-3, "n_directions": q, "maxiter": steps}
    return vb.minimize(fun, x0, method=method, options=options, rng=0, backend="numba")

run(np.ones(300_000, dtype=np.float32), 1)
x0 = np.ones(size, dtype=np.float32)
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
before = peak()[1]
result = run(x0, 3)
assert result.nit == 3, result.message
assert result.x.dtype == np.float32
print((peak()[0] - before) / x0.nbytes)
"""


def measure(method: str, size: int, n_directions: int) -> float:
    """Return the vectors that a run of three steps takes at its peak."""
    command = [sys.executable, "-c", SCRIPT, method, str(size), str(n_directions)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit with an error where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--directions", type=int, default=8)
    args = parser.parse_args(arguments)
    print(f"peak above import and x0, d = {args.size:,}, float32, {args.directions} directions, in vectors")
    missed = []
    for method, bound in CASES:
        vectors = measure(method, args.size, args.directions if method != "spsa" else 1)
        print(f"  {method:12} {vectors:5.2f}" + ("" if bound is None else f"   (at most {bound})"), flush=True)
        if bound is not None and vectors > bound:
            missed.append(method)
    if missed:
        sys.exit(f"too much memory: {', '.join(missed)}")


if __name__ == "__main__":
    main()
