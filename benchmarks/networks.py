"""Small networks under the metrics of ``vb.vamo``, beside tuned Adam and SGD: ``python benchmarks/networks.py``.

Every run has ten passes over the training data, probes and checks included, from PyTorch's own start. ``vb.vamo`` has
nothing tuned; the peers are the best of three rates with cosine decay, chosen for every network on the runs that are
shown. Printed are the training loss, the loss on a fifth of the data that was held back, and the seconds of a run,
geometric means over the seeds. Needs PyTorch and scikit-learn, whose data sets come with it. About ten minutes of one
core; ``--networks a,b`` runs some (``held-out`` is a name, too), ``--seeds 1`` a single seed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import datasets
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from vamo_bbo.integrations.torch import finite_sum, parameter_vector
from vamo_bbo.schedules import Cosine

PASSES = 10.0
CLASSES = nn.CrossEntropyLoss(reduction="none")


class Task(NamedTuple):
    """Inputs, targets and per-sample loss."""

    inputs: torch.Tensor
    targets: torch.Tensor
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of every sample."""
    return (output - target).square().mean(1)


def digits(*, wrong: float = 0.0, image: bool = False, itself: bool = False) -> Task:
    """Return scikit-learn's 8 x 8 digits: a share of labels wrong, as images, or to be reproduced."""
    rows, labels = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(labels)) < wrong, rng.integers(0, 10, len(labels)), labels)
    inputs = torch.tensor(rows / 16, dtype=torch.float32)
    if itself:
        return Task(inputs, inputs, squares)
    return Task(inputs.view(-1, 1, 8, 8) if image else inputs, torch.tensor(labels), CLASSES)


def planted() -> Task:
    """Return a sum of five ridge functions of 20 inputs, with noise."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4000, 20)).astype(np.float32)
    answers = np.tanh(rows @ rng.standard_normal((20, 5))).sum(1, keepdims=True) + 0.3 * rng.standard_normal((4000, 1))
    return Task(torch.tensor(rows), torch.tensor(answers, dtype=torch.float32), squares)


def friedman() -> Task:
    """Return Friedman's first regression problem, standardized."""
    rows, answers = datasets.make_friedman1(3000, noise=1.0, random_state=5)
    answers = (answers - answers.mean()) / answers.std()
    return Task(torch.tensor(rows, dtype=torch.float32), torch.tensor(answers[:, None], dtype=torch.float32), squares)


def clusters() -> Task:
    """Return five classes of two clusters each in 30 dimensions."""
    rows, labels = datasets.make_classification(
        3000, 30, n_informative=12, n_classes=5, n_clusters_per_class=2, random_state=7
    )
    return Task(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels), CLASSES)


def layers(*widths: int, unit: Callable[[], nn.Module]) -> nn.Module:
    """Return a perceptron of these widths."""
    parts: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        parts += [nn.Linear(fan_in, fan_out), unit()]
    return nn.Sequential(*parts[:-1])


