"""Experiment (a): nonconvex least squares, VAMO with q = 1, 3, 5 against SGD, at equal steps and at equal cost.

``python benchmarks/paper/synthetic.py`` (NumPy only, about 3 minutes of one core). The loss is
``(y - sigmoid(a'x))^2 + 5e-4 |x|^2`` with labels of which 10 % are wrong: n = 1000, d = 100, batches of 10. The paper
compares at equal steps; the second picture has the same runs against their full cost.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from harness import COLOURS, Method, Store, axes, band, finals, median_range, save, table, tuned

import vamo_bbo as vb
from problems import get

BATCH = 10
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
PASSES = 60
"""Budget in values per sample: 20 gradient passes."""


def methods() -> list[Method]:
    """Return the contenders: the paper's algorithm, this package's, and first-order peers."""
    paper = [
        Method(f"VAMO paper, q={q}", partial(vb.vamo_paper, n_directions=q, smoothing=1e-3, batch_size=BATCH), RATES)
        for q in (1, 3, 5)
    ]
    table_form = [
        Method(f"VAMO table, q={q}", partial(vb.vamo, control="values", n_directions=q, batch_size=BATCH), RATES)
        for q in (1, 5, 25)
    ]
    return [
        Method("SGD", partial(vb.sgd, batch_size=BATCH, sampling="iid"), RATES),
        Method("SGD, reshuffled", partial(vb.sgd, batch_size=BATCH), RATES),
        *paper,
        *table_form,
        Method("SVRG", partial(vb.svrg, batch_size=BATCH), RATES),
    ]


def main() -> None:
    """Run what is missing, print the table, draw the pictures."""
    problem = get("least-squares-labels")
    data, x0 = problem.objective, problem.x0
    n, best = data.n_samples, problem.reference.value
    first = problem.value(x0) - best

    def look(x: np.ndarray) -> dict[str, float]:
        gradient = problem.gradient(x)
        return {"gap": (problem.value(x) - best) / first, "gnorm2": float(gradient @ gradient)}

    store, rows, results = Store("synthetic"), [], {}
    for method in methods():
        done = tuned(store, "labels", method, lambda seed: (data, x0), look, budget=PASSES * n, score="gap", looks=40)
        results[method.label] = done
        final = [run[-1] for run in done["runs"]]
        rows.append(
            (
                method.label,
                f"{done['rate']:g}{' decayed' if done['decay'] else ''}{' (edge)' if done['edge'] else ''}",
                f"{np.median([r['steps'] for r in final]):.0f}",
                " + 3 x ".join(f"{np.median([r[name] for r in final]) / n:.1f}" for name in ("nfev", "njev")),
                median_range(finals(done, "gap")),
                median_range(finals(done, "gnorm2")),
            )
        )
    print(table(("method", "step size", "steps", "values + 3 x gradients, per sample", "gap", "|grad|^2"), rows))
    common = equal_steps(store, data, x0, look, n)
    draw(results, common, n)


def equal_steps(store: Store, data: vb.FiniteSum, x0: np.ndarray, look, n: int) -> dict[str, dict]:
    """Run the paper's comparison: one constant step size for all, 1000 steps, whatever they cost."""
    rate, steps, results = 1.0, 1000, {}
    chosen = [m for m in methods() if m.label.startswith(("SGD", "VAMO paper", "VAMO table, q=25", "SVRG"))]
    for method in chosen:
        q = int(method.label.split("=")[1]) if "=" in method.label else 0
        epochs = steps * BATCH / n
        kind = method.label.split(",")[0]
        inner, snapshot = {"VAMO paper": (q + 4, q + 1), "VAMO table": (3, q + 1), "SVRG": (6, 3)}.get(kind, (3, 0))
        budget = steps * BATCH * inner + epochs * n * snapshot
        fixed = Method(method.label, method.make, (rate,), (False,))
        results[method.label] = tuned(store, "steps", fixed, lambda seed: (data, x0), look, budget=budget, score="gap")
    names = list(results)
    print(f"\nequal steps ({steps}), one step size ({rate:g}), five seeds, mean over the last half of the looks")
    floors = {k: [np.mean([r["gnorm2"] for r in run[len(run) // 2 :]]) for run in results[k]["runs"]] for k in names}
    print(
        table(
            ("method", "gap at the end", "floor of |grad|^2", "cost per sample"),
            [
                (
                    k,
                    median_range(finals(results[k], "gap")),
                    median_range(np.array(floors[k])),
                    f"{results[k]['runs'][0][-1]['cost'] / n:.0f}",
                )
                for k in names
            ],
        )
    )
    return results


def draw(results: dict[str, dict], common: dict[str, dict], n: int) -> None:
    """Draw equal steps (left) and equal cost (right)."""
    figure, ((left, right),) = axes(2)
    for (label, done), color in zip(common.items(), COLOURS * 2, strict=False):
        band(left, done, "steps", "gap", label, color)
    shown = [k for k in results if k not in ("VAMO table, q=1", "VAMO paper, q=3")]
    for label, color in zip(shown, COLOURS * 2, strict=False):
        band(right, results[label], "cost", "gap", label, color, n)
    left.set_title("one constant step size, equal steps (the paper's view)")
    left.set_xlabel("steps")
    right.set_title("best step size each, equal cost")
    right.set_xlabel("values + 3 x gradients, per sample")
    for axis in (left, right):
        axis.set_yscale("log")
        axis.set_ylabel("(f - f*) / (f(x0) - f*)")
        axis.legend(frameon=False, fontsize=8)
    print(save(figure, "paper-synthetic"))


if __name__ == "__main__":
    main()
