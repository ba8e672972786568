"""The documentation: its examples run, and it names everything the package exports."""

import doctest
import re
from pathlib import Path

import pytest

import vamo_bbo

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts and "generated" not in path.parts)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_examples_of_the_page_run(page):
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert failed == 0


def test_every_exported_name_is_in_the_reference():
    listed = set(re.findall(r"^   (\w+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(vamo_bbo.__all__) <= listed


@pytest.mark.parametrize("name", vamo_bbo.__all__)
def test_every_exported_name_is_documented(name):
    text = getattr(vamo_bbo, name).__doc__
    assert text
    assert text.strip()
