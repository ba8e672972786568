"""One perturbation for ten images of a digit: the experiment of the ZO-SVRG paper, at equal epochs and equal queries.

``python benchmarks/attacks_universal.py --victim mnist`` runs every method for 1,000 steps (the paper, Liu et al. 2018,
arXiv:1805.10367, section 6, runs 25,000; ``--steps 25000`` does that), from which it reads two comparisons: all after
the same number of steps, and all after the queries that ZO-SGD spends on these steps. ZO-SVRG-Coord asks for 4 b d
values a step and is stopped at five times ZO-SGD's queries. The step size of a method is the best of a grid on seed 0,
for each comparison; two other seeds are reported. ``residual`` has the gradient of a *different* network, trained by
the attacker: the transfer gradient as control variate of the queries; with "siblings", which are made as the model is,
it is as good as such a gradient can be. Directions are random signs instead of
uniform on the sphere, which costs a norm less and has the same variance. Every run is kept in a file and not repeated.

``--victim digits`` needs scikit-learn alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems import victims
from problems.data import require
from problems.plots import COLOURS
from problems.problem import Array
from problems.universal import UniversalAttack

RATES = (0.01, 0.03, 0.1)
SEEDS = (1, 2)
COMMON: dict[str, Any] = {"batch_size": 5, "n_directions": 10, "smoothing": 0.01, "law": "rademacher"}
SVRG: dict[str, Any] = {"batch_size": 5, "smoothing": 0.01, "law": "rademacher"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ZO-SGD": ("zo-sgd", dict(COMMON)),
    "ZO-SVRG-Ave M=10": ("zo-svrg", {**COMMON, "epoch_length": 10}),
    "ZO-SVRG-Ave M=50": ("zo-svrg", {**COMMON, "epoch_length": 50}),
    "ZO-SVRG-Ave M=100": ("zo-svrg", {**COMMON, "epoch_length": 100}),
    "residual": ("residual", dict(COMMON)),
    "residual, optimal": ("residual", {**COMMON, "mixing": "optimal"}),
    "residual, siblings": ("residual", dict(COMMON)),
    "ZO-SVRG-Coord M=50": ("zo-svrg", {**SVRG, "variant": "coordinate", "epoch_length": 50}),
    "ZO-SVRG M=50": ("zo-svrg", {**SVRG, "variant": "plain", "epoch_length": 50}),
    "ZO-AdaMM": ("zo-adamm", dict(COMMON)),
    "ZO-SVRG-Ave shared M=50": ("zo-svrg", {**COMMON, "epoch_length": 50, "share_directions": True}),
}


SURROGATES: tuple[Callable[[str], tuple[Any, Array]], ...] = (victims.surrogate, lambda name: victims.siblings())
"""A network that an attacker would have, and as good a one as there is: siblings of the model, for MNIST."""


@dataclass
class Trace:
    """What is looked at while a run goes on, without charging it.

    Rows: queries, objective, attack loss, distortion, share of images fooled, steps.
    """

    attack: UniversalAttack
    steps: int
    rows: list[tuple[float, ...]] = field(default_factory=list)

    def look(self, x: Array, queries: float, step: int) -> None:
        """Record the point ``x``."""
        loss, distortion = self.attack.attack_loss(x), self.attack.distortion(x)
        value = self.attack.weight * loss + distortion
        self.rows.append((queries, value, loss, distortion, self.attack.fooled(x), step))

    def __call__(self, intermediate_result: Any) -> None:
        """Record every step of the first 50, then now and then; stop after the last one."""
        step = int(intermediate_result.nit)
        if step <= 50 or step % (self.steps // 100) == 0 or step >= self.steps:
            self.look(np.asarray(intermediate_result.x), float(intermediate_result.nfev_samples), step)
        if step >= self.steps:
            raise StopIteration


def run(attack: UniversalAttack, name: str, label: str, rate: float, seed: int, steps: int) -> tuple[Array, Array]:
    """Run one method; return its trace, (k, 6), and the perturbation it ends with."""
    method, options = METHODS[label]
    grad = None
    if method == "residual":
        network, parameters = SURROGATES[label.endswith("siblings")](name)

        def grad(x: Array, idx: Array) -> Array:
            return attack.surrogate_gradient(network, parameters, x, idx)

    trace = Trace(attack, steps)
    trace.look(np.zeros(attack.size), 0.0, 0)
    problem = vb.FiniteSum(attack.losses, len(attack.labels), grad=grad, check_grad=False)
    result = vb.minimize(
        problem,
        np.zeros(attack.size),
        method=method,
        options={**options, "learning_rate": rate},
        rng=seed,
        maxfev=5 * queries_of_zo_sgd(steps),
        callback=trace,
    )
    return np.array(trace.rows), np.asarray(result.x)


def queries_of_zo_sgd(steps: int) -> int:
    """Return what ZO-SGD asks for in so many steps: the budget at which queries are equal."""
    return steps * COMMON["batch_size"] * (COMMON["n_directions"] + 1)


class Runs:
    """All runs, each done once and kept in one file."""

    def __init__(self, args: argparse.Namespace, attack: UniversalAttack) -> None:
        self.args, self.attack = args, attack
        self.path = args.out / f"universal_{args.victim}_{args.steps}.npz"
        self.deadline = time.perf_counter() + args.time_limit
        self.kept: dict[str, Array] = dict(np.load(self.path)) if self.path.exists() else {}

    def get(self, label: str, rate: float, seed: int) -> tuple[Array, Array]:
        """Return trace and perturbation of a run.

        Raises
        ------
        TimeoutError
            It is not there, and the time is up.
        """
        key = f"{label}/{rate:g}/{seed}".replace("/", "|")
        if key not in self.kept:
            if time.perf_counter() > self.deadline:
                raise TimeoutError
            with np.errstate(all="ignore"):
                trace, x = run(self.attack, self.args.victim, label, rate, seed, self.args.steps)
            self.kept[key], self.kept[key + "|x"] = trace, x
            np.savez(self.path, **self.kept)
            print(f"{label}, step {rate:g}, seed {seed}: objective {trace[-1, 1]:.4f}", flush=True)
        return self.kept[key], self.kept[key + "|x"]


def at(trace: Array, column: int, most: float) -> Array:
    """Return the last row of a trace at which a column (queries or steps) is at most ``most``."""
    return np.asarray(trace[trace[:, column] <= most][-1])


def first(trace: Array, target: float) -> float:
    """Return the queries after which the objective first was at or below a target, or inf."""
    hits = np.flatnonzero(trace[:, 1] <= target)
    return float(trace[hits[0], 0]) if hits.size else float("inf")


def middle(traces: Sequence[Array]) -> Array:
    """Return the median over seeds of traces that looked at the same steps."""
    length = min(map(len, traces))
    return np.asarray(np.median([trace[:length] for trace in traces], axis=0))


Chosen: TypeAlias = "dict[str, tuple[float, list[Array]]]"


def choose(runs: Runs, score: Callable[[Array], float]) -> Chosen:
    """Return for every method the step size with the best score on seed 0, and the traces of the other seeds."""
    chosen: Chosen = {}
    for label in METHODS:
        if label.endswith("siblings") and runs.args.victim != "mnist":
            continue
        try:
            scores = {rate: score(runs.get(label, rate, 0)[0]) for rate in RATES}
            rate = min(scores, key=lambda r: scores[r] if np.isfinite(scores[r]) else np.inf)
            chosen[label] = (rate, [runs.get(label, rate, seed)[0] for seed in SEEDS])
        except TimeoutError:
            print(f"{label} is left out until its runs are done: start again to go on", file=sys.stderr)
    return chosen


def report(chosen: Chosen, column: int, most: float) -> str:
    """Return the state of every method at ``most`` steps or queries as text, lowest objective first."""
    lines = []
    for label, (rate, traces) in chosen.items():
        ends = np.median([at(trace, column, most) for trace in traces], axis=0)
        lines.append(
            (
                ends[1],
                f"{label:24} {rate:6g} {ends[5]:6.0f} {ends[0]:9.0f} {ends[1]:10.4f} {ends[2]:12.4f} {ends[3]:11.4f}"
                f" {100 * ends[4]:8.0f}",
            )
        )
    head = f"{'method':24} {'step':>6} {'steps':>6} {'queries':>9} {'objective':>10} {'attack loss':>12}"
    return "\n".join([head + f" {'distortion':>11} {'fooled %':>8}", *(text for _, text in sorted(lines))])


def report_first(chosen: Chosen, target: float) -> str:
    """Return the queries to an objective as text, fewest first."""
    needed = {label: first(middle(traces), target) for label, (_, traces) in chosen.items()}
    return "\n".join(f"{label:24} {needed[label]:9.0f}" for label in sorted(needed, key=lambda label: needed[label]))


def alignment(attack: UniversalAttack, network: Any, parameters: Array, x: Array) -> float:
    """Return the cosine of a surrogate's gradient with the true one (central differences) at ``x``.

    As control variate a surrogate of the right length takes the share cos^2 of the variance away.
    """
    everything, steps = np.arange(len(attack.labels)), 1e-3 * np.eye(attack.size)
    guess = attack.surrogate_gradient(network, parameters, x, everything)
    both = [[np.mean(attack.losses(x + sign * step, everything)) for sign in (1, -1)] for step in steps]
    true = np.array([plus - minus for plus, minus in both])
    return float(guess @ true / np.linalg.norm(guess) / np.linalg.norm(true))


def draw(results: Chosen, path: Path, title: str) -> None:
    """Draw objective and attack loss against queries, one line a seed."""
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure((11.5, 4.6), layout="constrained")
    for axis, column, name in zip(figure.subplots(1, 2), (1, 2), ("objective", "attack loss"), strict=True):
        for number, (label, (_, traces)) in enumerate(results.items()):
            colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
            for k, trace in enumerate(traces):
                values = np.maximum(trace[:, column], 1e-3)
                axis.plot(trace[:, 0], values, style, color=colour, label=None if k else label, linewidth=1.2)
        axis.set(xlabel="queries (images classified)", ylabel=name, xscale="log", yscale="log", xlim=(50, None))
        axis.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
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
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="start no run after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("universal"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    attack = setting(args.victim, args.digit, 10)
    runs, queries = Runs(args, attack), queries_of_zo_sgd(args.steps)
    by_steps = choose(runs, lambda trace: float(at(trace, 5, args.steps)[1]))
    by_queries = choose(runs, lambda trace: float(at(trace, 0, queries)[1]))
    ends = {label: np.median([at(t, 0, queries)[1] for t in traces]) for label, (_, traces) in by_queries.items()}
    target = float(min(ends[label] for label in ends if METHODS[label][0] != "residual"))
    parts = (
        f"{args.victim}, ten images of {args.digit}, d = {attack.size}; median of {len(SEEDS)} seeds",
        f"after {args.steps:,} steps (five times ZO-SGD's queries at most)\n" + report(by_steps, 5, args.steps),
        f"after {queries:,} queries\n" + report(by_queries, 0, queries),
        f"queries to the best objective without a surrogate, {target:.4g}\n" + report_first(by_queries, target),
    )
    rate, _ = by_queries["ZO-SGD"]
    points = {"at the start": np.zeros(attack.size), "where ZO-SGD ends": runs.get("ZO-SGD", rate, SEEDS[0])[1]}
    for kind, load in zip(
        ("the surrogate's", "the siblings'"), SURROGATES[: 1 + (args.victim == "mnist")], strict=False
    ):
        cosines = [f"{where} {alignment(attack, *load(args.victim), x):.2f}" for where, x in points.items()]
        parts = (*parts, f"cosine of {kind} gradient with the true one: " + ", ".join(cosines))
    text, stem = "\n\n".join(parts), f"universal_{args.victim}"
    (args.out / f"{stem}.txt").write_text(text + "\n", encoding="utf-8")
    draw(by_queries, args.out / f"{stem}.png", f"Universal perturbation, {args.victim}, ten images of {args.digit}")
    lowest = min(ends, key=lambda label: ends[label])
    pictures(attack, runs.get(lowest, by_queries[lowest][0], SEEDS[0])[1], args.out / f"{stem}_images.png")
    print(text)


if __name__ == "__main__":
    main()
