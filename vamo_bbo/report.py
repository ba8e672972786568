"""A journal as one self-contained HTML page, drawn by plotly (extra ``report``)."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from vamo_bbo import report_charts as charts
from vamo_bbo._errors import CapabilityError
from vamo_bbo.report_charts import text
from vamo_bbo.run.failures import FailureRecord
from vamo_bbo.run.load import JournalData, load

__all__ = ["write_report"]

MOST_FAILURES = 50
_STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-spacing:0}td,th{text-align:left;padding:.2em 1.5em .2em 0;vertical-align:top}"
    "pre{white-space:pre-wrap;background:#f4f4f4;padding:.5em}"
)


def write_report(journal: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the report of a run: convergence, parameters, parallel coordinates, workers, failures.

    Parameters
    ----------
    journal : path
        The journal; the run may be under way.
    output : path
        The HTML file; it needs no network.

    Raises
    ------
    CapabilityError
        plotly is not installed.
    StateError
        The journal cannot be read.
    """
    try:
        import plotly.graph_objects  # noqa: F401
    except ImportError:
        raise CapabilityError("The report needs the package plotly: pip install 'vamo_bbo[report]'.") from None
    data = load(journal)
    title = html.escape(os.path.basename(data.path))
    head = f"<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    body = f"<h1>{title}</h1>{_facts(data)}{_drawings(data)}{_failures(data)}"
    with open(output, "w", encoding="utf-8") as file:
        file.write(f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>{body}</body></html>")


def _drawings(data: JournalData) -> str:
    """Return the charts, each under its heading."""
    workers = charts.lanes(data)
    sections = [
        ("Convergence", "", charts.convergence(data)),
        ("Parameters", "", charts.parameters(data)),
        ("Parallel coordinates", "<p>The darker a line, the lower its value.</p>", charts.parallel(data)),
        ("Workers", _timing(data, workers), charts.timing(data, workers)),
    ]
    parts: list[str] = []
    for heading, words, figure in sections:
        if figure is not None:
            drawn = figure.to_html(full_html=False, include_plotlyjs=not parts, div_id=f"figure{len(parts)}")
            parts.append(f"<h2>{heading}</h2>{words}{drawn}")
    return "".join(parts)


def _table(rows: Iterable[Sequence[Any]], heads: Sequence[str] = ()) -> str:
    """Return a table whose first column, or first row, are headings; everything is escaped."""
    top = "<tr>" + "".join(f"<th>{text(head)}</th>" for head in heads) + "</tr>" if heads else ""
    first = "td" if heads else "th"
    lines = (
        f"<tr><{first}>{text(row[0])}</{first}>" + "".join(f"<td>{text(v)}</td>" for v in row[1:]) + "</tr>"
        for row in rows
    )
    return f"<table>{top}{''.join(lines)}</table>"


def _facts(data: JournalData) -> str:
    values, at = data.evaluations["value"], data.evaluations["at"]
    seconds = float(at[-1] - at[0]) if len(at) else 0.0
    rows: list[tuple[str, Any]] = [
        ("State", data.result.message if data.finished else "under way, or stopped"),
        ("Method", _method(data)),
        ("Evaluations", f"{len(values)}, of which {len(data.failures)} failed"),
        ("Steps", len(data.history)),
        ("Time", str(timedelta(seconds=round(seconds))) + (f", {len(at) / seconds:.3g} per second" if seconds else "")),
    ]
    if data.succeeded.any():
        best = int(np.argmin(np.where(data.succeeded, values, np.inf)))
        rows.append(("Best evaluated value", f"{values[best]:.9g} (evaluation {best + 1})"))
        rows += list(data.params[best].items())[: charts.MOST_PARAMETERS]
    return _table(rows)


def _method(data: JournalData) -> str:
    described = data.meta.get("fingerprint", {}).get("method")
    if not isinstance(described, dict):
        return str(described)
    kind = str(described.get("type"))
    ours = kind.removeprefix("vamo_bbo.solvers.")
    return described.get("name") or (ours.partition(".")[0] if ours != kind else kind)


def _timing(data: JournalData, workers: list[charts.Lane]) -> str:
    """Return a table of what each worker did."""
    end, elapsed = data.evaluations["at"], data.evaluations["elapsed"]
    span = float(end.max() - (end - elapsed).min()) if len(end) else 0.0
    rows = []
    for lane in workers:
        took = elapsed[lane.rows]
        busy = f"{100 * min(1.0, took.sum() / span):.0f} %" if span else ""
        failed = int(data.failed[lane.rows].sum())
        rows.append((lane.name, lane.processes, len(took), failed, busy, *map(float, (np.median(took), took.max()))))
    return _table(rows, ("", "processes", "evaluations", "failed", "busy", "median (s)", "longest (s)"))


def _failures(data: JournalData) -> str:
    if not data.failures:
        return "<h2>Failures</h2><p>None.</p>"
    numbers = np.flatnonzero(data.failed) + 1
    items = []
    for number, failure in list(zip(numbers, data.failures, strict=True))[: -MOST_FAILURES - 1 : -1]:
        point = "" if failure.x is None else f"<p>at {text(_point(failure))}</p>"
        log = f"<pre>{text(failure.log)}</pre>" if failure.log else ""
        items.append(f"<details><summary>Evaluation {number}: {text(failure.error)}</summary>{point}{log}</details>")
    which = f"<p>The latest {len(items)}:</p>" if len(items) < len(numbers) else "<p>The latest first:</p>"
    kinds = _table([(count, error) for error, count in data.kinds_of_failures[:MOST_FAILURES]])
    return f"<h2>Failures ({len(numbers)})</h2>{kinds}{which}{''.join(items)}"


def _point(failure: FailureRecord) -> str:
    params = failure.params
    if params is None:
        assert failure.x is not None
        params = {f"x{j}": v for j, v in enumerate(failure.x[: charts.MOST_PARAMETERS].tolist())}
    return ", ".join(f"{name} = {v:.6g}" if isinstance(v, float) else f"{name} = {v}" for name, v in params.items())
