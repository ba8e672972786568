"""One perturbation for ten images of a digit: the experiment of the ZO-SVRG paper, at equal epochs and equal queries.

``python benchmarks/attacks_universal.py --victim digits`` needs no download. For every method the step size is the
best of a grid on seed 0; two other seeds are reported. The paper (Liu et al. 2018, arXiv:1805.10367, section 6) runs
25,000 stages; the budget here is what a laptop does in minutes, and is printed. ``residual`` has the gradient of a
*different* network, trained by the attacker: the transfer gradient as control variate of the queries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems import victims
from problems.data import require
from problems.plots import COLOURS
from problems.problem import Array
from problems.universal import UniversalAttack

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
SEEDS = (1, 2)
COMMON: dict[str, Any] = {"batch_size": 5, "n_directions": 10, "smoothing": 0.01}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ZO-SGD": ("zo-sgd", {**COMMON, "law": "sphere"}),
    "ZO-SVRG-Ave M=10": ("zo-svrg", {**COMMON, "epoch_length": 10}),
    "ZO-SVRG-Ave M=50": ("zo-svrg", {**COMMON, "epoch_length": 50}),
    "ZO-SVRG-Ave M=100": ("zo-svrg", {**COMMON, "epoch_length": 100}),
    "ZO-SVRG shared M=50": ("zo-svrg", {**COMMON, "epoch_length": 50, "share_directions": True}),
    "ZO-SVRG-Coord M=50": (
        "zo-svrg",
        {"batch_size": 5, "smoothing": 0.01, "variant": "coordinate", "epoch_length": 50},
    ),
    "ZO-AdaMM": ("zo-adamm", dict(COMMON)),
    "residual": ("residual", dict(COMMON)),
    "residual, optimal": ("residual", {**COMMON, "mixing": "optimal"}),
}


@dataclass
class Trace:
    """What is looked at while a run goes on, without charging it: queries, objective, attack loss, distortion."""

    attack: UniversalAttack
    budget: int
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    after: float = 0.0

    def look(self, x: Array, queries: float) -> None:
        """Record the point ``x``."""
        loss, distortion = self.attack.attack_loss(x), self.attack.distortion(x)
        value = self.attack.weight * loss + distortion
        self.rows.append((queries, value, loss, distortion, self.attack.fooled(x)))
        self.after = queries + self.budget / 80

    def __call__(self, intermediate_result: Any) -> None:
        """Record every now and then."""
        if intermediate_result.nfev_samples >= self.after:
            self.look(np.asarray(intermediate_result.x), float(intermediate_result.nfev_samples))


def run(attack: UniversalAttack, name: str, label: str, rate: float, seed: int, budget: int) -> tuple[Array, Array]:
    """Run one method; return its trace, (k, 5), and the perturbation it ends with."""
    method, options = METHODS[label]
    grad = None
    if method == "residual":
        network, parameters = victims.surrogate(name)

        def grad(x: Array, idx: Array) -> Array:
            return attack.surrogate_gradient(network, parameters, x, idx)

    trace = Trace(attack, budget)
    trace.look(np.zeros(attack.size), 0.0)
    problem = vb.FiniteSum(attack.losses, len(attack.labels), grad=grad, check_grad=False)
    result = vb.minimize(
        problem,
        np.zeros(attack.size),
        method=method,
        options={**options, "learning_rate": rate},
        rng=seed,
        maxfev=budget,
        callback=trace,
    )
    trace.look(np.asarray(result.x), float(result.nfev_samples))
    return np.array(trace.rows), np.asarray(result.x)


def first(trace: Array, column: int, target: float) -> float:
    """Return the queries at which a column first was at or below a target, or inf."""
    hits = np.flatnonzero(trace[:, column] <= target)
    return float(trace[hits[0], 0]) if hits.size else float("inf")


def report(results: dict[str, tuple[float, list[Array]]]) -> str:
    """Return the table as text, lowest final objective first."""
    lines = []
    for label, (rate, traces) in results.items():
        end = np.median([trace[-1] for trace in traces], axis=0)
        reached = np.median([first(trace, 2, 0.01) for trace in traces])
        lines.append(
            (
                end[1],
                f"{label:20} {rate:8g} {end[1]:10.4f} {end[2]:12.4f} {end[3]:11.4f} {100 * end[4]:8.0f}"
                f" {reached:10.0f}",
            )
        )
    head = f"{'method':20} {'step':>8} {'objective':>10} {'attack loss':>12} {'distortion':>11} {'fooled %':>8}"
    head += f" {'queries*':>10}"
    foot = "* until the attack loss is first at most 0.01"
    return "\n".join([head, *(text for _, text in sorted(lines)), foot])


def draw(results: dict[str, tuple[float, list[Array]]], path: Path, title: str) -> None:
    """Draw objective and attack loss against queries, one line a seed."""
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure((11.5, 4.6), layout="constrained")
    for axis, column, name in zip(figure.subplots(1, 2), (1, 2), ("objective", "attack loss"), strict=True):
        for number, (label, (_, traces)) in enumerate(results.items()):
            colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
            for k, trace in enumerate(traces):
                values = np.maximum(trace[:, column], 1e-3)
                axis.plot(trace[:, 0], values, style, color=colour, label=None if k else label, linewidth=1.2)
        axis.set(xlabel="queries (images classified)", ylabel=name, yscale="log")
        axis.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def pictures(attack: UniversalAttack, x: Array, path: Path) -> None:
    """Draw originals, perturbed images and their difference, with the model's answers."""
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure((11, 3.8), layout="constrained")
    everything = np.arange(len(attack.labels))
    changed = attack.adversarial(x, everything)
    answers = attack.predict(changed).argmax(axis=1)
    axes = figure.subplots(3, len(everything))
    for k in everything:
        panels = (attack.images[k, 0], changed[k, 0] - attack.images[k, 0], changed[k, 0])
        for row, (panel, low) in enumerate(zip(panels, (0, -1, 0), strict=True)):
            axes[row, k].imshow(panel, cmap="gray" if low == 0 else "coolwarm", vmin=low, vmax=1)
            axes[row, k].set(xticks=[], yticks=[])
        axes[0, k].set_title(f"{attack.labels[k]}", fontsize=9)
        axes[2, k].set_title(f"{answers[k]}", fontsize=9)
    for row, text in enumerate(("original", "change", "adversarial")):
        axes[row, 0].set_ylabel(text)
    figure.savefig(path, dpi=130)


