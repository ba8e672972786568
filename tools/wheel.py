"""Build the wheel, install it into a fresh virtual environment, and use it from outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import ROOT, create, ensure, interpreter


def main() -> None:
    """Exit with a message unless the installed wheel does its work."""
    python = ensure("test")
    pip = [str(python), "-m", "pip"]
    quiet = ["-qq", "--disable-pip-version-check", "--no-input"]
    with tempfile.TemporaryDirectory(prefix="vamo_bbo-wheel-") as name:
        folder = Path(name)
        subprocess.run([*pip, "wheel", *quiet, "--no-deps", "--wheel-dir", folder, ROOT], check=True)
        (wheel,) = folder.glob("*.whl")
        print(f"built {wheel.name} ({wheel.stat().st_size / 1024:.0f} KiB)", flush=True)
        inner = create(folder / "venv")
        subprocess.run([*inner, "install", *quiet, wheel], check=True)
        # A copy, run from there: nothing of the checkout may be on the path.
        script = Path(shutil.copy(ROOT / "tools/smoke.py", folder))
        command = [interpreter(folder / "venv"), "-W", "error", script]
        sys.exit(subprocess.run(command, cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main()
