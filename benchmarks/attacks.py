"""Untargeted L-infinity attacks, ours beside ART's: same model, same images, same budget of queries.

``python benchmarks/attacks.py --victim mnist --images 50 --seeds 3 --out docs/benchmarks`` appends one row a run to
``attacks_mnist.csv`` (runs that are there are not repeated), and writes a table and a picture of success against
queries. A run has succeeded at its first query of a misclassified image within the ball, whoever asked it and why:
every method sees the model through the same counter, which ends the run there or at the budget.

Needs torch, adversarial-robustness-toolbox and, for ``--victim lite0``, onnxruntime, foolbox and the weights.
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems import victims
from problems.attack import Basis, ImageAttack, LowFrequencies, Pixels, Tiles
from problems.data import require
from problems.plots import COLOURS
from problems.problem import Array

COLUMNS = ("victim", "method", "image", "seed", "success", "queries")
EPSILON = {"mnist": 0.2, "lite0": 8 / 255, "digits": 0.25}


class AttackOver(BaseException):
    """Ends any attack, ours or a peer's, from inside the model; no ``Exception``, so that none is in its way."""


class Watched:
    """The model as every method sees it: it counts, and ends the run at the first success or at the budget."""

    def __init__(self, predict: Callable[[Array], Array], image: Array, label: int, epsilon: float, budget: int):
        self.predict, self.image, self.label, self.epsilon, self.budget = predict, image, label, epsilon, budget
        self.count, self.success = 0, False

    def __call__(self, images: Array) -> Array:
        """Classify (k, c, h, w) images; those beyond the budget are not."""
        images = np.asarray(images, dtype=float).reshape(-1, *self.image.shape)
        images = images[: self.budget - self.count]
        scores = self.predict(images)
        near = np.max(np.abs(images - self.image), axis=(1, 2, 3)) <= self.epsilon + 1e-6
        hits = np.flatnonzero(near & (scores.argmax(axis=1) != self.label))
        if hits.size:
            self.count, self.success = self.count + int(hits[0]) + 1, True
            raise AttackOver
        self.count += len(images)
        if self.count >= self.budget:
            raise AttackOver
        return scores


def ours(method: str, basis: Callable[[tuple[int, int, int]], Basis], **options: Any) -> Callable[[Watched, int], None]:
    """Return an attack by one of our methods in a basis."""

    def attack(model: Watched, seed: int) -> None:
        objective = ImageAttack(model, model.image, model.label, epsilon=model.epsilon, basis=basis(model.image.shape))
        vb.minimize(
            objective.rows,
            np.zeros(objective.size),
            method=method,
            options=options,
            bounds=[(-1.0, 1.0)] * objective.size,
            vectorized=True,
            noisy=False,
            rng=seed,
            maxfev=model.budget + 1000,
        )

    return attack


def nes(model: Watched, seed: int, *, pairs: int = 25, sigma: float = 0.1, step: float = 0.1) -> None:
    """Attack by antithetic Gaussian differences and sign steps on pixels (Ilyas et al. 2018, arXiv:1804.08598)."""
    rng = np.random.default_rng(seed)
    objective = ImageAttack(model, model.image, model.label, epsilon=model.epsilon)
    x = np.zeros(objective.size)
    while True:
        u = rng.standard_normal((pairs, objective.size))
        values = objective.rows(np.vstack([x + sigma * u, x - sigma * u]))
        x = np.clip(x - step * np.sign((values[:pairs] - values[pairs:]) @ u), -1, 1)


def art(name: str, **options: Any) -> Callable[[Watched, int], None]:
    """Return an attack of ART; its own global generator is seeded."""

    def attack(model: Watched, seed: int) -> None:
        module = require("art.attacks.evasion", "adversarial-robustness-toolbox", why="A peer's attack")
        estimators = require("art.estimators.classification", "adversarial-robustness-toolbox", why="A peer's attack")

        def predict(images: Array) -> Array:
            scores = model(images)
            exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

        n_classes = model.predict(model.image[None]).shape[1]
        estimator = estimators.BlackBoxClassifierNeuralNetwork(
            predict, model.image.shape, n_classes, channels_first=True, clip_values=(0, 1)
        )
        arguments = {key: (model.epsilon if value == "epsilon" else value) for key, value in options.items()}
        np.random.seed(seed)  # noqa: NPY002 - ART draws from the global generator
        label = np.zeros((1, n_classes), dtype=np.float32)
        label[0, model.label] = 1
        getattr(module, name)(estimator, **arguments).generate(model.image[None].astype(np.float32), y=label)

    return attack


def _tiles(cells: int) -> Callable[[tuple[int, int, int]], Basis]:
    return lambda shape: Tiles(shape, cells)


