"""Step sizes without tuning, weighed on plain SGD: ``python benchmarks/step_rules.py`` (about a minute of one core).

DoG, Prodigy, the stochastic Polyak step and the stochastic Armijo search in their authors' settings against this
package's measured step (``vb.asgd()``, ``vb.sgd()``) and SGD at the best of a grid, on the development problems of
``finite_sum.py`` and on a planted one that every sample can be fitted on. Batches of 8, reshuffled; gradient passes
(a value counts a third of a gradient; the value at the gradient's own point is free) to gaps of 1e-2, 1e-3 and 1e-5,
median over three seeds. Each rule's answer is its iterate or the polynomial average, whichever is better.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import finite_sum_peers as peers
from finite_sum import DEVELOPMENT
from finite_sum_tables import TARGETS, first, shown

import problems
import vamo_bbo as vb
from problems.linear import SQUARED_SIGMOID, LinearSum

RULES = ("DoG", "Prodigy", "Polyak", "Armijo")
LOOKS = np.arange(0.25, 20.1, 0.25)
BATCH = peers.BATCH


@numba.njit(cache=True)
def batch_value(rows, targets, kind, penalty, weight, x, order, lo, hi):
    """Return the mean loss over the samples order[lo:hi]."""
    total = 0.0
    for k in range(lo, hi):
        total += peers.loss(kind, np.dot(rows[order[k]], x), targets[order[k]])
    total /= hi - lo
    for u in x:
        if penalty == 1:
            total += 0.5 * weight * u * u
        elif penalty == 2:
            total += weight * u * u / (1.0 + u * u)
    return total


@numba.njit(cache=True)
def run(rows, targets, kind, penalty, weight, x0, rule, seed, looks):
    """Return the full objective at ``looks`` gradient passes: of the iterate and of the average."""
    n, d = rows.shape
    data = (rows, targets, kind, penalty, weight)
    count = -(-n // 8)
    np.random.seed(seed)  # noqa: NPY002  (what compiled code has)
    x, average, g, trial = x0.copy(), x0.copy(), np.zeros(d), x0.copy()
    m, v, s = np.zeros(d), np.zeros(d), np.zeros(d)
    found = np.full((2, looks.size), np.nan)
    far, squares = 1e-6 * (1.0 + np.sqrt(np.dot(x0, x0))), 0.0
    scale, numerator, step, cost, look, t = 1e-6, 0.0, 1.0, 0.0, 0, 0
    while look < looks.size:
        order = np.random.permutation(n)  # noqa: NPY002
        for k in range(count):
            while look < looks.size and cost >= looks[look]:
                found[0, look] = peers.value(data, x)
                found[1, look] = peers.value(data, average)
                look += 1
            if look >= looks.size or not np.isfinite(x[0]):
                return found
            lo, hi = k * n // count, (k + 1) * n // count
            peers.gradient(data, x, order, lo, hi, g)
            cost += (hi - lo) / n
            t += 1
            power = np.dot(g, g)
            if rule == 0:  # Ivgi, Hinder & Carmon 2023
                squares += power
                far = max(far, np.sqrt(np.sum((x - x0) ** 2)))
                x -= far / np.sqrt(squares + 1e-8) * g
            elif rule == 1:  # Mishchenko & Defazio 2023, Algorithm 4 (Adam form), betas 0.9 and 0.999
                root = np.sqrt(0.999)
                m = 0.9 * m + 0.1 * scale * g
                v = 0.999 * v + 0.001 * scale**2 * g * g
                numerator = root * numerator + (1.0 - root) * scale**2 * np.dot(g, x0 - x)
                s = root * s + (1.0 - root) * scale**2 * g
                weight_sum = np.sum(np.abs(s))
                if weight_sum > 0.0:
                    scale = max(scale, numerator / weight_sum)
                x -= scale * m / (np.sqrt(v) + scale * 1e-8)
            elif power > 0.0:
                here = batch_value(rows, targets, kind, penalty, weight, x, order, lo, hi)
                largest = step * 2.0 ** ((hi - lo) / n)
                if rule == 2:  # Loizou et al. 2021: SPS_max with c = 1/2, f_i* = 0
                    step = min(2.0 * here / power, largest)
                else:  # Vaswani et al. 2019: c = 0.1, backtracking by 0.9
                    step = largest
                    for _ in range(100):
                        trial[:] = x - step * g
                        cost += (hi - lo) / n / 3.0
                        new = batch_value(rows, targets, kind, penalty, weight, trial, order, lo, hi)
                        if new <= here - 0.1 * step * power:
                            break
                        step *= 0.9
                x -= step * g
            average += 9.0 / (t + 8.0) * (x - average)
    return found


def planted() -> tuple[vb.FiniteSum, Any]:
    """Return squared errors of a sigmoid with labels that a model has no error on: n = 2000, d = 50."""
    rng = np.random.default_rng(77)
    rows = rng.standard_normal((2000, 50)) * np.arange(1, 51) ** -0.5
    rows *= math.sqrt(8 / np.mean(np.sum(rows**2, axis=1)))
    targets = 1 / (1 + np.exp(-rows @ rng.standard_normal(50)))
    source = LinearSum(rows, targets, SQUARED_SIGMOID)
    return source.finite_sum(), peers.Data(rows, targets, 1, 0, 0.0, np.zeros(50))


def ours(data: peers.Data, objective: vb.FiniteSum, method: Any, seed: int) -> list[float]:
    """Return the full objective of a solver's answer at ``LOOKS`` gradient passes."""
    values: list[float] = []

    def callback(intermediate_result: Any) -> None:
        cost = (intermediate_result.nfev_samples / 3 + intermediate_result.njev_samples) / data.n
        while len(values) < len(LOOKS) and cost >= LOOKS[len(values)]:
            values.append(peers.full(data, intermediate_result.x))
        if len(values) >= len(LOOKS):
            raise StopIteration

    vb.minimize(objective, data.x0, method=method, rng=seed, callback=callback, maxjev=40 * data.n, maxfev=40 * data.n)
    return values


