"""Experiment (d): mixing, smoothing, q, law and epoch length, one at a time, at a fixed budget.

``python benchmarks/paper/ablations.py`` (NumPy only, about 6 minutes of one core). Two parts:

* the share of the mini-batch gradient's variance that is left at the snapshot, E|v - grad f|^2 / E|grad f_I - grad
  f|^2, over 200 seeds, from the solver's own first step;
* the objective after 60 values per sample (a gradient costs 3), each variant at its best step size with linear decay
  (chosen on seed 0, shown on seeds 10 to 13).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from harness import COLOURS, Method, Store, axes, finals, median_range, save, table, trace, tuned

import vamo_bbo as vb
from problems import get

BATCH = 10
PASSES = 60
RATES = (0.1, 0.3, 1.0, 3.0)
DRAWS = 200
BASE = {
    "control": "values",
    "n_directions": 5,
    "smoothing": 1e-4,
    "mixing": "optimal",
    "law": "block",
    "epoch_length": None,
}
PROBLEMS = ("least-squares-labels", "logistic-l2-digits")

FACTORS: dict[str, tuple[Any, ...]] = {
    "mixing": (0.0, "paper", 0.5, "optimal", 1.0),
    "smoothing": (1e-8, 1e-6, 1e-4, 1e-2, 1e-1, 1.0),
    "n_directions": (1, 2, 5, 10, 20, 50),
    "law": ("block", "sphere", "rademacher", "normal", "coordinate"),
    "epoch_length": (0.25, 1, 4, 8),
}
"""Epoch lengths are in passes over the data; a ``mixing`` number multiplies the optimal coefficient."""


def options_of(factor: str, value: Any, n: int, size: int) -> dict[str, Any]:
    """Return the solver's options for one variant."""
    options = {**BASE, factor: value}
    if factor == "epoch_length":
        options[factor] = max(1, round(value * n / BATCH))
    if factor == "mixing" and not isinstance(value, str):
        # A float alpha multiplies the scaled estimate: for q orthogonal directions the projection is q / d of it.
        options[factor] = value * BASE["n_directions"] / size
        options["law"] = "block"
    return options


def left_over(store: Store, name: str, label: str, options: dict[str, Any]) -> float:
    """Return E|v - grad f|^2 / E|grad f_I - grad f|^2 at the start, for independent batches."""
    problem = get(name)
    data, x0 = problem.objective, problem.x0
    full = problem.gradient(x0)

    def spread(solver: Any, snapshot: float) -> float:
        errors = []
        for seed in range(DRAWS):
            steps: list[np.ndarray] = []

            def look(x: np.ndarray, steps: list[np.ndarray] = steps) -> dict[str, float]:
                steps.append(x)
                return {}

            # Just one step fits.
            trace(data, x0, solver, budget=snapshot + 3.0 * BATCH, seed=seed, look=look, looks=1)
            errors.append(float(np.sum((x0 - steps[-1] - full) ** 2)))
        return float(np.mean(errors))

    values = data.n_samples * (options["n_directions"] + 1.0)
    sgd, vamo = (partial(make, 1.0, batch_size=BATCH, sampling="iid") for make in (vb.sgd, vb.vamo))
    plain = store.once(f"spread | {name} | sgd", lambda: spread(sgd(), 0.0))
    mine = store.once(f"spread | {name} | {label}", lambda: spread(vamo(**options), values))
    return float(mine / plain)


def predicted(options: dict[str, Any], size: int) -> str:
    """Return the formula's value 1 - 2a + a^2 (d+q-1)/q, or 1 - q/d for orthogonal directions."""
    q, law, mixing = options["n_directions"], options["law"], options["mixing"]
    if options["smoothing"] > 1e-2:
        return ""
    if law == "block":
        share = 1.0 if mixing == "optimal" else (1.0 / q if mixing == "paper" else mixing * size / q)
        return f"{1 - (2 * share - share**2) * q / size:.3f}"
    ratio = (size + q + (1 if law == "normal" else -1)) / q
    return f"{1 - 1 / ratio:.3f}"


def ablate(store: Store, name: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Run every variant on one problem; print and return the results by factor."""
    problem = get(name)
    data, x0, best = problem.objective, problem.x0, problem.reference.value
    n, size, first = data.n_samples, x0.size, problem.value(x0) - best

    def look(x: np.ndarray) -> dict[str, float]:
        return {"gap": (problem.value(x) - best) / first}

    def run(label: str, make: Any) -> dict[str, Any]:
        method = Method(label, make, RATES, (True,))
        return tuned(
            store, name, method, lambda seed: (data, x0), look,
            budget=PASSES * n, score="gap", tune=(0,), report=(10, 11, 12, 13), looks=1,
        )  # fmt: skip

    rows, out = [], {}
    for label, make in (
        ("SGD, reshuffled", partial(vb.sgd, batch_size=BATCH)),
        ("SVRG", partial(vb.svrg, batch_size=BATCH)),
    ):
        done = run(label, make)
        out[label] = [("", done)]
        rows.append((label, "", "", "", f"{done['rate']:g}", median_range(finals(done, "gap"))))
    for factor, values in FACTORS.items():
        out[factor] = []
        for value in values:
            options = options_of(factor, value, n, size)
            label = f"{factor}={value}"
            done = run(label, partial(vb.vamo, batch_size=BATCH, **options))
            out[factor].append((str(value), done))
            share = f"{left_over(store, name, label, options):.3f}" if factor != "epoch_length" else ""
            formula = predicted(options, size) if share else ""
            rows.append((factor, str(value), share, formula, f"{done['rate']:g}", median_range(finals(done, "gap"))))
    print(f"\n{name}: n = {n}, d = {size}, b = {BATCH}, budget {PASSES} values per sample")
    print(table(("factor", "value", "variance left", "formula", "step size", "gap"), rows))
    return out


def draw(everything: dict[str, dict[str, list[tuple[str, dict[str, Any]]]]]) -> None:
    """Draw the final gap of every variant, SGD and SVRG as lines."""
    figure, grid = axes(len(FACTORS), width=3.0, height=3.4, rows=len(everything))
    for row, (name, results) in zip(grid, everything.items(), strict=True):
        for axis, factor in zip(row, FACTORS, strict=True):
            values = [finals(done, "gap") for _, done in results[factor]]
            middle = [np.median(v) for v in values]
            axis.errorbar(
                range(len(values)), middle, [[m - v.min() for m, v in zip(middle, values, strict=True)],
                [v.max() - m for m, v in zip(middle, values, strict=True)]], fmt="o-", color=COLOURS[0],
            )  # fmt: skip
            for label, color in (("SGD, reshuffled", COLOURS[1]), ("SVRG", COLOURS[6])):
                axis.axhline(np.median(finals(results[label][0][1], "gap")), color=color, linestyle="--", label=label)
            axis.set_xticks(range(len(values)), [v for v, _ in results[factor]], rotation=30)
            axis.set_yscale("log")
            axis.set_xlabel("epoch_length, passes" if factor == "epoch_length" else factor)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(f"gap, {name}", fontsize=9)
        row[2].legend(frameon=False, fontsize=7)
    print(save(figure, "paper-ablations"))


def main() -> None:
    """Run what is missing, print the tables, draw the picture."""
    store = Store("ablations")
    draw({name: ablate(store, name) for name in PROBLEMS})


if __name__ == "__main__":
    main()
