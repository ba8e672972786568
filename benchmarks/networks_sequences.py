"""Small transformers under the metrics of ``vb.vamo``, beside tuned AdamW: ``python benchmarks/networks_sequences.py``.

As ``benchmarks/networks.py``: ten passes, losses on what is trained on and on a fifth that is held back, geometric
means over seeds, nothing tuned for ``vb.vamo``. AdamW (weight decay 0.01) has the best of three rates, with cosine
decay, at batches of 32 and at the size that ``vb.vamo`` takes (8 here). The transformers are trained from PyTorch's own
start, have about 20,000 parameters, and differ in what tends to matter: tied weights, causal or not, norms before or
after. Texts are the documentation that comes with Python, NumPy and SciPy, so that figures move a little with their
versions. Needs PyTorch and scikit-learn; about twenty minutes of one core with ``--seeds 1``.
"""

from __future__ import annotations

import importlib
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from pydoc_data.topics import topics

import numpy as np
import torch
from networks import CLASSES, Method, Task, compare, digits
from torch import nn

import vamo_bbo as vb
from vamo_bbo.schedules import Cosine

ALPHABET = " " + string.ascii_lowercase + ".,:;'()=_-/0"
"""What texts are made of: other signs count as the blank, digits as 0."""


class Transformer(nn.Module):
    """A transformer over tokens, (batch, length), or vectors, (batch, length, symbols).

    Parameters
    ----------
    length, symbols, outputs : int
        Places, different tokens (or length of the vectors), and outputs per place or per sequence.
    vectors : bool
        Whether the inputs are vectors.
    pooled : bool
        Whether there is one output per sequence, from the mean state.
    causal : bool
        Whether a place sees only those up to it.
    tied : bool
        Whether the head has the weights of the embedding.
    norm_first : bool
        Whether layer norms come before attention and perceptron, or after.
    """

    def __init__(
        self,
        length: int,
        symbols: int,
        outputs: int,
        *,
        vectors: bool = False,
        pooled: bool = False,
        causal: bool = False,
        tied: bool = False,
        norm_first: bool = True,
        width: int = 32,
    ) -> None:
        super().__init__()
        self.causal, self.pooled = causal, pooled
        self.embedding = nn.Linear(symbols, width) if vectors else nn.Embedding(symbols, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 2, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        if tied:
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.head.weight = self.embedding.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs: (batch, length, outputs), or (batch, outputs) where states are pooled."""
        states = self.embedding(inputs) + self.places
        mask = nn.Transformer.generate_square_subsequent_mask(states.shape[1]) if self.causal else None
        for block in self.blocks:
            states = block(states, src_mask=mask, is_causal=self.causal)
        states = self.norm(states)
        return self.head(states.mean(1) if self.pooled else states)


def per_sequence(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of the places of every sequence."""
    return CLASSES(output.transpose(1, 2), target).mean(1)


def plain(text: str) -> str:
    """Return a text in lower case, with one kind of digit and of white space."""
    return re.sub(r"\s+", " ", re.sub(r"\d", "0", text.lower()))


def manual() -> str:
    """Return Python's language reference."""
    return plain(" ".join(topics[name] for name in sorted(topics)))


def docstrings(module: str) -> str:
    """Return the documentation of what a module exports."""
    exported = importlib.import_module(module)
    parts = [getattr(exported, name).__doc__ or "" for name in sorted(exported.__all__)]
    return plain(" ".join(parts))


def codes(text: str) -> np.ndarray:
    """Return the characters of a text as their places in the alphabet."""
    return np.array([max(0, ALPHABET.find(character)) for character in text])


def next_of(tokens: np.ndarray, length: int, count: int) -> Task:
    """Return the task to predict every next token, in ``count`` pieces of a text."""
    inputs, targets = (tokens[first : first + count * length].reshape(count, length) for first in (0, 1))
    return Task(torch.tensor(inputs), torch.tensor(targets), per_sequence)


def characters() -> Task:
    """Return the next character in pieces of 32 of Python's language reference."""
    return next_of(codes(manual()[: 32 * 4000 + 1]), 32, 4000)


def words() -> Task:
    """Return the next word in pieces of 16 of SciPy's documentation: the 399 most frequent words, and others."""
    found = re.findall(r"[a-z_]+|[.,:()=]", " ".join(map(docstrings, ("scipy.optimize", "scipy.signal"))))
    place = {word: k for k, (word, _) in enumerate(Counter(found).most_common(399), start=1)}
    return next_of(np.array([place.get(word, 0) for word in found]), 16, 4000)


def origin() -> Task:
    """Return pieces of 40 characters of five modules' documentation, to be told apart."""
    modules = ("numpy", "scipy.linalg", "scipy.signal", "scipy.stats", "scipy.sparse")
    pieces = [codes(docstrings(module)[: 40 * 800]).reshape(800, 40) for module in modules]
    return Task(torch.tensor(np.concatenate(pieces)), torch.tensor(np.repeat(np.arange(5), 800)), CLASSES)


def sorting() -> Task:
    """Return eight numbers below 16, to be put in order."""
    rows = np.random.default_rng(11).integers(0, 16, (4000, 8))
    return Task(torch.tensor(rows), torch.tensor(np.sort(rows, axis=1)), per_sequence)


def patches() -> Task:
    """Return the digits of scikit-learn as sequences of sixteen patches of 2 x 2."""
    task = digits()
    return task._replace(inputs=task.inputs.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4))


SYMBOLS = len(ALPHABET)
TRANSFORMERS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Task]]] = {
    "characters": (lambda: Transformer(32, SYMBOLS, SYMBOLS, tied=True, causal=True), characters),
    "sorting": (lambda: Transformer(8, 16, 16), sorting),
    "patches": (lambda: Transformer(16, 4, 10, vectors=True, pooled=True), patches),
    "words": (lambda: Transformer(16, 400, 400, tied=True, causal=True), words),
    "origin": (lambda: Transformer(40, SYMBOLS, 5, pooled=True, norm_first=False), origin),
}
HELD_OUT = ("words", "origin")
"""Not looked at before the rules were final."""


def adamw(batch_size: int) -> list[Method]:
    """Return AdamW at three rates."""
    return [
        lambda _, a=a: vb.adam(a, weight_decay=0.01, batch_size=batch_size, schedule=Cosine())
        for a in (1e-3, 3e-3, 1e-2)
    ]


METRICS: Mapping[str, Method] = {"Kronecker": lambda module: vb.vamo(preconditioner=vb.Kronecker.of(module))}
PEERS = {"AdamW, 8": adamw(8), "AdamW, 32": adamw(32)}


if __name__ == "__main__":
    compare(str(__doc__), TRANSFORMERS, HELD_OUT, METRICS, PEERS)
