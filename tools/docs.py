"""Build the documentation into docs/_build/html; every warning is an error. Needs no network once it is installed."""

from __future__ import annotations

import subprocess
import sys

from environment import ROOT, ensure

if __name__ == "__main__":
    python = ensure("docs")
    command = [python, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"]
    code = subprocess.run([*command, *sys.argv[1:]], cwd=ROOT, check=False).returncode
    if not code:
        print(f"documentation: {ROOT / 'docs/_build/html/index.html'}")
    sys.exit(code)
