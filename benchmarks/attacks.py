"""Untargeted L-infinity attacks, ours beside ART's and Foolbox's: same model, same images, same budget of queries.

``python benchmarks/attacks.py --victim mnist --images 200 --seeds 5 --out attacks`` attacks those of the first 200
images that the model gets right. It appends one row a run to ``attacks_mnist.csv`` (runs that are there are not
repeated; with ``--time-limit`` it stops early and can be started again), and writes a table and a picture of success
against queries of all that the file holds. A run has succeeded at its first query of a misclassified image within the
ball, whoever asked it and why: every method sees the model through one counter, which ends the run there or at the
budget.

Needs torch, onnx, onnxruntime, adversarial-robustness-toolbox and foolbox, and for ``--victim lite0`` its weights.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.attack_methods import METHODS, AttackOver, Watched
from problems import victims
from problems.data import require
from problems.plots import COLOURS
from problems.problem import Array

COLUMNS = ("victim", "method", "image", "seed", "success", "queries")
EPSILON = {"mnist": 0.2, "lite0": 8 / 255, "digits": 0.25}


LOADERS = {"mnist": victims.mnist_cnn, "lite0": victims.lite0_augmented, "digits": victims.digits_mlp}


def attack_once(victim: victims.Victim, epsilon: float, method: str, image: int, seed: int, budget: int) -> Watched:
    """Run one attack to its end; return the counter."""
    model = Watched(victim.predict, victim.images[image], int(victim.labels[image]), epsilon, budget)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            METHODS[method](model, seed)
    except AttackOver:
        pass
    return model


def collect(args: argparse.Namespace, path: Path) -> list[dict[str, str]]:
    """Run what is not in the file yet, appending every run as it ends; return all rows of the file."""
    done = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    seen = {(row["method"], row["image"], row["seed"]) for row in done}
    victim, deadline = LOADERS[args.victim](), time.perf_counter() + args.time_limit
    some = slice(0, args.images)
    images = np.flatnonzero(victim.predict(victim.images[some]).argmax(axis=1) == victim.labels[some])
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    wanted = [(m, int(image), seed) for seed in range(args.seeds) for image in images for m in args.methods]
    for method, image, seed in wanted:
        if (method, str(image), str(seed)) in seen:
            continue
        if time.perf_counter() > deadline:
            print("Time is up; start again to go on.")
            break
        model = attack_once(victim, EPSILON[args.victim], method, image, seed, args.budget)
        row = (args.victim, method, image, seed, int(model.success), model.count)
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        done.append(dict(zip(COLUMNS, map(str, row), strict=True)))
    return done


def success_curve(rows: Sequence[dict[str, str]], queries: Array) -> Array:
    """Return the share of runs that had succeeded within each number of queries."""
    needed = np.array([int(row["queries"]) if row["success"] == "1" else np.inf for row in rows])
    return np.mean(needed[None, :] <= queries[:, None], axis=1)


def bootstrap(rows: Sequence[dict[str, str]], statistic: Callable[[Any], float], n: int = 500) -> tuple[float, float]:
    """Return the 95 % interval of a statistic when images are drawn again with replacement."""
    by_image: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row)
    groups, rng = list(by_image.values()), np.random.default_rng(0)
    draws = [statistic([row for k in rng.integers(0, len(groups), len(groups)) for row in groups[k]]) for _ in range(n)]
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")  # no arithmetic with infinite medians
    return float(low), float(high)


def rate(rows: Sequence[dict[str, str]]) -> float:
    """Return the share of successes."""
    return float(np.mean([row["success"] == "1" for row in rows]))


def median_queries(rows: Sequence[dict[str, str]]) -> float:
    """Return the median over all runs, a failure counting as infinitely many queries."""
    return float(np.median([int(row["queries"]) if row["success"] == "1" else np.inf for row in rows]))


def report(rows: Sequence[dict[str, str]], methods: Sequence[str]) -> str:
    """Return the table as text, fewest median queries first."""
    lines = []
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        n_images = len({row["image"] for row in mine})
        low, high = bootstrap(mine, rate)
        few, many = bootstrap(mine, median_queries)
        lines.append(
            (
                median_queries(mine),
                f"{method:22} {n_images:6} {len(mine):5} {100 * rate(mine):7.1f}"
                f"  ({100 * low:5.1f} .. {100 * high:5.1f}) {median_queries(mine):8.0f}  ({few:.0f} .. {many:.0f})",
            )
        )
    head = f"{'method':22} {'images':>6} {'runs':>5} {'success':>7} {'% (95 %)':>18} {'median queries (95 %)':>20}"
    return "\n".join([head, *(text for _, text in sorted(lines))])


def draw(rows: Sequence[dict[str, str]], methods: Sequence[str], budget: int, path: Path, title: str) -> None:
    """Draw success against queries with 95 % bootstrap bands over images."""
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure(
        figsize=(7.5, 4.6), layout="constrained"
    )
    axis = figure.subplots()
    queries = np.unique(np.geomspace(1, budget, 60).astype(int))
    for method, colour in zip(methods, COLOURS * 3, strict=False):
        mine = [row for row in rows if row["method"] == method]
        images = sorted({row["image"] for row in mine})
        curves = np.array([success_curve([row for row in mine if row["image"] == image], queries) for image in images])
        rng = np.random.default_rng(0)
        draws = [curves[rng.integers(0, len(curves), len(curves))].mean(axis=0) for _ in range(300)]
        dashed = "-" if method.startswith("ours") else "--"
        axis.plot(queries, curves.mean(axis=0), dashed, color=colour, label=method)
        axis.fill_between(queries, *np.percentile(draws, [2.5, 97.5], axis=0), color=colour, alpha=0.08, linewidth=0)
    axis.set(
        xscale="log",
        xlabel="queries",
        ylabel="share of runs that succeeded",
        ylim=(0, 1.02),
        xlim=(1, budget),
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", choices=list(LOADERS), default="mnist")
    parser.add_argument("--images", type=int, default=200, help="of the first so many, those that the model gets right")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="start no run after so many seconds")
    parser.add_argument("--budget", type=int, default=5000)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("attacks"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = collect(args, args.out / f"attacks_{args.victim}.csv")
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    text = report(rows, methods)
    (args.out / f"attacks_{args.victim}.txt").write_text(text + "\n", encoding="utf-8")
    title = f"{args.victim}, L-infinity {EPSILON[args.victim]:.3g}, untargeted"
    draw(rows, methods, args.budget, args.out / f"attacks_{args.victim}.png", title)
    print(text)


if __name__ == "__main__":
    main()
