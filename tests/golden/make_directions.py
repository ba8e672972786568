"""Writes ``directions.json``: hashes of words and elements of every law, the memory of the seed ABI.

Run from the root of the repository as ``python tests/golden/make_directions.py`` after a change of the layouts that
comes with a new ``SEED_ABI``, and never otherwise.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from vamo_bbo._typing import Direction, Law
from vamo_bbo.backends import Directions, get
from vamo_bbo.backends.reference import SEED_ABI, counter_words

HERE = Path(__file__).parent / "directions.json"
CASES: list[tuple[int, int, int, int, int, int, int, int]] = [
    # seed, size, step, index, count, tag, lo, hi
    (0, 10, 0, 0, 4, 0, 0, 10),
    (1, 1000, 7, 3, 8, 0, 0, 1000),
    (2**63 + 12345, 5000, 2**40 + 1, 2, 5, 1, 77, 4990),
    (2**64 - 1, 2**33 + 321, 2**48 - 1, 2**32 - 1, 2**32 - 1, 255, 2**33 - 4000, 2**33 + 321),
]


def digest(a: Any) -> str:
    """Return the hash of the bytes of an array, little-endian."""
    return hashlib.sha256(a.astype(a.dtype.newbyteorder("<")).tobytes()).hexdigest()


def entry(law: Law, case: tuple[int, ...], backend: str = "numpy") -> dict[str, Any]:
    """Return the golden entry of a law and a case."""
    seed, size, step, index, count, tag, lo, hi = case
    directions: Directions = get(backend).bind(seed, size, {})
    u = Direction(law, step, index, count, tag)
    elements = np.empty(hi - lo, dtype=np.float32)
    directions.fill(u, lo, hi, elements)
    words = directions.words(u, lo, hi)
    names = ("seed", "size", "step", "index", "count", "tag", "lo", "hi")
    return {
        "law": law.name,
        **dict(zip(names, case, strict=True)),
        "words": digest(words),
        "elements": digest(elements),
    }


def streams() -> dict[str, str]:
    """Return the hashes of the streams that are not directions, by tag: permutations, batches, noise."""
    return {str(tag): digest(counter_words(12345, tag, 2**33 + 1, 6, 1001)) for tag in range(16)}


def main() -> None:
    """Write the file."""
    entries = [entry(law, case) for law in Law for case in CASES]
    text = json.dumps({"seed_abi": SEED_ABI, "directions": entries, "streams": streams()}, indent=1)
    HERE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
