"""Experiment (b): a small network on MNIST, VAMO against SGD, SVRG, Adam, ZO-SGD and ZO-SVRG, on train and test.

``python benchmarks/paper/mnist.py`` (needs PyTorch; about 8 minutes of one core). 784-32-10 with ReLU and cross
entropy (d = 25,450, float32), the first 10,000 training images in batches of 64, all 10,000 test images; the budget
is 30 values per sample (10 gradient passes). Every method falls linearly from its best step size (chosen by training
loss on seed 0).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import COLOURS, Method, Store, axes, band, finals, median_range, save, table, tuned

import vamo_bbo as vb
from problems.datasets import mnist
from vamo_bbo.integrations.torch import finite_sum, parameter_vector
from vamo_bbo.run.objective import Objective

BATCH = 64
TRAIN = 10_000
PASSES = 30
FIRST_ORDER = (0.1, 0.3, 1.0, 3.0)
UNTUNED = "VAMO, untuned"
ADAPTIVE = (0.0003, 0.001, 0.003, 0.01, 0.03)
ZEROTH_ORDER = (0.001, 0.003, 0.01, 0.03)


def methods() -> list[Method]:
    """Return the contenders."""
    return [
        Method("SGD", partial(vb.sgd, batch_size=BATCH), FIRST_ORDER, (True,)),
        Method("SVRG", partial(vb.svrg, batch_size=BATCH), FIRST_ORDER, (True,)),
        Method("Adam", partial(vb.adam, batch_size=BATCH), ADAPTIVE, (True,)),
        Method("AdamW", partial(vb.adam, weight_decay=0.01, batch_size=BATCH), ADAPTIVE, (True,)),
        Method(UNTUNED, lambda _: vb.vamo(batch_size=BATCH), (1.0,), (False,)),
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


def images(part: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centred images, (count, 784) float32, and labels."""
    pixels, labels = mnist(part)
    return torch.tensor(pixels[:count] / 255.0 - 0.13, dtype=torch.float32), torch.tensor(labels[:count])


def network(seed: int) -> torch.nn.Module:
    """Return the network, initialized by ``seed``."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def main() -> None:
    """Run what is missing, print the table, draw the picture."""
    torch.set_num_threads(1)
    train, test = images("train", TRAIN), images("t10k", 10_000)
    module, loss = network(0), torch.nn.CrossEntropyLoss(reduction="none")
    data = finite_sum(module, train, loss)
    held_out = finite_sum(module, test, loss)

    def start(seed: int) -> tuple[vb.FiniteSum, np.ndarray]:
        return data, parameter_vector(network(seed))

    def look(x: np.ndarray) -> dict[str, float]:
        row = {}
        for name, (inputs, labels), problem in (("train", train, data), ("test", test, held_out)):
            idx = np.arange(len(labels))
            row[name] = float(problem.losses(x, idx).mean())
            weights = [torch.from_numpy(part) for part in np.split(x, np.cumsum([784 * 32, 32, 320]))]
            hidden = torch.relu(inputs @ weights[0].view(32, 784).T + weights[1])
            guess = (hidden @ weights[2].view(10, 32).T + weights[3]).argmax(1)
            row[f"{name}_accuracy"] = float((guess == labels).float().mean())
        return row

    store, rows, results = Store("mnist"), [], {}
    for method in methods():
        done: dict[str, Any] = tuned(
            store, "mnist", method, start, look, budget=PASSES * TRAIN, score="train", tune=(0,), looks=12
        )
        results[method.label] = done
        final = [run[-1] for run in done["runs"]]
        rows.append(
            (
                method.label,
                "measured" if method.label == UNTUNED else f"{done['rate']:g}{' (edge)' if done['edge'] else ''}",
                f"{vectors(method, done['rate'], start(0)[1], data):.1f}",
                f"{np.median([r['nfev'] for r in final]) / TRAIN:.1f} + 3 x "
                f"{np.median([r['njev'] for r in final]) / TRAIN:.1f}",
                median_range(finals(done, "train")),
                median_range(finals(done, "test")),
                f"{100 * finals(done, 'train_accuracy').mean():.2f}",
                f"{100 * finals(done, 'test_accuracy').mean():.2f} +- "
                f"{100 * 2.776 * finals(done, 'test_accuracy').std(ddof=1) / len(final) ** 0.5:.2f}",
                f"{np.median([r['seconds'] for r in final]):.1f}",
            )
        )
        print(rows[-1], flush=True)
    header = (
        "method", "step size", "state MB", "values + 3 x gradients", "train loss", "test loss", "train %",
        "test % (95 %)", "s",
    )  # fmt: skip
    print(table(header, rows))
    draw(results)


def vectors(method: Method, rate: float, x0: np.ndarray, data: vb.FiniteSum) -> float:
    """Return the megabytes of all arrays that the solver keeps, x and the copy of its last good value included."""
    solver: Any = method.make(rate)
    info = Objective(data, size=x0.size, dtype=x0.dtype).info
    specs = solver.arrays(info, x0.size)
    kinds = [x0.dtype if spec.dtype == "x" else np.dtype(spec.dtype) for spec in specs]
    return sum(math.prod(spec.shape) * kind.itemsize for spec, kind in zip(specs, kinds, strict=True)) / 2**20


def draw(results: dict[str, dict[str, Any]]) -> None:
    """Draw train and test loss against cost."""
    results = {label: done for label, done in results.items() if label != "AdamW"}  # on Adam's line
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
