"""Which method for a finite sum without a gradient, or with few samples: what "auto" goes by.

``python benchmarks/auto_sums.py`` (a few minutes): the gap ``(f - f*) / (f(x0) - f*)`` after budgets in passes over the
data; f* is the zoo's reference. Both rules were read off the problems of ``SEEN``; ``HELD_OUT`` were run afterwards.
``--border`` (five minutes) looks where full gradients stop to pay: passes and processor seconds of ``vamo`` (median of
three seeds) and of L-BFGS-B to three gaps, on the generated sums of ``benchmarks/batch_sizes.py`` from 300 samples on.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import batch_sizes

import problems
import vamo_bbo as vb

SEEN = ("logistic-l2-breast-cancer", "robust-tukey-diabetes", "least-squares-labels")
HELD_OUT = ("logistic-l2-digits", "svm-digits", "robust-geman-mcclure-outliers", "network-breast-cancer")
FEW = ("logistic-l2-breast-cancer", "logistic-l2-sonar", "robust-tukey-diabetes", "svm-breast-cancer")
FEW_HELD_OUT = ("logistic-ionosphere", "robust-geman-mcclure-diabetes", "network-breast-cancer")
VALUES = ("vamo", "zo-sgd", "zo-adamm", "zo-svrg", "L-BFGS-B", "fd-bfgs")
GRADIENTS = ("vamo", "L-BFGS-B")


def gap(name: str, method: str, passes: float, *, gradient: bool) -> float:
    """Return the gap that ``method`` leaves after ``passes`` over the data."""
    problem = problems.get(name)
    data, x0 = problem.objective, problem.x0
    n, everything = data.n_samples, np.arange(data.n_samples)
    if gradient:
        result = vb.minimize(data, x0, method=method, rng=0, maxjev=passes * n, maxfev=100 * passes * n)
    else:
        result = vb.minimize(vb.FiniteSum(data.losses, n), x0, method=method, rng=0, maxfev=passes * n)
    start, end = (float(np.mean(data.losses(np.asarray(x), everything))) for x in (x0, result.x))
    reference = problem.reference
    assert reference is not None
    return max(0.0, end - reference.value) / (start - reference.value)


def table(names: tuple[str, ...], methods: tuple[str, ...], *, gradient: bool) -> None:
    """Print a row per problem and budget."""
    print(f"{'problem':32}{'n':>7}{'d':>5}{'passes':>8}" + "".join(f"{m:>11}" for m in methods))
    for name in names:
        n, d = problems.get(name).objective.n_samples, problems.get(name).x0.size
        for budget in (5, 10, 20, 40) if gradient else (d + 1, 2 * (d + 1), 5 * (d + 1), 20 * (d + 1)):
            row = [gap(name, method, budget, gradient=gradient) for method in methods]
            print(f"{name:32}{n:7}{d:5}{budget:8}" + "".join(f"{value:11.1e}" for value in row), flush=True)


def full_gradients(data: Any, best: float) -> batch_sizes.Spent:
    """Run L-BFGS-B on the whole sum; return the gradients and seconds to each gap."""
    n, d = data.rows.shape
    everything, spent, count = np.arange(n), batch_sizes.Spent([], []), 0
    start = float(data.losses(np.zeros(d), everything).mean())

    def fun(x: Any) -> tuple[float, Any]:
        nonlocal count
        count += 1
        return float(data.losses(x, everything).mean()), data.gradient(x, everything)

    def callback(intermediate_result: Any) -> None:
        gap = (intermediate_result.fun - best) / (start - best)
        while len(spent.passes) < len(batch_sizes.TARGETS) and gap <= batch_sizes.TARGETS[len(spent.passes)]:
            spent.passes.append(count)
            spent.seconds.append(time.process_time() - began)
        if len(spent.passes) == len(batch_sizes.TARGETS):
            raise StopIteration

    began = time.process_time()
    options = {"maxiter": 500, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(StopIteration):
        scipy.optimize.minimize(
            fun, np.zeros(d), jac=True, method="L-BFGS-B", options=options, callback=callback
        )  # fmt: skip
    missing = [math.inf] * (len(batch_sizes.TARGETS) - len(spent.passes))
    return batch_sizes.Spent(spent.passes + missing, spent.seconds + missing)


def border() -> None:
    """Print a row per generated sum and size."""
    titles = ("passes, vamo", "L-BFGS-B", "seconds, vamo", "L-BFGS-B")
    print(f"{'gaps 1e-2 / 1e-3 / 1e-5':17}{'n':>6}{'d':>5}" + "".join(f"{title:>23}" for title in titles))
    for make in batch_sizes.PROBLEMS:
        for n in (300, 600, 1200, 2400, 5000, 20_000):
            data, everything = make(n, np.random.default_rng(11)), np.arange(n)
            best = scipy.optimize.minimize(
                lambda x, data=data, everything=everything: float(data.losses(x, everything).mean()),
                np.zeros(data.rows.shape[1]), method="L-BFGS-B",
                options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10},
                jac=lambda x, data=data, everything=everything: data.gradient(x, everything),
            ).fun  # fmt: skip
            runs = [batch_sizes.run(data, best, max(8, n // 500), seed, passes=50) for seed in range(3)]
            ours = batch_sizes.Spent(
                *(np.median([getattr(r, k) for r in runs], axis=0).tolist() for k in runs[0]._fields)
            )
            whole = full_gradients(data, best)
            cells = [(ours.passes, ".1f"), (whole.passes, ".0f"), (ours.seconds, ".3f"), (whole.seconds, ".3f")]
            row = ("/".join(f"{v:{digits}}" for v in column).replace("inf", "-") for column, digits in cells)
            print(f"{make.__name__:17}{n:6}{data.rows.shape[1]:5}" + "".join(f"{cell:>23}" for cell in row), flush=True)


def main() -> None:
    """Print both tables, or that of the border."""
    if "--border" in sys.argv[1:]:
        border()
        return
    print("No gradient: gap after 1, 2, 5 and 20 (d + 1) passes\n")
    table((*SEEN, *HELD_OUT), VALUES, gradient=False)
    print("\nFew samples, gradients: gap after passes of gradients\n")
    table((*FEW, *FEW_HELD_OUT), GRADIENTS, gradient=True)


if __name__ == "__main__":
    main()
