"""State arrays in files that all processes of this machine map: a large x travels once per version, not per probe."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from vamo_bbo._typing import Array, StoredDirection
from vamo_bbo.core.points import materialize_rows
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Probe, ProbeId
from vamo_bbo.run.executors.tasks import Handle, Message, Point, SharedArray

__all__ = ["SHARED", "SharedArrays", "messages"]

SHARED = 100_000
"""Dimension from which probes travel as handles; below, their points are sent."""


def _memory_directory(needed: int) -> str | None:
    """Return a directory in memory with room for ``needed`` bytes, or None for the usual temporary directory."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return None
    return "/dev/shm" if free > 2 * needed and os.access("/dev/shm", os.W_OK) else None


class SharedArrays:
    """Copies of the state arrays that probes under way refer to, one file per array and version.

    Attributes
    ----------
    copies : int
        Arrays written so far.
    """

    def __init__(self) -> None:
        self.directory: str | None = None
        self.files: dict[tuple[str, int], SharedArray] = {}
        self.users: dict[tuple[str, int], set[ProbeId]] = {}
        self.copies = 0

    def handle(self, state: State, probe: Probe) -> Handle:
        """Return the message for ``probe``; arrays it needs are written on first use."""
        names = [probe.anchor.name]
        direction = probe.direction
        if isinstance(direction, StoredDirection):
            names.append(direction.array)
        elif direction is not None and direction.mask is not None:
            names.append(direction.mask)
        arrays = {}
        for name in names:
            key = (name, state.versions.get(name, 0))
            if key not in self.files:
                self.files[key] = self._write(key, state.arrays[name])
            self.users.setdefault(key, set()).add(probe.id)
            arrays[name] = self.files[key]
        return Handle(probe, state.seed, state.backend, arrays, probe.anchor.version)

    def _write(self, key: tuple[str, int], array: Array) -> SharedArray:
        if self.directory is None:
            self.directory = tempfile.mkdtemp(prefix="vamo-", dir=_memory_directory(4 * array.nbytes))
        self._free(key[0])
        path = os.path.join(self.directory, f"{self.copies}.bin")
        target: Any = np.memmap(path, dtype=array.dtype, mode="w+", shape=array.shape)
        target[...] = array
        self.copies += 1
        return SharedArray(path, array.shape, array.dtype.str)

    def _free(self, name: str) -> None:
        """Remove older versions of array ``name`` that no probe under way needs."""
        for key in [k for k in self.files if k[0] == name and not self.users.get(k)]:
            os.unlink(self.files.pop(key).path)
            self.users.pop(key, None)

    def arrays(self, handle: Handle) -> dict[str, Array]:
        """Return the arrays of a handle that is under way, read from their files."""
        return {name: np.fromfile(a.path, a.dtype).reshape(a.shape) for name, a in handle.arrays.items()}

    def done(self, probe: Probe) -> None:
        """Note that ``probe`` was answered."""
        for users in self.users.values():
            users.discard(probe.id)

    def close(self) -> None:
        """Remove all files."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = None
        self.files.clear()
        self.users.clear()


def messages(state: State, probes: Sequence[Probe], shared: SharedArrays) -> list[tuple[Probe, Message]]:
    """Return what is sent for each of ``probes``: its point, or from d = 100,000 on its name, where it has one."""
    x, seed = state.arrays["x"], state.seed
    if x.size < SHARED:
        points = materialize_rows(state, probes, np.empty((len(probes), x.size), x.dtype))
        return [(p, Point(p._replace(point=None), z, seed)) for p, z in zip(probes, points, strict=True)]
    found: list[tuple[Probe, Message]] = []
    for probe in probes:
        if probe.point is None:
            found.append((probe, shared.handle(state, probe)))
        else:
            found.append((probe, Point(probe._replace(point=None), probe.point.astype(x.dtype), seed)))
    return found
