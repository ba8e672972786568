"""Finite sums whose gradient is partial or missing: ``python benchmarks/missing_gradients.py`` (ten minutes).

The generated sums of ``benchmarks/batch_sizes.py`` with 2,000 samples, on which nothing of this was developed. Of each
gradient one coordinate, five, half or all are unknown. Printed is the gap ``(f - f*) / (f(x0) - f*)`` after so many
values of all samples, a gradient of all counting 3 (medians of ``--seeds`` seeds, one by default). The budgets are
multiples of what a gradient costs with its unknown coordinates by differences: ``3 + m + 1``, or ``d + 1`` where all
are unknown.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import batch_sizes

import vamo_bbo as vb

N = 2000
PRICE = 3
BUDGETS = (0.3, 1, 2, 5, 10, 20)
ADAM_RATES = (0.001, 0.01, 0.1)


class Sum:
    """A generated sum of which ``missing`` coordinates of the gradient are unknown."""

    def __init__(self, make: Any, missing: int | None) -> None:
        rng = np.random.default_rng(11)
        self.data, self.everything = make(N, rng), np.arange(N)
        self.d = self.data.rows.shape[1]
        self.hidden = rng.permutation(self.d)[: self.d if missing is None else missing]
        m = len(self.hidden)
        self.unit = float(self.d + 1 if m == self.d else PRICE + m + 1)
        self.x0, options = np.zeros(self.d), {"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10}
        self.best = scipy.optimize.minimize(
            self.value, self.x0, jac=lambda x: self.data.gradient(x, self.everything), method="L-BFGS-B",
            options=options,
        ).fun  # fmt: skip
        self.first = self.value(self.x0) - self.best

    def value(self, x: Any) -> float:
        """Return f(x)."""
        return float(self.data.losses(x, self.everything).mean())

    def partial(self, x: Any, idx: Any) -> Any:
        """Return the gradient, NaN where it is unknown."""
        g = self.data.gradient(x, idx)
        g[self.hidden] = np.nan
        return g

    def gaps(self, method: Any, seed: int) -> list[float]:
        """Return the gap of the answer at every budget."""
        found: list[float] = []
        price = 0 if len(self.hidden) == self.d else PRICE

        def callback(intermediate_result: Any) -> None:
            r = intermediate_result
            spent = (r.nfev_samples + price * r.njev_samples) / (N * self.unit)
            while len(found) < len(BUDGETS) and spent >= BUDGETS[len(found)]:
                found.append((self.value(r.x) - self.best) / self.first)
            if len(found) == len(BUDGETS):
                raise StopIteration

        whole = len(self.hidden) == self.d
        data = vb.FiniteSum(self.data.losses, N, grad=None if whole else self.partial, check_grad=False)
        most = (BUDGETS[-1] + 1) * self.unit * N
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vb.minimize(data, self.x0, method=method, rng=seed, callback=callback, maxfev=most, maxjev=most)
        return found + [found[-1] if found else 1.0] * (len(BUDGETS) - len(found))

    def whole_sum(self) -> list[float]:
        """Return the gaps of L-BFGS-B on the whole sum, unknown coordinates by differences."""
        found: list[float] = []
        spent, lowest = 0.0, self.first + self.best
        known = np.setdiff1d(np.arange(self.d), self.hidden)

        def fun(x: Any) -> tuple[float, Any]:
            nonlocal spent, lowest
            spent += 1.0
            while len(found) < len(BUDGETS) and spent > BUDGETS[len(found)]:
                found.append((lowest - self.best) / self.first)
            f, g = self.value(x), np.zeros(self.d)
            lowest = min(lowest, f)
            g[known] = self.data.gradient(x, self.everything)[known]
            for j in self.hidden:
                y = x.copy()
                y[j] += 1e-7
                g[j] = (self.value(y) - f) / 1e-7
            return f, g

        options = {"maxfun": BUDGETS[-1] + 1, "ftol": 0.0, "gtol": 0.0}
        scipy.optimize.minimize(fun, self.x0, jac=True, method="L-BFGS-B", options=options)
        return found + [(lowest - self.best) / self.first] * (len(BUDGETS) - len(found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row per problem, number of unknown coordinates and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--problems", nargs="*", default=[make.__name__ for make in batch_sizes.PROBLEMS])
    args = parser.parse_args(arguments)
    print(f"{'problem':12}{'d':>4}{'unknown':>8}  {'method':15}" + "".join(f"{b:>9}" for b in BUDGETS))
    for make in batch_sizes.PROBLEMS:
        if make.__name__ not in args.problems:
            continue
        d = make(10, np.random.default_rng(0)).rows.shape[1]
        for missing in (1, 5, d // 2, None):
            problem = Sum(make, missing)
            methods: dict[str, Any] = {"vamo": "vamo"}
            if missing is None:
                methods |= {"zo-adamm": "zo-adamm", "zo-svrg": "zo-svrg"}
            else:
                methods |= {"sgd": "sgd"} | {f"adam {rate}": vb.adam(rate) for rate in ADAM_RATES}
            rows = {
                name: np.median([problem.gaps(method, seed) for seed in range(args.seeds)], axis=0)
                for name, method in methods.items()
            }
            if missing is not None:  # the best rate at every budget
                rates = [rows.pop(name) for name in list(rows) if name.startswith("adam")]
                rows["adam, best rate"] = np.min(rates, axis=0)
            rows["L-BFGS-B"] = np.array(problem.whole_sum())
            for name, row in rows.items():
                label = f"{make.__name__:12}{d:4}{len(problem.hidden):8}  {name:15}"
                print(label + "".join(f"{max(0.0, v):9.1e}" for v in row), flush=True)


if __name__ == "__main__":
    main()