def convolution() -> nn.Module:
    """Return two convolutions and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
    )


def normalized() -> nn.Module:
    """Return a perceptron with layer normalization and GELU."""
    return nn.Sequential(
        *(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU()),
        nn.Linear(64, 10),
    )


Network = tuple[Callable[[], nn.Module], Callable[[], Task]]
NETWORKS: Mapping[str, Network] = {
    "deep-digits": (lambda: layers(64, 32, 32, 10, unit=nn.ReLU), digits),
    "cnn-digits": (convolution, lambda: digits(image=True)),
    "planted-relu": (lambda: layers(20, 64, 64, 1, unit=nn.ReLU), planted),
    "planted-tanh": (lambda: layers(20, 64, 1, unit=nn.Tanh), planted),
    "noisy-digits": (lambda: layers(64, 32, 10, unit=nn.ReLU), lambda: digits(wrong=0.2)),
    "norm-digits": (normalized, digits),
    "autoencoder": (lambda: layers(64, 32, 8, 32, 64, unit=nn.Tanh), lambda: digits(itself=True)),
    "friedman": (lambda: layers(10, 64, 64, 1, unit=nn.SiLU), friedman),
    "clusters": (lambda: layers(30, 48, 48, 5, unit=nn.ReLU), clusters),
}
HELD_OUT = ("autoencoder", "friedman", "clusters")
"""Not looked at before the metric was final."""

Method = Callable[[nn.Module], Any]
METRICS: Mapping[str, Method] = {
    "guided": lambda _: vb.vamo(),
    "diagonal": lambda _: vb.vamo(preconditioner="diagonal"),
    "none": lambda _: vb.vamo(preconditioner="none"),
    "Kronecker": lambda module: vb.vamo(preconditioner=vb.Kronecker.of(module)),
}
PEERS: Mapping[str, list[Method]] = {
    "Adam": [lambda _, a=a: vb.adam(a, batch_size=32, schedule=Cosine()) for a in (1e-3, 3e-3, 1e-2)],
    "SGD": [lambda _, a=a: vb.sgd(a, batch_size=32, schedule=Cosine()) for a in (0.1, 0.3, 1.0)],
}


class Outcome(NamedTuple):
    """Losses and seconds of a run."""

    train: float
    test: float
    seconds: float


def run(network: Network, method: Method, seed: int) -> Outcome:
    """Train one network."""
    torch.manual_seed(seed)
    make, load = network
    module, task = make(), load()
    order = np.random.default_rng(99).permutation(len(task.inputs))
    cut = len(order) // 5
    parts = [finite_sum(module, (task.inputs[i], task.targets[i]), task.loss) for i in (order[cut:], order[:cut])]
    start = time.perf_counter()
    result = vb.minimize(
        parts[0],
        parameter_vector(module),
        method=method(module),
        rng=seed,
        maxfev=1e12,
        maxjev=PASSES * parts[0].n_samples,
    )
    seconds = time.perf_counter() - start
    train, test = (float(np.mean(part.losses(result.x, np.arange(part.n_samples)))) for part in parts)
    return Outcome(train, test, seconds)


def mean(runs: list[Outcome]) -> Outcome:
    """Return geometric means; a run that failed counts as infinite."""
    columns = ([v if math.isfinite(v) else math.inf for v in column] for column in zip(*runs, strict=True))
    return Outcome(*(math.exp(sum(map(math.log, column)) / len(runs)) for column in columns))


def row(
    network: Network, seeds: int, metrics: Mapping[str, Method], peers: Mapping[str, list[Method]]
) -> dict[str, Outcome]:
    """Return the outcomes of every method on a network."""
    outcomes = {key: mean([run(network, method, s) for s in range(seeds)]) for key, method in metrics.items()}
    for key, rates in peers.items():
        outcomes[key] = min(mean([run(network, method, s) for s in range(seeds)]) for method in rates)
    return outcomes


def compare(
    description: str,
    networks: Mapping[str, Network],
    held_out: Sequence[str],
    metrics: Mapping[str, Method],
    peers: Mapping[str, list[Method]],
) -> None:
    """Read the command line and print three lines per network."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(networks), help="names, separated by commas, or held-out")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = held_out if options.networks == "held-out" else options.networks.split(",")
    columns = [*metrics, *peers]
    print(f"{'ten passes, geometric means':34}" + "".join(f"{key:>12}" for key in columns))
    for name in chosen:
        outcomes = row(networks[name], options.seeds, metrics, peers)
        mark = " (held out)" if name in held_out else ""
        for title, field, digits_ in (("train", 0, ".4f"), ("held back", 1, ".3f"), ("seconds", 2, ".1f")):
            cells = "".join(f"{outcomes[key][field]:12{digits_}}" for key in columns)
            print(f"{name + mark:24}{title:10}{cells}", flush=True)


if __name__ == "__main__":
    compare(str(__doc__), NETWORKS, HELD_OUT, METRICS, PEERS)
