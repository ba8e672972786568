"""Finite sums that are drawn: the untuned default ``vamo``, and "auto", against tuned peers on sums that are not nice.

``python benchmarks/drawn_sums.py`` (a quarter of an hour of one core) runs the development draws, ``--held-out`` draws
that no rule was made on; both resume where they were stopped. ``--report`` prints the tables of what is there,
``--problems logistic-7 wild-3`` takes other draws, ``--ours`` runs no peers.

The families are in ``drawn_sums_problems.py``. Costs, targets and peers are those of ``finite_sum.py``: gradient
passes, a gradient ``--grad-cost`` values, at most 30 passes, 15 with more than 5,000 samples; reshuffled SGD, Adam and
SAGA on fixed batches of 8, each at the best of 6 steps x {constant, linear decay, averaged} for every problem and
target, chosen on the two seeds that are shown, and L-BFGS-B. The steps of SGD and SAGA are multiples of 1/L for the
mean curvature of single samples at x0 or at the minimum, whichever is larger, Adam's are multiples of the root mean
square of ``x* - x0``: both know the minimum, which the defaults do not. vamo runs with three seeds, "auto" with one
where it does not run vamo. The minimum is the lowest that L-BFGS finds from x0, from what the data were made with, and
where the sum is not convex from the ends of vamo's and of the peers' best runs.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import drawn_sums_problems as drawn
from finite_sum import LOOKS, Store
from finite_sum_peers import BATCH, SCHEDULES, loops
from finite_sum_tables import TARGETS, first, ratio, shown

import vamo_bbo as vb

PEERS = ("SGD", "Adam", "SAGA")
GOALS = {"SGD": (1.3, 1.0, 0.5), "Adam": (1.0, 1.0, 1.0), "SAGA": (math.inf, 1.0, 0.8)}
DRAWS = {"development": (0, 1, 2), "held out": (100, 101, 102)}
PASSES, FEWER, MANY = 30.0, 15.0, 5000
"""Budget in gradient passes; where the sum has more than so many samples."""
SEEDS, PEER_SEEDS, FEW = 3, 2, 600
ENOUGH = 1e-6
"""Gap at which a run is ended."""
run_peer = loops(drawn.value, drawn.gradient)
Runs = dict[str, dict[str, Any]]


def looks_of(n: int) -> Any:
    """Return the passes at which f is looked at."""
    return LOOKS[(FEWER if n > MANY else PASSES) >= LOOKS]


def names_of(half: str) -> list[str]:
    """Return the draws of a half."""
    return [f"{make.__name__}-{seed}" for make in drawn.FAMILIES for seed in DRAWS[half]]


def descend(problem: drawn.Drawn, x: Any) -> Any:
    """Run L-BFGS-B to the end."""
    options = {"maxiter": 20_000, "maxfun": 20_000, "maxcor": 50, "ftol": 0.0, "gtol": 1e-12}
    return scipy.optimize.minimize(problem.value, x, jac=problem.gradient, method="L-BFGS-B", options=options)


def by_the_sum(problem: drawn.Drawn) -> dict[str, Any]:
    """Return L-BFGS-B's best value after each full gradient."""
    found: list[float] = []

    def fun(x: Any) -> tuple[float, Any]:
        value = problem.value(x)
        found.append(min(value, *found[-1:], math.inf))
        return value, problem.gradient(x)

    options = {"maxfun": int(PASSES), "ftol": 0.0, "gtol": 1e-12}
    scipy.optimize.minimize(fun, problem.x0, jac=True, method="L-BFGS-B", options=options)
    return {"values": found[: int(looks_of(problem.n)[-1])]}


def reference(problem: drawn.Drawn) -> dict[str, Any]:
    """Return n, d, f(x0), the lowest value that is known, and what the peers' steps are multiples of."""
    found = min((descend(problem, x) for x in (problem.x0, *problem.starts)), key=lambda result: result.fun)
    curvatures = [drawn.curvature(problem.arrays, x) for x in (problem.x0, found.x)]
    return {
        "n": problem.n, "d": problem.x0.size, "f0": problem.value(problem.x0), "best": float(found.fun),
        "curvature": max(curvatures), "distance": float(np.sqrt(np.mean((found.x - problem.x0) ** 2))),
    }  # fmt: skip


