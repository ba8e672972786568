"""Which processes this one has started, and what scripts print on some number of threads."""

import os
import subprocess
import sys
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


def printed(script: str, threads: int) -> str:
    """Return what ``script`` prints in a process with so many threads of BLAS and of the kernels."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
