"""A journal as one self-contained HTML page, drawn by plotly (extra ``report``)."""

from __future__ import annotations

import html
import os
from typing import Any

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array
from vamo_bbo.run.load import JournalData, load

__all__ = ["write_report"]

MOST_TRACES = 30
"""Parameters that are drawn."""
MOST_POINTS = 20_000
"""Evaluations that are drawn: evenly thinned beyond."""
MOST_FAILURES = 50
_STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}"
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
        import plotly.graph_objects as go
    except ImportError:
        raise CapabilityError("The report needs the package plotly: pip install 'vamo_bbo[report]'.") from None
    data = load(journal)
    figures = [f for f in (_convergence(go, data), _traces(go, data), _parallel(go, data), _workers(go, data)) if f]
    parts = [_facts(data)]
    for k, figure in enumerate(figures):
        parts.append(figure.to_html(full_html=False, include_plotlyjs=k == 0, div_id=f"figure{k}"))
    parts.append(_failures(data))
    title = html.escape(os.path.basename(data.path))
    head = f"<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    with open(output, "w", encoding="utf-8") as file:
        file.write(
            f"<!DOCTYPE html><html lang='en'><head>{head}</head><body><h1>{title}</h1>{''.join(parts)}</body></html>"
        )


def _text(value: Any) -> str:
    """Return text for a chart or a page: what users put in names and messages is never markup."""
    return html.escape(str(value))


def _drawn(data: JournalData) -> Array:
    count = len(data.evaluations["value"])
    return np.arange(0, count, max(1, -(-count // MOST_POINTS)))


def _succeeded(data: JournalData) -> Array:
    return np.array([e is None for e in data.evaluations["error"]], dtype=bool) & np.isfinite(data.evaluations["value"])


def _facts(data: JournalData) -> str:
    values, at = data.evaluations["value"], data.evaluations["at"]
    good = _succeeded(data)
    rows = [
        ("State", data.result.message if data.finished else "under way, or stopped"),
        ("Method", _method(data)),
        ("Evaluations", f"{len(values)}, of which {len(data.failures)} failed"),
        ("Steps", len(data.history)),
        ("Seconds", f"{at[-1] - at[0]:.1f}" if len(at) else "0"),
    ]
    if good.any():
        best = int(np.argmin(np.where(good, values, np.inf)))
        rows.append(("Best evaluated value", f"{values[best]:.9g} (evaluation {best + 1})"))
        rows += [(name, value) for name, value in list(data.params[best].items())[:MOST_TRACES]]
    body = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table>{body}</table>"


def _method(data: JournalData) -> str:
    described = data.meta.get("fingerprint", {}).get("method")
    return (isinstance(described, dict) and (described.get("name") or described.get("type"))) or str(described)


def _columns(data: JournalData, rows: Array) -> list[tuple[str, list[Any]]]:
    """Return names and values of the drawn parameters at the evaluations ``rows``, as the objective saw them."""
    params = data.params
    return [(_text(name), [_drawable(params[i].get(name)) for i in rows]) for name in data.names[:MOST_TRACES]]


def _drawable(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else _text(value)


def _convergence(go: Any, data: JournalData) -> Any:
    values, good = data.evaluations["value"], _succeeded(data)
    if not good.any():
        return None
    best = np.minimum.accumulate(np.where(good, values, np.inf))
    shown = _drawn(data)
    kept = shown[good[shown]]
    figure = go.Figure(layout={"title": "Convergence", "xaxis_title": "evaluation", "yaxis_title": "value"})
    figure.add_scattergl(x=kept + 1, y=values[kept], mode="markers", name="value", opacity=0.4)
    figure.add_scattergl(x=shown + 1, y=np.where(np.isinf(best), np.nan, best)[shown], mode="lines", name="best so far")
    return figure


def _traces(go: Any, data: JournalData) -> Any:
    if data.points is None:
        return None
    shown = _drawn(data)
    figure = go.Figure(layout={"title": "Parameters", "xaxis_title": "evaluation"})
    for name, column in _columns(data, shown):
        figure.add_scattergl(x=shown + 1, y=column, mode="markers", name=name, marker={"size": 4})
    return figure


def _parallel(go: Any, data: JournalData) -> Any:
    good = _succeeded(data)
    if data.points is None or not good.any():
        return None
    kept = [i for i in _drawn(data) if good[i] and not np.isnan(data.points[i]).any()]
    if not kept:
        return None
    dimensions = [_dimension(name, column) for name, column in _columns(data, np.array(kept))]
    value = data.evaluations["value"][kept]
    dimensions.append({"label": "value", "values": value})
    line = {"color": np.argsort(np.argsort(value)), "colorscale": "Viridis", "reversescale": True}
    return go.Figure(go.Parcoords(dimensions=dimensions, line=line), layout={"title": "Parallel coordinates"})


def _dimension(name: str, column: list[Any]) -> dict[str, Any]:
    """Return an axis of the parallel coordinates: options of a Choice are numbered, and their names are ticks."""
    if all(isinstance(v, (int, float)) for v in column):
        return {"label": name, "values": column}
    options = list(dict.fromkeys(column))
    numbers = [options.index(v) for v in column]
    return {"label": name, "values": numbers, "tickvals": list(range(len(options))), "ticktext": options}


def _workers(go: Any, data: JournalData) -> Any:
    """Return a chart of when each worker was busy."""
    shown = _drawn(data)
    if not len(shown):
        return None
    at, elapsed, names = (data.evaluations[key] for key in ("at", "elapsed", "worker"))
    figure = go.Figure(layout={"title": "Workers", "xaxis_title": "seconds", "yaxis_title": "seconds per evaluation"})
    for name in dict.fromkeys(names[shown]):
        mine = shown[names[shown] == name]
        label = _text(name or "this process")
        figure.add_scattergl(x=at[mine] - at[0], y=elapsed[mine], mode="markers", name=label, marker={"size": 4})
    return figure


def _failures(data: JournalData) -> str:
    if not data.failures:
        return "<h2>Failures</h2><p>None.</p>"
    items = []
    for failure in data.failures[-MOST_FAILURES:]:
        point = "" if failure.x is None else f"<p>at {_text(failure.x.tolist())}</p>"
        log = f"<pre>{_text(failure.log)}</pre>" if failure.log else ""
        items.append(f"<details><summary>{_text(failure.id)} {_text(failure.error)}</summary>{point}{log}</details>")
    return f"<h2>Failures ({len(data.failures)})</h2>{''.join(items)}"