def enough_for(problem: drawn.Drawn, facts: dict[str, Any]) -> float:
    """Return the value at which a run is ended; -inf where the lowest minimum is not known before."""
    return float(facts["best"] + ENOUGH * (facts["f0"] - facts["best"])) if problem.convex else -math.inf


def ours(problem: drawn.Drawn, method: str, seed: int, enough: float) -> dict[str, Any]:
    """Run a default; look at f whenever a pass's share of the looks is spent, gradients counting 3."""
    n, values, spent = problem.n, list[float](), list[tuple[int, int]]()
    looks = looks_of(n)
    counted = [0, 0]
    told = problem.finite_sum()

    def losses(x: Any, idx: Any) -> Any:
        counted[0] += len(idx)
        return told.losses(x, idx)

    def grad(x: Any, idx: Any) -> Any:
        counted[1] += len(idx)
        return told.grad(x, idx)

    def callback(intermediate_result: Any) -> None:
        cost = (counted[0] / 3 + counted[1]) / n
        if cost >= looks[len(values)]:
            found = problem.value(intermediate_result.x)
            while len(values) < len(looks) and cost >= looks[len(values)]:
                values.append(found)
                spent.append((counted[0], counted[1]))
        if len(values) == len(looks) or (values and values[-1] <= enough):
            raise StopIteration

    began = time.process_time()
    data = vb.FiniteSum(losses, n, grad=grad, check_grad=False)
    result = vb.minimize(data, problem.x0, method=method, rng=seed, callback=callback, maxfev=100 * n, maxjev=100 * n)
    found = problem.value(result.x)
    if len(values) < len(looks):  # it may have ended by itself
        values.append(found)
        spent.append((counted[0], counted[1]))
    finite = [v if math.isfinite(v) else 1e300 for v in values]
    return {
        "values": finite, "spent": spent, "seconds": time.process_time() - began, "x": result.x.tolist(),
        "message": str(result.message),
    }  # fmt: skip


def peer(
    problem: drawn.Drawn, method: str, schedule: int, rate: float, seed: int, enough: float
) -> tuple[list[float], Any]:
    """Run a peer; return its values until it diverges, and its answer."""
    arrays, looks = problem.arrays, looks_of(problem.n)
    setting = (PEERS.index(method), schedule, rate, BATCH, seed, looks, enough)
    values, x = run_peer(arrays, arrays, 0.0, problem.n, problem.x0, *setting)
    return [float(v) for v in values if math.isfinite(v)], x


def rates(facts: dict[str, Any], method: str) -> list[float]:
    """Return the six steps of a grid."""
    if method == "Adam":
        return [facts["distance"] * factor for factor in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)]
    return [factor / facts["curvature"] for factor in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)]


def bench(store: Store, name: str, with_peers: bool) -> None:
    """Do every run of one draw that is not there yet."""
    problem = drawn.draw(name)
    facts = store.once(f"{name}|reference", lambda: reference(problem))
    enough = enough_for(problem, facts)
    for seed in range(SEEDS):
        run = store.once(f"{name}|vamo|{seed}", lambda seed=seed: ours(problem, "vamo", seed, enough))
        if not problem.convex:
            end = np.array(run["x"])
            store.once(f"{name}|basin|vamo|{seed}", lambda end=end: {"best": float(descend(problem, end).fun)})
    if problem.n <= FEW:
        store.once(f"{name}|auto|0", lambda: ours(problem, "auto", 0, enough))
    if not with_peers:
        return
    store.once(f"{name}|L-BFGS-B|0", lambda: by_the_sum(problem))
    for method in PEERS:
        ends = {}
        for schedule, kind in enumerate(SCHEDULES):
            for rate in rates(facts, method):
                for seed in range(PEER_SEEDS):
                    setting = (method, schedule, rate, seed, enough)
                    key = f"{name}|{method}|{kind} {rate:.6g}|{seed}"
                    run = store.once(key, lambda setting=setting: {"values": peer(problem, *setting)[0]})
                    if len(run["values"]) == len(looks_of(problem.n)):
                        ends[run["values"][-1]] = setting
        if not problem.convex and ends:
            best = ends[min(ends)]
            store.once(
                f"{name}|basin|{method}|0",
                lambda best=best: {"best": float(descend(problem, peer(problem, *best)[1]).fun)},
            )


