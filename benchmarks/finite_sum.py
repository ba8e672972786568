"""Finite sums: the untuned default ``vamo`` against peers at their best step, on an exact cost axis.

Run from the repository: ``python benchmarks/finite_sum.py`` (resumes where it was stopped), ``--quick`` for a small
version, ``--report`` for the tables of what is there, ``--wall`` for wall time against scikit-learn's saga.

Cost: a value of one sample counts 1, a gradient ``grad-cost``; looking at the full objective is free. Each peer is
taken at the best of 6 steps x {constant, linear decay, averaged}, chosen separately for every problem and every target
on the first two seeds (one on the largest problems), which are reported with the others; vamo has one setting. The
problems of ``DEVELOPMENT`` were used to choose vamo's constants, those of ``HELD_OUT`` for nothing but the table. On a
nonconvex problem the gap is to the lowest minimum that any method's run led to, after a polish by L-BFGS.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import finite_sum_peers as peers
from finite_sum_tables import CHOOSING_SEEDS, chosen, hits, report

import problems
import vamo_bbo as vb

DEVELOPMENT = (
    "logistic-l2-breast-cancer", "logistic-l2-german", "logistic-l2-digits",
    "logistic-breast-cancer", "logistic-digits", "least-squares-labels",
)  # fmt: skip
HELD_OUT = (
    "logistic-l2-sonar", "logistic-l2-ionosphere", "logistic-l2-spambase", "logistic-l2-mushroom",
    "logistic-l2-a9a", "logistic-l2-mnist-3-8",
    "logistic-sonar", "logistic-ionosphere", "robust-geman-mcclure-outliers", "robust-tukey-outliers",
    "least-squares-planted", "logistic-spambase", "logistic-mushroom", "logistic-a9a", "logistic-mnist-3-8",
)  # fmt: skip
LOOKS = np.concatenate([np.arange(0.1, 2, 0.1), np.arange(2, 6, 0.25), np.arange(6, 30.1, 0.75)])
"""Gradient passes at which the full objective is looked at."""


class Store:
    """Finished runs, one JSON object a line; what is there is not run again."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs = path, dict[str, dict[str, Any]]()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                run = json.loads(line)
                self.runs[run["key"]] = run

    def once(self, key: str, make: Any) -> dict[str, Any]:
        """Return the run ``key``, made and written if it is new."""
        if key not in self.runs:
            run = {"key": key, **make()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            self.runs[key] = run
        return self.runs[key]


def ours(name: str, data: peers.Data, seed: int, passes: float) -> dict[str, Any]:
    """Run the default solver; look at f whenever a pass's share of ``LOOKS`` is spent, gradients counting 3."""
    problem, n = problems.get(name), data.n
    values: list[float] = []
    spent: list[tuple[int, int]] = []
    worst = 0.0
    looks = LOOKS[passes + 1e-9 >= LOOKS]

    def callback(intermediate_result: Any) -> None:
        cost = (intermediate_result.nfev_samples / 3 + intermediate_result.njev_samples) / n
        if len(values) < len(looks) and cost >= looks[len(values)]:
            found = peers.full(data, intermediate_result.x)
            while len(values) < len(looks) and cost >= looks[len(values)]:
                values.append(found)
                spent.append((int(intermediate_result.nfev_samples), int(intermediate_result.njev_samples)))
        if len(values) >= len(looks):
            raise StopIteration

    began = time.process_time()
    result = vb.minimize(
        problem.objective, data.x0, method="vamo", rng=seed, callback=callback, maxfev=100 * n, maxjev=100 * n
    )
    worst = max([peers.full(data, result.x), *values])
    return {
        "values": values, "spent": spent, "seconds": time.process_time() - began, "worst": worst,
        "nit": int(result.nit), "x": [float(f"{u:.6g}") for u in result.x],
    }  # fmt: skip


def one_peer(data: peers.Data, method: int, schedule: int, rate: float, seed: int, looks: Any) -> dict[str, Any]:
    """Run a peer; JSON has no NaN, so a diverged run ends early."""
    values, _ = peers.peer(data, method, schedule, rate, seed, looks)
    return {"values": [float(v) for v in values if math.isfinite(v)]}


def lbfgs(data: peers.Data, passes: float) -> dict[str, Any]:
    """Return L-BFGS-B's best value after each pass."""
    trace: list[float] = []
    peers.descend(data, data.x0, maxiter=int(passes), trace=trace)
    return {"values": trace[: int(passes)]}


def reference(name: str, data: peers.Data) -> dict[str, Any]:
    """Return f(x0) and the best of the zoo's reference and of L-BFGS-B run to the end."""
    found, _ = peers.descend(data, data.x0, maxiter=5000)
    known = problems.get(name).reference
    assert known is not None
    # The zoo's values are rounded to ten digits: a convex optimum is taken from the run itself.
    convex = name.startswith("logistic-l2")
    return {"f0": peers.full(data, data.x0), "best": found if convex else min(found, known.value)}


def basins(store: Store, name: str, data: peers.Data) -> None:
    """Polish where runs of a nonconvex problem ended: which minimum they are in is not speed."""
    runs = {k: r for k, r in store.runs.items() if k.startswith(f"{name}|")}
    for seed in (0, 1, 2):
        if (run := runs.get(f"{name}|vamo|{seed}")) is not None:
            x = np.array(run["x"])
            store.once(f"{name}|basin|vamo|{seed}", lambda x=x: {"best": peers.descend(data, x, maxiter=400)[0]})
    for method, label in enumerate(peers.METHODS[:4]):
        ends = {k: r["values"][-1] for k, r in runs.items() if k.startswith(f"{name}|{label}|") and r["values"]}
        if not ends:
            continue
        _, _, schedule, rate, seed_ = min(ends, key=ends.__getitem__).split("|")
        looks = LOOKS[: len(runs[min(ends, key=ends.__getitem__)]["values"])]

        def polish(method=method, schedule=schedule, rate=rate, seed_=seed_, looks=looks):
            _, x = peers.peer(data, method, peers.SCHEDULES.index(schedule), float(rate), int(seed_), looks)
            return {"best": peers.descend(data, x, maxiter=400)[0]}

        store.once(f"{name}|basin|{label}|0", polish)


def bench(store: Store, name: str, seeds: int, passes: float) -> None:
    """Do every run of one problem that is not there yet."""
    data, looks = peers.load(name), LOOKS[passes + 1e-9 >= LOOKS]
    store.once(f"{name}|reference", lambda: reference(name, data))
    store.once(f"{name}|L-BFGS-B", lambda: lbfgs(data, passes))
    for seed in range(seeds):
        store.once(f"{name}|vamo|{seed}", lambda seed=seed: ours(name, data, seed, passes))
    choosing = 1 if data.rows.size > 3_000_000 else min(len(CHOOSING_SEEDS), seeds)
    methods = [label for label in peers.METHODS if label != "AdamW" or data.penalty == peers.PENALTIES["l2"]]
    for label in methods:
        method = peers.METHODS.index(label)
        grid = {
            f"{kind}|{rate:.6g}": (schedule, rate)
            for schedule, kind in enumerate(peers.SCHEDULES)
            for rate in peers.rates(data, method)
        }
        for setting, (schedule, rate) in grid.items():
            for seed in range(choosing):
                key = f"{name}|{label}|{setting}|{seed}"
                store.once(key, lambda m=method, s=schedule, r=rate, k=seed: one_peer(data, m, s, r, k, looks))
        for setting in set(chosen(hits(store.runs, name, LOOKS, 3.0), label)):
            schedule, rate = grid[setting]
            for seed in range(choosing, seeds):
                key = f"{name}|{label}|{setting}|{seed}"
                store.once(key, lambda m=method, s=schedule, r=rate, k=seed: one_peer(data, m, s, r, k, looks))
    if not name.startswith("logistic-l2"):
        basins(store, name, data)


def wall() -> None:
    """Print CPU seconds to a relative gap of 1e-5 on a9a, L2: scikit-learn's saga at its best setting, and vamo.

    One thread: CPU time is wall time on a machine that does nothing else. Each in turns, five rounds; the least and
    the median. A first round compiles and is left out. saga gets the fewest passes that reach the gap, for free.
    """
    import warnings

    import scipy.sparse
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore", ConvergenceWarning)
    name = "logistic-l2-a9a"
    problem, data = problems.get(name), peers.load(name)
    sparse = scipy.sparse.csr_array(data.rows)
    sparse.indices, sparse.indptr = sparse.indices.astype(np.int32), sparse.indptr.astype(np.int32)
    facts = reference(name, data)
    target = facts["best"] + 1e-5 * (facts["f0"] - facts["best"])
    results: dict[str, list[float]] = {}
    for _ in range(6):
        for label, rows in (("sparse", sparse), ("dense", data.rows)):
            for passes in (5, 7, 10, 14, 20, 28, 40, 56):
                model = LogisticRegression(
                    C=1 / (data.n * data.weight), solver="saga", tol=1e-12, max_iter=passes, fit_intercept=False,
                    random_state=0,
                )  # fmt: skip
                began = time.process_time()
                model.fit(rows, data.targets)
                seconds = time.process_time() - began
                if peers.full(data, model.coef_[0]) <= target:
                    results.setdefault(f"scikit-learn saga, {label}, {passes} passes", []).append(seconds)
                    break
        for batch in (None, 64, 128, 256, 512):
            results.setdefault(f"vamo(batch_size={batch})", []).append(_seconds(problem, data, target, batch))
    for label, seconds_ in sorted(results.items(), key=lambda item: float(np.median(item[1]))):
        kept = seconds_[1:]
        print(f"{label:40} least {min(kept):6.2f} s, median {np.median(kept):6.2f} s")


def _seconds(problem: Any, data: peers.Data, target: float, batch: int | None) -> float:
    """Return the seconds after which vamo's answer is at the target, without the time spent looking."""
    looked, next_look = 0.0, 0.25

    def callback(intermediate_result: Any) -> None:
        nonlocal looked, next_look
        if intermediate_result.njev_samples >= next_look * data.n:
            next_look = intermediate_result.njev_samples / data.n + 0.25
            began_ = time.process_time()
            done = peers.full(data, intermediate_result.x) <= target
            looked += time.process_time() - began_
            if done:
                raise StopIteration

    began = time.process_time()
    vb.minimize(
        problem.objective, data.x0, method=vb.vamo(batch_size=batch), rng=0, callback=callback,
        maxjev=60 * data.n, maxfev=60 * data.n,
    )  # fmt: skip
    return time.process_time() - began - looked


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables and write them next to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three small problems, 2 seeds, 15 passes")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument("--wall", action="store_true", help="only wall time against scikit-learn")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--passes", type=float, default=30.0, help="budget in gradient passes (large problems: 2/3)")
    parser.add_argument("--grad-cost", type=float, nargs="*", default=[3.0], help="prices of a gradient in the tables")
    parser.add_argument("--problems", nargs="*", help="names instead of all")
    parser.add_argument("--out", type=Path, default=Path("finite_sum_results"))
    args = parser.parse_args(arguments)
    if args.wall:
        wall()
        return
    store = Store(args.out / ("quick.jsonl" if args.quick else "runs.jsonl"))
    names = args.problems or [*DEVELOPMENT, *HELD_OUT]
    seeds, passes = args.seeds, args.passes
    if args.quick:
        names, seeds, passes = args.problems or [DEVELOPMENT[0], HELD_OUT[0], HELD_OUT[6]], 2, 15.0
    for name in () if args.report else names:
        began = time.perf_counter()
        large = problems.get(name).objective.n_samples > 10_000
        bench(store, name, seeds, passes * 2 / 3 if large else passes)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    done = [name for name in names if f"{name}|reference" in store.runs]
    groups = [[name for name in group if name in done] for group in (DEVELOPMENT, HELD_OUT)]
    text = report(store.runs, *groups, LOOKS, args.grad_cost)
    print(text)
    (args.out / "tables.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