def costs(data: peers.Data, objective: vb.FiniteSum, best: float, seeds: int) -> dict[str, list[float]]:
    """Return every rule's median costs to the targets."""
    span = peers.full(data, data.x0) - best

    def hits(values: Any) -> list[float]:
        gaps = (np.asarray(values) - best) / span
        return [first(LOOKS, gaps, target) for target in TARGETS]

    rows: dict[str, Any] = {}
    grid = [
        [hits(peers.peer(data, 0, schedule, rate, seed, LOOKS)[0]) for seed in range(seeds)]
        for schedule in range(3)
        for rate in peers.rates(data, 0)
    ]
    rows["SGD, best of 18"] = np.min(np.median(np.array(grid), axis=1), axis=0)
    for number, rule in enumerate(RULES):
        fields = (data.rows, data.targets, data.kind, data.penalty, data.weight, data.x0)
        found = [[hits(answer) for answer in run(*fields, number, seed, LOOKS)] for seed in range(seeds)]
        rows[rule] = np.min(np.median(np.array(found), axis=0), axis=0)
    measured = [
        np.median([hits(ours(data, objective, method, seed)) for seed in range(seeds)], axis=0)
        for method in (vb.sgd(batch_size=BATCH), vb.asgd(batch_size=BATCH))
    ]
    rows["measured"] = np.min(measured, axis=0)
    return {label: [float(c) for c in row] for label, row in rows.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--problems", nargs="*", default=["planted", *DEVELOPMENT])
    args = parser.parse_args(arguments)
    labels = ("SGD, best of 18", *RULES, "measured")
    print(f"{'problem':26} " + " ".join(f"{label:>18}" for label in labels))
    for name in args.problems:
        if name == "planted":
            objective, data = planted()
            best = 0.0
        else:
            problem, data = problems.get(name), peers.load(name)
            objective = problem.objective
            best = peers.descend(data, data.x0, maxiter=3000)[0]
        found = costs(data, objective, best, args.seeds)
        cells = [" / ".join(f"{shown(c):>4}" for c in found[label]) for label in labels]
        print(f"{name:26} " + " ".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