def costs_of(runs: Runs, name: str, grad_cost: float) -> dict[str, list[float]]:
    """Return every method's median cost to the targets, in gradient passes; a peer's at its best setting for each."""
    facts = runs[f"{name}|reference"]
    mine = {key.split("|", 1)[1]: run for key, run in runs.items() if key.startswith(f"{name}|")}
    best = min(run["best"] for key, run in mine.items() if key.startswith(("reference", "basin")))
    hits: dict[str, dict[str, list[list[float]]]] = {}
    for key, run in mine.items():
        method, *setting = key.split("|")
        if method in ("reference", "basin"):
            continue
        gaps = (np.array(run["values"]) - best) / (facts["f0"] - best)
        costs = LOOKS if method != "L-BFGS-B" else np.arange(1.0, 1.0 + len(gaps))
        if "spent" in run:
            costs = np.array([f / grad_cost + g for f, g in run["spent"]]) / facts["n"]
        row = [first(costs, gaps, target) for target in TARGETS]
        hits.setdefault(method, {}).setdefault(setting[0] if len(setting) > 1 else "", []).append(row)
    found = {
        method: np.min([np.median(rows, axis=0) for rows in settings.values()], axis=0).tolist()
        for method, settings in hits.items()
    }
    found.setdefault("auto", found["vamo"])
    return found


def largest(runs: Runs, name: str) -> float:
    """Return the largest f / f(x0) of any look at vamo or "auto"."""
    mine = (f"{name}|vamo|", f"{name}|auto|")
    return float(
        max(max(run["values"]) for key, run in runs.items() if key.startswith(mine)) / runs[f"{name}|reference"]["f0"]
    )


def ratios_of(rows: Sequence[dict[str, list[float]]], peer_: str, k: int, own: str = "vamo") -> list[float]:
    """Return ours / theirs for every problem that one of the two has solved."""
    found = (ratio(row[own][k], row[peer_][k]) for row in rows if peer_ in row)
    return [r for r in found if r is not None]


def report(runs: Runs, names: Sequence[str], grad_costs: Sequence[float]) -> str:
    """Return the tables as text."""
    names = [name for name in names if f"{name}|vamo|{SEEDS - 1}" in runs]
    methods = ("vamo", "auto", *PEERS, "L-BFGS-B")
    lines = [f"{'gaps 1e-2 / 1e-3 / 1e-5':20}{'n':>6}{'d':>4}" + "".join(f"{m:>18}" for m in methods)]
    rows = [costs_of(runs, name, grad_costs[0]) for name in names]
    for name, row in zip(names, rows, strict=True):
        facts = runs[f"{name}|reference"]
        cells = ("/".join(f"{shown(c):>4}" for c in row.get(m, [math.inf] * 3)) for m in methods)
        lines.append(f"{name:20}{facts['n']:6}{facts['d']:4}" + "".join(f"{cell:>18}" for cell in cells))
    for price in grad_costs:
        rows = [costs_of(runs, name, price) for name in names]
        lines += [
            "",
            f"a gradient = {price:g} values: median / worst / share above 3, of vamo over the best tuned peer",
        ]
        for peer_ in (*PEERS, "L-BFGS-B"):
            cells = []
            for k in range(3):
                found = ratios_of(rows, peer_, k)
                goal = GOALS.get(peer_, (math.inf,) * 3)[k]
                told = "" if goal == math.inf else f" (goal {goal:g})"
                share = np.mean(np.array(found) > 3) if found else 0.0
                cells.append(f"{np.median(found):5.2f}{told:11} /{max(found):5.1f} /{share:5.0%}" if found else "-")
            lines.append(f"{peer_:10}" + "".join(f"{cell:>34}" for cell in cells))
    tops = {name: largest(runs, name) for name in names}
    top = max(tops, key=tops.__getitem__)
    lines += ["", f"largest f of any look at vamo or auto: {tops[top]:.2f} f(x0) ({top}; goal 2)"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="the held-out draws")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--ours", action="store_true", help="run no peers")
    parser.add_argument("--problems", nargs="*", help="names instead of a half")
    parser.add_argument("--grad-cost", type=float, nargs="*", default=[3.0, 1.0, 10.0, 30.0])
    parser.add_argument("--out", type=Path, default=Path("out/drawn_sums.jsonl"))
    args = parser.parse_args(arguments)
    store = Store(args.out)
    names = args.problems or names_of("held out" if args.held_out else "development")
    for name in () if args.report else names:
        began = time.process_time()
        bench(store, name, not args.ours)
        print(f"{name}: {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
    print(report(store.runs, names, args.grad_cost))


if __name__ == "__main__":
    main()
