"""What the optimizer itself costs: microseconds per answered probe at small d, and the time of ``import vamo_bbo``.

Run it with ``python benchmarks/overhead.py``; ``pip install cmaes noisyopt`` adds two peers. The objective is a dot
product; its own time, and that of its gradient, is measured beside and subtracted from everybody. Contenders are
interleaved, so that a busy machine disturbs all of them alike; the table gives the median over the rounds, the
quartiles, and the median of the ratios to a peer in the same round.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb

Contest = Callable[[np.ndarray, int], tuple[int, int]]
"""Run about so many evaluations from a start; return how many values and gradients it were."""


def fun(x: np.ndarray) -> float:
    """Return the trivial objective."""
    return float(x.dot(x))


def losses(x: np.ndarray, idx: np.ndarray) -> float:
    """Return a trivial batch mean."""
    return float(x.dot(x))


def gradient(x: np.ndarray) -> np.ndarray:
    """Return the gradient of ``fun``."""
    return 2.0 * x


def ours(name: str, backend: str) -> Contest:
    """Return the contest of a method of this package with its defaults."""

    def run(x0: np.ndarray, budget: int) -> tuple[int, int]:
        result = vb.minimize(fun, x0, method=name, maxfev=budget, rng=0, backend=backend)
        return int(result.nfev), 0

    return run


def ours_spsa8(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run SPSA with eight directions per step, as many as the others have."""
    return int(vb.minimize(fun, x0, method=vb.spsa(n_directions=8), maxfev=budget, rng=0).nfev), 0


def ours_finite_sum(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run ZO-SVRG on a finite sum of 64 samples; an evaluation is one call of the losses."""
    result = vb.minimize(vb.FiniteSum(losses, 64), x0, method="zo-svrg", maxfev=32 * budget, rng=0)
    return int(result.nfev), 0


def ours_residual(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run the method that corrects a given gradient; values and gradients count as answers."""
    result = vb.minimize(fun, x0, method="residual", jac=gradient, maxfev=budget, rng=0)
    return int(result.nfev), int(result.njev)


def nelder_mead(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run scipy's Nelder-Mead, which asks for one value at a time."""
    import scipy.optimize

    options = {"maxfev": budget, "xatol": 0.0, "fatol": 0.0}
    return int(scipy.optimize.minimize(fun, x0, method="Nelder-Mead", options=options).nfev), 0


def cmaes_cma(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run CMA-ES of the package cmaes by its ask-and-tell loop."""
    import cmaes

    optimizer = cmaes.CMA(mean=x0, sigma=1.0, seed=0)
    count = 0
    while count < budget:
        answers = []
        for _ in range(optimizer.population_size):
            x = optimizer.ask()
            answers.append((x, fun(x)))
        optimizer.tell(answers)
        count += optimizer.population_size
    return count, 0


def noisyopt_spsa(x0: np.ndarray, budget: int) -> tuple[int, int]:
    """Run SPSA of the package noisyopt, with a step small enough not to overflow."""
    import noisyopt

    noisyopt.minimizeSPSA(fun, x0, paired=False, niter=budget // 2, a=1e-3, c=1e-3)
    return 2 * (budget // 2) + 1, 0


def contests(backend: str) -> dict[str, Contest]:
    """Return the contenders that can run here."""
    entries: dict[str, Contest] = {
        f"vamo_bbo {name}": ours(name, backend) for name in ("spsa", "zo-sgd", "zo-nesterov", "zo-sign-sgd", "zo-adamm")
    }
    entries["vamo_bbo spsa, 8 directions"] = ours_spsa8
    entries["vamo_bbo zo-svrg"] = ours_finite_sum
    entries["vamo_bbo residual"] = ours_residual
    entries["scipy Nelder-Mead"] = nelder_mead
    for package, label, contest in (
        ("cmaes", "cmaes CMA", cmaes_cma),
        ("noisyopt", "noisyopt SPSA", noisyopt_spsa),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed and left out: pip install {package}", file=sys.stderr)
        else:
            entries[label] = contest
    return entries


def seconds(function: Callable[[np.ndarray], object], x: np.ndarray, calls: int) -> float:
    """Return the time of one call."""
    begin = time.perf_counter()
    for _ in range(calls):
        function(x)
    return (time.perf_counter() - begin) / calls


def measure(entries: dict[str, Contest], dimension: int, budget: int, rounds: int) -> dict[str, list[float]]:
    """Return microseconds per evaluation beyond the time of the objective and its gradient, for each round."""
    x0 = np.linspace(-1.0, 1.0, dimension)
    for contest in entries.values():
        contest(x0.copy(), 200)
    found: dict[str, list[float]] = {label: [] for label in entries}
    for _ in range(rounds):
        own_value, own_gradient = seconds(fun, x0, budget), seconds(gradient, x0, budget)
        for label, contest in entries.items():
            begin = time.perf_counter()
            values, gradients = contest(x0.copy(), budget)
            spent = time.perf_counter() - begin - values * own_value - gradients * own_gradient
            found[label].append(1e6 * spent / (values + gradients))
    return found


def import_ratio(rounds: int) -> tuple[float, float]:
    """Return median seconds to import scipy.optimize and vamo_bbo in fresh processes, interleaved."""
    seconds: dict[str, list[float]] = {"scipy.optimize": [], "vamo_bbo": []}
    script = "import time; a = time.perf_counter(); import {}; print(time.perf_counter() - a)"
    root = Path(__file__).resolve().parents[1]
    for _ in range(rounds):
        for name, times in seconds.items():
            command = [sys.executable, "-c", script.format(name)]
            times.append(float(subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout))
    return statistics.median(seconds["scipy.optimize"]), statistics.median(seconds["vamo_bbo"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=4000, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backend", default="auto", help="backend of our solvers")
    args = parser.parse_args(arguments)
    print(f"{platform.platform()}, Python {platform.python_version()}, numpy {np.__version__}")
    found = measure(contests(args.backend), args.dimension, args.evaluations, args.rounds)
    rivals = [label for label in ("noisyopt SPSA", "cmaes CMA") if label in found]
    print(f"\nmicroseconds per evaluation beyond the objective's own, d = {args.dimension}, {args.rounds} rounds")
    print(f"  {'':28} median   quartiles         " + "  ".join(f"x {rival}" for rival in rivals))
    for label, times in sorted(found.items(), key=lambda item: statistics.median(item[1])):
        low, middle, high = statistics.quantiles(times, n=4)
        ratios = [statistics.median(a / b for a, b in zip(times, found[rival], strict=True)) for rival in rivals]
        spread = f"({low:.1f} .. {high:.1f})"
        print(f"  {label:28} {middle:6.1f}   {spread:17} " + "  ".join(f"{r:<15.2f}" for r in ratios).rstrip())
    theirs, mine = import_ratio(args.rounds)
    print(f"\nimport scipy.optimize {theirs:.3f} s, import vamo_bbo {mine:.3f} s: ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
