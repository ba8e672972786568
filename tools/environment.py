"""The virtual environment of a checkout, ``.venv``: made on first use, brought up to date when pyproject.toml changes.

Nothing is installed into the system's Python, so this also works where that one is externally managed. Only the
standard library is used, because this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
STAMP = FOLDER / "vamo_bbo-installed.json"


def interpreter(folder: Path = FOLDER) -> Path:
    """Return the path of the Python of the virtual environment in ``folder``."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def create(folder: Path = FOLDER) -> list[str]:
    """Make an empty virtual environment; return the command that installs into it.

    Some systems ship ``venv`` without ``ensurepip``. There the outer Python's pip installs into the environment.
    """
    python = str(interpreter(folder))
    try:
        venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
        return [python, "-m", "pip"]
    except subprocess.CalledProcessError:
        venv.create(folder, clear=True, with_pip=False, symlinks=os.name != "nt")
    outer = [sys.executable, "-m", "pip", "--python", python]
    if subprocess.run([*outer, "--version"], capture_output=True, check=False).returncode:
        sys.exit(f"{sys.executable} has neither ensurepip nor pip; on Debian or Ubuntu: apt install python3-venv")
    return outer


def _installed(digest: str) -> set[str]:
    """Return the extras that an environment made from this pyproject.toml has; the empty set if it must be remade."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    current = stamp.get("digest") == digest and stamp.get("root") == str(ROOT)
    works = subprocess.run([interpreter(), "-c", "import vamo_bbo"], cwd=FOLDER, capture_output=True, check=False)
    return set(stamp["extras"]) if current and works.returncode == 0 else set()


def ensure(*extras: str) -> Path:
    """Return the Python of a ``.venv`` that has this checkout (editable) and its ``extras`` installed."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout may be tried with any Python
        sys.exit(f"vamo_bbo needs Python 3.11 or newer, this is {sys.version.split()[0]}: use for example python3.12")
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    have = _installed(digest)
    if set(extras) <= have:
        return interpreter()
    wanted = sorted(have | set(extras))
    print(f"Setting up {FOLDER} with the extras {', '.join(wanted)} (once; a minute or two) ...", flush=True)
    python = str(interpreter())
    pip = [python, "-m", "pip"] if have else create()
    options = ["-qq", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip, "install", *options, "--editable", f"{ROOT}[{','.join(wanted)}]"], check=False)
    if done.returncode:
        sys.exit("The installation failed; the lines above say why. A first set-up needs a network.")
    STAMP.write_text(json.dumps({"digest": digest, "root": str(ROOT), "extras": wanted}), encoding="utf-8")
    return interpreter()
