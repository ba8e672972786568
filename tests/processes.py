"""Which processes this one has started."""

import os
from pathlib import Path


def children() -> set[int]:
    """Return the processes, zombies included, whose parent is this process."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(entry.parent.name))
    return found
