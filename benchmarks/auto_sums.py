"""Which method for a finite sum without a gradient, or with few samples: what "auto" goes by.

``python benchmarks/auto_sums.py`` (a few minutes): the gap ``(f - f*) / (f(x0) - f*)`` after budgets in passes over the
data; f* is the zoo's reference. Both rules were read off the problems of ``SEEN``; ``HELD_OUT`` were run afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import problems
import vamo_bbo as vb

SEEN = ("logistic-l2-breast-cancer", "robust-tukey-diabetes", "least-squares-labels")
HELD_OUT = ("logistic-l2-digits", "svm-digits", "robust-geman-mcclure-outliers", "network-breast-cancer")
FEW = ("logistic-l2-breast-cancer", "logistic-l2-sonar", "robust-tukey-diabetes", "svm-breast-cancer")
FEW_HELD_OUT = ("logistic-ionosphere", "robust-geman-mcclure-diabetes", "network-breast-cancer")
VALUES = ("zo-sgd", "zo-adamm", "zo-svrg", "L-BFGS-B", "fd-bfgs")
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
        for budget in (5, 10, 20, 40) if gradient else (2 * (d + 1), 5 * (d + 1), 20 * (d + 1)):
            row = [gap(name, method, budget, gradient=gradient) for method in methods]
            print(f"{name:32}{n:7}{d:5}{budget:8}" + "".join(f"{value:11.1e}" for value in row), flush=True)


def main() -> None:
    """Print both tables."""
    print("No gradient: gap after 2, 5 and 20 (d + 1) passes\n")
    table((*SEEN, *HELD_OUT), VALUES, gradient=False)
    print("\nFew samples, gradients: gap after passes of gradients\n")
    table((*FEW, *FEW_HELD_OUT), GRADIENTS, gradient=True)


if __name__ == "__main__":
    main()
