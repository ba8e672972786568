"""Pictures of attacks: the original, the perturbation, the adversarial image, the model's answers and the queries.

``python benchmarks/attack_pictures.py --victim mnist --out docs/benchmarks`` attacks some images by
:class:`problems.corner_search.CornerSearch`; ``--victim lite0`` some photographs. Needs what ``attacks.py`` needs of
the victim, and matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.attack_methods import corner_objective, search
from problems import victims
from problems.attack import ImageAttack, Queries
from problems.data import require

LOADERS = {"mnist": (victims.mnist_cnn, 0.2), "lite0": (victims.lite0, 8 / 255), "digits": (victims.digits_mlp, 0.25)}


def attack(victim: victims.Victim, number: int, epsilon: float, budget: int) -> tuple[ImageAttack, Queries]:
    """Attack one image; return the attack, which has the first adversarial image, and the counter."""
    model = Queries(victim.predict, budget)
    objective, solver = corner_objective(model, victim.images[number], int(victim.labels[number]), epsilon, seed=0)
    search(objective, 1.0, solver, budget, 0, callback=objective.stop)
    return objective, model


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack the images and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", choices=list(LOADERS), default="mnist")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args(arguments)
    load, epsilon = LOADERS[args.victim]
    victim = load()
    some = slice(0, 4 * args.images)
    right = np.flatnonzero(victim.predict(victim.images[some]).argmax(axis=1) == victim.labels[some])[: args.images]
    size = (1.9 * len(right), 6.3)
    figure = require("matplotlib.figure", "matplotlib", why="A picture").Figure(size, layout="constrained")
    axes = figure.subplots(3, len(right), squeeze=False)
    for column, number in enumerate(right):
        objective, model = attack(victim, int(number), epsilon, args.budget)
        original, label = victim.images[number], int(victim.labels[number])
        changed = original if objective.found is None else objective.found
        answer = int(np.argmax(victim.predict(changed[None])[0]))
        print(f"image {number}: {label} -> {answer}, {model.count} queries")
        panels = (original, 0.5 + (changed - original) / (2 * epsilon), changed)
        for axis, panel in zip(axes[:, column], panels, strict=True):
            axis.imshow(np.clip(np.moveaxis(panel, 0, -1).squeeze(), 0, 1), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(f"class {label}", fontsize=9)
        queries = f"{model.count} quer{'y' if model.count == 1 else 'ies'}"
        axes[2, column].set_xlabel(f"taken for {answer}\n{queries}" if objective.found is not None else "not fooled")
    for axis, text in zip(axes[:, 0], ("original", f"change, +-{epsilon:.3g}", "adversarial"), strict=True):
        axis.set_ylabel(text)
    path = args.out / f"zoo-pictures-{args.victim}.png"
    figure.savefig(path, dpi=90)
    print(path)


if __name__ == "__main__":
    main()
