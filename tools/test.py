"""The test suite: ``python3 tools/test.py`` from a bare clone. Arguments go to pytest (``-m slow``, ``-k vamo``)."""

from __future__ import annotations

import os
import subprocess
import sys

from environment import ROOT, ensure

if __name__ == "__main__":
    python = ensure("problems", "test")
    # One BLAS thread per test process: two processes with a thread per core each would fight for the cores.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
    workers = str(min(4, os.cpu_count() or 1))
    command = [python, "-m", "pytest", "-n", workers, *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)
