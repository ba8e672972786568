"""Time and memory of the guided metric at q = 16, against an Adam step in NumPy: ``python benchmarks/sketch_cost.py``.

A step is one use of the metric and one gradient added; refreshes (one in 50 steps) are included. Adam's step is the
plain in-place one with two moments, in float64. Both are timed in turns; the table shows the least of ``--rounds``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vamo_bbo.sketch import EXACT_BELOW, Guided

RANK, REFRESH = 16, 50


def adam_step(x, m, v, g, scratch, t):
    """Do Adam's step in place with one scratch vector."""
    m += 0.1 * (g - m)
    v += 0.001 * (g * g - v)
    np.sqrt(v, out=scratch)
    scratch += 1e-8 * math.sqrt(1 - 0.999**t)
    x -= (1e-3 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)) * m / scratch


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 100_000, 1_000_000])
    args = parser.parse_args(arguments)
    print(f"{'d':>9} {'vectors':>8} {'metric ms/step':>15} {'Adam ms/step':>13} {'ratio':>6}")
    for size in args.sizes:
        assert size > EXACT_BELOW
        sketch, scalars = Guided(RANK), dict[str, float]()
        arrays = {s.name: np.zeros(s.shape, "float64" if s.dtype == "x" else s.dtype) for s in sketch.arrays(size)}
        vectors = sum(a.nbytes for a in arrays.values()) / (8 * size)
        rng = np.random.default_rng(0)
        gradients = [rng.standard_normal(size) for _ in range(4)]
        x, m, v, scratch = (np.zeros(size) for _ in range(4))
        steps = 2 * REFRESH if size <= 100_000 else REFRESH
        for k in range(12):
            sketch.add(arrays, scalars, gradients[k % 4], 8.0)
        sketch.refresh(arrays, scalars, 1000.0)
        ours, adam = [], []
        for _ in range(args.rounds):
            began = time.perf_counter()
            for k in range(steps):
                sketch.apply(arrays, scalars, gradients[k % 4])
                sketch.add(arrays, scalars, gradients[k % 4], 8.0)
                if k % REFRESH == REFRESH - 1:
                    sketch.refresh(arrays, scalars, 1000.0)
            ours.append((time.perf_counter() - began) / steps)
            began = time.perf_counter()
            for k in range(steps):
                adam_step(x, m, v, gradients[k % 4], scratch, k + 1)
            adam.append((time.perf_counter() - began) / steps)
        a, b = 1e3 * min(ours), 1e3 * min(adam)
        print(f"{size:9d} {vectors:8.2f} {a:15.3f} {b:13.3f} {a / b:6.2f}", flush=True)


if __name__ == "__main__":
    main()