def setting(name: str, digit: int, n_images: int) -> UniversalAttack:
    """Return the attack on the first images of a digit that the model gets right."""
    victim = {"digits": victims.digits_mlp, "mnist": victims.mnist_cnn}[name]()
    of_digit = np.flatnonzero(victim.labels == digit)
    correct = of_digit[victim.predict(victim.images[of_digit]).argmax(axis=1) == digit][:n_images]
    return UniversalAttack(victim.predict, victim.images[correct], victim.labels[correct])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--digit", type=int, default=1)
    parser.add_argument("--budget", type=int, default=20_000, help="queries a run")
    parser.add_argument("--out", type=Path, default=Path("universal"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    attack = setting(args.victim, args.digit, 10)
    results: dict[str, tuple[float, list[Array]]] = {}
    lowest, best = np.inf, np.zeros(attack.size)
    for label in METHODS:
        trials = {rate: run(attack, args.victim, label, rate, 0, args.budget)[0] for rate in RATES}
        rate = min(trials, key=lambda r: trials[r][-1, 1] if np.isfinite(trials[r][-1, 1]) else np.inf)
        runs = [run(attack, args.victim, label, rate, seed, args.budget) for seed in SEEDS]
        results[label] = (rate, [trace for trace, _ in runs])
        if runs[0][0][-1, 1] < lowest:
            lowest, best = runs[0][0][-1, 1], runs[0][1]
        print(f"{label}: step {rate:g}, objective {results[label][1][0][-1, 1]:.4f}", flush=True)
    text = f"{args.victim}, ten images of {args.digit}, d = {attack.size}, {args.budget:,} queries a run\n" + report(
        results
    )
    (args.out / f"universal_{args.victim}.txt").write_text(text + "\n", encoding="utf-8")
    draw(
        results,
        args.out / f"universal_{args.victim}.png",
        f"Universal perturbation, {args.victim}, ten images of {args.digit}",
    )
    pictures(attack, best, args.out / f"universal_{args.victim}_images.png")
    print(text)


if __name__ == "__main__":
    main()
