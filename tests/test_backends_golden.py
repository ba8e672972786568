"""The seed ABI does not change by accident: words and elements have the hashes on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden.make_directions import entry, streams

from vamo_bbo._typing import Law, Tag
from vamo_bbo.backends.reference import SEED_ABI

GOLDEN = json.loads((Path(__file__).parent / "golden" / "directions.json").read_text(encoding="utf-8"))
FIELDS = ("seed", "size", "step", "index", "count", "tag", "lo", "hi")


def test_the_record_is_of_this_version():
    assert GOLDEN["seed_abi"] == SEED_ABI


def test_every_law_has_golden():
    assert {e["law"] for e in GOLDEN["directions"]} == {law.name for law in Law}
    assert set(GOLDEN["streams"]) >= {str(int(tag)) for tag in Tag}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("golden", GOLDEN["directions"], ids=lambda e: f"{e['law']}-{e['size']}")
def test_directions_are_golden(golden, backend):
    assert entry(Law[golden["law"]], tuple(golden[name] for name in FIELDS), backend) == golden


def test_streams_are_golden():
    assert streams() == GOLDEN["streams"]


def test_numbering_is_frozen():
    assert [(law.name, int(law)) for law in Law] == [
        ("RADEMACHER", 0),
        ("NORMAL", 1),
        ("SPHERE", 2),
        ("COORDINATE", 3),
        ("BLOCK", 4),
    ]
    names = ["MAIN", "CONTROL", "BLOCK_SHIFT", "COORDINATE", "PERMUTATION", "IID_BATCH", "CALIBRATION", "NOISE"]
    assert [tag.name for tag in Tag][: len(names)] == names
    assert [int(tag) for tag in Tag] == list(range(len(Tag)))