def _waves(waves: int) -> Callable[[tuple[int, int, int]], Basis]:
    return lambda shape: LowFrequencies(shape, waves, 3.0)


BLOCK: dict[str, Any] = {"law": "block", "smoothing": 0.02}
"""Orthogonal directions; small steps, because differences are centred that far inside the box."""

METHODS: dict[str, Callable[[Watched, int], None]] = {
    "ours sign pixels": ours("zo-sign-sgd", Pixels, n_directions=784, learning_rate=1.0, **BLOCK),
    "ours sign tiles 14": ours("zo-sign-sgd", _tiles(14), n_directions=196, learning_rate=1.0, **BLOCK),
    "ours sign tiles 14 q49": ours("zo-sign-sgd", _tiles(14), n_directions=49, learning_rate=0.3, **BLOCK),
    "ours sign waves 10": ours("zo-sign-sgd", _waves(10), n_directions=100, learning_rate=1.0, **BLOCK),
    "ours sign tiles 28 q8": ours("zo-sign-sgd", _tiles(28), n_directions=8, learning_rate=0.2, smoothing=0.05),
    "ours adamm pixels": ours("zo-adamm", Pixels, n_directions=25, learning_rate=0.2, smoothing=0.02),
    "NES": nes,
    "ART Square": art("SquareAttack", norm=np.inf, eps="epsilon", max_iter=10_000, nb_restarts=1, verbose=False),
    "ART SimBA": art("SimBA", attack="px", epsilon="epsilon", max_iter=10_000, order="random", verbose=False),
    "ART HopSkipJump": art(
        "HopSkipJump", norm=np.inf, max_iter=200, max_eval=1000, init_eval=20, init_size=100, verbose=False
    ),
    "ART ZOO": art(
        "ZooAttack",
        learning_rate=0.1,
        max_iter=5000,
        use_resize=False,
        use_importance=False,
        nb_parallel=32,
        variable_h=0.1,
        verbose=False,
    ),
}
LOADERS = {"mnist": victims.mnist_cnn, "lite0": victims.lite0, "digits": victims.digits_mlp}


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
    """Run what is not in the file yet, appending every run as it ends; return all rows asked for."""
    done = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    seen = {(row["method"], row["image"], row["seed"]) for row in done}
    victim = LOADERS[args.victim]()
    correct = np.flatnonzero(victim.predict(victim.images[:1000]).argmax(axis=1) == victim.labels[:1000])
    images = [int(number) for number in correct[args.skip : args.skip + args.images]]
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for image in images:
        for seed in range(args.seeds):
            for method in args.methods:
                if (method, str(image), str(seed)) in seen:
                    continue
                model = attack_once(victim, EPSILON[args.victim], method, image, seed, args.budget)
                row = (args.victim, method, image, seed, int(model.success), model.count)
                with path.open("a", encoding="utf-8") as file:
                    file.write(",".join(map(str, row)) + "\n")
                done.append(dict(zip(COLUMNS, map(str, row), strict=True)))
    wanted = {str(image) for image in images}
    return [row for row in done if row["image"] in wanted and int(row["seed"]) < args.seeds]


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
        low, high = bootstrap(mine, rate)
        few, many = bootstrap(mine, median_queries)
        lines.append(
            (
                median_queries(mine),
                f"{method:22} {len(mine):5} {100 * rate(mine):7.1f}  ({100 * low:5.1f} .. {100 * high:5.1f})"
                f" {median_queries(mine):8.0f}  ({few:.0f} .. {many:.0f})",
            )
        )
    head = f"{'method':22} {'runs':>5} {'success':>7} {'% (95 %)':>18} {'median queries (95 %)':>20}"
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
        dashed = "--" if method.startswith(("ART", "NES")) else "-"
        axis.plot(queries, curves.mean(axis=0), dashed, color=colour, label=method)
        axis.fill_between(queries, *np.percentile(draws, [2.5, 97.5], axis=0), color=colour, alpha=0.08, linewidth=0)
    axis.set(
        xscale="log",
        xlabel="queries",
        ylabel="share of runs that succeeded",
        ylim=(0, 1.02),
        xlim=(20, budget),
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", choices=list(LOADERS), default="mnist")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--skip", type=int, default=8, help="images left out: our settings were chosen on the first 8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=5000)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("attacks"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = collect(args, args.out / f"attacks_{args.victim}.csv")
    text = report(rows, args.methods)
    (args.out / f"attacks_{args.victim}.txt").write_text(text + "\n", encoding="utf-8")
    title = f"{args.victim}, L-infinity {EPSILON[args.victim]:.3g}: {args.images} images, {args.seeds} seeds"
    draw(rows, args.methods, args.budget, args.out / f"attacks_{args.victim}.png", title)
    print(text)


if __name__ == "__main__":
    main()
