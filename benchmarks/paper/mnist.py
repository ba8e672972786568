"""Experiment (b): a small network on MNIST, VAMO against SGD, SVRG, Adam, ZO-SGD and ZO-SVRG, on train and test.

``python benchmarks/paper/mnist.py`` (needs PyTorch; about 8 minutes of one core). 784-32-10 with ReLU and cross
entropy (d = 25,450, float32), the first 10,000 training images in batches of 64, all 10,000 test images; the budget
is 30 values per sample (10 gradient passes). Every method but the untuned ones falls linearly from its best step size,
chosen by the mean accuracy on the next 10,000 training images, seeds 0 and 1.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import (
    COLOURS,
    Method,
    Store,
    axes,
    band,
    finals,
    mean_and_half_width,
    median_range,
    save,
    solver_megabytes,
    table,
    tuned,
)

import vamo_bbo as vb
from problems.datasets import mnist
from vamo_bbo.core.composite import Composite
from vamo_bbo.integrations.torch import finite_sum, parameter_vector

BATCH = 64
TRAIN = 10_000
PASSES = 30
FIRST_ORDER = (0.1, 0.3, 1.0, 3.0)
ADAMW = "AdamW"
UNTUNED = "VAMO, untuned"
LAYERS = "VAMO (torch), untuned"
ADAPTIVE = (0.0003, 0.001, 0.003, 0.01, 0.03)
ZEROTH_ORDER = (0.001, 0.003, 0.01, 0.03)


def methods() -> list[Method]:
    """Return the contenders."""
    return [
        Method("SGD", partial(vb.sgd, batch_size=BATCH), FIRST_ORDER, (True,)),
        Method("SVRG", partial(vb.svrg, batch_size=BATCH), FIRST_ORDER, (True,)),
        Method("Adam", partial(vb.adam, batch_size=BATCH), ADAPTIVE, (True,)),
        Method(ADAMW, partial(vb.adam, weight_decay=0.01, batch_size=BATCH), ADAPTIVE, (True,)),
        Method(UNTUNED, lambda _: vb.vamo(batch_size=BATCH), (1.0,), (False,)),
        Method(LAYERS, lambda _: per_layer(), (1.0,), (False,)),
        Method(
            "VAMO paper, q=1", partial(vb.vamo_paper, n_directions=1, smoothing=1.0, batch_size=BATCH),
            FIRST_ORDER, (True,),
        ),
        Method(
            "VAMO table, q=8", partial(vb.vamo, control="values", n_directions=8, batch_size=BATCH),
            FIRST_ORDER, (True,),
        ),
        Method("ZO-SGD, q=8", partial(vb.zo_sgd, n_directions=8, batch_size=BATCH), ZEROTH_ORDER, (True,)),
        Method(
            "ZO-SVRG, q=8", partial(vb.zo_svrg, n_directions=8, share_directions=True, batch_size=BATCH),
            ZEROTH_ORDER, (True,),
        ),
    ]  # fmt: skip


def per_layer() -> Composite:
    """Return the solver that vamo_bbo.integrations.torch.VAMO is by default."""
    return vb.vamo(averaging=None, preconditioner=vb.Kronecker.of(network(0)))


def images(part: str, where: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centred images, (count, 784) float32, and labels."""
    pixels, labels = mnist(part)
    return torch.tensor(pixels[where] / 255.0 - 0.13, dtype=torch.float32), torch.tensor(labels[where])


def network(seed: int) -> torch.nn.Module:
    """Return the network, initialized by ``seed``."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def main() -> None:
    """Run what is missing, print the table, draw the picture if all methods are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=[method.label for method in methods()], help="labels")
    labels = {ADAMW, *parser.parse_args().methods}
    contenders = [method for method in methods() if method.label in labels]
    torch.set_num_threads(1)
    train, chosen_by = images("train", slice(TRAIN)), images("train", slice(TRAIN, 2 * TRAIN))
    test = images("t10k", slice(None))
    module, loss = network(0), torch.nn.CrossEntropyLoss(reduction="none")
    data = finite_sum(module, train, loss)
    held_out = finite_sum(module, test, loss)

    def start(seed: int) -> tuple[vb.FiniteSum, np.ndarray]:
        return data, parameter_vector(network(seed))

    def accuracy(x: np.ndarray, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        weights = [torch.from_numpy(part) for part in np.split(x, np.cumsum([784 * 32, 32, 320]))]
        hidden = torch.relu(inputs @ weights[0].view(32, 784).T + weights[1])
        guess = (hidden @ weights[2].view(10, 32).T + weights[3]).argmax(1)
        return float((guess == labels).float().mean())

    def look(x: np.ndarray) -> dict[str, float]:
        row = {"validation_error": 1.0 - accuracy(x, *chosen_by)}
        for name, part, problem in (("train", train, data), ("test", test, held_out)):
            row[name] = float(problem.losses(x, np.arange(len(part[1]))).mean())
            row[f"{name}_accuracy"] = accuracy(x, *part)
        return row

    store, rows = Store("mnist"), []
    results: dict[str, dict[str, Any]] = {}
    for method in contenders:
        results[method.label] = tuned(
            store, "mnist", method, start, look,
            budget=PASSES * TRAIN, score="validation_error", looks=12,
        )  # fmt: skip
    for method in contenders:
        done = results[method.label]
        final = [run[-1] for run in done["runs"]]
        right, reference = (100 * finals(results[label], "test_accuracy") for label in (method.label, ADAMW))
        measured = method.rates == (1.0,)
        rows.append(
            (
                method.label,
                "measured" if measured else f"{done['rate']:g}{' (edge)' if done['edge'] else ''}",
                f"{solver_megabytes(method.make(done['rate']), data, start(0)[1]):.1f}",
                f"{np.median([r['nfev'] for r in final]) / TRAIN:.1f} + 3 x "
                f"{np.median([r['njev'] for r in final]) / TRAIN:.1f}",
                median_range(finals(done, "train")),
                median_range(finals(done, "test")),
                f"{100 * finals(done, 'train_accuracy').mean():.2f}",
                "{:.2f} +- {:.2f}".format(*mean_and_half_width(right)),
                "" if method.label == ADAMW else "{:+.2f} +- {:.2f}".format(*mean_and_half_width(right - reference)),
                f"{np.median([r['cpu'] for r in final]):.1f}",
            )
        )
    header = (
        "method", "step size", "state MB", "values + 3 x gradients", "train loss", "test loss", "train %",
        "test % (95 %)", "paired difference", "processor s",
    )  # fmt: skip
    print(table(header, rows))
    if len(contenders) == len(methods()):
        draw(results)


def draw(results: dict[str, dict[str, Any]]) -> None:
    """Draw train and test loss against cost."""
    results = {label: done for label, done in results.items() if label not in (ADAMW, LAYERS)}  # near another line
    figure, ((left, right),) = axes(2)
    for (label, done), color in zip(results.items(), COLOURS, strict=False):
        band(left, done, "cost", "train", label, color, TRAIN)
        band(right, done, "cost", "test", label, color, TRAIN)
    for axis, name in ((left, "training"), (right, "test")):
        axis.set_yscale("log")
        axis.set_xlabel("values + 3 x gradients, per sample")
        axis.set_ylabel(f"{name} loss")
    left.legend(frameon=False, fontsize=8)
    print(save(figure, "paper-mnist"))


if __name__ == "__main__":
    main()
