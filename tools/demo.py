"""Six methods on real data: ``python3 tools/demo.py`` from a bare clone. Arguments go to benchmarks/first_run.py."""

from __future__ import annotations

import subprocess
import sys

from environment import ROOT, ensure

if __name__ == "__main__":
    python = ensure("problems")
    sys.exit(subprocess.run([python, ROOT / "benchmarks/first_run.py", *sys.argv[1:]], check=False).returncode)
