"""How many mini-batches a pass should have: ``python benchmarks/batch_sizes.py`` (two minutes of one core).

The untuned ``vb.vamo`` on generated sums of many cheap terms, with 1,000, 500 and 250 batches a pass. Printed are the
gradient passes (a value costs a third) and the processor seconds to gaps of 1e-2, 1e-3 and 1e-5, means of two seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems.linear import LOGISTIC, LinearSum, Link, Penalty

TARGETS = (1e-2, 1e-3, 1e-5)
COUNTS = (1000, 500, 250)
PASSES = 15
POISSON = Link(lambda p, y: np.exp(p) - y * p, lambda p, y: np.exp(p) - y)
PSEUDO_HUBER = Link(lambda p, y: np.sqrt(1 + (p - y) ** 2) - 1, lambda p, y: (p - y) / np.sqrt(1 + (p - y) ** 2))


def _labels(rows: Any, noise: float, rng: np.random.Generator) -> Any:
    """Return noisy signs of a random linear function of the rows."""
    return np.where(rows @ rng.standard_normal(rows.shape[1]) + noise * rng.standard_normal(len(rows)) > 0, 1.0, -1.0)


def gauss(n: int, rng: np.random.Generator) -> LinearSum:
    """Logistic regression, 40 independent features with deviations from 1 to 0.1."""
    rows = rng.standard_normal((n, 40)) * np.logspace(0, -1, 40)
    return LinearSum(rows, _labels(rows, 0.5, rng), LOGISTIC, Penalty("l2", 1e-4))


def one_hot(n: int, rng: np.random.Generator) -> LinearSum:
    """Logistic regression, 100 features that are 0 or 1, common and rare."""
    rows = (rng.random((n, 100)) < np.minimum(0.6, 1.2 / np.arange(1, 101))).astype(np.float64)
    return LinearSum(rows, _labels(rows, 1.0, rng), LOGISTIC, Penalty("l2", 1e-3))


def correlated(n: int, rng: np.random.Generator) -> LinearSum:
    """Logistic regression, 60 features that are mostly combinations of eight."""
    rows = rng.standard_normal((n, 8)) @ rng.standard_normal((8, 60)) + 0.3 * rng.standard_normal((n, 60))
    return LinearSum(rows, _labels(0.3 * rows, 1.0, rng), LOGISTIC, Penalty("l2", 1e-3))


def counts(n: int, rng: np.random.Generator) -> LinearSum:
    """Poisson regression, 24 features and a constant."""
    rows = np.c_[np.ones(n), 0.3 * rng.standard_normal((n, 24))]
    return LinearSum(rows, rng.poisson(np.exp(rows @ (0.5 * rng.standard_normal(25)))), POISSON)


def robust(n: int, rng: np.random.Generator) -> LinearSum:
    """Pseudo-Huber regression, 29 features of mean 1 and a constant, noise with heavy tails."""
    rows = np.c_[np.ones(n), 1.0 + rng.standard_normal((n, 29))]
    return LinearSum(rows, rows @ rng.standard_normal(30) + rng.standard_t(2, n), PSEUDO_HUBER)


PROBLEMS: tuple[Callable[[int, np.random.Generator], LinearSum], ...] = (gauss, one_hot, correlated, counts, robust)


class Spent(NamedTuple):
    """Passes and seconds to each target."""

    passes: list[float]
    seconds: list[float]


def run(data: LinearSum, best: float, batch_size: int, seed: int, passes: float = PASSES) -> Spent:
    """Run vamo, and look at the gap twelve times a pass; looking costs nothing."""
    n, d = data.rows.shape
    x0, everything = np.zeros(d), np.arange(n)
    start = float(data.losses(x0, everything).mean())
    spent, looked, next_look, began = Spent([], []), 0.0, 0.0, time.process_time()

    def callback(intermediate_result: Any) -> None:
        nonlocal looked, next_look
        if intermediate_result.njev_samples < next_look:
            return
        next_look = intermediate_result.njev_samples + n / 12
        now = time.process_time()
        gap = (float(data.losses(intermediate_result.x, everything).mean()) - best) / (start - best)
        while len(spent.passes) < len(TARGETS) and gap <= TARGETS[len(spent.passes)]:
            spent.passes.append((intermediate_result.nfev_samples / 3 + intermediate_result.njev_samples) / n)
            spent.seconds.append(now - began - looked)
        looked += time.process_time() - now
        if len(spent.passes) == len(TARGETS):
            raise StopIteration

    method = vb.vamo(batch_size=batch_size)
    vb.minimize(data.finite_sum(), x0, method=method, rng=seed, maxjev=passes * n, callback=callback)
    missing = [math.inf] * (len(TARGETS) - len(spent.passes))
    return Spent(spent.passes + missing, spent.seconds + missing)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="*", default=[32_000])
    args = parser.parse_args(arguments)
    for make in PROBLEMS:
        for n in args.samples:
            data, everything = make(n, np.random.default_rng(11)), np.arange(n)
            found = scipy.optimize.minimize(
                lambda x, data=data, everything=everything: float(data.losses(x, everything).mean()),
                np.zeros(data.rows.shape[1]), method="L-BFGS-B",
                options={"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-10},
                jac=lambda x, data=data, everything=everything: data.gradient(x, everything),
            )  # fmt: skip
            for count in COUNTS:
                runs = [run(data, float(found.fun), n // count, seed) for seed in (0, 1)]
                passes, seconds = (np.mean([getattr(r, name) for r in runs], axis=0) for name in Spent._fields)
                print(
                    f"{make.__name__:11}{n:8} samples, {count:5} batches: passes "
                    + " / ".join(f"{value:5.2f}" for value in passes)
                    + ", seconds "
                    + " / ".join(f"{value:5.2f}" for value in seconds),
                    flush=True,
                )


if __name__ == "__main__":
    main()
