"""The end of ``vb.vamo`` on all samples, with and without: ``python benchmarks/whole_sum.py`` (three minutes).

Gaps ``(f - f*) / (f(x0) - f*)`` after passes over the data, a gradient counting 3 values: geometric means of three
seeds; f* is the lowest value of all runs and of L-BFGS-B. "without" has bounds that nothing comes near, within which
all steps are on mini-batches. Seconds are processor time; the last column says how many of the three runs ended because
they had converged. ``--problems`` takes names of the zoo.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import problems
import vamo_bbo as vb

NAMES = (
    "logistic-l2-german", "logistic-l2-digits", "logistic-l2-spambase", "logistic-l2-a9a", "logistic-l2-ionosphere",
    "logistic-breast-cancer", "least-squares-labels", "least-squares-planted", "robust-tukey-outliers", "svm-digits",
)  # fmt: skip
PASSES = (2, 3, 5, 8, 12, 20, 30)
SEEDS = 3


class Run(NamedTuple):
    """Values after ``PASSES``, processor seconds, and whether it converged."""

    values: list[float]
    seconds: float
    converged: bool


def run(data: Any, x0: Any, seed: int, *, end: bool) -> Run:
    """Run the default within ``PASSES[-1]`` gradient passes."""
    n, everything = data.n_samples, np.arange(data.n_samples)
    values: list[float] = []
    looked = 0.0

    def callback(intermediate_result: Any) -> None:
        nonlocal looked
        began_ = time.process_time()
        spent = (intermediate_result.nfev_samples / 3 + intermediate_result.njev_samples) / n
        while len(values) < len(PASSES) and spent >= PASSES[len(values)]:
            values.append(float(np.mean(data.losses(intermediate_result.x, everything))))
        looked += time.process_time() - began_

    began = time.process_time()
    result = vb.minimize(
        data, x0, method="vamo", rng=seed, callback=callback, maxjev=PASSES[-1] * n, maxfev=1000 * n,
        bounds=None if end else [(-1e3, 1e3)] * x0.size,
    )  # fmt: skip
    seconds = time.process_time() - began - looked
    rest = [float(np.mean(data.losses(result.x, everything)))] * (len(PASSES) - len(values))
    return Run(values + rest, seconds, bool(result.success))


def main() -> None:
    """Print two lines per problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="*", default=NAMES)
    names = parser.parse_args().problems
    print(f"{'gap after passes':31}" + "".join(f"{p:>7}" for p in PASSES) + "      s  converged")
    for name in names:
        problem = problems.get(name)
        data, x0 = problem.objective, problem.x0
        everything = np.arange(data.n_samples)
        whole = scipy.optimize.minimize(
            lambda x, data=data, everything=everything: float(np.mean(data.losses(x, everything))),
            x0, jac=lambda x, data=data, everything=everything: data.grad(x, everything), method="L-BFGS-B",
            options={"maxiter": 5000, "maxfun": 5000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-11},
        )  # fmt: skip
        runs = {end: [run(data, x0, seed, end=end) for seed in range(SEEDS)] for end in (False, True)}
        best = min(float(whole.fun), *(v for half in runs.values() for r in half for v in r.values))
        start = float(np.mean(data.losses(x0, everything)))
        for end, half in runs.items():
            gaps = np.maximum([[(v - best) / (start - best) for v in r.values] for r in half], 1e-15)
            row = "".join(f"{math.exp(g):7.0e}" for g in np.log(gaps).mean(axis=0))
            seconds = float(np.mean([r.seconds for r in half]))
            label = f"{name} {'with' if end else 'without'}"
            print(f"{label:31}{row}{seconds:7.2f}{sum(r.converged for r in half):4} of {SEEDS}", flush=True)


if __name__ == "__main__":
    main()
