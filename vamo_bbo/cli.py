"""The command line: ``python -m vamo_bbo show run.db [--follow]`` and ``report run.db -o report.html``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from vamo_bbo._errors import CapabilityError, VamoError
from vamo_bbo.run.load import JournalData, load

__all__ = ["main", "summary"]

SHOWN_FAILURES = 5
SHOWN_PARAMETERS = 12


def summary(data: JournalData) -> str:
    """Return what ``show`` prints about a journal."""
    values = data.evaluations["value"]
    at = data.evaluations["at"]
    succeeded = data.succeeded
    lines = [f"{data.path}: {data.result.message if data.finished else 'under way, or stopped'}"]
    rate = ""
    if len(at) > 1 and at[-1] > at[0]:
        recent = at[-min(len(at), 100) :]
        rate = f", {(len(recent) - 1) / max(recent[-1] - recent[0], 1e-9):.3g} per second"
    lines.append(
        f"  {len(values)} evaluations{rate}, {len(data.failures)} failed; {len(data.history)} steps; "
        f"{_ago(at[-1]) if len(at) else 'nothing evaluated yet'}"
    )
    if succeeded.any():
        best = int(np.argmin(np.where(succeeded, values, np.inf)))
        lines.append(f"  best evaluated value {values[best]:.9g} at evaluation {best + 1}")
        params = list(data.params[best].items())
        lines += [f"    {name} = {_short(value)}" for name, value in params[:SHOWN_PARAMETERS]]
        if len(params) > SHOWN_PARAMETERS:
            lines.append(f"    ... {len(params) - SHOWN_PARAMETERS} more")
    kinds = data.kinds_of_failures
    lines += [f"  failed {count} x: {_printable(error)}" for error, count in kinds[:SHOWN_FAILURES]]
    if len(kinds) > SHOWN_FAILURES:
        lines.append(f"  failed {sum(count for _, count in kinds[SHOWN_FAILURES:])} x otherwise")
    return "\n".join(lines)


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    return f"the last one {seconds:.0f} s ago" if seconds < 600 else f"the last one {seconds / 3600:.1f} h ago"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _printable(repr(value))


def _printable(text: str) -> str:
    """Return ``text`` without control characters: a journal may come from elsewhere, and terminals obey escapes."""
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _show(path: str, follow: bool, seconds: float) -> None:
    while True:
        data = load(path)
        print(summary(data), flush=True)
        if not follow or data.finished:
            return
        time.sleep(seconds)


def _export(path: str, storage: str, study: str) -> int:
    try:
        from vamo_bbo.integrations.optuna import export_study
    except ImportError:
        raise CapabilityError("The export needs the package optuna: pip install 'vamo_bbo[integrations]'.") from None
    return export_study(load(path), storage if "://" in storage else f"sqlite:///{storage}", study)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m vamo_bbo", description="Look at the journal of a run.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print how a run stands, also while it is under way")
    show.add_argument("journal")
    show.add_argument("--follow", action="store_true", help="print again until the run has ended")
    show.add_argument("--every", type=float, default=2.0, metavar="SECONDS")
    report = commands.add_parser("report", help="write one self-contained HTML page")
    report.add_argument("journal")
    report.add_argument("-o", "--output", default="report.html")
    export = commands.add_parser("export", help="write the evaluations into an Optuna study, for optuna-dashboard")
    export.add_argument("journal")
    export.add_argument("storage", help="a file, such as study.db, or a URL of SQLAlchemy")
    export.add_argument("--study", default="vamo_bbo")
    given = parser.parse_args(arguments)
    try:
        if given.command == "show":
            _show(given.journal, given.follow, given.every)
        elif given.command == "report":
            from vamo_bbo.report import write_report

            write_report(given.journal, given.output)
            print(given.output)
        else:
            print(f"{_export(given.journal, given.storage, given.study)} trials")
    except (VamoError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
